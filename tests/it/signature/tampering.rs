//! Every way of changing a signed document: it is refused, or means what it meant before.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stopgap::signature::{Fault, Verifier, sha256};
use stopgap::xml::{Document, Limits};

use super::{DOCUMENT, NOW, fault, rsa, timestamped};
use crate::support::signer::{Options, Publisher};

const EVIL: &str = "<Config id=\"EVIL1\"><ActionList/></Config>";

/// A change of a signed document: its name, the change, and what becomes of it.
pub(super) type Change = (&'static str, fn(&str) -> String, Result<(), Fault>);

pub(super) fn check_changes(changes: &[Change]) {
    let publisher = Publisher::with(rsa(timestamped(Options::default())));
    let signed = String::from_utf8(publisher.sign(DOCUMENT)).unwrap();
    let verifier = Verifier::xmldsig_x509(publisher.policy()).unwrap();
    let genuine = verifier.verify(signed.as_bytes(), NOW, None).unwrap();
    for (name, change, expected) in changes {
        let changed = change(&signed);
        assert_ne!(changed, signed, "{name}: nothing was changed");
        let result = verifier.verify(changed.as_bytes(), NOW, None);
        if let Ok(verified) = &result {
            assert_eq!(verified.value(), genuine.value(), "{name}");
        }
        assert_eq!(fault(result), *expected, "{name}");
    }
}

/// The signature element of a signed document.
fn signature(signed: &str) -> &str {
    &signed[signed.find("<Signature ").unwrap()..signed.rfind("</EOCS>").unwrap()]
}

/// What stands between two texts, without them.
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let start = text.find(before).unwrap() + before.len();
    &text[start..start + text[start..].find(after).unwrap()]
}

#[test]
fn harmless_changes_are_accepted() {
    check_changes(&[
        ("line ends", |s| s.replace("\r\n", "\n"), Ok(())),
        ("byte order mark", |s| format!("\u{feff}{s}"), Ok(())),
        (
            "comment",
            |s| s.replace("DoNothing<", "Do<!-- x -->Nothing<"),
            Ok(()),
        ),
        (
            "order of attributes",
            |s| {
                s.replace(
                    "type=\"DoNothing\" scope=\"Server\"",
                    "scope=\"Server\" type=\"DoNothing\"",
                )
            },
            Ok(()),
        ),
        (
            "quotes and empty elements",
            |s| {
                s.replace("<Empty/>", "<Empty\n></Empty >")
                    .replace("\"PING1\"", "'PING1'")
            },
            Ok(()),
        ),
        (
            "no declaration",
            |s| s.replace("<?xml version=\"1.0\" encoding=\"utf-8\"?>", ""),
            Ok(()),
        ),
        (
            "prefix of the signature's namespace",
            |s| {
                s.replace(
                    "<KeyInfo>",
                    "<d:KeyInfo xmlns:d='http://www.w3.org/2000/09/xmldsig#'>",
                )
                .replace("</KeyInfo>", "</d:KeyInfo>")
            },
            Ok(()),
        ),
        (
            "white space in Base64",
            |s| s.replace("<SignatureValue>", "<SignatureValue>\n "),
            Ok(()),
        ),
        (
            "a bare key beside the certificates",
            |s| s.replace("<KeyInfo>", "<KeyInfo><KeyValue><RSAKeyValue/></KeyValue>"),
            Ok(()),
        ),
        (
            "certificates in another order",
            |s| {
                let [first, second] =
                    [0, 1].map(|n| s.match_indices("<X509Certificate>").nth(n).unwrap().0);
                let end = second + s[second..].find("</X509Data>").unwrap();
                format!(
                    "{}{}{}{}",
                    &s[..first],
                    &s[second..end],
                    &s[first..second],
                    &s[end..]
                )
            },
            Ok(()),
        ),
    ]);
}

