//! Feeds in our own format over real sockets: roots walked, issues taken, and every way to cheat told by an alarm of its
//! own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stopgap::control::{ControlConfig, Controller, Status};
use stopgap::feed::{Feed, FeedConfig, FeedError, ROOT_LIMIT, Trust, fetch_with_roots};
use stopgap::model::UnixTime;
use stopgap::signature::envelope::{FeedPayload, KeyPair, RootBuilder, RootMetadata};
use stopgap::store::StateDir;
use stopgap::telemetry::{AlarmKind, Alarms, Label, Metrics};

use crate::support::feed_server::{FeedServer, Mode};

const NOW: u64 = 1_795_000_000;
const DAY: u64 = 86_400;

/// How long a test waits for a status before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn at(seconds: u64) -> UnixTime {
    UnixTime::new(NOW + seconds)
}

/// A publisher with its keys and what it serves.
struct Publisher {
    root_key: KeyPair,
    feed_key: KeyPair,
    root: RootMetadata,
    files: BTreeMap<String, Vec<u8>>,
}

impl Publisher {
    fn new() -> Self {
        let (root_key, feed_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = RootBuilder::init(at(400 * DAY))
            .add_root_key(root_key.public())
            .add_feed_key(feed_key.public())
            .build()
            .unwrap();
        let mut publisher = Self {
            files: BTreeMap::new(),
            root_key,
            feed_key,
            root,
        };
        publisher.serve_root(&[]);
        publisher
    }

    fn serve_root(&mut self, further: &[&KeyPair]) {
        let mut envelope = self.root.to_envelope().unwrap();
        envelope.sign(&self.root_key).unwrap();
        for key in further {
            envelope.sign(key).unwrap();
        }
        let json = envelope.to_json().unwrap().into_bytes();
        self.files.insert(self.root.file_name(), json);
    }

    /// Goes on to a root with another feed key.
    fn rotate(&mut self) {
        let next = KeyPair::generate().unwrap();
        self.root = RootBuilder::rotate(&self.root, at(400 * DAY))
            .drop_feed_key(&self.feed_key.public())
            .unwrap()
            .add_feed_key(next.public())
            .build()
            .unwrap();
        self.feed_key = next;
        self.serve_root(&[]);
    }

    fn pin(&self) -> Vec<u8> {
        self.files["1.root.json"].clone()
    }

    /// An issue that is valid for a week from its time.
    fn issue(&self, name: &str, version: u64, word: &str, issued: UnixTime) -> Vec<u8> {
        let expires = UnixTime::new(issued.seconds() + 7 * DAY);
        let issue = FeedPayload::first(name, &stopping(word), issued, expires).unwrap();
        let mut envelope = issue.with_version(version).unwrap().to_envelope().unwrap();
        envelope.sign(&self.feed_key).unwrap();
        envelope.to_json().unwrap().into_bytes()
    }

    fn serve(&mut self, document: Vec<u8>) {
        self.files.insert("feed.dsse.json".to_owned(), document);
    }

    fn mode(&self) -> Mode {
        Mode::Files(self.files.clone())
    }
}

/// A document with one mitigation, which stops everything below `/word`.
fn stopping(word: &str) -> String {
    format!(
        "<EOCS version=\"1.0\"><Config id=\"M9.1\" desc=\"{word}\"><ActionList><Action type=\"UrlRewrite\" \
         scope=\"Server\"><Value><rules><rule name=\"{word}\"><match url=\"^{word}(/|$)\"/><action \
         type=\"AbortRequest\"/></rule></rules></Value></Action></ActionList></Config></EOCS>"
    )
}

fn config(server: &FeedServer, root: Vec<u8>) -> FeedConfig {
    let url = format!("http://{}/feeds/feed.dsse.json", server.address);
    let trust = Trust::Dsse {
        name: "vendor".to_owned(),
        root,
    };
    let mut config = FeedConfig::new("mine", url.parse().unwrap(), trust);
    config.stale_after = Duration::from_secs(1_000 * DAY);
    config
}

async fn poll(feed: &mut Feed, now: UnixTime) -> Result<bool, FeedError> {
    let fetched = fetch_with_roots(feed.config(), feed.next_root()).await?;
    feed.take(&fetched, now).map(|taken| taken.changed)
}

fn word(feed: &Feed) -> Option<&str> {
    let mitigations = &feed.accepted()?.document.mitigations;
    Some(&mitigations.first()?.description)
}

async fn refused(feed: &mut Feed, now: UnixTime, alarm: AlarmKind) {
    let before = word(feed).map(str::to_owned);
    let error = poll(feed, now).await.unwrap_err();
    assert_eq!(error.alarm(), alarm, "{}", error.explain());
    let refusal = feed.refusal().map(|refusal| refusal.reason.clone());
    assert_eq!(refusal, Some(error.explain()));
    assert_eq!(word(feed), before.as_deref(), "what was in force stays");
}

#[tokio::test]
async fn issues_are_taken_and_nothing_goes_back_even_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = Publisher::new();
    let server = FeedServer::start(Mode::Status(500));
    let old = publisher.issue("vendor", 4, "old", at(0));
    let new = publisher.issue("vendor", 5, "new", at(10));
    {
        let state = StateDir::open(folder.path()).unwrap();
        let mut feed = Feed::new(config(&server, publisher.pin()), &state).unwrap();
        for document in [&old, &new] {
            publisher.serve(document.clone());
            server.set(publisher.mode());
            assert!(poll(&mut feed, at(20)).await.unwrap());
        }
        assert!(!poll(&mut feed, at(30)).await.unwrap(), "the same issue");
        publisher.serve(old.clone());
        server.set(publisher.mode());
        refused(&mut feed, at(40), AlarmKind::Rollback).await;
    }
    let state = StateDir::open(folder.path()).unwrap();
    let mut feed = Feed::new(config(&server, publisher.pin()), &state).unwrap();
    assert!(feed.restore().unwrap());
    assert_eq!(word(&feed), Some("new"));
    assert_eq!(feed.last_success(), Some(at(30)));
    assert_eq!(feed.accepted().unwrap().issue.unwrap().version, 5);
    refused(&mut feed, at(50), AlarmKind::Rollback).await;

