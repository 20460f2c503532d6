//! A WebSocket client and server that know nothing of this program, with the proxy between them; skipped with a line
//! that says so where they are missing, unless `STOPGAP_REQUIRE_CLIENTS` insists.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use stopgap::net::CertificateFiles;

use crate::support::proxy::{Builder, before_addresses};

/// Where Debian's `python3-websockets` is found.
const PYTHON: &str = "/usr/bin/python3";

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/websocket.py");

fn is_installed() -> bool {
    let found = Command::new(PYTHON)
        .args(["-c", "import websockets"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let required = std::env::var_os("STOPGAP_REQUIRE_CLIENTS").is_some();
    assert!(found || !required, "python3-websockets is not installed");
    if !found {
        println!("SKIPPED: python3-websockets is not installed");
    }
    found
}

/// A WebSocket server; it ends when dropped.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(PYTHON)
            .args([PROGRAM, "serve"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Self {
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let line = server.line();
        let port = line.strip_prefix("port ").unwrap().parse().unwrap();
        server.address.set_port(port);
        server
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended: nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(act: &str, url: &str) -> Output {
    let arguments = [PROGRAM, act, url];
    Command::new(PYTHON).args(arguments).output().unwrap()
}

fn refused(url: &str) -> String {
    let output = client("refused", url);
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

fn with_http2(builder: Builder) -> Builder {
    builder.config(|config| config.listeners[0].http2 = true)
}

const RULES: &str = r#"<rule name="a"><match url="^attack"/><action type="AbortRequest"/></rule>
    <rule name="b"><match url="^closed"/><action type="CustomResponse" statusCode="403"/></rule>"#;

#[test]
fn client_and_server_agree_through_the_proxy() {
    if !is_installed() {
        return;
    }
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = CertificateFiles {
        certificate: folder.path().join("a.pem"),
        key: folder.path().join("a.key"),
    };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let before = || with_http2(before_addresses(&[server.address])).rules(RULES);
    let plain = before().start();
    let secure = before()
        .config(|config| config.listeners[0].tls = vec![files])
        .start();
    for url in [
        format!("ws://{}", plain.address),
        format!("wss://{}", secure.address),
    ] {
        let output = client("ask", &format!("{url}/notes?a=1"));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{url}: {told}");
        // With their reasons, to the server too.
        for expected in ["closed 1001 gone", "closed 1001 gone", "closed 4001 done"] {
            assert_eq!(server.line(), expected, "{url}");
        }
        assert!(refused(&format!("{url}/attack")).starts_with("no answer"));
        assert_eq!(refused(&format!("{url}/closed")), "status 403");
        assert_eq!(refused(&format!("{url}/%00")), "status 400");
    }
}
