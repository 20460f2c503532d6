//! Exceptions: who is let through and who is not, for how long, and what is said about it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use serde_json::Value;
use stopgap::control::{ControlConfig, Controller, ExceptionText, Order, Status};
use stopgap::filter::{Filter, Peer};
use stopgap::model::{Exception, ExceptionDraft, UnixTime};
use stopgap::store::StateDir;
use stopgap::telemetry::{Alarms, Metrics};

use crate::support::client::{Client, Lost};
use crate::support::origin::{Origin, Then};
use crate::support::process::{Daemon, replace_file, run, stopgap};

/// One mitigation with two rules, and another one.
const THREE: &str = r#"<EOCS version="1.0.4" xmlns:sg="urn:stopgap:feed:1">
<Config id="M70.1" desc="Stops evil."><ActionList><Action type="UrlRewrite" scope="Server" desc="Abort">
<Value><![CDATA[<rewrite><rules><rule name="evil" stopProcessing="true"><match url="evil$"/>
<action type="AbortRequest"/></rule><rule name="vile" stopProcessing="true"><match url="vile$"/>
<action type="AbortRequest"/></rule></rules></rewrite>]]></Value></Action></ActionList>
<sg:vectors><sg:stop target="/owa/evil"/><sg:pass target="/good"/></sg:vectors></Config>
<Config id="M80.1" desc="Stops worse."><ActionList>
<Action type="UrlRewrite" scope="Server" desc="Abort"><Value><![CDATA[<rewrite><rules>
<rule name="worse" stopProcessing="true"><match url="worse"/><action type="AbortRequest"/></rule>
</rules></rewrite>]]></Value></Action></ActionList>
<sg:vectors><sg:stop target="/worse"/><sg:pass target="/good"/></sg:vectors></Config></EOCS>"#;

/// Response rules for the head and for the body.
const RESPONSES: &str = r#"<EOCS version="1.0.4" xmlns:sg="urn:stopgap:feed:1">
<Config id="M90.1" desc="Hides."><ActionList><Action type="UrlRewrite" scope="Server" desc="Hide">
<Value><![CDATA[<rewrite><outboundRules><rule name="server"><match serverVariable="RESPONSE_Server" pattern=".+"/>
<action type="Rewrite" value="hidden"/></rule>
<rule name="word"><match pattern="secret"/><action type="Rewrite" value="word"/></rule>
</outboundRules></rewrite>]]></Value></Action></ActionList></Config></EOCS>"#;

/// A proxy process that learns its clients' addresses from a PROXY protocol header.
struct Instance {
    folder: tempfile::TempDir,
}

impl Instance {
    fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("three.xml"), THREE).unwrap();
        std::fs::write(folder.path().join("responses.xml"), RESPONSES).unwrap();
        let text = format!(
            "rules = ['three.xml', 'responses.xml']\n[admin]\naddress = '127.0.0.1:0'\n[log]\ndecisions = 'decisions'\n\
             [[listener]]\naddress = '127.0.0.1:0'\nproxy_protocol = ['127.0.0.1']\n{settings}"
        );
        std::fs::write(folder.path().join("stopgap.toml"), text).unwrap();
        Self { folder }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn start(&self) -> Daemon {
        let settings = self.folder.path().join("stopgap.toml");
        let words = ["run", "--config", settings.to_str().unwrap()];
        Daemon::from_command(stopgap(&self.state(), &words))
    }

    /// Runs a command against the instance; its exit code and what it said on standard error, if it failed.
    fn ordered(&self, words: &str) -> Result<String, (Option<i32>, String)> {
        ordered(&self.state(), words)
    }

    fn list(&self) -> Vec<Value> {
        listed(&self.state())
    }
}

fn listed(state: &Path) -> Vec<Value> {
    let text = ordered(state, "exception list -o json").unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Words apart by spaces; `_` stands for a space within one.
fn ordered(state: &Path, words: &str) -> Result<String, (Option<i32>, String)> {
    let words: Vec<String> = words
        .split(' ')
        .map(|word| word.replace('_', " "))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = run(state, &words);
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err((
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )),
    }
}

