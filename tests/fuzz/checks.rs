//! One check for each reader of hostile octets: whatever they are, it ends without a panic, and what it accepted holds.
//!
//! `cargo fuzz` calls them with octets that it makes up; the product's own tests call them with the kept corpora and
//! regressions.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stopgap::model::UnixTime;
use stopgap::rules::{RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin};
use stopgap::signature::envelope::{
    Envelope, FeedPayload, FeedState, KeyPair, PublicKey, RootBuilder, RootChain, RootMetadata,
};
use stopgap::signature::{TrustAnchors, Verifier};
use stopgap::xml::{Document, Element, Limits};

use crate::support::signer::{Options, Publisher, TokenForm};

/// 2026-11-23T12:00:00Z
const NOW: UnixTime = UnixTime::new(1_795_435_200);

/// The XML reader: an accepted document can be walked, and every place in it lies inside.
pub(crate) fn xml(octets: &[u8]) {
    let limits = Limits {
        depth: 16,
        nodes: 512,
        ..Limits::default()
    };
    let Ok(document) = Document::parse(octets, &limits) else {
        return;
    };
    let (mut elements, mut attributes) = (0, 0);
    for element in document.root().descendants() {
        elements += 1;
        assert!(!element.name().is_empty());
        assert!(element.qualified_name().ends_with(element.name()));
        assert!(element.source().starts_with('<') && element.source().ends_with('>'));
        assert!(element.position().line >= 1 && element.position().column >= 1);
        attributes += element.attributes().count();
        for attribute in element.attributes() {
            let (namespace, name) = (attribute.namespace(), attribute.name());
            let found = element.attribute_ns(namespace, name);
            assert_eq!(found.map(|found| found.value()), Some(attribute.value()));
        }
        let text = element.text();
        assert!(!element.has_text() || !text.is_empty());
        let end = text.len();
        for offset in [0, end / 2, end.saturating_sub(1), end, end + 1] {
            let _ = element.text_position_at(offset);
        }
        let depth = std::iter::successors(Some(element), |inner| inner.parent()).count();
        assert!(depth <= limits.depth);
    }
    assert!(elements <= limits.nodes && attributes <= limits.nodes);
}

/// Canonical XML: what it writes is a document with the same canonical form and the same content.
pub(crate) fn canonical(octets: &[u8]) {
    // Canonical forms of parts repeat the namespaces in scope, so that they may be longer than the document.
    let (small, large) = (
        Limits {
            nodes: 256,
            ..Limits::default()
        },
        Limits {
            bytes: usize::MAX,
            attributes: usize::from(u16::MAX),
            nodes: usize::MAX,
            depth: usize::MAX,
        },
    );
    let Ok(document) = Document::parse(octets, &small) else {
        return;
    };
    let whole = document.canonical().to_vec();
    let again = Document::parse(&whole, &large).expect("a canonical form is well-formed");
    assert_eq!(again.canonical().to_vec(), whole, "stable");
    let pairs = document
        .root()
        .descendants()
        .zip(again.root().descendants());
    for (one, other) in pairs {
        assert_same(one, other);
        let part = one.canonical().to_vec();
        let alone = Document::parse(&part, &large).expect("a canonical part is well-formed");
        assert_eq!(alone.canonical().to_vec(), part, "a part is stable");
        assert_same(one, alone.root());
    }
    let count = |document: &Document<'_>| document.root().descendants().count();
    assert_eq!(count(&document), count(&again));
    if let Some(last) = document.root().children().last() {
        let without = document.canonical().without(last).to_vec();
        let without = Document::parse(&without, &large).expect("well-formed without a child");
        let gone = last.descendants().count();
        assert_eq!(count(&without) + gone, count(&document));
    }
}

fn assert_same(one: Element<'_>, other: Element<'_>) {
    assert_eq!(one.qualified_name(), other.qualified_name());
    assert_eq!(one.namespace(), other.namespace());
    assert_eq!(one.text(), other.text());
    for attribute in one.attributes() {
        let found = other.attribute_ns(attribute.namespace(), attribute.name());
        assert_eq!(found.map(|found| found.value()), Some(attribute.value()));
    }
}

/// A document with a genuine timestamp, whose token the octets change or replace.
struct Stamped {
    verifier: Verifier,
    before: String,
    token: Vec<u8>,
    after: String,
    time: UnixTime,
}

