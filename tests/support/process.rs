//! The real binary as a child process, stopped by its id when the test ends.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a test waits for the binary before it fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// Tests that load the machine, and those that measure time on it, take turns by this lock.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running `stopgap run`.
pub(crate) struct Daemon {
    child: Child,
    /// Where it takes traffic.
    pub(crate) address: SocketAddr,
    /// What it said on standard output before it was ready.
    pub(crate) greeting: Vec<String>,
    /// Its lines on standard error, as they come.
    log: Mutex<Receiver<String>>,
    /// Time from the start of the process to its ready line.
    pub(crate) start: Duration,
}

/// `stopgap` with these arguments and a state folder, ready to be changed and run.
pub(crate) fn stopgap(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stopgap"));
    command
        .args(arguments)
        .env("STOPGAP_STATE_DIR", state)
        .env_remove("STATE_DIRECTORY")
        .env_remove("STOPGAP_LOG");
    command
}

/// Runs `stopgap` to its end.
pub(crate) fn run(state: &Path, arguments: &[&str]) -> Output {
    stopgap(state, arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

impl Daemon {
    /// Starts `stopgap run` on a free port of 127.0.0.1, with no admin address unless `arguments` name one, and waits
    /// until it is ready.
    pub(crate) fn start(state: &Path, arguments: &[&str]) -> Self {
        let mut all = vec!["run", "--listen", "127.0.0.1:0"];
        if !arguments.contains(&"--admin") {
            all.extend(["--admin", "127.0.0.1:0"]);
        }
        all.extend(arguments);
        Self::from_command(stopgap(state, &all))
    }

    /// Starts `command` and waits for its ready line.
    pub(crate) fn from_command(mut command: Command) -> Self {
        let began = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = lines(child.stderr.take().unwrap());
        let output = lines(child.stdout.take().unwrap());
        let mut greeting = Vec::new();
        loop {
            match output.recv_timeout(PATIENCE) {
                Ok(line) if line == "ready" => break,
                Ok(line) => greeting.push(line),
                Err(_) => {
                    let _ = child.kill();
                    let log: Vec<_> = log.iter().collect();
                    panic!("no ready line\n{}\n{}", greeting.join("\n"), log.join("\n"));
                }
            }
        }
        let address = greeting
            .iter()
            .find_map(|line| line.split_once("listening on http://"))
            .unwrap_or_else(|| panic!("no listening line in {greeting:?}"))
            .1
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        Self {
            child,
            address,
            greeting,
            log: Mutex::new(log),
            start: began.elapsed(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Kills the process at once and waits for it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to end and waits until it did.
    pub(crate) fn stop(self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// The log lines that nobody took.
    pub(crate) fn others(&self) -> Vec<String> {
        self.log.lock().unwrap().try_iter().collect()
    }

    /// The first log line that holds `text`, waiting for it.
    pub(crate) fn logged(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        let log = self.log.lock().unwrap();
        while let Ok(line) = log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("{text:?} was not logged:\n{}", seen.join("\n"));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already ended: nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a file as an editor does: whole, beside it, and renamed over it.
pub(crate) fn replace_file(path: &Path, content: &str) {
    let beside: PathBuf = path.with_extension("tmp");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, path).unwrap();
}

fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    // Bounded, and large enough that a test which reads no log does not stop the binary.
    let (sender, receiver) = sync_channel(100_000);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
