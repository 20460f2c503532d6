//! Feeds over real sockets: what arrives, what is refused, and what survives a restart.

use std::time::Duration;

use base64::Engine;
use http::Uri;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use stopgap::feed::{FeedConfig, REDIRECT_LIMIT, Trust, fetch};

use crate::support::feed_server::{FeedServer, Mode, TunnelProxy};

const DOCUMENT: &[u8] = b"<EOCS version=\"1.0\"/>";

fn config(url: &str) -> FeedConfig {
    FeedConfig::new("test", url.parse().unwrap(), Trust::MicrosoftEocs)
}

#[tokio::test]
async fn document_arrives_as_it_is() {
    let server = FeedServer::start(Mode::Answer(DOCUMENT.to_vec()));
    let bytes = fetch(&config(&server.url())).await.unwrap();
    assert_eq!(bytes, DOCUMENT);
    let request = server.request();
    assert!(
        request.starts_with("GET /feed.xml HTTP/1.1\r\n"),
        "{request}"
    );
    let lower = request.to_ascii_lowercase();
    assert!(
        lower.contains(&format!("host: {}\r\n", server.address)),
        "{request}"
    );
    assert!(lower.contains("accept-encoding: identity\r\n"), "{request}");
}

#[tokio::test]
async fn each_way_to_fail_is_told_apart() {
    let document = vec![b' '; 10_000];
    let cases = [
        (Mode::Truncated(document.clone()), "cut short"),
        (Mode::TruncatedChunks(document.clone()), "cut short"),
        (Mode::Endless, "larger than 20000 bytes"),
        (Mode::Answer(vec![b' '; 20_001]), "larger than 20000 bytes"),
        (Mode::Slow(document.clone()), "not fetched within 0.3 s"),
        (Mode::Silent, "not fetched within 0.3 s"),
        (Mode::Status(404), "status 404"),
        (Mode::Status(206), "status 206"),
        (Mode::Encoded("gzip", document.clone()), "as \"gzip\""),
        (
            Mode::RedirectTo("http://127.0.0.1:9/feed.xml".into()),
            "redirected to http://127.0.0.1:9/feed.xml",
        ),
        (Mode::RedirectTo("/again".into()), "more than 5 times"),
    ];
    let server = FeedServer::start(Mode::Silent);
    let mut config = config(&server.url());
    config.size_limit = 20_000;
    config.deadline = Duration::from_millis(300);
    for (mode, reason) in cases {
        server.set(mode.clone());
        let error = fetch(&config).await.unwrap_err().explain();
        let shown = format!("{mode:?}").chars().take(40).collect::<String>();
        assert!(error.contains(reason), "{shown}: {error}");
    }
    // Both sides of the limit.
    server.set(Mode::Answer(vec![b' '; 20_000]));
    assert_eq!(fetch(&config).await.unwrap().len(), 20_000);
    server.set(Mode::Encoded("identity", document));
    assert_eq!(fetch(&config).await.unwrap().len(), 10_000);
}

#[tokio::test]
async fn redirections_are_counted() {
    let server = FeedServer::start(Mode::RedirectTo("/again".into()));
    fetch(&config(&server.url())).await.unwrap_err();
    for _ in 0..=REDIRECT_LIMIT {
        server.request();
    }
    server.set(Mode::Answer(DOCUMENT.to_vec()));
    fetch(&config(&server.url())).await.unwrap();
    let request = server.request();
    assert!(
        request.starts_with("GET /feed.xml "),
        "one too many: {request}"
    );
}

#[tokio::test]
async fn closed_port_is_told_with_its_address() {
    let address = FeedServer::start(Mode::Silent).address;
    let error = fetch(&config(&format!("http://{address}/")))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn plain_requests_name_the_whole_url_to_a_proxy() {
    let proxy = FeedServer::start(Mode::Answer(DOCUMENT.to_vec()));
    let mut config = config("http://feed.invalid/feed.xml");
    config.proxy = Some(format!("http://{}", proxy.address).parse::<Uri>().unwrap());
    assert_eq!(fetch(&config).await.unwrap(), DOCUMENT);
    let request = proxy.request();
    assert!(
        request.starts_with("GET http://feed.invalid/feed.xml HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request
            .to_ascii_lowercase()
            .contains("host: feed.invalid\r\n")
    );
}

/// A certificate for `feed.test`, its key, and the PEM file that makes it trusted.
fn identity() -> (ServerConfig, tempfile::NamedTempFile) {
    let made = rcgen::generate_simple_self_signed(vec!["feed.test".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(made.cert.der());
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    std::fs::write(file.path(), pem).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let tls = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (tls, file)
}

#[tokio::test]
async fn secure_feed_through_a_tunnel_is_checked_against_the_configured_authorities() {
    let (tls, authorities) = identity();
    let server = FeedServer::start_secure(Mode::Answer(DOCUMENT.to_vec()), tls);
    let through = |host: &str| {
        let proxy = TunnelProxy::start(server.address, None);
        let mut config = config(&format!("https://{host}/feed.xml"));
        config.proxy = Some(format!("http://{}", proxy.address).parse::<Uri>().unwrap());
        (proxy, config)
    };
    let (_proxy, unknown) = through("feed.test");
    let error = fetch(&unknown).await.unwrap_err().explain();
    assert!(error.contains("no TLS with feed.test"), "{error}");

    let (proxy, mut known) = through("feed.test");
    known.ca_file = Some(authorities.path().to_owned());
    assert_eq!(fetch(&known).await.unwrap(), DOCUMENT);
    let asked = proxy.asked();
    assert!(
        asked.starts_with("CONNECT feed.test:443 HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(server.request().starts_with("GET /feed.xml HTTP/1.1\r\n"));

    let (_proxy, mut other) = through("other.test");
    other.ca_file = Some(authorities.path().to_owned());
    let error = fetch(&other).await.unwrap_err().explain();
    assert!(error.contains("no TLS with other.test"), "{error}");
}

#[tokio::test]
async fn proxy_that_refuses_is_told_apart() {
    let proxy = TunnelProxy::start("127.0.0.1:9".parse().unwrap(), Some(407));
    let mut config = config("https://feed.test/feed.xml");
    config.proxy = Some(format!("http://{}", proxy.address).parse::<Uri>().unwrap());
    let error = fetch(&config).await.unwrap_err().explain();
    assert!(
        error.contains("the proxy refused to connect with status 407"),
        "{error}"
    );
}
