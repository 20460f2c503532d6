//! The control side as a whole: sources in, rule sets out, and nothing lost on the way.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use stopgap::control::{
    ControlConfig, ControlHandle, Controller, MitigationReport, Order, Outcome, Status,
};
use stopgap::feed::{FeedConfig, Trust};
use stopgap::filter::{Filter, Peer};
use stopgap::model::UnixTime;
use stopgap::store::StateDir;
use stopgap::telemetry::{AlarmKind, Alarms, Label, Metrics};

use crate::support::feed_server::{FeedServer, Mode};
use crate::support::signer::{Options, Publisher};

/// A moment at which the publishers' certificates are valid.
pub(super) const NOW: UnixTime = UnixTime::new(1_795_000_000);

/// An attack that the bundled SG1.1 stops and no other bundled mitigation.
pub(super) const VIEW_STATE: &str = "/ecp/default.aspx?__VIEWSTATE=AAAA";

/// How long a test waits for a status before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn clock() -> UnixTime {
    NOW
}

/// A document around these Configs.
pub(super) fn document(configs: &str) -> String {
    format!("<EOCS version=\"1.0.4\" xmlns:sg=\"urn:stopgap:feed:1\">{configs}</EOCS>")
}

/// Rules that abort requests whose URL matches `pattern`.
pub(super) fn rules(pattern: &str) -> String {
    format!(
        "<rules><rule name=\"{pattern}\"><match url=\"{pattern}\"/><action type=\"AbortRequest\"/></rule></rules>"
    )
}

/// A Config with these attributes, rules for every site, and further children.
pub(super) fn config(id: &str, attributes: &str, rules: &str, children: &str) -> String {
    format!(
        "<Config id=\"{id}\" {attributes}><ActionList><Action type=\"UrlRewrite\" scope=\"Server\"><Value>\
         {rules}</Value></Action></ActionList>{children}</Config>"
    )
}

/// A Config that stops everything below `/word`.
pub(super) fn stopping(id: &str, word: &str) -> String {
    config(id, "", &rules(&format!("^{word}(/|$)")), "")
}

pub(super) fn start(config: ControlConfig, state: &StateDir) -> Controller {
    let metrics = Metrics::default();
    Controller::start(config, state, &metrics, Alarms::new(&metrics), clock).unwrap()
}

pub(super) fn local(paths: &[&Path]) -> ControlConfig {
    ControlConfig {
        rules: paths.iter().map(|path| path.to_path_buf()).collect(),
        // Tests ask for a look when they want one.
        watch_interval: Duration::from_secs(3_600),
        ..ControlConfig::default()
    }
}

pub(super) fn feed(name: &str, server: &FeedServer, publisher: &Publisher) -> FeedConfig {
    let trust = Trust::XmlDsigX509(publisher.policy());
    let mut config = FeedConfig::new(name, server.url().parse().unwrap(), trust);
    config.deadline = Duration::from_millis(400);
    config.size_limit = 100_000;
    config
}

pub(super) fn with_feeds(feeds: Vec<FeedConfig>) -> ControlConfig {
    ControlConfig {
        feeds,
        ..ControlConfig::default()
    }
}

/// What becomes of a `GET` by the published rules, in one word.
pub(super) fn verdict(controller: &Controller, target: &str) -> &'static str {
    let request = Request::get(target)
        .header("Host", "mail.example.test")
        .body(())
        .unwrap();
    let (parts, ()) = request.into_parts();
    let mut filter = Filter::new(controller.filter());
    let judged = filter.judge(0, &parts, &Peer::default());
    judged.decision.verdict.name()
}

pub(super) async fn reload(control: &ControlHandle) -> Outcome {
    control.order(Order::Reload).await.unwrap()
}

pub(super) async fn wait_for(
    control: &ControlHandle,
    what: &str,
    holds: impl FnMut(&Status) -> bool,
) -> std::sync::Arc<Status> {
    tokio::time::timeout(PATIENCE, control.wait_for(holds))
        .await
        .unwrap_or_else(|_| panic!("no {what} in {:#?}", control.status()))
        .unwrap()
}

pub(super) fn find<'a>(status: &'a Status, id: &str) -> &'a MitigationReport {
    let mut mitigations = status.mitigations.iter();
    mitigations
        .find(|mitigation| mitigation.id == id)
        .unwrap_or_else(|| panic!("no {id} in {status:#?}"))
}

