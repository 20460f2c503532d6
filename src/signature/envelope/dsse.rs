//! The envelope of the Dead Simple Signing Envelope specification, version 1: a payload, its type, and signatures.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::error::{EnvelopeError, JsonFault, Kind};
use super::key::{KeyPair, PublicKey};
use super::role::Role;
use crate::model::Digest;

/// The `payloadType` of a feed.
pub const FEED_TYPE: &str = "application/vnd.stopgap.feed.v1+json";
/// The `payloadType` of a root.
pub const ROOT_TYPE: &str = "application/vnd.stopgap.root.v1+json";
/// The longest envelope of a feed, in bytes.
pub const ENVELOPE_BYTES: usize = 4 << 20;
/// The longest envelope of a root, in bytes; one with every key and signature that there can be has less than 20,000.
pub const ROOT_BYTES: usize = 64 << 10;
/// The most signatures of one envelope.
pub const SIGNATURES: usize = 32;

/// An envelope as it was read or is being made. Nothing in it is proven by itself.
///
/// Its debug form leaves the payload out, which can be megabytes.
#[derive(Clone, Eq, PartialEq)]
pub struct Envelope {
    payload_type: String,
    /// The pre-authentication encoding, which ends with the payload: one buffer for both, since feeds are large.
    message: Vec<u8>,
    payload_at: usize,
    signatures: Vec<Signature>,
}

/// A signature with the name of the key that is said to have made it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Signature {
    key: Digest,
    octets: [u8; 64],
}

impl Envelope {
    /// Reads an envelope's JSON.
    ///
    /// Only the members of the specification are accepted, base64 in its standard alphabet with padding, and no two
    /// signatures that name one key. A `keyid` is the SHA-256 digest of the key in hexadecimal; it only says which key
    /// to try, and a key counts by its octets.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`](super::Fault::Malformed) when it has another form, is longer than [`ENVELOPE_BYTES`]
    /// ([`ROOT_BYTES`] when it is a root), or has more than [`SIGNATURES`] signatures.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let too_large = |most| {
            Err(EnvelopeError::new(Kind::TooLarge {
                what: "envelope",
                most,
            }))
        };
        if bytes.len() > ENVELOPE_BYTES {
            return too_large(ENVELOPE_BYTES);
        }
        let file: FileEnvelope<'_> = serde_json::from_slice(bytes).map_err(|error| {
            malformed("is not the JSON object {payloadType, payload, signatures}")
                .caused_by(JsonFault::of(&error))
        })?;
        if file.payload_type == ROOT_TYPE && bytes.len() > ROOT_BYTES {
            return too_large(ROOT_BYTES);
        }
        if file.signatures.len() > SIGNATURES {
            return Err(malformed("has more than 32 signatures"));
        }
        let mut envelope = Self::with_payload(&file.payload_type, |message| {
            STANDARD
                .decode_vec(file.payload.as_bytes(), message)
                .map_err(|error| malformed("has a payload that is not base64").caused_by(error))
        })?;
        for signature in &file.signatures {
            let signature = signature.check()?;
            if envelope.names(signature.key) {
                return Err(malformed("has two signatures that name one key"));
            }
            envelope.signatures.push(signature);
        }
        Ok(envelope)
    }

    /// Its `payloadType`.
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// Its payload, which nothing here proves.
    pub fn unverified_payload(&self) -> &[u8] {
        &self.message[self.payload_at..]
    }

    /// The ids of the keys that are said to have signed it, which nothing here proves.
    pub fn unverified_signers(&self) -> impl ExactSizeIterator<Item = Digest> + '_ {
        self.signatures.iter().map(|signature| signature.key)
    }

    /// The octets that are signed: `DSSEv1`, lengths, type and payload. A signer outside this program gets exactly these.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Adds a signature by this key.
    ///
    /// # Errors
    ///
    /// As [`attach`](Self::attach).
    pub fn sign(&mut self, key: &KeyPair) -> Result<(), EnvelopeError> {
        let signature = key.sign(&self.message)?;
        self.attach(&key.public(), &signature)
    }

    /// Adds a signature that was made outside this program over [`message`](Self::message).
    ///
    /// # Errors
    ///
    /// [`Fault::Publishing`](super::Fault::Publishing) when it is not that key's, or the key has signed already;
    /// [`Fault::Malformed`](super::Fault::Malformed) when there are [`SIGNATURES`] already.
    pub fn attach(&mut self, key: &PublicKey, signature: &[u8]) -> Result<(), EnvelopeError> {
        let id = key.id();
        if self.names(id) {
            return Err(EnvelopeError::new(Kind::AlreadySigned(id)));
        }
        if self.signatures.len() >= SIGNATURES {
            return Err(malformed("has 32 signatures already"));
        }
        match <[u8; 64]>::try_from(signature) {
            Ok(octets) if key.verifies(&self.message, &octets) => {
                self.signatures.push(Signature { key: id, octets });
                Ok(())
            }
            _ => Err(EnvelopeError::new(Kind::ForeignSignature(id))),
        }
    }

    /// Its JSON, on one line.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`](super::Fault::Malformed) when it would be longer than clients accept.
    pub fn to_json(&self) -> Result<String, EnvelopeError> {
        let file = FileEnvelope {
            payload_type: Cow::Borrowed(&self.payload_type),
            payload: Cow::Owned(STANDARD.encode(self.unverified_payload())),
            signatures: self.signatures.iter().map(FileSignature::of).collect(),
        };
        let mut text = serde_json::to_string(&file)
            .map_err(|error| malformed("cannot be written").caused_by(error))?;
        text.push('\n');
        let (what, most) = match self.payload_type == ROOT_TYPE {
            true => ("root's envelope", ROOT_BYTES),
            false => ("envelope", ENVELOPE_BYTES),
        };
        match text.len() <= most {
            true => Ok(text),
            false => Err(EnvelopeError::new(Kind::TooLarge { what, most })),
        }
    }

    /// An envelope without signatures.
    pub(super) fn unsigned(payload_type: &str, payload: &[u8]) -> Result<Self, EnvelopeError> {
        Self::with_payload(payload_type, |message| {
            message.extend_from_slice(payload);
            Ok(())
        })
    }

    /// The payload, if it is of this type and enough keys of the role signed it, and the keys that did.
    ///
    /// `signers` names the role in words. Each key is tried once at most, so that an envelope costs no more than
    /// [`SIGNATURES`] verifications.
    pub(super) fn open(
        &self,
        payload_type: &'static str,
        role: &Role,
        signers: &'static str,
    ) -> Result<(&[u8], BTreeSet<PublicKey>), EnvelopeError> {
        if self.payload_type != payload_type {
            return Err(EnvelopeError::new(Kind::Type {
                found: self.payload_type.chars().take(128).collect(),
                expected: payload_type,
            }));
        }
        let has_signed = |key: &PublicKey| {
            let id = key.id();
            let mut named = self.signatures.iter().filter(|named| named.key == id);
            named.any(|signature| key.verifies(&self.message, &signature.octets))
        };
        let signed: BTreeSet<PublicKey> = role.keys().filter(has_signed).collect();
        if signed.len() < role.threshold() {
            return Err(EnvelopeError::new(Kind::Threshold {
                signers,
                found: signed.len(),
                needed: role.threshold(),
            }));
        }
        Ok((self.unverified_payload(), signed))
    }

    fn with_payload(
        payload_type: &str,
        write_payload: impl FnOnce(&mut Vec<u8>) -> Result<(), EnvelopeError>,
    ) -> Result<Self, EnvelopeError> {
        let mut payload = Vec::new();
        write_payload(&mut payload)?;
        let mut message = format!(
            "DSSEv1 {} {payload_type} {} ",
            payload_type.len(),
            payload.len()
        )
        .into_bytes();
        let payload_at = message.len();
        message.append(&mut payload);
        Ok(Self {
            payload_type: payload_type.to_owned(),
            message,
            payload_at,
            signatures: Vec::new(),
        })
    }

    fn names(&self, key: Digest) -> bool {
        self.signatures.iter().any(|named| named.key == key)
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("payload_type", &self.payload_type)
            .field("payload_bytes", &self.unverified_payload().len())
            .field("signatures", &self.signatures)
            .finish()
    }
}

