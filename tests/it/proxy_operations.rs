//! What operators see of the data plane: health of the proxy itself, and whose fault a failure was.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stopgap::proxy::{AccessFormat, AccessLog};
use stopgap::telemetry::{LineWriter, Metrics};

use crate::support::client::Lost;
use crate::support::http2::{DATA, End, Http2Client, frame, head, request};
use crate::support::origin::{Origin, Then};
use crate::support::proxy::{Builder, before, before_addresses, eventually};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn logged(builder: Builder, format: AccessFormat) -> (Builder, Lines) {
    let lines = Lines::default();
    let dropped = Metrics::default().counter("dropped", "Lines");
    let writer = LineWriter::spawn("access", lines.clone(), dropped).unwrap();
    let log = AccessLog { writer, format };
    (
        builder.config(|config| config.access_log = Some(log)),
        lines,
    )
}

#[test]
fn health_path_is_answered_here_whatever_the_rules_say() {
    let origin = Origin::answering("hello");
    let rule = r#"<rule name="all"><match url=".*" /><action type="AbortRequest" /></rule>"#;
    let (builder, lines) = logged(before(&[&origin]), AccessFormat::Combined);
    let proxy = builder
        .rules(rule)
        .config(|config| config.listeners[0].health_path = Some("/health".to_owned()))
        .start();
    let mut client = proxy.client();
    for _ in 0..3 {
        let reply = client.get("/health", &[]).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok\n"));
    }
    assert_eq!(
        client.get("/health?from=balancer", &[]).unwrap().status,
        200
    );
    assert_eq!(
        client.request("HEAD", "/health", &[], b"").unwrap().status,
        200
    );
    // HTTP/1.0 without a host, as balancers ask.
    let mut plain = proxy.client();
    plain.send(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(plain.reply("GET").unwrap().status, 200);
    // Nothing else is what it says, and a request that is none is refused as anywhere.
    for (method, target) in [
        ("POST", "/health"),
        ("GET", "/health/x"),
        ("GET", "/HEALTH"),
        ("GET", "/"),
    ] {
        let ended = proxy.client().request(method, target, &[], b"");
        assert_eq!(ended, Err(Lost::Reset), "{method} {target}");
    }
    let twice = [("Host", "a"), ("Host", "b")];
    assert_eq!(proxy.client().get("/health", &twice).unwrap().status, 400);
    assert!(origin.others().is_empty());
    eventually("the others are logged", || {
        lines.text().lines().count() == 5
    });
    assert!(!lines.text().contains("/health?from"), "{}", lines.text());
    assert_eq!(
        proxy.metric("stopgap_proxy_requests_total{outcome=\"built_in\"}"),
        0.0
    );
}

#[test]
fn health_path_says_that_a_proxy_drains() {
    let (arrived, arrives) = std::sync::mpsc::sync_channel(1);
    let (answer, answers) = std::sync::mpsc::sync_channel::<()>(1);
    let answers = Mutex::new(answers);
    let origin = Origin::start(move |connection, _| {
        arrived.send(()).unwrap();
        let _ = answers
            .lock()
            .unwrap()
            .recv_timeout(Duration::from_secs(20));
        connection.answer("200 OK", "", "done");
        Then::Keep
    });
    let proxy = before(&[&origin])
        .config(|config| config.listeners[0].health_path = Some("/health".to_owned()))
        .start();
    let mut busy = proxy.client();
    busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    arrives.recv().unwrap();
    let mut balancer = proxy.client();
    assert_eq!(balancer.get("/health", &[]).unwrap().status, 200);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            crate::support::proxy::block_on(proxy.running.drain(Duration::from_secs(20)))
        });
        // A connection that is open learns of it with its next request, which is its last.
        let told = loop {
            match balancer.get("/health", &[]) {
                Ok(reply) if reply.status == 200 => continue,
                other => break other,
            }
        };
        match told {
            Ok(reply) => assert_eq!(
                (reply.status, reply.field("connection")),
                (503, Some("close"))
            ),
            Err(lost) => assert_eq!(lost, Lost::Closed),
        }
        answer.send(()).unwrap();
        assert_eq!(busy.reply("GET").unwrap().text(), "done");
    });
}

