//! `stopgap check --probe-upstream` against servers that show the listener's certificate, another one, or none.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::feed_server::{FeedServer, Mode};
use crate::support::process::run;

const NAME: &str = "mail.example";

/// A certificate that is its own authority, with its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Identity {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self { certificate, key }
    }

    /// A server that shows it.
    fn server(&self) -> FeedServer {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let shown: CertificateDer<'static> = self.certificate.der().clone();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![shown], key)
            .unwrap();
        FeedServer::start_secure(Mode::Silent, config)
    }
}

/// Compares by settings in this folder; the exit code, what was said and what was told beside it.
fn probe(folder: &Path, listener: &str, servers: &[SocketAddr]) -> (Option<i32>, String, String) {
    let servers: Vec<String> = servers.iter().map(|at| format!("'https://{at}'")).collect();
    let settings = format!(
        "[[listener]]\naddress = '127.0.0.1:0'\n{listener}\n[[site]]\nname = 'Default Web Site'\nupstreams = [{}]\n\
         upstream_ca = 'trusted.pem'\nupstream_name = '{NAME}'\n",
        servers.join(", ")
    );
    let file = folder.join("stopgap.toml");
    std::fs::write(&file, settings).unwrap();
    let arguments = [
        "check",
        "--probe-upstream",
        "--config",
        file.to_str().unwrap(),
    ];
    let output = run(&folder.join("state"), &arguments);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

const SECURE: &str = "tls = [{ certificate = 'own.pem', key = 'own.key' }]";

#[test]
fn servers_are_told_apart_by_the_certificate_that_they_show() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other, stranger) = (Identity::new(), Identity::new(), Identity::new());
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("own.pem", &own.certificate.pem());
    write("own.key", &own.key.serialize_pem());
    write(
        "trusted.pem",
        &(own.certificate.pem() + &other.certificate.pem()),
    );
    let (same, different, untrusted) = (own.server(), other.server(), stranger.server());
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = (mute.local_addr().unwrap(), mute);

    let (code, said, told) = probe(folder.path(), SECURE, &[same.address]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(said, format!("same: https://{}\n", same.address));

    // A difference is for people to judge: some have no Extended Protection.
    let (code, said, told) = probe(folder.path(), SECURE, &[same.address, different.address]);
    assert_eq!(code, Some(0), "{told}");
    let warning = format!(
        "warning: https://{} shows a certificate that no listener shows: logins with Extended Protection fail; ",
        different.address
    );
    assert!(said.contains(&warning), "{said}");
    assert!(
        said.contains(&format!("same: https://{}\n", same.address)),
        "{said}"
    );

    for (server, reason) in [
        (closed, "refused"),
        (untrusted.address, "certificate"),
        (mute.0, "it did not answer in time"),
    ] {
        let (code, said, told) = probe(folder.path(), SECURE, &[same.address, server]);
        assert_eq!(code, Some(1), "{said}");
        let unknown = format!("unknown: https://{server}: ");
        let line = said.lines().find_map(|line| line.strip_prefix(&*unknown));
        assert!(line.is_some_and(|why| why.contains(reason)), "{said}");
        assert!(
            said.contains(&format!("same: https://{}\n", same.address)),
            "{said}"
        );
        assert!(told.contains("1 server could not be asked"), "{told}");
    }
    let (code, _, told) = probe(folder.path(), SECURE, &[closed, closed]);
    assert_eq!(code, Some(1));
    assert!(told.contains("2 servers could not be asked"), "{told}");
}

#[test]
fn nothing_to_compare_is_said_and_settings_that_cannot_be_used_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("trusted.pem"),
        Identity::new().certificate.pem(),
    )
    .unwrap();
    let server = Identity::new().server();
    let (code, said, told) = probe(folder.path(), "", &[server.address]);
    assert_eq!(code, Some(0), "{told}");
    assert!(said.starts_with("nothing to compare: "), "{said}");
    let (code, said, told) = probe(folder.path(), "tsl = []", &[server.address]);
    assert_eq!((code, said.as_str()), (Some(3), ""));
    assert!(told.contains("did you mean `tls`?"), "{told}");
}
