//! New settings and new programs under traffic: nothing is refused, nothing fails, and what cannot be used changes
//! nothing.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::support::client::Client;
use crate::support::origin::Origin;
use crate::support::process::{Daemon, replace_file, stopgap};
use crate::support::proxy::eventually;

/// Clients that ask without a pause, half of them on a new connection each time.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Load {
    fn begin(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..8).map(|number| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || ask(address, number % 2 == 0, &stop))
        });
        Self {
            clients: clients.collect(),
            stop,
        }
    }

    /// Ends it; requests that were answered, after none failed.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut answered = 0;
        for client in self.clients {
            let (count, failures) = client.join().unwrap();
            assert!(failures.is_empty(), "{failures:?}");
            answered += count;
        }
        answered
    }
}

fn ask(address: SocketAddr, keep: bool, stop: &AtomicBool) -> (usize, Vec<String>) {
    let (mut answered, mut failures) = (0, Vec::new());
    let mut kept: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        let mut client = match kept.take() {
            Some(client) => client,
            None => match Client::try_connect(address) {
                Ok(client) => client,
                Err(error) => {
                    failures.push(error.to_string());
                    continue;
                }
            },
        };
        match client.get("/owa/", &[]) {
            Ok(reply) if reply.status == 200 => {
                answered += 1;
                if keep && reply.field("connection") != Some("close") {
                    kept = Some(client);
                }
            }
            other => failures.push(format!("{other:?}")),
        }
    }
    (answered, failures)
}

fn settings(file: &Path, origin: &Origin, more: &str) {
    let site = format!(
        "[[site]]\nname = \"Default Web Site\"\nupstreams = [\"http://{}\"]\n",
        origin.address
    );
    replace_file(file, &format!("{more}\n{site}"));
}

fn text(address: SocketAddr) -> String {
    Client::connect(address).get("/owa/", &[]).unwrap().text()
}

#[test]
fn changed_settings_are_taken_under_load_and_bad_ones_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stopgap.toml");
    let (old, new) = (Origin::answering("old"), Origin::answering("new"));
    settings(&file, &old, "");
    let config = file.to_str().unwrap();
    let daemon = Daemon::start(&folder.path().join("state"), &["--config", config]);
    let load = Load::begin(daemon.address);
    assert_eq!(text(daemon.address), "old");
    settings(&file, &new, "workers = 3");
    daemon.signal("HUP");
    daemon.logged("are in force");
    eventually("new settings", || text(daemon.address) == "new");
    // What has to wait is named.
    settings(&file, &old, "workers = 1\ninstance = \"front\"");
    daemon.signal("HUP");
    daemon.logged("are in force");
    daemon.logged("instance: the change takes effect at the next start");
    eventually("old settings", || text(daemon.address) == "old");
    settings(&file, &new, "workerz = 1");
    daemon.signal("HUP");
    let line = daemon.logged("not taken from the settings");
    assert!(line.contains("workerz"), "{line}");
    assert_eq!(text(daemon.address), "old");
    assert!(load.end() > 0);
    assert!(daemon.stop().success());
}

#[test]
fn listeners_come_and_go_without_touching_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stopgap.toml");
    let origin = Origin::answering("hello");
    let free = |()| {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let (first, second) = (free(()), free(()));
    let listen = |addresses: &[SocketAddr]| {
        let addresses: Vec<String> = addresses.iter().map(|one| format!("\"{one}\"")).collect();
        settings(
            &file,
            &origin,
            &format!("listen = [{}]", addresses.join(", ")),
        );
    };
    listen(&[first]);
    let config = file.to_str().unwrap();
    let state = folder.path().join("state");
    let arguments = ["run", "--admin", "127.0.0.1:0", "--config", config];
    let daemon = Daemon::from_command(stopgap(&state, &arguments));
    let load = Load::begin(first);
    listen(&[first, second]);
    daemon.signal("HUP");
    daemon.logged("are in force");
    assert_eq!(text(second), "hello");
    listen(&[first]);
    daemon.signal("HUP");
    daemon.logged("are in force");
    eventually("the second listener is closed", || {
        Client::try_connect(second).is_err()
    });
    load.end();
    assert!(daemon.stop().success());
}