#[test]
fn party_at_fault_is_in_the_log() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = nobody.local_addr().unwrap();
    drop(nobody);
    let origin = Origin::start(|connection, seen| {
        match seen.target() {
            "/half" => {
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                return Then::Close;
            }
            "/garbage" => {
                connection.send(b"nonsense\r\n\r\n");
                return Then::Close;
            }
            _ => connection.answer("200 OK", "", "ok"),
        }
        Then::Keep
    });
    let rules = r#"<rule name="a"><match url="^abort" /><action type="AbortRequest" /></rule>
        <rule name="b"><match url="^blocked" /><action type="CustomResponse" statusCode="403" /></rule>"#;
    let (builder, lines) = logged(before(&[&origin]), AccessFormat::Json);
    let proxy = builder.rules(rules).start();
    let mut expected = Vec::new();
    for (target, party) in [
        ("/", None),
        ("/half", Some("upstream")),
        ("/garbage", Some("upstream")),
        ("/abort", Some("policy")),
        ("/blocked", Some("policy")),
        ("/%00", Some("downstream")),
    ] {
        let _ = proxy.client().get(target, &[]);
        expected.push((target.to_owned(), party.map(str::to_owned)));
    }
    eventually("all are logged", || {
        lines.text().lines().count() == expected.len()
    });
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        (text("target").unwrap(), text("party"))
    };
    let mut seen: Vec<_> = lines.text().lines().map(line).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);

    let (builder, lines) = logged(before_addresses(&[nowhere]), AccessFormat::Combined);
    let proxy = builder.start();
    let reply = proxy.client().get("/", &[]).unwrap();
    assert_eq!(reply.status, 502);
    let id = reply.field("x-request-id").unwrap().to_owned();
    eventually("it is logged", || lines.text().lines().count() == 1);
    let text = lines.text();
    assert!(
        text.contains(&id) && text.trim_end().ends_with(" upstream"),
        "{text}"
    );
    // A head that nobody could read.
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nNo Field\r\n\r\n").unwrap();
    assert_eq!(client.reply("GET").unwrap().status, 400);
    eventually("it is logged", || lines.text().lines().count() == 2);
    assert!(
        lines.text().trim_end().ends_with(" downstream"),
        "{}",
        lines.text()
    );
}

#[test]
fn bodies_that_trickle_by_http2_end_and_those_on_long_poll_paths_do_not() {
    let origin = Origin::start(|connection, seen| {
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        connection.answer("200 OK", "", "whole");
        Then::Keep
    });
    let proxy = before(&[&origin])
        .config(|config| config.listeners[0].http2 = true)
        .limits(|limits| {
            limits.body_timeout = Duration::from_millis(500);
            limits.body_minimum = 100;
            limits.long_poll_paths = vec!["/poll".to_owned()];
        })
        .start();
    // A byte at a time, each well within the time for a body.
    let trickle = |path: &str, piece: usize| {
        let mut client = Http2Client::connect(proxy.address, &[]);
        client.send(&head(1, &request("POST", path, &[]), false));
        for number in 0..20 {
            let last = u8::from(number == 19);
            client.send(&frame(DATA, last, 1, &vec![b'x'; piece]));
            // The pace is what is tested.
            std::thread::sleep(Duration::from_millis(100));
        }
        client.end(1)
    };
    let slow = trickle("/", 1);
    assert!(
        matches!(slow, End::Answered { status: 408, .. } | End::Reset(_)),
        "{slow:?}"
    );
    let whole = End::Answered {
        status: 200,
        body: b"whole".to_vec(),
    };
    assert_eq!(trickle("/", 100), whole);
    assert_eq!(trickle("/poll", 1), whole);
}