/// Whether a `GET` by a client at this address was let through.
fn passes(daemon: &Daemon, client: &str, target: &str) -> bool {
    let mut connection = Client::connect(daemon.address);
    let header = format!("PROXY TCP4 {client} 198.51.100.1 1234 80\r\n");
    connection.send(header.as_bytes()).unwrap();
    match connection.get(target, &[]) {
        Ok(reply) => {
            assert_eq!(reply.status, 404, "{target}");
            true
        }
        Err(Lost::Reset) => false,
        Err(lost) => panic!("{target}: {lost:?}"),
    }
}

const ADD: &str = "exception add M70.1 --path /owa --client 192.0.2.0/28 --owner A._Person --reason the_phone --for 30d";

#[test]
fn exception_lets_through_what_it_names_and_nothing_else() {
    let instance = Instance::new("");
    let daemon = instance.start();
    assert!(!passes(&daemon, "192.0.2.7", "/owa/evil"));

    let told = instance.ordered(ADD).unwrap();
    assert!(told.contains("note: the exception e1 ends at "), "{told}");
    for (client, target, through) in [
        ("192.0.2.7", "/owa/evil", true),
        ("192.0.2.7", "/OWA/x/evil", true),
        ("192.0.2.7", "/owa/vile", true),
        // Others, elsewhere, and by another mitigation.
        ("192.0.2.16", "/owa/evil", false),
        ("192.0.2.7", "/ecp/evil", false),
        ("192.0.2.7", "/owax/evil", false),
        ("192.0.2.7", "/owa/worse/evil", false),
        // Paths that look as if they lay there.
        ("192.0.2.7", "/owa/../ecp/evil", false),
        ("192.0.2.7", "/owa/..%2fecp/evil", false),
        ("192.0.2.7", "/owa/%2e%2e/ecp/evil", false),
        ("192.0.2.7", "/owa/%252e%252e/ecp/evil", false),
        ("192.0.2.7", "/owa/..;/ecp/evil", false),
        ("192.0.2.7", "/owa/..%5cecp/evil", false),
        ("192.0.2.7", "/ecp/..%2fowa/evil", false),
        ("192.0.2.7", "/(S(x))/owa/evil", false),
    ] {
        let found = passes(&daemon, client, target);
        assert_eq!(found, through, "{client} {target}");
    }

    // The request that another mitigation stopped was let through by the first.
    let list = instance.list();
    assert_eq!(list.len(), 1);
    assert_eq!(
        (&list[0]["name"], &list[0]["hits"]),
        (&"e1".into(), &"4".into())
    );
    assert_ne!(list[0]["last used"], "never");
    assert_eq!(list[0]["state"], "Active");
    let csv = instance.ordered("exception list -o csv").unwrap();
    assert!(csv.starts_with("name,state,mitigation,rule,path,"), "{csv}");
    assert!(
        csv.contains("\r\ne1,Active,M70.1,all,/owa,192.0.2.0/28,"),
        "{csv}"
    );
    let status = instance.ordered("status").unwrap();
    assert!(status.contains("A. Person"), "{status}");

    let told = instance.ordered("exception delete e1").unwrap();
    assert!(told.contains("published"), "{told}");
    assert!(!passes(&daemon, "192.0.2.7", "/owa/evil"));
    assert!(instance.list().is_empty());
    assert_eq!(
        daemon.stop().code(),
        Some(0),
        "the decisions are written at the latest by now"
    );
    let decisions = std::fs::read_to_string(instance.folder.path().join("decisions")).unwrap();
    let of = |target: &str, client: &str| -> Value {
        let lines = decisions
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let mut found = lines.filter(|line: &Value| {
            line["target"] == target && line["client"] == client && line["exception"] == "e1"
        });
        found
            .next()
            .unwrap_or_else(|| panic!("{target}: {decisions}"))
    };
    let passed = of("/owa/evil", "192.0.2.7");
    assert_eq!(passed["action"], "excepted");
    assert_eq!(
        (&passed["rule"], &passed["mitigation"]),
        (&"evil".into(), &"M70.1".into())
    );
    let stopped = of("/owa/worse/evil", "192.0.2.7");
    assert_eq!(
        (&stopped["action"], &stopped["rule"]),
        (&"abort".into(), &"worse".into())
    );
}

