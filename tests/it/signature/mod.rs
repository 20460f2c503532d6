//! Signed documents: what is proven, by whom, and when.

mod hostile;
mod independent;
mod limits;
mod mutation;
mod tampering;

use std::time::Duration;

use rcgen::KeyUsagePurpose;
use stopgap::model::{Digest, UnixTime};
use stopgap::signature::{Fault, TrustAnchors, Verified, Verifier, VerifyError, XmlDsigPolicy};
use stopgap::xml::{Document, Limits, canonicalize};

use crate::support::signer::{
    Algorithm, CODE_SIGNING, EXCHANGE_XML, Options, Publisher, TIME_STAMPING, TokenForm,
};

/// Names a file with the feed as Microsoft serves it, which is not ours to copy.
const FEED_VARIABLE: &str = "STOPGAP_MS_FEED";

/// How often the feed is verified to see how long it takes, and the most processor time for each.
const ROUNDS: u32 = 200;
const MOST_PROCESSOR_TIME: Duration = Duration::from_millis(1);

/// The time that this thread has had a processor, where the system says so.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// 2026-11-23T12:00:00Z
const NOW: UnixTime = UnixTime::new(1_795_435_200);
/// 2021-09-15T16:42:08Z
const THEN: UnixTime = UnixTime::new(1_631_724_128);

/// A document with all that canonical XML changes: line ends, order, quotes, references, an empty element, a comment.
const DOCUMENT: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n\
    <EOCS xmlns:sg='urn:stopgap:feed:1' version=\"1.0.4\">\r\n  \
    <Config id=\"PING1\" desc='\"A\" &amp; &lt;b> \u{e9}&#10;' sg:serial=\"1\">\r\n    <!-- note -->\
    <ActionList><Action type=\"DoNothing\" scope=\"Server\" desc=\"Ping\"><Value>DoNothing</Value></Action>\
    <Empty/><Value><![CDATA[<a & b>]]></Value></ActionList>\r\n  </Config>\r\n</EOCS>";

fn timestamped(options: Options) -> Options {
    Options {
        timestamp: Some(THEN),
        ..options
    }
}

fn rsa(mut options: Options) -> Options {
    options.signer.algorithm = Algorithm::Rsa;
    options
}

fn verify(publisher: &Publisher, document: &[u8]) -> Result<Verified<Vec<u8>>, VerifyError> {
    Verifier::xmldsig_x509(publisher.policy())?.verify(document, NOW, None)
}

fn fault<T>(result: Result<T, VerifyError>) -> Result<(), Fault> {
    result.map(drop).map_err(|error| error.fault())
}

#[test]
fn genuine_documents_yield_their_canonical_octets() {
    let canonical =
        canonicalize(&Document::parse(DOCUMENT.as_bytes(), &Limits::default()).unwrap());
    for options in [
        Options::default(),
        rsa(Options::default()),
        timestamped(Options::default()),
        rsa(timestamped(Options::default())),
    ] {
        let publisher = Publisher::with(options);
        let verified = verify(&publisher, &publisher.sign(DOCUMENT)).unwrap();
        assert_eq!(verified.value(), &canonical);
        assert_eq!(verified.signed_at(), publisher.options.timestamp);
        assert_eq!(verified.signer(), publisher.signer_digest());
    }
}

