//! TLS between two programs that know each other: both sides show a certificate, and both are pinned.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerMisbehaved, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::certificates::{CertificateFiles, Certificates, read_certificates};
use super::error::TlsError;
use super::{protocols, provider, sha256};
use crate::net::Stream;

/// SHA-256 of a certificate in DER, which is what tools call its fingerprint.
pub type Fingerprint = [u8; 32];

/// Who may be at the other end. What is given must hold: of both, both.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerTrust {
    /// A PEM file of the only authorities whose certificates are taken, within their time and for the right name.
    pub authorities: Option<PathBuf>,
    /// The only certificates that are taken. Without authorities their time and name do not matter: they are known.
    pub pins: Vec<Fingerprint>,
}

/// Accepts peers that are trusted, by TLS 1.3 and without resumption. Clones share certificates.
#[derive(Clone)]
pub struct MutualServer {
    acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
}

/// Connects to a peer that is trusted, by TLS 1.3 and without resumption. Clones share certificates.
#[derive(Clone)]
pub struct MutualClient {
    connector: TlsConnector,
    certificates: Arc<Certificates>,
    name: ServerName<'static>,
}

impl MutualServer {
    /// Shows the certificate in `files`, and takes peers that `trust` covers.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used, or nobody would be trusted.
    pub fn load(files: CertificateFiles, trust: &PeerTrust) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates::load(vec![files])?);
        let chain = match roots(trust)? {
            Some(roots) => Some(
                WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(TlsError::verifier)?,
            ),
            None => None,
        };
        let verifier = Pinned::new(chain, trust)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::library)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::clone(&certificates) as Arc<_>);
        config.alpn_protocols = protocols(false);
        // A resumed session would outlive the trust that it began with.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificates,
        })
    }

    /// Shakes hands with a peer. Takes as long as the peer does: bound it. A certificate that was renewed in its file
    /// is shown from the next handshake on.
    ///
    /// # Errors
    ///
    /// When the peer goes away, shows no certificate, or one that is not trusted, whose fingerprint the error tells.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Stream<TcpStream>> {
        renew(&self.certificates);
        let stream = self.acceptor.accept(stream).await?;
        Ok(Stream::Secure(Box::new(TlsStream::Server(stream))))
    }
}

impl MutualClient {
    /// Shows the certificate in `files` to the peer with this name, a host name or an address, if `trust` covers it.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used, nobody would be trusted, or no certificate could be for `name`.
    pub fn load(files: CertificateFiles, trust: &PeerTrust, name: &str) -> Result<Self, TlsError> {
        let server =
            ServerName::try_from(name.to_owned()).map_err(|error| TlsError::name(name, error))?;
        let certificates = Arc::new(Certificates::load(vec![files])?);
        let chain = match roots(trust)? {
            Some(roots) => Some(
                WebPkiServerVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(TlsError::verifier)?,
            ),
            None => None,
        };
        let verifier = Pinned::new(chain, trust)?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::library)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::clone(&certificates) as Arc<_>);
        config.alpn_protocols = protocols(false);
        config.resumption = Resumption::disabled();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            certificates,
            name: server,
        })
    }

    /// Shakes hands with the peer. Takes as long as the peer does: bound it. That the peer trusts us shows only in its
    /// first answer (RFC 8446 section 4.4.2.4). A certificate that was renewed in its file is shown from the next
    /// handshake on.
    ///
    /// # Errors
    ///
    /// When the peer goes away, or shows a certificate that is not trusted, whose fingerprint the error tells.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<Stream<TcpStream>> {
        renew(&self.certificates);
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        Ok(Stream::Secure(Box::new(TlsStream::Client(stream))))
    }
}

impl std::fmt::Debug for MutualServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MutualServer")
            .field(&self.certificates)
            .finish()
    }
}

impl std::fmt::Debug for MutualClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MutualClient").field(&self.name).finish()
    }
}

/// Takes a renewed certificate; one that cannot be used leaves the last one in use.
fn renew(certificates: &Certificates) {
    if let Err(error) = certificates.reload() {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the certificate in use stays in use"
        );
    }
}

