//! Where a feed comes from: mirrors in turn, folders, hosts that say what has not changed, and answers of a wrong length.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stopgap::control::{ControlConfig, Controller, Order, Status};
use stopgap::feed::{
    DOCUMENT_FILE, Feed, FeedConfig, Fetcher, Source, Trust, VALIDATOR_BYTES, fetch,
};
use stopgap::model::UnixTime;
use stopgap::store::StateDir;
use stopgap::telemetry::{AlarmKind, Alarms, Label, Metrics};

use crate::support::feed_server::{FeedServer, LAST_MODIFIED, Mode};
use crate::support::signer::Publisher;

/// A moment at which the publishers' certificates are valid.
const NOW: u64 = 1_795_000_000;

/// How long a test waits for a status before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

const DOCUMENT: &[u8] = b"<EOCS version=\"1.0\"/>";

fn now() -> UnixTime {
    UnixTime::new(NOW)
}

fn heartbeat(description: &str) -> String {
    format!(
        "<EOCS version=\"1.0.4\"><Config id=\"PING9.1\" desc=\"{description}\"><ActionList>\
         <Action type=\"DoNothing\" scope=\"Server\"><Value>DoNothing</Value></Action>\
         </ActionList></Config></EOCS>"
    )
}

fn source(server: &FeedServer) -> Source {
    server.url().parse().unwrap()
}

fn config(publisher: &Publisher, places: &[&FeedServer]) -> FeedConfig {
    let trust = Trust::XmlDsigX509(publisher.policy());
    let mut config = FeedConfig::new("mine", source(places[0]), trust);
    config.mirrors = places[1..].iter().copied().map(source).collect();
    config
}