#[test]
fn timestamp_tokens() {
    for (form, expected) in [
        (TokenForm::Plain, Ok(())),
        (TokenForm::Microsoft, Ok(())),
        (TokenForm::AttributeTwice, Err(Fault::Timestamp)),
        (TokenForm::Extension, Err(Fault::Timestamp)),
        (TokenForm::JunkBehind, Err(Fault::Timestamp)),
        (TokenForm::NoCertificateId, Err(Fault::Timestamp)),
        (TokenForm::NoContentType, Err(Fault::Timestamp)),
        (TokenForm::NoMessageDigest, Err(Fault::Timestamp)),
        (TokenForm::NoSigner, Err(Fault::Timestamp)),
        (TokenForm::OtherCertificateId, Err(Fault::Timestamp)),
        (TokenForm::OtherContentType, Err(Fault::Timestamp)),
        (TokenForm::OtherImprint, Err(Fault::Timestamp)),
        (TokenForm::OtherMessageDigest, Err(Fault::Timestamp)),
        (TokenForm::OtherSignature, Err(Fault::Timestamp)),
        (TokenForm::Sha1Imprint, Err(Fault::Timestamp)),
        (TokenForm::NineCertificates, Err(Fault::Timestamp)),
        (TokenForm::EightCertificates, Ok(())),
        (TokenForm::TwoSigners, Err(Fault::Timestamp)),
        (TokenForm::Version2, Err(Fault::Timestamp)),
    ] {
        let publisher = Publisher::with(timestamped(Options {
            token: form,
            ..Options::default()
        }));
        let result = verify(&publisher, &publisher.sign(DOCUMENT));
        assert_eq!(fault(result), expected, "{form:?}");
    }
}

#[test]
fn a_timestamp_is_bound_to_its_signature() {
    let publisher = Publisher::with(timestamped(Options::default()));
    let [mine, other] =
        [DOCUMENT, "<EOCS></EOCS>"].map(|text| String::from_utf8(publisher.sign(text)).unwrap());
    let object =
        |s: &str| s[s.find("<Object").unwrap()..s.find("</Signature>").unwrap()].to_owned();
    let swapped = mine.replace(&object(&mine), &object(&other));
    assert_eq!(
        fault(verify(&publisher, swapped.as_bytes())),
        Err(Fault::Timestamp)
    );
}

/// A chain's name, how it is made, and what becomes of a document that it signed.
type ChainCase = (&'static str, fn(&mut Options), Result<(), Fault>);

#[test]
fn chains() {
    let cases: &[ChainCase] = &[
        (
            "expired since, valid then",
            |o| o.signer.years = (2020, 2022),
            Ok(()),
        ),
        (
            "expired then",
            |o| o.signer.years = (2020, 2021),
            Err(Fault::Chain),
        ),
        (
            "not valid yet then",
            |o| o.signer.years = (2022, 2060),
            Err(Fault::Chain),
        ),
        (
            "expired, without a timestamp",
            |o| {
                o.signer.years = (2020, 2022);
                o.timestamp = None;
            },
            Err(Fault::Chain),
        ),
        (
            "authority of timestamps expired then",
            |o| o.authority.years = (2020, 2021),
            Err(Fault::Timestamp),
        ),
        (
            "authority of timestamps expired since",
            |o| o.authority.years = (2020, 2022),
            Ok(()),
        ),
        ("no key usage", |o| o.signer.key_usages.clear(), Ok(())),
        (
            "key usage content commitment",
            |o| o.signer.key_usages = vec![KeyUsagePurpose::ContentCommitment],
            Ok(()),
        ),
        (
            "key usage encipherment",
            |o| o.signer.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
            Err(Fault::Chain),
        ),
        (
            "timestamps by an encipherment key",
            |o| o.authority.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
            Err(Fault::Timestamp),
        ),
        (
            "intermediate that is no authority",
            |o| o.signer.may_issue = (false, true),
            Err(Fault::Chain),
        ),
        (
            "intermediate that may not sign certificates",
            |o| o.signer.may_issue = (true, false),
            Err(Fault::Chain),
        ),
        (
            "intermediate for code signing",
            |o| o.signer.authority_usages = vec![CODE_SIGNING.into()],
            Ok(()),
        ),
        (
            "intermediate for timestamps",
            |o| o.signer.authority_usages = vec![TIME_STAMPING.into()],
            Err(Fault::Chain),
        ),
        (
            "critical policies",
            |o| o.authority.critical_policies = true,
            Ok(()),
        ),
        (
            "critical policies of the signer's authority",
            |o| o.signer.critical_policies = true,
            Ok(()),
        ),
        (
            "critical policies, no authority",
            |o| {
                o.authority.critical_policies = true;
                o.authority.may_issue.0 = false;
            },
            Err(Fault::Timestamp),
        ),
        (
            "critical policies, may not sign certificates",
            |o| {
                o.authority.critical_policies = true;
                o.authority.may_issue.1 = false;
            },
            Err(Fault::Timestamp),
        ),
        (
            "critical policies, another purpose",
            |o| {
                o.authority.critical_policies = true;
                o.authority.authority_usages = vec![CODE_SIGNING.into()];
            },
            Err(Fault::Timestamp),
        ),
        (
            "critical policies and an unknown extension",
            |o| {
                o.authority.critical_policies = true;
                o.authority.critical_unknown = true;
            },
            Err(Fault::Timestamp),
        ),
        (
            "critical unknown extension",
            |o| o.signer.critical_unknown = true,
            Err(Fault::Chain),
        ),
        (
            "timestamps for two purposes",
            |o| o.authority.usages.push(CODE_SIGNING.into()),
            Err(Fault::Timestamp),
        ),
        (
            "timestamps for no purpose",
            |o| o.authority.usages.clear(),
            Err(Fault::Timestamp),
        ),
        (
            "timestamps for another purpose",
            |o| o.authority.usages = vec![CODE_SIGNING.into()],
            Err(Fault::Timestamp),
        ),
    ];
    for (name, change, expected) in cases {
        let mut options = timestamped(Options::default());
        change(&mut options);
        let publisher = Publisher::with(options);
        assert_eq!(
            fault(verify(&publisher, &publisher.sign(DOCUMENT))),
            *expected,
            "{name}"
        );
    }
}

/// A policy's name, how it differs from the publisher's own, and what becomes of the publisher's document.
type PolicyCase<'a> = (
    &'static str,
    Box<dyn Fn(&mut XmlDsigPolicy) + 'a>,
    Result<(), Fault>,
);

