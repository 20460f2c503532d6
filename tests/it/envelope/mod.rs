//! Feeds in our own format: what a client takes and refuses, one row for each way to forge, roll back or freeze one.
//!
//! Envelopes are made here by hand as well as by the product's own publisher, so that the two check each other.

mod properties;
mod publishing;
mod restart;
mod roots;
mod tampering;

use std::sync::LazyLock;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stopgap::model::UnixTime;
use stopgap::signature::envelope::{
    EnvelopeError, FEED_TYPE, Fault, FeedState, KeyPair, PublicKey, ROOT_TYPE,
};
use stopgap::signature::sha256;

const NOW: UnixTime = UnixTime::new(1_795_000_000);
const DAY: u64 = 86_400;
const RULES: &str = "<EOCS version=\"1.0\"/>";

fn later(seconds: u64) -> UnixTime {
    UnixTime::new(NOW.seconds() + seconds)
}

fn earlier(seconds: u64) -> UnixTime {
    UnixTime::new(NOW.seconds() - seconds)
}

/// A key of the product, and the same key to sign by hand with.
struct Key {
    product: KeyPair,
    by_hand: Ed25519KeyPair,
}

impl Key {
    fn new() -> Self {
        let product = KeyPair::generate().unwrap();
        let pem = product.to_pem().unwrap();
        let der = STANDARD.decode(pem.lines().nth(2).unwrap()).unwrap();
        Self {
            by_hand: Ed25519KeyPair::from_pkcs8(&der).unwrap(),
            product,
        }
    }

    fn public(&self) -> PublicKey {
        self.product.public()
    }

    fn id(&self) -> String {
        sha256(self.public().octets()).to_string()
    }

    /// One signature, as an envelope lists it.
    fn signature(&self, payload_type: &str, payload: &[u8]) -> Value {
        let mut message = format!(
            "DSSEv1 {} {} {} ",
            payload_type.len(),
            payload_type,
            payload.len()
        )
        .into_bytes();
        message.extend(payload);
        let signature = self.by_hand.sign(&message);
        json!({"keyid": self.id(), "sig": STANDARD.encode(signature)})
    }
}

fn seal(payload_type: &str, payload: &Value, keys: &[&Key]) -> Value {
    let payload = payload.to_string();
    let signatures = keys
        .iter()
        .map(|key| key.signature(payload_type, payload.as_bytes()));
    json!({
        "payloadType": payload_type,
        "payload": STANDARD.encode(&payload),
        "signatures": signatures.collect::<Vec<_>>(),
    })
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// The payload of a feed, with some members replaced.
fn feed(replaced: Value) -> Value {
    let mut payload = json!({
        "name": "prod",
        "version": 7,
        "issued": NOW.to_string(),
        "expires": later(7 * DAY).to_string(),
        "rules": RULES,
    });
    replace(&mut payload, replaced);
    payload
}

fn replace(object: &mut Value, replaced: Value) {
    for (name, value) in replaced.as_object().unwrap() {
        object[name] = value.clone();
    }
}

fn role(threshold: u64, keys: &[&Key]) -> Value {
    let keys = keys.iter().map(|key| key.public().to_string());
    json!({"threshold": threshold, "keys": keys.collect::<Vec<_>>()})
}

fn root(version: u64, root: Value, feed: Value) -> Value {
    json!({
        "version": version,
        "expires": later(365 * DAY).to_string(),
        "root": root,
        "feed": feed,
    })
}

/// Three root keys of which two sign, three feed keys of which two sign, and a stranger's.
struct Publisher {
    roots: [Key; 3],
    feeds: [Key; 3],
    stranger: Key,
}

impl Publisher {
    fn new() -> Self {
        Self {
            roots: std::array::from_fn(|_| Key::new()),
            feeds: std::array::from_fn(|_| Key::new()),
            stranger: Key::new(),
        }
    }

    fn root_role(&self) -> Value {
        role(2, &self.roots.each_ref())
    }

    fn feed_role(&self) -> Value {
        role(2, &self.feeds.each_ref())
    }

    fn first_root(&self) -> Vec<u8> {
        let [one, two, _] = &self.roots;
        let payload = root(1, self.root_role(), self.feed_role());
        bytes(&seal(ROOT_TYPE, &payload, &[one, two]))
    }

    fn client(&self) -> FeedState {
        FeedState::new("prod", &self.first_root()).unwrap()
    }

    /// A feed signed by the first two keys.
    fn feed(&self, replaced: Value) -> Value {
        let [one, two, _] = &self.feeds;
        seal(FEED_TYPE, &feed(replaced), &[one, two])
    }

    /// A root signed by these keys, with other feed keys.
    fn rotated(&self, version: u64, feed: Value, signers: &[&Key]) -> Vec<u8> {
        let payload = root(version, self.root_role(), feed);
        bytes(&seal(ROOT_TYPE, &payload, signers))
    }
}

/// One for all tests that look at a single document.
static PUBLISHER: LazyLock<Publisher> = LazyLock::new(Publisher::new);

fn fault<T>(result: Result<T, EnvelopeError>) -> Option<Fault> {
    result.err().map(|error| error.fault())
}

/// The error and its causes in one line.
fn explain(error: &EnvelopeError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}

/// A client that holds version 7.
fn client_at_7() -> FeedState {
    let document = PUBLISHER.feed(json!({}));
    let accepted = PUBLISHER.client().accept(&bytes(&document), NOW).unwrap();
    assert!(accepted.changed);
    accepted.state
}

fn restart(publisher: &Publisher, state: &FeedState) -> FeedState {
    let kept = state.to_bytes().unwrap();
    let restored = FeedState::restore("prod", &publisher.first_root(), &kept).unwrap();
    assert!(restored.dropped.is_none());
    assert_eq!(restored.content.is_some(), state.version().is_some());
    assert_eq!(restored.state.to_bytes().unwrap(), kept);
    restored.state
}