const fn malformed(words: &'static str) -> EnvelopeError {
    EnvelopeError::malformed("envelope", words)
}

/// An envelope as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FileEnvelope<'a> {
    #[serde(borrow)]
    payload_type: Cow<'a, str>,
    #[serde(borrow)]
    payload: Cow<'a, str>,
    #[serde(borrow)]
    signatures: Vec<FileSignature<'a>>,
}

/// A signature as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileSignature<'a> {
    #[serde(borrow)]
    keyid: Cow<'a, str>,
    #[serde(borrow)]
    sig: Cow<'a, str>,
}

impl FileSignature<'_> {
    fn of(signature: &Signature) -> Self {
        Self {
            keyid: Cow::Owned(signature.key.to_string()),
            sig: Cow::Owned(STANDARD.encode(signature.octets)),
        }
    }

    fn check(&self) -> Result<Signature, EnvelopeError> {
        let key = Digest::from_hex(&self.keyid).filter(|key| key.to_string() == self.keyid);
        let key = key.ok_or_else(|| {
            malformed(
                "has a keyid that is not a SHA-256 digest in 64 lower-case hexadecimal digits",
            )
        })?;
        let octets = STANDARD.decode(self.sig.as_bytes()).ok();
        let octets = octets
            .and_then(|octets| octets.try_into().ok())
            .ok_or_else(|| malformed("has a signature that is not the base64 of 64 octets"))?;
        Ok(Signature { key, octets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's protocol page.
    #[test]
    fn message_is_the_specified_encoding() {
        let envelope = Envelope::unsigned("http://example.com/HelloWorld", b"hello world").unwrap();
        assert_eq!(
            envelope.message(),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(envelope.unverified_payload(), b"hello world");
    }
}
