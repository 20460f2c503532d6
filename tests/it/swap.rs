//! Rule sets swapped under load: no request fails, none sees half a set, and a refused set changes nothing.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::support::client::Client;
use crate::support::origin::{Origin, Then};
use crate::support::process::{Daemon, replace_file, run, turn};

/// Revisions that are published under load, or more.
const REVISIONS: u64 = 20;
/// Times that the load may go on for them, since a reload gives way to requests, and a small machine has time for few.
const RUNS: usize = 6;
/// How long each load goes on.
const DURATION: Duration = Duration::from_secs(20);
/// Time between two swaps.
const INTERVAL: Duration = Duration::from_millis(50);
/// Clients, each on one connection for the whole time.
const CONNECTIONS: usize = 16;
/// Rules of each set; half of them stamp the request, half the response.
const RULES: usize = 500;
/// Different fields that the rules stamp.
const STAMPS: usize = 10;

/// An upstream whose body is what the request was stamped with.
fn stamped_origin() -> Origin {
    Origin::start(|connection, seen| {
        let stamps: Vec<String> = (0..STAMPS)
            .map(|number| seen.values(&format!("x-stamp-{number}")).join("|"))
            .collect();
        connection.answer("200 OK", "", &stamps.join(","));
        Then::Keep
    })
}

/// 500 rules that stamp every request and its response with `name`.
fn rules(name: &str) -> String {
    let mut allowed = String::new();
    let (mut inbound, mut outbound) = (String::new(), String::new());
    for number in 0..STAMPS {
        write!(allowed, r#"<add name="HTTP_X_STAMP_{number}"/>"#).unwrap();
    }
    for rule in 0..RULES / 2 {
        let stamp = rule % STAMPS;
        write!(
            inbound,
            r#"<rule name="in {rule}"><match url="^page{rule}|.*"/><serverVariables>
               <set name="HTTP_X_STAMP_{stamp}" value="{name}"/></serverVariables><action type="None"/></rule>"#
        )
        .unwrap();
        write!(
            outbound,
            r#"<rule name="out {rule}"><match serverVariable="RESPONSE_X_Stamp_{stamp}" pattern=".*"/>
               <action type="Rewrite" value="{name}"/></rule>"#
        )
        .unwrap();
    }
    format!(
        "<rewrite><allowedServerVariables>{allowed}</allowedServerVariables><rules>{inbound}</rules>\
         <outboundRules>{outbound}</outboundRules></rewrite>"
    )
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    first: AtomicUsize,
    second: AtomicUsize,
}

/// Sends requests on 16 connections until `stop`; each reply must carry one and the same stamp everywhere.
fn load(daemon: &Daemon, stop: &AtomicBool, seen: &Seen) {
    std::thread::scope(|scope| {
        for number in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut client = Client::connect(daemon.address);
                while !stop.load(Ordering::Relaxed) {
                    let reply = client
                        .get(&format!("/page{number}"), &[])
                        .expect("no request fails, no reconnect");
                    assert_eq!(reply.status, 200);
                    let text = reply.text();
                    let stamp = text.split(',').next().unwrap();
                    assert_eq!(text, [stamp; STAMPS].join(","), "a request of two sets");
                    for field in 0..STAMPS {
                        assert_eq!(
                            reply.field(&format!("x-stamp-{field}")),
                            Some(stamp),
                            "a response of another set"
                        );
                    }
                    if stamp == "first" {
                        &seen.first
                    } else {
                        &seen.second
                    }
                    .fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
}

/// Runs `change` every 50 ms for 20 s while the clients send.
fn under_load(daemon: &Daemon, change: impl Fn(usize) + Sync) -> Seen {
    let (stop, seen) = (AtomicBool::new(false), Seen::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            let mut round = 0;
            while begun.elapsed() < DURATION {
                change(round);
                round += 1;
                let due = INTERVAL * u32::try_from(round).unwrap();
                // The rate is what is tested: nothing to await.
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
            stop.store(true, Ordering::Relaxed);
        });
        load(daemon, &stop, &seen);
    });
    seen
}

fn start(state: &Path, rules: &Path, origin: &Origin) -> Daemon {
    let upstream = format!("http://{}", origin.address);
    Daemon::start(
        state,
        &["--upstream", &upstream, "--rules", rules.to_str().unwrap()],
    )
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

#[test]
fn no_request_sees_half_a_set() {
    let _turn = turn();
    let (state, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let path = folder.path().join("rules.xml");
    let sets = [rules("first"), rules("second")];
    replace_file(&path, &sets[0]);
    let origin = stamped_origin();
    let daemon = start(state.path(), &path, &origin);
    let (mut first, mut second) = (0, 0);
    let mut revision = 0;
    for _ in 0..RUNS {
        let seen = under_load(&daemon, |round| {
            replace_file(&path, &sets[(round + 1) % 2]);
            daemon.signal("HUP");
        });
        first += seen.first.load(Ordering::Relaxed);
        second += seen.second.load(Ordering::Relaxed);
        revision = status(state.path())["revision"].as_u64().unwrap();
        println!("{first} requests by the first set, {second} by the second, {revision} revisions");
        if revision >= REVISIONS {
            break;
        }
    }
    assert!(
        revision >= REVISIONS,
        "only {revision} revisions were published"
    );
    assert!(first > 0 && second > 0);
    assert!(daemon.stop().success());
}

#[test]
fn refused_set_changes_nothing_and_is_told_once() {
    let _turn = turn();
    let (state, folder) = (tempdir().unwrap(), tempdir().unwrap());
    let path = folder.path().join("rules.xml");
    replace_file(&path, &rules("first"));
    let origin = stamped_origin();
    let daemon = start(state.path(), &path, &origin);
    let revision = status(state.path())["revision"].clone();
    // Two reasons in turn, each with a set that differs from every set before it.
    let reasons = [
        r#"<match url="("/>"#,
        r#"<match url="a" ignorecase="maybe"/>"#,
    ];
    let seen = under_load(&daemon, |round| {
        let broken = format!(
            "<rules><rule name=\"r\">{}</rule><!-- {round} --></rules>",
            reasons[round % 2]
        );
        replace_file(&path, &broken);
        daemon.signal("HUP");
    });
    assert_eq!(seen.second.load(Ordering::Relaxed), 0);
    assert!(seen.first.load(Ordering::Relaxed) > 100);
    let status = status(state.path());
    assert_eq!(status["revision"], revision, "nothing was published");
    let alarms: Vec<_> = status["alarms"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|alarm| alarm["kind"] == "does_not_compile")
        .collect();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    let raised: Vec<String> = daemon
        .others()
        .into_iter()
        .filter(|line| line.contains("stopgap::alarm"))
        .collect();
    assert_eq!(
        raised.len(),
        reasons.len(),
        "once for each distinct reason: {raised:#?}"
    );
    assert!(daemon.stop().success());
}
