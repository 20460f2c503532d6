//! Reads the one form of signature that is accepted, strictly: any other element, attribute or order is refused.
//!
//! An enveloped XMLDSig signature as the root's last child: one reference to the whole document, Canonical XML 1.0,
//! SHA-256, RSA or P-256. Certificates are taken as claims; a bare key is not looked at.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::algorithm::XmlSignature;
use super::error::VerifyError;
use crate::model::Digest;
use crate::xml::{Document, Element};

/// The most certificates in one place of a document.
pub(super) const CERTIFICATES: usize = 8;

/// The longest element that holds Base64, with its tags: room for any certificate and any token.
const ENCODED_BYTES: usize = 128 << 10;

const XMLDSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const COUNTERSIGNATURE: &str = "http://schemas.microsoft.com/xmldsig/timestamp/2003";
const CANONICAL_XML: &str = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";

/// A signature as the document claims it.
pub(super) struct Signature<'d> {
    /// The whole `Signature` element, which is not part of what was signed.
    pub(super) element: Element<'d>,
    pub(super) signed_info: Element<'d>,
    pub(super) algorithm: XmlSignature,
    pub(super) digest: Digest,
    pub(super) value: Vec<u8>,
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) timestamp: Option<Timestamp>,
}

/// A timestamp of the signature's value, as the document claims it.
pub(super) struct Timestamp {
    pub(super) token: Vec<u8>,
    pub(super) certificates: Vec<Vec<u8>>,
}

/// Finds and reads the signature of an `EOCS` document, made with one of `algorithms`.
pub(super) fn read<'d>(
    document: &'d Document,
    algorithms: &[XmlSignature],
) -> Result<Signature<'d>, VerifyError> {
    let root = document.root();
    if !root.is("", "EOCS") {
        return Err(wrong(root, "the root element must be EOCS in no namespace"));
    }
    let mut signatures = root
        .descendants()
        .filter(|element| element.is(XMLDSIG, "Signature"));
    let Some(signature) = signatures.next() else {
        return Err(wrong(root, "the document has no signature"));
    };
    if let Some(second) = signatures.next() {
        return Err(wrong(second, "the document has a second signature"));
    }
    if root.children().last() != Some(signature) || root.has_text() {
        return Err(wrong(
            signature,
            "the signature must be the last thing in the root element",
        ));
    }
    expect_attributes(signature, &[])?;
    let mut parts = Parts::of(signature)?;
    let signed_info = parts.next("SignedInfo")?;
    let value = octets(parts.next("SignatureValue")?)?;
    let certificates = key_info(parts.next("KeyInfo")?)?;
    let timestamp = parts.optional("Object")?.map(timestamp).transpose()?;
    parts.end()?;
    let (algorithm, digest) = read_signed_info(signed_info, algorithms)?;
    Ok(Signature {
        element: signature,
        signed_info,
        algorithm,
        digest,
        value,
        certificates,
        timestamp,
    })
}

fn read_signed_info(
    signed_info: Element<'_>,
    algorithms: &[XmlSignature],
) -> Result<(XmlSignature, Digest), VerifyError> {
    expect_attributes(signed_info, &[])?;
    let mut parts = Parts::of(signed_info)?;
    expect_algorithm(parts.next("CanonicalizationMethod")?, CANONICAL_XML)?;
    let method = parts.next("SignatureMethod")?;
    let algorithm = algorithms
        .iter()
        .copied()
        .find(|algorithm| expect_algorithm(method, algorithm.uri()).is_ok())
        .ok_or_else(|| wrong(method, "this signature method is not accepted"))?;
    let reference = parts.next("Reference")?;
    parts.end()?;

    expect_attributes(reference, &[("URI", "")])?;
    let mut parts = Parts::of(reference)?;
    let transforms = parts.next("Transforms")?;
    expect_algorithm(parts.next("DigestMethod")?, SHA256)?;
    let digest = parts.next("DigestValue")?;
    parts.end()?;

    expect_attributes(transforms, &[])?;
    let mut parts = Parts::of(transforms)?;
    expect_algorithm(parts.next("Transform")?, ENVELOPED)?;
    expect_algorithm(parts.next("Transform")?, CANONICAL_XML)?;
    parts.end()?;

    let octets = octets(digest)?
        .try_into()
        .map_err(|_| wrong(digest, "a SHA-256 digest has 32 octets"))?;
    Ok((algorithm, Digest::new(octets)))
}

/// The certificates of a `KeyInfo`. A `KeyValue` beside them is a key that nobody vouches for, and is passed over.
fn key_info(key_info: Element<'_>) -> Result<Vec<Vec<u8>>, VerifyError> {
    expect_attributes(key_info, &[])?;
    let mut parts = Parts::of(key_info)?;
    parts.optional("KeyValue")?;
    let certificates = x509_data(parts.next("X509Data")?)?;
    parts.optional("KeyValue")?;
    parts.end()?;
    Ok(certificates)
}