#[test]
fn changed_content_is_refused() {
    check_changes(&[
        (
            "one letter",
            |s| s.replace("DoNothing</Value>", "DoNothinG</Value>"),
            Err(Fault::Digest),
        ),
        (
            "white space",
            |s| s.replace("<ActionList>", "<ActionList> "),
            Err(Fault::Digest),
        ),
        (
            "CR as a character reference",
            |s| {
                s.replace("\r\n</EOCS>", "&#13;\n</EOCS>")
                    .replace("\r\n  </Config>", "&#13;\n  </Config>")
            },
            Err(Fault::Digest),
        ),
        (
            "namespace declaration",
            |s| s.replace("<ActionList>", "<ActionList xmlns:x='y'>"),
            Err(Fault::Digest),
        ),
        (
            "attribute",
            |s| s.replace("<Empty/>", "<Empty a=''/>"),
            Err(Fault::Digest),
        ),
        (
            "version",
            |s| s.replace("1.0.4", "1.0.5"),
            Err(Fault::Digest),
        ),
        (
            "content before the signature",
            |s| s.replace("<Signature ", &format!("{EVIL}<Signature ")),
            Err(Fault::Digest),
        ),
        (
            "content after the signature",
            |s| s.replace("</EOCS>", &format!("{EVIL}</EOCS>")),
            Err(Fault::Profile),
        ),
        (
            "white space after the signature",
            |s| s.replace("</Signature>", "</Signature>\n"),
            Err(Fault::Digest),
        ),
        (
            "text after the signature",
            |s| s.replace("</Signature>", "</Signature>x"),
            Err(Fault::Profile),
        ),
        (
            "signature removed",
            |s| s.replace(signature(s), ""),
            Err(Fault::Profile),
        ),
        (
            "signature twice",
            |s| s.replace(signature(s), &signature(s).repeat(2)),
            Err(Fault::Profile),
        ),
        (
            "empty second signature",
            |s| {
                s.replace(
                    "<Config ",
                    "<Signature xmlns='http://www.w3.org/2000/09/xmldsig#'/><Config ",
                )
            },
            Err(Fault::Profile),
        ),
        (
            "content and its digest",
            |s| {
                let changed = s.replace("PING1", "EVIL1");
                let document = Document::parse(changed.as_bytes(), &Limits::default()).unwrap();
                let signature = document.root().children().last().unwrap();
                let digest = sha256(&document.canonical().without(signature).to_vec());
                let digest = STANDARD.encode(digest.octets());
                changed.replace(between(s, "<DigestValue>", "<"), &digest)
            },
            Err(Fault::Signature),
        ),
        (
            "another root element",
            |s| s.replace("EOCS", "EOCX"),
            Err(Fault::Profile),
        ),
        (
            "root in a namespace",
            |s| s.replace("<EOCS ", "<EOCS xmlns='u' "),
            Err(Fault::Profile),
        ),
    ]);
}

#[test]
fn wrapped_signatures_are_refused() {
    check_changes(&[
        (
            "the original moved inside a new root",
            |s| {
                let original = s[s.find("<EOCS").unwrap()..].replace(signature(s), "");
                format!("<EOCS>{EVIL}{original}{}</EOCS>", signature(s))
            },
            Err(Fault::Digest),
        ),
        (
            "the signed document wrapped whole",
            |s| {
                format!(
                    "<EOCS>{EVIL}<Wrapper>{}</Wrapper></EOCS>",
                    &s[s.find("<EOCS").unwrap()..]
                )
            },
            Err(Fault::Profile),
        ),
        (
            "the signed document as a last child",
            |s| format!("<EOCS>{EVIL}{}</EOCS>", &s[s.find("<EOCS").unwrap()..]),
            Err(Fault::Profile),
        ),
        (
            "the original in an object of the signature",
            |s| {
                let original = s[s.find("<EOCS").unwrap()..].replace(signature(s), "");
                let signature = signature(s).replace(
                    "</Signature>",
                    &format!("<Object>{original}</Object></Signature>"),
                );
                format!("<EOCS>{EVIL}{signature}</EOCS>")
            },
            Err(Fault::Profile),
        ),
        (
            "content in an object of the signature",
            |s| {
                s.replace(
                    "</Signature>",
                    &format!("<Object>{EVIL}</Object></Signature>"),
                )
            },
            Err(Fault::Profile),
        ),
        (
            "content in the timestamp's object",
            |s| {
                s.replace(
                    "<Object Id=\"ts-countersig\">",
                    &format!("<Object Id=\"ts-countersig\">{EVIL}"),
                )
            },
            Err(Fault::Profile),
        ),
        (
            "content in the signature",
            |s| s.replace("<KeyInfo>", &format!("{EVIL}<KeyInfo>")),
            Err(Fault::Profile),
        ),
        (
            "content in KeyInfo",
            |s| s.replace("</KeyInfo>", &format!("{EVIL}</KeyInfo>")),
            Err(Fault::Profile),
        ),
        (
            "the signature deeper in the document",
            |s| {
                let signature = signature(s).to_owned();
                s.replace(&signature, "")
                    .replace("</Config>", &format!("{signature}</Config>"))
            },
            Err(Fault::Profile),
        ),
        (
            "the signature first",
            |s| {
                let signature = signature(s).to_owned();
                s.replace(&signature, "")
                    .replace("<Config ", &format!("{signature}<Config "))
            },
            Err(Fault::Profile),
        ),
        (
            "a reference by id",
            |s| s.replace("URI=\"\"", "URI=\"#PING1\""),
            Err(Fault::Profile),
        ),
        (
            "a reference to a file",
            |s| s.replace("URI=\"\"", "URI=\"file:///etc/passwd\""),
            Err(Fault::Profile),
        ),
        (
            "a reference without URI",
            |s| s.replace(" URI=\"\"", ""),
            Err(Fault::Profile),
        ),
        (
            "a reference with a type",
            |s| s.replace("URI=\"\"", "URI=\"\" Type=\"\""),
            Err(Fault::Profile),
        ),
        (
            "two references",
            |s| {
                let reference = format!(
                    "<Reference {}</Reference>",
                    between(s, "<Reference ", "</Reference>")
                );
                s.replace(&reference, &reference.repeat(2))
            },
            Err(Fault::Profile),
        ),
    ]);
}

