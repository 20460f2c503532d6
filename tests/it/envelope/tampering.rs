//! What somebody who does not hold enough keys can make of a feed, and the limits.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE};
use stopgap::signature::envelope::{
    ENVELOPE_BYTES, FeedPayload, KEYS, NAME_BYTES, ROOT_BYTES, RootBuilder, SIGNATURES,
};

use super::*;

#[test]
fn an_accepted_feed_gives_its_rules() {
    let document = bytes(&PUBLISHER.feed(json!({})));
    let accepted = PUBLISHER.client().accept(&document, NOW).unwrap();
    assert_eq!(accepted.content.rules.value(), RULES.as_bytes());
    assert_eq!(accepted.content.rules.signed_at(), Some(NOW));
    let trusted = PUBLISHER.client().root().feed().identity();
    assert_eq!(accepted.content.rules.signer(), trusted);
    assert_eq!(accepted.content.expires, later(7 * DAY));
    let state = accepted.state;
    assert_eq!((state.version(), state.floor()), (Some(7), 7));
    assert_eq!(
        state.digest(),
        Some(sha256(feed(json!({})).to_string().as_bytes()))
    );
    assert_eq!(state.fetched_at(), Some(NOW));
    let again = state.accept(&document, later(3_600)).unwrap();
    assert!(!again.changed);
    assert_eq!(again.state.fetched_at(), Some(later(3_600)));
}

/// What somebody without enough keys can make of what was signed, and what the client says.
#[test]
fn tampered_envelopes() {
    let Publisher {
        feeds: [one, two, three],
        stranger,
        ..
    } = &*PUBLISHER;
    let good = PUBLISHER.feed(json!({}));
    let payload = feed(json!({})).to_string();
    let sealed = |keys: &[&Key]| seal(FEED_TYPE, &feed(json!({})), keys);
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        document
    };
    let as_root = |value: &mut Value| value["payloadType"] = json!(ROOT_TYPE);
    let rows: Vec<(&str, Value, Option<Fault>)> = vec![
        ("two of three keys", good.clone(), None),
        ("another two", sealed(&[three, two]), None),
        ("all three", sealed(&[one, two, three]), None),
        ("one key short", sealed(&[one]), Some(Fault::Threshold)),
        ("no signature", sealed(&[]), Some(Fault::Threshold)),
        (
            "a stranger's key",
            sealed(&[one, stranger]),
            Some(Fault::Threshold),
        ),
        (
            "a stranger's beside enough",
            sealed(&[stranger, one, two]),
            None,
        ),
        ("one key twice", sealed(&[one, one]), Some(Fault::Malformed)),
        (
            "one key's signature under another's name",
            altered(&|value| value["signatures"][1]["sig"] = value["signatures"][0]["sig"].clone()),
            Some(Fault::Threshold),
        ),
        (
            "one key's signature under no one's name",
            altered(&|value| {
                value["signatures"][1] = value["signatures"][0].clone();
                value["signatures"][1]["keyid"] = json!("0".repeat(64));
            }),
            Some(Fault::Threshold),
        ),
        (
            "names exchanged",
            altered(&|value| {
                let id = value["signatures"][0]["keyid"].take();
                value["signatures"][0]["keyid"] = value["signatures"][1]["keyid"].take();
                value["signatures"][1]["keyid"] = id;
            }),
            Some(Fault::Threshold),
        ),
        (
            "a name in capitals",
            altered(&|value| value["signatures"][0]["keyid"] = json!(one.id().to_uppercase())),
            Some(Fault::Malformed),
        ),
        (
            "another payload",
            altered(&|value| value["payload"] = json!(STANDARD.encode(payload.replace('7', "8")))),
            Some(Fault::Threshold),
        ),
        (
            "the payload's JSON with other spaces",
            altered(&|value| value["payload"] = json!(STANDARD.encode(format!("{payload} ")))),
            Some(Fault::Threshold),
        ),
        ("called a root", altered(&as_root), Some(Fault::Type)),
        (
            "signed as a root, and called one",
            seal(ROOT_TYPE, &feed(json!({})), &[one, two]),
            Some(Fault::Type),
        ),
        (
            "signed as a root, called a feed",
            altered(&|value| {
                let signed = [one, two].map(|key| key.signature(ROOT_TYPE, payload.as_bytes()));
                value["signatures"] = json!(signed);
            }),
            Some(Fault::Threshold),
        ),
        (
            "another format's type",
            seal(
                "application/vnd.in-toto+json",
                &feed(json!({})),
                &[one, two],
            ),
            Some(Fault::Type),
        ),
        (
            "signed without its type",
            altered(&|value| {
                let signed = [one, two].map(|key| {
                    let signature = key.by_hand.sign(payload.as_bytes());
                    json!({"keyid": key.id(), "sig": STANDARD.encode(signature)})
                });
                value["signatures"] = json!(signed);
            }),
            Some(Fault::Threshold),
        ),
        (
            "a genuine root",
            serde_json::from_slice(&PUBLISHER.first_root()).unwrap(),
            Some(Fault::Type),
        ),
    ];
    for (name, document, expected) in rows {
        let result = PUBLISHER.client().accept(&bytes(&document), NOW);
        assert_eq!(fault(result), expected, "{name}");
    }
}

