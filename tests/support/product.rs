//! The whole product as processes: a proxy before an origin, with a signed feed in a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::client::{Client, Lost};
use super::process::{Daemon, replace_file, run, stopgap};
use super::signer::Publisher;

/// How long a test waits for a state before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A publisher and everything that a proxy process needs.
pub(crate) struct Product {
    folder: tempfile::TempDir,
    publisher: Publisher,
    /// Documents published so far: each says another thing, since one that was replaced is never taken again.
    issues: AtomicU64,
}

impl Product {
    /// Everything for a proxy with these settings beside a listener, an admin address and the feed.
    pub(crate) fn new(settings: &str) -> Self {
        Self::with_admin("address = '127.0.0.1:0'\n", settings)
    }

    /// The same with these settings of the admin side.
    pub(crate) fn with_admin(admin: &str, settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let publisher = Publisher::new();
        let root = folder.path().join("root.der");
        fs::write(&root, publisher.root_der()).unwrap();
        let issues = AtomicU64::new(0);
        let product = Self {
            folder,
            publisher,
            issues,
        };
        product.write(admin, settings);
        product.publish("");
        product
    }

    fn write(&self, admin: &str, settings: &str) {
        let text = format!(
            "listen = ['127.0.0.1:0']\n[admin]\n{admin}{settings}\n[[feed]]\nname = 'test'\n\
             url = 'file://{}'\ntrust = 'xmldsig-x509'\nroots = ['root.der']\ninterval = '1h'\n",
            self.feed().display(),
        );
        fs::write(self.settings(), text).unwrap();
    }

    /// Has other settings, for the next start or reload.
    pub(crate) fn set(&self, settings: &str) {
        self.write("address = '127.0.0.1:0'\n", settings);
    }

    /// Has the proxy read its settings, which it can use.
    pub(crate) fn reload(&self) {
        let output = run(&self.state(), &["reload"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
    }

    fn feed(&self) -> PathBuf {
        self.folder.path().join("feed.xml")
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("stopgap.toml")
    }

    /// The proxy's state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Puts a heartbeat and these Configs into the feed, signed; the SHA-256 of the document.
    pub(crate) fn publish(&self, configs: &str) -> String {
        let issue = self.issues.fetch_add(1, Ordering::Relaxed);
        let ping = format!(
            "<Config id=\"PING1\" desc=\"{issue}\"><ActionList><Action type=\"DoNothing\" scope=\"Server\" desc=\"\">\
             <Value>DoNothing</Value></Action></ActionList></Config>"
        );
        let text = format!(
            "<EOCS version=\"1.0.4\" xmlns:sg=\"urn:stopgap:feed:1\">{ping}{configs}</EOCS>"
        );
        let signed = String::from_utf8(self.publisher.sign(&text)).unwrap();
        replace_file(&self.feed(), &signed);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, signed.as_bytes());
        let octets = digest.as_ref().iter();
        octets.map(|octet| format!("{octet:02x}")).collect()
    }

    /// Takes the feed's document away.
    pub(crate) fn lose_feed(&self) {
        fs::remove_file(self.feed()).unwrap();
    }

    /// Starts the proxy.
    pub(crate) fn start(&self) -> Daemon {
        let settings = self.settings();
        Daemon::from_command(stopgap(
            &self.state(),
            &["run", "--config", settings.to_str().unwrap()],
        ))
    }

    /// The status document.
    pub(crate) fn status(&self) -> serde_json::Value {
        let output = run(&self.state(), &["status", "-o", "json"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The report of one mitigation, once `holds` is true of it.
    pub(crate) fn mitigation(
        &self,
        id: &str,
        holds: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            let mut mitigations = status["mitigations"].as_array().unwrap().iter();
            let found = mitigations.find(|one| one["id"] == id);
            if let Some(found) = found.filter(|found| holds(found)) {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "{id} stays {found:#?}");
            // The status of another process is only to be asked for.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a mitigation has this state.
    pub(crate) fn becomes(&self, id: &str, state: &str) -> serde_json::Value {
        self.mitigation(id, |found| found["state"] == state)
    }

    /// Waits until no server holds anything for a mitigation any more.
    pub(crate) fn is_given_up(&self, id: &str) {
        self.mitigation(id, |found| found["servers"].as_array().unwrap().is_empty());
    }
}

/// How far a server is with a mitigation, as `state: reason`.
pub(crate) fn standing(mitigation: &serde_json::Value, server: &str) -> String {
    let servers = mitigation["servers"].as_array().unwrap();
    let found = servers.iter().find(|one| one["server"] == server);
    let found = found.unwrap_or_else(|| panic!("no {server} in {mitigation:#}"));
    let text = |name: &str| found[name].as_str().unwrap().to_owned();
    format!("{}: {}", text("state"), text("reason"))
}

/// The status of an answer to a `GET`, or 0 for a connection that was reset.
pub(crate) fn get(daemon: &Daemon, target: &str) -> u16 {
    match Client::connect(daemon.address).get(target, &[]) {
        Ok(reply) => reply.status,
        Err(Lost::Reset) => 0,
        Err(lost) => panic!("{lost:?}"),
    }
}

/// A sidecar of this host for a server, in the proxy's settings.
pub(crate) fn local_link(server: &str, folder: &Path) -> String {
    let socket = folder.join("s.sock");
    format!(
        "[[sidecar]]\nserver = '{server}'\nsocket = '{}'\ndeadline = '20s'\n",
        socket.display()
    )
}
