//! Why TLS cannot be set up.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Certificates, keys or names cannot be used for TLS.
#[derive(Debug)]
pub struct TlsError {
    kind: Kind,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Debug)]
enum Kind {
    Certificate(PathBuf),
    Empty(PathBuf),
    File(PathBuf),
    Key(PathBuf),
    Library,
    Name(String),
    NoCertificate,
    NobodyTrusted,
    Pair { certificate: PathBuf, key: PathBuf },
    SystemRoots,
    Verifier,
}

impl TlsError {
    const fn new(kind: Kind) -> Self {
        Self { kind, source: None }
    }

    fn because(kind: Kind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: Some(source.into()),
        }
    }

    pub(super) fn file(path: &Path, source: io::Error) -> Self {
        Self::because(Kind::File(path.to_owned()), source)
    }

    pub(super) fn certificate(
        path: &Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::because(Kind::Certificate(path.to_owned()), source)
    }

    pub(super) fn empty(path: &Path) -> Self {
        Self::new(Kind::Empty(path.to_owned()))
    }

    pub(super) fn key(
        path: &Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::because(Kind::Key(path.to_owned()), source)
    }

    pub(super) fn pair(certificate: &Path, key: &Path, source: rustls::Error) -> Self {
        let kind = Kind::Pair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        Self::because(kind, source)
    }

    pub(super) fn library(source: rustls::Error) -> Self {
        Self::because(Kind::Library, source)
    }

    pub(super) fn name(
        name: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::because(Kind::Name(name.to_owned()), source)
    }

    pub(super) const fn no_certificate() -> Self {
        Self::new(Kind::NoCertificate)
    }

    pub(super) const fn nobody_trusted() -> Self {
        Self::new(Kind::NobodyTrusted)
    }

    pub(super) fn verifier(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::because(Kind::Verifier, source)
    }

    pub(super) const fn system_roots() -> Self {
        Self::new(Kind::SystemRoots)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Certificate(path) => write!(
                f,
                "{} holds a certificate that cannot be used; write certificates in PEM",
                path.display()
            ),
            Kind::Empty(path) => write!(
                f,
                "{} holds no certificate; write PEM, the server's own certificate first",
                path.display()
            ),
            Kind::File(path) => write!(f, "{} cannot be read", path.display()),
            Kind::Key(path) => write!(
                f,
                "{} holds no private key that can be used; write it in PEM without a pass phrase",
                path.display()
            ),
            Kind::Library => f.write_str("TLS cannot be set up"),
            Kind::Name(name) => write!(
                f,
                "{name:?} is no name that a certificate could be for; name another with upstream_name"
            ),
            Kind::NoCertificate => f.write_str("a TLS listener needs a certificate"),
            Kind::NobodyTrusted => f.write_str(
                "nobody could be trusted: name authorities, or the SHA-256 of certificates",
            ),
            Kind::Pair { certificate, key } => write!(
                f,
                "the key in {} does not belong to the first certificate in {}",
                key.display(),
                certificate.display()
            ),
            Kind::SystemRoots => f.write_str(
                "the system has no trusted certificates; install them (ca-certificates) or name a file with upstream_ca",
            ),
            Kind::Verifier => f.write_str("the authorities cannot be used to verify anybody"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
