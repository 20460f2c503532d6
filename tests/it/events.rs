//! What is wrong with a feed is told apart: by alarms that a person sees in the status, by metrics, and by numbers in the
//! log.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stopgap::control::{ControlConfig, Controller, Order, Status};
use stopgap::feed::{FeedConfig, Trust};
use stopgap::model::UnixTime;
use stopgap::signature::TrustAnchors;
use stopgap::store::StateDir;
use stopgap::telemetry::{AlarmKind, Alarms, Event, Label, Metrics};

use crate::support::feed_server::{FeedServer, Mode};
use crate::support::process::{Daemon, run, stopgap};
use crate::support::signer::{Options, Publisher};

const NOW: u64 = 1_795_000_000;

/// How long a test waits for a status before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

static CLOCK: AtomicU64 = AtomicU64::new(NOW);

fn clock() -> UnixTime {
    UnixTime::new(CLOCK.load(Ordering::Relaxed))
}

fn at(seconds: u64) -> Option<UnixTime> {
    Some(UnixTime::new(NOW - 1_000 + seconds))
}

/// A document with one mitigation that stops a path, which is a pattern.
fn stopping(id: &str, path: &str, vectors: &str) -> String {
    format!(
        "<EOCS version=\"1.0\" xmlns:sg=\"urn:stopgap:feed:1\"><Config id=\"{id}\"><ActionList>\
         <Action type=\"UrlRewrite\" scope=\"Server\"><Value><rules><rule name=\"{id}\"><match url=\"{path}\"/>\
         <action type=\"AbortRequest\"/></rule></rules></Value></Action></ActionList>{vectors}</Config></EOCS>"
    )
}

/// The mitigation of the feed that goes wrong in this way.
fn id(kind: AlarmKind) -> String {
    format!("M{}.1", kind.event())
}

/// Each way in which a feed goes wrong, from a good beginning: what is served then, and the alarm.
fn turns(publisher: &Publisher, second: &Publisher) -> Vec<(AlarmKind, Mode)> {
    let signed = |kind, path: &str, vectors: &str, time| {
        Mode::Answer(publisher.sign_at(&stopping(&id(kind), path, vectors), at(time)))
    };
    let forged = stopping(&id(AlarmKind::SignatureRefused), "^evil$", "");
    let forged = String::from_utf8(publisher.sign_at(&forged, at(20))).unwrap();
    let by_another = stopping(&id(AlarmKind::SignerChanged), "^new$", "");
    let vectors = "<sg:vectors><sg:stop target=\"/other\"/></sg:vectors>";
    vec![
        (AlarmKind::Unreachable, Mode::Status(500)),
        (
            AlarmKind::SignatureRefused,
            Mode::Answer(forged.replace("evil", "good").into_bytes()),
        ),
        (
            AlarmKind::SignerChanged,
            Mode::Answer(second.sign_at(&by_another, at(20))),
        ),
        (
            AlarmKind::Rollback,
            signed(AlarmKind::Rollback, "^older$", "", 5),
        ),
        (
            AlarmKind::Equivocation,
            signed(AlarmKind::Equivocation, "^other$", "", 10),
        ),
        (
            AlarmKind::DoesNotCompile,
            signed(AlarmKind::DoesNotCompile, "(", "", 20),
        ),
        (
            AlarmKind::VectorsFailed,
            signed(AlarmKind::VectorsFailed, "^this$", vectors, 20),
        ),
        // An answer that comes when the clock was moved would be a fresh one.
        (AlarmKind::Stale, Mode::Silent),
    ]
}

