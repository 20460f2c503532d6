//! What is kept for the next start.

use super::*;

#[test]
fn a_restart_forgets_nothing() {
    let publisher = Publisher::new();
    let [one, two, _] = &publisher.roots;
    let state = restart(&publisher, &publisher.client());
    let document = bytes(&publisher.feed(json!({})));
    let state = restart(&publisher, &state.accept(&document, NOW).unwrap().state);
    let refused = |state: &FeedState| {
        let older = bytes(&publisher.feed(json!({"version": 6})));
        let other = bytes(&publisher.feed(json!({"rules": "<EOCS/>"})));
        assert_eq!(fault(state.accept(&older, NOW)), Some(Fault::Rollback));
        assert_eq!(fault(state.accept(&other, NOW)), Some(Fault::Equivocation));
        assert!(!state.accept(&document, NOW).unwrap().changed);
    };
    refused(&state);
    let second = publisher.rotated(2, publisher.feed_role(), &[one, two]);
    let state = restart(&publisher, &state.advance(&second).unwrap());
    refused(&state);
    assert_eq!(fault(state.advance(&second)), Some(Fault::RootReplayed));
    // What was in force stays in force, whatever expired meanwhile; no time is asked.
    let kept = state.to_bytes().unwrap();
    let restored = FeedState::restore("prod", &publisher.first_root(), &kept).unwrap();
    let content = restored.content.unwrap();
    assert_eq!(content.rules.value(), RULES.as_bytes());
    assert!(content.is_stale(later(9_000 * DAY)));
    // And after a rotation that replaced the keys that signed it.
    let third = publisher.rotated(3, role(1, &[&publisher.stranger]), &[one, two]);
    let state = restart(&publisher, &state.advance(&third).unwrap());
    assert_eq!(state.version(), Some(7));
}

#[test]
fn damaged_state_is_told() {
    let state = client_at_7();
    let kept = state.to_bytes().unwrap();
    let pinned = PUBLISHER.first_root();
    let restore = |kept: &[u8]| FeedState::restore("prod", &pinned, kept);
    let text = String::from_utf8(kept.clone()).unwrap();
    let digest = state.digest().unwrap().to_string();
    for (name, kept) in [
        ("nothing", String::new()),
        ("cut", text[..text.len() / 2].to_owned()),
        ("unknown member", text.replacen('{', "{\"a\":1,", 1)),
        (
            "another feed's",
            text.replacen("\"name\":\"prod\"", "\"name\":\"lab\"", 1),
        ),
        ("no digest", text.replacen(&digest, "x", 1)),
        ("no key", text.replacen("\"key\":\"", "\"key\":\"!", 1)),
        (
            "no root",
            text.replacen("\"roots\":[]", "\"roots\":[\"{}\"]", 1),
        ),
    ] {
        let error = restore(kept.as_bytes()).unwrap_err();
        assert_eq!(error.fault(), Fault::State, "{name}");
        assert!(
            error.to_string().contains("begins again"),
            "{name}: {error}"
        );
    }
    // A document that was changed on disk is not taken up; the versions are.
    let mut file: Value = serde_json::from_slice(&kept).unwrap();
    let other = PUBLISHER.feed(json!({"rules": "<EOCS/>"}));
    let mut forged = PUBLISHER.feed(json!({}));
    forged["payload"] = other["payload"].clone();
    file["document"]["envelope"] = json!(forged.to_string());
    let restored = restore(&bytes(&file)).unwrap();
    assert!(restored.content.is_none());
    assert_eq!(
        fault(restored.dropped.map_or(Ok(()), Err)),
        Some(Fault::Threshold)
    );
    assert_eq!(
        (restored.state.version(), restored.state.floor()),
        (None, 7)
    );
}

#[test]
fn the_pin_can_be_moved() {
    let publisher = Publisher::new();
    let [one, two, three] = &publisher.roots;
    let second = publisher.rotated(2, publisher.feed_role(), &[one, two]);
    let third = publisher.rotated(3, publisher.feed_role(), &[two, three]);
    let document = bytes(&publisher.feed(json!({})));
    let state = publisher.client().advance(&second).unwrap();
    let state = state.accept(&document, NOW).unwrap().state;
    let state = state.advance(&third).unwrap();
    let kept = state.to_bytes().unwrap();
    // Forward on the same chain: the later roots stay known.
    for pin in [&publisher.first_root(), &second, &third] {
        let restored = FeedState::restore("prod", pin, &kept).unwrap();
        assert_eq!(restored.state.root().version(), 3);
        assert_eq!(
            (restored.state.version(), restored.state.floor()),
            (Some(7), 7)
        );
    }
    // Back on the same chain: the walk begins again, and no version is forgotten.
    let moved = FeedState::restore("prod", &second, &kept).unwrap().state;
    let moved = moved.to_bytes().unwrap();
    let back = FeedState::restore("prod", &publisher.first_root(), &moved).unwrap();
    assert_eq!((back.state.root().version(), back.state.floor()), (1, 7));
    assert!(back.state.advance(&second).is_ok());
    // Another publisher: nothing of the old one is trusted, and its document is not taken up.
    let other = Publisher::new();
    let restored = FeedState::restore("prod", &other.first_root(), &kept).unwrap();
    assert_eq!(
        (restored.state.root().version(), restored.state.floor()),
        (1, 0)
    );
    assert!(restored.content.is_none() && restored.dropped.is_some());
    assert_eq!(
        fault(restored.state.accept(&document, NOW)),
        Some(Fault::Threshold)
    );
    assert!(
        restored
            .state
            .accept(&bytes(&other.feed(json!({"version": 1}))), NOW)
            .is_ok()
    );
}
