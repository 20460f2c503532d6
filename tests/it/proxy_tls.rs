//! TLS on both sides of the proxy: who is shown which certificate, who is believed, and what goes on when files change.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, ServerConfig};
use stopgap::net::CertificateFiles;
use stopgap::proxy::{ServerTls, Upstream};

use crate::support::client::{Client, Handshake, Lost};
use crate::support::origin::{Origin, Then};
use crate::support::process::{Daemon, replace_file};
use crate::support::proxy::{Builder, Fixture, before, before_addresses, eventually};

/// An authority, and a folder for what it issued.
struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = Self {
            issuer: rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate in DER, and its key, for these names.
    fn issue(&self, names: &[&str]) -> (rcgen::Certificate, rcgen::KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let parameters = rcgen::CertificateParams::new(names).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }

    /// Writes a new certificate and its key to the files of this name; both files, and the certificate in DER.
    fn write(&self, file: &str, names: &[&str]) -> (CertificateFiles, Vec<u8>) {
        let (certificate, key) = self.issue(names);
        let files = CertificateFiles {
            certificate: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        // The key first: a certificate without its key is refused, and looked at again.
        replace_file(&files.key, &key.serialize_pem());
        replace_file(&files.certificate, &certificate.pem());
        (files, certificate.der().to_vec())
    }

    /// A client that trusts this authority.
    fn client(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn any_client(&self) -> Arc<ClientConfig> {
        self.client(rustls::ALL_VERSIONS)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Has the only listener show these certificates.
fn showing(builder: Builder, files: Vec<CertificateFiles>) -> Builder {
    builder.config(|config| config.listeners[0].tls = files)
}

fn connect(proxy: &Fixture, config: &Arc<ClientConfig>, name: &str) -> (Client, Handshake) {
    Client::connect_tls(proxy.address, Arc::clone(config), name).unwrap()
}

#[test]
fn both_versions_serve_requests_that_are_told_as_secure() {
    let authority = Authority::new();
    let (files, _) = authority.write("mail", &["mail.example"]);
    let origin = Origin::answering("hello");
    let rule = r#"<rule name="r"><match url="^secret"/><conditions><add input="{HTTPS}" pattern="^on$"/></conditions><action type="CustomResponse" statusCode="403"/></rule>"#;
    let proxy = showing(before(&[&origin]), vec![files]).rules(rule).start();
    for (version, expected) in [
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
    ] {
        let config = authority.client(&[version]);
        let (mut client, handshake) = connect(&proxy, &config, "mail.example");
        assert_eq!(handshake.version, expected);
        assert_eq!(handshake.protocol.as_deref(), Some(&b"http/1.1"[..]));
        for _ in 0..3 {
            assert_eq!(client.get("/owa/", &[]).unwrap().text(), "hello");
            let seen = origin.next();
            assert_eq!(seen.values("x-forwarded-proto"), ["https"]);
        }
        assert_eq!(client.get("/secret", &[]).unwrap().status, 403);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn large_bodies_pass_both_ways() {
    let authority = Authority::new();
    let (files, _) = authority.write("mail", &["mail.example"]);
    let origin = Origin::start(|connection, seen| {
        let Some(body) = connection.take(seen) else {
            return Then::Close;
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.send(&[head.as_bytes(), &body].concat());
        Then::Keep
    });
    let proxy = showing(before(&[&origin]), vec![files]).start();
    let (mut client, _) = connect(&proxy, &authority.any_client(), "mail.example");
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    for _ in 0..2 {
        let reply = client.request("POST", "/", &[], &body).unwrap();
        assert!(reply.body == body);
    }
}

#[test]
fn certificate_is_that_of_the_name_asked_for() {
    let authority = Authority::new();
    let (first, first_shown) = authority.write("first", &["first.example"]);
    let (second, second_shown) = authority.write("second", &["*.second.example", "second.example"]);
    let origin = Origin::answering("");
    let proxy = showing(before(&[&origin]), vec![first, second]).start();
    let config = authority.any_client();
    for (name, shown) in [
        ("first.example", &first_shown),
        ("SECOND.example", &second_shown),
        ("a.second.example", &second_shown),
    ] {
        let (_, handshake) = connect(&proxy, &config, name);
        assert!(handshake.certificate == *shown, "{name}");
    }
    // Any other name gets the first, which this client does not take for it.
    let error = Client::connect_tls(proxy.address, config, "third.example").err();
    let error = error.unwrap().to_string();
    assert!(error.contains("first.example"), "{error}");
    eventually("the failure is counted", || {
        proxy.metric("stopgap_proxy_tls_handshake_failures_total") == 1.0
    });
}

#[test]
fn sessions_are_resumed_at_every_worker() {
    let authority = Authority::new();
    let (files, _) = authority.write("mail", &["mail.example"]);
    let origin = Origin::answering("");
    let proxy = showing(before(&[&origin]), vec![files])
        .config(|config| config.workers = 3)
        .start();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = authority.client(&[version]);
        let resumed = (0..9).map(|_| {
            let (mut client, handshake) = connect(&proxy, &config, "mail.example");
            // Tickets of TLS 1.3 come behind the handshake.
            assert_eq!(client.get("/", &[]).unwrap().status, 200);
            handshake.resumed
        });
        let resumed: Vec<bool> = resumed.collect();
        assert!(!resumed[0] && resumed[1..].iter().all(|&resumed| resumed));
    }
}

#[test]
fn new_certificates_are_shown_and_connections_stay() {
    let authority = Authority::new();
    let (files, old) = authority.write("mail", &["mail.example"]);
    let origin = Origin::answering("hello");
    let proxy = showing(before(&[&origin]), vec![files.clone()]).start();
    let (mut kept, handshake) = connect(&proxy, &authority.any_client(), "mail.example");
    assert!(handshake.certificate == old);
    assert_eq!(proxy.running.reload_certificates().0, 0);

    let good = fs::read_to_string(&files.certificate).unwrap();
    replace_file(&files.certificate, "hello");
    let (changed, errors) = proxy.running.reload_certificates();
    assert_eq!((changed, errors.len()), (0, 1));
    replace_file(&files.certificate, &good);
    let (_, handshake) = connect(&proxy, &authority.any_client(), "mail.example");
    assert!(handshake.certificate == old);

    let (_, new) = authority.write("mail", &["mail.example"]);
    assert_eq!(proxy.running.reload_certificates().0, 1);
    let (_, handshake) = connect(&proxy, &authority.any_client(), "mail.example");
    assert!(handshake.certificate == new && new != old);
    assert_eq!(kept.get("/", &[]).unwrap().text(), "hello");
}

#[test]
fn idle_connection_ends_with_a_goodbye() {
    let authority = Authority::new();
    let (files, _) = authority.write("mail", &["mail.example"]);
    let origin = Origin::answering("");
    let proxy = showing(before(&[&origin]), vec![files])
        .limits(|limits| limits.idle_timeout = Duration::from_millis(100))
        .start();
    let (mut client, _) = connect(&proxy, &authority.any_client(), "mail.example");
    assert_eq!(client.get("/", &[]).unwrap().status, 200);
    // TLS tells an end without close_notify as an error.
    assert_eq!(client.rest(), Ok(Vec::new()));
}

#[test]
fn abort_resets_without_a_byte_of_an_answer() {
    let authority = Authority::new();
    let (files, _) = authority.write("mail", &["mail.example"]);
    let origin = Origin::answering("");
    let rule = r#"<rule name="r"><match url=".*"/><action type="AbortRequest"/></rule>"#;
    let proxy = showing(before(&[&origin]), vec![files]).rules(rule).start();
    let (mut client, _) = connect(&proxy, &authority.any_client(), "mail.example");
    assert_eq!(client.get("/", &[]), Err(Lost::Reset));
}

#[test]
fn client_that_does_not_shake_hands_is_closed() {
    let authority = Authority::new();
    let (files, _) = authority.write("mail", &["mail.example"]);
    let origin = Origin::answering("");
    let proxy = showing(before(&[&origin]), vec![files])
        .limits(|limits| limits.head_timeout = Duration::from_millis(200))
        .start();
    let mut silent = TcpStream::connect(proxy.address).unwrap();
    let mut plain = TcpStream::connect(proxy.address).unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    for stream in [&mut silent, &mut plain] {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut rest = Vec::new();
        // An alert may come before the end.
        stream.read_to_end(&mut rest).unwrap();
        assert!(!rest.starts_with(b"HTTP"));
    }
    eventually("both are counted", || {
        proxy.metric("stopgap_proxy_tls_handshake_failures_total") == 2.0
    });
    assert!(origin.others().is_empty());
}

#[test]
fn drain_waits_for_requests_within_tls() {
    let authority = Authority::new();
    let (files, _) = authority.write("mail", &["mail.example"]);
    let origin = Origin::answering("hello");
    let proxy = showing(before(&[&origin]), vec![files]).start();
    let (mut client, _) = connect(&proxy, &authority.any_client(), "mail.example");
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| {
            crate::support::proxy::block_on(proxy.running.drain(Duration::from_secs(20)));
        });
        let reply = client.get("/", &[]).unwrap();
        assert_eq!(reply.text(), "hello");
        assert_eq!(client.rest(), Ok(Vec::new()));
        drained.join().unwrap();
    });
}

/// A server within TLS that answers every connection's first request with 200, and tells what name it was asked for.
fn tls_origin(
    certificate: &rcgen::Certificate,
    key: &rcgen::KeyPair,
) -> (SocketAddr, Receiver<String>) {
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = sync_channel(1_000);
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let (config, tell) = (Arc::clone(&config), tell.clone());
            std::thread::spawn(move || {
                let tls = rustls::ServerConnection::new(config).unwrap();
                let mut stream = rustls::StreamOwned::new(tls, socket);
                let mut bytes = Vec::new();
                loop {
                    let mut buffer = [0; 4_096];
                    match stream.read(&mut buffer) {
                        Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
                        _ => return,
                    }
                    if bytes.ends_with(b"\r\n\r\n") {
                        bytes.clear();
                        let name = stream.conn.server_name().unwrap_or("").to_owned();
                        tell.send(name).unwrap();
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
                        stream.write_all(answer).unwrap();
                    }
                }
            });
        }
    });
    (address, told)
}