static STAMPED: LazyLock<Stamped> = LazyLock::new(|| {
    let time = UnixTime::new(1_631_724_128);
    let publisher = Publisher::with(Options {
        timestamp: Some(time),
        token: TokenForm::Microsoft,
        ..Options::default()
    });
    let signed = publisher.sign("<EOCS version=\"1.0.4\"></EOCS>");
    let signed = String::from_utf8(signed).expect("signed documents are text");
    let mark = "timestamp/2003\">";
    let start = signed.find(mark).expect("it has a timestamp") + mark.len();
    let end = start + signed[start..].find('<').expect("the token ends");
    Stamped {
        verifier: Verifier::xmldsig_x509(publisher.policy()).expect("the policy is possible"),
        before: signed[..start].to_owned(),
        token: STANDARD
            .decode(&signed[start..end])
            .expect("the token is base64"),
        after: signed[end..].to_owned(),
        time,
    }
});

/// The DER reader, by the two ways that hostile octets reach it: certificates, and timestamp tokens.
///
/// The first octet chooses: a certificate, a token, or changes of a genuine token, each of them a place in two octets
/// and what to put there.
pub(crate) fn der(octets: &[u8]) {
    let Some((&way, octets)) = octets.split_first() else {
        return;
    };
    let stamped = &*STAMPED;
    let token = match way % 3 {
        0 => {
            let _ = TrustAnchors::from_der([octets]);
            return;
        }
        1 => octets.to_vec(),
        _ => {
            let mut token = stamped.token.clone();
            for change in octets.chunks_exact(3) {
                let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
                let at = at % token.len();
                token[at] = change[2];
            }
            token
        }
    };
    let document = [
        &stamped.before,
        STANDARD.encode(&token).as_str(),
        &stamped.after,
    ]
    .concat();
    if let Ok(verified) = stamped.verifier.verify(document.as_bytes(), NOW, None) {
        assert_eq!(verified.signed_at(), Some(stamped.time), "nobody moves it");
    }
}

/// A client of a feed in our own format, whose keys nobody has any more.
static CLIENT: LazyLock<(FeedState, Vec<u8>)> = LazyLock::new(|| {
    let key = KeyPair::generate().expect("keys can be made");
    let root = RootBuilder::init(UnixTime::new(4_000_000_000))
        .add_root_key(key.public())
        .add_feed_key(key.public())
        .build()
        .expect("the root is possible");
    let mut envelope = root.to_envelope().expect("roots can be written");
    envelope.sign(&key).expect("keys can sign");
    let root = envelope.to_json().expect("roots can be written");
    let state = FeedState::new("prod", root.as_bytes()).expect("the root is signed");
    (state, root.into_bytes())
});

/// Envelopes, what they carry, keys and kept states: what is read can be written and read again, and nothing is accepted
/// that nobody signed.
pub(crate) fn envelope(octets: &[u8]) {
    let (client, root) = &*CLIENT;
    if let Ok(envelope) = Envelope::parse(octets) {
        if let Ok(json) = envelope.to_json() {
            let again = Envelope::parse(json.as_bytes()).expect("what is written can be read");
            assert_eq!(again, envelope);
        }
        assert!(envelope.message().starts_with(b"DSSEv1 "));
        assert!(envelope.message().ends_with(envelope.unverified_payload()));
        payload(envelope.unverified_payload());
    }
    payload(octets);
    if let Ok(chain) = RootChain::pinned(octets) {
        // Whoever holds keys can make a root of their own, but none that follows another's.
        assert!(client.advance(octets).is_err());
        assert!(chain.newest().version() >= 1);
    }
    assert!(client.accept(octets, NOW).is_err());
    if let Ok(restored) = FeedState::restore("prod", root, octets) {
        assert!(restored.content.is_none(), "nobody signed this");
    }
    let _ = PublicKey::from_pem(octets);
    let _ = KeyPair::from_pem(octets);
}

fn payload(octets: &[u8]) {
    if let Ok(payload) = FeedPayload::parse(octets) {
        let envelope = payload.to_envelope().expect("what was read can be written");
        let again = FeedPayload::parse(envelope.unverified_payload());
        assert_eq!(again.expect("what is written can be read"), payload);
    }
    if let Ok(root) = RootMetadata::parse(octets) {
        let envelope = root.to_envelope().expect("what was read can be written");
        let again = RootMetadata::parse(envelope.unverified_payload());
        assert_eq!(again.expect("what is written can be read"), root);
    }
}

/// Rule text, from XML to a compiled set.
pub(crate) fn rules(octets: &[u8]) {
    let Ok(text) = str::from_utf8(octets) else {
        return;
    };
    let origin = SourceOrigin {
        name: "fuzz.xml".to_owned(),
        line: 1,
        column: 1,
    };
    let Ok(source) = RuleSource::parse(text, &origin) else {
        return;
    };
    let mut builder = RuleSet::builder(RuleLimits::default());
    if builder.add(&source, RuleOrigin::local("fuzz.xml")).is_ok() {
        let _ = builder.build().rules().count();
    }
}
