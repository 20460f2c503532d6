//! Response rules of a mitigation in audit mode: what they would change is counted and told, and nothing is changed.

use std::path::Path;
use std::time::Duration;

use crate::support::client::{Client, Reply};
use crate::support::origin::{Origin, Then};
use crate::support::process::{Daemon, run};

const RULES: &str = r#"<EOCS version="1.0.4" xmlns:sg="urn:stopgap:feed:1">
<Config id="M70.1" desc="Hides things."><ActionList><Action type="UrlRewrite" scope="Server" desc="Hide">
<Value><![CDATA[<rewrite><outboundRules>
<rule name="server"><match serverVariable="RESPONSE_Server" pattern=".+"/><action type="Rewrite" value="hidden"/></rule>
<rule name="policy"><match serverVariable="RESPONSE_Content-Security-Policy" pattern=".*"/>
<action type="Rewrite" value="default-src 'self'"/></rule>
<rule name="word"><match pattern="secret"/><action type="Rewrite" value="word"/></rule>
</outboundRules></rewrite>]]></Value></Action></ActionList></Config></EOCS>"#;

fn ordered(state: &Path, words: &str) -> String {
    let output = run(state, &words.split(' ').collect::<Vec<_>>());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The values of the lines of `mitigation show` that speak of what is watched.
fn watched(state: &Path) -> Vec<String> {
    let shown = ordered(state, "mitigation show M70.1");
    let lines = shown.lines().map(str::trim);
    lines
        .filter_map(|line| {
            let value = line.strip_prefix("would change");
            value.or_else(|| line.strip_prefix("such as"))
        })
        .map(|value| value.trim().to_owned())
        .collect()
}

fn get(daemon: &Daemon, target: &str) -> Reply {
    let fields = [("Accept-Encoding", "gzip")];
    Client::connect(daemon.address)
        .get(target, &fields)
        .unwrap()
}

#[test]
fn what_would_be_changed_is_told_and_not_changed() {
    let origin = Origin::start(|connection, seen| {
        let target = seen.target().to_owned();
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        let fields = "Server: IIS\r\nContent-Type: text/plain\r\nETag: \"a\"\r\n";
        match target.split('?').next() {
            Some("/plain") => connection.answer("200 OK", "Content-Type: text/html\r\n", "nothing"),
            Some("/chunks") => {
                let head = "Transfer-Encoding: chunked\r\n\r\n";
                let chunks = "5\r\na sec\r\n3\r\nret\r\n0\r\n\r\n";
                connection.send(format!("HTTP/1.1 200 OK\r\n{fields}{head}{chunks}").as_bytes());
            }
            _ => connection.answer("200 OK", fields, "a secret"),
        }
        Then::Keep
    });
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let rules = folder.path().join("rules.xml");
    std::fs::write(&rules, RULES).unwrap();
    let upstream = format!("http://{}", origin.address);
    let (rules, upstream) = (rules.to_str().unwrap(), upstream.as_str());
    let daemon = Daemon::start(&state, &["--rules", rules, "--upstream", upstream]);

    ordered(&state, "mitigation block M70.1");
    let targets = ["/a/u@mail.example/b?x=1", "/chunks"];
    let untouched = targets.map(|target| get(&daemon, target));
    let asked = [origin.next(), origin.next()].map(|seen| seen.values("accept-encoding").concat());
    ordered(&state, "mitigation mode M70.1 audit");
    ordered(&state, "mitigation unblock M70.1");
    let passed = targets.map(|target| get(&daemon, target));
    assert_eq!(passed, untouched);
    let asked_again =
        [origin.next(), origin.next()].map(|seen| seen.values("accept-encoding").concat());
    assert_eq!(asked_again, asked);

    // Heads and bodies are known at different times, and count once.
    let told = watched(&state);
    assert_eq!(
        told,
        [
            "2",
            "GET /a/\u{2026}/b?\u{2026} -> content-security-policy, server",
            "GET /a/\u{2026}/b?\u{2026} -> body",
            "GET /chunks -> content-security-policy, server",
            "GET /chunks -> body",
        ]
    );
    get(&daemon, "/plain");
    assert_eq!(
        watched(&state).last().unwrap(),
        "GET /plain -> content-security-policy"
    );
    let document: serde_json::Value =
        serde_json::from_str(&ordered(&state, "status -o json")).unwrap();
    assert_eq!(document["mitigations"][0]["would_change"], 3);
    assert_eq!(document["mitigations"][0]["would_stop"], 0);
    assert_eq!(document["mitigations"][0]["hits"], 0);
    let admin = daemon
        .greeting
        .iter()
        .find_map(|line| line.split_once("admin on http://"));
    let admin = admin.unwrap().1.split_whitespace().next().unwrap();
    let line = "stopgap_control_watched_total{act=\"change\"} 3\n";
    let begun = std::time::Instant::now();
    loop {
        let page = Client::connect(admin.parse().unwrap()).get("/metrics", &[]);
        let page = page.unwrap().text();
        if page.contains(line) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{page}");
        // It is brought up to date once a second.
        std::thread::sleep(Duration::from_millis(20));
    }

    ordered(&state, "mitigation mode M70.1 enforce");
    let changed = get(&daemon, targets[0]);
    assert_eq!(changed.text(), "a word");
    assert_eq!(changed.field("server"), Some("hidden"));
}
