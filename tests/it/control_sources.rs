//! Feeds, rules and policy that change while the process runs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stopgap::control::{ControlConfig, Controller, Order, Outcome, SourceSettings, Status};
use stopgap::model::UnixTime;
use stopgap::store::StateDir;
use stopgap::telemetry::{AlarmKind, Alarms, Metrics};

use super::control::{
    NOW, VIEW_STATE, alarm, config, document, feed, find, local, reload, rules, start, state,
    stopping, verdict, wait_for, with_feeds,
};
use crate::support::client::{Client, Lost};
use crate::support::feed_server::{FeedServer, Mode};
use crate::support::process::{Daemon, replace_file, run, stopgap};
use crate::support::signer::Publisher;

/// Has the sources and the policy of these settings.
async fn set(controller: &Controller, config: &ControlConfig) -> Result<Outcome, String> {
    let order = Order::Sources(Box::new(SourceSettings::of(config)));
    let done = controller.handle().order(order).await;
    done.map_err(|error| error.to_string())
}

/// A host that serves one Config which stops everything below `/word`.
fn serving(publisher: &Publisher, id: &str, word: &str) -> FeedServer {
    let text = document(&stopping(id, word));
    FeedServer::start(Mode::Answer(publisher.sign(&text)))
}

fn offers(status: &Status, id: &str) -> bool {
    status.mitigations.iter().any(|one| one.id == id)
}

#[tokio::test]
async fn new_feed_is_fetched_at_once_and_one_that_stays_keeps_all_that_is_known_of_it() {
    let publisher = Publisher::new();
    let stays = serving(&publisher, "M71.1", "stays");
    let comes = serving(&publisher, "M72.1", "comes");
    let before = with_feeds(vec![feed("stays", &stays, &publisher)]);
    let controller = start(before.clone(), &StateDir::memory());
    let control = controller.handle();
    let known = wait_for(&control, "M71.1", |status| offers(status, "M71.1")).await;
    assert_eq!(stays.requests().len(), 1);
    // What is known of it could not be learned again.
    stays.set(Mode::Status(503));

    // The new one first, so that the other has another place in the order.
    let both = with_feeds(vec![
        feed("comes", &comes, &publisher),
        feed("stays", &stays, &publisher),
    ]);
    set(&controller, &both).await.unwrap();
    let status = wait_for(&control, "M72.1", |status| offers(status, "M72.1")).await;
    assert_eq!(status.feeds[1].last_success, known.feeds[0].last_success);
    assert_eq!(status.feeds[1].refusal, None);
    assert_eq!(comes.requests().len(), 1);
    assert_eq!(stays.requests().len(), 0, "it is fetched when it is due");
    for word in ["/stays", "/comes"] {
        assert_eq!(verdict(&controller, word), "abort", "{word}");
    }
    // Each answer comes to the feed that asked, wherever that stands now.
    reload(&control).await;
    let failed = |status: &Status| status.feeds[1].refusal.is_some();
    let status = wait_for(&control, "a failed fetch", failed).await;
    assert_eq!(status.feeds[0].refusal, None);
    assert_eq!(verdict(&controller, "/stays"), "abort");

    let last = with_feeds(vec![feed("comes", &comes, &publisher)]);
    assert!(set(&controller, &last).await.unwrap().changed);
    assert_eq!(verdict(&controller, "/stays"), "pass");
    assert_eq!(verdict(&controller, "/comes"), "abort");
    let status = control.status();
    assert!(!offers(&status, "M71.1") && status.feeds.len() == 1);
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
    let told = control.history().last().unwrap().clone();
    assert_eq!((&*told.id, &*told.state), ("M71.1", "NotOffered"));
}

#[tokio::test]
async fn feed_that_went_while_it_was_fetched_brings_nothing() {
    let publisher = Publisher::new();
    let server = FeedServer::start(Mode::Silent);
    let mut patient = feed("vendor", &server, &publisher);
    patient.deadline = Duration::from_secs(20);
    let controller = start(with_feeds(vec![patient.clone()]), &StateDir::memory());
    let control = controller.handle();
    server.request();
    // The same name, and all that it trusts, with another size of what is taken: another feed.
    let signed = publisher.sign(&document(&stopping("M71.1", "new")));
    server.set(Mode::Answer(signed));
    patient.size_limit += 1;
    set(&controller, &with_feeds(vec![patient])).await.unwrap();
    let status = wait_for(&control, "M71.1", |status| offers(status, "M71.1")).await;
    assert_eq!(status.feeds[0].refusal, None);
    set(&controller, &with_feeds(Vec::new())).await.unwrap();
    assert!(control.status().feeds.is_empty());
    assert_eq!(verdict(&controller, "/new"), "pass");
}

