//! Control and a sidecar that may do anything: the state says what is so, and heals when the sidecar does.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stopgap::control::{ControlConfig, Controller, SidecarLink, SidecarPlace, Status};
use stopgap::model::UnixTime;
use stopgap::sidecar::{
    Agent, AgentConfig, AllowList, DryRun, Name, NamePattern, Outcome, Reply, Request, Startup,
    Target, TargetReport, TargetResult, TargetState,
};
use stopgap::store::StateDir;
use stopgap::telemetry::{Alarms, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// How long a test waits for a status before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

const RUNNING: TargetState = TargetState {
    running: true,
    startup: Startup::Automatic,
};

const STOPPED: TargetState = TargetState {
    running: false,
    startup: Startup::Disabled,
};

/// What a sidecar does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// Does it, and goes away before the answer.
    Cut,
    /// Goes away in the middle of it.
    Dying,
    /// Says that it did, and did not.
    Forgetful,
    /// Does it.
    Good,
    /// Does it, and answers when nobody waits any more.
    Late,
    /// Says that it did, and reads something else back.
    Lying,
    /// Answers something that is no answer.
    Mad,
    /// Does not do it.
    Refusing,
    /// Never answers.
    Silent,
    /// Knows no such target.
    Strange,
}

/// How long the control side waits for an answer.
const DEADLINE: Duration = Duration::from_millis(500);

fn named(name: &str) -> Target {
    Target::Service(Name::new(name).unwrap())
}

fn service() -> Target {
    named("MSExchangeUM")
}

fn outcome(result: TargetResult) -> Reply {
    let target = service();
    Reply::Outcomes(vec![Outcome { target, result }])
}

/// A sidecar at a socket, whose manner can change.
struct Fake {
    path: PathBuf,
    manner: Arc<Mutex<Manner>>,
    server: DryRun,
    agent: Arc<Agent>,
    /// Requests that were treated in a bad manner.
    faults: Arc<AtomicUsize>,
}

impl Fake {
    fn start(folder: &Path, manner: Manner) -> Self {
        Self::managed(folder, manner, &[])
    }

    /// The same with these health managers beside the service.
    fn managed(folder: &Path, manner: Manner, managers: &[&str]) -> Self {
        let path = folder.join(format!("{manner:?}"));
        let listener = UnixListener::bind(&path).unwrap();
        let services = ["MSExchangeUM", "MSExchangeImap4"].iter().chain(managers);
        let server = DryRun::with(services.map(|name| (named(name), RUNNING)));
        let managers = managers.iter().map(|name| Name::new(name).unwrap());
        let config = AgentConfig {
            health_managers: managers.collect(),
            allow: AllowList {
                services: vec![NamePattern::new("MSExchange*").unwrap()],
                ..AllowList::default()
            },
            ..AgentConfig::default()
        };
        let journal = Box::new(StateDir::memory().slot("journal"));
        let agent = Arc::new(Agent::new(config, Box::new(server.clone()), journal).unwrap());
        let manner = Arc::new(Mutex::new(manner));
        let shared = Arc::clone(&manner);
        let (own, faults) = (Arc::clone(&agent), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&faults);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let manner = *shared.lock().unwrap();
                let (agent, count) = (Arc::clone(&own), Arc::clone(&count));
                tokio::spawn(async move {
                    answer(stream, manner, agent).await;
                    count.fetch_add(usize::from(manner != Manner::Good), Ordering::Relaxed);
                });
            }
        });
        Self {
            path,
            manner,
            server,
            agent,
            faults,
        }
    }

    /// Behaves so until two requests were treated so: an order, and the look that follows it.
    async fn misbehave(&self, manner: Manner) {
        let before = self.faults.load(Ordering::Relaxed);
        *self.manner.lock().unwrap() = manner;
        let begun = std::time::Instant::now();
        while self.faults.load(Ordering::Relaxed) < before + 2 {
            assert!(begun.elapsed() < PATIENCE, "{manner:?} is not met");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Who holds what, in words.
    async fn held(&self) -> Vec<String> {
        let Reply::State(reports) = self.agent.answer(Request::State).await.unwrap() else {
            panic!("no state");
        };
        let holders = |report: &TargetReport| {
            let holders: Vec<_> = report.holders.iter().map(ToString::to_string).collect();
            format!("{}: {}", report.target.name(), holders.join(" "))
        };
        reports.iter().map(holders).collect()
    }

    /// Waits until this is held, and nothing else.
    async fn holds(&self, expected: &[&str]) {
        let begun = std::time::Instant::now();
        while self.held().await != expected {
            let held = self.held().await;
            assert!(
                begun.elapsed() < PATIENCE,
                "{held:?} instead of {expected:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn become_good(&self) {
        *self.manner.lock().unwrap() = Manner::Good;
    }
}

async fn answer(mut stream: UnixStream, manner: Manner, agent: Arc<Agent>) -> Option<()> {
    let request = read(&mut stream).await?;
    let report = |current| TargetReport {
        target: service(),
        original: RUNNING,
        current: Some(current),
        holders: vec![stopgap::sidecar::Holder::new("M90.1").unwrap()],
        problem: None,
        health_manager: false,
    };
    let reply = match (manner, &request) {
        (Manner::Good, _) | (_, Request::Health) => agent.answer(request).await.unwrap(),
        (Manner::Cut, _) => {
            agent.answer(request).await.unwrap();
            return None;
        }
        (Manner::Dying, _) => return None,
        (Manner::Late, _) => {
            let reply = agent.answer(request).await.unwrap();
            tokio::time::sleep(2 * DEADLINE).await;
            reply
        }
        (Manner::Silent, _) => std::future::pending().await,
        (Manner::Mad, _) => agent.answer(Request::Health).await.unwrap(),
        (Manner::Lying, Request::State) => Reply::State(vec![report(RUNNING)]),
        (_, Request::State) => Reply::State(Vec::new()),
        (Manner::Refusing, _) => outcome(TargetResult::Refused("it is not allowed".to_owned())),
        (Manner::Strange, _) => outcome(TargetResult::Missing),
        (Manner::Forgetful | Manner::Lying, _) => outcome(TargetResult::Held(STOPPED)),
    };
    let body = serde_json::to_vec(&reply).unwrap();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(&body).await.ok()
}

async fn read(stream: &mut UnixStream) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        stream
            .read_buf(&mut bytes)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let verb = head.strip_prefix("POST /v1/")?.split(' ').next()?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            return Request::read(verb, body.as_bytes()).unwrap();
        }
    }
}