pub(super) fn state(status: &Status, id: &str) -> String {
    let found = find(status, id);
    format!("{}({})", found.state, found.reason)
}

pub(super) fn alarm(status: &Status, kind: AlarmKind, subject: &str) -> Option<String> {
    let mut alarms = status.alarms.iter();
    alarms
        .find(|alarm| alarm.kind == kind.value() && alarm.subject == subject)
        .map(|alarm| alarm.reason.clone())
}

#[tokio::test]
async fn bundled_set_is_in_force_when_start_returns() {
    let controller = start(ControlConfig::default(), &StateDir::memory());
    assert_eq!(verdict(&controller, VIEW_STATE), "abort");
    assert_eq!(verdict(&controller, "/owa/"), "pass");
    let status = controller.handle().status();
    assert_eq!(status.revision, 1);
    assert_eq!(status.alarms.len(), 0, "{:#?}", status.alarms);
    for mitigation in &status.mitigations {
        assert_eq!(mitigation.source, "bundled");
        match mitigation.group.is_empty() {
            true => assert_eq!(mitigation.state, "Applied", "{mitigation:#?}"),
            false => assert_eq!(mitigation.state, "NotApplicable", "{mitigation:#?}"),
        }
    }
    assert!(state(&status, "M1.1").starts_with("Applied(unproven: judged at "));
    assert_eq!(state(&status, "PING1"), "Applied(unproven: no vector)");
    serde_json::to_string(&*status).unwrap();
}

#[test]
fn metrics_show_states_feeds_and_swaps() {
    let metrics = Metrics::default();
    let alarms = Alarms::new(&metrics);
    let state = StateDir::memory();
    let started = Controller::start(ControlConfig::default(), &state, &metrics, alarms, clock);
    let status = started.unwrap().handle().status();
    let applied = status.mitigations.iter().filter(|m| m.state == "Applied");
    let page = metrics.render();
    for line in [
        format!(
            "stopgap_control_mitigations{{state=\"Applied\"}} {}\n",
            applied.count()
        ),
        "stopgap_control_mitigations{state=\"Failed\"} 0\n".to_owned(),
        "stopgap_control_swaps_total 1\n".to_owned(),
    ] {
        assert!(page.contains(&line), "{line} in {page}");
    }
}

#[tokio::test]
async fn opt_in_groups_are_enforced_when_chosen() {
    let status = start(ControlConfig::default(), &StateDir::memory())
        .handle()
        .status();
    let groups: std::collections::BTreeSet<String> = status
        .mitigations
        .iter()
        .map(|mitigation| mitigation.group.clone())
        .filter(|group| !group.is_empty())
        .collect();
    assert!(!groups.is_empty());
    let chosen = ControlConfig {
        groups: groups.into_iter().collect(),
        ..ControlConfig::default()
    };
    let status = start(chosen, &StateDir::memory()).handle().status();
    for mitigation in &status.mitigations {
        assert_eq!(mitigation.state, "Applied", "{mitigation:#?}");
    }
}

#[tokio::test]
async fn local_rules_replace_the_bundled_set_unless_asked() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules("^local$")).unwrap();
    let alone = start(local(&[file.path()]), &StateDir::memory());
    assert_eq!(verdict(&alone, "/local"), "abort");
    assert_eq!(verdict(&alone, VIEW_STATE), "pass");
    let beside = ControlConfig {
        with_baseline: true,
        ..local(&[file.path()])
    };
    let beside = start(beside, &StateDir::memory());
    assert_eq!(verdict(&beside, "/local"), "abort");
    assert_eq!(verdict(&beside, VIEW_STATE), "abort");
    let status = beside.handle().status();
    assert_eq!(status.rule_files.len(), 1);
    assert_eq!(status.rule_files[0].hits, 1);
    assert_eq!(status.rule_files[0].rules[0].kind, "request");
}