/// A proxy before a server within TLS.
fn verifying(address: SocketAddr, authorities: Option<&Path>, name: Option<&str>) -> Builder {
    before_addresses(&[address]).config(|config| {
        let Upstream::Servers(servers) = &mut config.sites[0].upstream else {
            panic!("no servers");
        };
        servers.members[0].server.tls = Some(ServerTls {
            authorities: authorities.map(Path::to_owned),
            name: name.map(str::to_owned),
        });
    })
}

#[test]
fn server_is_believed_when_it_proves_its_name() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["exchange.internal", "127.0.0.1"]);
    let (address, told) = tls_origin(&certificate, &key);
    let trusted = authority.path("ca.pem");
    for (name, asked) in [(Some("exchange.internal"), "exchange.internal"), (None, "")] {
        let proxy = verifying(address, Some(&trusted), name).start();
        let mut client = proxy.client();
        for _ in 0..3 {
            assert_eq!(client.get("/", &[]).unwrap().text(), "hello");
            assert_eq!(told.recv().unwrap(), asked);
        }
        assert_eq!(proxy.metric("stopgap_proxy_upstream_connects_total"), 1.0);
    }
}

#[test]
fn server_that_proves_nothing_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.issue(&["exchange.internal"]);
    let (address, told) = tls_origin(&certificate, &key);
    let (trusted, foreign) = (authority.path("ca.pem"), other.path("ca.pem"));
    for (authorities, name) in [
        (&foreign, "exchange.internal"),
        (&trusted, "other.internal"),
        (&trusted, "127.0.0.1"),
    ] {
        let proxy = verifying(address, Some(authorities), Some(name)).start();
        assert_eq!(proxy.client().get("/", &[]).unwrap().status, 502);
    }
    // Plain HTTP is no answer to a handshake.
    let plain = Origin::answering("");
    let proxy = verifying(plain.address, Some(&trusted), Some("exchange.internal")).start();
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 502);
    assert!(told.try_recv().is_err() && plain.others().is_empty());
}

