//! What a service manager is told (sd_notify(3)), by a manager that is none.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::process::{Daemon, replace_file, run, stopgap};
use crate::support::proxy::eventually;

fn next(manager: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4_096];
    let length = manager.recv(&mut buffer).expect("nothing was said");
    let text = std::str::from_utf8(&buffer[..length]).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn manager_learns_of_start_reload_successor_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let (state, settings) = (
        folder.path().join("state"),
        folder.path().join("stopgap.toml"),
    );
    let text = "listen = ['127.0.0.1:0']\n[admin]\naddress = '127.0.0.1:0'\n";
    replace_file(&settings, text);
    let mut command = stopgap(&state, &["run", "--config", settings.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", &path);
    let daemon = Daemon::from_command(command);
    assert_eq!(next(&manager), ["READY=1"]);

    let mut before = 0;
    // A settings file that is refused is a reload, too: what was in force stays, and is ready.
    for content in [text, "wrokers = 1\n", text] {
        replace_file(&settings, content);
        daemon.signal("HUP");
        let told = next(&manager);
        assert_eq!(told[0], "RELOADING=1");
        let time: u64 = told[1]
            .strip_prefix("MONOTONIC_USEC=")
            .unwrap()
            .parse()
            .unwrap();
        assert!(time > before);
        before = time;
        assert_eq!(next(&manager), ["READY=1"]);
    }

    daemon.signal("USR2");
    // The next process speaks for itself first, then its predecessor for it.
    let mut told = [next(&manager), next(&manager)];
    told.sort();
    let main = told[0][0].strip_prefix("MAINPID=").unwrap().to_owned();
    assert_eq!(
        (told[0][1].as_str(), told[1][0].as_str()),
        ("READY=1", "READY=1")
    );
    assert!(daemon.wait().success());
    eventually("the next process answers", || {
        run(&state, &["status"]).status.success()
    });
    let ended = std::process::Command::new("kill")
        .args(["-TERM", &main])
        .status();
    assert!(ended.unwrap().success());
    assert_eq!(next(&manager), ["STOPPING=1"]);
}