#[tokio::test]
async fn refused_file_leaves_its_last_good_content_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("a.xml"), folder.path().join("b.xml"));
    let kept = tempfile::tempdir().unwrap();
    std::fs::write(&file, rules("^one$")).unwrap();
    std::fs::write(&other, rules("^other$")).unwrap();
    let bad = [
        "<rules>".to_owned(),
        "<rules><rule name=\"x\"><match url=\"(\"/><action type=\"AbortRequest\"/></rule></rules>"
            .to_owned(),
        "<unheard/>".to_owned(),
        document(&format!("{}<Config id=\"M2.1\"/>", stopping("M1.1", "two"))),
        document(&format!("{}<Config/>", stopping("M1.1", "two"))),
        document(&config(
            "M1.1",
            "",
            &rules("^two$"),
            "<sg:vectors><sg:stop target=\"/three\"/></sg:vectors>",
        )),
    ];
    {
        let state = StateDir::open(kept.path()).unwrap();
        let controller = start(local(&[folder.path()]), &state);
        let control = controller.handle();
        for text in &bad {
            std::fs::write(&file, text).unwrap();
            let outcome = reload(&control).await;
            assert!(!outcome.changed, "{text}");
            assert!(outcome.refused[0].contains("a.xml"), "{text}: {outcome:?}");
            assert_eq!(verdict(&controller, "/one"), "abort", "{text}");
            assert_eq!(verdict(&controller, "/two"), "pass", "{text}");
            let status = control.status();
            assert!(status.rule_files[0].refusal.is_some(), "{text}");
            assert_eq!(status.rule_files[1].refusal, None, "{text}");
        }
        // Another file is not held up by the bad one.
        std::fs::write(&other, rules("^else$")).unwrap();
        assert!(reload(&control).await.changed);
        assert_eq!(verdict(&controller, "/else"), "abort");
        assert_eq!(verdict(&controller, "/other"), "pass");
        assert_eq!(verdict(&controller, "/one"), "abort");
    }
    let state = StateDir::open(kept.path()).unwrap();
    let controller = start(local(&[folder.path()]), &state);
    assert_eq!(verdict(&controller, "/one"), "abort", "after a restart");
    let control = controller.handle();
    assert!(control.status().rule_files[0].refusal.is_some());
    std::fs::write(&file, rules("^two$")).unwrap();
    assert!(reload(&control).await.changed);
    assert_eq!(verdict(&controller, "/one"), "pass");
    assert_eq!(verdict(&controller, "/two"), "abort");
    let status = control.status();
    assert_eq!(status.rule_files[0].refusal, None);
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
    std::fs::remove_file(&file).unwrap();
    assert!(reload(&control).await.changed);
    assert_eq!(verdict(&controller, "/two"), "pass");
}

#[test]
fn file_may_ask_for_hardened_judging() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // What IIS decodes once, a hardened rule sees decoded as often as it takes.
    let target = "/%2561";
    for (dialect, word) in [("iis", "pass"), ("hardened", "abort")] {
        let asking = format!("<rules xmlns:sg=\"urn:stopgap:feed:1\" sg:dialect=\"{dialect}\">");
        std::fs::write(file.path(), rules("^a$").replace("<rules>", &asking)).unwrap();
        let controller = start(local(&[file.path()]), &StateDir::memory());
        assert_eq!(verdict(&controller, target), word, "{dialect}");
    }
}

#[test]
fn first_start_with_unusable_rules_fails() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "<rules><rule/></rules>").unwrap();
    let metrics = Metrics::default();
    for path in [file.path(), Path::new("/nowhere/rules.xml")] {
        let started = Controller::start(
            local(&[path]),
            &StateDir::memory(),
            &metrics,
            Alarms::new(&metrics),
            clock,
        );
        let error = started.unwrap_err();
        assert!(error.is_invalid_input());
        assert!(
            error.to_string().contains(&*path.to_string_lossy()),
            "{error}"
        );
    }
}

#[tokio::test]
async fn watched_file_is_taken_up_by_itself() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules("^one$")).unwrap();
    let config = ControlConfig {
        watch_interval: Duration::from_millis(10),
        ..local(&[file.path()])
    };
    let controller = start(config, &StateDir::memory());
    std::fs::write(file.path(), rules("^two$")).unwrap();
    let holds = |status: &Status| status.rule_files[0].rules[0].name == "^two$";
    wait_for(&controller.handle(), "new rule", holds).await;
    assert_eq!(verdict(&controller, "/two"), "abort");
}