    publisher.serve(publisher.issue("vendor", 5, "other", at(10)));
    server.set(publisher.mode());
    refused(&mut feed, at(60), AlarmKind::Equivocation).await;

    let asked = [server.request(), server.request()];
    assert!(asked[0].starts_with("GET /feeds/2.root.json "), "{asked:?}");
    assert!(
        asked[1].starts_with("GET /feeds/feed.dsse.json "),
        "{asked:?}"
    );
}

#[tokio::test]
async fn each_way_to_cheat_has_an_alarm_of_its_own() {
    let mut publisher = Publisher::new();
    let stranger = Publisher::new();
    let server = FeedServer::start(Mode::Status(500));
    let mut feed = Feed::new(config(&server, publisher.pin()), &StateDir::memory()).unwrap();
    publisher.serve(publisher.issue("vendor", 1, "good", at(0)));
    server.set(publisher.mode());
    poll(&mut feed, at(1)).await.unwrap();

    let changed = publisher.issue("vendor", 2, "changed", at(0));
    let changed = String::from_utf8(changed).unwrap().replacen("A", "B", 1);
    let no_document = {
        let expires = at(DAY);
        let issue = FeedPayload::first("vendor", "<EOCS version=\"9\"/>", at(0), expires).unwrap();
        let mut envelope = issue.with_version(9).unwrap().to_envelope().unwrap();
        envelope.sign(&publisher.feed_key).unwrap();
        envelope.to_json().unwrap().into_bytes()
    };
    let cases = [
        (
            publisher.issue("other", 2, "other", at(0)),
            AlarmKind::WrongFeed,
        ),
        (
            publisher.issue("vendor", 2, "early", at(302)),
            AlarmKind::Future,
        ),
        (
            stranger.issue("vendor", 2, "forged", at(0)),
            AlarmKind::SignatureRefused,
        ),
        (publisher.pin(), AlarmKind::SignatureRefused),
        (changed.into_bytes(), AlarmKind::SignatureRefused),
        (b"<EOCS version=\"1.0\"/>".to_vec(), AlarmKind::Refused),
        (no_document, AlarmKind::Refused),
    ];
    for (document, alarm) in cases {
        publisher.serve(document);
        server.set(publisher.mode());
        refused(&mut feed, at(1), alarm).await;
    }
    // A document that was signed and could not be read does not raise the floor.
    publisher.serve(publisher.issue("vendor", 2, "next", at(0)));
    server.set(publisher.mode());
    poll(&mut feed, at(1)).await.unwrap();
    assert_eq!(word(&feed), Some("next"));
}