fn clock() -> UnixTime {
    UnixTime::new(1_795_000_000)
}

/// A control side with a local mitigation that stops the service, and this link.
fn controller(place: PathBuf, instance: &str) -> (Controller, PathBuf) {
    let rules = place.with_extension(format!("{instance}.xml"));
    let text = r#"<EOCS version="1.0.4" xmlns:sg="urn:stopgap:feed:1"><Config id="M90.1.0" desc="">
<ActionList><Action type="Service" scope="Server" desc=""><Value>MSExchangeUM</Value></Action></ActionList></Config></EOCS>"#;
    std::fs::write(&rules, text).unwrap();
    let config = ControlConfig {
        rules: vec![rules.clone()],
        servers: vec!["mail1".to_owned()],
        sidecars: vec![SidecarLink {
            server: "mail1".to_owned(),
            place: SidecarPlace::Socket(place),
            deadline: DEADLINE,
        }],
        instance: instance.to_owned(),
        watch_interval: Duration::from_millis(50),
        ..ControlConfig::default()
    };
    let metrics = Metrics::default();
    let alarms = Alarms::new(&metrics);
    let controller = Controller::start(config, &StateDir::memory(), &metrics, alarms, clock);
    (controller.unwrap(), rules)
}

/// The state and reason of the mitigation.
fn shown(status: &Status) -> String {
    let mut mitigations = status.mitigations.iter();
    let found = mitigations.find(|one| one.id == "M90.1.0");
    found.map_or_else(String::new, |one| format!("{}: {}", one.state, one.reason))
}

async fn wait_for(controller: &Controller, what: &str) -> Arc<Status> {
    let control = controller.handle();
    let waited = control.wait_for(|status| shown(status).contains(what));
    match tokio::time::timeout(PATIENCE, waited).await {
        Ok(status) => status.unwrap(),
        Err(_) => panic!("{what:?} did not come: {:#?}", control.status()),
    }
}