/// JSON has many spellings; two readers of one must not see two documents.
#[test]
fn spellings_of_one_envelope() {
    let good = PUBLISHER.feed(json!({}));
    let text = good.to_string();
    let with = |old: &str, new: &str| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    };
    let signed = |payload: &str| {
        let [one, two, _] = &PUBLISHER.feeds;
        let signatures = [one, two].map(|key| key.signature(FEED_TYPE, payload.as_bytes()));
        json!({
            "payloadType": FEED_TYPE,
            "payload": STANDARD.encode(payload),
            "signatures": signatures,
        })
        .to_string()
    };
    let payload = feed(json!({})).to_string();
    let huge = "9".repeat(400);
    let rows = [
        ("escapes", with("\"payload\"", "\"p\\u0061yload\""), None),
        ("white space", with("{", " \t\r\n{ "), None),
        (
            "a member twice by an escape",
            with("{", "{\"p\\u0061yload\":\"\","),
            Some(Fault::Malformed),
        ),
        (
            "half of a surrogate pair",
            with("application", "\\ud800application"),
            Some(Fault::Malformed),
        ),
        (
            "a type with a parameter",
            with("feed.v1+json", "feed.v1+json; charset=utf-8"),
            Some(Fault::Type),
        ),
        (
            "a type with a zero",
            with("feed.v1+json", "feed.v1+json\\u0000"),
            Some(Fault::Type),
        ),
        (
            "a type that is another's beginning",
            with("feed.v1+json", "feed.v1"),
            Some(Fault::Type),
        ),
        (
            "lengths moved from the type to the payload",
            with(FEED_TYPE, &format!("{FEED_TYPE} 3 abc")),
            Some(Fault::Type),
        ),
        (
            "JSON with a comment",
            with("{", "{/* */"),
            Some(Fault::Malformed),
        ),
        (
            "a comma too many",
            with("}]}", "}],}"),
            Some(Fault::Malformed),
        ),
        (
            "a signed member twice",
            signed(&payload.replacen('{', "{\"version\":9,", 1)),
            Some(Fault::Malformed),
        ),
        (
            "a signed member twice by an escape",
            signed(&payload.replacen('{', "{\"v\\u0065rsion\":9,", 1)),
            Some(Fault::Malformed),
        ),
        (
            "a huge signed number",
            signed(&payload.replace(":7", &format!(":{huge}"))),
            Some(Fault::Malformed),
        ),
        (
            "a signed number with an exponent",
            signed(&payload.replace(":7", ":7e0")),
            Some(Fault::Malformed),
        ),
        (
            "a deep signed value",
            signed(&payload.replace(":7", &format!(":{}", "[".repeat(50_000)))),
            Some(Fault::Malformed),
        ),
        (
            "something behind what is signed",
            signed(&format!("{payload}{{}}")),
            Some(Fault::Malformed),
        ),
        (
            "a mark before what is signed",
            signed(&format!("\u{feff}{payload}")),
            Some(Fault::Malformed),
        ),
        ("a signed list", signed("[]"), Some(Fault::Malformed)),
        ("nothing signed", signed(""), Some(Fault::Malformed)),
    ];
    let expected = PUBLISHER.client().accept(&bytes(&good), NOW).unwrap();
    for (name, document, fault_of_it) in rows {
        let result = PUBLISHER.client().accept(document.as_bytes(), NOW);
        if let Ok(accepted) = &result {
            assert_eq!(accepted.content.digest, expected.content.digest, "{name}");
        }
        assert_eq!(fault(result), fault_of_it, "{name}");
    }
}