#[tokio::test]
async fn roots_are_walked_one_by_one_and_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = Publisher::new();
    let pin = publisher.pin();
    let server = FeedServer::start(Mode::Status(500));
    {
        let state = StateDir::open(folder.path()).unwrap();
        let mut feed = Feed::new(config(&server, pin.clone()), &state).unwrap();
        publisher.serve(publisher.issue("vendor", u64::MAX, "thief", at(0)));
        server.set(publisher.mode());
        poll(&mut feed, at(1)).await.unwrap();
        publisher.rotate();
        publisher.rotate();
        publisher.serve(publisher.issue("vendor", 2, "genuine", at(2)));
        server.set(publisher.mode());
        let fetched = fetch_with_roots(feed.config(), feed.next_root())
            .await
            .unwrap();
        assert_eq!(fetched.roots.len(), 2);
        let taken = feed.take(&fetched, at(3)).unwrap();
        assert!(taken.changed && taken.signer_changed);
        assert_eq!((feed.root(), word(&feed)), (Some(3), Some("genuine")));
    }
    // A server that has lost the second root harms nobody who has walked over it.
    publisher.files.remove("2.root.json");
    server.set(publisher.mode());
    let state = StateDir::open(folder.path()).unwrap();
    let mut feed = Feed::new(config(&server, pin.clone()), &state).unwrap();
    assert!(feed.restore().unwrap());
    assert_eq!(feed.root(), Some(3));
    poll(&mut feed, at(4)).await.unwrap();
    // Who begins at the first root finds no way to the third, and takes nothing.
    let mut feed = Feed::new(config(&server, pin), &StateDir::memory()).unwrap();
    refused(&mut feed, at(5), AlarmKind::SignatureRefused).await;
    let third = publisher.files["3.root.json"].clone();
    publisher.files.insert("2.root.json".to_owned(), third);
    server.set(publisher.mode());
    refused(&mut feed, at(6), AlarmKind::RootRefused).await;
    assert_eq!(feed.root(), Some(1));
}

#[tokio::test]
async fn roots_without_end_are_taken_some_at_a_time() {
    let mut publisher = Publisher::new();
    let pin = publisher.pin();
    (0..=ROOT_LIMIT).for_each(|_| publisher.rotate());
    publisher.serve(publisher.issue("vendor", 1, "good", at(0)));
    let server = FeedServer::start(publisher.mode());
    let state = StateDir::memory();
    let mut feed = Feed::new(config(&server, pin.clone()), &state).unwrap();
    refused(&mut feed, at(1), AlarmKind::SignatureRefused).await;
    assert_eq!(feed.root(), Some(ROOT_LIMIT as u64 + 1));
    // The walk goes on where it was, a restart between.
    let mut feed = Feed::new(config(&server, pin), &state).unwrap();
    assert!(!feed.restore().unwrap());
    poll(&mut feed, at(2)).await.unwrap();
    assert_eq!(feed.root(), Some(ROOT_LIMIT as u64 + 2));
}

#[tokio::test]
async fn root_that_cannot_be_fetched_is_not_taken_for_the_last_one() {
    let mut publisher = Publisher::new();
    publisher.serve(publisher.issue("vendor", 1, "good", at(0)));
    publisher
        .files
        .insert("2.root.json".to_owned(), vec![b' '; 64 * 1024 + 1]);
    let server = FeedServer::start(publisher.mode());
    let mut feed = Feed::new(config(&server, publisher.pin()), &StateDir::memory()).unwrap();
    let error = poll(&mut feed, at(1)).await.unwrap_err();
    assert!(
        error.explain().contains("larger than 65536 bytes"),
        "{error}"
    );
    server.set(Mode::Status(503));
    let error = poll(&mut feed, at(1)).await.unwrap_err();
    assert_eq!(error.alarm(), AlarmKind::Unreachable);
    // A host that answers everything is told as such.
    server.set(Mode::Answer(b"<html/>".to_vec()));
    refused(&mut feed, at(1), AlarmKind::RootRefused).await;
}

#[tokio::test]
async fn folder_of_files_is_a_feed_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = Publisher::new();
    let pin = publisher.pin();
    publisher.rotate();
    publisher.serve(publisher.issue("vendor", 1, "good", at(0)));
    for (name, content) in &publisher.files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let server = FeedServer::start(Mode::Status(500));
    let mut config = config(&server, pin);
    config.source = stopgap::feed::Source::File(folder.path().join("feed.dsse.json"));
    let mut feed = Feed::new(config, &StateDir::memory()).unwrap();
    poll(&mut feed, at(1)).await.unwrap();
    assert_eq!((feed.root(), word(&feed)), (Some(2), Some("good")));
}

