//! Ed25519 keys (RFC 8032) and their files: PEM as OpenSSL writes it (RFC 7468, RFC 8410).

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{self, SectionKind};

use super::error::{EnvelopeError, Kind};
use crate::model::Digest;
use crate::signature::sha256;

/// The longest file with a key, in bytes; a usual one has less than 300.
pub const KEY_FILE_BYTES: usize = 4 << 10;

/// What stands before the 32 octets of a key in its `SubjectPublicKeyInfo` (RFC 8410 section 4).
const PUBLIC_KEY_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The encodings of points of small order, by the low 255 bits: for such a key a signature over anything can be made up
/// by anybody.
const SMALL_ORDER: [[u8; 32]; 7] = {
    const fn near_prime(first: u8) -> [u8; 32] {
        let mut octets = [0xff; 32];
        octets[0] = first;
        octets[31] = 0x7f;
        octets
    }
    let mut one = [0; 32];
    one[0] = 1;
    [
        [0; 32],
        one,
        *b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
        *b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
        near_prime(0xec),
        near_prime(0xed),
        near_prime(0xee),
    ]
};

/// A public key: the 32 octets that tell it from every other one.
///
/// Shown as base64, which is how roots list it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Takes a key's octets.
    ///
    /// # Errors
    ///
    /// [`Fault::Key`](super::Fault::Key) for the few values under which anybody could sign.
    pub fn from_octets(octets: [u8; 32]) -> Result<Self, EnvelopeError> {
        let mut point = octets;
        point[31] &= 0x7f;
        if SMALL_ORDER.contains(&point) {
            return Err(refused(
                "this public key is of a kind that anybody can sign for",
            ));
        }
        Ok(Self(octets))
    }

    /// Reads the content of a file that holds one PEM block `PUBLIC KEY`, and any text around it.
    ///
    /// # Errors
    ///
    /// [`Fault::Key`](super::Fault::Key) when it is none, more than one, or of another algorithm.
    pub fn from_pem(content: &[u8]) -> Result<Self, EnvelopeError> {
        const NEITHER: &str = "this is no Ed25519 public key: give a file with one PEM block \
                               'PUBLIC KEY', as stopgap keygen writes it";
        let der = pem_block(content, SectionKind::PublicKey, NEITHER)?;
        let octets = der
            .strip_prefix(&PUBLIC_KEY_PREFIX)
            .and_then(|octets| octets.try_into().ok());
        Self::from_octets(octets.ok_or_else(|| refused(NEITHER))?)
    }

    /// The content of a file for this key: a comment line with its [`id`](Self::id), then PEM.
    pub fn to_pem(self) -> String {
        let der = [PUBLIC_KEY_PREFIX.as_slice(), &self.0].concat();
        format!(
            "stopgap public key {}\n{}",
            self.id(),
            pem_text("PUBLIC KEY", &der)
        )
    }

    /// The SHA-256 digest of its octets, by which people and envelopes name it.
    pub fn id(&self) -> Digest {
        sha256(&self.0)
    }

    /// Its octets.
    pub const fn octets(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn from_base64(text: &str) -> Result<Self, EnvelopeError> {
        let octets = STANDARD.decode(text).ok();
        let octets = octets.and_then(|octets| octets.try_into().ok());
        Self::from_octets(
            octets.ok_or_else(|| refused("a key is not written as the base64 of 32 octets"))?,
        )
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A secret key with its public one. Its debug form shows the public one alone.
pub struct KeyPair {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl KeyPair {
    /// Makes a new one from the system's random numbers.
    ///
    /// # Errors
    ///
    /// [`Fault::Key`](super::Fault::Key) when the system gives none.
    pub fn generate() -> Result<Self, EnvelopeError> {
        let pair = Ed25519KeyPair::generate()
            .map_err(|_| refused("no key could be made: the system gave no random numbers"))?;
        Self::new(pair)
    }

    /// Reads the content of a file that holds one PEM block `PRIVATE KEY`, not encrypted, and any text around it.
    ///
    /// # Errors
    ///
    /// [`Fault::Key`](super::Fault::Key) when it is none, more than one, encrypted, or of another algorithm.
    pub fn from_pem(content: &[u8]) -> Result<Self, EnvelopeError> {
        const NEITHER: &str = "this is no Ed25519 secret key: give a file with one PEM block \
                               'PRIVATE KEY' that is not encrypted, as stopgap keygen writes it";
        let der = pem_block(content, SectionKind::PrivateKey, NEITHER)?;
        Self::new(Ed25519KeyPair::from_pkcs8(&der).map_err(|_| refused(NEITHER))?)
    }

    /// The content of a file for this key: a comment line with its public key's id, then PEM. Keep it secret.
    ///
    /// # Errors
    ///
    /// [`Fault::Key`](super::Fault::Key) when the cryptographic library cannot write it.
    pub fn to_pem(&self) -> Result<String, EnvelopeError> {
        // OpenSSL reads no PKCS#8 of version 2.
        let der = self
            .pair
            .to_pkcs8v1()
            .map_err(|_| refused("the secret key could not be written"))?;
        Ok(format!(
            "stopgap SECRET key of public key {}\n{}",
            self.public.id(),
            pem_text("PRIVATE KEY", der.as_ref())
        ))
    }

    /// The public key.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        match self.pair.try_sign(message) {
            Ok(signature) => Ok(signature.as_ref().to_vec()),
            Err(_) => Err(refused("the secret key could not sign")),
        }
    }

    fn new(pair: Ed25519KeyPair) -> Result<Self, EnvelopeError> {
        let octets = pair.public_key().as_ref().try_into().ok();
        let octets = octets.ok_or_else(|| refused("the public key has not 32 octets"))?;
        Ok(Self {
            public: PublicKey::from_octets(octets)?,
            pair,
        })
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

const fn refused(words: &'static str) -> EnvelopeError {
    EnvelopeError::new(Kind::Key(words))
}

/// The only PEM block of a file, if it is of this kind.
fn pem_block(
    mut content: &[u8],
    wanted: SectionKind,
    words: &'static str,
) -> Result<Vec<u8>, EnvelopeError> {
    if content.len() > KEY_FILE_BYTES {
        return Err(refused(words));
    }
    let mut found = None;
    loop {
        let section = pem::from_buf(&mut content)
            .map_err(|error| refused(words).caused_by(PemFault(error)))?;
        match section {
            None => return found.ok_or_else(|| refused(words)),
            Some((kind, der)) if kind == wanted && found.is_none() => found = Some(der),
            Some(_) => return Err(refused(words)),
        }
    }
}

/// A PEM error whose text holds nothing of the file, which may be a secret one.
#[derive(Debug)]
struct PemFault(pem::Error);

impl fmt::Display for PemFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            pem::Error::Base64Decode(_) => "the PEM block is not base64",
            pem::Error::MissingSectionEnd { .. } => "the PEM block has no end line",
            _ => "the PEM block is malformed",
        })
    }
}

impl std::error::Error for PemFault {}

/// A PEM block. Both kinds of key are short enough for one line.
fn pem_text(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}
