//! The whole process: what it says, serves, keeps, and how it ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::client::{Client, Lost};
use crate::support::process::{Daemon, replace_file, run, stopgap};

/// A thrown switch lifts everything within one second; a loaded machine gets more.
const LIFTED: Duration = Duration::from_secs(20);

const BLOCK: &str = "<rewrite><rules><rule name=\"evil\"><match url=\"^evil\" />\
     <action type=\"AbortRequest\" /></rule></rules></rewrite>";

/// The rest of the greeting's only line with this beginning.
fn said<'d>(daemon: &'d Daemon, beginning: &str) -> &'d str {
    let mut lines = daemon
        .greeting
        .iter()
        .filter_map(|line| line.strip_prefix(beginning));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("{beginning:?} is missing in {:?}", daemon.greeting));
    assert_eq!(lines.next(), None);
    line
}

/// The address that the admin side was given.
fn admin(daemon: &Daemon) -> Client {
    Client::connect(said(daemon, "admin on http://").parse().unwrap())
}

/// Sends the request of a `curl` line of the greeting.
fn curl(line: &str) -> Result<u16, Lost> {
    let url = line.strip_prefix("curl -i ").unwrap().trim_matches('\'');
    let rest = url.strip_prefix("http://").unwrap();
    let (address, target) = rest.split_at(rest.find('/').unwrap());
    let address: SocketAddr = address.parse().unwrap();
    Client::connect(address)
        .get(target, &[("Host", &address.to_string())])
        .map(|reply| reply.status)
}

