//! Verifies a signed document from its octets to its canonical octets, one check after the other.

use std::time::Duration;

use super::algorithm::{Sha256, XmlSignature, sha256};
use super::anchors::{self, TrustAnchors};
use super::certificate::Certificate;
use super::chain::Chain;
use super::error::{Fault, VerifyError};
use super::oid::{self, Oid};
use super::profile::{self, Signature};
use super::timestamp;
use crate::model::{Digest, UnixTime};
use crate::xml::{Canonical, Document, Limits};

/// How far a timestamp may lie ahead of this clock.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The longest canonical form of a `SignedInfo`; a usual one has less than 1,000 octets.
const SIGNED_INFO_BYTES: usize = 64 << 10;

/// The most elements and runs of text, and the most attributes, of a signed document. With so few, not even a document
/// made to be costly takes more than four times [`Limits::BYTES`], its own octets and its canonical form included.
const NODES: usize = 1 << 16;

/// A value that a trusted publisher signed. Only [`Verifier::verify`] and [`envelope`](super::envelope) make one.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    value: T,
    signed_at: Option<UnixTime>,
    signer: Digest,
}

impl<T> Verified<T> {
    pub(super) const fn new(value: T, signed_at: Option<UnixTime>, signer: Digest) -> Self {
        Self {
            value,
            signed_at,
            signer,
        }
    }

    /// What was signed.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// What was signed, by value.
    pub fn into_value(self) -> T {
        self.value
    }

    /// When a timestamp authority saw the signature; `None` without a timestamp.
    pub fn signed_at(&self) -> Option<UnixTime> {
        self.signed_at
    }

    /// The SHA-256 digest of the signer's certificate.
    pub fn signer(&self) -> Digest {
        self.signer
    }
}

/// Whom to trust and what to ask for under the profile `xmldsig-x509`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct XmlDsigPolicy {
    /// Roots that a signer's certificate must lead to.
    pub roots: TrustAnchors,
    /// Roots that a timestamp authority's certificate must lead to. Without any, timestamps are not looked at.
    pub timestamp_roots: TrustAnchors,
    /// Extended key usages that the signer's certificate must have, all of them, written with dots.
    pub required_ekus: Vec<String>,
    /// Whether a document without a timestamp is refused. Otherwise its chain must be valid now.
    pub require_timestamp: bool,
    /// If not empty: the only signers accepted, by the SHA-256 digest of their certificate.
    pub allowed_signers: Vec<Digest>,
    /// Signers never accepted, by the SHA-256 digest of their certificate.
    pub denied_signers: Vec<Digest>,
}

/// Decides whether a signed EOCS document comes from a trusted publisher.
#[derive(Clone, Debug)]
pub struct Verifier {
    roots: TrustAnchors,
    timestamp_roots: TrustAnchors,
    usages: Vec<Vec<u8>>,
    require_timestamp: bool,
    allowed_signers: Vec<Digest>,
    denied_signers: Vec<Digest>,
    algorithms: &'static [XmlSignature],
    limits: Limits,
}

impl Verifier {
    /// The profile `microsoft-eocs`: the Exchange mitigation service's own feed, by its roots as they were pinned here.
    ///
    /// RSA only; a timestamp is required, and it decides when the certificates had to be valid.
    ///
    /// # Errors
    ///
    /// [`Fault::Configuration`] when a bundled root differs from its pin.
    pub fn microsoft_eocs() -> Result<Self, VerifyError> {
        Ok(Self {
            roots: anchors::microsoft_signers()?,
            timestamp_roots: anchors::microsoft_timestamps()?,
            usages: vec![
                oid::CODE_SIGNING.to_vec(),
                oid::MICROSOFT_EXCHANGE_XML.to_vec(),
            ],
            require_timestamp: true,
            allowed_signers: Vec::new(),
            denied_signers: Vec::new(),
            algorithms: &[XmlSignature::RsaSha256],
            limits: limits(),
        })
    }

