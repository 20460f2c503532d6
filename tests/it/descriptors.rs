//! A process that has no descriptor left: it waits for one, and does not spin.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::process::{Daemon, stopgap};

/// Processor time of a process so far, in hundredths of a second (proc_pid_stat(5)).
fn processor_time(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let rest = stat.rsplit_once(") ").unwrap().1;
    let fields: Vec<&str> = rest.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn accepting_rests_without_descriptors_and_goes_on_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let program = stopgap(folder.path(), &[]);
    let script = format!(
        "ulimit -n 80; exec {} run --listen 127.0.0.1:0 --admin 127.0.0.1:0 --workers 1",
        program.get_program().to_str().unwrap()
    );
    let mut command = Command::new("bash");
    command
        .args(["-c", &script])
        .env("STOPGAP_STATE_DIR", folder.path());
    let daemon = Daemon::from_command(command);
    let mut first = Client::connect(daemon.address);
    assert_eq!(first.get("/", &[]).unwrap().status, 200);
    // The kernel takes those that the process cannot.
    let crowd: Vec<Client> = (0..100).map(|_| Client::connect(daemon.address)).collect();
    let begun = Instant::now();
    let before = processor_time(daemon.id());
    // Connections that exist are served all the while.
    while begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(first.get("/", &[]).unwrap().status, 200);
        std::thread::sleep(Duration::from_millis(50));
    }
    let spent = processor_time(daemon.id()) - before;
    assert!(
        spent < 60,
        "{spent} hundredths of a second of processor time in one"
    );
    drop(crowd);
    assert_eq!(
        Client::connect(daemon.address)
            .get("/", &[])
            .unwrap()
            .status,
        200
    );
    assert!(daemon.stop().success());
}
