//! The publisher's side: keys, roots, issues, a second signer and one outside the program.

use stopgap::signature::envelope::{Envelope, FeedPayload, KEY_FILE_BYTES, RootBuilder};

use super::*;

/// The publisher's own way, from no keys to a renewed feed, with a second signer and one outside this program.
#[test]
fn publishing() {
    let roots: [KeyPair; 2] = std::array::from_fn(|_| KeyPair::generate().unwrap());
    let feeds: [Key; 2] = std::array::from_fn(|_| Key::new());
    let first = RootBuilder::init(later(365 * DAY))
        .root_threshold(2)
        .add_root_key(roots[0].public())
        .add_root_key(roots[1].public())
        .add_feed_key(feeds[0].public())
        .build()
        .unwrap();
    assert_eq!(first.file_name(), "1.root.json");
    let mut envelope = first.to_envelope().unwrap();
    envelope.sign(&roots[0]).unwrap();
    // The half-signed root goes to the second signer as a file.
    let half = envelope.to_json().unwrap();
    let error = FeedState::new("prod", half.as_bytes()).unwrap_err();
    assert_eq!(error.signatures(), Some((1, 2)));
    let mut envelope = Envelope::parse(half.as_bytes()).unwrap();
    assert_eq!(fault(envelope.sign(&roots[0])), Some(Fault::Publishing));
    envelope.sign(&roots[1]).unwrap();
    let pinned = envelope.to_json().unwrap();
    let client = FeedState::new("prod", pinned.as_bytes()).unwrap();
    assert_eq!(client.root(), &first);

    let issue = FeedPayload::first("prod", RULES, NOW, later(DAY)).unwrap();
    let mut envelope = issue.to_envelope().unwrap();
    // A signer outside this program: it gets the message, and gives back 64 octets.
    let signature = feeds[0].by_hand.sign(envelope.message());
    let wrong = feeds[1].by_hand.sign(envelope.message());
    let public = feeds[0].public();
    assert_eq!(
        fault(envelope.attach(&public, wrong.as_ref())),
        Some(Fault::Publishing)
    );
    assert_eq!(
        fault(envelope.attach(&public, b"")),
        Some(Fault::Publishing)
    );
    envelope.attach(&public, signature.as_ref()).unwrap();
    let document = envelope.to_json().unwrap();
    let client = client.accept(document.as_bytes(), NOW).unwrap().state;

    let previous = Envelope::parse(document.as_bytes()).unwrap();
    let previous = FeedPayload::parse(previous.unverified_payload()).unwrap();
    assert_eq!(previous, issue);
    let renewed = previous.refresh(later(DAY), later(2 * DAY)).unwrap();
    assert_eq!((renewed.version(), renewed.rules()), (2, RULES));
    let mut envelope = renewed.to_envelope().unwrap();
    envelope.sign(&feeds[0].product).unwrap();
    let document = envelope.to_json().unwrap();
    let client = client
        .accept(document.as_bytes(), later(DAY))
        .unwrap()
        .state;
    assert!(!client.is_stale(later(DAY)));

    let second = RootBuilder::rotate(&first, later(700 * DAY))
        .add_feed_key(feeds[1].public())
        .drop_feed_key(&public)
        .unwrap()
        .build()
        .unwrap();
    assert_eq!(second.file_name(), "2.root.json");
    let mut envelope = second.to_envelope().unwrap();
    envelope.sign(&roots[0]).unwrap();
    envelope.sign(&roots[1]).unwrap();
    let client = client
        .advance(envelope.to_json().unwrap().as_bytes())
        .unwrap();
    let again = renewed.refresh(later(DAY), later(2 * DAY)).unwrap();
    let again = again.with_version(1).unwrap();
    let mut envelope = again.to_envelope().unwrap();
    envelope.sign(&feeds[1].product).unwrap();
    let document = envelope.to_json().unwrap();
    assert!(client.accept(document.as_bytes(), later(DAY)).is_ok());
}