#[test]
fn what_cannot_be_used_is_an_end_with_its_reason() {
    let authority = Authority::new();
    let (mut files, _) = authority.write("mail", &["mail.example"]);
    files.key = authority.path("ca.pem");
    let run = |arguments: &[&str]| {
        let output = crate::support::process::run(authority.folder.path(), arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), errors)
    };
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let flags = [
        "--tls-listen=127.0.0.1:0",
        &format!("--tls-certificate={certificate}"),
        &format!("--tls-key={key}"),
    ];
    for command in [&["run"][..], &["config", "check"]] {
        let (code, errors) = run(&[command, &flags[..]].concat());
        assert_eq!(code, Some(3), "{errors}");
        assert!(errors.contains("holds no private key"), "{errors}");
    }
    let (code, errors) = run(&["run", "--tls-listen=127.0.0.1:0"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("needs --tls-certificate FILE"), "{errors}");
}

#[test]
fn process_shows_new_certificates_without_a_restart() {
    let authority = Authority::new();
    let (files, old) = authority.write("mail", &["mail.example"]);
    let state = tempfile::tempdir().unwrap();
    let arguments = [
        "--tls-listen=127.0.0.1:0",
        &format!("--tls-certificate={}", files.certificate.display()),
        &format!("--tls-key={}", files.key.display()),
    ];
    let daemon = Daemon::start(state.path(), &arguments);
    let mut greeting = daemon.greeting.iter();
    let line = greeting.find_map(|line| line.strip_prefix("listening on https://"));
    let address = line.unwrap().split_once(' ').unwrap().0.parse().unwrap();
    let shown = || {
        let connected = Client::connect_tls(address, authority.any_client(), "mail.example");
        connected.unwrap().1.certificate
    };
    let (mut kept, handshake) =
        Client::connect_tls(address, authority.any_client(), "mail.example").unwrap();
    assert!(handshake.certificate == old);
    let (_, new) = authority.write("mail", &["mail.example"]);
    eventually("the new certificate is shown", || shown() == new);
    replace_file(&files.certificate, "hello");
    daemon.logged("holds no certificate");
    assert!(shown() == new);
    let (_, newest) = authority.write("mail", &["mail.example"]);
    daemon.signal("HUP");
    eventually("the newest certificate is shown", || shown() == newest);
    assert_eq!(kept.get("/", &[]).unwrap().status, 200);
}