fn status(state: &Path) -> serde_json::Value {
    let output = run(state, &["status", "-o", "json"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How often any mitigation acted.
fn hits(status: &serde_json::Value) -> u64 {
    let mitigations = status["mitigations"].as_array().unwrap();
    mitigations
        .iter()
        .map(|one| one["hits"].as_u64().unwrap())
        .sum()
}

#[test]
fn default_run_serves_the_welcome_page_and_blocks_what_it_says() {
    let state = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(state.path(), &[]);
    assert_eq!(hits(&status(state.path())), 0);
    assert_eq!(curl(said(&daemon, "passes: ")), Ok(200));
    assert_eq!(curl(said(&daemon, "blocked: ")), Err(Lost::Reset));
    assert_eq!(hits(&status(state.path())), 1);

    let page = Client::connect(daemon.address).get("/", &[]).unwrap();
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    let html = page.text();
    let style = html
        .split("<style>")
        .nth(1)
        .unwrap()
        .split("</style>")
        .next()
        .unwrap();
    let hash = STANDARD.encode(stopgap::signature::sha256(style.as_bytes()).octets());
    let policy = page.field("content-security-policy").unwrap();
    assert!(
        policy.contains(&format!("style-src 'sha256-{hash}'")),
        "name sha256-{hash} in the page's policy: {policy}"
    );
    assert!(!html.contains("<script"));

    let other = Client::connect(daemon.address).get("/owa/", &[]).unwrap();
    assert_eq!(other.status, 404);
    assert!(other.text().contains("--upstream"), "{}", other.text());

    let document = status(state.path());
    let mitigations = document["mitigations"].as_array().unwrap();
    let applied = mitigations
        .iter()
        .filter(|one| one["state"] == "Applied")
        .count();
    assert!(applied > 0);
    let line = format!("{applied} of {} mitigations applied", mitigations.len());
    assert!(
        daemon.greeting.iter().any(|said| said.starts_with(&line)),
        "{:?}",
        daemon.greeting
    );
    assert!(daemon.stop().success());
}

#[test]
fn admin_side_is_read_only() {
    let state = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(state.path(), &[]);
    for (path, part) in [
        ("/livez", "alive"),
        ("/readyz", "ready"),
        ("/metrics", "# EOF"),
        ("/status", "\"mitigations\""),
        ("/", "<!DOCTYPE html>"),
    ] {
        let reply = admin(&daemon).get(path, &[]).unwrap();
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.text().contains(part), "{path}: {}", reply.text());
        assert_eq!(reply.field("cache-control"), Some("no-store"), "{path}");
    }
    let metrics = admin(&daemon).get("/metrics", &[]).unwrap();
    assert_eq!(
        metrics.field("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    for (method, path, expected) in [
        ("POST", "/reload", 404),
        ("POST", "/kill-switch/on", 404),
        ("POST", "/status", 405),
        ("GET", "/nothing", 404),
    ] {
        let reply = admin(&daemon)
            .request(method, path, &[("Content-Length", "0")], b"")
            .unwrap();
        assert_eq!(reply.status, expected, "{method} {path}");
    }
}

#[test]
fn running_instance_answers_over_its_socket() {
    let state = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(state.path(), &[]);
    let document = status(state.path());
    assert_eq!(
        document["process"]["listeners"][0],
        daemon.address.to_string()
    );
    assert!(
        document["mitigations"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["id"] == "M1.1")
    );

    for (arguments, parts) in [
        (&["status"][..], &["ID ", "M1.1 ", "revision "][..]),
        (
            &["status", "-o", "csv"],
            &["id,source,", "\r\nM1.1,bundled,UrlRewrite,"],
        ),
        (&["mitigation", "list"], &["M2.1 ", "1 response"]),
        (&["mitigation", "list", "-o", "json"], &["\"id\": \"M1.1\""]),
        (
            &["mitigation", "show", "M1.1"],
            &["M1.1 (bundled)", "CVE-2022-41040"],
        ),
        (&["feed", "show"], &["no feeds"]),
        (&["reload"], &["revision 1 unchanged"]),
    ] {
        let output = run(state.path(), arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        for part in parts {
            assert!(text.contains(part), "{arguments:?} lacks {part:?}:\n{text}");
        }
    }
    let missing = run(state.path(), &["mitigation", "show", "M99.1"]);
    assert_eq!(missing.status.code(), Some(1));
    daemon.stop();
    assert!(!state.path().join("control.sock").exists());
}

#[test]
fn kill_switch_lifts_what_is_blocked_and_puts_it_back() {
    let state = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(state.path(), &[]);
    let blocked = said(&daemon, "blocked: ");
    assert_eq!(curl(blocked), Err(Lost::Reset));
    assert!(run(state.path(), &["kill-switch", "on"]).status.success());
    assert_eq!(curl(blocked), Ok(404));
    assert_eq!(status(state.path())["kill_switch"], true);
    assert!(run(state.path(), &["kill-switch", "off"]).status.success());
    assert_eq!(curl(blocked), Err(Lost::Reset));
}

#[test]
fn kill_switch_is_thrown_by_a_signal_too() {
    let state = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(state.path(), &[]);
    let blocked = said(&daemon, "blocked: ");
    assert_eq!(curl(blocked), Err(Lost::Reset));
    daemon.signal("RTMIN");
    daemon.logged("kill switch thrown by a signal");
    let began = Instant::now();
    while curl(blocked) != Ok(404) {
        assert!(began.elapsed() < LIFTED, "nothing was lifted");
    }
    // A restart knows of it, and it is put back as any other.
    while !state.path().join("kill-switch").exists() {
        assert!(began.elapsed() < LIFTED, "the switch is not kept");
    }
    daemon.kill();
    let daemon = Daemon::start(state.path(), &[]);
    let attack = || {
        let target = "/autodiscover/autodiscover.json?@x/powershell";
        let reply = Client::connect(daemon.address).get(target, &[]);
        reply.map(|reply| reply.status)
    };
    assert_eq!(attack(), Ok(404));
    assert!(run(state.path(), &["kill-switch", "off"]).status.success());
    assert_eq!(attack(), Err(Lost::Reset));
}

/// The name of each thread of a process with its niceness (proc(5)).
#[cfg(target_os = "linux")]
fn threads(process: u32) -> Vec<(String, i64)> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let thread = |entry: std::io::Result<std::fs::DirEntry>| {
        // One may have ended since they were listed.
        let text = std::fs::read_to_string(entry.unwrap().path().join("stat")).ok()?;
        let (name, rest) = text.split_once('(')?.1.rsplit_once(") ")?;
        let niceness = rest.split(' ').nth(16)?.parse().unwrap();
        Some((name.to_owned(), niceness))
    };
    threads.filter_map(thread).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn threads_that_compile_are_nicer_than_those_that_serve() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.xml");
    let state = folder.path().join("state");
    std::fs::write(&rules, BLOCK).unwrap();
    let daemon = Daemon::start(&state, &["--rules", rules.to_str().unwrap()]);
    replace_file(&rules, &BLOCK.replace("^evil", "^bad"));
    assert!(run(&state, &["reload"]).status.success());
    let threads = threads(daemon.id());
    let of = |beginning: &str| -> Vec<i64> {
        let named = threads
            .iter()
            .filter(|(name, _)| name.starts_with(beginning));
        named.map(|(_, niceness)| *niceness).collect()
    };
    let (serving, compiling) = (of("proxy-"), of("stopgap-compile"));
    assert!(!serving.is_empty() && !compiling.is_empty(), "{threads:?}");
    let busiest = serving.into_iter().max();
    assert_eq!(busiest, of("stopgap-control").into_iter().max());
    let expected = busiest.map(|niceness| (niceness + 10).min(19));
    assert!(
        compiling.iter().all(|own| Some(*own) == expected),
        "{threads:?}"
    );
}

#[test]
fn bad_rules_at_a_reload_change_nothing_and_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let rules = folder.path().join("rules.xml");
    let settings = folder.path().join("stopgap.toml");
    std::fs::write(&rules, BLOCK).unwrap();
    // A long interval, so that only the signal makes it look.
    std::fs::write(
        &settings,
        "rules = [\"rules.xml\"]\nwatch_interval = \"1h\"\n",
    )
    .unwrap();
    let daemon = Daemon::start(&state, &["--config", settings.to_str().unwrap()]);
    let judged = |target: &str| {
        let reply = Client::connect(daemon.address).get(target, &[]);
        reply.map(|reply| reply.status)
    };
    assert_eq!(judged("/evil"), Err(Lost::Reset));
    assert_eq!(judged("/bad"), Ok(404));

    replace_file(&rules, &BLOCK.replace("^evil", "("));
    replace_file(&settings, "wrokers = 1\n");
    daemon.signal("HUP");
    let why = daemon.logged("the settings file cannot be used");
    assert!(why.contains("did you mean `workers`?"), "{why}");
    let why = daemon.logged("refused at reload");
    assert!(why.contains("rules.xml") && why.contains("line 1"), "{why}");
    daemon.logged("\"reloaded\"");
    assert_eq!(judged("/evil"), Err(Lost::Reset));
    let reload = run(&state, &["reload"]);
    assert_eq!(
        reload.status.code(),
        Some(3),
        "{}",
        String::from_utf8_lossy(&reload.stderr)
    );
    assert!(String::from_utf8_lossy(&reload.stderr).contains("rules.xml"));

    replace_file(&rules, &BLOCK.replace("^evil", "^bad"));
    daemon.signal("HUP");
    daemon.logged("\"reloaded\"");
    assert_eq!(judged("/bad"), Err(Lost::Reset));
    assert_eq!(judged("/evil"), Ok(404));
}

#[test]
fn bad_rules_at_the_start_are_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.xml");
    std::fs::write(&rules, BLOCK.replace("^evil", "(")).unwrap();
    let arguments = [
        "run",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--rules",
        rules.to_str().unwrap(),
    ];
    let output = run(&folder.path().join("state"), &arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("rules.xml"), "{errors}");
}

/// A server that says when a request has arrived, and answers when it is told.
fn slow_server() -> (
    SocketAddr,
    std::sync::mpsc::Receiver<()>,
    std::sync::mpsc::SyncSender<()>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (arrived, arrives) = sync_channel(1);
    let (answer, answers) = sync_channel::<()>(1);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        arrived.send(()).unwrap();
        if answers.recv().is_ok() {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
                .unwrap();
        }
    });
    (address, arrives, answer)
}