#[test]
fn exception_of_one_rule_survives_a_kill_and_is_told() {
    let instance = Instance::new("");
    let daemon = instance.start();
    instance
        .ordered(&format!("{ADD} --rule evil --name one"))
        .unwrap();
    assert!(passes(&daemon, "192.0.2.1", "/owa/evil"));
    assert!(!passes(&daemon, "192.0.2.1", "/owa/vile"));
    daemon.kill();

    let daemon = instance.start();
    assert!(passes(&daemon, "192.0.2.1", "/owa/evil"));
    assert!(!passes(&daemon, "192.0.2.1", "/owa/vile"));
    assert_eq!(instance.list()[0]["rule"], "evil");
    instance.ordered("exception delete one").unwrap();
    let text = instance
        .ordered("mitigation history M70.1 -o json")
        .unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let told: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| {
            (
                row["source"].as_str().unwrap(),
                row["state"].as_str().unwrap(),
            )
        })
        .filter(|(source, _)| source.starts_with("exception "))
        .collect();
    assert_eq!(
        told,
        [
            ("exception one", "ExceptionAdded"),
            ("exception one", "ExceptionDeleted")
        ]
    );
    let added = rows
        .iter()
        .find(|row| row["state"] == "ExceptionAdded")
        .unwrap();
    let reason = added["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("rule evil, /owa from 192.0.2.0/28 until "),
        "{reason}"
    );
    assert!(
        reason.ends_with("; A. Person answers for it: the phone"),
        "{reason}"
    );
    let line = daemon.logged("ExceptionDeleted");
    assert!(line.contains("1046"), "{line}");
}

#[test]
fn response_of_what_is_excepted_is_left_alone() {
    let origin = Origin::start(|connection, seen| {
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        let fields = "Server: IIS\r\nContent-Type: text/plain\r\n";
        connection.answer("200 OK", fields, "a secret");
        Then::Keep
    });
    let site = format!(
        "[[site]]\nname = 'Default Web Site'\nupstreams = ['http://{}']\n",
        origin.address
    );
    let instance = Instance::new(&site);
    let daemon = instance.start();
    let get = |client: &str, target: &str| {
        let mut connection = Client::connect(daemon.address);
        let header = format!("PROXY TCP4 {client} 198.51.100.1 1234 80\r\n");
        connection.send(header.as_bytes()).unwrap();
        let reply = connection.get(target, &[]).unwrap();
        let server = reply.field("server").unwrap_or_default().to_owned();
        (server, reply.text())
    };
    let text = |server: &str, body: &str| (server.to_owned(), body.to_owned());
    let add = ADD.replace("M70.1", "M90.1");
    instance.ordered(&format!("{add} --name both")).unwrap();
    assert_eq!(get("192.0.2.7", "/owa/x"), text("IIS", "a secret"));
    assert_eq!(get("192.0.3.7", "/owa/x"), text("hidden", "a word"));
    assert_eq!(get("192.0.2.7", "/owa/..%2fecp"), text("hidden", "a word"));
    assert_eq!(instance.list()[0]["hits"], "1");
    instance.ordered("exception delete both").unwrap();
    instance.ordered(&format!("{add} --rule word")).unwrap();
    assert_eq!(get("192.0.2.7", "/owa/x"), text("hidden", "a secret"));
}