#[tokio::test]
async fn nothing_is_published_when_nothing_changed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), document(&stopping("M1.1", "one"))).unwrap();
    let config = ControlConfig {
        with_baseline: true,
        ..local(&[file.path()])
    };
    let controller = start(config, &StateDir::memory());
    let control = controller.handle();
    assert_eq!(verdict(&controller, "/one"), "abort");
    let before = control.status().revision;
    for _ in 0..3 {
        let outcome = reload(&control).await;
        assert_eq!((outcome.changed, outcome.revision), (false, before));
    }
    std::fs::write(file.path(), document(&stopping("M1.1", "two"))).unwrap();
    assert_eq!(reload(&control).await.revision, before + 1);
    // The count belongs to the mitigation.
    assert_eq!(verdict(&controller, "/two"), "abort");
    assert_eq!(find(&control.status(), "M1.1").hits, 2);
}

#[tokio::test]
async fn feed_that_fails_changes_nothing_and_says_why() {
    let publisher = Publisher::with(Options {
        timestamp: Some(NOW),
        ..Options::default()
    });
    let at = |seconds: u64, word: &str| {
        let time = UnixTime::new(NOW.seconds() - 1_000 + seconds);
        publisher.sign_at(&document(&stopping("M77.1", word)), Some(time))
    };
    let good = at(100, "good");
    let server = FeedServer::start(Mode::Answer(good.clone()));
    let controller = start(
        with_feeds(vec![feed("vendor", &server, &publisher)]),
        &StateDir::memory(),
    );
    let control = controller.handle();
    wait_for(&control, "M77.1", |status| {
        status.mitigations.iter().any(|m| m.id == "M77.1")
    })
    .await;
    let stranger = Publisher::new();
    let tampered = String::from_utf8(at(200, "tampered")).unwrap();
    let tampered = tampered.replace("M77.1", "M78.1").into_bytes();
    let cases = [
        (
            Mode::Truncated(at(200, "x")),
            AlarmKind::Unreachable,
            "cut short",
        ),
        (Mode::Endless, AlarmKind::Refused, "larger than 100000"),
        (
            Mode::Slow(at(200, "x")),
            AlarmKind::Unreachable,
            "not fetched within",
        ),
        (
            Mode::Answer(vec![b' '; 100_001]),
            AlarmKind::Refused,
            "larger than",
        ),
        (
            Mode::RedirectTo("http://127.0.0.1:9/".into()),
            AlarmKind::Unreachable,
            "outside the configured host",
        ),
        (
            Mode::Answer(stranger.sign(&document(""))),
            AlarmKind::SignatureRefused,
            "the signature is refused",
        ),
        (
            Mode::Answer(tampered),
            AlarmKind::SignatureRefused,
            "the signature is refused",
        ),
        (
            Mode::Answer(at(50, "old")),
            AlarmKind::Rollback,
            "older than",
        ),
        (
            Mode::Answer(document("").into_bytes()),
            AlarmKind::SignatureRefused,
            "the signature is refused",
        ),
        (Mode::Status(500), AlarmKind::Unreachable, "status 500"),
    ];
    let revision = control.status().revision;
    for (mode, kind, reason) in cases {
        let shown = format!("{mode:?}").chars().take(30).collect::<String>();
        server.set(mode);
        reload(&control).await;
        let status = wait_for(&control, &format!("{reason} for {shown}"), |status| {
            alarm(status, kind, "vendor").is_some_and(|found| found.contains(reason))
        })
        .await;
        assert_eq!(status.revision, revision, "{shown}");
        assert_eq!(verdict(&controller, "/good"), "abort", "{shown}");
        // Ends this alarm, so that the next case cannot take it for its own.
        server.set(Mode::Answer(good.clone()));
        reload(&control).await;
        let quiet = |status: &Status| alarm(status, kind, "vendor").is_none();
        wait_for(&control, "silence", quiet).await;
    }
    let fresh = control.status().feeds[0].clone();
    assert!(fresh.fresh && fresh.refusal.is_none());
    assert_eq!(fresh.trust, "xmldsig-x509");
}