#[test]
fn damaged_state_is_told_and_overcome() {
    let publisher = Publisher::new();
    let server = FeedServer::start(Mode::Status(500));
    let state = StateDir::memory();
    let slot = state.slot("dsse-mine");
    slot.replace(b"{}").unwrap();
    let mut feed = Feed::new(config(&server, publisher.pin()), &state).unwrap();
    let error = feed.restore().unwrap_err();
    assert_eq!(error.alarm(), AlarmKind::State, "{}", error.explain());
    feed.accept(&publisher.issue("vendor", 1, "good", at(0)), at(1))
        .unwrap();
    let mut again = Feed::new(config(&server, publisher.pin()), &state).unwrap();
    assert!(again.restore().unwrap());
    // Under another pin the kept issue is nobody's.
    let mut other = Feed::new(config(&server, Publisher::new().pin()), &state).unwrap();
    assert_eq!(other.restore().unwrap_err().alarm(), AlarmKind::State);
    assert_eq!(word(&other), None);
}

/// The clock of the test below.
static CLOCK: AtomicU64 = AtomicU64::new(NOW);

fn clock() -> UnixTime {
    UnixTime::new(CLOCK.load(Ordering::Relaxed))
}

fn start(config: FeedConfig, state: &Path) -> (Controller, Metrics) {
    let metrics = Metrics::default();
    let config = ControlConfig {
        feeds: vec![config],
        watch_interval: Duration::from_millis(20),
        ..ControlConfig::default()
    };
    let state = StateDir::open(state).unwrap();
    let alarms = Alarms::new(&metrics);
    let controller = Controller::start(config, &state, &metrics, alarms, clock).unwrap();
    (controller, metrics)
}

async fn wait_for(
    controller: &Controller,
    what: &str,
    holds: impl FnMut(&Status) -> bool,
) -> Status {
    let control = controller.handle();
    match tokio::time::timeout(PATIENCE, control.wait_for(holds)).await {
        Ok(status) => Status::clone(&*status.unwrap()),
        Err(_) => panic!("no {what} in {:#?}", control.status()),
    }
}

fn applied(status: &Status) -> bool {
    let mut mitigations = status.mitigations.iter();
    mitigations.any(|mitigation| mitigation.id == "M9.1" && mitigation.state == "Applied")
}

/// An issue that nobody renews, in a whole instance: enforced, then stale and still enforced, then renewed.
#[tokio::test]
async fn frozen_feed_keeps_its_rules_and_is_told_stale() {
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = Publisher::new();
    publisher.serve(publisher.issue("vendor", 1, "frozen", at(0)));
    let server = FeedServer::start(publisher.mode());
    let feed = config(&server, publisher.pin());
    let (controller, metrics) = start(feed.clone(), folder.path());
    let status = wait_for(&controller, "issue", applied).await;
    assert!(status.alarms.is_empty(), "{:#?}", status.alarms);
    let report = &status.feeds[0];
    assert_eq!(
        (report.version, report.root, report.fresh),
        (Some(1), Some(1), true)
    );

    CLOCK.store(NOW + 8 * DAY, Ordering::Relaxed);
    let stale = |status: &Status| {
        let mut alarms = status.alarms.iter();
        alarms.any(|alarm| alarm.kind == AlarmKind::Stale.value() && alarm.subject == "mine")
    };
    let status = wait_for(&controller, "stale feed", stale).await;
    assert!(applied(&status) && !status.feeds[0].fresh);
    let rendered = metrics.render();
    assert!(
        rendered.contains("stopgap_alarms_raised_total{kind=\"stale\"} 1"),
        "{rendered}"
    );
    drop(controller);

    // It is taken up as it was, by a start without its server; then its publisher wakes up.
    server.set(Mode::Status(503));
    let (controller, _) = start(feed, folder.path());
    let status = wait_for(&controller, "both alarms", |status| {
        stale(status) && status.feeds[0].refusal.is_some()
    })
    .await;
    assert!(applied(&status));
    publisher.serve(publisher.issue("vendor", 2, "renewed", at(8 * DAY)));
    server.set(publisher.mode());
    controller
        .handle()
        .order(stopgap::control::Order::Reload)
        .await
        .unwrap();
    let status = wait_for(&controller, "renewed issue", |status| !stale(status)).await;
    assert!(applied(&status) && status.feeds[0].fresh);
    assert_eq!(status.feeds[0].version, Some(2));
}
