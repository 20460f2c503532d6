//! Attacks on readers of signed XML that are known from elsewhere: places where two readers see two documents, forms of
//! base64, keys put in a document's hands, and keys too weak to mean anything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stopgap::signature::{Fault, Verifier, sha256};
use stopgap::xml::{Document, Limits};

use super::tampering::check_changes;
use super::{DOCUMENT, NOW, fault, rsa, timestamped, verify};
use crate::support::signer::{Options, Publisher};

#[test]
fn what_two_readers_could_see_differently() {
    check_changes(&[
        (
            "text as CDATA",
            |s| s.replace("<Value>DoNothing<", "<Value><![CDATA[DoNothing]]><"),
            Ok(()),
        ),
        (
            "text as character references",
            |s| s.replace("<Value>DoNothing<", "<Value>&#68;oNothin&#x67;<"),
            Ok(()),
        ),
        (
            "a comment in a digest",
            |s| s.replace("<DigestValue>", "<DigestValue><!-- AAAA -->"),
            Ok(()),
        ),
        (
            "a comment in a certificate",
            |s| s.replace("<X509Certificate>M", "<X509Certificate><!-- A -->M"),
            Ok(()),
        ),
        (
            "a signature in a comment",
            |s| {
                s.replace(
                    "<Config ",
                    "<!-- <Signature xmlns='http://www.w3.org/2000/09/xmldsig#'/> --><Config ",
                )
            },
            Ok(()),
        ),
        (
            "content out of a comment",
            |s| s.replace("<!-- note -->", "<Config id='EVIL1'/>"),
            Err(Fault::Digest),
        ),
        (
            "content out of CDATA",
            |s| s.replace("<![CDATA[<a & b>]]>", "<a/>"),
            Err(Fault::Digest),
        ),
        (
            "a namespace said again",
            |s| {
                s.replace(
                    "<ActionList>",
                    "<ActionList xmlns:sg='urn:stopgap:feed:1' xmlns=''>",
                )
            },
            Ok(()),
        ),
        (
            "a prefix bound anew",
            |s| s.replace("<ActionList>", "<ActionList xmlns:sg='urn:other'>"),
            Err(Fault::Digest),
        ),
        (
            "a prefix bound anew around the signature's content",
            |s| s.replace("<SignedInfo>", "<SignedInfo xmlns:sg='urn:other'>"),
            Err(Fault::Signature),
        ),
        (
            "the signature's content out of its namespace",
            |s| s.replace("<SignedInfo>", "<SignedInfo xmlns=''>"),
            Err(Fault::Profile),
        ),
        (
            "the signature in a namespace of nearly that name",
            |s| {
                s.replace(
                    "2000/09/xmldsig#\"><SignedInfo",
                    "2000/09/xmldsig\"><SignedInfo",
                )
            },
            Err(Fault::Profile),
        ),
        (
            "xml:space on the root",
            |s| s.replace("<EOCS ", "<EOCS xml:space='preserve' "),
            Err(Fault::Digest),
        ),
        (
            "xml:lang on the signature",
            |s| s.replace("<Signature ", "<Signature xml:lang='en' "),
            Err(Fault::Profile),
        ),
        (
            "xml:id on what is signed",
            |s| s.replace("<Config ", "<Config xml:id='a' "),
            Err(Fault::Digest),
        ),
        (
            "one id twice",
            |s| s.replace("<ActionList>", "<ActionList Id='ts-countersig'>"),
            Err(Fault::Digest),
        ),
        (
            "an algorithm as character references",
            |s| s.replace("xmlenc#sha256", "xmlenc&#35;sha256"),
            Ok(()),
        ),
        (
            "an algorithm with a space",
            |s| s.replace("xmlenc#sha256", "xmlenc#sha256 "),
            Err(Fault::Profile),
        ),
        (
            "an algorithm in capitals",
            |s| s.replace("xmlenc#sha256", "xmlenc#SHA256"),
            Err(Fault::Profile),
        ),
        (
            "the whole document by XPointer",
            |s| s.replace("URI=\"\"", "URI=\"#xpointer(/)\""),
            Err(Fault::Profile),
        ),
        (
            "a document type with nothing in it",
            |s| s.replace("<EOCS ", "<!DOCTYPE EOCS><EOCS "),
            Err(Fault::Document),
        ),
        (
            "an attribute by default",
            |s| {
                s.replace(
                    "<EOCS ",
                    "<!DOCTYPE EOCS [<!ATTLIST Config id CDATA 'EVIL1'>]><EOCS ",
                )
            },
            Err(Fault::Document),
        ),
        (
            "parameter entities",
            |s| {
                s.replace(
                    "<EOCS ",
                    "<!DOCTYPE EOCS [<!ENTITY % a SYSTEM 'http://127.0.0.1/'>%a;]><EOCS ",
                )
            },
            Err(Fault::Document),
        ),
        (
            "a document type behind the root",
            |s| format!("{s}<!DOCTYPE EOCS>"),
            Err(Fault::Document),
        ),
        (
            "an instruction behind the root",
            |s| format!("{s}<?a b?>"),
            Err(Fault::Document),
        ),
        (
            "a second declaration",
            |s| s.replace("<EOCS ", "<?xml version=\"1.0\"?><EOCS "),
            Err(Fault::Document),
        ),
        (
            "XML 1.1",
            |s| s.replace("version=\"1.0\" enc", "version=\"1.1\" enc"),
            Err(Fault::Document),
        ),
        (
            "two byte order marks",
            |s| format!("\u{feff}\u{feff}{s}"),
            Err(Fault::Document),
        ),
        (
            "a zero octet behind the document",
            |s| format!("{s}\0"),
            Err(Fault::Document),
        ),
    ]);
}

