//! Leads a certificate to a trusted root at a chosen time: webpki does it, with one narrow exception and two additions.

use std::fmt;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime as PkiTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, VerifiedPath,
    anchor_from_trusted_cert,
};

use super::algorithm;
use super::anchors::TrustAnchors;
use super::certificate::{Certificate, KeyUsage};
use super::der::DerError;
use super::oid::{self, Oid};
use crate::model::UnixTime;

/// A chain to be proven.
pub(super) struct Chain<'a> {
    pub(super) leaf: &'a [u8],
    /// Certificates that may stand between the leaf and a root, in any order.
    pub(super) others: &'a [&'a [u8]],
    pub(super) roots: &'a TrustAnchors,
    /// When every certificate of the chain must be valid.
    pub(super) at: UnixTime,
    /// An intermediate that restricts its purposes must have one of these; empty for any.
    pub(super) purposes: &'a [Oid<'a>],
}

impl Chain<'_> {
    pub(super) fn verify(&self) -> Result<(), ChainError> {
        // webpki leaves the key usage of a leaf to its caller.
        let leaf = Certificate::read(self.leaf)?;
        if !leaf.allows(KeyUsage::DigitalSignature)? && !leaf.allows(KeyUsage::ContentCommitment)? {
            return Err(ChainError::KeyUsage);
        }
        let others: Vec<_> = self
            .others
            .iter()
            .map(|c| CertificateDer::from(*c))
            .collect();
        let roots = self.roots.anchors();
        match self.verify_to(&roots, &others) {
            Err(ChainError::Webpki(webpki::Error::UnsupportedCriticalExtension)) => {}
            result => return result,
        }
        // webpki refuses a critical certificatePolicies extension, which Microsoft's authority for timestamps has.
        // An authority that a root issued directly, and that passes all the checks below, may issue the leaf itself.
        let raised: Vec<_> = others
            .iter()
            .filter(|other| self.is_issued_by_a_root(other).unwrap_or(false))
            .filter_map(|other| anchor_from_trusted_cert(other).ok())
            .collect();
        self.verify_to(&raised, &[])
    }

    fn verify_to(
        &self,
        anchors: &[rustls_pki_types::TrustAnchor<'_>],
        others: &[CertificateDer<'_>],
    ) -> Result<(), ChainError> {
        let leaf = CertificateDer::from(self.leaf);
        let leaf = EndEntityCert::try_from(&leaf)?;
        let at = PkiTime::since_unix_epoch(Duration::from_secs(self.at.seconds()));
        let purposes = OneOf(self.purposes);
        let issuers = &issuers_may_sign;
        leaf.verify_for_usage(
            algorithm::CHAIN,
            anchors,
            others,
            at,
            purposes,
            None,
            Some(issuers),
        )?;
        Ok(())
    }

    /// Whether a trusted root issued this authority, which is valid then, may issue certificates for the purpose, and
    /// has no critical extension that is not looked at here; certificatePolicies may say anything.
    fn is_issued_by_a_root(&self, octets: &[u8]) -> Result<bool, DerError> {
        let authority = Certificate::read(octets)?;
        let mut is_issued = false;
        for octets in self.roots.certificates() {
            let root = Certificate::read(octets)?;
            is_issued |= root.subject == authority.issuer
                && algorithm::is_signed_by(
                    octets,
                    algorithm::CHAIN,
                    authority.signed,
                    authority.signature,
                );
        }
        let known = [
            oid::BASIC_CONSTRAINTS,
            oid::KEY_USAGE,
            oid::EXTENDED_KEY_USAGE,
            oid::CERTIFICATE_POLICIES,
        ];
        let extensions = authority.extensions()?;
        let purposes = authority.extended_key_usages()?;
        Ok(is_issued
            && (authority.not_before..=authority.not_after).contains(&self.at)
            && authority.is_authority()?
            && authority.allows(KeyUsage::KeyCertSign)?
            && extensions
                .iter()
                .all(|extension| !extension.is_critical || known.contains(&extension.oid))
            && (purposes.is_empty()
                || self.purposes.is_empty()
                || purposes
                    .iter()
                    .any(|purpose| self.purposes.contains(purpose))))
    }
}

/// webpki reads no key usage, so an intermediate that may not sign certificates is found here.
fn issuers_may_sign(path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
    for issuer in path.intermediate_certificates() {
        let octets = issuer.der();
        let may_sign = Certificate::read(&octets)
            .and_then(|certificate| certificate.allows(KeyUsage::KeyCertSign))
            .unwrap_or(false);
        if !may_sign {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
    }
    Ok(())
}

/// Asked for every certificate of a chain: it may have no purposes, or must have one of these. What the leaf must have
/// is checked apart, and more strictly.
struct OneOf<'a>(&'a [Oid<'a>]);

impl ExtendedKeyUsageValidator for OneOf<'_> {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut any = false;
        for purpose in purposes {
            let purpose = purpose?;
            any = true;
            if self
                .0
                .iter()
                .any(|wanted| KeyPurposeId::new(wanted) == purpose)
            {
                return Ok(());
            }
        }
        match any && !self.0.is_empty() {
            true => Err(webpki::Error::EmptyEkuExtension),
            false => Ok(()),
        }
    }
}

/// Why a certificate does not lead to a trusted root.
#[derive(Debug)]
pub(super) enum ChainError {
    Der(DerError),
    KeyUsage,
    Webpki(webpki::Error),
}

impl From<DerError> for ChainError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl From<webpki::Error> for ChainError {
    fn from(error: webpki::Error) -> Self {
        Self::Webpki(error)
    }
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use webpki::Error;
        match self {
            Self::Der(error) => error.fmt(f),
            Self::KeyUsage => f.write_str("the certificate's key is not for signatures"),
            Self::Webpki(error) => match error {
                Error::CertExpired { .. } => f.write_str("a certificate of the chain had expired"),
                Error::CertNotValidYet { .. } => {
                    f.write_str("a certificate of the chain was not valid yet")
                }
                Error::CaUsedAsEndEntity => f.write_str("an authority's certificate signed"),
                Error::EmptyEkuExtension => {
                    f.write_str("a certificate of the chain is not made for this purpose")
                }
                Error::EndEntityUsedAsCa => {
                    f.write_str("a certificate of the chain may not issue others")
                }
                Error::InvalidSignatureForPublicKey => {
                    f.write_str("a certificate of the chain was not made by its issuer")
                }
                Error::UnknownIssuer => f.write_str("no trusted root has issued it"),
                other => other.fmt(f),
            },
        }
    }
}

impl std::error::Error for ChainError {}