/// Starts a control side with this feed alone.
fn start(config: FeedConfig, clock: fn() -> UnixTime) -> Controller {
    let metrics = Metrics::default();
    let config = ControlConfig {
        feeds: vec![config],
        watch_interval: Duration::from_millis(20),
        ..ControlConfig::default()
    };
    let alarms = Alarms::new(&metrics);
    Controller::start(config, &StateDir::memory(), &metrics, alarms, clock).unwrap()
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

fn alarm(status: &Status, kind: AlarmKind) -> Option<&str> {
    let mut alarms = status.alarms.iter();
    let found = alarms.find(|alarm| alarm.kind == kind.value())?;
    Some(&found.subject)
}

#[tokio::test]
async fn mirrors_are_tried_in_turn_until_one_is_accepted() {
    let publisher = Publisher::new();
    let good = publisher.sign(&heartbeat("good"));
    let forged = Publisher::new().sign(&heartbeat("forged"));
    let dead = FeedServer::start(Mode::Status(503));
    let forger = FeedServer::start(Mode::Answer(forged));
    let mirror = FeedServer::start(Mode::Answer(good.clone()));
    let unused = FeedServer::start(Mode::Answer(good.clone()));
    let config = config(&publisher, &[&dead, &forger, &mirror, &unused]);
    let controller = start(config, now);
    let status = wait_for(&controller, "success", |status| {
        status.feeds[0].last_success.is_some()
    })
    .await;
    let feed = &status.feeds[0];
    assert!(feed.fresh && feed.refusal.is_none(), "{feed:#?}");
    assert!(
        status
            .mitigations
            .iter()
            .any(|own| own.description == "good")
    );
    // What is wrong with the others is told, each by its place.
    let subject = |server: &FeedServer| format!("mine at {}", server.url());
    let unreachable = alarm(&status, AlarmKind::Unreachable).map(str::to_owned);
    assert_eq!(unreachable, Some(subject(&dead)));
    let refused = alarm(&status, AlarmKind::SignatureRefused).map(str::to_owned);
    assert_eq!(refused, Some(subject(&forger)));
    assert_eq!(unused.requests(), Vec::<String>::new());

    // The first one is asked first again, and then nobody else is.
    dead.set(Mode::Answer(good));
    mirror.requests();
    controller.handle().order(Order::Reload).await.unwrap();
    let healthy = |status: &Status| {
        alarm(status, AlarmKind::Unreachable).is_none()
            && alarm(status, AlarmKind::SignatureRefused).is_none()
    };
    wait_for(&controller, "end of the alarms", healthy).await;
    assert_eq!(mirror.requests(), Vec::<String>::new());

    // When no place serves, what was in force stays, and the last reason is shown.
    for server in [&dead, &forger, &mirror, &unused] {
        server.set(Mode::Status(404));
    }
    controller.handle().order(Order::Reload).await.unwrap();
    let status = wait_for(&controller, "refusal", |status| {
        status.feeds[0].refusal.is_some()
    })
    .await;
    assert!(
        status
            .mitigations
            .iter()
            .any(|own| own.description == "good")
    );
    let alarms = status.alarms.iter();
    assert_eq!(
        alarms
            .filter(|alarm| alarm.kind == AlarmKind::Unreachable.value())
            .count(),
        4
    );
}

#[tokio::test]
async fn host_is_asked_only_for_what_is_new_to_it() {
    let publisher = Publisher::new();
    let server = FeedServer::start(Mode::Versioned("\"one\"".into(), DOCUMENT.to_vec()));
    let mirror = FeedServer::start(Mode::Answer(DOCUMENT.to_vec()));
    let mut fetcher = Fetcher::new(config(&publisher, &[&server, &mirror]));
    let [first, second] = [source(&server), source(&mirror)];
    let conditions = |server: &FeedServer| {
        let head = server.request().to_ascii_lowercase();
        let lines = head.lines().map(str::to_owned);
        lines
            .filter(|line| line.starts_with("if-"))
            .collect::<Vec<_>>()
    };
    let none = Vec::<String>::new();

    let fetched = fetcher.fetch(&first, None).await.unwrap();
    assert_eq!(conditions(&server), none);
    // Nobody has accepted it: it is not known.
    let again = fetcher.fetch(&first, None).await.unwrap();
    assert_eq!((conditions(&server), &again), (none.clone(), &fetched));

    fetcher.accepted(&first, fetched.clone());
    let again = fetcher.fetch(&first, None).await.unwrap();
    assert_eq!(
        again.document, DOCUMENT,
        "the same octets, to be verified again"
    );
    let expected = [
        "if-none-match: \"one\"".to_owned(),
        format!("if-modified-since: {LAST_MODIFIED}").to_ascii_lowercase(),
    ];
    assert_eq!(conditions(&server), expected);
    let fetched = fetcher.fetch(&second, None).await.unwrap();
    assert_eq!(conditions(&mirror), none, "another place's word");

    // A new document comes whole, and becomes the known one.
    server.set(Mode::Versioned("\"two\"".into(), b"<EOCS/>".to_vec()));
    let other = fetcher.fetch(&first, None).await.unwrap();
    assert_eq!(other.document, b"<EOCS/>");
    assert_eq!(conditions(&server).len(), 2);

    // After what a place without validators gave, nothing is known; a 304 out of the blue is no document.
    fetcher.accepted(&second, fetched);
    server.set(Mode::Status(304));
    let error = fetcher.fetch(&first, None).await.unwrap_err();
    assert!(error.explain().contains("status 304"), "{error}");
    assert_eq!(conditions(&server), none);
}

#[tokio::test]
async fn validator_has_a_longest_length() {
    let publisher = Publisher::new();
    for (length, known) in [(VALIDATOR_BYTES, true), (VALIDATOR_BYTES + 1, false)] {
        let tag = format!("\"{}\"", "a".repeat(length - 2));
        let server = FeedServer::start(Mode::Versioned(tag.clone(), DOCUMENT.to_vec()));
        let mut fetcher = Fetcher::new(config(&publisher, &[&server]));
        let place = source(&server);
        let fetched = fetcher.fetch(&place, None).await.unwrap();
        server.request();
        fetcher.accepted(&place, fetched);
        assert_eq!(
            fetcher.fetch(&place, None).await.unwrap().document,
            DOCUMENT
        );
        assert_eq!(server.request().contains(&tag), known, "{length}");
    }
}

#[tokio::test]
async fn folder_without_a_way_out_is_verified_like_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let publisher = Publisher::new();
    let place = Source::File(folder.path().to_owned());
    let trust = Trust::XmlDsigX509(publisher.policy());
    let config = FeedConfig::new("mine", place.clone(), trust);
    let mut feed = Feed::new(config.clone(), &StateDir::memory()).unwrap();
    let fetcher = Fetcher::new(config);
    let error = fetcher.fetch(&place, None).await.unwrap_err();
    let file = folder.path().join(DOCUMENT_FILE);
    let path = Path::new(&file).display().to_string();
    assert!(error.explain().contains(&path), "{error}");

    let signed = publisher.sign(&heartbeat("carried in"));
    std::fs::write(&file, &signed).unwrap();
    let fetched = fetcher.fetch(&place, None).await.unwrap();
    assert!(feed.take(&fetched, now()).unwrap().changed);

    let forged = String::from_utf8(signed)
        .unwrap()
        .replace("carried", "smuggled");
    std::fs::write(&file, forged).unwrap();
    let fetched = fetcher.fetch(&place, None).await.unwrap();
    let error = feed.take(&fetched, now()).unwrap_err();
    assert_eq!(error.alarm(), AlarmKind::SignatureRefused);
}

