//! The sidecar's real binary as a child process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stopgap::sidecar::{Client, Holder, Outcome, Reply, Request, SidecarError, TargetReport, Undo};

/// How long a test waits for an answer before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `stopgap-sidecar run`, killed when the test ends.
pub(crate) struct Sidecar {
    child: Child,
    socket: PathBuf,
    /// Where it listens within TLS, if it does.
    pub(crate) address: Option<SocketAddr>,
}

impl Sidecar {
    /// Starts with `settings` beside what every test says: a socket and a state folder in `folder`, and our own user.
    pub(crate) fn start(folder: &Path, settings: &str) -> Self {
        let user =
            String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap();
        let head = format!("socket = 's.sock'\nusers = [{}]\n", user.trim());
        Self::start_anywhere(folder, &(head + settings))
    }

    /// Starts with `settings` beside a state folder in `folder`.
    pub(crate) fn start_anywhere(folder: &Path, settings: &str) -> Self {
        let file = folder.join("sidecar.toml");
        std::fs::write(&file, format!("state_dir = 'state'\n{settings}")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_stopgap-sidecar"))
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = None;
        let output = BufReader::new(child.stdout.take().unwrap());
        let ready = output.lines().map_while(Result::ok).any(|line| {
            if let Some(rest) = line.strip_prefix("listening on ") {
                let place = rest.split(' ').next().unwrap();
                address = address.or(place.parse().ok());
            }
            line == "ready"
        });
        assert!(ready, "no ready line: {:?}", child.wait());
        Self {
            child,
            socket: folder.join("s.sock"),
            address,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.socket, PATIENCE)
    }

    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, SidecarError> {
        ask(&self.client(), request)
    }

    /// The outcomes of an order.
    pub(crate) fn order(&self, request: &Request) -> Vec<Outcome> {
        match self.ask(request).unwrap() {
            Reply::Outcomes(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    /// Gives up what a mitigation holds.
    pub(crate) fn undo(&self, mitigation: &str) -> Vec<Outcome> {
        let mitigation = Holder::new(mitigation).unwrap();
        self.order(&Request::Undo(Undo { mitigation }))
    }

    /// What is held.
    pub(crate) fn state(&self) -> Vec<TargetReport> {
        match self.ask(&Request::State).unwrap() {
            Reply::State(reports) => reports,
            other => panic!("{other:?}"),
        }
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Asks from a test that has no runtime.
pub(crate) fn ask(client: &Client, request: &Request) -> Result<Reply, SidecarError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(client.ask(request))
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Already ended: nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