#[test]
fn other_algorithms_are_refused() {
    check_changes(&[
        (
            "XSLT",
            |s| {
                s.replacen(
                    "<Transform Algorithm=\"http://www.w3.org/TR/2001/REC-xml-c14n-20010315\"",
                    "<Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xslt-19991116\"",
                    1,
                )
            },
            Err(Fault::Profile),
        ),
        (
            "XPath",
            |s| {
                s.replace(
                    "enveloped-signature\" />",
                    "enveloped-signature\"><XPath>self::a</XPath></Transform>",
                )
            },
            Err(Fault::Profile),
        ),
        (
            "no enveloped transform",
            |s| {
                s.replace("<Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\" />", "")
            },
            Err(Fault::Profile),
        ),
        (
            "one more transform",
            |s| {
                s.replace("<Transforms>", "<Transforms><Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#base64\"/>")
            },
            Err(Fault::Profile),
        ),
        (
            "exclusive C14N",
            |s| s.replace("TR/2001/REC-xml-c14n-20010315", "2001/10/xml-exc-c14n#"),
            Err(Fault::Profile),
        ),
        (
            "C14N with comments",
            |s| s.replace("c14n-20010315", "c14n-20010315#WithComments"),
            Err(Fault::Profile),
        ),
        (
            "HMAC",
            |s| s.replace("rsa-sha256", "hmac-sha256"),
            Err(Fault::Profile),
        ),
        (
            "HMAC output length",
            |s| {
                s.replace(
                    "rsa-sha256\" />",
                    "rsa-sha256\"><HMACOutputLength>0</HMACOutputLength></SignatureMethod>",
                )
            },
            Err(Fault::Profile),
        ),
        (
            "RSA with SHA-1",
            |s| {
                s.replace(
                    "2001/04/xmldsig-more#rsa-sha256",
                    "2000/09/xmldsig#rsa-sha1",
                )
            },
            Err(Fault::Profile),
        ),
        (
            "ECDSA for RSA",
            |s| s.replace("#rsa-sha256", "#ecdsa-sha256"),
            Err(Fault::Signature),
        ),
        (
            "SHA-1 digest",
            |s| s.replace("2001/04/xmlenc#sha256", "2000/09/xmldsig#sha1"),
            Err(Fault::Profile),
        ),
        (
            "SHA-512 digest",
            |s| s.replace("xmlenc#sha256", "xmlenc#sha512"),
            Err(Fault::Profile),
        ),
        (
            "short digest",
            |s| s.replace(between(s, "<DigestValue>", "<"), "AAAA"),
            Err(Fault::Profile),
        ),
        (
            "empty digest",
            |s| s.replace(between(s, "<DigestValue>", "<"), ""),
            Err(Fault::Profile),
        ),
    ]);
}