#[test]
fn reload_takes_the_exceptions_of_the_settings() {
    let instance = Instance::new("");
    let daemon = instance.start();
    let settings = instance.folder.path().join("stopgap.toml");
    let without = std::fs::read_to_string(&settings).unwrap();
    let ends = |days: u64| UnixTime::new(stopgap::app::now().seconds() + days * DAY);
    let with = |days: u64| {
        format!(
            "{without}\n[[exception]]\nname = 'own'\nmitigation = 'M70.1'\npath = '/owa'\n\
             clients = ['192.0.2.0/28']\nowner = 'o'\nreason = 'r'\nexpires = '{}'\n",
            ends(days)
        )
    };
    let check = format!("config check --config {}", settings.display());
    replace_file(&settings, &with(91));
    let (code, why) = instance.ordered(&check).unwrap_err();
    assert_eq!(code, Some(3), "{why}");
    assert!(
        why.contains("[[exception]] own: ") && why.contains("too far ahead"),
        "{why}"
    );
    let (_, why) = instance.ordered("reload").unwrap_err();
    assert!(why.contains("[[exception]] own: "), "{why}");
    assert!(!passes(&daemon, "192.0.2.7", "/owa/evil"));

    replace_file(&settings, &with(30));
    instance.ordered(&check).unwrap();
    instance.ordered("reload").unwrap();
    assert!(passes(&daemon, "192.0.2.7", "/owa/evil"));
    assert_eq!(instance.list()[0]["origin"], "settings");
    replace_file(&settings, &without);
    instance.ordered("reload").unwrap();
    assert!(!passes(&daemon, "192.0.2.7", "/owa/evil"));
    assert!(instance.list().is_empty());
}

#[test]
fn proof_looks_past_exceptions() {
    let folder = tempfile::tempdir().unwrap();
    let (state, rules) = (folder.path().join("state"), folder.path().join("three.xml"));
    std::fs::write(&rules, THREE).unwrap();
    let daemon = Daemon::start(&state, &["--rules", rules.to_str().unwrap()]);
    // The vectors of the mitigation lie under its path, and probes come from this host.
    ordered(&state, &ADD.replace("192.0.2.0/28", "127.0.0.1")).unwrap();
    let reply = Client::connect(daemon.address).get("/owa/evil", &[]);
    assert_eq!(reply.unwrap().status, 404);
    // It has to be proven anew after this.
    ordered(&state, "mitigation reapply M70.1").unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let shown = ordered(&state, "mitigation show M70.1").unwrap();
        assert!(!shown.contains("Drifted"), "{shown}");
        if shown.contains("  proven at") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{shown}");
        // The status of another process is only to be asked for.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(listed(&state)[0]["hits"], "1");
}

#[test]
fn what_cannot_be_excepted_is_said() {
    let instance = Instance::new("[policy]\nexception_lifetime = '14d'\n");
    let _daemon = instance.start();
    let add = ADD.replace("--for 30d", "--for 7d");
    for (words, code, why) in [
        (
            ADD.to_owned(),
            1,
            "lasts 14 days at most ([policy] exception_lifetime)",
        ),
        (add.replace("M70.1", "m70"), 2, "no mitigation id"),
        (
            add.replace("--path /owa", "--path owa"),
            2,
            "`path`: a path begins with a slash",
        ),
        (
            add.replace("192.0.2.0/28", "192.0.2.0/33"),
            2,
            "neither an address nor a range",
        ),
        (add.replace("--owner A._Person ", ""), 2, "--owner"),
        (
            add.replace("A._Person", "_"),
            2,
            "`owner`: an exception has an owner",
        ),
        (add.replace("--reason the_phone ", ""), 2, "--reason"),
        (add.replace(" --for 7d", ""), 2, "--expires"),
        (
            add.replace("--for 7d", "--expires 2026-12-31"),
            2,
            "write it in UTC",
        ),
        (
            add.replace("--for 7d", "--expires 2026-01-01T00:00:00Z"),
            1,
            "is over already",
        ),
        (
            add.replace("--path /owa", "--path /")
                .replace("192.0.2.0/28", "0.0.0.0/0"),
            2,
            "block M70.1 instead",
        ),
        (format!("{add} --name a_b"), 2, "letters, digits"),
        (
            "exception delete e9".to_owned(),
            1,
            "there is no exception e9",
        ),
    ] {
        let (found, text) = instance.ordered(&words).unwrap_err();
        assert_eq!(found, Some(code), "{words}: {text}");
        assert!(text.contains(why), "{words}: {text}");
    }
    assert!(instance.list().is_empty());
    let told = instance
        .ordered(&format!("{add} --name one --rule evli"))
        .unwrap();
    assert!(
        told.contains("M70.1 has no rule named \"evli\" now; it has evil, vile"),
        "{told}"
    );
    let (_, text) = instance.ordered(&format!("{add} --name one")).unwrap_err();
    assert!(text.contains("there is an exception one already"), "{text}");
    let told = instance.ordered(&add.replace("M70.1", "M99")).unwrap();
    assert!(told.contains("no source offers M99 now"), "{told}");
}