fn owner(state: &Path) -> u32 {
    let text = std::fs::read_to_string(state.join("lock")).unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn reload_changes_what_is_proven_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (
        folder.path().join("stopgap.toml"),
        folder.path().join("state"),
    );
    let front = folder.path().join("front");
    let text = "listen = ['127.0.0.1:0']\n[admin]\naddress = '127.0.0.1:0'\n";
    std::fs::write(&file, text).unwrap();
    let config = file.to_str().unwrap();
    let daemon = Daemon::from_command(stopgap(&state, &["run", "--config", config]));
    let status = || {
        let output = stopgap(&state, &["status", "-o", "json"]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(
        status()["process"]["listeners"].as_array().unwrap().len(),
        1
    );
    let unix = format!("'unix:{}'", front.display());
    let text = text.replace(
        "]\n[admin]",
        &format!(", {unix}]\n[[site]]\nname = 'Mail'\n[admin]"),
    );
    replace_file(
        &file,
        &text.replace("'Mail'", "'Default Web Site'\nhosts = ['mail.example']"),
    );
    daemon.signal("HUP");
    daemon.logged("\"reloaded\"");
    let process = status()["process"].clone();
    assert_eq!(process["listeners"][1], format!("unix:{}", front.display()));
    assert_eq!(process["sites"][0]["hosts"][0], "mail.example");
    // Probes go the new way: the socket is there, and whoever listens there is this process.
    let proven = || {
        let status = status();
        let mut mitigations = status["mitigations"].as_array().unwrap().iter();
        mitigations.any(|one| {
            let reason = one["reason"].as_str().unwrap_or_default();
            one["state"] == "Applied" && reason.starts_with("proven at ")
        })
    };
    eventually("mitigations are proven", proven);
}

#[test]
fn next_process_takes_over_under_load_and_a_failing_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (
        folder.path().join("stopgap.toml"),
        folder.path().join("state"),
    );
    let origin = Origin::answering("hello");
    settings(&file, &origin, "");
    let config = file.to_str().unwrap();
    let daemon = Daemon::start(&state, &["--config", config]);
    let (address, first) = (daemon.address, daemon.id());
    assert_eq!(owner(&state), first);
    let load = Load::begin(address);
    replace_file(&file, "nonsense = 1");
    daemon.signal("USR2");
    daemon.logged("no next process serves");
    assert_eq!(text(address), "hello");
    settings(&file, &origin, "");
    daemon.signal("USR2");
    daemon.logged("the next process serves");
    assert!(daemon.wait().success());
    assert_eq!(text(address), "hello");
    let second = owner(&state);
    assert!(second != first);
    // The control socket is the next one's.
    eventually("the next process takes orders", || {
        let asked = stopgap(&state, &["status", "--config", config])
            .output()
            .unwrap();
        asked.status.success()
    });
    assert!(load.end() > 0);
    let kill = |signal: &str| {
        let sent = Command::new("kill")
            .args([signal, &second.to_string()])
            .output();
        sent.unwrap().status.success()
    };
    assert!(kill("-TERM"));
    eventually("the next process ends", || {
        Client::try_connect(address).is_err()
    });
}

#[test]
fn sockets_of_a_service_manager_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    socket2::SockRef::from(&listener)
        .set_cloexec(false)
        .unwrap();
    let program = stopgap(folder.path(), &[]);
    let script = format!(
        "exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec {} run --admin 127.0.0.1:0 --listen {address} --workers 2",
        listener.as_raw_fd(),
        program.get_program().to_str().unwrap(),
    );
    let mut command = Command::new("bash");
    command
        .args(["-c", &script])
        .env("STOPGAP_STATE_DIR", folder.path());
    // A connection from before the start is served, too.
    let mut early = Client::connect(address);
    let daemon = Daemon::from_command(command);
    drop(listener);
    assert_eq!(early.get("/", &[]).unwrap().status, 200);
    for _ in 0..8 {
        assert_eq!(Client::connect(address).get("/", &[]).unwrap().status, 200);
    }
    assert!(daemon.stop().success());
}