#[tokio::test]
async fn what_is_wrong_in_one_mitigation_of_a_feed_fails_that_one() {
    let publisher = Publisher::new();
    let vectors =
        "<sg:vectors><sg:stop target=\"/proven\"/><sg:pass target=\"/provenance\"/></sg:vectors>";
    let wrong = "<sg:vectors><sg:stop target=\"/elsewhere\"/></sg:vectors>";
    let pool = "<Config id=\"M76.1\"><ActionList><Action type=\"AppPool\" scope=\"Server\">\
                <Value>MSExchangeECPAppPool</Value></Action></ActionList></Config>";
    let text = [
        config("M70.1", "", &rules("^proven$"), vectors),
        stopping("M71.1", "good"),
        "<Config id=\"M72.1\"><ActionList><Action type=\"Quarantine\" scope=\"Server\"/></ActionList></Config>".into(),
        config("M73.1", "", &rules("("), ""),
        config("M74.1", "", &rules("^vectorless$"), wrong),
        stopping("M75.1", "x").replace("scope=\"Server\"", "scope=\"Site\" sg:target=\"Intranet/x\""),
        pool.into(),
        stopping("M77.1", "audited").replace("<Config ", "<Config sg:mode=\"audit\" "),
        stopping("M78.1", "waiting").replace("<Config ", "<Config sg:approval=\"required\" "),
        stopping("M71.1", "second"),
        "<Config id=\"nameless\"/>".into(),
    ];
    let server = FeedServer::start(Mode::Answer(publisher.sign(&document(&text.concat()))));
    let feeds = with_feeds(vec![feed("vendor", &server, &publisher)]);
    let controller = start(feeds, &StateDir::memory());
    let control = controller.handle();
    let status = wait_for(&control, "M71.1", |status| {
        status.mitigations.iter().any(|m| m.id == "M71.1")
    })
    .await;
    let expected = [
        ("M70.1", "Applied(unproven: judged at "),
        ("M71.1", "Applied(unproven: no vector)"),
        ("M72.1", "Failed(unsupported: Quarantine)"),
        ("M73.1", "Failed("),
        ("M74.1", "Failed(1 of 1 vectors fail; "),
        ("M75.1", "Failed(no such site: Intranet)"),
        (
            "M76.1",
            "Partial(no sidecar configured: application pool MSExchangeECPAppPool)",
        ),
        ("M77.1", "Audit()"),
        ("M78.1", "AwaitingApproval()"),
        ("nameless", "Failed("),
    ];
    for (id, shown) in expected {
        let found = state(&status, id);
        assert!(found.starts_with(shown), "{id} is {found}, not {shown}");
    }
    let seconds = status.mitigations.iter().filter(|m| m.id == "M71.1");
    let seconds: Vec<_> = seconds.map(|m| m.state).collect();
    assert_eq!(seconds, ["Applied", "Failed"]);
    assert!(alarm(&status, AlarmKind::VectorsFailed, "M74.1 of vendor").is_some());
    assert!(alarm(&status, AlarmKind::DoesNotCompile, "M73.1 of vendor").is_some());
    for (target, word) in [
        ("/proven", "abort"),
        ("/good", "abort"),
        ("/vectorless", "pass"),
        ("/audited", "pass"),
        ("/waiting", "pass"),
        ("/second", "pass"),
    ] {
        assert_eq!(verdict(&controller, target), word, "{target}");
    }
}