#[test]
fn client_certificates_are_asked_for_and_verified() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (files, _) = authority.write("mail", &["mail.example"]);
    let origin = Origin::answering("hello");
    let with = |issuer: &Authority| {
        let (certificate, key) = issuer.issue(&["client.example"]);
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    };
    let (known, unknown, without) = (with(&authority), with(&stranger), authority.any_client());
    for required in [true, false] {
        let proxy = showing(before(&[&origin]), vec![files.clone()])
            .config(|config| {
                config.listeners[0].clients = Some(stopgap::net::ClientCertificates {
                    authorities: authority.path("ca.pem"),
                    required,
                });
            })
            .start();
        // By TLS 1.3 a client learns of a refusal with the first thing that it reads.
        let is_served = |config: &Arc<ClientConfig>| {
            let connected = Client::connect_tls(proxy.address, Arc::clone(config), "mail.example");
            let Ok((mut client, _)) = connected else {
                return false;
            };
            let asked = client.send(b"GET / HTTP/1.1\r\nHost: mail.example\r\n\r\n");
            let mut first = || client.read_exactly(12);
            asked.is_ok() && first().is_ok_and(|line| line == b"HTTP/1.1 200")
        };
        assert!(is_served(&known), "{required}");
        assert!(!is_served(&unknown), "{required}");
        assert_eq!(is_served(&without), !required);
    }
    assert_eq!(origin.others().len(), 3);
}
