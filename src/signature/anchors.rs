//! The roots that a verifier trusts.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::anchor_from_trusted_cert;

use super::algorithm::sha256;
use super::certificate::Certificate;
use super::error::{Fault, VerifyError};
use crate::model::Digest;

/// Certificates of authorities that are trusted because the caller says so.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrustAnchors {
    certificates: Vec<CertificateDer<'static>>,
}

impl TrustAnchors {
    /// Takes DER certificates, one each.
    ///
    /// # Errors
    ///
    /// [`Fault::Configuration`] when one is no certificate.
    pub fn from_der(
        certificates: impl IntoIterator<Item = impl Into<Vec<u8>>>,
    ) -> Result<Self, VerifyError> {
        let mut anchors = Self::default();
        for certificate in certificates {
            anchors.push(CertificateDer::from(certificate.into()))?;
        }
        Ok(anchors)
    }

    /// Reads the content of a file: one DER certificate, or PEM with one or more.
    ///
    /// # Errors
    ///
    /// [`Fault::Configuration`] when it is neither.
    pub fn from_file_content(content: &[u8]) -> Result<Self, VerifyError> {
        const PEM: &[u8] = b"-----BEGIN";
        if !content.windows(PEM.len()).any(|window| window == PEM) {
            return Self::from_der([content]);
        }
        let mut anchors = Self::default();
        for certificate in CertificateDer::pem_slice_iter(content) {
            let certificate = certificate.map_err(|error| invalid().caused_by(error))?;
            anchors.push(certificate)?;
        }
        match anchors.is_empty() {
            true => Err(invalid()),
            false => Ok(anchors),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    /// The certificates as DER.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(AsRef::as_ref)
    }

    /// The certificates' SHA-256 digests, by which people compare them.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.certificates().map(sha256)
    }

    pub(super) fn anchors(&self) -> Vec<TrustAnchor<'_>> {
        // Each was read once when it was taken, so none is lost here.
        self.certificates
            .iter()
            .filter_map(|certificate| anchor_from_trusted_cert(certificate).ok())
            .collect()
    }

    fn push(&mut self, certificate: CertificateDer<'static>) -> Result<(), VerifyError> {
        Certificate::read(&certificate).map_err(|error| invalid().caused_by(error))?;
        anchor_from_trusted_cert(&certificate).map_err(|error| invalid().caused_by(error))?;
        self.certificates.push(certificate);
        Ok(())
    }
}

fn invalid() -> VerifyError {
    VerifyError::new(
        Fault::Configuration,
        "a trusted root is no X.509 certificate: give one in DER or PEM",
    )
}

/// Microsoft's root for signers, and its pin.
pub(super) fn microsoft_signers() -> Result<TrustAnchors, VerifyError> {
    pinned(
        include_bytes!("../../rules/trust/microsoft-root-2011.der"),
        "847df6a78497943f27fc72eb93f9a637320a02b561d0a91b09e87a7807ed7c61",
    )
}

/// Microsoft's root for timestamp authorities, and its pin.
pub(super) fn microsoft_timestamps() -> Result<TrustAnchors, VerifyError> {
    pinned(
        include_bytes!("../../rules/trust/microsoft-root-2010.der"),
        "df545bf919a2439c36983b54cdfc903dfa4f37d3996d8d84b4c31eec6f3c163e",
    )
}

/// Takes a bundled certificate only if it is the one meant when this was written.
fn pinned(certificate: &[u8], pin: &str) -> Result<TrustAnchors, VerifyError> {
    match Digest::from_hex(pin) {
        Some(pin) if sha256(certificate) == pin => TrustAnchors::from_der([certificate]),
        _ => Err(VerifyError::new(
            Fault::Configuration,
            "a bundled root differs from its pin: this program was built from changed files",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundled_roots_are_the_pinned_ones() {
        let signers = microsoft_signers().unwrap();
        let timestamps = microsoft_timestamps().unwrap();
        assert_eq!(
            (signers.anchors().len(), timestamps.anchors().len()),
            (1, 1)
        );
        assert_ne!(signers.digests().next(), timestamps.digests().next());
    }

    #[test]
    fn a_changed_root_is_refused() {
        let root = include_bytes!("../../rules/trust/microsoft-root-2011.der");
        let pin = sha256(root).to_string();
        assert!(pinned(root, &pin).is_ok());
        let mut changed = root.to_vec();
        changed[700] ^= 1;
        let fault = |result: Result<TrustAnchors, VerifyError>| result.err().map(|e| e.fault());
        assert_eq!(fault(pinned(&changed, &pin)), Some(Fault::Configuration));
        assert_eq!(fault(pinned(root, "")), Some(Fault::Configuration));
    }

    #[test]
    fn files_hold_der_or_pem() {
        let root = include_bytes!("../../rules/trust/microsoft-root-2011.der");
        assert!(TrustAnchors::from_file_content(root).is_ok());
        for content in [
            &b""[..],
            b"junk",
            b"-----BEGIN NOTHING-----\n-----END NOTHING-----\n",
        ] {
            let error = TrustAnchors::from_file_content(content).expect_err("no certificate");
            assert_eq!(error.fault(), Fault::Configuration);
        }
        use base64::Engine as _;
        let pem = format!(
            "comment\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            base64::engine::general_purpose::STANDARD.encode(root)
        );
        let anchors = TrustAnchors::from_file_content(pem.repeat(2).as_bytes()).unwrap();
        assert_eq!(anchors.certificates().collect::<Vec<_>>(), [root, root]);
    }
}
