//! What operators decide about mitigations: at once in force, kept across restarts, and taken down.

use std::path::Path;

use serde_json::Value;

use crate::support::client::{Client, Lost};
use crate::support::process::{Daemon, run, stopgap};

const TWO: &str = r#"<EOCS version="1.0.4" xmlns:sg="urn:stopgap:feed:1">
<Config id="M70.1" desc="Stops evil."><ActionList><Action type="UrlRewrite" scope="Server" desc="Abort">
<Value><![CDATA[<rewrite><rules><rule name="evil" stopProcessing="true"><match url="^evil$"/>
<action type="AbortRequest"/></rule></rules></rewrite>]]></Value></Action></ActionList>
<sg:vectors><sg:stop target="/evil"/><sg:pass target="/good"/></sg:vectors></Config>
<Config id="M80.1" desc="Stops worse." sg:approval="required"><ActionList>
<Action type="UrlRewrite" scope="Server" desc="Abort"><Value><![CDATA[<rewrite><rules>
<rule name="worse" stopProcessing="true"><match url="^worse$"/><action type="AbortRequest"/></rule>
</rules></rewrite>]]></Value></Action></ActionList>
<sg:vectors><sg:stop target="/worse"/><sg:pass target="/good"/></sg:vectors></Config></EOCS>"#;

fn ordered(state: &Path, words: &str) -> Result<String, (Option<i32>, String)> {
    let output = run(state, &words.split(' ').collect::<Vec<_>>());
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err((
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )),
    }
}

fn answer(daemon: &Daemon, target: &str) -> Result<u16, Lost> {
    let reply = Client::connect(daemon.address).get(target, &[]);
    reply.map(|reply| reply.status)
}

fn history(state: &Path, id: &str) -> Vec<(String, String)> {
    let text = ordered(state, &format!("mitigation history {id} -o json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let word = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| (word(row, "before"), word(row, "state")))
        .collect()
}

fn states(steps: &[(&str, &str)]) -> Vec<(String, String)> {
    steps
        .iter()
        .map(|(before, state)| ((*before).to_owned(), (*state).to_owned()))
        .collect()
}

#[test]
fn decisions_act_at_once_and_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let rules = folder.path().join("two.xml");
    std::fs::write(&rules, TWO).unwrap();
    let start = || Daemon::start(&state, &["--rules", rules.to_str().unwrap()]);
    let daemon = start();
    assert_eq!(answer(&daemon, "/evil"), Err(Lost::Reset));
    assert_eq!(answer(&daemon, "/worse"), Ok(404));

    ordered(&state, "mitigation block M70").unwrap();
    assert_eq!(answer(&daemon, "/evil"), Ok(404));
    ordered(&state, "mitigation approve M80.1").unwrap();
    assert_eq!(answer(&daemon, "/worse"), Err(Lost::Reset));
    let again = ordered(&state, "mitigation block M70").unwrap();
    assert!(again.contains("it was so already"), "{again}");
    let unknown = ordered(&state, "mitigation block M99").unwrap();
    assert!(unknown.contains("no source offers M99 now"), "{unknown}");

    daemon.kill();
    let daemon = start();
    assert_eq!(answer(&daemon, "/evil"), Ok(404));
    assert_eq!(answer(&daemon, "/worse"), Err(Lost::Reset));

    let (code, why) = ordered(&state, "mitigation unblock M70.1").unwrap_err();
    assert_eq!(code, Some(1));
    assert!(why.contains("unblock M70"), "{why}");
    ordered(&state, "mitigation unblock M70").unwrap();
    assert_eq!(answer(&daemon, "/evil"), Err(Lost::Reset));
    ordered(&state, "mitigation mode M70.1 audit").unwrap();
    assert_eq!(answer(&daemon, "/evil"), Ok(404));
    assert_eq!(answer(&daemon, "/evil?mailbox=secret"), Ok(404));
    assert_eq!(answer(&daemon, "/good"), Ok(404));
    let shown = ordered(&state, "mitigation show M70.1").unwrap();
    let told: Vec<&str> = shown
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("would stop") || line.starts_with("such as"))
        .map(|line| {
            line.rsplit_once("  ")
                .map_or(line, |(_, value)| value)
                .trim()
        })
        .collect();
    assert_eq!(told, ["2", "GET /evil", "GET /evil?\u{2026}"], "{shown}");
    ordered(&state, "mitigation mode M70.1 published").unwrap();
    assert_eq!(answer(&daemon, "/evil"), Err(Lost::Reset));
    let reapplied = ordered(&state, "mitigation reapply M70.1").unwrap();
    assert!(reapplied.contains("published"), "{reapplied}");
    let (code, why) = ordered(&state, "mitigation reapply M98").unwrap_err();
    assert_eq!(code, Some(1));
    assert!(why.contains("no source offers M98"), "{why}");

    // The kill is no transition; everything else is one.
    let expected = states(&[
        ("", "Applied"),
        ("Applied", "Blocked"),
        ("Blocked", "Applied"),
        ("Applied", "Audit"),
        ("Audit", "Applied"),
    ]);
    assert_eq!(history(&state, "M70"), expected);
    let expected = states(&[("", "AwaitingApproval"), ("AwaitingApproval", "Applied")]);
    assert_eq!(history(&state, "M80.1"), expected);

    let list = ordered(&state, "mitigation list --exchange -o csv").unwrap();
    assert!(
        list.starts_with("Server,ID,Type,Description,Status\r\nlocalhost,M70.1,UrlRewrite,"),
        "{list}"
    );
}

