//! The sidecar as a process: its socket, its limits, an operator's programs, and kills at any moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use stopgap::sidecar::{
    ANSWER_LIMIT, Action, Agent, AgentConfig, AgentSocket, AllowList, BODY_LIMIT, CONNECTION_LIMIT,
    Client, Desired, DryRun, Holder, Name, NamePattern, Plan, Reply, Request, Startup, Target,
    TargetResult, TargetState, serve,
};
use stopgap::store::StateDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::support::sidecar::Sidecar;

pub(crate) fn service(name: &str) -> Target {
    Target::Service(Name::new(name).unwrap())
}

pub(crate) fn apply(mitigation: &str, targets: &[Target]) -> Request {
    let action = |target: &Target| Action {
        target: target.clone(),
        desired: Desired::Disabled,
    };
    Request::Apply(Plan {
        mitigation: Holder::new(mitigation).unwrap(),
        actions: targets.iter().map(action).collect(),
    })
}

/// An agent of a dry run on a socket in this process, for these users.
fn served(folder: &Path, users: Vec<u32>) -> PathBuf {
    let path = folder.join("s.sock");
    let config = AgentConfig {
        allow: AllowList {
            services: vec![NamePattern::new("MSExchange*").unwrap()],
            ..AllowList::default()
        },
        ..AgentConfig::default()
    };
    let journal = Box::new(StateDir::memory().slot("journal"));
    let agent = Agent::new(config, Box::new(DryRun::new()), journal).unwrap();
    let socket = AgentSocket::bind(&path, users).unwrap();
    tokio::spawn(serve(socket, Arc::new(agent), std::future::pending()));
    path
}

fn our_user() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid()
}

async fn raw(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // It may be answered, and closed, before it was read whole.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn client_and_agent_understand_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = served(folder.path(), vec![our_user()]);
    let client = Client::new(&path, Duration::from_secs(10));
    let Reply::Health(health) = client.ask(&Request::Health).await.unwrap() else {
        panic!("no health")
    };
    assert_eq!((health.driver.as_str(), health.problem), ("dry-run", None));
    let order = apply("M1", &[service("MSExchangeUM"), service("nginx")]);
    let Reply::Outcomes(outcomes) = client.ask(&order).await.unwrap() else {
        panic!("no outcomes")
    };
    let held = TargetState {
        running: false,
        startup: Startup::Disabled,
    };
    assert_eq!(outcomes[0].result, TargetResult::Held(held));
    assert!(matches!(outcomes[1].result, TargetResult::Refused(_)));
    let Reply::State(reports) = client.ask(&Request::State).await.unwrap() else {
        panic!("no state")
    };
    assert_eq!(reports.len(), 1);
    let nobody = Client::new(&folder.path().join("none"), Duration::from_secs(10));
    assert!(
        nobody
            .ask(&Request::State)
            .await
            .unwrap_err()
            .is_unreachable()
    );
}