#[tokio::test]
async fn rules_that_stop_honest_clients_are_refused_unless_trusted() {
    let host = "<rules><rule name=\"host\"><match url=\".*\"/><conditions><add input=\"{HTTP_HOST}\" pattern=\".\"/>\
                </conditions><action type=\"AbortRequest\"/></rule></rules>";
    let conditions = |pattern: &str| {
        format!(
            "<rules><rule name=\"c\"><match url=\".*\"/><conditions><add input=\"{{REQUEST_URI}}\" \
             pattern=\"{pattern}\"/></conditions><action type=\"AbortRequest\"/></rule></rules>"
        )
    };
    let greedy = [
        ("M81.1", rules(".*")),
        ("M82.1", conditions("")),
        ("M83.1", conditions("|x")),
        ("M84.1", host.to_owned()),
        ("M85.1", rules("(?:)")),
    ];
    let configs: String = greedy
        .iter()
        .map(|(id, rules)| config(id, "", rules, ""))
        .chain([stopping("M80.1", "good")])
        .collect();
    let publisher = Publisher::new();
    let server = FeedServer::start(Mode::Answer(publisher.sign(&document(&configs))));
    let feeds = with_feeds(vec![feed("vendor", &server, &publisher)]);
    let good = |status: &Status| status.mitigations.iter().any(|m| m.id == "M80.1");

    let controller = start(feeds.clone(), &StateDir::memory());
    let status = wait_for(&controller.handle(), "M80.1", good).await;
    for (id, _) in &greedy {
        let found = state(&status, id);
        assert!(found.starts_with("Failed(stops "), "{id} is {found}");
        assert!(found.contains("trust_despite_benign"), "{id} is {found}");
    }
    assert_eq!(verdict(&controller, "/owa/"), "pass");
    assert_eq!(verdict(&controller, "/good"), "abort");

    let mut trusting = feeds;
    trusting.policy.trust_despite_benign = vec!["M81.1".parse().unwrap()];
    let controller = start(trusting, &StateDir::memory());
    let status = wait_for(&controller.handle(), "M80.1", good).await;
    assert_eq!(find(&status, "M81.1").state, "Applied");
    let warning = find(&status, "M81.1").warning.as_deref();
    assert!(
        warning.is_some_and(|text| text.starts_with("stops ")),
        "{warning:?}"
    );
    assert_eq!(find(&status, "M82.1").state, "Failed");
    assert_eq!(verdict(&controller, "/owa/"), "abort");
}

#[test]
fn local_rules_may_stop_honest_clients_and_are_warned_about() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules(".*")).unwrap();
    let controller = start(local(&[file.path()]), &StateDir::memory());
    assert_eq!(verdict(&controller, "/owa/"), "abort");
    let status = controller.handle().status();
    let warning = status.rule_files[0].warning.as_deref();
    assert!(
        warning.is_some_and(|text| text.starts_with("stops ")),
        "{warning:?}"
    );
}

/// The clock of the one test that moves it.
static MOVED: AtomicU64 = AtomicU64::new(NOW.seconds());

#[tokio::test]
async fn stale_feed_is_told_and_its_rules_stay() {
    let publisher = Publisher::new();
    let ping = "<Config id=\"PING1\"><ActionList><Action type=\"DoNothing\" scope=\"Server\"/></ActionList></Config>";
    let text = document(&format!("{ping}{}", stopping("M77.1", "good")));
    let server = FeedServer::start(Mode::Answer(publisher.sign(&text)));
    let config = ControlConfig {
        watch_interval: Duration::from_millis(10),
        ..with_feeds(vec![feed("vendor", &server, &publisher)])
    };
    let stale_after = config.feeds[0].stale_after.as_secs();
    let metrics = Metrics::default();
    let moved = || UnixTime::new(MOVED.load(Ordering::Relaxed));
    let alarms = Alarms::new(&metrics);
    let controller =
        Controller::start(config, &StateDir::memory(), &metrics, alarms, moved).unwrap();
    let control = controller.handle();
    wait_for(&control, "M77.1", |status| {
        status.mitigations.iter().any(|m| m.id == "M77.1")
    })
    .await;
    MOVED.store(NOW.seconds() + stale_after, Ordering::Relaxed);
    assert_eq!(find(&control.status(), "PING1").state, "Applied");
    reload(&control).await;
    // Fetched once more, so that no success is under way when the server begins to fail.
    let fetched = |status: &Status| status.feeds[0].age_seconds == Some(0);
    wait_for(&control, "second fetch", fetched).await;
    server.set(Mode::Status(503));
    MOVED.store(NOW.seconds() + 2 * stale_after + 1, Ordering::Relaxed);
    let status = wait_for(&control, "stale feed", |status| {
        alarm(status, AlarmKind::Stale, "vendor").is_some()
    })
    .await;
    assert!(!status.feeds[0].fresh);
    assert_eq!(state(&status, "PING1"), "Failed(feed vendor is stale)");
    assert_eq!(find(&status, "M77.1").state, "Applied");
    assert_eq!(verdict(&controller, "/good"), "abort");
}

