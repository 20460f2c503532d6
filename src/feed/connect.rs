//! One HTTP/1.1 connection to a feed's host: direct or through a proxy, plain or with TLS.

use std::path::Path;
use std::sync::Arc;

use http::uri::Authority;
use http::{Method, Request, Uri, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::FeedConfig;
use super::error::{FeedError, Kind};
use super::fetch::port;

/// A connection that is ready for one request.
pub(super) struct Link {
    pub(super) sender: SendRequest<Empty<Bytes>>,
    /// Whether the request target must be the whole URL, since a proxy reads it (RFC 9112 section 3.2.2).
    pub(super) absolute_form: bool,
}

/// Connects to the host of `uri`, by way of the configured proxy if there is one.
pub(super) async fn open(config: &FeedConfig, uri: &Uri) -> Result<Link, FeedError> {
    let host = bare_host(uri);
    let work = async {
        let secure = uri.scheme_str() == Some("https");
        let stream = dial(config.proxy.as_ref().unwrap_or(uri)).await?;
        let absolute_form = config.proxy.is_some() && !secure;
        let sender = match (secure, &config.proxy) {
            (false, _) => handshake(stream).await?,
            (true, None) => handshake(secured(config, &host, stream).await?).await?,
            (true, Some(_)) => {
                let tunnel = tunnel(stream, uri).await?;
                handshake(secured(config, &host, tunnel).await?).await?
            }
        };
        Ok(Link {
            sender,
            absolute_form,
        })
    };
    tokio::time::timeout(config.connect_deadline, work)
        .await
        .unwrap_or_else(|_| Err(FeedError::new(Kind::Deadline(config.connect_deadline))))
}

async fn dial(uri: &Uri) -> Result<TcpStream, FeedError> {
    let host = bare_host(uri);
    let port = port(uri).unwrap_or(80);
    TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|error| FeedError::because(Kind::Connect(format!("{host}:{port}")), error))
}

/// The host without the brackets of an IPv6 literal.
fn bare_host(uri: &Uri) -> String {
    uri.host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned()
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>, FeedError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| FeedError::because(Kind::Exchange, error))?;
    // Ends by itself: with the response, or when the sender is dropped at the deadline.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

/// Asks the proxy for a tunnel (RFC 9110 section 9.3.6).
async fn tunnel(
    stream: TcpStream,
    uri: &Uri,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, FeedError> {
    let exchange = |error| FeedError::because(Kind::Exchange, error);
    let host = uri.host().unwrap_or_default();
    let place = format!("{host}:{}", port(uri).unwrap_or(443));
    let authority: Authority = place
        .parse()
        .map_err(|error| FeedError::because(Kind::Connect(place.clone()), error))?;
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(Uri::from(authority))
        .header(header::HOST, &place)
        .body(Empty::new())
        .map_err(|error| FeedError::because(Kind::Exchange, error))?;
    let mut sender = handshake(stream).await?;
    let response = sender.send_request(request).await.map_err(exchange)?;
    if !response.status().is_success() {
        return Err(FeedError::new(Kind::Proxy(response.status().as_u16())));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(exchange)?;
    Ok(TokioIo::new(upgraded))
}

async fn secured<S>(
    config: &FeedConfig,
    host: &str,
    stream: S,
) -> Result<tokio_rustls::client::TlsStream<S>, FeedError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let tls = |error: std::io::Error| FeedError::because(Kind::Tls(host.to_owned()), error);
    let file = config.ca_file.clone();
    // Read each time, so that a certificate added to the system counts without a restart.
    let client = tokio::task::spawn_blocking(move || client_config(file.as_deref()))
        .await
        .map_err(|error| tls(std::io::Error::other(error)))??;
    let name =
        ServerName::try_from(host.to_owned()).map_err(|error| tls(std::io::Error::other(error)))?;
    TlsConnector::from(Arc::new(client))
        .connect(name, stream)
        .await
        .map_err(tls)
}

/// Trust in the system's certificate authorities, and in those of `file`.
pub(super) fn client_config(file: Option<&Path>) -> Result<ClientConfig, FeedError> {
    let mut roots = RootCertStore::empty();
    // A system without any is no error here: the file may hold all that is needed.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = file {
        let unusable = |cause: Box<dyn std::error::Error + Send + Sync>| {
            FeedError::because(Kind::Authorities(file.display().to_string()), cause)
        };
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(error.into()))?;
        if certificates.is_empty() {
            return Err(unusable("it holds no certificate in PEM form".into()));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| unusable(error.into()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| FeedError::because(Kind::Trust, error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_must_be_certificates() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in [
            "",
            "no certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(file.path(), text).unwrap();
            let error = client_config(Some(file.path())).unwrap_err();
            assert!(
                error.to_string().contains(&*file.path().to_string_lossy()),
                "{text:?}: {error}"
            );
        }
        client_config(None).unwrap();
    }

    #[test]
    fn brackets_belong_to_the_url_only() {
        assert_eq!(bare_host(&Uri::from_static("http://[::1]:80/")), "::1");
        assert_eq!(bare_host(&Uri::from_static("http://a.test/")), "a.test");
    }
}