fn x509_data(data: Element<'_>) -> Result<Vec<Vec<u8>>, VerifyError> {
    expect_attributes(data, &[])?;
    let mut parts = Parts::of(data)?;
    let mut certificates = Vec::new();
    while let Some(certificate) = parts.optional("X509Certificate")? {
        if certificates.len() == CERTIFICATES {
            let words = format!("there may be at most {CERTIFICATES} certificates");
            return Err(wrong(certificate, words));
        }
        certificates.push(octets(certificate)?);
    }
    parts.end()?;
    Ok(certificates)
}

fn timestamp(object: Element<'_>) -> Result<Timestamp, VerifyError> {
    expect_attributes(object, &[("Id", "ts-countersig")])?;
    let mut parts = Parts::of(object)?;
    let certificates = match parts.optional("X509Data")? {
        Some(data) => x509_data(data)?,
        None => Vec::new(),
    };
    let countersignature = parts.next_of(COUNTERSIGNATURE, "CounterSignature")?;
    parts.end()?;
    if let Some(format) = countersignature.attribute("ts-format")
        && format.value() == "cms-timestamp-message"
        && countersignature.attributes().count() == 1
    {
        return Ok(Timestamp {
            token: octets(countersignature)?,
            certificates,
        });
    }
    Err(wrong(
        countersignature,
        "a countersignature must be a cms-timestamp-message",
    ))
}

/// The children of an element, to be read in the one order that is accepted.
struct Parts<'d, I: Iterator<Item = Element<'d>>> {
    parent: Element<'d>,
    children: std::iter::Peekable<I>,
}

impl<'d> Parts<'d, Box<dyn Iterator<Item = Element<'d>> + 'd>> {
    fn of(parent: Element<'d>) -> Result<Self, VerifyError> {
        if parent.has_text() {
            let words = format!("{} may hold no text", parent.name());
            return Err(wrong(parent, words));
        }
        let children: Box<dyn Iterator<Item = Element<'d>>> = Box::new(parent.children());
        Ok(Self {
            parent,
            children: children.peekable(),
        })
    }

    fn next(&mut self, name: &str) -> Result<Element<'d>, VerifyError> {
        self.next_of(XMLDSIG, name)
    }

    fn next_of(&mut self, namespace: &str, name: &str) -> Result<Element<'d>, VerifyError> {
        match self.children.next() {
            Some(child) if child.is(namespace, name) => Ok(child),
            Some(child) => Err(wrong(child, format!("{name} is expected here"))),
            None => Err(wrong(
                self.parent,
                format!("{} has no {name}", self.parent.name()),
            )),
        }
    }

    fn optional(&mut self, name: &str) -> Result<Option<Element<'d>>, VerifyError> {
        Ok(self.children.next_if(|child| child.is(XMLDSIG, name)))
    }

    fn end(mut self) -> Result<(), VerifyError> {
        match self.children.next() {
            Some(child) => Err(wrong(child, "this element is not accepted here")),
            None => Ok(()),
        }
    }
}

/// Fails unless the element has exactly these attributes.
fn expect_attributes(element: Element<'_>, expected: &[(&str, &str)]) -> Result<(), VerifyError> {
    let has_each = expected.iter().all(|(name, value)| {
        element
            .attribute(name)
            .is_some_and(|attribute| attribute.value() == *value)
    });
    if has_each && element.attributes().count() == expected.len() {
        return Ok(());
    }
    let wanted: String = expected
        .iter()
        .map(|(name, value)| format!(" {name}=\"{value}\""))
        .collect();
    Err(wrong(
        element,
        format!("only <{}{wanted}> is accepted here", element.name()),
    ))
}

/// Fails unless the element names this algorithm and nothing else.
fn expect_algorithm(element: Element<'_>, algorithm: &str) -> Result<(), VerifyError> {
    expect_attributes(element, &[("Algorithm", algorithm)])?;
    Parts::of(element)?.end()
}

/// The octets that an element's text is the Base64 of.
fn octets(element: Element<'_>) -> Result<Vec<u8>, VerifyError> {
    if let Some(child) = element.children().next() {
        return Err(wrong(child, "only text is accepted here"));
    }
    if element.source().len() > ENCODED_BYTES {
        let words = format!("{} may have at most {ENCODED_BYTES} bytes", element.name());
        return Err(wrong(element, words));
    }
    let text = element.text();
    let digits: Vec<u8> = text
        .bytes()
        .filter(|octet| !matches!(octet, b' ' | b'\t' | b'\r' | b'\n'))
        .collect();
    STANDARD.decode(digits).map_err(|error| {
        wrong(element, format!("{} is no Base64", element.name())).caused_by(error)
    })
}

fn wrong(element: Element<'_>, words: impl Into<std::borrow::Cow<'static, str>>) -> VerifyError {
    VerifyError::profile(element.position(), words)
}
