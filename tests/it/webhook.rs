//! Webhooks: what a receiver gets, that it can verify it, and what becomes of it when the receiver does not answer.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use stopgap::control::{
    ControlConfig, Controller, Decision, NOTIFICATIONS, NotifyConfig, NotifyReport, Order, Policy,
    WEBHOOK_ATTEMPTS, WebhookConfig, WebhookSecret,
};
use stopgap::feed::{FeedConfig, Trust};
use stopgap::model::UnixTime;
use stopgap::signature::sha256;
use stopgap::store::StateDir;
use stopgap::telemetry::{Alarms, Metrics};

use crate::support::feed_server::{FeedServer, Mode};
use crate::support::origin::{Origin, Seen, Then};
use crate::support::process::{Daemon, replace_file, run, stopgap};
use crate::support::signer::Publisher;

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

const NOW: u64 = 1_795_000_000;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn clock() -> UnixTime {
    UnixTime::new(NOW)
}

/// HMAC-SHA256 as RFC 2104 builds it.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |byte: u8| block.map(|own| own ^ byte).to_vec();
    let inner = sha256(&[pad(0x36), message.to_vec()].concat());
    *sha256(&[pad(0x5c), inner.octets().to_vec()].concat()).octets()
}

/// The document of a request, if this secret signed it.
fn verified(seen: &Seen, secret: &str) -> Option<Value> {
    let one = |name: &str| match seen.values(name)[..] {
        [value] => value.to_owned(),
        ref other => panic!("{name}: {other:?}"),
    };
    let body = seen.body.as_ref().unwrap();
    let signed = format!("{}.{}.", one("webhook-id"), one("webhook-timestamp"));
    let signature = hmac(secret.as_bytes(), &[signed.as_bytes(), body].concat());
    let expected = format!("v1,{}", STANDARD.encode(signature));
    assert_eq!(one("content-type"), "application/json");
    one("webhook-signature")
        .split(' ')
        .any(|signature| signature == expected)
        .then(|| serde_json::from_slice(body).unwrap())
}