#[tokio::test]
async fn last_good_document_is_in_force_before_the_first_fetch() {
    let publisher = Publisher::new();
    let folder = tempfile::tempdir().unwrap();
    let signed = publisher.sign(&document(&stopping("M77.1", "good")));
    let server = FeedServer::start(Mode::Answer(signed));
    let feeds = with_feeds(vec![feed("vendor", &server, &publisher)]);
    let known = |status: &Status| status.mitigations.iter().any(|m| m.id == "M77.1");
    {
        let state = StateDir::open(folder.path()).unwrap();
        let controller = start(feeds.clone(), &state);
        wait_for(&controller.handle(), "M77.1", known).await;
    }
    server.set(Mode::Silent);
    {
        let state = StateDir::open(folder.path()).unwrap();
        let controller = start(feeds.clone(), &state);
        assert_eq!(verdict(&controller, "/good"), "abort");
        assert!(known(&controller.handle().status()));
    }
    let file = folder.path().join("feed-vendor.state");
    let mut damaged = std::fs::read(&file).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    let controller = start(feeds, &state);
    let status = controller.handle().status();
    let reason = alarm(&status, AlarmKind::State, "vendor").unwrap();
    assert!(reason.contains("is damaged"), "{reason}");
    assert_eq!(verdict(&controller, "/good"), "pass");
    assert_eq!(
        verdict(&controller, VIEW_STATE),
        "abort",
        "the bundled set stands in"
    );
}

#[tokio::test]
async fn feeds_that_contradict_each_other_are_told() {
    let publisher = Publisher::new();
    let serve = |word: &str| {
        let text = document(&stopping("M77.1", word));
        FeedServer::start(Mode::Answer(publisher.sign(&text)))
    };
    let (first, second) = (serve("one"), serve("two"));
    let feeds = with_feeds(vec![
        feed("first", &first, &publisher),
        feed("second", &second, &publisher),
    ]);
    let controller = start(feeds, &StateDir::memory());
    let control = controller.handle();
    let status = wait_for(&control, "conflict", |status| {
        alarm(status, AlarmKind::Conflict, "M77.1").is_some()
    })
    .await;
    let reason = alarm(&status, AlarmKind::Conflict, "M77.1").unwrap();
    assert_eq!(reason, "feeds first and second differ; first has priority");
    assert_eq!(verdict(&controller, "/one"), "abort");
    assert_eq!(verdict(&controller, "/two"), "pass");
}

#[tokio::test]
async fn feed_supersedes_the_bundled_set_with_its_withdrawal() {
    let publisher = Publisher::new();
    let text = document("<Config id=\"SG1.1.0\" sg:withdrawn=\"true\"/>");
    let server = FeedServer::start(Mode::Answer(publisher.sign(&text)));
    let feeds = with_feeds(vec![feed("vendor", &server, &publisher)]);
    let controller = start(feeds, &StateDir::memory());
    let status = wait_for(&controller.handle(), "withdrawal", |status| {
        status.mitigations.iter().any(|m| m.state == "Withdrawn")
    })
    .await;
    assert_eq!(find(&status, "SG1.1.0").source, "vendor");
    assert!(status.mitigations.iter().all(|m| m.id != "SG1.1"));
    assert_eq!(verdict(&controller, VIEW_STATE), "pass");
}

#[tokio::test]
async fn set_in_which_everything_is_refused_is_not_published() {
    let publisher = Publisher::new();
    let good = publisher.sign(&document(&stopping("M77.1", "good")));
    let bad = publisher.sign(&document(&config("M77.1", "", &rules("("), "")));
    let server = FeedServer::start(Mode::Answer(good));
    let mut config = with_feeds(vec![feed("vendor", &server, &publisher)]);
    // Nothing but the feed's own is in force then.
    config.policy.blocked = start(ControlConfig::default(), &StateDir::memory())
        .handle()
        .status()
        .mitigations
        .iter()
        .map(|mitigation| mitigation.id.parse().unwrap())
        .collect();
    let controller = start(config, &StateDir::memory());
    let control = controller.handle();
    wait_for(&control, "M77.1", |status| {
        status.mitigations.iter().any(|m| m.id == "M77.1")
    })
    .await;
    server.set(Mode::Answer(bad));
    reload(&control).await;
    let status = wait_for(&control, "failure", |status| {
        find(status, "M77.1").state == "Failed"
    })
    .await;
    assert!(alarm(&status, AlarmKind::Refused, "rule set").is_some());
    assert_eq!(verdict(&controller, "/good"), "abort");
}