    /// The profile `xmldsig-x509`: the same form of document and signature, with roots of one's own.
    ///
    /// # Errors
    ///
    /// [`Fault::Configuration`] when there is no root, an extended key usage is no object identifier, or a timestamp is
    /// required that no root could prove.
    pub fn xmldsig_x509(policy: XmlDsigPolicy) -> Result<Self, VerifyError> {
        let wrong = |words: &'static str| Err(VerifyError::new(Fault::Configuration, words));
        if policy.roots.is_empty() {
            return wrong("there is no trusted root: name at least one certificate");
        }
        if policy.require_timestamp && policy.timestamp_roots.is_empty() {
            return wrong("a timestamp is required, but there is no root to trust one by");
        }
        let usages = policy
            .required_ekus
            .iter()
            .map(|usage| oid::from_dotted(usage));
        Ok(Self {
            usages: usages.collect::<Result<_, _>>()?,
            roots: policy.roots,
            timestamp_roots: policy.timestamp_roots,
            require_timestamp: policy.require_timestamp,
            allowed_signers: policy.allowed_signers,
            denied_signers: policy.denied_signers,
            algorithms: &[XmlSignature::RsaSha256, XmlSignature::EcdsaSha256],
            limits: limits(),
        })
    }

    /// Sets other limits than the usual ones for the document.
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Proves where a document comes from, and returns its canonical octets: exactly those that were signed.
    ///
    /// `now` is the caller's clock. `floor` is when the last accepted document was signed: an older one is refused, and
    /// so is one without a timestamp, since a timestamp is not part of what is signed and can be cut off. The same
    /// time is accepted.
    ///
    /// # Errors
    ///
    /// [`VerifyError`], whose [`fault`](VerifyError::fault) names the check that failed.
    pub fn verify(
        &self,
        document: &[u8],
        now: UnixTime,
        floor: Option<UnixTime>,
    ) -> Result<Verified<Vec<u8>>, VerifyError> {
        let document = Document::parse(document, &self.limits).map_err(VerifyError::document)?;
        let signature = profile::read(&document, self.algorithms)?;
        let content = document.canonical().without(signature.element);
        self.check_digest(content, signature.digest)?;
        let signer = check_value(&signature)?;
        let signed_at = self.check_timestamp(&signature, floor.is_some())?;
        self.check_chain(&signature, signer, signed_at.unwrap_or(now))?;
        self.check_usage(signer)?;
        let digest = sha256(signer);
        self.check_lists(digest)?;
        check_time(signed_at, now, floor)?;
        Ok(Verified {
            value: content.to_vec(),
            signed_at,
            signer: digest,
        })
    }

    fn check_digest(&self, content: Canonical<'_>, expected: Digest) -> Result<(), VerifyError> {
        // Escapes can make a canonical form several times longer than its document.
        let (mut sum, mut length) = (Sha256::new(), 0);
        content.write(&mut |piece| {
            length += piece.len();
            sum.update(piece);
        });
        if sum.finish() != expected {
            return Err(VerifyError::new(
                Fault::Digest,
                "the document was changed after it was signed",
            ));
        }
        match length <= self.limits.bytes {
            true => Ok(()),
            false => Err(VerifyError::new(
                Fault::Document,
                format!(
                    "the document's canonical form is longer than {} bytes",
                    self.limits.bytes
                ),
            )),
        }
    }

    fn check_timestamp(
        &self,
        signature: &Signature<'_>,
        had_timestamp: bool,
    ) -> Result<Option<UnixTime>, VerifyError> {
        let missing = |words| Err(VerifyError::new(Fault::TimestampMissing, words));
        match &signature.timestamp {
            Some(stamp) if !self.timestamp_roots.is_empty() => timestamp::verify(
                &stamp.token,
                &signature.value,
                &stamp.certificates,
                &self.timestamp_roots,
            )
            .map(Some),
            _ if self.require_timestamp => missing("the document has no timestamp"),
            _ if had_timestamp => {
                missing("the document has no timestamp, and the one accepted before had one")
            }
            _ => Ok(None),
        }
    }