/// Lengths that are not the body's, and heads that are none.
#[tokio::test]
async fn wrong_lengths_are_bounded() {
    let answer = |head: &str, body: &str| {
        Mode::Raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").into_bytes())
    };
    let cases = [
        (
            answer("Content-Length: 9223372036854775807", ""),
            "larger than 20000 bytes",
        ),
        (
            answer("Content-Length: 18446744073709551615", ""),
            "ended the exchange",
        ),
        (
            answer("Content-Length: 20001", ""),
            "larger than 20000 bytes",
        ),
        (answer("Content-Length: 10", "12345"), "cut short"),
        (answer("Content-Length: -1", ""), "ended the exchange"),
        (
            answer("Content-Length: 5, 6", "12345"),
            "ended the exchange",
        ),
        (
            answer("Content-Length: 5\r\nContent-Length: 6", "12345"),
            "ended the exchange",
        ),
        (
            answer("Transfer-Encoding: chunked", "ffffffffffffffffff\r\n"),
            "cut short",
        ),
        (answer("Transfer-Encoding: chunked", "xyz\r\n"), "cut short"),
        (Mode::EndlessHead, "ended the exchange"),
        (
            Mode::Raw(b"\0\0\0\0\0\0\0\0\r\n\r\n".to_vec()),
            "ended the exchange",
        ),
        (Mode::Raw(Vec::new()), "ended the exchange"),
    ];
    let server = FeedServer::start(Mode::Silent);
    let mut config = FeedConfig::new("mine", source(&server), Trust::MicrosoftEocs);
    config.size_limit = 20_000;
    for (mode, reason) in cases {
        server.set(mode.clone());
        let error = fetch(&config).await.unwrap_err().explain();
        let shown = format!("{mode:?}").chars().take(120).collect::<String>();
        assert!(error.contains(reason), "{shown}: {error}");
    }
    // What follows a body belongs to nobody.
    server.set(answer("Content-Length: 5", "12345678"));
    assert_eq!(fetch(&config).await.unwrap(), b"12345");
}

/// The clock of the test below.
static CLOCK: AtomicU64 = AtomicU64::new(NOW);

fn clock() -> UnixTime {
    UnixTime::new(CLOCK.load(Ordering::Relaxed))
}

#[tokio::test]
async fn jumps_of_the_clock_do_not_move_the_schedule() {
    let publisher = Publisher::new();
    let server = FeedServer::start(Mode::Answer(publisher.sign(&heartbeat("one"))));
    let controller = start(config(&publisher, &[&server]), clock);
    let fresh = |status: &Status| status.feeds[0].fresh;
    wait_for(&controller, "success", fresh).await;
    assert_eq!(server.requests().len(), 1);
    let stale = |status: &Status| alarm(status, AlarmKind::Stale).is_some();
    for jump in [1_000_000, 0, 500_000_000] {
        CLOCK.store(NOW + jump, Ordering::Relaxed);
        // That it was seen shows in what is said of the feed's age.
        wait_for(&controller, "another age", |status| {
            stale(status) == (jump > 0)
        })
        .await;
        assert_eq!(server.requests(), Vec::<String>::new(), "{jump}");
    }
    CLOCK.store(0, Ordering::Relaxed);
    wait_for(&controller, "an age of nothing", |status| !stale(status)).await;
    assert_eq!(server.requests(), Vec::<String>::new());
    // The task that fetches is there all the time.
    controller.handle().order(Order::Reload).await.unwrap();
    server.request();
}