fn roots(trust: &PeerTrust) -> Result<Option<Arc<RootCertStore>>, TlsError> {
    let Some(path) = &trust.authorities else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::certificate(path, error))?;
    }
    Ok(Some(Arc::new(roots)))
}

/// Takes a certificate that is pinned and that authorities vouch for, of which one may be left out.
#[derive(Debug)]
struct Pinned<V> {
    chain: Option<V>,
    pins: Vec<Fingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<V> Pinned<V> {
    fn new(chain: Option<V>, trust: &PeerTrust) -> Result<Self, TlsError> {
        match chain.is_none() && trust.pins.is_empty() {
            true => Err(TlsError::nobody_trusted()),
            false => Ok(Self {
                chain,
                pins: trust.pins.clone(),
                algorithms: provider().signature_verification_algorithms,
            }),
        }
    }

    fn check_pin(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let fingerprint = sha256(certificate);
        match self.pins.is_empty() || self.pins.contains(&fingerprint) {
            true => Ok(()),
            false => {
                let unknown = OtherError(Arc::new(NotPinned(fingerprint)));
                Err(Error::InvalidCertificate(CertificateError::Other(unknown)))
            }
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
}

/// A certificate that is on no list.
struct NotPinned(Fingerprint);

impl std::fmt::Display for NotPinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the certificate with SHA-256 ")?;
        self.0
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))?;
        f.write_str(" is not pinned")
    }
}

impl std::fmt::Debug for NotPinned {
    /// As it is shown: the library shows some errors in this form.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for NotPinned {}

/// Only TLS 1.3 is spoken here.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerMisbehaved::SelectedUnofferedCipherSuite.into())
}

