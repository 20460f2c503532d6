//! Every limit of a signed document from both sides.

use stopgap::signature::{Fault, Verifier};
use stopgap::xml::Limits;

use super::{DOCUMENT, NOW, fault, timestamped};
use crate::support::allocations::peak;
use crate::support::signer::{Options, Publisher};

/// Pads an element of a signed document with white space and verifies it.
fn with_padding(publisher: &Publisher, start_tag: &str, padding: usize) -> Result<(), Fault> {
    let signed = String::from_utf8(publisher.sign(DOCUMENT)).unwrap();
    let padded = signed.replacen(start_tag, &format!("{start_tag}{}", " ".repeat(padding)), 1);
    let verifier = Verifier::xmldsig_x509(publisher.policy()).unwrap();
    fault(verifier.verify(padded.as_bytes(), NOW, None))
}

#[test]
fn base64_has_a_longest_length() {
    let publisher = Publisher::with(timestamped(Options::default()));
    let signed = String::from_utf8(publisher.sign(DOCUMENT)).unwrap();
    for name in ["SignatureValue", "X509Certificate"] {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let start = signed.find(&open).unwrap();
        let room = (128 << 10) - signed[start..].find(&close).unwrap() - close.len();
        let padded = |padding| with_padding(&publisher, &open, padding);
        assert_eq!(padded(room), Ok(()), "{name}");
        assert_eq!(padded(room + 1), Err(Fault::Profile), "{name}");
    }
}

#[test]
fn signed_info_has_a_longest_form() {
    let publisher = Publisher::new();
    let signed = String::from_utf8(publisher.sign(DOCUMENT)).unwrap();
    let document = stopgap::xml::Document::parse(signed.as_bytes(), &Limits::default()).unwrap();
    let signed_info = document
        .root()
        .descendants()
        .find(|element| element.name() == "SignedInfo")
        .unwrap();
    let room = (64 << 10) - signed_info.canonical().to_vec().len();
    let padded = |padding| with_padding(&publisher, "<SignedInfo>", padding);
    assert_eq!(padded(room), Err(Fault::Signature));
    assert_eq!(padded(room + 1), Err(Fault::Profile));
}

#[test]
fn a_document_has_a_most_of_elements() {
    let publisher = Publisher::new();
    let verifier = Verifier::xmldsig_x509(publisher.policy()).unwrap();
    let with_elements = |count: usize| {
        let text = format!("<EOCS>{}</EOCS>", "<a/>".repeat(count - 1));
        fault(verifier.verify(text.as_bytes(), NOW, None))
    };
    // Accepted as XML, and then found to have no signature.
    assert_eq!(with_elements(1 << 16), Err(Fault::Profile));
    assert_eq!(with_elements((1 << 16) + 1), Err(Fault::Document));
}

#[test]
fn a_long_canonical_form_is_refused() {
    let publisher = Publisher::new();
    let text = format!("<EOCS><Value>{}</Value></EOCS>", ">".repeat(5_000));
    let signed = publisher.sign(&text);
    let with_bytes = |bytes: usize| {
        let limits = Limits {
            bytes,
            ..Limits::default()
        };
        let verifier = Verifier::xmldsig_x509(publisher.policy())
            .unwrap()
            .with_limits(limits);
        fault(verifier.verify(&signed, NOW, None))
    };
    let canonical = "<EOCS><Value></Value></EOCS>".len() + 5_000 * "&gt;".len();
    assert!(canonical > signed.len());
    assert_eq!(with_bytes(canonical), Ok(()));
    assert_eq!(with_bytes(canonical - 1), Err(Fault::Document));
}

/// Verification holds at most four times the longest document at once, the document itself counted, whatever that is made
/// of; the octets that were signed are among it when it is accepted.
#[test]
fn memory_has_a_bound() {
    let publisher = Publisher::new();
    let verifier = Verifier::xmldsig_x509(publisher.policy()).unwrap();
    // Room for the signature, so that the whole is as long as a document may be.
    let room = Limits::BYTES - 8 * 1024;
    let fill = |piece: &str, most: usize| piece.repeat((room / piece.len()).min(most));
    let nodes = 60_000;
    for (name, content) in [
        ("text", fill("some words ", usize::MAX)),
        ("references", fill("&#65;", usize::MAX)),
        ("escapes", fill("&gt;", usize::MAX)),
        (
            "elements",
            fill(&format!("<e>{}</e>", " ".repeat(60)), nodes / 2),
        ),
        (
            "attributes",
            fill(&format!("<e a='{}'/>", "x".repeat(50)), nodes),
        ),
        (
            "decoded attributes",
            fill(&format!("<e a='&#9;{}'/>", "x".repeat(45)), nodes),
        ),
        (
            "one long value",
            format!("<e a='&#9;{}'/>", "x".repeat(room - 100)),
        ),
        (
            "namespaces",
            fill(&format!("<e xmlns:a='urn:{}'/>", "x".repeat(40)), nodes),
        ),
    ] {
        let signed = publisher.sign(&format!("<EOCS><d>{content}</d></EOCS>"));
        assert!(signed.len() <= Limits::BYTES, "{name}");
        // A digest that begins otherwise; what is signed begins the same.
        let digest = b"<DigestValue>";
        let at = signed.windows(digest.len()).position(|own| own == digest);
        let at = at.unwrap() + digest.len();
        let mut forged = signed.clone();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        for (standing, document, expected) in [
            ("genuine", &signed, Ok(())),
            ("forged", &forged, Err(Fault::Digest)),
        ] {
            let (held, result) = peak(|| verifier.verify(document, NOW, None));
            println!(
                "{name}, {standing}: {held} octets beside {}",
                document.len()
            );
            assert_eq!(fault(result), expected, "{name}");
            assert!(
                held + document.len() <= 4 * Limits::BYTES,
                "{name}, {standing}: {held}"
            );
        }
    }
}