/// A receiver that answers with these, and with 204 from then on.
fn receiver(answers: &[&'static str]) -> Origin {
    let answers = Mutex::new(answers.iter().copied().collect::<VecDeque<_>>());
    Origin::start(move |connection, seen| {
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        let answer = answers.lock().unwrap().pop_front().unwrap_or("204 None");
        match answer {
            "reset" => return Then::Reset,
            // It never answers: whoever waits goes away.
            "silent" => while connection.read(&mut [0; 64]).is_ok_and(|read| read > 0) {},
            "endless" => {
                connection.send(b"HTTP/1.1 200 OK\r\n\r\n");
                while connection.send(&[b'a'; 4_096]) {}
            }
            answer => connection.answer(answer, "Location: http://127.0.0.1:1/\r\n", ""),
        }
        Then::Close
    })
}

fn webhook(origin: &Origin, secret: WebhookSecret) -> WebhookConfig {
    WebhookConfig {
        url: format!("http://{}/hook?key=private", origin.address)
            .parse()
            .unwrap(),
        secret,
        authorities: None,
        proxy: None,
        deadline: Duration::from_secs(20),
    }
}

fn inline() -> WebhookSecret {
    WebhookSecret::Inline(SECRET.to_owned())
}

fn telling(webhook: WebhookConfig) -> ControlConfig {
    ControlConfig {
        notify: NotifyConfig {
            retry: Duration::from_millis(2),
            webhook: Some(webhook),
            ..NotifyConfig::default()
        },
        ..ControlConfig::default()
    }
}

fn start(config: ControlConfig) -> Controller {
    start_at(config, clock)
}

fn start_at(config: ControlConfig, clock: fn() -> UnixTime) -> Controller {
    let metrics = Metrics::default();
    let alarms = Alarms::new(&metrics);
    Controller::start(config, &StateDir::memory(), &metrics, alarms, clock).unwrap()
}

async fn block(controller: &Controller, id: &str) {
    let order = Order::Decide(Decision::Block(id.parse().unwrap()));
    controller.handle().order(order).await.unwrap();
}

/// Waits until the only receiver is as `holds` wants it.
async fn report(controller: &Controller, holds: impl Fn(&NotifyReport) -> bool) -> NotifyReport {
    let begun = Instant::now();
    loop {
        let report = controller.handle().status().notify[0].clone();
        if holds(&report) {
            return report;
        }
        assert!(begun.elapsed() < PATIENCE, "{report:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a document tells that a mitigation is in a state.
fn tells(document: &Value, event: &str, id: &str) -> bool {
    let mut events = document["events"].as_array().unwrap().iter();
    events.any(|own| own["event"] == event && own["id"] == id)
}

#[tokio::test]
async fn receiver_verifies_what_it_gets_and_what_it_refuses_comes_again() {
    let origin = receiver(&["500 No", "reset", "302 Found", "429 Slow", "endless"]);
    let controller = start(telling(webhook(&origin, inline())));
    // The start tells what it put in force.
    let first = origin.next();
    assert_eq!(first.line, "POST /hook?key=private HTTP/1.1");
    let document = verified(&first, SECRET).unwrap();
    assert!(tells(&document, "applied", "M1.1"), "{document}");
    assert_eq!(first.values("webhook-timestamp"), [NOW.to_string()]);
    assert!(verified(&first, &SECRET.replace('0', "1")).is_none());
    for _ in 0..4 {
        let again = origin.next();
        assert_eq!(again.values("webhook-id"), first.values("webhook-id"));
        assert_eq!(again.body, first.body);
    }
    let report = report(&controller, |own| own.delivered == 1).await;
    assert_eq!((report.failed, report.dropped), (0, 0));
    assert_eq!(report.target, format!("http://{}", origin.address));
    assert_eq!(report.last_failure.as_deref(), Some("answered with 429"));
    block(&controller, "M1.1").await;
    let second = origin.next();
    let document = verified(&second, SECRET).unwrap();
    assert!(tells(&document, "withdrawn", "M1.1"), "{document}");
    assert_ne!(second.values("webhook-id"), first.values("webhook-id"));
}

#[tokio::test]
async fn receiver_that_never_takes_anything_holds_nobody_up() {
    let origin = receiver(&["503 No"; 10_000]);
    let controller = start(telling(webhook(&origin, inline())));
    let given_up = report(&controller, |own| own.failed == 1).await;
    assert_eq!(given_up.last_failure.as_deref(), Some("answered with 503"));
    assert_eq!(origin.connections(), WEBHOOK_ATTEMPTS as usize);
    drop(controller);

    let silent = receiver(&["silent"; 10_000]);
    let mut config = telling(webhook(&silent, inline()));
    config.notify.webhook.as_mut().unwrap().deadline = Duration::from_secs(3_600);
    let controller = start(config);
    silent.next();
    // One is being told, as many wait as may, and orders go on all the while.
    for number in 0..=NOTIFICATIONS {
        let word = if number % 2 == 0 { "M1.1" } else { "M2.1" };
        block(&controller, word).await;
        let order = Order::Decide(Decision::Unblock(word.parse().unwrap()));
        controller.handle().order(order).await.unwrap();
    }
    let full = report(&controller, |own| own.dropped > 0).await;
    assert_eq!((full.delivered, full.failed), (0, 0));
}

#[tokio::test]
async fn slow_receiver_is_given_up_in_time_and_asked_again() {
    let origin = receiver(&["silent"]);
    let mut config = telling(webhook(&origin, inline()));
    config.notify.webhook.as_mut().unwrap().deadline = Duration::from_millis(50);
    let controller = start(config);
    let report = report(&controller, |own| own.delivered == 1).await;
    let failure = report.last_failure.unwrap();
    assert!(failure.starts_with("not taken within 0.05 s"), "{failure}");
}

#[tokio::test]
async fn every_secret_of_a_file_signs_and_the_file_is_read_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets");
    let (old, new) = (SECRET, "fedcba9876543210fedcba9876543210");
    std::fs::write(&path, old).unwrap();
    let origin = receiver(&[]);
    let controller = start(telling(webhook(&origin, WebhookSecret::File(path.clone()))));
    let seen = origin.next();
    assert!(verified(&seen, old).is_some() && verified(&seen, new).is_none());
    replace_file(&path, &format!("{old}\n{new}\n"));
    block(&controller, "M1.1").await;
    let seen = origin.next();
    assert!(verified(&seen, old).is_some() && verified(&seen, new).is_some());
    std::fs::remove_file(&path).unwrap();
    block(&controller, "M2.1").await;
    let missing = report(&controller, |own| own.last_failure.is_some()).await;
    let failure = missing.last_failure.unwrap();
    assert!(failure.contains("secrets: "), "{failure}");
}

#[tokio::test]
async fn webhook_goes_through_a_proxy_as_a_whole_url() {
    // A proxy for a plain address is asked like a server.
    let proxy = receiver(&[]);
    let mut config = webhook(&proxy, inline());
    config.url = "http://receiver.example/hook".parse().unwrap();
    config.proxy = Some(format!("http://{}", proxy.address).parse().unwrap());
    let _controller = start(telling(config));
    let seen = proxy.next();
    assert_eq!(seen.line, "POST http://receiver.example/hook HTTP/1.1");
    assert_eq!(seen.values("host"), ["receiver.example"]);
    assert!(verified(&seen, SECRET).is_some());
}

#[tokio::test]
async fn stale_feed_is_told_once_until_it_is_fresh_again() {
    static AT: AtomicU64 = AtomicU64::new(NOW);
    fn clock() -> UnixTime {
        UnixTime::new(AT.load(Ordering::Relaxed))
    }
    let publisher = Publisher::new();
    let server = FeedServer::start(Mode::Answer(publisher.sign(
        "<EOCS version=\"1.0.4\"><Config id=\"PING1\"><ActionList><Action type=\"DoNothing\" scope=\"Server\">\
         <Value>DoNothing</Value></Action></ActionList></Config></EOCS>",
    )));
    let trust = Trust::XmlDsigX509(publisher.policy());
    let feed = FeedConfig::new("news", server.url().parse().unwrap(), trust);
    let stale_after = feed.stale_after.as_secs();
    let origin = receiver(&[]);
    let mut config = telling(webhook(&origin, inline()));
    config.feeds = vec![feed];
    config.watch_interval = Duration::from_millis(10);
    config.policy = Policy::default();
    let controller = start_at(config, clock);
    let control = controller.handle();
    let fresh = |wanted: bool| {
        let control = control.clone();
        async move {
            let waited = control.wait_for(|status| status.feeds[0].fresh == wanted);
            tokio::time::timeout(PATIENCE, waited)
                .await
                .unwrap()
                .unwrap()
        }
    };
    let stale = |documents: &[Seen]| {
        let documents = documents.iter().map(|seen| verified(seen, SECRET).unwrap());
        let events = documents.flat_map(|document| document["events"].as_array().unwrap().clone());
        events
            .filter(|own| own["event"] == "stale")
            .collect::<Vec<_>>()
    };
    for round in 1..=2 {
        fresh(true).await;
        server.set(Mode::Status(500));
        AT.fetch_add(stale_after + 1, Ordering::Relaxed);
        fresh(false).await;
        let mut documents = Vec::new();
        while stale(&documents).is_empty() {
            documents.push(origin.next());
        }
        let told = stale(&documents);
        assert_eq!(told.len(), 1, "{round}");
        assert_eq!(told[0]["feed"], "news");
        let reason = told[0]["reason"].as_str().unwrap();
        assert!(reason.starts_with("no success since 2026-"), "{reason}");
        // Further cycles tell nothing new of it.
        block(&controller, &format!("M8{round}")).await;
        assert!(stale(&origin.others()).is_empty());
        server.set(Mode::Answer(publisher.sign(&format!(
            "<EOCS version=\"1.0.4\"><Config id=\"PING{}\"><ActionList><Action type=\"DoNothing\" scope=\"Server\">\
             <Value>DoNothing</Value></Action></ActionList></Config></EOCS>",
            round + 1
        ))));
        control.order(Order::Reload).await.unwrap();
    }
}

#[test]
fn settings_are_taken_up_by_a_reload_and_secrets_are_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let (state, file) = (folder.path().join("state"), folder.path().join("s.toml"));
    let (first, second) = (receiver(&[]), receiver(&[]));
    let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let write = |origin: &Origin, secret: &str| {
        let text = format!(
            "listen = ['127.0.0.1:0']\n[admin]\naddress = '127.0.0.1:0'\n[notify.webhook]\nurl = 'http://{}/h'\n\
             secret = '{secret}'\n",
            origin.address
        );
        replace_file(&file, &text);
    };
    write(&first, SECRET);
    let settings = file.to_str().unwrap();
    let daemon = Daemon::from_command(stopgap(&state, &["run", "--config", settings]));
    assert!(verified(&first.next(), SECRET).is_some());
    write(&second, other);
    assert!(run(&state, &["reload"]).status.success());
    assert!(
        run(&state, &["mitigation", "block", "M1.1"])
            .status
            .success()
    );
    let seen = second.next();
    let key = STANDARD
        .decode(other.strip_prefix("whsec_").unwrap())
        .unwrap();
    let signed = format!(
        "{}.{}.",
        seen.values("webhook-id")[0],
        seen.values("webhook-timestamp")[0]
    );
    let body = seen.body.clone().unwrap();
    let expected = STANDARD.encode(hmac(&key, &[signed.as_bytes(), &body].concat()));
    assert_eq!(seen.values("webhook-signature"), [format!("v1,{expected}")]);
    assert!(first.others().is_empty());
    shows(&state, &["status"], "webhook");
    let printed = run(&state, &["config", "print", "--config", settings]);
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(text.contains("# secret is not shown"), "{text}");
    assert!(!text.contains(other), "{text}");
    assert!(daemon.stop().success());
}

fn shows(state: &Path, arguments: &[&str], text: &str) {
    let output = run(state, arguments);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains(text), "{shown}");
}
