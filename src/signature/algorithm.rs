//! Digests and signature algorithms: the few that are accepted, by the names that the formats give them.

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use webpki::{EndEntityCert, aws_lc_rs as algorithms};

use super::oid::{self, Oid};
use crate::model::Digest;

/// The SHA-256 digest of some octets (FIPS 180-4).
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut sum = Sha256::new();
    sum.update(bytes);
    sum.finish()
}

/// A SHA-256 digest in the making.
pub(super) struct Sha256(digest::Context);

impl Sha256 {
    pub(super) fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        let octets = self.0.finish();
        Digest::new(
            octets
                .as_ref()
                .try_into()
                .expect("a SHA-256 digest has 32 octets"),
        )
    }
}

/// A hash that timestamp tokens may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(super) fn from_oid(oid: Oid<'_>) -> Option<Self> {
        match oid {
            oid::SHA256 => Some(Self::Sha256),
            oid::SHA384 => Some(Self::Sha384),
            oid::SHA512 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Whether `expected` is the digest of `bytes`.
    pub(super) fn matches(self, bytes: &[u8], expected: &[u8]) -> bool {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes).as_ref() == expected
    }
}

type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

/// What certificates in a chain may be signed with.
pub(super) static CHAIN: Algorithms = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

static ECDSA_SHA256: Algorithms = &[algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA256];
static ECDSA_SHA384: Algorithms = &[algorithms::ECDSA_P256_SHA384, algorithms::ECDSA_P384_SHA384];
static P256_SHA256: Algorithms = &[algorithms::ECDSA_P256_SHA256];
static RSA_SHA256: Algorithms = &[algorithms::RSA_PKCS1_2048_8192_SHA256];
static RSA_SHA384: Algorithms = &[algorithms::RSA_PKCS1_2048_8192_SHA384];
static RSA_SHA512: Algorithms = &[algorithms::RSA_PKCS1_2048_8192_SHA512];

/// What a CMS signer's two algorithm fields stand for; `None` for what is not accepted, and for a pair that disagrees.
pub(super) fn of_signer(signature: Oid<'_>, hash: Hash) -> Option<Algorithms> {
    match (signature, hash) {
        (oid::ECDSA_SHA256, Hash::Sha256) => Some(ECDSA_SHA256),
        (oid::ECDSA_SHA384, Hash::Sha384) => Some(ECDSA_SHA384),
        (oid::RSA | oid::RSA_SHA256, Hash::Sha256) => Some(RSA_SHA256),
        (oid::RSA | oid::RSA_SHA384, Hash::Sha384) => Some(RSA_SHA384),
        (oid::RSA | oid::RSA_SHA512, Hash::Sha512) => Some(RSA_SHA512),
        _ => None,
    }
}

/// Whether the certificate's key made this signature with one of the algorithms.
pub(super) fn is_signed_by(
    certificate: &[u8],
    algorithms: Algorithms,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let certificate = CertificateDer::from(certificate);
    EndEntityCert::try_from(&certificate).is_ok_and(|certificate| {
        algorithms.iter().any(|algorithm| {
            certificate
                .verify_signature(*algorithm, message, signature)
                .is_ok()
        })
    })
}

/// A signature algorithm of XMLDSig.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum XmlSignature {
    EcdsaSha256,
    RsaSha256,
}

impl XmlSignature {
    /// The algorithm's identifier (RFC 9231 sections 2.3.2 and 2.3.6).
    pub(super) const fn uri(self) -> &'static str {
        match self {
            Self::EcdsaSha256 => "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
            Self::RsaSha256 => "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
        }
    }

    /// Whether the certificate's key made this signature.
    pub(super) fn is_signed_by(self, certificate: &[u8], message: &[u8], value: &[u8]) -> bool {
        match self {
            Self::EcdsaSha256 => p256_signature(value).is_some_and(|signature| {
                is_signed_by(certificate, P256_SHA256, message, &signature)
            }),
            Self::RsaSha256 => is_signed_by(certificate, RSA_SHA256, message, value),
        }
    }
}

/// XMLDSig writes an ECDSA signature as two numbers of equal width (RFC 9231 section 2.3.6), X.509 as a DER sequence.
fn p256_signature(value: &[u8]) -> Option<Vec<u8>> {
    const WIDTH: usize = 32;
    if value.len() != 2 * WIDTH {
        return None;
    }
    let mut numbers = Vec::with_capacity(2 * (WIDTH + 3));
    for number in value.chunks_exact(WIDTH) {
        let leading = number.iter().take_while(|octet| **octet == 0).count();
        let digits = &number[leading.min(WIDTH - 1)..];
        // A first bit that is set would make the number negative.
        let padding: &[u8] = if digits[0] & 0x80 != 0 { &[0] } else { &[] };
        numbers.extend([0x02, (padding.len() + digits.len()) as u8]);
        numbers.extend(padding);
        numbers.extend(digits);
    }
    Some([&[0x30, numbers.len() as u8], numbers.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_a_known_text() {
        assert_eq!(
            sha256(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn fixed_width_signatures_become_der() {
        let value = |r: u8, s: u8| {
            let mut value = [0; 64];
            (value[31], value[63]) = (r, s);
            value
        };
        assert_eq!(
            p256_signature(&value(1, 0x80)),
            Some(vec![0x30, 7, 2, 1, 1, 2, 2, 0, 0x80])
        );
        assert_eq!(
            p256_signature(&value(0, 0)),
            Some(vec![0x30, 6, 2, 1, 0, 2, 1, 0])
        );
        let widest = p256_signature(&[0xff; 64]).map(|signature| (signature.len(), signature[1]));
        assert_eq!(widest, Some((72, 70)));
        assert_eq!(p256_signature(&[1; 63]), None);
        assert_eq!(p256_signature(&[1; 65]), None);
    }
}
