//! Builds learned from servers, and mitigations that go once every server is fixed and come back when one is not.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use proptest::prelude::*;
use stopgap::control::{
    BUILD_MEMORY, BuildReport, ControlConfig, Controller, Decision, MitigationReport, Order,
    Policy, Retirement, ServerPlace, SiteServers, Status, VersionPattern, VersionProbe,
    VersionSource,
};
use stopgap::filter::{Filter, Peer};
use stopgap::mitigation::{
    BuildRecord, Evidence, FORGET_AFTER, Learned, ServerBuild, SiteBuilds, evidence,
};
use stopgap::model::{Action, ActionKind, BuildRange, Mitigation, Mode, Scope, UnixTime};
use stopgap::store::StateDir;
use stopgap::telemetry::{Alarms, Metrics};

use crate::support::origin::{Origin, Then};
use crate::support::process::{Daemon, replace_file, run, stopgap};

/// How long a test waits for a status before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

const START: u64 = 1_795_000_000;

fn clock() -> UnixTime {
    UnixTime::new(START)
}

/// Stops `/evil` on builds before 15.2.1118.20.
const RULES: &str = r#"<EOCS version="1.0.4" xmlns:sg="urn:stopgap:feed:1"><Config id="M70.1" desc="Stops evil.">
<sg:applies><sg:builds product="exchange" min="15.2.0.0" below="15.2.1118.20"/></sg:applies>
<ActionList><Action type="UrlRewrite" scope="Server" desc="Abort"><Value><![CDATA[<rewrite><rules>
<rule name="evil" stopProcessing="true"><match url="^evil"/><action type="AbortRequest"/></rule></rules></rewrite>]]>
</Value></Action></ActionList></Config></EOCS>"#;

const OLD: &str = "15.2.986.5";
const FIXED: &str = "15.2.1118.20";

/// A server whose build can change; an empty one is not shown.
struct Mail {
    origin: Origin,
    build: Arc<Mutex<&'static str>>,
}

impl Mail {
    fn showing(build: &'static str) -> Self {
        let build = Arc::new(Mutex::new(build));
        let shown = Arc::clone(&build);
        let origin = Origin::start(move |connection, seen| {
            let build = *shown.lock().unwrap();
            if connection.take(seen).is_none() || build == "gone" {
                return Then::Reset;
            }
            let field = match build {
                "" => String::new(),
                build => format!("X-OWA-Version: {build}\r\n"),
            };
            connection.answer("302 Found", &field, "");
            Then::Close
        });
        Self { origin, build }
    }

    fn show(&self, build: &'static str) {
        *self.build.lock().unwrap() = build;
    }

    fn place(&self) -> ServerPlace {
        place(self.origin.address.port())
    }
}

fn place(port: u16) -> ServerPlace {
    ServerPlace {
        name: format!("http://127.0.0.1:{port}"),
        host: "127.0.0.1".to_owned(),
        port,
        socket: None,
        tls: None,
    }
}

fn probe(source: VersionSource) -> VersionProbe {
    VersionProbe {
        product: "exchange".to_owned(),
        source,
        host: Some("mail.example".to_owned()),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(10),
    }
}

fn site(servers: Vec<ServerPlace>) -> SiteServers {
    SiteServers {
        site: "Default Web Site".to_owned(),
        servers,
        probe: Some(probe(VersionSource::Exchange)),
    }
}

fn config(folder: &Path, retirement: Retirement, sites: Vec<SiteServers>) -> ControlConfig {
    let rules = folder.join("rules.xml");
    std::fs::write(&rules, RULES).unwrap();
    ControlConfig {
        rules: vec![rules],
        versions: sites,
        policy: Policy {
            retirement,
            ..Policy::default()
        },
        ..ControlConfig::default()
    }
}

fn start_at(config: ControlConfig, state: &StateDir, clock: fn() -> UnixTime) -> Controller {
    let metrics = Metrics::default();
    Controller::start(config, state, &metrics, Alarms::new(&metrics), clock).unwrap()
}

fn start(config: ControlConfig, state: &StateDir) -> Controller {
    start_at(config, state, clock)
}

fn own(status: &Status) -> &MitigationReport {
    &status.mitigations[0]
}

async fn wait_for(controller: &Controller, holds: impl FnMut(&Status) -> bool) -> Arc<Status> {
    let control = controller.handle();
    tokio::time::timeout(PATIENCE, control.wait_for(holds))
        .await
        .unwrap_or_else(|_| panic!("{:#?}", control.status()))
        .unwrap()
}

