//! The chain of roots: what follows a root, and what a rotation undoes.

use stopgap::signature::envelope::{FLOORS, KEYS, ROOTS};

use super::*;

/// What can be served as the root after the first.
#[test]
fn roots() {
    let Publisher {
        roots: [one, two, three],
        feeds: [feed_one, feed_two, _],
        stranger,
        ..
    } = &*PUBLISHER;
    let new = [Key::new(), Key::new()];
    let [four, five] = &new;
    let payload = |replaced: Value| {
        let mut payload = root(2, role(2, &[four, five]), PUBLISHER.feed_role());
        replace(&mut payload, replaced);
        payload
    };
    let sealed = |replaced: Value, keys: &[&Key]| seal(ROOT_TYPE, &payload(replaced), keys);
    let all = [one, two, four, five];
    let old_role = json!({"root": PUBLISHER.root_role()});
    let key = four.public().to_string();
    let bad_role = |role: Value| sealed(json!({"feed": role}), &all);
    let keys_33: Vec<String> = (0..33).map(|_| Key::new().public().to_string()).collect();
    let anybodys = STANDARD.encode([0; 32]);
    for (name, document, expected) in [
        ("signed by old and new", sealed(json!({}), &all), None),
        (
            "same root keys",
            sealed(old_role.clone(), &[three, one]),
            None,
        ),
        (
            "long expired",
            sealed(json!({"expires": "2000-01-01T00:00:00Z"}), &all),
            None,
        ),
        (
            "signed by the old alone",
            sealed(json!({}), &[one, two, three]),
            Some(Fault::Threshold),
        ),
        (
            "signed by the new alone",
            sealed(json!({}), &[four, five]),
            Some(Fault::Threshold),
        ),
        (
            "one old key short",
            sealed(json!({}), &[one, four, five]),
            Some(Fault::Threshold),
        ),
        (
            "one new key short",
            sealed(json!({}), &[one, two, four]),
            Some(Fault::Threshold),
        ),
        (
            "signed by feed keys",
            sealed(old_role.clone(), &[feed_one, feed_two]),
            Some(Fault::Threshold),
        ),
        (
            "signed by strangers",
            sealed(old_role.clone(), &[stranger, one]),
            Some(Fault::Threshold),
        ),
        (
            "the first again",
            sealed(json!({"version": 1}), &all),
            Some(Fault::RootReplayed),
        ),
        (
            "one skipped",
            sealed(json!({"version": 3}), &all),
            Some(Fault::RootSkipped),
        ),
        (
            "all skipped",
            sealed(json!({"version": u64::MAX}), &all),
            Some(Fault::RootSkipped),
        ),
        (
            "version 0",
            sealed(json!({"version": 0}), &all),
            Some(Fault::Malformed),
        ),
        (
            "an unknown member",
            sealed(json!({"extra": 1}), &all),
            Some(Fault::Malformed),
        ),
        ("a feed", PUBLISHER.feed(json!({})), Some(Fault::Type)),
        (
            "a root called a feed",
            seal(FEED_TYPE, &payload(json!({})), &all),
            Some(Fault::Type),
        ),
        (
            "threshold 0",
            bad_role(json!({"threshold": 0, "keys": [key]})),
            Some(Fault::Malformed),
        ),
        (
            "threshold 2 of 1",
            bad_role(json!({"threshold": 2, "keys": [key]})),
            Some(Fault::Malformed),
        ),
        (
            "one key twice",
            bad_role(json!({"threshold": 1, "keys": [key, key]})),
            Some(Fault::Malformed),
        ),
        (
            "no keys",
            bad_role(json!({"threshold": 1, "keys": []})),
            Some(Fault::Malformed),
        ),
        (
            "33 keys",
            bad_role(json!({"threshold": 1, "keys": keys_33})),
            Some(Fault::Malformed),
        ),
        (
            "no key",
            bad_role(json!({"threshold": 1, "keys": ["AAAA"]})),
            Some(Fault::Key),
        ),
        (
            "anybody's key",
            bad_role(json!({"threshold": 1, "keys": [anybodys]})),
            Some(Fault::Key),
        ),
    ] {
        let result = PUBLISHER.client().advance(&bytes(&document));
        assert_eq!(fault(result), expected, "{name}");
    }
}