#[tokio::test]
async fn changed_feed_keeps_its_document_as_far_as_it_is_still_trusted() {
    let (publisher, stranger) = (Publisher::new(), Publisher::new());
    let server = serving(&publisher, "M71.1", "kept");
    let mut vendor = feed("vendor", &server, &publisher);
    let controller = start(with_feeds(vec![vendor.clone()]), &StateDir::memory());
    let control = controller.handle();
    wait_for(&control, "M71.1", |status| offers(status, "M71.1")).await;
    server.set(Mode::Status(503));
    vendor.interval = Duration::from_secs(60);
    set(&controller, &with_feeds(vec![vendor])).await.unwrap();
    assert_eq!(verdict(&controller, "/kept"), "abort");
    assert!(control.status().feeds[0].fresh);
    let other = feed("vendor", &server, &stranger);
    set(&controller, &with_feeds(vec![other])).await.unwrap();
    assert_eq!(verdict(&controller, "/kept"), "pass");
    let reason = alarm(&control.status(), AlarmKind::State, "vendor").unwrap();
    assert!(reason.contains("the signature is refused"), "{reason}");
}

/// The clock of the one test that moves it.
static MOVED: AtomicU64 = AtomicU64::new(NOW.seconds());

#[tokio::test]
async fn feed_that_has_only_just_come_is_not_stale_yet() {
    let publisher = Publisher::new();
    let server = FeedServer::start(Mode::Status(503));
    let vendor = feed("vendor", &server, &publisher);
    let config = ControlConfig {
        watch_interval: Duration::from_millis(10),
        ..ControlConfig::default()
    };
    let metrics = Metrics::default();
    let clock = || UnixTime::new(MOVED.load(Ordering::Relaxed));
    let alarms = Alarms::new(&metrics);
    let controller =
        Controller::start(config.clone(), &StateDir::memory(), &metrics, alarms, clock).unwrap();
    let control = controller.handle();
    let stale_after = vendor.stale_after.as_secs();
    let come = NOW.seconds() + 2 * stale_after;
    MOVED.store(come, Ordering::Relaxed);
    let feeds = vec![vendor];
    set(&controller, &ControlConfig { feeds, ..config })
        .await
        .unwrap();
    let failed = |status: &Status| status.feeds[0].refusal.is_some();
    let status = wait_for(&control, "a failed fetch", failed).await;
    assert_eq!(alarm(&status, AlarmKind::Stale, "vendor"), None);
    MOVED.store(come + stale_after + 1, Ordering::Relaxed);
    let stale = |status: &Status| alarm(status, AlarmKind::Stale, "vendor").is_some();
    wait_for(&control, "a stale feed", stale).await;
    set(&controller, &ControlConfig::default()).await.unwrap();
    let status = control.status();
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
}

#[tokio::test]
async fn policy_counts_from_the_order_on() {
    let publisher = Publisher::new();
    let text = document(&config("M81.1", "", &rules(".*"), ""));
    let server = FeedServer::start(Mode::Answer(publisher.sign(&text)));
    let plain = with_feeds(vec![feed("vendor", &server, &publisher)]);
    let controller = start(plain.clone(), &StateDir::memory());
    let control = controller.handle();
    wait_for(&control, "M81.1", |status| offers(status, "M81.1")).await;
    let shown = || state(&control.status(), "M81.1");
    assert!(shown().starts_with("Failed(stops "), "{}", shown());

    let id = || vec!["M81".parse().unwrap()];
    let mut trusting = plain.clone();
    trusting.policy.trust_despite_benign = id();
    let mut blocking = trusting.clone();
    blocking.policy.blocked = id();
    let mut watching = trusting.clone();
    watching.policy.audit = id();
    let mut waiting = trusting.clone();
    waiting.policy.approval_required = true;
    let mut off = trusting.clone();
    off.policy.server_enabled = false;
    let mut lenient = plain.clone();
    lenient.policy.benign_limit = usize::MAX;
    for (settings, expected, word) in [
        (&blocking, "Blocked", "pass"),
        (&trusting, "Applied", "abort"),
        (&watching, "Audit", "pass"),
        (&waiting, "AwaitingApproval", "pass"),
        (&lenient, "Applied", "abort"),
        (&off, "Disabled", "pass"),
        (&plain, "Failed", "pass"),
    ] {
        set(&controller, settings).await.unwrap();
        assert_eq!(find(&control.status(), "M81.1").state, expected);
        assert_eq!(verdict(&controller, "/owa/"), word, "{expected}");
    }
    assert_eq!(server.requests().len(), 1, "nothing had to be fetched");
}