async fn becomes(controller: &Controller, state: &str) -> Arc<Status> {
    wait_for(controller, |status| own(status).state == state).await
}

/// Waits until a server has been seen to be as it is.
async fn is_known(controller: &Controller, holds: impl Fn(&[BuildReport]) -> bool) -> Arc<Status> {
    wait_for(controller, |status| holds(&status.builds)).await
}

async fn decide(controller: &Controller, decision: Decision) -> Result<Vec<String>, String> {
    let ordered = controller.handle().order(Order::Decide(decision)).await;
    let outcome = ordered.map_err(|error| error.to_string())?;
    Ok(outcome.notes)
}

fn retire() -> Decision {
    Decision::Retire("M70".parse().unwrap())
}

/// Whether the published rules stop the attack.
fn stops(controller: &Controller) -> bool {
    let request = Request::get("/evil").header("Host", "h").body(()).unwrap();
    let (parts, ()) = request.into_parts();
    let mut filter = Filter::new(controller.filter());
    let judged = filter.judge(0, &parts, &Peer::default());
    judged.decision.verdict.name() != "pass"
}

#[tokio::test]
async fn operator_retires_what_every_server_is_fixed_against() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (Mail::showing(FIXED), Mail::showing(OLD));
    let sites = vec![site(vec![one.place(), other.place()])];
    let state = StateDir::open(&folder.path().join("state")).unwrap();
    let controller = start(config(folder.path(), Retirement::Propose, sites), &state);
    let status = is_known(&controller, |builds| {
        builds.iter().all(|own| own.build.is_some())
    })
    .await;
    assert_eq!(status.builds[0].build.as_deref(), Some(FIXED));
    assert_eq!(status.builds[0].place.as_deref(), Some("X-OWA-Version"));
    assert_eq!(status.builds[1].build.as_deref(), Some(OLD));
    assert_eq!(own(&status).retirable, None);
    let refused = decide(&controller, retire()).await.unwrap_err();
    let affected = format!("still needed: exchange {OLD} on {}", other.place().name);
    assert!(refused.contains(&affected), "{refused}");
    assert_eq!(one.origin.next().values("host"), ["mail.example"]);

    other.show(FIXED);
    let status = wait_for(&controller, |status| own(status).retirable.is_some()).await;
    assert_eq!(own(&status).state, "Applied");
    let servers = own(&status).retirable.clone().unwrap();
    assert_eq!(
        servers,
        format!(
            "exchange {FIXED} on {}, exchange {FIXED} on {}",
            one.place().name,
            other.place().name
        )
    );
    assert!(stops(&controller));
    assert_eq!(decide(&controller, retire()).await.unwrap(), [""; 0]);
    let status = becomes(&controller, "NotApplicable").await;
    let reason = format!("retired: fixed on every server: {servers}");
    assert_eq!(own(&status).reason, reason);
    assert!(!stops(&controller));
    let history = controller.handle().history();
    let last = history.last().unwrap();
    assert_eq!((&*last.before, &*last.reason), ("Applied", &*reason));

    // It is back with the first answer that shows an older build, and nobody's word from before counts any more.
    one.show(OLD);
    becomes(&controller, "Applied").await;
    assert!(stops(&controller));
    one.show(FIXED);
    let status = wait_for(&controller, |status| own(status).retirable.is_some()).await;
    assert_eq!(own(&status).state, "Applied");
}

#[tokio::test]
async fn word_of_an_operator_outlives_a_server_that_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    let mail = Mail::showing(FIXED);
    let state = StateDir::open(&folder.path().join("state")).unwrap();
    let sites = vec![site(vec![mail.place()])];
    let controller = start(config(folder.path(), Retirement::Propose, sites), &state);
    wait_for(&controller, |status| own(status).retirable.is_some()).await;
    decide(&controller, retire()).await.unwrap();
    becomes(&controller, "NotApplicable").await;
    for silence in ["", "gone"] {
        mail.show(silence);
        becomes(&controller, "Applied").await;
        let refused = decide(&controller, retire()).await.unwrap_err();
        assert!(refused.contains("no fixed build is known"), "{refused}");
        mail.show(FIXED);
        becomes(&controller, "NotApplicable").await;
    }
    decide(&controller, Decision::Keep("M70".parse().unwrap()))
        .await
        .unwrap();
    let status = becomes(&controller, "Applied").await;
    assert_eq!(own(&status).retirable, None);
}