#[test]
fn other_encodings_are_refused() {
    let publisher = Publisher::new();
    let signed = String::from_utf8(publisher.sign(DOCUMENT)).unwrap();
    let wide = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let marked = format!("\u{feff}{signed}");
        marked.encode_utf16().flat_map(order).collect()
    };
    let latin: Vec<u8> = signed.chars().map(|letter| letter as u32 as u8).collect();
    let overlong = signed.replace("PING1", "PING?").into_bytes();
    let overlong: Vec<u8> = overlong
        .iter()
        .flat_map(|octet| match octet {
            b'?' => vec![0xc0, 0xb1],
            other => vec![*other],
        })
        .collect();
    for (name, octets) in [
        ("UTF-16, the higher octet first", wide(u16::to_be_bytes)),
        ("UTF-16, the lower octet first", wide(u16::to_le_bytes)),
        ("Latin-1", latin),
        ("a longer form than needed", overlong),
    ] {
        let result = verify(&publisher, &octets);
        assert_eq!(fault(result), Err(Fault::Document), "{name}");
    }
}

/// Base64 has one form for a value but for white space, so that no octet hides in it.
#[test]
fn base64_has_one_form() {
    check_changes(&[
        (
            "every white space",
            |s| {
                s.replace(
                    "<SignatureValue>",
                    "<SignatureValue> \t\r\n&#13;&#10;&#9;&#32;",
                )
            },
            Ok(()),
        ),
        (
            "a space that is no white space",
            |s| s.replace("<SignatureValue>", "<SignatureValue>\u{a0}"),
            Err(Fault::Profile),
        ),
        (
            "a space of no width",
            |s| s.replace("<SignatureValue>", "<SignatureValue>\u{200b}"),
            Err(Fault::Profile),
        ),
        (
            "no padding",
            |s| s.replace("=</DigestValue>", "</DigestValue>"),
            Err(Fault::Profile),
        ),
        (
            "more padding",
            |s| s.replace("=</DigestValue>", "==</DigestValue>"),
            Err(Fault::Profile),
        ),
        (
            "spare bits",
            |s| {
                let end = s.find("=</DigestValue>").unwrap();
                // Of the last digit two bits count for nothing.
                let last = s.as_bytes()[end - 1];
                let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                let value = digits.iter().position(|digit| *digit == last).unwrap();
                format!(
                    "{}{}{}",
                    &s[..end - 1],
                    digits[value | 1] as char,
                    &s[end..]
                )
            },
            Err(Fault::Profile),
        ),
        (
            "data behind the padding",
            |s| s.replace("=</DigestValue>", "=AAAA</DigestValue>"),
            Err(Fault::Profile),
        ),
    ]);
}