#[test]
fn the_first_root_must_be_whole() {
    let [one, two, _] = &PUBLISHER.roots;
    let [feed_one, feed_two, _] = &PUBLISHER.feeds;
    let payload = root(1, PUBLISHER.root_role(), PUBLISHER.feed_role());
    for (name, document, expected) in [
        ("whole", seal(ROOT_TYPE, &payload, &[one, two]), None),
        (
            "half signed",
            seal(ROOT_TYPE, &payload, &[one]),
            Some(Fault::Threshold),
        ),
        (
            "by feed keys",
            seal(ROOT_TYPE, &payload, &[feed_one, feed_two]),
            Some(Fault::Threshold),
        ),
        ("a feed", PUBLISHER.feed(json!({})), Some(Fault::Type)),
    ] {
        let result = FeedState::new("prod", &bytes(&document));
        assert_eq!(fault(result), expected, "{name}");
    }
    assert_eq!(
        fault(FeedState::new("", &PUBLISHER.first_root())),
        Some(Fault::Malformed)
    );
}

/// A root that was replaced is refused when it is served again, whoever signed it.
#[test]
fn an_old_root_does_not_come_back() {
    let publisher = Publisher::new();
    let [one, two, three] = &publisher.roots;
    let second = publisher.rotated(2, publisher.feed_role(), &[one, two]);
    let third = publisher.rotated(3, publisher.feed_role(), &[two, three]);
    let client = publisher.client();
    assert_eq!(client.next_root().as_deref(), Some("2.root.json"));
    assert_eq!(fault(client.advance(&third)), Some(Fault::RootSkipped));
    let client = client.advance(&second).unwrap().advance(&third).unwrap();
    assert_eq!(client.next_root().as_deref(), Some("4.root.json"));
    for old in [&publisher.first_root(), &second, &third] {
        assert_eq!(fault(client.advance(old)), Some(Fault::RootReplayed));
    }
}

#[test]
fn an_expired_root_vouches_for_nobody_until_the_next() {
    let publisher = Publisher::new();
    let [one, two, _] = &publisher.roots;
    let document = bytes(&publisher.feed(json!({})));
    let client = publisher.client();
    let last = later(365 * DAY - 1);
    assert_eq!(fault(client.accept(&document, last)), None);
    let error = client.accept(&document, later(365 * DAY)).unwrap_err();
    assert_eq!(error.fault(), Fault::RootExpired);
    assert!(error.to_string().contains("must publish root 2"), "{error}");

    // A client that was off walks over a root that expired too.
    let mut second = root(2, publisher.root_role(), publisher.feed_role());
    second["expires"] = json!(later(366 * DAY).to_string());
    let mut third = root(3, publisher.root_role(), publisher.feed_role());
    third["expires"] = json!(later(900 * DAY).to_string());
    let now = later(400 * DAY);
    let client = client
        .advance(&bytes(&seal(ROOT_TYPE, &second, &[one, two])))
        .unwrap();
    assert_eq!(
        fault(client.accept(&document, now)),
        Some(Fault::RootExpired)
    );
    let client = client
        .advance(&bytes(&seal(ROOT_TYPE, &third, &[one, two])))
        .unwrap();
    let accepted = client.accept(&document, now).unwrap();
    assert!(accepted.content.is_stale(now));
}

#[test]
fn a_chain_has_a_bound() {
    let publisher = Publisher::new();
    let [one, two, _] = &publisher.roots;
    let mut state = publisher.client();
    let next =
        |version: usize| publisher.rotated(version as u64, publisher.feed_role(), &[one, two]);
    for version in 2..=ROOTS + 1 {
        state = state.advance(&next(version)).unwrap();
    }
    let error = state.advance(&next(ROOTS + 2)).unwrap_err();
    assert!(error.to_string().contains("pin a newer root"), "{error}");
    restart(&publisher, &state);
}