#[tokio::test]
async fn other_users_are_refused_whatever_they_ask() {
    let folder = tempfile::tempdir().unwrap();
    // Two users, so that the file itself is open and only the credentials decide.
    let path = served(folder.path(), vec![our_user() + 4_242, our_user() + 4_243]);
    let client = Client::new(&path, Duration::from_secs(10));
    for request in [Request::Health, apply("M1", &[service("MSExchangeUM")])] {
        let error = client.ask(&request).await.unwrap_err();
        assert!(error.to_string().contains("(403)"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_order_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = served(folder.path(), vec![our_user()]);
    let post = |target: &str, body: &str| {
        format!(
            "POST {target} HTTP/1.1\r\nhost: s\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let padded = |length: usize| "{}".to_owned() + &" ".repeat(length - 2);
    for (request, status) in [
        (post("/v1/health", ""), "200"),
        (post("/v2/health", ""), "404"),
        (post("/v1/exec", "{}"), "404"),
        (post("/v1/apply/", "{}"), "404"),
        (post("/", ""), "404"),
        (post("/v1/apply", "no json"), "400"),
        (post("/v1/health", "").replace("POST", "GET"), "405"),
        (post("/v1/apply", &padded(BODY_LIMIT)), "400"),
        (post("/v1/apply", &padded(BODY_LIMIT + 1)), "413"),
        ("\0\0\0\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = raw(&path, request.as_bytes()).await;
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.contains(status), "{:.60} gave {line:?}", request);
    }
}

#[tokio::test]
async fn slow_requests_do_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = served(folder.path(), vec![our_user()]);
    // Neither is ever finished; each ends because the other side ends it.
    let head = raw(&path, b"POST /v1/apply HTTP/1.1\r\n");
    let body = raw(
        &path,
        b"POST /v1/apply HTTP/1.1\r\nhost: s\r\ncontent-length: 9\r\n\r\n{",
    );
    let (_, body) = tokio::join!(head, body);
    assert!(body.contains(" 408 "), "{body}");
}

#[tokio::test]
async fn connections_above_the_limit_wait_for_one_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = served(folder.path(), vec![our_user()]);
    let client = Client::new(&path, Duration::from_secs(10));
    let mut silent = Vec::new();
    for _ in 1..CONNECTION_LIMIT {
        silent.push(UnixStream::connect(&path).await.unwrap());
    }
    client.ask(&Request::Health).await.unwrap();
    silent.push(UnixStream::connect(&path).await.unwrap());
    let impatient = Client::new(&path, Duration::from_millis(200));
    assert!(
        impatient
            .ask(&Request::Health)
            .await
            .unwrap_err()
            .is_unknown()
    );
    silent.pop();
    client.ask(&Request::Health).await.unwrap();
}

#[tokio::test]
async fn client_bears_with_nothing_for_ever_and_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let answer = |length: usize| {
        let health = r#"{"health":{"version":"1","driver":"d","problem":null}}"#;
        let body = health.to_owned() + &" ".repeat(length - health.len());
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    for (name, answer, understood) in [
        ("limit", answer(ANSWER_LIMIT), true),
        ("more", answer(ANSWER_LIMIT + 1), false),
        ("other", "SSH-2.0-OpenSSH_9.2\r\n".to_owned(), false),
        ("empty", String::new(), false),
    ] {
        let path = folder.path().join(name);
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 16];
            stream.read_exact(&mut request).await.unwrap();
            // The client may have had enough before the end.
            let _ = stream.write_all(answer.as_bytes()).await;
            // An empty answer stands for a server that never answers.
            (answer.is_empty()).then_some(stream)
        };
        let client = Client::new(
            &path,
            Duration::from_secs(if answer.is_empty() { 1 } else { 30 }),
        );
        let (asked, _stream) = tokio::join!(client.ask(&Request::Health), server);
        match asked {
            Ok(_) => assert!(understood, "{name}"),
            Err(error) => assert!(!understood && error.is_unknown(), "{name}: {error}"),
        }
    }
}

/// A service manager in a folder, driven by the programs of the command driver.
pub(crate) struct Folder {
    folder: tempfile::TempDir,
}

pub(crate) const SERVICES: [(&str, bool, bool); 3] = [
    ("idle", false, false),
    ("normal", true, false),
    ("orphan", true, true),
];

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, running, disabled) in SERVICES {
            let service = folder.path().join(name);
            fs::create_dir(&service).unwrap();
            for (file, there) in [("running", running), ("disabled", disabled)] {
                if there {
                    fs::write(service.join(file), "").unwrap();
                }
            }
        }
        Self { folder }
    }

    pub(crate) fn settings(&self) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/service.sh");
        let mut settings = "driver = 'command'\nsettle_timeout = '1s'\nallow.services = ['idle', 'normal', 'orphan', \
                            'gone']\nallow.pools = ['idle', 'normal', 'orphan']\n[command]\n"
            .to_owned();
        for verb in ["state", "start", "stop", "disable", "enable"] {
            let (script, folder) = (script.display(), self.folder.path().display());
            settings += &format!("{verb} = ['{script}', '{folder}', '{verb}', '{{name}}']\n");
        }
        settings
    }

    /// Whether a service runs, and whether it is barred.
    pub(crate) fn is(&self, name: &str) -> (bool, bool) {
        let service = self.folder.path().join(name);
        (
            service.join("running").exists(),
            service.join("disabled").exists(),
        )
    }

    pub(crate) fn check_originals(&self) {
        for (name, running, disabled) in SERVICES {
            assert_eq!(self.is(name), (running, disabled), "{name}");
        }
    }
}

fn all() -> Vec<Target> {
    SERVICES.iter().map(|(name, ..)| service(name)).collect()
}