#[tokio::test]
async fn each_way_to_go_wrong_has_an_alarm_a_metric_and_a_line() {
    let options = Options {
        timestamp: at(10),
        ..Options::default()
    };
    let (publisher, second) = (Publisher::with(options.clone()), Publisher::with(options));
    let mut policy = publisher.policy();
    policy.roots = TrustAnchors::from_der([publisher.root_der(), second.root_der()]).unwrap();
    policy.timestamp_roots =
        TrustAnchors::from_der([publisher.timestamp_root_der(), second.timestamp_root_der()])
            .unwrap();
    let turns = turns(&publisher, &second);
    let good = |kind| publisher.sign(&stopping(&id(kind), "^good$", ""));
    let servers: Vec<FeedServer> = turns
        .iter()
        .map(|(kind, _)| FeedServer::start(Mode::Answer(good(*kind))))
        .collect();
    let feed = |(server, (kind, _)): (&FeedServer, &(AlarmKind, Mode))| {
        let trust = Trust::XmlDsigX509(policy.clone());
        let mut config = FeedConfig::new(kind.value(), server.url().parse().unwrap(), trust);
        if *kind != AlarmKind::Stale {
            config.stale_after = Duration::from_secs(u64::from(u32::MAX));
        }
        config
    };
    let metrics = Metrics::default();
    let config = ControlConfig {
        feeds: servers.iter().zip(&turns).map(feed).collect(),
        watch_interval: Duration::from_millis(20),
        ..ControlConfig::default()
    };
    let alarms = Alarms::new(&metrics);
    let controller =
        Controller::start(config, &StateDir::memory(), &metrics, alarms, clock).unwrap();
    let control = controller.handle();
    let wait = async |holds: &dyn Fn(&Status) -> bool, what: &str| {
        let reached = tokio::time::timeout(PATIENCE, control.wait_for(holds)).await;
        assert!(reached.is_ok(), "no {what} in {:#?}", control.status());
    };
    let all_fetched = |status: &Status| {
        let mut feeds = status.feeds.iter();
        feeds.all(|feed| feed.last_success.is_some())
    };
    wait(&all_fetched, "success").await;
    let quiet = control.status();
    assert!(quiet.alarms.is_empty(), "{:#?}", quiet.alarms);

    for (server, (_, mode)) in servers.iter().zip(&turns) {
        server.set(mode.clone());
    }
    // Not at once for all: the clock has no part in what the others are told by.
    control.order(Order::Reload).await.unwrap();
    let told = |status: &Status| -> BTreeSet<String> {
        let alarms = status.alarms.iter();
        alarms
            .map(|alarm| format!("{} {}", alarm.kind, alarm.subject))
            .collect()
    };
    let subject = |kind: AlarmKind| match kind {
        AlarmKind::DoesNotCompile | AlarmKind::VectorsFailed => {
            format!("{0} {1} of {0}", kind.value(), id(kind))
        }
        _ => format!("{0} {0}", kind.value()),
    };
    let but_stale = turns.iter().map(|(kind, _)| *kind);
    let but_stale: BTreeSet<String> = but_stale
        .filter(|kind| *kind != AlarmKind::Stale)
        .map(subject)
        .collect();
    wait(&|status| told(status).is_superset(&but_stale), "alarms").await;
    CLOCK.store(NOW + 4 * 3_600, Ordering::Relaxed);
    let stale = subject(AlarmKind::Stale);
    wait(&|status| told(status).contains(&stale), "stale alarm").await;

    let page = metrics.render();
    for (kind, _) in &turns {
        for (metric, least) in [("raised_total", 1), ("active", 1)] {
            let line = format!(
                "stopgap_alarms_{metric}{{kind=\"{}\"}} {least}",
                kind.value()
            );
            assert!(page.contains(&line), "{line}\n{page}");
        }
    }
    // Whatever went wrong, each feed's own rules stay unless it brought others that were accepted.
    let status = control.status();
    for feed in &status.feeds {
        assert!(feed.digest.is_some(), "{feed:#?}");
    }
}

/// The numbers of one instance's events, as its log shows them.
#[test]
fn log_tells_events_by_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        std::fs::write(folder.path().join(name), content).unwrap();
    };
    let publisher = Publisher::new();
    let word = |word: &str| publisher.sign(&stopping("M9.1", word, ""));
    let server = FeedServer::start(Mode::Answer(word("^one$")));
    write("root.der", &publisher.root_der());
    let settings = format!(
        "[[feed]]\nname = \"good\"\nurl = \"{}\"\ntrust = \"xmldsig-x509\"\nroots = [\"root.der\"]\n\
         [[feed]]\nname = \"dead\"\nurl = \"file:///nowhere/feed.xml\"\ntrust = \"microsoft-eocs\"\n",
        server.url()
    );
    write("stopgap.toml", settings.as_bytes());
    let state = folder.path().join("state");
    let path = folder.path().join("stopgap.toml");
    let words = ["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut command = stopgap(&state, &words);
    command
        .arg("--config")
        .arg(&path)
        .current_dir(folder.path());
    let daemon = Daemon::from_command(command);
    let mut wanted: BTreeSet<u16> = [
        AlarmKind::Unreachable.event(),
        Event::FeedTaken.number(),
        Event::MitigationApplied.number(),
    ]
    .into();
    // In whatever order the two feeds come.
    while !wanted.is_empty() {
        wanted.remove(&number(&daemon.logged("event_id")));
    }
    let said = String::from_utf8(run(&state, &["status"]).stdout).unwrap();
    assert!(said.contains("unreachable"), "{said}");

    // The kill switch is a removal; so is what a publisher no longer offers.
    assert!(run(&state, &["kill-switch", "on"]).status.success());
    let wait_for = |event: Event| {
        while number(&daemon.logged("event_id")) != event.number() {}
    };
    wait_for(Event::Removed);
    assert!(run(&state, &["kill-switch", "off"]).status.success());
    wait_for(Event::MitigationApplied);
    server.set(Mode::Answer(
        publisher.sign("<EOCS version=\"1.0\"></EOCS>"),
    ));
    assert!(run(&state, &["reload"]).status.success());
    wait_for(Event::Removed);
    server.set(Mode::Answer(word("^two(")));
    assert!(run(&state, &["reload"]).status.code().is_some());
    while number(&daemon.logged("event_id")) != AlarmKind::DoesNotCompile.event() {}
    server.set(Mode::Answer(word("^three$")));
    assert!(run(&state, &["reload"]).status.code().is_some());
    wait_for(Event::AlarmEnded);
    assert!(daemon.stop().success());
}

fn number(line: &str) -> u16 {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    let number = event["fields"]["event_id"].as_u64();
    u16::try_from(number.unwrap_or_else(|| panic!("no number in {line}"))).unwrap()
}

#[test]
fn guide_lists_every_number() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    for kind in AlarmKind::ALL {
        let row = format!("| {} | `{}` | ", kind.event(), kind.value());
        assert!(page.contains(&row), "{row} is missing");
    }
    for event in Event::ALL {
        let row = format!("\n| {} | ", event.number());
        assert!(page.contains(&row), "{event:?} is missing");
    }
}
