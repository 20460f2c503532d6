//! The server's side of TLS.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::certificates::{CertificateFiles, Certificates, read_certificates};
use super::error::TlsError;
use super::{protocols, provider};
use crate::net::{Socket, Stream};

/// Which certificates clients are asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificates {
    /// The authorities whose certificates are taken, in PEM.
    pub authorities: PathBuf,
    /// Whether a client without one is refused; one with a certificate of others always is.
    pub required: bool,
}

/// Accepts TLS 1.2 and 1.3, with resumption by tickets. Clones share certificates and ticket keys.
#[derive(Clone)]
pub struct TlsServer {
    acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
}

impl TlsServer {
    /// Reads certificates and keys. The first one also answers clients that name no host, or an unknown one; of
    /// several for one name, the first that fits the client's algorithms is shown. `http2` offers HTTP/2 before HTTP/1.1;
    /// `clients` asks for certificates of theirs.
    ///
    /// # Errors
    ///
    /// When there is none, a file cannot be read or used, or a key belongs to another certificate.
    pub fn load(
        files: Vec<CertificateFiles>,
        http2: bool,
        clients: Option<&ClientCertificates>,
    ) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates::load(files)?);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::library)?
            .with_client_cert_verifier(verifier(clients)?)
            .with_cert_resolver(Arc::clone(&certificates) as Arc<_>);
        config.alpn_protocols = protocols(http2);
        // Tickets need no memory here, and any worker can resume what another began.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::library)?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificates,
        })
    }

    /// Reads the files again, for connections to come; true when anything has changed.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load); what was in use stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.certificates.reload()
    }

    /// Shakes hands with a client. Takes as long as the client does: bound it.
    ///
    /// # Errors
    ///
    /// When the client goes away, or agrees to nothing that we do.
    pub async fn accept(&self, socket: Socket) -> io::Result<Stream> {
        let stream = self.acceptor.accept(socket).await?;
        Ok(Stream::Secure(Box::new(TlsStream::Server(stream))))
    }
}

fn verifier(clients: Option<&ClientCertificates>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(clients) = clients else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let path = &clients.authorities;
    let unusable = |error| TlsError::certificate(path, error);
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(unusable)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match clients.required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    let built = builder.build();
    built.map_err(|error| TlsError::certificate(path, error))
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TlsServer")
            .field(&self.certificates)
            .finish()
    }
}
