//! A publisher of signed documents with certificates of its own, made when the test runs.
//!
//! `Publisher::new().sign("<EOCS ...>...</EOCS>")` is what the profile `xmldsig-x509` accepts when its root is
//! [`Publisher::root_der`]. Options choose the algorithm, the certificates and a timestamp.

mod authority;
mod der;
mod token;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stopgap::model::{Digest, UnixTime};
use stopgap::signature::{TrustAnchors, XmlDsigPolicy, sha256};
use stopgap::xml::{Document, Limits, canonicalize};

pub(crate) use authority::{Algorithm, ChainOptions};
pub(crate) use token::TokenForm;

use authority::Authority;

/// The purpose that code signing certificates have.
pub(crate) const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
/// The purpose that Microsoft's signer of mitigations has.
pub(crate) const EXCHANGE_XML: &str = "1.3.6.1.4.1.311.76.57.1.11";
/// The purpose that a timestamp authority has.
pub(crate) const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";

/// How a publisher signs.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) signer: ChainOptions,
    pub(crate) authority: ChainOptions,
    /// When the timestamp says that the signature was made; without one there is no timestamp.
    pub(crate) timestamp: Option<UnixTime>,
    pub(crate) token: TokenForm,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            signer: ChainOptions::new(&[CODE_SIGNING, EXCHANGE_XML]),
            authority: ChainOptions::new(&[TIME_STAMPING]),
            timestamp: None,
            token: TokenForm::Plain,
        }
    }
}

/// Signs documents.
pub(crate) struct Publisher {
    pub(crate) options: Options,
    signer: Authority,
    authority: Authority,
}

impl Publisher {
    /// A publisher with a P-256 key that makes no timestamps.
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self {
            signer: Authority::new("Publisher", &options.signer),
            authority: Authority::new("Timestamp", &options.authority),
            options,
        }
    }

    /// What a verifier needs to accept what this publisher signs.
    pub(crate) fn policy(&self) -> XmlDsigPolicy {
        XmlDsigPolicy {
            roots: TrustAnchors::from_der([self.root_der()]).unwrap(),
            timestamp_roots: TrustAnchors::from_der([self.timestamp_root_der()]).unwrap(),
            required_ekus: self.options.signer.usages.clone(),
            require_timestamp: self.options.timestamp.is_some(),
            ..XmlDsigPolicy::default()
        }
    }

    /// The root that the signer's certificate leads to.
    pub(crate) fn root_der(&self) -> Vec<u8> {
        self.signer.root.clone()
    }

    /// The root that the timestamp authority's certificate leads to.
    pub(crate) fn timestamp_root_der(&self) -> Vec<u8> {
        self.authority.root.clone()
    }

    /// The digest of the signer's certificate.
    pub(crate) fn signer_digest(&self) -> Digest {
        sha256(&self.signer.leaf)
    }

    /// The signer's private key (PKCS #8), certificate, and the certificate between it and the root.
    pub(crate) fn signer_der(&self) -> [Vec<u8>; 3] {
        [
            self.signer.key_der(),
            self.signer.leaf.clone(),
            self.signer.intermediate.clone(),
        ]
    }

    /// Puts a signature at the end of the document's root element.
    pub(crate) fn sign(&self, xml: &str) -> Vec<u8> {
        self.sign_at(xml, self.options.timestamp)
    }

    /// Signs with a timestamp of this time, or with none.
    pub(crate) fn sign_at(&self, xml: &str, timestamp: Option<UnixTime>) -> Vec<u8> {
        let document = Document::parse(xml.as_bytes(), &Limits::default()).unwrap();
        let digest = base64(sha256(&canonicalize(&document)).octets());
        let (open, close) = xml.rsplit_once("</").expect("the root has an end tag");
        let signed_info = signed_info(self.options.signer.algorithm, &digest);
        let enveloped = |rest: &str| {
            format!("{open}<Signature xmlns=\"{XMLDSIG}\">{signed_info}{rest}</Signature></{close}")
        };

        // In place, since the namespaces of the root are part of what is signed.
        let unsigned = enveloped("");
        let unsigned = Document::parse(unsigned.as_bytes(), &Limits::default()).unwrap();
        let signed_info = unsigned
            .root()
            .descendants()
            .find(|element| element.is(XMLDSIG, "SignedInfo"))
            .unwrap();
        let value = self.signature_value(&signed_info.canonical().to_vec());
        let object = timestamp
            .map(|time| self.object(&value, time))
            .unwrap_or_default();
        enveloped(&format!(
            "<SignatureValue>{}</SignatureValue><KeyInfo>{}</KeyInfo>{object}",
            base64(&value),
            x509_data(&self.signer),
        ))
        .into_bytes()
    }

    /// Signs as XMLDSig does: an ECDSA signature is two numbers of 32 octets.
    fn signature_value(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.signer.sign(message);
        match self.options.signer.algorithm {
            Algorithm::Rsa => signature,
            Algorithm::EcdsaP256 => {
                let mut value = Vec::new();
                for (_, number, header) in der::split(der::inside(&signature)) {
                    let digits: Vec<u8> = number[header..]
                        .iter()
                        .copied()
                        .skip_while(|d| *d == 0)
                        .collect();
                    value.extend(vec![0; 32 - digits.len()]);
                    value.extend(digits);
                }
                value
            }
        }
    }

    fn object(&self, value: &[u8], time: UnixTime) -> String {
        let token = token::token(&self.authority, value, time, self.options.token);
        format!(
            "<Object Id=\"ts-countersig\">{}<CounterSignature ts-format=\"cms-timestamp-message\" \
             xmlns=\"http://schemas.microsoft.com/xmldsig/timestamp/2003\">{}</CounterSignature></Object>",
            x509_data(&self.authority),
            base64(&token),
        )
    }
}

const XMLDSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

/// The one form of `SignedInfo` that is accepted.
pub(crate) fn signed_info(algorithm: Algorithm, digest: &str) -> String {
    let method = match algorithm {
        Algorithm::EcdsaP256 => "ecdsa-sha256",
        Algorithm::Rsa => "rsa-sha256",
    };
    let canonical = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315";
    format!(
        "<SignedInfo><CanonicalizationMethod Algorithm=\"{canonical}\" />\
         <SignatureMethod Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#{method}\" />\
         <Reference URI=\"\"><Transforms><Transform Algorithm=\"{XMLDSIG}enveloped-signature\" />\
         <Transform Algorithm=\"{canonical}\" /></Transforms>\
         <DigestMethod Algorithm=\"http://www.w3.org/2001/04/xmlenc#sha256\" />\
         <DigestValue>{digest}</DigestValue></Reference></SignedInfo>"
    )
}

fn x509_data(authority: &Authority) -> String {
    let certificate = |der: &[u8]| format!("<X509Certificate>{}</X509Certificate>", base64(der));
    format!(
        "<X509Data>{}{}</X509Data>",
        certificate(&authority.intermediate),
        certificate(&authority.leaf)
    )
}

fn base64(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}