#[test]
fn first_signal_drains() {
    let state = tempfile::tempdir().unwrap();
    let (upstream, arrives, answer) = slow_server();
    let daemon = Daemon::start(state.path(), &["--upstream", &format!("http://{upstream}")]);
    let mut client = Client::connect(daemon.address);
    client
        .send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    arrives.recv().unwrap();
    daemon.signal("TERM");
    daemon.logged("draining");
    answer.send(()).unwrap();
    let reply = client.reply("GET").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "done"));
    assert!(daemon.wait().success());
}

#[test]
fn second_signal_ends_at_once() {
    let state = tempfile::tempdir().unwrap();
    let (upstream, arrives, answer) = slow_server();
    let daemon = Daemon::start(state.path(), &["--upstream", &format!("http://{upstream}")]);
    let mut client = Client::connect(daemon.address);
    client
        .send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    arrives.recv().unwrap();
    daemon.signal("TERM");
    daemon.logged("draining");
    daemon.signal("INT");
    daemon.logged("ended at once");
    assert!(daemon.wait().success());
    assert!(client.reply("GET").is_err());
    drop(answer);
}

#[test]
fn second_instance_on_a_state_folder_names_the_first() {
    let state = tempfile::tempdir().unwrap();
    let first = Daemon::start(state.path(), &[]);
    let second = run(
        state.path(),
        &["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    );
    let errors = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains(&format!("in use by process {}", first.id())),
        "{errors}"
    );
    // The first is not harmed.
    assert_eq!(curl(said(&first, "passes: ")), Ok(200));
    assert!(run(state.path(), &["status"]).status.success());
}

#[test]
fn taken_admin_address_is_an_alarm_and_no_end() {
    let state = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let daemon = Daemon::start(state.path(), &["--admin", &address]);
    assert_eq!(curl(said(&daemon, "passes: ")), Ok(200));
    said(&daemon, "admin address not available");
    let alarms = status(state.path())["alarms"].clone();
    let told =
        alarms.as_array().unwrap().iter().any(|alarm| {
            alarm["kind"] == "admin_unavailable" && alarm["subject"] == address.as_str()
        });
    assert!(told, "{alarms}");
}

#[test]
fn taken_traffic_address_is_an_end() {
    let state = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(
        state.path(),
        &["run", "--listen", &address, "--admin", "127.0.0.1:0"],
    );
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains(&format!("cannot listen on {address}")),
        "{errors}"
    );
}

#[test]
fn unusable_state_folder_is_an_alarm_and_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let daemon = Daemon::start(&file.join("state"), &[]);
    assert_eq!(said(&daemon, "state in "), "memory");
    let alarms = admin(&daemon).get("/status", &[]).unwrap().text();
    assert!(alarms.contains("state is kept in memory"), "{alarms}");
    assert_eq!(curl(said(&daemon, "passes: ")), Ok(200));
}

#[test]
fn access_lines_go_where_they_should() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let daemon = Daemon::start(
        &folder.path().join("state"),
        &["--access-log", log.to_str().unwrap()],
    );
    assert_eq!(curl(said(&daemon, "passes: ")), Ok(200));
    assert!(daemon.stop().success());
    let lines = std::fs::read_to_string(&log).unwrap();
    assert!(lines.contains("\"GET / HTTP/1.1\" 200"), "{lines}");

    let nowhere = folder.path().join("missing/access.log");
    let output = stopgap(
        &folder.path().join("state"),
        &[
            "run",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--access-log",
            nowhere.to_str().unwrap(),
        ],
    )
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot be written"));
}