#[tokio::test]
async fn one_server_that_cannot_be_reached_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mail = Mail::showing(FIXED);
    // Nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let sites = vec![site(vec![mail.place(), place(port)])];
    let state = StateDir::memory();
    let controller = start(config(folder.path(), Retirement::Automatic, sites), &state);
    let status = is_known(&controller, |builds| {
        builds[0].build.is_some() && builds[1].fault.is_some()
    })
    .await;
    let fault = status.builds[1].fault.clone().unwrap();
    assert!(fault.starts_with("no connection: "), "{fault}");
    assert_eq!(own(&status).state, "Applied");
    assert!(stops(&controller));

    // A server that comes is unknown from the first moment, and one that goes does not count any more.
    controller.ask_versions(vec![site(vec![mail.place()])]);
    becomes(&controller, "NotApplicable").await;
    controller.ask_versions(vec![site(vec![mail.place(), place(port)])]);
    becomes(&controller, "Applied").await;
    let mut unasked = site(vec![mail.place()]);
    unasked.probe = None;
    controller.ask_versions(vec![unasked]);
    wait_for(&controller, |status| status.builds.is_empty()).await;
    assert!(stops(&controller));
}

#[tokio::test]
async fn builds_are_remembered_for_a_while_and_retire_on_their_own() {
    static NOW: AtomicU64 = AtomicU64::new(START);
    fn clock() -> UnixTime {
        UnixTime::new(NOW.load(Ordering::Relaxed))
    }
    let folder = tempfile::tempdir().unwrap();
    let mail = Mail::showing(FIXED);
    let state = StateDir::open(&folder.path().join("state")).unwrap();
    let mut settings = config(
        folder.path(),
        Retirement::Automatic,
        vec![site(vec![mail.place()])],
    );
    let controller = start_at(settings.clone(), &state, clock);
    becomes(&controller, "NotApplicable").await;
    drop(controller);
    mail.show("gone");
    // A question that nobody answers within this test.
    let wait = Duration::from_secs(3_600);
    let probe = settings.versions[0].probe.as_mut().unwrap();
    (probe.interval, probe.timeout) = (wait, wait);
    for (age, state_name) in [
        (BUILD_MEMORY.as_secs(), "NotApplicable"),
        (BUILD_MEMORY.as_secs() + 1, "Applied"),
    ] {
        NOW.store(START + age, Ordering::Relaxed);
        let controller = start_at(settings.clone(), &state, clock);
        assert_eq!(
            own(&controller.handle().status()).state,
            state_name,
            "{age}"
        );
    }
    // A clock that went back tells no age.
    NOW.store(START - 1, Ordering::Relaxed);
    let controller = start_at(settings.clone(), &state, clock);
    assert_eq!(own(&controller.handle().status()).state, "Applied");
    drop(controller);
    // What was learned of another product says nothing.
    NOW.store(START, Ordering::Relaxed);
    settings.versions[0].probe.as_mut().unwrap().product = "other".to_owned();
    let controller = start_at(settings, &state, clock);
    assert_eq!(own(&controller.handle().status()).state, "Applied");
}

#[tokio::test]
async fn what_settings_say_of_builds_counts_unless_a_server_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let mail = Mail::showing(FIXED);
    let sites = vec![site(vec![mail.place()])];
    let mut settings = config(folder.path(), Retirement::Propose, sites);
    settings.policy.builds = vec![("exchange".to_owned(), [15, 2, 1_118, 20])];
    let controller = start(settings, &StateDir::memory());
    let status = controller.handle().status();
    assert_eq!(own(&status).reason, "the product's build is not affected");
    mail.show(OLD);
    becomes(&controller, "Applied").await;
    mail.show("");
    becomes(&controller, "NotApplicable").await;
}

#[tokio::test]
async fn other_products_are_asked_as_the_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::answering("<p>Build 15.2.1200 (stable)</p>");
    let mut sites = vec![site(vec![place(origin.address.port())])];
    sites[0].probe = Some(probe(VersionSource::Other {
        target: "/about?full=1".to_owned(),
        field: None,
        pattern: VersionPattern::new(r"Build (\d+\.\d+\.\d+)").unwrap(),
    }));
    let settings = config(folder.path(), Retirement::Automatic, sites);
    let controller = start(settings, &StateDir::memory());
    let status = becomes(&controller, "NotApplicable").await;
    assert_eq!(status.builds[0].build.as_deref(), Some("15.2.1200"));
    assert_eq!(origin.next().target(), "/about?full=1");
}

