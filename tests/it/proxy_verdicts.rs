//! What rules do on the wire: to the request, to the connection, to the response, and in the logs.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stopgap::filter::Snapshot;
use stopgap::model::Revision;
use stopgap::proxy::{AccessFormat, AccessLog, DecisionLog};
use stopgap::telemetry::{LineWriter, Metrics};

use crate::support::client::Lost;
use crate::support::origin::Origin;
use crate::support::proxy::{before, block_on, rules};

const ABORT: &str =
    r#"<rule name="abort"><match url="^bad" /><action type="AbortRequest" /></rule>"#;
const CUSTOM: &str = r#"<rule name="custom"><match url="^secret" />
    <action type="CustomResponse" statusCode="403" subStatusCode="7" statusReason="Forbidden: by rule" statusDescription="Not here." /></rule>"#;
const REDIRECT: &str = r#"<rule name="redirect"><match url="^old/(.*)" />
    <action type="Redirect" url="/new/{R:1}" redirectType="Found" /></rule>"#;
const REWRITE: &str = r#"<rule name="rewrite"><match url="^from/(.*)" />
    <action type="Rewrite" url="/to/{R:1}" appendQueryString="true" /></rule>"#;

#[test]
fn abort_resets_the_connection_without_a_byte() {
    let origin = Origin::answering("x");
    let proxy = before(&[&origin]).rules(ABORT).start();
    for body in [&b""[..], &b"some body"[..]] {
        let mut client = proxy.client();
        assert_eq!(client.get("/good", &[]).unwrap().status, 200);
        assert_eq!(
            client.request("POST", "/bad?x", &[], body),
            Err(Lost::Reset)
        );
        origin.next();
    }
    assert_eq!(origin.others(), []);
    assert_eq!(
        proxy.metric("stopgap_proxy_requests_total{outcome=\"aborted\"}"),
        2.0
    );
}