#[test]
fn damaged_signatures_are_refused() {
    check_changes(&[
        (
            "white space in SignedInfo",
            |s| s.replace("<SignedInfo>", "<SignedInfo> "),
            Err(Fault::Signature),
        ),
        (
            "text in SignedInfo",
            |s| s.replace("<SignedInfo>", "<SignedInfo>x"),
            Err(Fault::Profile),
        ),
        (
            "an attribute on SignedInfo",
            |s| s.replace("<SignedInfo>", "<SignedInfo Id=''>"),
            Err(Fault::Profile),
        ),
        (
            "an attribute on the signature",
            |s| s.replace("<Signature ", "<Signature Id='' "),
            Err(Fault::Profile),
        ),
        (
            "empty value",
            |s| s.replace(between(s, "<SignatureValue>", "<"), ""),
            Err(Fault::Signature),
        ),
        (
            "short value",
            |s| s.replace("<SignatureValue>", "<SignatureValue>AAAA"),
            Err(Fault::Signature),
        ),
        (
            "no Base64",
            |s| s.replace("<SignatureValue>", "<SignatureValue>*"),
            Err(Fault::Profile),
        ),
        (
            "an element in the value",
            |s| s.replace("<SignatureValue>", "<SignatureValue><a/>"),
            Err(Fault::Profile),
        ),
        (
            "no KeyInfo",
            |s| {
                s.replace(
                    &format!(
                        "<KeyInfo>{}</KeyInfo>",
                        between(s, "<KeyInfo>", "</KeyInfo>")
                    ),
                    "",
                )
            },
            Err(Fault::Profile),
        ),
        (
            "a bare key alone",
            |s| s.replace(between(s, "<KeyInfo>", "</KeyInfo>"), "<KeyValue/>"),
            Err(Fault::Profile),
        ),
        (
            "no certificates",
            |s| s.replace(between(s, "<X509Data>", "</X509Data>"), ""),
            Err(Fault::Signature),
        ),
        (
            "certificates elsewhere",
            |s| s.replace("</KeyInfo>", "<RetrievalMethod URI='#x'/></KeyInfo>"),
            Err(Fault::Profile),
        ),
        (
            "two X509Data",
            |s| s.replace("</KeyInfo>", "<X509Data/></KeyInfo>"),
            Err(Fault::Profile),
        ),
        (
            "eight certificates",
            |s| {
                s.replacen(
                    "<X509Data>",
                    &format!("<X509Data>{}", "<X509Certificate/>".repeat(6)),
                    1,
                )
            },
            Ok(()),
        ),
        (
            "nine certificates",
            |s| {
                s.replacen(
                    "<X509Data>",
                    &format!("<X509Data>{}", "<X509Certificate/>".repeat(7)),
                    1,
                )
            },
            Err(Fault::Profile),
        ),
        (
            "no intermediate",
            |s| {
                let certificate = format!(
                    "<X509Certificate>{}</X509Certificate>",
                    between(s, "<X509Certificate>", "<")
                );
                s.replacen(&certificate, "", 1)
            },
            Err(Fault::Chain),
        ),
        (
            "timestamp removed",
            |s| {
                s.replace(
                    &s[s.find("<Object").unwrap()..s.find("</Signature>").unwrap()],
                    "",
                )
            },
            Err(Fault::TimestampMissing),
        ),
        (
            "two timestamps",
            |s| {
                let object = &s[s.find("<Object").unwrap()..s.find("</Signature>").unwrap()];
                s.replace(object, &object.repeat(2))
            },
            Err(Fault::Profile),
        ),
        (
            "another object id",
            |s| s.replace("ts-countersig", "ts"),
            Err(Fault::Profile),
        ),
        (
            "another timestamp format",
            |s| s.replace("cms-timestamp-message", "cms"),
            Err(Fault::Profile),
        ),
        (
            "empty token",
            |s| s.replace(between(s, "timestamp/2003\">", "<"), ""),
            Err(Fault::Timestamp),
        ),
        (
            "truncated token",
            |s| {
                let token = between(s, "timestamp/2003\">", "<");
                s.replace(token, &token[..token.len() / 8 * 4])
            },
            Err(Fault::Timestamp),
        ),
    ]);
}

#[test]
fn unacceptable_xml_is_refused() {
    check_changes(&[
        (
            "second root",
            |s| format!("{s}<EOCS/>"),
            Err(Fault::Document),
        ),
        (
            "text behind the root",
            |s| format!("{s}x"),
            Err(Fault::Document),
        ),
        (
            "entity bomb",
            |s| {
                s.replace("<EOCS ", "<!DOCTYPE EOCS [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]><EOCS ")
            },
            Err(Fault::Document),
        ),
        (
            "external DTD",
            |s| {
                s.replace(
                    "<EOCS ",
                    "<!DOCTYPE EOCS SYSTEM \"file:///etc/passwd\"><EOCS ",
                )
            },
            Err(Fault::Document),
        ),
        (
            "unknown entity",
            |s| s.replace("DoNothing</Value>", "&xxe;</Value>"),
            Err(Fault::Document),
        ),
        (
            "processing instruction",
            |s| s.replace("<EOCS ", "<?xml-stylesheet href=\"x\"?><EOCS "),
            Err(Fault::Document),
        ),
        (
            "deep nesting",
            |s| {
                s.replace(
                    "<Empty/>",
                    &format!("{}{}", "<a>".repeat(5000), "</a>".repeat(5000)),
                )
            },
            Err(Fault::Document),
        ),
        (
            "too long",
            |s| s.replace("<Empty/>", &" ".repeat(Limits::BYTES)),
            Err(Fault::Document),
        ),
        (
            "too many elements",
            |s| s.replace("<Empty/>", &"<a/>".repeat(100_000)),
            Err(Fault::Document),
        ),
        (
            "another encoding",
            |s| s.replace("utf-8", "utf-7"),
            Err(Fault::Document),
        ),
        (
            "control character",
            |s| s.replace("DoNothing<", "\0<"),
            Err(Fault::Document),
        ),
        (
            "attribute twice",
            |s| s.replace("scope=", "type='' scope="),
            Err(Fault::Document),
        ),
        ("nothing", |_| String::new(), Err(Fault::Document)),
    ]);
}