/// Whoever brings a key of his own finds no place in the document from which it would be believed.
#[test]
fn keys_cannot_be_put_in_a_documents_hands() {
    let publisher = Publisher::with(timestamped(Options::default()));
    let stranger = Publisher::with(timestamped(Options::default()));
    let genuine = String::from_utf8(publisher.sign(DOCUMENT)).unwrap();
    let forged = String::from_utf8(stranger.sign(&DOCUMENT.replace("PING1", "EVIL1"))).unwrap();
    let certificates = |s: &str| {
        let start = s.find("<X509Data>").unwrap() + "<X509Data>".len();
        s[start..start + s[start..].find("</X509Data>").unwrap()].to_owned()
    };
    let (own, theirs) = (certificates(&genuine), certificates(&forged));
    let object = |s: &str| {
        let start = s.find("<Object").unwrap();
        s[start..s.find("</Signature>").unwrap()].to_owned()
    };
    let root = format!(
        "<X509Certificate>{}</X509Certificate>",
        STANDARD.encode(stranger.root_der())
    );
    for (name, document, expected) in [
        ("as it is", forged.clone(), Fault::Timestamp),
        (
            "the publisher's certificates before",
            forged.replacen(&theirs, &format!("{own}{theirs}"), 1),
            Fault::Timestamp,
        ),
        (
            "the publisher's certificates alone",
            forged.replacen(&theirs, &own, 1),
            Fault::Signature,
        ),
        (
            "a root of his own",
            forged.replacen(&theirs, &format!("{theirs}{root}"), 1),
            Fault::Timestamp,
        ),
        (
            "the publisher's timestamp",
            forged.replace(&object(&forged), &object(&genuine)),
            Fault::Timestamp,
        ),
    ] {
        let result = verify(&publisher, document.as_bytes());
        assert_eq!(fault(result), Err(expected), "{name}");
        // The same where timestamps are not asked for: then the chain is what stops it.
        let mut policy = publisher.policy();
        policy.require_timestamp = false;
        policy.timestamp_roots = stopgap::signature::TrustAnchors::default();
        let verifier = Verifier::xmldsig_x509(policy).unwrap();
        let result = verifier.verify(document.as_bytes(), NOW, None);
        let expected = match expected {
            Fault::Timestamp => Fault::Chain,
            other => other,
        };
        assert_eq!(fault(result), Err(expected), "{name}, without timestamps");
    }
}

/// With the exponent 1 a signature is what it signs, so that anybody can write one: RSA keys must be real ones, even
/// when an authority was talked into a certificate for another.
#[test]
fn weak_rsa_keys_sign_nothing() {
    for bits in [1_024, 2_048] {
        let mut options = rsa(Options::default());
        options.signer.exponent_one = Some(bits);
        let publisher = Publisher::with(options);
        let signed = String::from_utf8(publisher.sign(DOCUMENT)).unwrap();
        let document = Document::parse(signed.as_bytes(), &Limits::default()).unwrap();
        let signature = document.root().children().last().unwrap();
        let signed_info = signature.children().next().unwrap().canonical().to_vec();
        // PKCS #1 version 1.5: 00 01 FF … 00, then the digest with the name of its algorithm (RFC 8017 section 9.2).
        let digest_info = [
            b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
            sha256(&signed_info).octets().as_slice(),
        ]
        .concat();
        let padding = vec![0xff; bits / 8 - 3 - digest_info.len()];
        let value = [&[0, 1], padding.as_slice(), &[0], &digest_info].concat();
        let start = signed.find("<SignatureValue>").unwrap() + "<SignatureValue>".len();
        let end = signed.find("</SignatureValue>").unwrap();
        let forged = format!(
            "{}{}{}",
            &signed[..start],
            STANDARD.encode(value),
            &signed[end..]
        );
        let result = verify(&publisher, forged.as_bytes());
        assert_eq!(fault(result), Err(Fault::Signature), "{bits} bits");
    }
}