#[tokio::test]
async fn kill_switch_lifts_everything_and_is_kept() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules("^local$")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = ControlConfig {
        with_baseline: true,
        ..local(&[file.path()])
    };
    {
        let state = StateDir::open(folder.path()).unwrap();
        let controller = start(config.clone(), &state);
        let control = controller.handle();
        let outcome = control.order(Order::KillSwitch(true)).await.unwrap();
        assert!(outcome.revision > 1);
        assert_eq!(verdict(&controller, "/local"), "pass");
        assert_eq!(verdict(&controller, VIEW_STATE), "pass");
        let status = control.status();
        assert!(status.kill_switch);
        assert_eq!(find(&status, "SG1.1").state, "KillSwitch");
        assert!(folder.path().join("kill-switch").exists());
    }
    let state = StateDir::open(folder.path()).unwrap();
    let controller = start(config, &state);
    let control = controller.handle();
    assert_eq!(verdict(&controller, "/local"), "pass", "after a restart");
    control.order(Order::KillSwitch(false)).await.unwrap();
    assert_eq!(verdict(&controller, "/local"), "abort");
    assert_eq!(verdict(&controller, VIEW_STATE), "abort");

    // The file works as well, here for one mitigation.
    std::fs::write(folder.path().join("kill-switch"), "SG1\n").unwrap();
    wait_for(&control, "switch", |status| {
        find(status, "SG1.1").state == "KillSwitch"
    })
    .await;
    assert_eq!(verdict(&controller, VIEW_STATE), "pass");
    assert_eq!(verdict(&controller, "/local"), "abort");
    std::fs::remove_file(folder.path().join("kill-switch")).unwrap();
    wait_for(&control, "end of the switch", |status| {
        find(status, "SG1.1").state == "Applied"
    })
    .await;
    assert_eq!(verdict(&controller, VIEW_STATE), "abort");
}

#[tokio::test]
async fn unknown_content_is_told_and_the_rest_applies() {
    let publisher = Publisher::new();
    let text = document(&stopping("M77.1", "good").replace("<Config ", "<Config rank=\"1\" "));
    let server = FeedServer::start(Mode::Answer(publisher.sign(&text)));
    let feeds = with_feeds(vec![feed("vendor", &server, &publisher)]);
    let controller = start(feeds, &StateDir::memory());
    let status = wait_for(&controller.handle(), "M77.1", |status| {
        status.mitigations.iter().any(|m| m.id == "M77.1")
    })
    .await;
    let reason = alarm(&status, AlarmKind::UnknownContent, "vendor").unwrap();
    assert!(reason.contains("attribute rank of Config"), "{reason}");
    assert_eq!(verdict(&controller, "/good"), "abort");
}

#[tokio::test]
async fn stopped_control_answers_no_orders_and_leaves_the_rules() {
    let controller = start(ControlConfig::default(), &StateDir::memory());
    let (control, handle) = (controller.handle(), controller.filter());
    drop(controller);
    assert!(control.order(Order::Reload).await.is_err());
    assert!(handle.load().site(0).rules().next().is_some());
}

#[tokio::test]
async fn two_large_sets_take_turns_and_none_is_mixed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let set = |word: &str| {
        let rule = |n: u32| {
            format!(
                "<rule name=\"{word}{n}\"><match url=\"^{word}/{n}$\"/>\
                 <action type=\"AbortRequest\"/></rule>"
            )
        };
        let rules: String = (0..500).map(rule).collect();
        format!("<rules>{rules}</rules>")
    };
    std::fs::write(file.path(), set("a")).unwrap();
    let controller = start(local(&[file.path()]), &StateDir::memory());
    let control = controller.handle();
    for turn in 0..6 {
        let (word, other) = match turn % 2 {
            0 => ("b", "a"),
            _ => ("a", "b"),
        };
        std::fs::write(file.path(), set(word)).unwrap();
        assert!(reload(&control).await.changed);
        assert_eq!(verdict(&controller, &format!("/{word}/499")), "abort");
        assert_eq!(verdict(&controller, &format!("/{other}/0")), "pass");
        assert_eq!(controller.filter().load().site(0).rules().count(), 500);
    }
}