#[test]
fn product_asks_retires_by_command_and_asks_servers_that_come_with_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let (state, file) = (folder.path().join("state"), folder.path().join("s.toml"));
    let (one, other) = (Mail::showing(FIXED), Mail::showing(OLD));
    let write = |servers: &[&Mail]| {
        let servers: Vec<_> = servers.iter().map(|own| own.place().name).collect();
        let text = format!(
            "listen = ['127.0.0.1:0']\n[admin]\naddress = '127.0.0.1:0'\n[[site]]\nname = 'Default Web Site'\n\
             preset = 'exchange'\nupstreams = {servers:?}\n[site.version]\ninterval = '50ms'\n"
        );
        replace_file(&file, &text);
    };
    write(&[&one]);
    let command = stopgap(&state, &["run", "--config", file.to_str().unwrap()]);
    let daemon = Daemon::from_command(command);
    let line = daemon.logged("fixed on every server");
    assert!(line.contains("1043"), "{line}");
    daemon_says(&state, "status", "stopgap mitigation retire M1.1");
    let retired = run(&state, &["mitigation", "retire", "M1.1"]);
    assert!(retired.status.success(), "{retired:?}");
    daemon_says(
        &state,
        "mitigation list",
        "M1.1: NotApplicable: retired: fixed",
    );
    write(&[&one, &other]);
    assert!(run(&state, &["reload"]).status.success());
    daemon_says(&state, "status", OLD);
    let again = run(&state, &["mitigation", "show", "M1.1"]);
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(text.contains("state         Applied"), "{text}");
    let refused = run(&state, &["mitigation", "retire", "M1.1"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("still needed"), "{text}");
    assert!(daemon.stop().success());
}

/// Waits until a command prints a text.
fn daemon_says(state: &Path, command: &str, text: &str) {
    let arguments: Vec<_> = command.split(' ').collect();
    let begun = std::time::Instant::now();
    loop {
        let output = run(state, &arguments);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        if shown.contains(text) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "no {text} in {shown}");
        // The status of another process is only to be asked for.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a question to a server may come to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shown {
    Fixed,
    Old,
    Nothing,
}

fn needed_below(below: [u32; 4]) -> Mitigation {
    Mitigation {
        id: "M70.1".parse().unwrap(),
        description: String::new(),
        cve: String::new(),
        reference: String::new(),
        side_effects: String::new(),
        group: String::new(),
        actions: vec![Action {
            kind: ActionKind::DoNothing,
            scope: Scope::Server,
            description: String::new(),
        }],
        vectors: Vec::new(),
        applies: vec![BuildRange {
            product: "exchange".into(),
            min: [15, 2, 0, 0],
            below,
        }],
        mode: Mode::Enforce,
        approval_required: false,
        ring: None,
        not_before: None,
        not_after: None,
        withdrawn: false,
        failure: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// No sequence of answers retires what one server still needs, or keeps what none does.
    #[test]
    fn only_what_every_server_showed_lately_counts(
        questions in prop::collection::vec(
            (0_usize..3, prop_oneof![Just(Shown::Fixed), Just(Shown::Old), Just(Shown::Nothing)]),
            0..40,
        )
    ) {
        let mitigation = needed_below([15, 2, 1_118, 20]);
        let mut records: Vec<_> = (0..3).map(|_| BuildRecord::default()).collect();
        let mut asked: Vec<Vec<Shown>> = vec![Vec::new(); 3];
        for (server, shown) in questions {
            asked[server].push(shown);
            let build = match shown {
                Shown::Fixed => Ok(FIXED),
                Shown::Old => Ok(OLD),
                Shown::Nothing => Err("nothing".to_owned()),
            };
            records[server].take(build.map(|build| Learned {
                build: build.parse().unwrap(),
                place: "body".to_owned(),
                time: clock(),
            }));
            let known: Vec<_> = asked.iter().map(|asked| {
                let lately = asked.iter().rev().take(FORGET_AFTER as usize);
                lately.copied().find(|shown| *shown != Shown::Nothing)
            }).collect();
            let servers = records.iter().map(|record| ServerBuild {
                server: "a".to_owned(),
                build: record.learned.as_ref().map(|own| ("exchange".to_owned(), own.build)),
            });
            let sites = [SiteBuilds { site: "S".to_owned(), servers: servers.collect() }];
            let judged = evidence(&mitigation, &sites);
            let expected = known.iter().all(|shown| *shown == Some(Shown::Fixed));
            prop_assert_eq!(matches!(judged, Evidence::Fixed(_)), expected);
            let old = known.contains(&Some(Shown::Old));
            prop_assert_eq!(matches!(judged, Evidence::Affected(_)), old);
        }
    }
}
