//! Programs that people use: each skipped with a line that says so where it is missing, unless
//! `STOPGAP_REQUIRE_CLIENTS` insists.

use std::collections::HashSet;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use stopgap::net::CertificateFiles;

use crate::support::origin::{Origin, Then};
use crate::support::proxy::{Builder, Fixture, before, eventually};

/// Whether a program can be run; says so when it cannot.
fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    let required = std::env::var_os("STOPGAP_REQUIRE_CLIENTS").is_some();
    assert!(found || !required, "{program} is not installed");
    if !found {
        println!("SKIPPED: {program} is not installed");
    }
    found
}

fn curl(arguments: &[&str], url: &str) -> Output {
    Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "20",
        ])
        .args(["--write-out", "\n%{http_code} %{http_version}"])
        .args(arguments)
        .arg(url)
        .output()
        .unwrap()
}

/// The body, the status and the version of an answer.
fn answer(output: &Output) -> (String, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, last) = text.rsplit_once('\n').unwrap();
    (body.to_owned(), last.to_owned())
}

fn with_http2(builder: Builder) -> Builder {
    builder.config(|config| config.listeners[0].http2 = true)
}

fn secure(builder: Builder, folder: &std::path::Path) -> Fixture {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = CertificateFiles {
        certificate: folder.join("a.pem"),
        key: folder.join("a.key"),
    };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    with_http2(builder)
        .config(|config| config.listeners[0].tls = vec![files])
        .start()
}

const ABORT: &str = r#"<rule name="a"><match url="^attack"/><action type="AbortRequest"/></rule>"#;

