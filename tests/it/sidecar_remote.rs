//! A sidecar on another host: who may ask it, who is taken for it, and what either bears with.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use stopgap::net::{CertificateFiles, Fingerprint, MutualClient, MutualServer, PeerTrust};
use stopgap::sidecar::{
    Agent, AgentAddress, AgentConfig, AllowList, BODY_LIMIT, Client, DryRun, HANDSHAKE_LIMIT,
    NamePattern, PROTOCOL_VERSIONS, Reply, Request, TargetResult, serve,
};
use stopgap::store::StateDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};

use super::sidecar_process::{apply, service};

/// How long a client waits where a test expects an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate of its own making, and its fingerprint.
pub(crate) struct Identity {
    pub(crate) files: CertificateFiles,
    pub(crate) pin: Fingerprint,
}

impl Identity {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![format!("{name}.test")]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let files = CertificateFiles {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        let pin = *stopgap::signature::sha256(certificate.der()).octets();
        Self { files, pin }
    }

    /// The fingerprint as settings write it.
    pub(crate) fn hex(&self) -> String {
        self.pin
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect()
    }
}

fn trust(pins: &[Fingerprint]) -> PeerTrust {
    PeerTrust {
        authorities: None,
        pins: pins.to_vec(),
    }
}

/// An agent of a dry run at an address in this process, for whoever has one of these certificates.
fn served(identity: &Identity, pins: &[Fingerprint]) -> SocketAddr {
    let config = AgentConfig {
        allow: AllowList {
            services: vec![NamePattern::new("MSExchange*").unwrap()],
            ..AllowList::default()
        },
        ..AgentConfig::default()
    };
    let journal = Box::new(StateDir::memory().slot("journal"));
    let agent = Agent::new(config, Box::new(DryRun::new()), journal).unwrap();
    let tls = MutualServer::load(identity.files.clone(), &trust(pins)).unwrap();
    let address = AgentAddress::bind("127.0.0.1:0".parse().unwrap(), tls).unwrap();
    let bound = address.address().unwrap();
    tokio::spawn(serve(address, Arc::new(agent), std::future::pending()));
    bound
}

fn client(identity: &Identity, pins: &[Fingerprint], address: SocketAddr) -> Client {
    let tls = MutualClient::load(identity.files.clone(), &trust(pins), "sidecar.test").unwrap();
    Client::remote(&address.ip().to_string(), address.port(), tls, PATIENCE)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

#[tokio::test]
async fn only_those_who_know_each_other_speak() {
    let folder = tempfile::tempdir().unwrap();
    let [sidecar, proxy, stranger] =
        ["sidecar", "proxy", "stranger"].map(|name| Identity::new(folder.path(), name));
    let address = served(&sidecar, &[proxy.pin]);

    let known = client(&proxy, &[sidecar.pin], address);
    let order = apply("M1", &[service("MSExchangeUM")]);
    let Reply::Outcomes(outcomes) = known.ask(&order).await.unwrap() else {
        panic!("no outcomes")
    };
    assert!(matches!(outcomes[0].result, TargetResult::Held(_)));

    let unknown = client(&stranger, &[sidecar.pin], address);
    let error = unknown.ask(&Request::State).await.unwrap_err();
    // The sidecar says no only after it has heard the request's certificate.
    assert!(
        error.is_unknown() && !error.is_unreachable(),
        "{}",
        chain(&error)
    );

    let deceived = client(&proxy, &[stranger.pin], address);
    let error = deceived.ask(&Request::State).await.unwrap_err();
    assert!(error.is_unreachable(), "{}", chain(&error));
    assert!(chain(&error).contains(&sidecar.hex()), "{}", chain(&error));

    // Neither has changed anything for those who are known.
    let Reply::State(reports) = known.ask(&Request::State).await.unwrap() else {
        panic!("no state")
    };
    assert_eq!(reports.len(), 1);
}

#[tokio::test]
async fn limits_are_those_of_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let [sidecar, proxy] = ["sidecar", "proxy"].map(|name| Identity::new(folder.path(), name));
    let address = served(&sidecar, &[proxy.pin]);
    let tls =
        MutualClient::load(proxy.files.clone(), &trust(&[sidecar.pin]), "sidecar.test").unwrap();
    for (length, status) in [(BODY_LIMIT, " 400 "), (BODY_LIMIT + 1, " 413 ")] {
        let socket = TcpStream::connect(address).await.unwrap();
        let mut stream = tls.connect(socket).await.unwrap();
        let head =
            format!("POST /v1/apply HTTP/1.1\r\nhost: s\r\ncontent-length: {length}\r\n\r\n{{}}");
        let request = head + &" ".repeat(length - 2);
        // It may be answered, and closed, before it was read whole.
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.flush().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains(status), "{length}: {answer}");
    }
}

#[tokio::test]
async fn strangers_that_say_nothing_take_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let [sidecar, proxy] = ["sidecar", "proxy"].map(|name| Identity::new(folder.path(), name));
    let address = served(&sidecar, &[proxy.pin]);
    let known = client(&proxy, &[sidecar.pin], address);
    let mut silent = Vec::new();
    for _ in 1..HANDSHAKE_LIMIT {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    known.ask(&Request::Health).await.unwrap();
    // Each is closed after a while, without having said or heard anything.
    for mut stream in silent {
        let mut heard = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(heard, b"");
    }
}

/// A sidecar that knows only these versions, and answers a request in one of them with its path.
fn speaking(folder: &Path, versions: &'static [u32]) -> PathBuf {
    let path = folder.join("versions");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 64];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let spoken = versions
                .iter()
                .any(|version| request.starts_with(&format!("POST /v{version}/health ")));
            let (status, body) = match spoken {
                true => (
                    "200 OK",
                    r#"{"health":{"version":"9","driver":"new","problem":null}}"#.to_owned(),
                ),
                false => (
                    "404 Not Found",
                    format!(r#"{{"error":"no","versions":{versions:?}}}"#),
                ),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    path
}

#[tokio::test]
async fn programs_of_different_age_agree_on_a_version_or_say_which_is_older() {
    for (versions, understood) in [(&[1, 2, 3][..], true), (&[2, 3][..], false)] {
        let folder = tempfile::tempdir().unwrap();
        let path = speaking(folder.path(), versions);
        let client = Client::new(&path, PATIENCE);
        match client.ask(&Request::Health).await {
            Ok(Reply::Health(health)) => {
                assert!(understood);
                assert_eq!(health.driver, "new");
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!understood, "{text}");
                let expected = format!(
                    "versions [2, 3] of the protocol and this program {PROTOCOL_VERSIONS:?}"
                );
                assert!(text.contains(&expected), "{text}");
            }
        }
    }
}