impl ServerCertVerifier for Pinned<Arc<WebPkiServerVerifier>> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_pin(certificate)?;
        match &self.chain {
            Some(chain) => chain.verify_server_cert(certificate, intermediates, name, ocsp, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Pinned<Arc<dyn ClientCertVerifier>> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A peer that is pinned has one certificate to show, whoever issued it.
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_pin(certificate)?;
        match &self.chain {
            Some(chain) => chain.verify_client_cert(certificate, intermediates, now),
            None => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// An authority, and what it issued.
    struct Authority {
        folder: tempfile::TempDir,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
            Self {
                folder,
                issuer: Issuer::new(params, key),
            }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("ca.pem")
        }

        fn issue(&self, name: &str) -> (CertificateFiles, Fingerprint) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["sidecar.test".to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            let files = files(self.folder.path(), name);
            fs::write(&files.certificate, certificate.pem()).unwrap();
            fs::write(&files.key, key.serialize_pem()).unwrap();
            (files, sha256(certificate.der()))
        }
    }

    fn files(folder: &Path, name: &str) -> CertificateFiles {
        CertificateFiles {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        }
    }

    /// Whether one byte comes through each way; the errors of client and server if not.
    async fn speak(client: &MutualClient, server: &MutualServer) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accept = async {
            let (stream, _) = listener.accept().await?;
            let mut stream = server.accept(stream).await?;
            let byte = stream.read_u8().await?;
            stream.write_u8(byte).await?;
            stream.flush().await
        };
        let connect = async {
            let mut stream = client.connect(TcpStream::connect(address).await?).await?;
            stream.write_u8(7).await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        match tokio::join!(accept, connect) {
            (Ok(()), Ok(7)) => Ok(()),
            (accepted, connected) => Err(format!("{accepted:?} {connected:?}")),
        }
    }

    #[tokio::test]
    async fn both_sides_must_be_known() {
        let (authority, other) = (Authority::new(), Authority::new());
        let (server_files, server_pin) = authority.issue("server");
        let (client_files, client_pin) = authority.issue("client");
        let trust = |authority: Option<&Authority>, pins: &[Fingerprint]| PeerTrust {
            authorities: authority.map(Authority::path),
            pins: pins.to_vec(),
        };
        let cases = [
            (trust(None, &[server_pin]), trust(None, &[client_pin]), ""),
            (
                trust(Some(&authority), &[]),
                trust(Some(&authority), &[]),
                "",
            ),
            (
                trust(Some(&authority), &[server_pin]),
                trust(Some(&authority), &[[0; 32], client_pin]),
                "",
            ),
            (
                trust(None, &[client_pin]),
                trust(None, &[client_pin]),
                "is not pinned",
            ),
            (
                trust(None, &[server_pin]),
                trust(None, &[server_pin]),
                "is not pinned",
            ),
            (
                trust(Some(&other), &[server_pin]),
                trust(None, &[client_pin]),
                "InvalidCertificate(BadSignature)",
            ),
            (
                trust(None, &[server_pin]),
                trust(Some(&other), &[client_pin]),
                "InvalidCertificate(BadSignature)",
            ),
        ];
        for (of_client, of_server, fault) in cases {
            let client =
                MutualClient::load(client_files.clone(), &of_client, "sidecar.test").unwrap();
            let server = MutualServer::load(server_files.clone(), &of_server).unwrap();
            let spoken = speak(&client, &server).await;
            match fault {
                "" => assert_eq!(spoken, Ok(()), "{of_client:?} {of_server:?}"),
                fault => {
                    let error = spoken.unwrap_err();
                    assert!(
                        error.contains(fault),
                        "{of_client:?} {of_server:?}: {error}"
                    );
                }
            }
        }
        // An authority vouches for a name, and a pin for a certificate.
        let named = |trust: &PeerTrust| {
            MutualClient::load(client_files.clone(), trust, "other.test").unwrap()
        };
        let server = MutualServer::load(server_files, &trust(None, &[client_pin])).unwrap();
        let by_name = named(&trust(Some(&authority), &[]));
        assert!(
            speak(&by_name, &server)
                .await
                .unwrap_err()
                .contains("NotValidForName")
        );
        assert_eq!(
            speak(&named(&trust(None, &[server_pin])), &server).await,
            Ok(())
        );
    }

    #[tokio::test]
    async fn clients_without_a_certificate_hear_nothing() {
        let authority = Authority::new();
        let (server_files, _) = authority.issue("server");
        let trust = PeerTrust {
            authorities: Some(authority.path()),
            pins: Vec::new(),
        };
        let server = MutualServer::load(server_files, &trust).unwrap();
        let client = crate::net::TlsClient::load(Some(&authority.path()), "sidecar.test").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accept = async { server.accept(listener.accept().await?.0).await };
        let connect = async {
            let mut stream = client.connect(TcpStream::connect(address).await?).await?;
            stream.read_u8().await
        };
        let (accepted, connected) = tokio::join!(accept, connect);
        let error = accepted.unwrap_err().to_string();
        assert!(error.contains("sent no certificates"), "{error}");
        connected.unwrap_err();
    }

    #[tokio::test]
    async fn renewed_certificates_are_shown_and_judged() {
        let authority = Authority::new();
        let (server_files, server_pin) = authority.issue("server");
        let (client_files, client_pin) = authority.issue("client");
        let trust = |pin| PeerTrust {
            authorities: None,
            pins: vec![pin],
        };
        let server = MutualServer::load(server_files.clone(), &trust(client_pin)).unwrap();
        let client = MutualClient::load(client_files, &trust(server_pin), "sidecar.test").unwrap();
        assert_eq!(speak(&client, &server).await, Ok(()));
        let (_, renewed) = authority.issue("server");
        let error = speak(&client, &server).await.unwrap_err();
        let shown: String = renewed.iter().map(|octet| format!("{octet:02x}")).collect();
        assert!(error.contains(&shown), "{error}");
        // What cannot be used changes nothing.
        fs::write(&server_files.certificate, "hello").unwrap();
        assert!(speak(&client, &server).await.unwrap_err().contains(&shown));
    }

    #[test]
    fn somebody_must_be_trusted() {
        let authority = Authority::new();
        let (files, _) = authority.issue("a");
        let error = MutualServer::load(files, &PeerTrust::default()).unwrap_err();
        assert!(error.to_string().contains("nobody"), "{error}");
    }
}