#[test]
fn publishers_mistakes_are_refused() {
    let key = Key::new().public();
    let builder = || {
        RootBuilder::init(later(DAY))
            .add_root_key(key)
            .add_feed_key(key)
    };
    assert_eq!(fault(builder().build()), None);
    let after_9999 = UnixTime::new(253_402_300_800);
    let payload = |rules, issued, expires| FeedPayload::first("prod", rules, issued, expires);
    let last = payload(RULES, NOW, later(1))
        .unwrap()
        .with_version(u64::MAX)
        .unwrap();
    for (name, found, expected) in [
        (
            "no keys",
            fault(RootBuilder::init(NOW).build()),
            Fault::Malformed,
        ),
        (
            "threshold 0",
            fault(builder().feed_threshold(0).build()),
            Fault::Malformed,
        ),
        (
            "threshold 2 of 1",
            fault(builder().root_threshold(2).build()),
            Fault::Malformed,
        ),
        (
            "a key twice",
            fault(builder().add_root_key(key).build()),
            Fault::Malformed,
        ),
        (
            "a key that is not there",
            fault(builder().drop_feed_key(&Key::new().public())),
            Fault::Publishing,
        ),
        (
            "a root of the year 10000",
            fault(
                RootBuilder::init(after_9999)
                    .add_root_key(key)
                    .add_feed_key(key)
                    .build(),
            ),
            Fault::Malformed,
        ),
        (
            "no rules",
            fault(payload("", NOW, later(1))),
            Fault::Malformed,
        ),
        (
            "expired at issue",
            fault(payload(RULES, NOW, NOW)),
            Fault::Malformed,
        ),
        (
            "a feed of the year 10000",
            fault(payload(RULES, NOW, after_9999)),
            Fault::Malformed,
        ),
        (
            "a version after the last",
            fault(last.refresh(NOW, later(1))),
            Fault::Publishing,
        ),
        (
            "version 0",
            fault(payload(RULES, NOW, later(1)).unwrap().with_version(0)),
            Fault::Malformed,
        ),
    ] {
        assert_eq!(found, Some(expected), "{name}");
    }
}

#[test]
fn key_files() {
    let pair = KeyPair::generate().unwrap();
    let (public, secret) = (pair.public().to_pem(), pair.to_pem().unwrap());
    assert_eq!(
        PublicKey::from_pem(public.as_bytes()).unwrap(),
        pair.public()
    );
    assert_eq!(
        KeyPair::from_pem(secret.as_bytes()).unwrap().public(),
        pair.public()
    );
    let id = pair.public().id().to_string();
    assert!(public.lines().next().unwrap().ends_with(&id));
    assert!(secret.lines().next().unwrap().ends_with(&id));
    let body = secret.lines().nth(2).unwrap();
    assert!(!format!("{pair:?}").contains(body));

    // The keys of RFC 8410, section 10.
    let public_8410 = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";
    let secret_8410 = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    let known = PublicKey::from_pem(public_8410.as_bytes()).unwrap();
    assert_eq!(
        KeyPair::from_pem(secret_8410.as_bytes()).unwrap().public(),
        known
    );
    assert!(known.to_pem().ends_with(public_8410));
    let pair_8410 = KeyPair::from_pem(secret_8410.as_bytes()).unwrap();
    assert!(pair_8410.to_pem().unwrap().ends_with(secret_8410));

    let long = format!("{}{public}", " ".repeat(KEY_FILE_BYTES + 1 - public.len()));
    let full = format!(
        "{}\n{public}",
        " ".repeat(KEY_FILE_BYTES - 1 - public.len())
    );
    assert!(PublicKey::from_pem(full.as_bytes()).is_ok());
    let rsa = public.replace("MCowBQYDK2Vw", "MCowBQYDK2Vu");
    let cut = public.replace("-----END PUBLIC KEY-----", "");
    for (name, content) in [
        ("nothing", ""),
        ("text", "hello"),
        ("the other file", &*secret),
        ("two keys", &*public.repeat(2)),
        ("both keys", &*format!("{public}{secret}")),
        ("another algorithm", &*rsa),
        ("cut", &*cut),
        ("too long", &*format!("{long} ")),
    ] {
        let error = PublicKey::from_pem(content.as_bytes()).unwrap_err();
        assert_eq!(error.fault(), Fault::Key, "{name}");
    }
    // What is said about a secret key's file holds nothing of it.
    let broken = secret.replace(body, &format!("{}!", &body[..40]));
    for content in [
        &*public,
        &*secret.repeat(2),
        &*broken,
        &*secret.replace("-----END", ""),
    ] {
        let error = KeyPair::from_pem(content.as_bytes()).unwrap_err();
        assert_eq!(error.fault(), Fault::Key);
        assert!(
            !explain(&error).contains(&body[..16]),
            "{}",
            explain(&error)
        );
    }
    // Keys that anybody can sign for, each also with the sign bit set.
    let identity = {
        let mut octets = [0; 32];
        octets[0] = 1;
        octets
    };
    for mut octets in [[0; 32], identity] {
        assert_eq!(fault(PublicKey::from_octets(octets)), Some(Fault::Key));
        octets[31] |= 0x80;
        assert_eq!(fault(PublicKey::from_octets(octets)), Some(Fault::Key));
    }
}