/// Envelopes that are refused for their form alone, whoever signed them.
#[test]
fn malformed_envelopes() {
    let good = PUBLISHER.feed(json!({}));
    let text = good.to_string();
    let signature = good["signatures"][0]["sig"].as_str().unwrap();
    let octets = STANDARD.decode(signature).unwrap();
    let payload = good["payload"].as_str().unwrap();
    let with = |old: &str, new: &str| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    };
    let encoded = |octets: &[u8]| with(signature, &STANDARD.encode(octets));
    // The last sextet of 64 octets holds four bits that must be zero.
    let trailing_bits = signature.replace("Q==", "R==").replace("A==", "B==");
    let trailing_bits = trailing_bits.replace("g==", "h==").replace("w==", "x==");
    for (name, document) in [
        ("nothing", String::new()),
        ("no JSON", "hello".to_owned()),
        ("another JSON", "[]".to_owned()),
        ("deep JSON", "[".repeat(100_000)),
        ("an XML feed", RULES.to_owned()),
        ("a byte order mark", format!("\u{feff}{text}")),
        ("two documents", text.repeat(2)),
        ("cut short", text[..text.len() - 1].to_owned()),
        ("an unknown member", with("{", "{\"a\":1,")),
        (
            "an unknown member of a signature",
            with("{\"keyid", "{\"a\":1,\"keyid"),
        ),
        ("a member twice", with("{", "{\"payload\":\"\",")),
        (
            "a member in another case",
            with("payloadType", "payloadtype"),
        ),
        ("no keyid", with("\"keyid\"", "\"name\"")),
        (
            "a short keyid",
            with("\"keyid\":\"", "\"keyid\":\"\",\"x\":\""),
        ),
        (
            "null signatures",
            "{\"payloadType\":\"\",\"payload\":\"\",\"signatures\":null}".to_owned(),
        ),
        ("a signature of 63 octets", encoded(&octets[1..])),
        (
            "a signature of 65 octets",
            encoded(&[&octets[..], b"x"].concat()),
        ),
        (
            "a signature with spare bits",
            with(signature, &trailing_bits),
        ),
        (
            "base64 without padding",
            with(signature, &STANDARD_NO_PAD.encode(&octets)),
        ),
        (
            "base64 of another alphabet",
            with(signature, &URL_SAFE.encode([0xff; 64])),
        ),
        (
            "base64 on two lines",
            with(payload, &format!("{}\\n{}", &payload[..8], &payload[8..])),
        ),
        ("a payload that is no base64", with(payload, "{}")),
    ] {
        let result = PUBLISHER.client().accept(document.as_bytes(), NOW);
        assert_eq!(fault(result), Some(Fault::Malformed), "{name}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let document = bytes(&PUBLISHER.feed(json!({})));
    let client = PUBLISHER.client();
    assert!(client.accept(&document, NOW).is_ok());
    for bit in 0..document.len() * 8 {
        let mut flipped = document.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(client.accept(&flipped, NOW).is_err(), "bit {bit}");
    }
    let root = PUBLISHER.first_root();
    for bit in 0..root.len() * 8 {
        let mut flipped = root.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(FeedState::new("prod", &flipped).is_err(), "bit {bit}");
    }
}

/// What a publisher with all its keys signed, and a client that holds version 7 refuses or accepts nevertheless.
#[test]
fn signed_payloads() {
    let late = |seconds| json!({"issued": later(seconds).to_string()});
    let past = json!({
        "version": 8,
        "issued": earlier(9 * DAY).to_string(),
        "expires": earlier(DAY).to_string(),
    });
    let rows = [
        ("the same again", json!({}), None),
        ("the next version", json!({"version": 8}), None),
        ("the last version", json!({"version": u64::MAX}), None),
        ("an expired one", past, None),
        (
            "one version back",
            json!({"version": 6}),
            Some(Fault::Rollback),
        ),
        (
            "the first version",
            json!({"version": 1}),
            Some(Fault::Rollback),
        ),
        (
            "same version, other rules",
            json!({"rules": "<EOCS/>"}),
            Some(Fault::Equivocation),
        ),
        (
            "same version, renewed",
            json!({"expires": later(8 * DAY).to_string()}),
            Some(Fault::Equivocation),
        ),
        (
            "another feed",
            json!({"name": "lab", "version": 8}),
            Some(Fault::Name),
        ),
        (
            "another feed by case",
            json!({"name": "Prod", "version": 8}),
            Some(Fault::Name),
        ),
        (
            "issued 300 s ahead",
            json!({"version": 8, "issued": late(300)["issued"]}),
            None,
        ),
        (
            "issued 301 s ahead",
            json!({"version": 8, "issued": late(301)["issued"]}),
            Some(Fault::Future),
        ),
        ("version 0", json!({"version": 0}), Some(Fault::Malformed)),
        (
            "a negative version",
            json!({"version": -1}),
            Some(Fault::Malformed),
        ),
        (
            "a broken version",
            json!({"version": 8.0}),
            Some(Fault::Malformed),
        ),
        (
            "a version as text",
            json!({"version": "8"}),
            Some(Fault::Malformed),
        ),
        (
            "a version above 2^64",
            json!({"version": 1e20}),
            Some(Fault::Malformed),
        ),
        (
            "an unknown member",
            json!({"version": 8, "extra": 1}),
            Some(Fault::Malformed),
        ),
        (
            "no rules",
            json!({"version": 8, "rules": ""}),
            Some(Fault::Malformed),
        ),
        (
            "null rules",
            json!({"version": 8, "rules": null}),
            Some(Fault::Malformed),
        ),
        ("no name", json!({"name": " "}), Some(Fault::Malformed)),
        (
            "a name with a line feed",
            json!({"name": "prod\n"}),
            Some(Fault::Malformed),
        ),
        (
            "the longest name",
            json!({"name": "n".repeat(NAME_BYTES)}),
            Some(Fault::Name),
        ),
        (
            "a longer name",
            json!({"name": "n".repeat(NAME_BYTES + 1)}),
            Some(Fault::Malformed),
        ),
        (
            "expiry at issue",
            json!({"version": 8, "expires": NOW.to_string()}),
            Some(Fault::Malformed),
        ),
        (
            "a time with an offset",
            json!({"version": 8, "issued": "2026-11-23T09:00:00+00:00"}),
            Some(Fault::Malformed),
        ),
        (
            "a time as a number",
            json!({"version": 8, "issued": 1}),
            Some(Fault::Malformed),
        ),
    ];
    let client = client_at_7();
    for (name, replaced, expected) in rows {
        let result = client.accept(&bytes(&PUBLISHER.feed(replaced)), NOW);
        assert_eq!(fault(result), expected, "{name}");
    }
    // Nothing of a payload is looked at before enough keys signed it.
    let garbage = seal(FEED_TYPE, &json!("garbage"), &[&PUBLISHER.feeds[0]]);
    let result = client.accept(&bytes(&garbage), NOW);
    assert_eq!(fault(result), Some(Fault::Threshold));
}

/// Whoever withholds new documents is seen by the expiry, and protection stays.
#[test]
fn freeze() {
    let state = client_at_7();
    assert!(!state.is_stale(later(7 * DAY - 1)));
    assert!(state.is_stale(later(7 * DAY)));
    let document = bytes(&PUBLISHER.feed(json!({})));
    let accepted = state.accept(&document, later(30 * DAY)).unwrap();
    assert!(!accepted.content.is_stale(later(7 * DAY - 1)));
    assert!(accepted.content.is_stale(later(7 * DAY)));
    assert!(accepted.content.is_stale(later(30 * DAY)));
    assert_eq!(accepted.content.rules.value(), RULES.as_bytes());
    let older = bytes(&PUBLISHER.feed(json!({"version": 6})));
    assert_eq!(
        fault(state.accept(&older, later(30 * DAY))),
        Some(Fault::Rollback)
    );
    // A root that ran out is stale too, however long the feed lasts.
    let endless = json!({"version": 8, "expires": later(9_999 * DAY).to_string()});
    let state = state
        .accept(&bytes(&PUBLISHER.feed(endless)), NOW)
        .unwrap()
        .state;
    assert!(!state.is_stale(later(365 * DAY - 1)));
    assert!(state.is_stale(later(365 * DAY)));
}

#[test]
fn limits_hold_on_both_sides() {
    let client = PUBLISHER.client();
    let [one, two, _] = &PUBLISHER.feeds;
    let crowd = |count: usize| {
        let mut document = PUBLISHER.feed(json!({}));
        let signatures = document["signatures"].as_array_mut().unwrap();
        while signatures.len() < count {
            let id = format!("{:064x}", signatures.len());
            signatures.push(json!({"keyid": id, "sig": STANDARD.encode([0; 64])}));
        }
        client.accept(&bytes(&document), NOW)
    };
    assert_eq!(fault(crowd(SIGNATURES)), None);
    assert_eq!(fault(crowd(SIGNATURES + 1)), Some(Fault::Malformed));

    let padded = |length: usize| {
        let mut document = bytes(&PUBLISHER.feed(json!({})));
        document.resize(length, b' ');
        client.accept(&document, NOW)
    };
    assert_eq!(fault(padded(ENVELOPE_BYTES)), None);
    let error = padded(ENVELOPE_BYTES + 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the envelope is longer than 4194304 bytes"
    );

    let padded = |length: usize| {
        let mut document = PUBLISHER.first_root();
        document.resize(length, b' ');
        FeedState::new("prod", &document)
    };
    assert_eq!(fault(padded(ROOT_BYTES)), None);
    assert_eq!(fault(padded(ROOT_BYTES + 1)), Some(Fault::Malformed));

    let keys: Vec<PublicKey> = (0..=KEYS).map(|_| Key::new().public()).collect();
    let with_keys = |count: usize| {
        let builder = RootBuilder::init(later(DAY)).add_root_key(one.public());
        let builder = keys[..count]
            .iter()
            .fold(builder, |builder, key| builder.add_feed_key(*key));
        builder.feed_threshold(count).build()
    };
    assert_eq!(fault(with_keys(KEYS)), None);
    assert_eq!(fault(with_keys(KEYS + 1)), Some(Fault::Malformed));

    let rules = |length: usize| {
        let payload = FeedPayload::first("prod", &"x".repeat(length), NOW, later(DAY)).unwrap();
        let mut envelope = payload.to_envelope().unwrap();
        envelope.sign(&one.product).unwrap();
        envelope.sign(&two.product).unwrap();
        envelope.to_json()
    };
    let longest = rules(3_100_000).unwrap();
    assert_eq!(fault(client.accept(longest.as_bytes(), NOW)), None);
    assert_eq!(fault(rules(3_200_000)), Some(Fault::Malformed));
}

/// What an administrator reads in the log.
#[test]
fn errors_say_what_to_do() {
    let client = client_at_7();
    let said = |document: &Value| explain(&client.accept(&bytes(document), NOW).unwrap_err());
    let said_of = |replaced: Value| said(&PUBLISHER.feed(replaced));
    let [one, ..] = &PUBLISHER.feeds;
    for (text, parts) in [
        (
            said_of(json!({"version": 6})),
            ["version 6", "version 7", "replays"],
        ),
        (
            said_of(json!({"rules": "x"})),
            ["version 7", "other content", "ask the publisher"],
        ),
        (
            said_of(json!({"name": "lab"})),
            ["\"lab\"", "\"prod\"", "configuration"],
        ),
        (
            said_of(json!({"issued": later(DAY).to_string()})),
            [
                &later(DAY).to_string(),
                &NOW.to_string(),
                "correct the clock",
            ],
        ),
        (
            said(&seal(FEED_TYPE, &feed(json!({})), &[one])),
            ["1 of the 2 feed keys", "stopgap cosign", "replaced"],
        ),
        (
            said(&json!({"a\n": 1})),
            ["line 1, column", "unknown field", "\\n"],
        ),
    ] {
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
    // What a stranger wrote is quoted in part only.
    let long = "y".repeat(1_000_000);
    assert!(said(&json!({long.clone(): 1})).len() < 500);
    let foreign = seal(&long, &feed(json!({})), &[]);
    assert!(said(&foreign).len() < 500);
}