#[tokio::test]
async fn groups_honest_paths_and_the_bundled_set_come_and_go() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules("^local$")).unwrap();
    let controller = start(ControlConfig::default(), &StateDir::memory());
    let control = controller.handle();
    let status = control.status();
    let grouped = status.mitigations.iter().find(|one| !one.group.is_empty());
    let grouped = grouped.unwrap().clone();
    assert_eq!(grouped.state, "NotApplicable");
    let groups = ControlConfig {
        groups: vec![grouped.group.clone()],
        ..ControlConfig::default()
    };
    set(&controller, &groups).await.unwrap();
    assert_eq!(find(&control.status(), &grouped.id).state, "Applied");

    // What the bundled set stops, as a path of health checks.
    let honest = ControlConfig {
        honest_paths: vec![VIEW_STATE.to_owned()],
        ..ControlConfig::default()
    };
    set(&controller, &honest).await.unwrap();
    assert_eq!(find(&control.status(), "SG1.1").state, "Failed");
    assert_eq!(verdict(&controller, VIEW_STATE), "pass");

    let alone = local(&[file.path()]);
    let beside = ControlConfig {
        with_baseline: true,
        ..alone.clone()
    };
    for (settings, own, bundled) in [
        (&alone, "abort", "pass"),
        (&beside, "abort", "abort"),
        (&ControlConfig::default(), "pass", "abort"),
    ] {
        set(&controller, settings).await.unwrap();
        let judged = ["/local", VIEW_STATE].map(|target| verdict(&controller, target));
        assert_eq!(judged, [own, bundled]);
    }
}

#[tokio::test]
async fn sources_that_cannot_be_used_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (good, bad) = (path("good.xml"), path("bad.xml"));
    std::fs::write(&good, rules("^good$")).unwrap();
    std::fs::write(&bad, "<rules>").unwrap();
    let publisher = Publisher::new();
    let server = serving(&publisher, "M71.1", "fed");
    let before = local(&[&good]);
    let controller = start(before.clone(), &StateDir::memory());
    let control = controller.handle();
    let twice = vec![feed("vendor", &server, &publisher); 2];
    let with_rules = |paths: &[&Path]| {
        let mut settings = local(paths);
        settings.feeds = vec![feed("vendor", &server, &publisher)];
        settings.policy.blocked = vec!["SG1".parse().unwrap()];
        settings
    };
    let mut rootless = with_rules(&[&good]);
    rootless.document_roots = vec![Some(path("nowhere"))];
    let mut ambiguous = with_rules(&[&good]);
    ambiguous.feeds = twice;
    let revision = control.status().revision;
    for (settings, reason) in [
        (with_rules(&[&good, &bad]), "bad.xml"),
        (with_rules(&[&path("nowhere.xml")]), "nowhere.xml"),
        (ambiguous, "two sources are named vendor"),
        (rootless, "nowhere"),
    ] {
        let why = set(&controller, &settings).await.unwrap_err();
        assert!(why.contains(reason), "{why}");
        let status = control.status();
        assert_eq!((status.revision, status.feeds.len()), (revision, 0));
        assert_eq!(status.rule_files.len(), 1);
        assert_eq!(verdict(&controller, "/good"), "abort");
    }
    // A file that was named before is refused alone, as ever: its last good content stays.
    std::fs::write(&good, "<rules>").unwrap();
    let outcome = set(&controller, &with_rules(&[&good])).await.unwrap();
    assert!(outcome.refused[0].contains("good.xml"), "{outcome:?}");
    assert_eq!(verdict(&controller, "/good"), "abort");
    wait_for(&control, "M71.1", |status| offers(status, "M71.1")).await;
}