#[test]
fn policies() {
    let publisher = Publisher::with(timestamped(Options::default()));
    let stranger = Publisher::with(timestamped(Options::default()));
    let anchors = |root: Vec<u8>| TrustAnchors::from_der([root]).unwrap();
    let other = Digest::new([7; 32]);
    let cases: Vec<PolicyCase<'_>> = vec![
        (
            "another root of the same name",
            Box::new(|p| p.roots = anchors(stranger.root_der())),
            Err(Fault::Chain),
        ),
        (
            "several roots",
            Box::new(|p| {
                p.roots =
                    TrustAnchors::from_der([stranger.root_der(), publisher.root_der()]).unwrap()
            }),
            Ok(()),
        ),
        (
            "another root of timestamps",
            Box::new(|p| p.timestamp_roots = anchors(stranger.timestamp_root_der())),
            Err(Fault::Timestamp),
        ),
        (
            "roots swapped",
            Box::new(|p| std::mem::swap(&mut p.roots, &mut p.timestamp_roots)),
            Err(Fault::Timestamp),
        ),
        (
            "no purpose asked for",
            Box::new(|p| p.required_ekus.clear()),
            Ok(()),
        ),
        (
            "one purpose asked for",
            Box::new(|p| p.required_ekus = vec![EXCHANGE_XML.into()]),
            Ok(()),
        ),
        (
            "a purpose that is missing",
            Box::new(|p| p.required_ekus.push("1.2.3".into())),
            Err(Fault::Usage),
        ),
        (
            "denied",
            Box::new(|p| p.denied_signers = vec![other, publisher.signer_digest()]),
            Err(Fault::Signer),
        ),
        (
            "another denied",
            Box::new(|p| p.denied_signers = vec![other]),
            Ok(()),
        ),
        (
            "allowed",
            Box::new(|p| p.allowed_signers = vec![other, publisher.signer_digest()]),
            Ok(()),
        ),
        (
            "another allowed",
            Box::new(|p| p.allowed_signers = vec![other]),
            Err(Fault::Signer),
        ),
        (
            "allowed and denied",
            Box::new(|p| {
                p.allowed_signers = vec![publisher.signer_digest()];
                p.denied_signers = vec![publisher.signer_digest()];
            }),
            Err(Fault::Signer),
        ),
        (
            "timestamp not required",
            Box::new(|p| p.require_timestamp = false),
            Ok(()),
        ),
        (
            "timestamp not required, and of another root",
            Box::new(|p| {
                p.require_timestamp = false;
                p.timestamp_roots = anchors(stranger.timestamp_root_der());
            }),
            Err(Fault::Timestamp),
        ),
        (
            "timestamps not looked at",
            Box::new(|p| {
                p.require_timestamp = false;
                p.timestamp_roots = TrustAnchors::default();
            }),
            Ok(()),
        ),
    ];
    let signed = publisher.sign(DOCUMENT);
    for (name, change, expected) in cases {
        let mut policy = publisher.policy();
        change(&mut policy);
        let result = Verifier::xmldsig_x509(policy)
            .unwrap()
            .verify(&signed, NOW, None);
        assert_eq!(fault(result), expected, "{name}");
    }
    let strangers = stranger.sign(DOCUMENT);
    assert_eq!(fault(verify(&publisher, &strangers)), Err(Fault::Timestamp));
}