#[test]
fn curl_by_every_protocol() {
    if !has("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::answering("hello");
    let plain = with_http2(before(&[&origin])).rules(ABORT).start();
    let tls = secure(before(&[&origin]).rules(ABORT), folder.path());
    let http = format!("http://{}/owa/", plain.address);
    let https = format!("https://localhost:{}/owa/", tls.address.port());
    let ca = folder.path().join("a.pem");
    let ca = ca.to_str().unwrap();
    for (arguments, url, version) in [
        (vec!["--http1.1"], &http, "1.1"),
        (vec!["--http1.0"], &http, "1"),
        (vec!["--http2-prior-knowledge"], &http, "2"),
        // The offer to upgrade is not taken.
        (vec!["--http2"], &http, "1.1"),
        (vec!["--http1.1", "--cacert", ca], &https, "1.1"),
        (vec!["--http2", "--cacert", ca], &https, "2"),
        (
            vec!["--http2", "--cacert", ca, "--data", "x=1"],
            &https,
            "2",
        ),
        (
            vec![
                "--http2-prior-knowledge",
                "--header",
                "Expect: 100-continue",
                // Longer than it has in all: it is told to go on.
                "--expect100-timeout",
                "60",
                "--data",
                "x=1",
            ],
            &http,
            "2",
        ),
    ] {
        let output = curl(&arguments, url);
        let (body, last) = answer(&output);
        assert_eq!(body, "hello", "{arguments:?}: {output:?}");
        assert!(last.starts_with("200 "), "{arguments:?}: {last}");
        assert!(last[4..].starts_with(version), "{arguments:?}: {last}");
    }
    let attack = format!("http://{}/attack", plain.address);
    // Reset on one, a stream that was not closed cleanly on the other.
    assert_eq!(curl(&["--http1.1"], &attack).status.code(), Some(56));
    assert_eq!(
        curl(&["--http2-prior-knowledge"], &attack).status.code(),
        Some(92)
    );
}

/// Answers as a server that asks for NTLM: any second message of the client's logs its connection in.
fn ntlm_origin() -> Origin {
    // A challenge with no target (\[MS-NLMP\] section 2.2.1.2).
    const CHALLENGE: &str = "TlRMTVNTUAACAAAAAAAAAAAAAAABAgAAASNFZ4mrze8=";
    let logged_in = Mutex::new(HashSet::new());
    Origin::start(move |connection, seen| {
        let (number, authorization) = (seen.connection, seen.values("authorization").concat());
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        let mut logged_in = logged_in.lock().unwrap();
        if authorization.starts_with("NTLM TlRMTVNTUAAB") {
            let field = format!("WWW-Authenticate: NTLM {CHALLENGE}\r\n");
            connection.answer("401 Unauthorized", &field, "");
        } else if authorization.starts_with("NTLM TlRMTVNTUAAD") || logged_in.contains(&number) {
            logged_in.insert(number);
            connection.answer("200 OK", "", "mail");
        } else {
            connection.answer("401 Unauthorized", "WWW-Authenticate: NTLM\r\n", "");
        }
        Then::Keep
    })
}

#[test]
fn curl_logs_in_by_ntlm_on_both_protocols() {
    if !has("curl") {
        return;
    }
    let version = Command::new("curl").arg("--version").output().unwrap();
    if !String::from_utf8_lossy(&version.stdout).contains("NTLM") {
        println!("SKIPPED: this curl knows no NTLM");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let origin = ntlm_origin();
    let plain = before(&[&origin]).start();
    let output = curl(
        &["--ntlm", "--user", "ann:secret"],
        &format!("http://{}/", plain.address),
    );
    let (body, last) = answer(&output);
    assert_eq!((body.as_str(), &last[..3]), ("mail", "200"), "{output:?}");
    // On HTTP/2 it is told to use HTTP/1.1, and does.
    let tls = secure(before(&[&origin]), folder.path());
    let url = format!("https://localhost:{}/", tls.address.port());
    let ca = folder.path().join("a.pem");
    let output = curl(
        &[
            "--ntlm",
            "--user",
            "ann:secret",
            "--http1.1",
            "--cacert",
            ca.to_str().unwrap(),
        ],
        &url,
    );
    assert_eq!(answer(&output).0, "mail", "{output:?}");
    // Nobody else is logged in by that.
    let output = curl(&[], &format!("http://{}/", plain.address));
    assert!(answer(&output).1.starts_with("401"));
}

fn h2load(arguments: &[&str], url: &str) -> String {
    let output = Command::new("h2load")
        .args(arguments)
        .arg(url)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn h2load_gets_every_answer() {
    if !has("h2load") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::answering("hello");
    let plain = with_http2(before(&[&origin])).start();
    let tls = secure(before(&[&origin]), folder.path());
    let load = ["-n", "2000", "-c", "8", "-m", "10"];
    for url in [
        format!("http://{}/", plain.address),
        format!("https://localhost:{}/", tls.address.port()),
    ] {
        let text = h2load(&load, &url);
        assert!(
            text.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{text}"
        );
        assert!(text.contains("status codes: 2000 2xx"), "{text}");
    }
}

/// Runs slowhttptest against a proxy whose limits are short, and waits until nothing of it is left.
fn slow(mode: &[&str]) {
    let origin = Origin::answering("hello");
    let limits = |limits: &mut stopgap::proxy::Limits| {
        limits.head_timeout = std::time::Duration::from_secs(1);
        limits.body_timeout = std::time::Duration::from_secs(1);
    };
    let proxy = before(&[&origin]).limits(limits).start();
    let url = format!("http://{}/", proxy.address);
    let output = Command::new("slowhttptest")
        .args(mode)
        .args([
            "-c", "50", "-r", "50", "-l", "3", "-i", "2", "-p", "3", "-u", &url,
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("service available:   NO"), "{text}");
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 200);
    eventually("no slow client is left", || {
        proxy.metric("stopgap_proxy_connections") <= 1.0
    });
}

#[test]
fn slow_clients_keep_nobody_out() {
    if !has("slowhttptest") {
        return;
    }
    for mode in [["-H"], ["-B"], ["-X"]] {
        slow(&mode);
    }
}
