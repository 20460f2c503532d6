//! What the running instance says about itself: `status`, `mitigation`, `feed show`, `reload`, `kill-switch`.

use std::fmt::Write;

use hyper::Method;
use serde::Deserialize;

use super::builds::{self, Build};
use super::command::{
    InstanceArguments, KillSwitchArguments, ShowArguments, StatusArguments, Switch,
};
use super::exception::{self, Exception};
use super::exit::{Ended, Exit, Failure, OrExit};
use super::instance::ask;
use super::notifications::{self, Receiver};
use super::print;
use super::table::{Format, Table, printable};

/// Digits of a digest that a list shows.
const SHORT_DIGEST: usize = 12;

/// Characters of a reason that a list shows beside the state.
const SHORT_REASON: usize = 40;

/// The parts of the status document that are shown here; newer instances may say more.
#[derive(Debug, Deserialize)]
struct Status {
    version: String,
    started: String,
    revision: u64,
    kill_switch: bool,
    feeds: Vec<Feed>,
    rule_files: Vec<RuleFile>,
    #[serde(default)]
    servers: Vec<Server>,
    #[serde(default)]
    builds: Vec<Build>,
    #[serde(default)]
    notify: Vec<Receiver>,
    mitigations: Vec<Mitigation>,
    #[serde(default)]
    exceptions: Vec<Exception>,
    alarms: Vec<Alarm>,
    #[serde(default)]
    upstreams: Vec<Upstream>,
}

