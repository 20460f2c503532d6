//! The client's side of TLS.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
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
        config.alpn_protocols = protocols();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: server,
        })
    }

    /// Shakes hands with the server at the other end. Takes as long as the server does: bound it.
    ///
    /// # Errors
    ///
    /// When the server goes away, agrees to nothing that we do, or is not the one that was asked for.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        Ok(Stream::Secure(Box::new(TlsStream::Client(stream))))
    }
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TlsClient").field(&self.name).finish()
    }
}
