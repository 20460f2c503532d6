//! The client's side of TLS.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::certificates::read_certificates;
use super::error::TlsError;
use super::{protocols, provider};
use crate::net::Stream;

/// Connects to one server name by TLS 1.2 or 1.3, and verifies the server. Clones share sessions to resume.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsClient {
    /// Trusts the certificates in a PEM file and nothing else, or without one what the system trusts. The server
    /// must show a certificate for `name`, a host name or an address; a host name is also asked for (SNI).
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used, the system trusts nothing, or no certificate could be for `name`.
    pub fn load(authorities: Option<&Path>, name: &str) -> Result<Self, TlsError> {
        let server =
            ServerName::try_from(name.to_owned()).map_err(|error| TlsError::name(name, error))?;
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(path) => {
                for certificate in read_certificates(path)? {
                    roots
                        .add(certificate)
                        .map_err(|error| TlsError::certificate(path, error))?;
                }
            }
            // Some systems keep certificates that no library can read; the others count.
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(TlsError::system_roots());
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::library)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols(false);
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: server,
        })
    }

    /// The same, but agrees to HTTP/2 if the server does.
    pub fn with_http2(&self) -> Self {
        let mut config = ClientConfig::clone(self.connector.config());
        config.alpn_protocols = protocols(true);
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: self.name.clone(),
        }
    }

    /// Takes whatever certificate is shown: for connections of a process to its own listeners, whose certificates are
    /// for names that clients know it by.
    ///
    /// # Errors
    ///
    /// When the library of TLS cannot be used.
    pub fn to_ourselves() -> Result<Self, TlsError> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::library)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Ourselves { algorithms }))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST).into());
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    /// Shakes hands with the server at the other end. Takes as long as the server does: bound it.
    ///
    /// # Errors
    ///
    /// When the server goes away, agrees to nothing that we do, or is not the one that was asked for.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> io::Result<Stream<S>> {
        let stream = self.connector.connect(self.name.clone(), socket).await?;
        Ok(Stream::Secure(Box::new(TlsStream::Client(stream))))
    }
}

impl TlsClient {
    /// The certificate of a server itself, without its chain, in DER. Takes as long as the server does: bound it.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect), and when the server cannot be reached.
    pub async fn leaf(&self, host: &str, port: u16) -> io::Result<Vec<u8>> {
        let stream = TcpStream::connect((host, port)).await?;
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        match shown.and_then(<[_]>::first) {
            Some(leaf) => Ok(leaf.to_vec()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Takes any certificate, and checks only that its key is the server's.
#[derive(Debug)]
struct Ourselves {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Ourselves {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TlsClient").field(&self.name).finish()
    }
}
