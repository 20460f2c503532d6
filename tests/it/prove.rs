//! Mitigations proven over the wire, through every listener.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::{Client, Lost};
use crate::support::process::{Daemon, replace_file, run, stopgap};

/// A round takes milliseconds; a loaded machine gets more, and what was lost in one round comes with the next.
const PATIENCE: Duration = Duration::from_secs(180);

const EVIL: &str = r#"<EOCS version="1.0.4" xmlns:sg="urn:stopgap:feed:1">
<Config id="M70.1" desc="Stops evil."><ActionList><Action type="UrlRewrite" scope="Server" desc="Abort">
<Value><![CDATA[<rewrite><rules><rule name="evil" stopProcessing="true"><match url="^evil"/>
<action type="AbortRequest"/></rule></rules></rewrite>]]></Value></Action></ActionList>
<sg:vectors><sg:stop target="/evil"/><sg:stop target="/evil/%0d"/><sg:pass target="/good"/></sg:vectors></Config></EOCS>"#;

/// Makes something else of the request before any other rule is asked.
const LET_PASS: &str = r#"<rewrite><rules><rule name="let pass"><match url="^evil$"/>
<action type="Rewrite" url="/good"/></rule></rules></rewrite>"#;

const NOTHING: &str = r#"<rewrite><rules><rule name="nothing"><match url="^nothing$"/>
<action type="None"/></rule></rules></rewrite>"#;

fn status(state: &Path) -> Value {
    let output = run(state, &["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asks for the status until it is as `holds` wants it.
fn wait_for(state: &Path, holds: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let status = status(state);
        if holds(&status) {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "{status:#}");
    }
}

fn is_proven(mitigation: &Value) -> bool {
    let reason = mitigation["reason"].as_str().unwrap();
    mitigation["state"] == "Applied" && reason.starts_with("proven at ")
}

fn admin(daemon: &Daemon, path: &str) -> (u16, String) {
    let mut lines = daemon.greeting.iter();
    let address = lines.find_map(|line| line.strip_prefix("admin on http://"));
    let reply = Client::connect(address.unwrap().parse().unwrap()).get(path, &[]);
    let reply = reply.unwrap();
    (reply.status, reply.text())
}

#[test]
fn bundled_set_is_proven_through_plain_and_tls_listeners_and_nothing_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let log = folder.path().join("access.log");
    let made = rcgen::generate_simple_self_signed(vec!["mail.example".to_owned()]).unwrap();
    let (chain, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let daemon = Daemon::start(
        &state,
        &[
            "--tls-listen",
            "127.0.0.1:0",
            "--tls-certificate",
            chain.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
            "--access-log",
            log.to_str().unwrap(),
        ],
    );
    let status = wait_for(&state, |status| {
        let all = status["mitigations"].as_array().unwrap();
        let mut applied = all.iter().filter(|own| own["state"] == "Applied");
        applied.all(|own| is_proven(own) || own["reason"] == "unproven: no vector")
            && all.iter().any(is_proven)
    });
    let all = status["mitigations"].as_array().unwrap();
    assert!(
        all.iter().all(|own| own["state"] != "Drifted"),
        "{status:#}"
    );
    assert!(all.iter().all(|own| own["hits"] == 0), "{status:#}");
    let (_, metrics) = admin(&daemon, "/metrics");
    for line in metrics.lines() {
        if line.starts_with("stopgap_proxy_requests_total{") {
            assert!(line.ends_with(" 0"), "{line}");
        }
    }
    assert!(daemon.stop().success());
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "");
}

#[test]
fn what_does_not_do_what_it_should_has_drifted_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    let state = folder.path().join("state");
    std::fs::create_dir(&rules).unwrap();
    let (first, second) = (rules.join("a.xml"), rules.join("b.xml"));
    std::fs::write(&first, LET_PASS).unwrap();
    std::fs::write(&second, EVIL).unwrap();
    let daemon = Daemon::start(&state, &["--rules", rules.to_str().unwrap()]);
    let drifted = wait_for(&state, |status| {
        status["mitigations"][0]["state"] == "Drifted"
    });
    let reason = drifted["mitigations"][0]["reason"].as_str().unwrap();
    let address = daemon.address;
    let expected = format!("GET /evil must be stopped, and passes on http://{address}");
    assert_eq!(reason, expected);
    let alarm = |status: &Value| {
        let alarms = status["alarms"].as_array().unwrap();
        alarms.iter().any(|alarm| alarm["kind"] == "drifted")
    };
    assert!(alarm(&drifted), "{drifted:#}");
    assert_eq!(admin(&daemon, "/readyz").0, 200);

    replace_file(&first, NOTHING);
    let proven = wait_for(&state, |status| is_proven(&status["mitigations"][0]));
    assert!(!alarm(&proven), "{proven:#}");
    assert_eq!(proven["mitigations"][0]["hits"], 0);

    // A client that knows the field and not the secret gains nothing by it.
    let forged = "0".repeat(64);
    let reply = |target: &str| {
        let fields = [("X-Stopgap-Probe", forged.as_str())];
        let reply = Client::connect(address).get(target, &fields);
        reply.map(|reply| reply.status)
    };
    assert_eq!(reply("/evil"), Err(Lost::Reset));
    assert_eq!(reply("/good"), Ok(404));
}

#[test]
fn listener_that_demands_certificates_leaves_everything_unproven_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let made = rcgen::generate_simple_self_signed(vec!["mail.example".to_owned()]).unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::write(place("c.pem"), made.cert.pem()).unwrap();
    std::fs::write(place("k.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(place("evil.xml"), EVIL).unwrap();
    std::fs::write(
        place("s.toml"),
        "listen = ['127.0.0.1:0']\nrules = ['evil.xml']\n[admin]\naddress = '127.0.0.1:0'\n[[listener]]\n\
         address = '127.0.0.1:0'\ntls = [{ certificate = 'c.pem', key = 'k.pem' }]\nclient_ca = 'c.pem'\n",
    )
    .unwrap();
    let settings = place("s.toml");
    let arguments = ["run", "--config", settings.to_str().unwrap()];
    let daemon = Daemon::from_command(stopgap(&state, &arguments));
    let status = wait_for(&state, |status| {
        let reason = status["mitigations"][0]["reason"].as_str().unwrap();
        reason.contains("demands client certificates, which no probe has")
    });
    let own = &status["mitigations"][0];
    let reason = own["reason"].as_str().unwrap();
    assert_eq!(own["state"], "Applied");
    assert!(reason.starts_with("unproven: judged at "), "{reason}");
    assert!(reason.contains("; https://127.0.0.1:"), "{reason}");
    assert!(daemon.stop().success());
}