#[tokio::test]
async fn other_interval_counts_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules("^one$")).unwrap();
    let slow = local(&[file.path()]);
    let controller = start(slow.clone(), &StateDir::memory());
    let quick = ControlConfig {
        watch_interval: Duration::from_millis(10),
        ..slow
    };
    set(&controller, &quick).await.unwrap();
    std::fs::write(file.path(), rules("^two$")).unwrap();
    let taken = |status: &Status| status.rule_files[0].rules[0].name == "^two$";
    wait_for(&controller.handle(), "the new rule", taken).await;
}

/// A proxy process with settings that change.
struct Changing {
    folder: tempfile::TempDir,
    daemon: Option<Daemon>,
}

impl Changing {
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut changing = Self {
            folder,
            daemon: None,
        };
        changing.write(settings);
        let file = changing.path("stopgap.toml");
        let arguments = ["run", "--config", file.to_str().unwrap()];
        let command = stopgap(&changing.path("state"), &arguments);
        changing.daemon = Some(Daemon::from_command(command));
        changing
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, settings: &str) {
        let text = format!(
            "listen = ['127.0.0.1:0']\nwatch_interval = '1h'\n{settings}\n[admin]\naddress = '127.0.0.1:0'\n"
        );
        replace_file(&self.path("stopgap.toml"), &text);
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Has these settings by a signal.
    fn hang_up(&self, settings: &str) {
        self.write(settings);
        self.daemon().signal("HUP");
        self.daemon().logged("\"reloaded\"");
    }

    fn is_stopped(&self, target: &str) -> bool {
        let reply = Client::connect(self.daemon().address).get(target, &[]);
        matches!(reply, Err(Lost::Reset))
    }
}

#[test]
fn signal_takes_up_feeds_rules_and_policy() {
    let publisher = Publisher::new();
    let server = serving(&publisher, "M71.1", "fed");
    let changing = Changing::start("");
    std::fs::write(changing.path("root.der"), publisher.root_der()).unwrap();
    std::fs::write(changing.path("rules.xml"), rules("^local$")).unwrap();
    let feed = format!(
        "[[feed]]\nname = 'vendor'\nurl = '{}'\ntrust = 'xmldsig-x509'\nroots = ['root.der']\n",
        server.url()
    );
    assert!(changing.is_stopped(VIEW_STATE));
    changing.hang_up(&format!("rules = ['rules.xml']\n{feed}"));
    changing.daemon().logged("\"feed taken\"");
    crate::support::proxy::eventually("the feed is in force", || changing.is_stopped("/fed"));
    assert!(changing.is_stopped("/local") && !changing.is_stopped(VIEW_STATE));
    changing.hang_up(&format!("[policy]\nblocked = ['M71']\n{feed}"));
    assert!(!changing.is_stopped("/fed") && !changing.is_stopped("/local"));
    assert!(changing.is_stopped(VIEW_STATE));
    changing.hang_up(&feed);
    assert!(changing.is_stopped("/fed"));
    changing.hang_up("");
    assert!(!changing.is_stopped("/fed"));
}

#[test]
fn what_needs_a_start_is_named_and_a_bad_file_changes_nothing() {
    let changing = Changing::start("");
    let reloaded = |settings: &str| {
        changing.write(settings);
        let output = run(&changing.path("state"), &["reload"]);
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for (settings, named) in [
        ("instance = 'front'", "instance: the change takes effect"),
        ("state_dir = 'elsewhere'", "state_dir: the change"),
        ("[[site]]\nname = 'a'", "the names and number of [[site]]"),
    ] {
        let (code, told) = reloaded(settings);
        assert_eq!(code, Some(3), "{told}");
        assert!(told.contains(named), "{told}");
    }
    std::fs::write(changing.path("rules.xml"), "<rules>").unwrap();
    let blocked = "[policy]\nblocked = ['SG1']";
    let (code, told) = reloaded(&format!("rules = ['rules.xml']\n{blocked}"));
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("rules.xml"), "{told}");
    assert!(changing.is_stopped(VIEW_STATE));
    assert_eq!(reloaded(blocked).0, Some(0));
    assert!(!changing.is_stopped(VIEW_STATE));
}