#[tokio::test]
async fn whatever_a_sidecar_does_the_state_says_so_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (Manner::Dying, "went away before it answered"),
        (Manner::Forgetful, "has no record of it"),
        (Manner::Lying, "says that it is held, and it is running"),
        (Manner::Mad, "answered another question"),
        (Manner::Refusing, "refused: it is not allowed"),
        (Manner::Silent, "did not answer in time"),
        (Manner::Strange, "there is none on this server"),
    ];
    let each = cases.map(|(manner, reason)| {
        let fake = Fake::start(folder.path(), manner);
        tokio::spawn(async move {
            let (controller, rules) = controller(fake.path.clone(), "");
            let status = wait_for(&controller, reason).await;
            assert!(
                shown(&status).starts_with("Partial: mail1: "),
                "{}",
                shown(&status)
            );
            assert_eq!(fake.server.states()[&service()], RUNNING, "{manner:?}");
            fake.become_good();
            let status = wait_for(&controller, "Applied").await;
            assert_eq!(fake.server.states()[&service()], STOPPED, "{manner:?}");
            let report = &status.servers[0];
            assert_eq!(report.driver.as_deref(), Some("dry-run"));
            assert_eq!(report.fault, None);
            std::fs::write(rules, "<rules></rules>").unwrap();
            let control = controller.handle();
            let gone = control.wait_for(|status| shown(status).is_empty());
            tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
            // What is given up is told by nobody, since nothing is left to tell it of.
            while fake.server.states()[&service()] != RUNNING {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    });
    for case in each {
        case.await.unwrap();
    }
}

#[tokio::test]
async fn sidecar_that_is_not_there_is_said_to_be_missing_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("Good");
    let (controller, _) = controller(place, "");
    let status = wait_for(&controller, "the sidecar cannot be reached").await;
    let alarm = status.alarms.iter().find(|alarm| alarm.kind == "sidecar");
    assert_eq!(alarm.map(|alarm| alarm.subject.as_str()), Some("mail1"));
    let fake = Fake::start(folder.path(), Manner::Good);
    let status = wait_for(&controller, "Applied").await;
    assert!(status.alarms.iter().all(|alarm| alarm.kind != "sidecar"));
    assert_eq!(fake.server.states()[&service()], STOPPED);
}

/// Two proxies with names of their own hold each for itself.
#[tokio::test]
async fn instances_do_not_undo_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(folder.path(), Manner::Good);
    let (first, rules) = controller(fake.path.clone(), "one");
    wait_for(&first, "Applied").await;
    let (second, _) = controller(fake.path.clone(), "two");
    wait_for(&second, "Applied").await;
    let client = stopgap::sidecar::Client::new(&fake.path, PATIENCE);
    let holders = async || match client.ask(&Request::State).await.unwrap() {
        Reply::State(reports) => {
            let holders = reports.iter().flat_map(|report| &report.holders);
            holders.map(ToString::to_string).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(holders().await, ["one:M90.1", "two:M90.1"]);
    std::fs::write(rules, "<rules></rules>").unwrap();
    while holders().await != ["two:M90.1"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(fake.server.states()[&service()], STOPPED);
}

/// A local file with a mitigation for each of these services.
fn stopping(services: &[(&str, &str)]) -> String {
    let config = |(id, service): &(&str, &str)| {
        format!(
            "<Config id=\"{id}\" desc=\"\"><ActionList><Action type=\"Service\" scope=\"Server\" desc=\"\">\
             <Value>{service}</Value></Action></ActionList></Config>"
        )
    };
    let configs: String = services.iter().map(config).collect();
    format!("<EOCS version=\"1.0.4\" xmlns:sg=\"urn:stopgap:feed:1\">{configs}</EOCS>")
}

/// However the link fails while orders are on their way, the health managers end up held by exactly the mitigations that
/// hold something, and free when none does.
#[tokio::test]
async fn health_managers_are_counted_right_through_every_fault_of_the_link() {
    const MANAGERS: [&str; 2] = ["MSExchangeHM", "MSExchangeHMRecovery"];
    let folder = tempfile::tempdir().unwrap();
    let one = ("M90.1.0", "MSExchangeUM");
    let other = ("M91.1", "MSExchangeImap4");
    let manners = [
        Manner::Cut,
        Manner::Dying,
        Manner::Forgetful,
        Manner::Late,
        Manner::Lying,
        Manner::Refusing,
    ];
    let each = manners.map(|manner| {
        let fake = Fake::managed(folder.path(), manner, &MANAGERS);
        tokio::spawn(async move {
            fake.become_good();
            let (controller, rules) = controller(fake.path.clone(), "");
            wait_for(&controller, "Applied").await;
            let single = [
                "MSExchangeHM: M90.1",
                "MSExchangeHMRecovery: M90.1",
                "MSExchangeUM: M90.1",
            ];
            fake.holds(&single).await;
            // A second comes, and goes again, while nobody knows what became of the orders.
            std::fs::write(&rules, stopping(&[one, other])).unwrap();
            fake.misbehave(manner).await;
            fake.become_good();
            let both = [
                "MSExchangeHM: M90.1 M91.1",
                "MSExchangeHMRecovery: M90.1 M91.1",
                "MSExchangeImap4: M91.1",
                "MSExchangeUM: M90.1",
            ];
            fake.holds(&both).await;
            std::fs::write(&rules, stopping(&[one])).unwrap();
            fake.misbehave(manner).await;
            fake.become_good();
            fake.holds(&single).await;
            // The last goes, and then nothing is held and everything runs.
            std::fs::write(&rules, stopping(&[])).unwrap();
            fake.misbehave(manner).await;
            fake.become_good();
            fake.holds(&[]).await;
            let states = fake.server.states();
            assert!(states.values().all(|state| *state == RUNNING), "{states:?}");
        })
    });
    for case in each {
        case.await.unwrap();
    }
}

/// A sidecar that was away for long enough that its server is asked as seldom as it ever is comes back to its orders in
/// seconds.
#[tokio::test]
async fn sidecar_that_returns_is_given_its_orders_soon() {
    let folder = tempfile::tempdir().unwrap();
    let (controller, _) = controller(folder.path().join("Good"), "");
    wait_for(&controller, "the sidecar cannot be reached").await;
    // The waits before double; eight seconds are beyond the fourth.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let fake = Fake::start(folder.path(), Manner::Good);
    let back = std::time::Instant::now();
    wait_for(&controller, "Applied").await;
    assert_eq!(fake.server.states()[&service()], STOPPED);
    // By the old waits it would be asked again after 8 s at the earliest, 15 s after the start.
    let limit = stopgap::mitigation::LONGEST_KNOCK + Duration::from_secs(2);
    assert!(back.elapsed() < limit, "{:?}", back.elapsed());
}

/// What is for one site is stopped on the servers of that site alone.
#[tokio::test]
async fn servers_of_other_sites_are_asked_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (own, rules) = (tempfile::tempdir().unwrap(), folder.path().join("r.xml"));
    let text = stopping(&[("M90.1.0", "MSExchangeUM")]);
    let text = text.replace("scope=\"Server\"", "scope=\"Site\" sg:target=\"Intranet\"");
    std::fs::write(&rules, text).unwrap();
    let (mail, intranet) = (
        Fake::start(folder.path(), Manner::Good),
        Fake::start(own.path(), Manner::Good),
    );
    let link = |server: &str, fake: &Fake| SidecarLink {
        server: server.to_owned(),
        place: SidecarPlace::Socket(fake.path.clone()),
        deadline: DEADLINE,
    };
    let config = ControlConfig {
        sites: vec!["Mail".to_owned(), "Intranet".to_owned()],
        rules: vec![rules],
        servers: vec!["mail1".to_owned(), "web1".to_owned(), "web2".to_owned()],
        server_sites: [
            ("mail1", "Mail"),
            ("web1", "Intranet"),
            ("web2", "intranet"),
        ]
        .map(|(server, site)| (server.to_owned(), vec![site.to_owned()]))
        .into(),
        sidecars: vec![link("mail1", &mail), link("web1", &intranet)],
        watch_interval: Duration::from_millis(50),
        ..ControlConfig::default()
    };
    let metrics = Metrics::default();
    let alarms = Alarms::new(&metrics);
    let controller = Controller::start(config, &StateDir::memory(), &metrics, alarms, clock);
    let controller = controller.unwrap();
    // The second server of the site has no sidecar, which is said; the other site's is not even named.
    let status = wait_for(&controller, "Partial: web2: no sidecar configured").await;
    let mut mitigations = status.mitigations.iter();
    let found = mitigations.find(|one| one.id == "M90.1.0").unwrap();
    let servers: Vec<_> = found
        .servers
        .iter()
        .map(|own| own.server.as_str())
        .collect();
    assert_eq!(servers, ["web1", "web2"]);
    intranet.holds(&["MSExchangeUM: M90.1"]).await;
    assert_eq!(mail.held().await, [""; 0]);
    assert_eq!(mail.server.states()[&service()], RUNNING);
}
