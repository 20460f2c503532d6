//! A real systemd in namespaces of its own, gone when the test ends.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long it may take to boot.
const PATIENCE: Duration = Duration::from_secs(60);

/// The variable that turns a skipped test into a failed one.
const REQUIRED: &str = "STOPGAP_REQUIRE_SYSTEMD";

/// What every boot needs besides the units of a test.
const BASE: [(&str, &str); 6] = [
    ("basic.target", "[Unit]\nDefaultDependencies=no\n"),
    ("sysinit.target", "[Unit]\nDefaultDependencies=no\n"),
    ("shutdown.target", "[Unit]\nDefaultDependencies=no\n"),
    (
        "dbus.socket",
        "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
    ),
    (
        "dbus.service",
        "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\n\
         ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation\n",
    ),
    (
        "stopgap-test.target",
        "[Unit]\nDefaultDependencies=no\nWants=dbus.socket dbus.service\n",
    ),
];

/// A unit that runs until it is stopped.
pub(crate) const SLEEPER: &str =
    "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/usr/bin/sleep infinity\n";

pub(crate) struct Systemd {
    unshare: Child,
    folder: tempfile::TempDir,
    process_1: String,
}

impl Systemd {
    /// Boots with these units below `/etc/systemd/system` and these elsewhere; nothing when this machine cannot, which
    /// is said, and an error where it is required.
    pub(crate) fn boot(etc: &[(&str, &str)], elsewhere: &[(&str, &str)]) -> Option<Self> {
        let user = Command::new("id").arg("-u").output().unwrap().stdout;
        let present = Path::new("/lib/systemd/systemd").exists()
            && Path::new("/usr/bin/dbus-daemon").exists();
        if user != b"0\n" || !present {
            assert!(
                std::env::var_os(REQUIRED).is_none(),
                "{REQUIRED} is set: run as root, with systemd and dbus installed"
            );
            // Not by the macro, whose output the test harness keeps to itself.
            let text = "SKIPPED: tests against a real systemd need root, systemd and dbus\n";
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        for (place, units) in [("etc", etc), ("units", elsewhere), ("units", &BASE[..])] {
            let place = folder.path().join(place);
            fs::create_dir_all(&place).unwrap();
            for (name, text) in units {
                fs::write(place.join(name), text).unwrap();
            }
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/systemd/boot.sh");
        let unshare = Command::new(script)
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.path().join("log")).unwrap())
            .stderr(fs::File::create(folder.path().join("errors")).unwrap())
            .spawn()
            .unwrap();
        let mut booted = Self {
            unshare,
            folder,
            process_1: String::new(),
        };
        booted.wait();
        Some(booted)
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let children = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        loop {
            self.process_1 = fs::read_to_string(&children)
                .unwrap_or_default()
                .trim()
                .to_owned();
            if !self.process_1.is_empty()
                && self
                    .systemctl(&["is-active", "dbus.service"])
                    .status
                    .success()
            {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "systemd did not boot:\n{}",
                self.log()
            );
            // A system that is not up has nothing that would tell when it is.
            sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        let read =
            |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("log") + &read("errors")
    }

    /// The D-Bus address, from outside.
    pub(crate) fn bus(&self) -> String {
        format!(
            "unix:path={}",
            self.run().join("dbus/system_bus_socket").display()
        )
    }

    /// Its `/run`, from outside.
    pub(crate) fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Runs `systemctl` inside.
    pub(crate) fn systemctl(&self, arguments: &[&str]) -> Output {
        Command::new("nsenter")
            .args([
                "-t",
                &self.process_1,
                "-m",
                "-p",
                "-u",
                "-i",
                "-C",
                "systemctl",
            ])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Whether a unit runs.
    pub(crate) fn is_active(&self, unit: &str) -> bool {
        self.systemctl(&["is-active", unit]).status.success()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let id = self.unshare.id();
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let groups = Path::new("/sys/fs/cgroup");
        let groups = match groups.join("unified").is_dir() {
            true => groups.join("unified"),
            false => groups.to_owned(),
        };
        let group = groups.join(format!("stopgap-test-{id}"));
        let deadline = Instant::now() + Duration::from_secs(5);
        // Its processes are dead, and may not be gone yet.
        while group.exists() && Instant::now() < deadline {
            remove_groups(&group);
        }
    }
}

/// A control group is removed from its leaves up, by folders alone.
fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
