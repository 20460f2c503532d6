//! Every limit of a signed document from both sides.

use stopgap::signature::{Fault, Verifier};
use stopgap::xml::Limits;

use super::{DOCUMENT, NOW, fault, timestamped};
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