#[derive(Debug, Deserialize)]
struct Feed {
    name: String,
    source: String,
    trust: String,
    fresh: bool,
    last_success: Option<String>,
    age_seconds: Option<u64>,
    signed_at: Option<String>,
    signer: Option<String>,
    digest: Option<String>,
    #[serde(default)]
    version: Option<u64>,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    root: Option<u64>,
    refusal: Option<String>,
    notices: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct RuleFile {
    path: String,
    refusal: Option<String>,
    #[serde(default)]
    hits: u64,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Server {
    name: String,
    sidecar: Option<String>,
    driver: Option<String>,
    version: Option<String>,
    notice: Option<String>,
    last_answer: Option<String>,
    fault: Option<String>,
    unrestored: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Standing {
    server: String,
    state: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Mitigation {
    id: String,
    source: String,
    description: String,
    cve: String,
    reference: String,
    side_effects: String,
    group: String,
    actions: Vec<Action>,
    state: String,
    reason: String,
    #[serde(default)]
    retirable: Option<String>,
    #[serde(default)]
    servers: Vec<Standing>,
    hits: u64,
    #[serde(default)]
    would_stop: u64,
    #[serde(default)]
    would_change: u64,
    #[serde(default)]
    samples: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Action {
    kind: String,
    #[serde(default)]
    name: String,
    target: String,
    description: String,
}

#[derive(Debug, Deserialize)]
struct Rule {
    name: String,
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Alarm {
    kind: String,
    subject: String,
    reason: String,
    since: String,
}

#[derive(Debug, Deserialize)]
struct Upstream {
    name: String,
    servers: Vec<UpstreamServer>,
}

#[derive(Debug, Deserialize)]
struct UpstreamServer {
    server: String,
    state: String,
    reason: String,
    failures: u32,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    revision: u64,
    changed: bool,
    refused: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
}

pub(super) fn status(arguments: &StatusArguments) -> Ended {
    let (bytes, status) = read(&arguments.instance)?;
    match arguments.output {
        Format::Json => print(&pretty(&bytes)?),
        Format::Csv => print(&mitigation_table(&status).render(Format::Csv)),
        Format::Table => print(&overview(&status)),
    }
}

pub(super) fn mitigations(arguments: &StatusArguments) -> Ended {
    let (bytes, status) = read(&arguments.instance)?;
    match arguments.output {
        Format::Json => {
            let whole: serde_json::Value =
                serde_json::from_slice(&bytes).or_exit(Exit::Unreachable)?;
            print(&format!("{:#}\n", whole["mitigations"]))
        }
        Format::Csv => print(&mitigation_table(&status).render(Format::Csv)),
        Format::Table => print(&mitigation_list(&status)),
    }
}

pub(super) fn mitigation(id: &str, instance: &InstanceArguments) -> Ended {
    let (_, status) = read(instance)?;
    let mut text = String::new();
    for mitigation in status
        .mitigations
        .iter()
        .filter(|mitigation| mitigation.id == id)
    {
        text.push_str(&describe(mitigation));
    }
    match text.is_empty() {
        true => Err(Failure::new(
            Exit::Unreachable,
            format!(
                "the instance has no mitigation {id:?}; `stopgap mitigation list` names them all"
            ),
        )),
        false => print(&text),
    }
}

pub(super) fn feeds(arguments: &ShowArguments) -> Ended {
    let (_, status) = read(&arguments.instance)?;
    for name in &arguments.names {
        if !status.feeds.iter().any(|feed| feed.name == *name) {
            let text = format!("the instance has no feed {name:?}");
            return Err(Failure::new(Exit::Unreachable, text));
        }
    }
    let wanted = |feed: &&Feed| arguments.names.is_empty() || arguments.names.contains(&feed.name);
    let text: String = status
        .feeds
        .iter()
        .filter(wanted)
        .map(describe_feed)
        .collect();
    match text.is_empty() {
        true => print("no feeds\n"),
        false => print(&text),
    }
}

pub(super) fn reload(arguments: &InstanceArguments) -> Ended {
    outcome(&ask(arguments, Method::POST, "/reload")?)
}

pub(super) fn kill_switch(arguments: &KillSwitchArguments) -> Ended {
    let path = match arguments.state {
        Switch::On => "/kill-switch/on",
        Switch::Off => "/kill-switch/off",
    };
    outcome(&ask(&arguments.instance, Method::POST, path)?)
}

/// Prints what an order came to.
pub(super) fn outcome(bytes: &[u8]) -> Ended {
    let outcome: Outcome = serde_json::from_slice(bytes).or_exit(Exit::Unreachable)?;
    let word = if outcome.changed {
        "published"
    } else {
        "unchanged"
    };
    let mut text = format!("revision {} {word}\n", outcome.revision);
    for note in &outcome.notes {
        text.push_str(&format!("note: {}\n", printable(note)));
    }
    print(&text)?;
    match outcome.refused.is_empty() {
        true => Ok(Exit::Done),
        false => {
            let refused: Vec<String> = outcome.refused.iter().map(|line| printable(line)).collect();
            Err(Failure::new(
                Exit::Invalid,
                format!(
                    "refused, and what was in force stays:\n  {}",
                    refused.join("\n  ")
                ),
            ))
        }
    }
}

fn read(instance: &InstanceArguments) -> Result<(Vec<u8>, Status), Failure> {
    let bytes = ask(instance, Method::GET, "/status")?;
    let status = serde_json::from_slice(&bytes).or_exit(Exit::Unreachable)?;
    Ok((bytes, status))
}

fn pretty(bytes: &[u8]) -> Result<String, Failure> {
    let value: serde_json::Value = serde_json::from_slice(bytes).or_exit(Exit::Unreachable)?;
    Ok(format!("{value:#}\n"))
}

fn overview(status: &Status) -> String {
    let Status {
        version,
        started,
        revision,
        ..
    } = status;
    let switch = if status.kill_switch {
        ", KILL SWITCH ON"
    } else {
        ""
    };
    let mut text = format!("stopgap {version}, since {started}, revision {revision}{switch}\n");
    if !status.feeds.is_empty() {
        text.push('\n');
        text.push_str(&feed_table(&status.feeds).render(Format::Table));
    }
    if !status.rule_files.is_empty() {
        text.push('\n');
        text.push_str(&rule_file_table(&status.rule_files).render(Format::Table));
    }
    if status.servers.iter().any(|server| server.sidecar.is_some()) {
        text.push('\n');
        text.push_str(&server_table(&status.servers).render(Format::Table));
    }
    if !status.upstreams.is_empty() {
        text.push('\n');
        text.push_str(&upstream_table(&status.upstreams).render(Format::Table));
    }
    if !status.builds.is_empty() {
        text.push('\n');
        text.push_str(&builds::table(&status.builds).render(Format::Table));
    }
    text.push('\n');
    text.push_str(&match status.mitigations.is_empty() {
        true => "no mitigations\n".to_owned(),
        false => mitigation_list(status),
    });
    if !status.exceptions.is_empty() {
        text.push('\n');
        text.push_str(&exception::table(&status.exceptions).render(Format::Table));
    }
    if !status.notify.is_empty() {
        text.push('\n');
        text.push_str(&notifications::table(&status.notify).render(Format::Table));
    }
    text.push('\n');
    if status.alarms.is_empty() {
        text.push_str("no alarms\n");
    } else {
        let mut table = Table::new(&["alarm", "about", "since", "reason"]);
        for Alarm {
            kind,
            subject,
            reason,
            since,
        } in &status.alarms
        {
            table.row(vec![
                kind.clone(),
                subject.clone(),
                since.clone(),
                reason.clone(),
            ]);
        }
        text.push_str(&table.render(Format::Table));
    }
    text
}

fn upstream_table(upstreams: &[Upstream]) -> Table {
    let mut table = Table::new(&["server", "upstream", "state", "failures", "reason"]);
    for Upstream { name, servers } in upstreams {
        let dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        for server in servers {
            table.row(vec![
                server.server.clone(),
                dash(name),
                server.state.clone(),
                server.failures.to_string(),
                dash(&server.reason),
            ]);
        }
    }
    table
}

fn feed_table(feeds: &[Feed]) -> Table {
    let mut table = Table::new(&["feed", "last success", "age", "fresh", "digest", "refusal"]);
    for feed in feeds {
        table.row(vec![
            feed.name.clone(),
            feed.last_success
                .clone()
                .unwrap_or_else(|| "never".to_owned()),
            feed.age_seconds.map_or_else(|| "-".to_owned(), age),
            yes(feed.fresh).to_owned(),
            feed.digest
                .as_deref()
                .map_or("-", |digest| short(digest))
                .to_owned(),
            feed.refusal.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table
}

fn server_table(servers: &[Server]) -> Table {
    let mut table = Table::new(&[
        "server",
        "sidecar",
        "driver",
        "version",
        "last answer",
        "remark",
    ]);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for server in servers {
        let remarks = [&server.fault, &server.notice];
        let mut remarks: Vec<&str> = remarks.into_iter().flatten().map(String::as_str).collect();
        remarks.extend(server.unrestored.iter().map(String::as_str));
        table.row(vec![
            server.name.clone(),
            server.sidecar.clone().unwrap_or_else(|| "none".to_owned()),
            or_dash(&server.driver),
            or_dash(&server.version),
            server
                .last_answer
                .clone()
                .unwrap_or_else(|| "never".to_owned()),
            match remarks.is_empty() {
                true => "-".to_owned(),
                false => remarks.join("; "),
            },
        ]);
    }
    table
}

fn rule_file_table(files: &[RuleFile]) -> Table {
    let mut table = Table::new(&["rule file", "rules", "hits", "refusal"]);
    for file in files {
        table.row(vec![
            file.path.clone(),
            rule_kinds(&file.rules),
            file.hits.to_string(),
            file.refusal.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table
}

/// Every mitigation, with reasons and descriptions whole.
fn mitigation_table(status: &Status) -> Table {
    let mut table = Table::new(&[
        "id",
        "source",
        "kind",
        "target",
        "state",
        "reason",
        "hits",
        "rules",
        "description",
    ]);
    for mitigation in &status.mitigations {
        table.row(vec![
            mitigation.id.clone(),
            mitigation.source.clone(),
            kinds(mitigation),
            targets(mitigation),
            mitigation.state.clone(),
            mitigation.reason.clone(),
            mitigation.hits.to_string(),
            rule_kinds(&mitigation.rules),
            mitigation.description.clone(),
        ]);
    }
    table
}

/// Every mitigation as people read it: long reasons below the list, where they do not widen it.
fn mitigation_list(status: &Status) -> String {
    let mut table = Table::new(&[
        "id",
        "source",
        "kind",
        "target",
        "state",
        "hits",
        "rules",
        "description",
    ]);
    let mut reasons = String::new();
    for mitigation in &status.mitigations {
        let Mitigation {
            id, state, reason, ..
        } = mitigation;
        let shown = match reason.chars().count() {
            0 => state.clone(),
            1..=SHORT_REASON => format!("{state} ({reason})"),
            _ => {
                // Writing to a string cannot fail.
                let _ = writeln!(reasons, "{}: {state}: {}", printable(id), printable(reason));
                format!("{state} (see below)")
            }
        };
        if let Some(servers) = &mitigation.retirable {
            let text = builds::proposal(id, servers);
            let _ = writeln!(reasons, "{}: {}", printable(id), printable(&text));
        }
        table.row(vec![
            id.clone(),
            mitigation.source.clone(),
            kinds(mitigation),
            targets(mitigation),
            shown,
            mitigation.hits.to_string(),
            rule_kinds(&mitigation.rules),
            mitigation.description.clone(),
        ]);
    }
    let mut text = table.render(Format::Table);
    if !reasons.is_empty() {
        text.push('\n');
        text.push_str(&reasons);
    }
    text
}

/// The kinds of its actions, each named once.
fn kinds(mitigation: &Mitigation) -> String {
    let mut kinds: Vec<&str> = mitigation
        .actions
        .iter()
        .map(|action| action.kind.as_str())
        .collect();
    kinds.dedup();
    kinds.join("+")
}

/// The targets of its actions, each named once.
fn targets(mitigation: &Mitigation) -> String {
    let mut targets: Vec<&str> = mitigation
        .actions
        .iter()
        .map(|action| action.target.as_str())
        .collect();
    targets.dedup();
    targets.join("+")
}

/// How many rules there are of each kind, such as `2 request, 1 response`.
fn rule_kinds(rules: &[Rule]) -> String {
    let counts = ["request", "response"]
        .map(|kind| (kind, rules.iter().filter(|rule| rule.kind == kind).count()));
    let shown: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    match shown.is_empty() {
        true => "-".to_owned(),
        false => shown.join(", "),
    }
}

fn describe(mitigation: &Mitigation) -> String {
    let mut lines = Lines::new(&format!("{} ({})", mitigation.id, mitigation.source));
    lines.add("state", &mitigation.state);
    lines.add("reason", &mitigation.reason);
    if let Some(servers) = &mitigation.retirable {
        lines.add("retirable", &builds::proposal(&mitigation.id, servers));
    }
    lines.add("description", &mitigation.description);
    lines.add("vulnerability", &mitigation.cve);
    lines.add("reference", &mitigation.reference);
    lines.add("side effects", &mitigation.side_effects);
    lines.add("group", &mitigation.group);
    lines.add("hits", &mitigation.hits.to_string());
    if mitigation.would_stop > 0 {
        lines.add("would stop", &mitigation.would_stop.to_string());
    }
    if mitigation.would_change > 0 {
        lines.add("would change", &mitigation.would_change.to_string());
    }
    for sample in &mitigation.samples {
        lines.add("such as", sample);
    }
    for Action {
        kind,
        name,
        target,
        description,
    } in &mitigation.actions
    {
        let what = format!("{kind} {name}");
        lines.add(
            "action",
            format!("{} on {target} {description}", what.trim_end()).trim_end(),
        );
    }
    for Standing {
        server,
        state,
        reason,
    } in &mitigation.servers
    {
        lines.add("server", format!("{server} {state} {reason}").trim_end());
    }
    for Rule { name, kind } in &mitigation.rules {
        lines.add("rule", &format!("{name} ({kind})"));
    }
    lines.text
}

fn describe_feed(feed: &Feed) -> String {
    let mut lines = Lines::new(&feed.name);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    lines.add("source", &feed.source);
    lines.add("trust", &feed.trust);
    lines.add("fresh", yes(feed.fresh));
    lines.add(
        "last success",
        &feed
            .last_success
            .clone()
            .unwrap_or_else(|| "never".to_owned()),
    );
    lines.add("age", &feed.age_seconds.map(age).unwrap_or_default());
    lines.add("signed at", &text(&feed.signed_at));
    lines.add("signer", &text(&feed.signer));
    lines.add("digest", &text(&feed.digest));
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    lines.add("version", &number(feed.version));
    lines.add("expires", &text(&feed.expires));
    lines.add("root", &number(feed.root));
    lines.add("refusal", &text(&feed.refusal));
    for notice in &feed.notices {
        lines.add("notice", notice);
    }
    lines.text
}

/// A heading with named values below it.
struct Lines {
    text: String,
}

impl Lines {
    fn new(heading: &str) -> Self {
        Self {
            text: format!("{}\n", printable(heading)),
        }
    }

    /// Adds a value, unless it is empty.
    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(self.text, "  {name:14}{}", printable(value));
        }
    }
}

const fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn short(digest: &str) -> &str {
    digest.get(..SHORT_DIGEST).unwrap_or(digest)
}

/// Seconds as people say them, such as `3h 5m`.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_readable() {
        for (seconds, shown) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (7_500, "2h 5m"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(age(seconds), shown);
        }
    }

    #[test]
    fn overview_lists_every_kind() {
        let text = r#"{"version":"1","started":"then","revision":3,"kill_switch":false,"extra":1,
            "feeds":[{"name":"ms","source":"https://h/","trust":"microsoft-eocs","fresh":false,"last_success":null,
              "age_seconds":null,"signed_at":null,"signer":null,"digest":"0123456789abcdef","refusal":"no connection",
              "notices":[]}],
            "rule_files":[{"path":"a.xml","refusal":null,"hits":2,"rules":[{"name":"r","kind":"response"}]}],
            "builds":[{"site":"s","server":"http://a:80","product":"exchange","build":null,"place":null,
              "learned":null,"fault":"no connection"}],
            "mitigations":[{"id":"M2.1","source":"bundled","description":"d","cve":"","reference":"","side_effects":"",
              "group":"","actions":[{"kind":"UrlRewrite","target":"Server","description":""}],"state":"Applied",
              "reason":"","retirable":"exchange 15.2.1118.20 on a","hits":7,"rules":[{"name":"a","kind":"request"},{"name":"b","kind":"response"}]}],
            "alarms":[{"kind":"stale","subject":"ms","reason":"never fetched","since":"now"}]}"#;
        let shown = overview(&serde_json::from_str(text).unwrap());
        for part in [
            "revision 3",
            "ms    never         -    no     0123456789ab  no connection",
            "a.xml      1 response  2     -",
            "http://a:80  s     exchange  unknown  -         -        no connection",
            "M2.1: fixed on every server (exchange 15.2.1118.20 on a): `stopgap mitigation retire M2.1` retires it",
            "M2.1  bundled  UrlRewrite  Server  Applied  7     1 request, 1 response  d",
            "stale  ms     now    never fetched",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
    }
}