#[test]
fn programs_of_an_operator_stop_and_restore() {
    let (system, own) = (Folder::new(), tempfile::tempdir().unwrap());
    let mut sidecar = Sidecar::start(own.path(), &system.settings());
    let mut targets = all();
    targets.push(service("gone"));
    for outcome in sidecar.order(&apply("M1", &targets)) {
        match outcome.target.name().as_str() {
            "gone" => assert_eq!(outcome.result, TargetResult::Missing),
            name => {
                assert!(
                    matches!(outcome.result, TargetResult::Held(_)),
                    "{outcome:?}"
                );
                assert_eq!(system.is(name), (false, true));
            }
        }
    }
    // A second order must not take what the first one made for the original.
    sidecar.order(&apply("M1", &all()));
    sidecar.kill();
    let sidecar = Sidecar::start(own.path(), &system.settings());
    assert_eq!(sidecar.state().len(), SERVICES.len());
    for outcome in sidecar.undo("M1") {
        assert!(
            matches!(outcome.result, TargetResult::Restored(_)),
            "{outcome:?}"
        );
    }
    system.check_originals();
    assert!(sidecar.state().is_empty());
}

#[test]
fn kills_at_any_moment_leave_everything_restorable() {
    const KILLS: u64 = 200;
    let (system, own) = (Folder::new(), tempfile::tempdir().unwrap());
    let settings = system.settings();
    for kill in 0..KILLS {
        let mut sidecar = Sidecar::start(own.path(), &settings);
        let client = sidecar.client();
        let request = match kill % 2 {
            0 => apply("M1", &all()),
            _ => Request::Undo(stopgap::sidecar::Undo {
                mitigation: Holder::new("M1").unwrap(),
            }),
        };
        let asked = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            // It is killed before, while or after it answers.
            drop(runtime.unwrap().block_on(client.ask(&request)));
        });
        // Spread over the time that an order takes.
        thread::sleep(Duration::from_micros(kill * 37 % KILLS * 250));
        sidecar.kill();
        asked.join().unwrap();
        if kill % 20 == 19 {
            let sidecar = Sidecar::start(own.path(), &settings);
            for outcome in sidecar.undo("M1") {
                assert!(
                    matches!(outcome.result, TargetResult::Restored(_)),
                    "{outcome:?}"
                );
            }
            // What an earlier undo left half done is finished without being asked for.
            while !sidecar.state().is_empty() {
                thread::sleep(Duration::from_millis(20));
            }
            system.check_originals();
        }
    }
}

#[test]
fn commands_end_with_their_codes() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_stopgap-sidecar"))
            .args(arguments)
            .output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = file(
        "good.toml",
        "users = [0]\ndriver = 'dry-run'\nstate_dir = 'state'",
    );
    let typo = file("typo.toml", "users = [0]\ndriver = 'dry-run'\nallows = 1");
    let bus = file(
        "bus.toml",
        "users = [0]\ndriver = 'systemd'\n[systemd]\nbus = 'unix:path=/nonexistent'",
    );
    for (arguments, code, text) in [
        (vec!["drivers"], 0, "systemd"),
        (vec!["check", "--config", &good], 0, "driver dry-run works"),
        (vec!["check", "--config", &typo], 3, "line 3"),
        (vec!["run", "--config", &typo], 3, "unknown field `allows`"),
        (
            vec!["check", "--config", &bus],
            1,
            "cannot be reached over D-Bus",
        ),
        (
            vec!["check", "--config", "/nonexistent"],
            3,
            "cannot be read",
        ),
        (vec!["run"], 2, "--config"),
        (vec!["start"], 2, "unrecognized"),
        (vec!["--version"], 0, "stopgap-sidecar"),
    ] {
        let (ended, said) = run(&arguments);
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    }
    // A journal that is damaged is kept, and nothing is done without it.
    fs::create_dir(folder.path().join("state")).unwrap();
    fs::write(folder.path().join("state/journal.state"), "torn").unwrap();
    let (ended, said) = run(&["run", "--config", &good]);
    assert_eq!(ended, Some(1), "{said}");
    assert!(said.contains("is damaged"), "{said}");
    assert_eq!(
        fs::read(folder.path().join("state/journal.state")).unwrap(),
        b"torn"
    );
}