/// Two stolen keys published the last version that there is. The publisher replaces both.
#[test]
fn the_last_version_is_undone_by_new_keys() {
    let publisher = Publisher::new();
    let [root_one, root_two, _] = &publisher.roots;
    let [one, two, three] = &publisher.feeds;
    let four = Key::new();
    let five = Key::new();
    let versioned = |version: u64, keys: &[&Key]| {
        bytes(&seal(FEED_TYPE, &feed(json!({"version": version})), keys))
    };
    let state = publisher
        .client()
        .accept(&versioned(7, &[two, three]), NOW)
        .unwrap()
        .state;
    let stolen = versioned(u64::MAX, &[one, two]);
    let state = state.accept(&stolen, NOW).unwrap().state;
    assert_eq!(
        fault(state.accept(&versioned(8, &[two, three]), NOW)),
        Some(Fault::Rollback)
    );
    let state = restart(&publisher, &state);
    let rotate =
        |version, keys: &[&Key]| publisher.rotated(version, role(2, keys), &[root_one, root_two]);

    // More keys alone do not help, nor does replacing one of the two.
    let added = state
        .advance(&rotate(2, &[one, two, three, &four]))
        .unwrap();
    assert_eq!(added.floor(), u64::MAX);
    assert!(!added.accept(&stolen, NOW).unwrap().changed);
    let halved = added.advance(&rotate(3, &[two, three, &four])).unwrap();
    assert_eq!(
        fault(halved.accept(&versioned(8, &[three, &four]), NOW)),
        Some(Fault::Rollback)
    );
    assert_eq!(fault(halved.accept(&stolen, NOW)), Some(Fault::Threshold));

    // With both gone, the floor is what the remaining key signed: nothing older comes back with them.
    let freed = halved.advance(&rotate(4, &[three, &four, &five])).unwrap();
    let freed = restart(&publisher, &freed);
    assert_eq!(freed.floor(), 7);
    assert_eq!(
        fault(freed.accept(&versioned(6, &[three, &four]), NOW)),
        Some(Fault::Rollback)
    );
    assert_eq!(fault(freed.accept(&stolen, NOW)), Some(Fault::Threshold));
    let freed = freed
        .accept(&versioned(8, &[three, &four]), NOW)
        .unwrap()
        .state;
    assert_eq!(freed.floor(), 8);

    // All new: a feed begins again at 1. Should a thrown out key return, its versions do too.
    let six = Key::new();
    let anew = freed.advance(&rotate(5, &[&five, &six])).unwrap();
    let anew = anew
        .accept(&versioned(1, &[&five, &six]), NOW)
        .unwrap()
        .state;
    assert_eq!(anew.floor(), 1);
    let again = anew.advance(&rotate(6, &[&five, one])).unwrap();
    assert_eq!(again.floor(), u64::MAX);
}

/// A threshold or a set of keys that changes does not open a way back to what fewer keys had signed.
#[test]
fn a_rotation_is_no_way_back() {
    let publisher = Publisher::new();
    let [root_one, root_two, _] = &publisher.roots;
    let [one, two, three] = &publisher.feeds;
    let old = bytes(&seal(
        FEED_TYPE,
        &feed(json!({"version": 5})),
        &[one, two, three],
    ));
    let state = publisher.client().accept(&old, NOW).unwrap().state;
    let state = state
        .accept(&bytes(&publisher.feed(json!({}))), NOW)
        .unwrap()
        .state;
    for feed_role in [
        role(3, &[one, two, three]),
        role(1, &[one, two, three]),
        role(2, &[one, three, &publisher.stranger]),
    ] {
        let second = publisher.rotated(2, feed_role, &[root_one, root_two]);
        let state = state.advance(&second).unwrap();
        assert_eq!(fault(state.accept(&old, NOW)), Some(Fault::Rollback));
    }
}

#[test]
fn remembered_keys_have_a_bound() {
    let publisher = Publisher::new();
    let [root_one, root_two, _] = &publisher.roots;
    let mut state = publisher.client();
    // Each root replaces all 32 feed keys, until there were more than are remembered. Versions go down, as they may
    // with new keys: what is in force must not be forgotten for being lowest.
    for root in 2..=(FLOORS / KEYS + 3) as u64 {
        let version = 100 - root;
        let keys: Vec<Key> = (0..KEYS).map(|_| Key::new()).collect();
        let keys: Vec<&Key> = keys.iter().collect();
        let next = publisher.rotated(root, role(1, &keys), &[root_one, root_two]);
        state = state.advance(&next).unwrap();
        let document = seal(FEED_TYPE, &feed(json!({"version": version})), &keys);
        state = state.accept(&bytes(&document), NOW).unwrap().state;
        assert_eq!(state.floor(), version);
    }
    let file: Value = serde_json::from_slice(&state.to_bytes().unwrap()).unwrap();
    let floors = file["floors"].as_array().unwrap();
    assert_eq!(floors.len(), FLOORS);
    let highest = floors
        .iter()
        .filter_map(|floor| floor["version"].as_u64())
        .max();
    assert_eq!(highest, Some(98));
}