    fn check_chain(
        &self,
        signature: &Signature<'_>,
        signer: &[u8],
        at: UnixTime,
    ) -> Result<(), VerifyError> {
        let others: Vec<&[u8]> = signature
            .certificates
            .iter()
            .map(Vec::as_slice)
            .filter(|other| *other != signer)
            .collect();
        let purposes: Vec<Oid<'_>> = self.usages.iter().map(Vec::as_slice).collect();
        let chain = Chain {
            leaf: signer,
            others: &others,
            roots: &self.roots,
            at,
            purposes: &purposes,
        };
        chain.verify().map_err(|error| {
            let words = format!(
                "the signer (certificate {}) does not lead to a trusted root at {at}",
                sha256(signer)
            );
            VerifyError::new(Fault::Chain, words).caused_by(error)
        })
    }

    fn check_usage(&self, signer: &[u8]) -> Result<(), VerifyError> {
        let wrong = || {
            VerifyError::new(
                Fault::Usage,
                "the signer's certificate lacks an extended key usage that is required",
            )
        };
        let usages = Certificate::read(signer)
            .and_then(|certificate| certificate.extended_key_usages())
            .map_err(|error| wrong().caused_by(error))?;
        match self
            .usages
            .iter()
            .all(|usage| usages.contains(&usage.as_slice()))
        {
            true => Ok(()),
            false => Err(wrong()),
        }
    }

    fn check_lists(&self, signer: Digest) -> Result<(), VerifyError> {
        let refuse = |what: &str| {
            let words = format!("the signer's certificate {signer} is {what}");
            Err(VerifyError::new(Fault::Signer, words))
        };
        if self.denied_signers.contains(&signer) {
            return refuse("on the list of denied signers");
        }
        if !self.allowed_signers.is_empty() && !self.allowed_signers.contains(&signer) {
            return refuse("not on the list of allowed signers");
        }
        Ok(())
    }
}

fn limits() -> Limits {
    Limits {
        nodes: NODES,
        ..Limits::default()
    }
}

/// Finds the certificate whose key made the signature. Which of them is the signer's is not said, so each is tried.
fn check_value<'s>(signature: &'s Signature<'_>) -> Result<&'s [u8], VerifyError> {
    let signed_info = signature.signed_info.canonical();
    let mut length = 0;
    signed_info.write(&mut |piece| length += piece.len());
    if length > SIGNED_INFO_BYTES {
        let words = format!("SignedInfo may have at most {SIGNED_INFO_BYTES} canonical bytes");
        return Err(VerifyError::profile(
            signature.signed_info.position(),
            words,
        ));
    }
    let signed_info = signed_info.to_vec();
    signature
        .certificates
        .iter()
        .map(Vec::as_slice)
        .find(|certificate| {
            signature
                .algorithm
                .is_signed_by(certificate, &signed_info, &signature.value)
        })
        .ok_or_else(|| {
            VerifyError::new(
                Fault::Signature,
                "no certificate of the document has the key that made the signature",
            )
        })
}

fn check_time(
    signed_at: Option<UnixTime>,
    now: UnixTime,
    floor: Option<UnixTime>,
) -> Result<(), VerifyError> {
    let Some(signed_at) = signed_at else {
        return Ok(());
    };
    if signed_at.since(now) > CLOCK_SKEW {
        let words = format!(
            "the document was signed at {signed_at}, which lies ahead of {now}: check the clock"
        );
        return Err(VerifyError::new(Fault::Future, words));
    }
    match floor {
        Some(floor) if signed_at < floor => {
            let words = format!(
                "the document was signed at {signed_at}, before the one accepted last ({floor})"
            );
            Err(VerifyError::new(Fault::Rollback, words))
        }
        _ => Ok(()),
    }
}