#[test]
fn decisions_that_make_no_sense_change_nothing() {
    let state = tempfile::tempdir().unwrap();
    let _daemon = Daemon::start(state.path(), &[]);
    for (words, code) in [
        ("mitigation block m2", 2),
        ("mitigation mode M1.1 off", 2),
        ("mitigation unblock M1.1", 1),
    ] {
        let (found, why) = ordered(state.path(), words).unwrap_err();
        assert_eq!(found, Some(code), "{words}: {why}");
    }
}

#[test]
fn approval_is_for_what_was_offered() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let rules = folder.path().join("two.xml");
    std::fs::write(&rules, TWO).unwrap();
    let daemon = Daemon::start(&state, &["--rules", rules.to_str().unwrap()]);
    let offer = |text: &str| {
        std::fs::write(&rules, text).unwrap();
        ordered(&state, "reload").unwrap();
    };
    let refused = |words: &str| {
        let (code, why) = ordered(&state, words).unwrap_err();
        assert_eq!(code, Some(1), "{why}");
        why
    };
    assert!(refused("mitigation approve M99").contains("approve it when one does"));
    assert!(refused("mitigation approve M70").contains("waits for no approval"));
    ordered(&state, "mitigation approve M80").unwrap();
    let again = ordered(&state, "mitigation approve M80.1").unwrap();
    assert!(again.contains("it was so already"), "{again}");
    assert_eq!(answer(&daemon, "/worse"), Err(Lost::Reset));
    // Other words for people are the same mitigation.
    offer(&TWO.replace("Stops worse.", "Stops what is worse."));
    assert_eq!(answer(&daemon, "/worse"), Err(Lost::Reset));
    // Other rules are not, nor is what was never shown.
    let changed = TWO.replace("^worse$", "^wor").replace("/worse", "/worst");
    offer(&changed);
    assert_eq!(
        [answer(&daemon, "/worst"), answer(&daemon, "/worse")],
        [Ok(404), Ok(404)]
    );
    let list = ordered(&state, "mitigation list").unwrap();
    assert!(list.contains("AwaitingApproval"), "{list}");
    ordered(&state, "mitigation approve M80.1").unwrap();
    assert_eq!(answer(&daemon, "/worst"), Err(Lost::Reset));
    // What was approved once stays approved.
    offer(TWO);
    assert_eq!(
        [answer(&daemon, "/worst"), answer(&daemon, "/worse")],
        [Ok(404), Err(Lost::Reset)]
    );
    daemon.kill();
    let daemon = Daemon::start(&state, &["--rules", rules.to_str().unwrap()]);
    assert_eq!(answer(&daemon, "/worse"), Err(Lost::Reset));
    assert!(daemon.stop().success());
}

#[test]
fn approval_may_be_for_the_id() {
    let folder = tempfile::tempdir().unwrap();
    let (state, rules) = (folder.path().join("state"), folder.path().join("two.xml"));
    std::fs::write(&rules, TWO).unwrap();
    let file = folder.path().join("s.toml");
    let settings = "listen = ['127.0.0.1:0']\nrules = ['two.xml']\n[admin]\naddress = '127.0.0.1:0'\n[policy]\n\
                    approval_of = 'id'\n";
    std::fs::write(&file, settings).unwrap();
    let daemon = Daemon::from_command(stopgap(
        &state,
        &["run", "--config", file.to_str().unwrap()],
    ));
    ordered(&state, "mitigation approve M80").unwrap();
    std::fs::write(&rules, TWO.replace("^worse$", "^wor")).unwrap();
    ordered(&state, "reload").unwrap();
    assert_eq!(answer(&daemon, "/worst"), Err(Lost::Reset));
    assert!(daemon.stop().success());
}