#[test]
fn impossible_policies_are_refused() {
    let publisher = Publisher::new();
    for change in [
        (|p| p.roots = TrustAnchors::default()) as fn(&mut XmlDsigPolicy),
        |p| {
            p.require_timestamp = true;
            p.timestamp_roots = TrustAnchors::default();
        },
        |p| p.required_ekus.push("code signing".into()),
    ] {
        let mut policy = publisher.policy();
        change(&mut policy);
        assert_eq!(
            fault(Verifier::xmldsig_x509(policy)),
            Err(Fault::Configuration)
        );
    }
    assert_eq!(
        fault(TrustAnchors::from_der([b"junk".to_vec()])),
        Err(Fault::Configuration)
    );
}

#[test]
fn times() {
    let publisher = Publisher::with(timestamped(Options::default()));
    let verifier = Verifier::xmldsig_x509(publisher.policy()).unwrap();
    let signed = publisher.sign(DOCUMENT);
    let at = |offset: i64| UnixTime::new(THEN.seconds().saturating_add_signed(offset));
    for (name, now, floor, expected) in [
        ("the first", NOW, None, Ok(())),
        ("newer than the last", NOW, Some(at(-1)), Ok(())),
        ("the last again", NOW, Some(THEN), Ok(())),
        (
            "older than the last",
            NOW,
            Some(at(1)),
            Err(Fault::Rollback),
        ),
        ("just now", THEN, None, Ok(())),
        ("ahead within the skew", at(-300), None, Ok(())),
        ("ahead beyond the skew", at(-301), None, Err(Fault::Future)),
        ("clock at zero", UnixTime::new(0), None, Err(Fault::Future)),
        (
            "far in the past",
            UnixTime::new(4_000_000_000),
            None,
            Ok(()),
        ),
    ] {
        assert_eq!(
            fault(verifier.verify(&signed, now, floor)),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_timestamp_cannot_be_cut_off_to_go_back() {
    let publisher = Publisher::new();
    let verifier = Verifier::xmldsig_x509(publisher.policy()).unwrap();
    let bare = publisher.sign(DOCUMENT);
    assert_eq!(fault(verifier.verify(&bare, NOW, None)), Ok(()));
    assert_eq!(
        fault(verifier.verify(&bare, NOW, Some(THEN))),
        Err(Fault::TimestampMissing)
    );
    let stamped = publisher.sign_at(DOCUMENT, Some(NOW));
    assert_eq!(fault(verifier.verify(&stamped, NOW, Some(THEN))), Ok(()));
}

#[test]
fn microsofts_profile_takes_nobody_elses_documents() {
    let verifier = Verifier::microsoft_eocs().unwrap();
    for (options, expected) in [
        (timestamped(rsa(Options::default())), Fault::Timestamp),
        (rsa(Options::default()), Fault::TimestampMissing),
        (timestamped(Options::default()), Fault::Profile),
    ] {
        let publisher = Publisher::with(options);
        let result = verifier.verify(&publisher.sign(DOCUMENT), NOW, None);
        assert_eq!(fault(result), Err(expected));
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let publisher = Publisher::new();
    let signed = String::from_utf8(publisher.sign("<EOCS>\n</EOCS>")).unwrap();
    let error = verify(
        &publisher,
        signed.replace("URI=\"\"", "URI=\"#a\"").as_bytes(),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(": only <Reference URI=\"\"> is accepted here"),
        "{error}"
    );
    assert_eq!(error.position().map(|position| position.line), Some(2));
    let error = verify(&publisher, b"<EOCS>").unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(error.to_string(), "the document is not accepted");
    assert_eq!(
        source.as_deref(),
        Some("line 1, column 7: the document ends before </EOCS>, opened at line 1, column 1")
    );
}

#[test]
fn microsofts_own_feed() {
    let Some(path) = std::env::var_os(FEED_VARIABLE) else {
        println!("SKIPPED: {FEED_VARIABLE} names no captured feed");
        return;
    };
    let feed = std::fs::read(path).expect("the feed is readable");
    let verifier = Verifier::microsoft_eocs().expect("the bundled roots are the pinned ones");
    let verified = verifier
        .verify(&feed, NOW, None)
        .expect("the feed is genuine");
    let started = processor_time();
    for _ in 0..ROUNDS {
        verifier
            .verify(&feed, NOW, None)
            .expect("the feed is genuine");
    }
    if let (Some(started), Some(ended)) = (started, processor_time()) {
        let each = (ended - started) / ROUNDS;
        println!("verified {} octets in {each:?} of CPU", feed.len());
        // What is promised is promised of what is shipped.
        assert!(cfg!(debug_assertions) || each < MOST_PROCESSOR_TIME);
    }
    assert_eq!(verified.value().len(), 333);
    assert_eq!(verified.signed_at(), Some(THEN));
    assert_eq!(fault(verifier.verify(&feed, NOW, Some(THEN))), Ok(()));

    let signed_part = feed.windows(10).position(|window| window == b"<Signature");
    for at in 0..signed_part.expect("it has a signature") {
        let mut changed = feed.clone();
        changed[at] ^= 1;
        if let Ok(again) = verifier.verify(&changed, NOW, None) {
            assert_eq!(again.value(), verified.value(), "octet {at}");
        }
    }
    let text = String::from_utf8(feed).expect("the feed is UTF-8");
    let changed = text.replacen("DoNothing<", "DoNothinG<", 1);
    assert_eq!(
        fault(verifier.verify(changed.as_bytes(), NOW, None)),
        Err(Fault::Digest)
    );
    for same in [text.replace("\r\n", "\n"), format!("\u{feff}{text}")] {
        let again = verifier
            .verify(same.as_bytes(), NOW, None)
            .expect("it means the same");
        assert_eq!(again.value(), verified.value());
    }
    let later = UnixTime::new(THEN.seconds() + 1);
    assert_eq!(
        fault(verifier.verify(text.as_bytes(), NOW, Some(later))),
        Err(Fault::Rollback)
    );
    let early = UnixTime::new(THEN.seconds() - 301);
    assert_eq!(
        fault(verifier.verify(text.as_bytes(), early, None)),
        Err(Fault::Future)
    );
}