/// The time of day of one test.
struct ManualClock(AtomicU64);

impl ManualClock {
    const fn new(seconds: u64) -> Self {
        Self(AtomicU64::new(seconds))
    }

    fn now(&self) -> UnixTime {
        UnixTime::new(self.0.load(Ordering::SeqCst))
    }

    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

const DAY: u64 = 86_400;
const START: u64 = 1_795_000_000;

fn text(name: &str, expires: u64) -> ExceptionText {
    ExceptionText {
        name: name.to_owned(),
        mitigation: "M70.1".to_owned(),
        rule: None,
        path: "/owa".to_owned(),
        clients: vec!["192.0.2.0/28".to_owned()],
        owner: "A. Person".to_owned(),
        reason: "the phone".to_owned(),
        expires: UnixTime::new(expires).to_string(),
    }
}

fn start(folder: &Path, exceptions: Vec<Exception>, clock: fn() -> UnixTime) -> Controller {
    let rules = folder.join("three.xml");
    std::fs::write(&rules, THREE).unwrap();
    let config = ControlConfig {
        rules: vec![rules],
        exceptions,
        watch_interval: Duration::from_millis(5),
        ..ControlConfig::default()
    };
    let metrics = Metrics::default();
    let state = StateDir::open(&folder.join("state")).unwrap();
    Controller::start(config, &state, &metrics, Alarms::new(&metrics), clock).unwrap()
}

fn stops(controller: &Controller) -> bool {
    let (parts, ()) = Request::get("/owa/evil").body(()).unwrap().into_parts();
    let peer = Peer {
        remote: Some("192.0.2.7:50000".parse().unwrap()),
        ..Peer::default()
    };
    let judged = Filter::new(controller.filter()).judge(0, &parts, &peer);
    judged.decision.verdict.stops()
}

async fn until(controller: &Controller, holds: impl FnMut(&Status) -> bool) {
    let handle = controller.handle();
    let waiting = handle.wait_for(holds);
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("the status changes")
        .unwrap();
}

/// What became of exceptions, oldest first.
fn told(controller: &Controller) -> Vec<(String, String)> {
    let history = controller.handle().history();
    let of_exceptions = history
        .iter()
        .filter(|own| own.source.starts_with("exception "));
    of_exceptions
        .map(|own| {
            (
                own.source["exception ".len()..].to_owned(),
                own.state.clone(),
            )
        })
        .collect()
}

#[tokio::test]
async fn exception_is_announced_and_ends_by_the_clock() {
    static CLOCK: ManualClock = ManualClock::new(START);
    let folder = tempfile::tempdir().unwrap();
    let controller = start(folder.path(), Vec::new(), || CLOCK.now());
    assert!(stops(&controller));
    let end = START + 30 * DAY;
    let order = Order::Except(text("", end));
    controller.handle().order(order).await.unwrap();
    assert!(!stops(&controller));
    assert_eq!(
        told(&controller),
        [("e1".to_owned(), "ExceptionAdded".to_owned())]
    );
    for (left, announced) in [(7 * DAY, 1), (DAY, 2), (3_600, 3)] {
        CLOCK.set(end - left);
        until(&controller, |status| {
            status.exceptions[0].state == "Lapsing" && told(&controller).len() == 1 + announced
        })
        .await;
        let times = controller.handle().history();
        assert_eq!(
            times.last().unwrap().time,
            UnixTime::new(end - left).to_string()
        );
        assert!(!stops(&controller));
    }
    CLOCK.set(end - 1);
    assert!(!stops(&controller));
    CLOCK.set(end);
    until(&controller, |status| status.exceptions.is_empty()).await;
    assert!(stops(&controller));
    let told = told(&controller);
    assert_eq!(told.last().unwrap().1, "ExceptionLapsed");
    assert_eq!(told.len(), 5);
    let history = controller.handle().history();
    let reason = &history.last().unwrap().reason;
    // Asking is a request too.
    assert!(
        reason.contains("it let 5 requests pass; A. Person"),
        "{reason}"
    );
    drop(controller);

    // It does not come back, and its name is not given to another.
    let controller = start(folder.path(), Vec::new(), || CLOCK.now());
    assert!(stops(&controller));
    let order = Order::Except(text("", end + DAY));
    controller.handle().order(order).await.unwrap();
    assert_eq!(controller.handle().status().exceptions[0].name, "e2");
}

#[tokio::test]
async fn exception_of_the_settings_counts_on_and_stays_to_be_seen() {
    static CLOCK: ManualClock = ManualClock::new(START);
    let folder = tempfile::tempdir().unwrap();
    let end = START + 2 * DAY;
    let own = text("own", end).read().unwrap();
    let begin = |exceptions| start(folder.path(), exceptions, || CLOCK.now());
    let controller = begin(vec![own.clone()]);
    assert!(!stops(&controller));
    let control = controller.handle();
    for (order, why) in [
        (
            Order::DeleteException("own".to_owned()),
            "stands in the settings",
        ),
        (Order::Except(text("own", end)), "an exception own already"),
    ] {
        let refused = control.order(order).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let used = controller.handle().status().exceptions[0].last_used.clone();
    assert_eq!(used, Some(UnixTime::new(START).to_string()));
    drop(controller);

    // A restart is no news.
    let controller = begin(vec![own.clone()]);
    assert_eq!(told(&controller).len(), 1);
    CLOCK.set(end);
    until(&controller, |status| status.exceptions[0].state == "Lapsed").await;
    assert!(stops(&controller));
    drop(controller);
    // That it is over is no reason not to start.
    let controller = begin(vec![own]);
    assert!(stops(&controller));
    drop(controller);
    let controller = begin(Vec::new());
    let states: Vec<String> = told(&controller)
        .into_iter()
        .map(|(_, state)| state)
        .collect();
    // What lasts less than a week is lapsing from the start, and not announced for it.
    assert_eq!(
        states,
        ["ExceptionAdded", "ExceptionLapsed", "ExceptionDeleted"]
    );
}

#[test]
fn exception_of_the_settings_that_lasts_too_long_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    let draft = ExceptionDraft {
        name: "own",
        mitigation: "M70.1",
        path: "/owa",
        clients: vec!["192.0.2.1"],
        owner: "o",
        reason: "r",
        ..ExceptionDraft::default()
    };
    let metrics = Metrics::default();
    for (days, usable) in [(90, true), (91, false)] {
        let expires = UnixTime::new(START + days * DAY).to_string();
        let exception = Exception::read(&ExceptionDraft {
            expires: &expires,
            ..draft.clone()
        });
        let config = ControlConfig {
            exceptions: vec![exception.unwrap()],
            ..ControlConfig::default()
        };
        let alarms = Alarms::new(&metrics);
        let clock = || UnixTime::new(START);
        let started = Controller::start(config, &state, &metrics, alarms, clock);
        assert_eq!(started.is_ok(), usable, "{days}");
        if let Err(error) = started {
            assert!(error.is_invalid_input());
            assert!(error.to_string().contains("[[exception]] own: "), "{error}");
        }
    }
}

#[tokio::test]
async fn damaged_file_of_exceptions_is_told() {
    static CLOCK: ManualClock = ManualClock::new(START);
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(&folder.path().join("state")).unwrap();
    state.slot("exceptions").replace(b"[nonsense").unwrap();
    drop(state);
    let controller = start(folder.path(), Vec::new(), || CLOCK.now());
    let status = controller.handle().status();
    let alarm = status
        .alarms
        .iter()
        .find(|alarm| alarm.subject == "exceptions");
    let reason = &alarm.expect("an alarm").reason;
    assert!(
        reason.starts_with("exceptions of operators are lost"),
        "{reason}"
    );
    assert!(stops(&controller));
}