#[test]
fn custom_response_keeps_the_connection() {
    let origin = Origin::answering("x");
    let proxy = before(&[&origin]).rules(CUSTOM).start();
    let mut client = proxy.client();
    for body in [&b""[..], &b"small"[..], &[b'x'; 65_536]] {
        let reply = client.request("POST", "/secret", &[], body).unwrap();
        assert_eq!(
            (reply.status, reply.reason.as_str(), reply.text().as_str()),
            (403, "Forbidden: by rule", "Not here.")
        );
        assert_eq!(
            reply.field("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(reply.field("connection"), None);
    }
    assert_eq!(client.get("/open", &[]).unwrap().status, 200);
    assert_eq!(origin.next().target(), "/open");
    assert_eq!(origin.others(), []);
}

#[test]
fn custom_response_to_a_large_body_closes_and_still_arrives() {
    let origin = Origin::answering("x");
    let proxy = before(&[&origin]).rules(CUSTOM).start();
    let large = vec![b'x'; 65_537];
    let mut client = proxy.client();
    let reply = client.request("POST", "/secret", &[], &large).unwrap();
    assert_eq!(
        (reply.status, reply.field("connection")),
        (403, Some("close"))
    );
    assert_eq!(client.rest().unwrap(), b"");
    let mut waiting = proxy.client();
    waiting.send(b"POST /secret HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
    let reply = waiting.reply("POST").unwrap();
    assert_eq!(
        (reply.status, reply.field("connection")),
        (403, Some("close"))
    );
    assert_eq!(waiting.rest().unwrap(), b"");
}

#[test]
fn redirect_names_the_whole_location() {
    let origin = Origin::answering("x");
    let proxy = before(&[&origin]).rules(REDIRECT).start();
    let mut client = proxy.client();
    let reply = client
        .get("/old/a?b=c", &[("Host", "mail.example:81")])
        .unwrap();
    assert_eq!(
        (reply.status, reply.field("location")),
        (302, Some("http://mail.example:81/new/a?b=c"))
    );
    assert_eq!(client.get("/other", &[]).unwrap().status, 200);
}

#[test]
fn rewrite_changes_the_target_and_never_the_server() {
    let foreign = r#"<rule name="foreign"><match url="^away" /><action type="Rewrite" url="http://127.0.0.2:9/x" /></rule>"#;
    let origin = Origin::answering("x");
    let proxy = before(&[&origin])
        .rules(&[REWRITE, foreign].concat())
        .start();
    let mut client = proxy.client();
    assert_eq!(client.get("/from/a?b=c", &[]).unwrap().status, 200);
    assert_eq!(origin.next().target(), "/to/a?b=c");
    assert_eq!(client.get("/away", &[]).unwrap().status, 404);
    assert_eq!(origin.others(), []);
}

#[test]
fn rules_see_fields_that_the_connection_field_would_hide() {
    let rule = r#"<rule name="cookie"><match url=".*" /><conditions>
        <add input="{HTTP_COOKIE}" pattern="backend" /></conditions><action type="AbortRequest" /></rule>"#;
    let origin = Origin::answering("x");
    let proxy = before(&[&origin]).rules(rule).start();
    let fields = [("Connection", "close, Cookie"), ("Cookie", "X-BackEnd=a~1")];
    assert_eq!(proxy.client().get("/", &fields), Err(Lost::Reset));
    let hidden = [
        ("X-Original-URL", "/backend"),
        ("Connection", "Cookie"),
        ("Cookie", "a=b"),
    ];
    assert_eq!(proxy.client().get("/", &hidden).unwrap().status, 200);
    assert_eq!(origin.next().values("cookie"), Vec::<&str>::new());
}

#[test]
fn a_new_snapshot_holds_for_the_next_request_of_an_old_connection() {
    let origin = Origin::answering("x");
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/secret", &[]).unwrap().status, 200);
    proxy
        .handle
        .publish(Snapshot::single(Revision(2), rules(CUSTOM)));
    assert_eq!(client.get("/secret", &[]).unwrap().status, 403);
    proxy
        .handle
        .publish(Snapshot::single(Revision(3), rules("")));
    assert_eq!(client.get("/secret", &[]).unwrap().status, 200);
}

/// Sends what is written to a channel.
struct Lines(SyncSender<Vec<u8>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> (LineWriter, Receiver<Vec<u8>>) {
    let (lines, written) = sync_channel(1_000);
    let dropped = Metrics::default().counter("dropped", "Dropped lines");
    (
        LineWriter::spawn("test-log", Lines(lines), dropped).unwrap(),
        written,
    )
}

fn next_lines(written: &Receiver<Vec<u8>>, count: usize) -> Vec<String> {
    let mut text = Vec::new();
    while text.iter().filter(|&&byte| byte == b'\n').count() < count {
        text.extend(written.recv_timeout(Duration::from_secs(20)).unwrap());
    }
    String::from_utf8(text)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn decisions(writer: LineWriter, lines_per_second: u32) -> DecisionLog {
    DecisionLog {
        writer,
        lines_per_second,
    }
}

#[test]
fn decisions_are_logged_with_rule_and_request() {
    let origin = Origin::answering("x");
    let (writer, written) = log();
    let proxy = before(&[&origin])
        .rules(&[ABORT, CUSTOM, REWRITE].concat())
        .config(|config| config.decision_log = Some(decisions(writer, 1_000)))
        .start();
    let mut client = proxy.client();
    client.get("/fine", &[]).unwrap();
    let reply = client
        .get("/secret?a=%22%0d", &[("Host", "Mail.example")])
        .unwrap();
    client.get("/from/x", &[]).unwrap();
    client.get("/bad", &[]).unwrap_err();
    let lines: Vec<Value> = next_lines(&written, 3)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said: Vec<(&str, &str, u64)> = lines
        .iter()
        .map(|line| {
            (
                line["action"].as_str().unwrap(),
                line["rule"].as_str().unwrap(),
                line["status"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("respond", "custom", 403),
            ("rewrite", "rewrite", 0),
            ("abort", "abort", 0)
        ]
    );
    let line = &lines[0];
    assert_eq!(line["request_id"].as_str(), reply.field("x-request-id"));
    assert_eq!(line["target"], "/secret?a=%22%0d");
    assert_eq!(line["host"], "Mail.example");
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["mitigation"], Value::Null);
    assert_eq!(line["source"], "test.xml");
    assert_eq!(line["time"], "2023-11-14T22:13:20Z");
}

/// The lines of requests, and the counts of those without one, each by rule.
#[derive(Debug, Default)]
struct Said {
    lines: BTreeMap<String, u64>,
    omitted: BTreeMap<String, u64>,
}

impl Said {
    fn read(&mut self, text: &[u8]) {
        for line in std::str::from_utf8(text).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let rule = line["rule"].as_str().unwrap().to_owned();
            if line["action"] != "omitted" {
                *self.lines.entry(rule).or_default() += 1;
                continue;
            }
            let expected = json!({
                "time": "2023-11-14T22:13:20Z",
                "action": "omitted",
                "count": line["count"],
                "rule": rule,
                "mitigation": null,
                "source": "test.xml",
            });
            assert_eq!(line, expected);
            let count = line["count"].as_u64().unwrap();
            assert!(count > 0);
            *self.omitted.entry(rule).or_default() += count;
        }
    }

    /// Decisions of a rule.
    fn of(&self, rule: &str) -> u64 {
        [&self.lines, &self.omitted]
            .iter()
            .filter_map(|counts| counts.get(rule))
            .sum()
    }
}

#[test]
fn decisions_beyond_the_limit_are_counted_for_each_rule() {
    let origin = Origin::answering("x");
    // A quote in a name is told as in any other line.
    let custom = CUSTOM.replace("\"custom\"", "\"cus&quot;tom\"");
    for ends_by_draining in [true, false] {
        let (writer, written) = log();
        let begun = Instant::now();
        let proxy = before(&[&origin])
            .rules(&[&custom, REDIRECT].concat())
            .config(|config| config.decision_log = Some(decisions(writer, 1)))
            .start();
        let mut client = proxy.client();
        let mut get = |target: &str, times: u64, status: u16| {
            for _ in 0..times {
                assert_eq!(client.get(target, &[]).unwrap().status, status);
            }
        };
        get("/secret", 200, 403);
        get("/old/a", 1, 302);
        get("/old/a", 2, 302);
        get("/open", 3, 200);
        let mut said = Said::default();
        // Told while the proxy serves, once the second is over.
        while said.omitted.is_empty() {
            said.read(&written.recv_timeout(Duration::from_secs(20)).unwrap());
        }
        get("/secret", 100, 403);
        let metrics = proxy.metrics.clone();
        if ends_by_draining {
            block_on(proxy.running.drain(Duration::ZERO));
        }
        drop(proxy);
        let seconds = begun.elapsed().as_secs() + 1;
        // The rest, told at the end.
        written.iter().for_each(|text| said.read(&text));
        let told = ["cus\"tom", "redirect"].map(|rule| said.of(rule));
        assert_eq!(told, [300, 3], "{said:?}");
        assert!(said.lines["redirect"] > 0, "{said:?}");
        // A burst, a line a second, and the first of each rule in each second.
        let lines: u64 = said.lines.values().sum();
        assert!(
            lines <= 10 + seconds + 2 * (seconds + 1),
            "{lines} in {seconds} s"
        );
        let omitted: u64 = said.omitted.values().sum();
        let shown = format!("stopgap_decision_lines_omitted_total {omitted}\n");
        assert!(metrics.render().contains(&shown), "{omitted}");
    }
}

#[test]
fn every_decision_has_its_line_without_a_limit() {
    let origin = Origin::answering("x");
    for (limit, omits) in [(0, false), (1, true)] {
        let (writer, written) = log();
        let proxy = before(&[&origin])
            .rules(CUSTOM)
            .config(|config| config.decision_log = Some(decisions(writer, limit)))
            .start();
        let mut client = proxy.client();
        for _ in 0..300 {
            assert_eq!(client.get("/secret", &[]).unwrap().status, 403);
        }
        drop(proxy);
        let mut said = Said::default();
        written.iter().for_each(|text| said.read(&text));
        assert_eq!(said.of("custom"), 300);
        assert_eq!(said.omitted.contains_key("custom"), omits, "{said:?}");
    }
}

#[test]
fn every_answer_has_its_access_line() {
    let origin = Origin::answering("hello");
    for format in [AccessFormat::Combined, AccessFormat::Json] {
        let (writer, written) = log();
        let proxy = before(&[&origin])
            .rules(&[ABORT, CUSTOM].concat())
            .config(|config| config.access_log = Some(AccessLog { writer, format }))
            .start();
        let mut client = proxy.client();
        client.get("/a?b", &[("User-Agent", "te\"st")]).unwrap();
        client.get("/secret", &[]).unwrap();
        client.get("/bad", &[]).unwrap_err();
        let mut client = proxy.client();
        client.send(b"GET / HTTP/9.9\x1b\r\n\r\n").unwrap();
        assert_eq!(client.reply("GET").unwrap().status, 400);
        let lines = next_lines(&written, 4);
        match format {
            AccessFormat::Combined => {
                let start = "127.0.0.1 - - [2023-11-14T22:13:20Z] \"GET /a?b HTTP/1.1\" 200 5 \"-\" \"te\\x22st\" ";
                assert!(
                    lines[0].starts_with(start) && lines[0].contains(" forwarded "),
                    "{}",
                    lines[0]
                );
                assert!(
                    lines[1].contains("\"GET /secret HTTP/1.1\" 403 9 ")
                        && lines[1].contains(" responded ")
                );
                assert!(
                    lines[2].contains("\"GET /bad HTTP/1.1\" 0 0 ")
                        && lines[2].contains(" aborted ")
                );
                assert!(
                    lines[3].contains("\"GET / HTTP/9.9\\x1b\" 400 "),
                    "{}",
                    lines[3]
                );
            }
            AccessFormat::Json => {
                let lines: Vec<Value> = lines
                    .iter()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
                let said: Vec<_> = lines
                    .iter()
                    .map(|line| line["verdict"].as_str().unwrap())
                    .collect();
                assert_eq!(said, ["forwarded", "responded", "aborted", "refused"]);
                assert_eq!(lines[0]["user_agent"], "te\"st");
                assert_eq!(lines[3]["unread"], "GET / HTTP/9.9\u{1b}");
            }
        }
    }
}
