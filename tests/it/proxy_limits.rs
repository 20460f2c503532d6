//! What clients may take, each bound from both sides, and requests that are not taken at all.

use std::time::Duration;

use stopgap::canon::Refusals;

use crate::support::client::Client;
use crate::support::origin::{Origin, Then};
use crate::support::proxy::{Fixture, before};

/// Sends a request in its bytes on a new connection: status and reason word of the answer.
fn answer(proxy: &Fixture, bytes: &[u8]) -> (u16, String) {
    let mut client = proxy.client();
    client.send(bytes).unwrap();
    let reply = client.reply("GET").unwrap();
    let word = reply
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("reason: ").map(str::to_owned));
    if reply.status >= 400 {
        assert!(reply.field("x-request-id").is_some());
    }
    (reply.status, word.unwrap_or_default())
}

#[test]
fn heads_within_the_default_limits_pass_and_beyond_they_name_the_limit() {
    let origin = Origin::answering("x");
    let proxy = before(&[&origin]).start();
    let get = |target: usize, fields: &str| {
        format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\n{fields}\r\n",
            "a".repeat(target - 1)
        )
    };
    let field = |length: usize| format!("X: {}\r\n", "x".repeat(length - 3));
    let many = |count: usize| {
        (0..count)
            .map(|n| format!("X-{n}: {n}\r\n"))
            .collect::<String>()
    };
    // A request line of 17 bytes, 9 of Host, 2 of the empty line, and what fills the head to a length.
    let filled = |length: usize| {
        [
            field(65_000),
            field(65_000),
            field(length - 130_004 - 28 - 2),
        ]
        .concat()
    };
    for (head, status, word) in [
        (get(65_534, ""), 200, ""),
        (get(65_535, ""), 414, "target-too-long"),
        (get(1, &field(65_536)), 200, ""),
        (get(1, &field(65_537)), 431, "field-too-large"),
        (get(1, &many(255)), 200, ""),
        (get(1, &many(256)), 431, "too-many-fields"),
        (get(2, &filled(131_072)), 200, ""),
        (get(2, &filled(131_073)), 431, "head-too-large"),
    ] {
        assert_eq!(
            answer(&proxy, head.as_bytes()),
            (status, word.to_owned()),
            "{}",
            head.len()
        );
    }
}

#[test]
fn requests_that_are_not_taken() {
    let origin = Origin::answering("x");
    let proxy = before(&[&origin]).start();
    for (bytes, status, word) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "host"),
        (
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            501,
            "method-not-served",
        ),
        (
            "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
            501,
            "method-not-served",
        ),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target-form"),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target-form"),
        (
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            "target-form",
        ),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "fragment"),
        (
            "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            "control-character",
        ),
        (
            "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            "malformed-escape",
        ),
        (
            "GET /%u0041 HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            "unicode-escape",
        ),
        (
            "GET /%c0%af HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            "ill-formed-utf8",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n",
            400,
            "connection-option",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Forwarded-For\r\n\r\n",
            400,
            "connection-option",
        ),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200, ""),
        (
            "RPC_IN_DATA /rpc/rpcproxy.dll HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
            "",
        ),
        ("GET / HTTP/1.0\r\n\r\n", 200, ""),
    ] {
        assert_eq!(
            answer(&proxy, bytes.as_bytes()),
            (status, word.to_owned()),
            "{bytes}"
        );
    }
    assert_eq!(
        proxy.metric("stopgap_proxy_refusals_total{reason=\"host\"}"),
        4.0
    );
    assert_eq!(
        proxy.metric("stopgap_proxy_refusals_total{reason=\"version\"}"),
        1.0
    );
}

#[test]
fn refusals_can_be_switched_off_for_a_listener() {
    let origin = Origin::answering("x");
    let proxy = before(&[&origin])
        .config(|config| config.listeners[0].refusals = Refusals::NONE)
        .start();
    for (target, seen) in [("/%zz", "/%zz"), ("/a%00b", "/a%00b"), ("/a?b#c", "/a?b")] {
        let (status, _) = answer(
            &proxy,
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Original-URL: /b\r\n\r\n").as_bytes(),
        );
        let arrived = origin.next();
        assert_eq!((status, arrived.target()), (200, seen));
        // No refusal, but it is switched off with them.
        assert_eq!(arrived.values("x-original-url"), ["/b"]);
    }
}

#[test]
fn slow_heads_end_with_408_and_idle_connections_without_a_word() {
    let origin = Origin::answering("x");
    let limits = |limits: &mut stopgap::proxy::Limits| {
        limits.head_timeout = Duration::from_millis(200);
        limits.idle_timeout = Duration::from_millis(500);
    };
    let proxy = before(&[&origin]).limits(limits).start();
    let mut slow = proxy.client();
    slow.send(b"GET / HTTP/1.1\r\nHost").unwrap();
    assert_eq!(slow.reply("GET").unwrap().status, 408);
    assert_eq!(slow.rest().unwrap(), b"");
    let mut silent = proxy.client();
    assert_eq!(silent.rest().unwrap(), b"");
    let mut idle = proxy.client();
    assert_eq!(idle.get("/", &[]).unwrap().status, 200);
    assert_eq!(idle.rest().unwrap(), b"");
    let mut second = proxy.client();
    assert_eq!(second.get("/", &[]).unwrap().status, 200);
    second.send(b"GET /").unwrap();
    assert_eq!(second.reply("GET").unwrap().status, 408);
}

#[test]
fn slow_body_ends_with_408_and_the_server_is_freed() {
    let origin = Origin::start(|connection, seen| {
        connection.take(seen);
        crate::support::origin::Then::Close
    });
    let proxy = before(&[&origin])
        .limits(|limits| limits.body_timeout = Duration::from_millis(200))
        .start();
    for head in [
        "Content-Length: 10\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut client = proxy.client();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}").as_bytes())
            .unwrap();
        let reply = client.reply("POST").unwrap();
        assert_eq!(
            (reply.status, reply.field("connection")),
            (408, Some("close")),
            "{head}"
        );
        assert_eq!(origin.next().body, None);
        assert_eq!(client.rest().unwrap(), b"");
    }
}

#[test]
fn fault_late_in_a_chunked_body_is_400_and_aborts_the_server_s_request() {
    let origin = Origin::start(|connection, seen| {
        connection.record(seen.clone());
        connection.take(seen);
        crate::support::origin::Then::Close
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .unwrap();
    origin.next();
    client.send(b"Z\r\n").unwrap();
    let reply = client.reply("POST").unwrap();
    assert_eq!(
        (reply.status, reply.text().contains("reason: chunk-size\n")),
        (400, true)
    );
    assert_eq!(origin.next().body, None);
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn unfinished_trailers_have_the_time_of_a_head() {
    let origin = Origin::answering("x");
    let limits =
        |limits: &mut stopgap::proxy::Limits| limits.head_timeout = Duration::from_millis(200);
    let proxy = before(&[&origin]).limits(limits).start();
    let mut client = proxy.client();
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T")
        .unwrap();
    assert_eq!(client.reply("POST").unwrap().status, 408);
}

#[test]
fn http_1_0_clients_get_closed_connections_unless_they_ask() {
    let origin = Origin::answering("hello");
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(client.reply("GET").unwrap().text(), "hello");
    assert_eq!(client.rest().unwrap(), b"");
    assert_eq!(origin.next().values("host"), ["a"]);
    let mut client = Client::connect(proxy.address);
    client.send(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(client.reply("GET").unwrap().text(), "hello");
    assert_eq!(origin.next().values("host"), [proxy.address.to_string()]);
    let mut client = Client::connect(proxy.address);
    for _ in 0..2 {
        client
            .send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            .unwrap();
        assert_eq!(client.reply("GET").unwrap().text(), "hello");
    }
}

#[test]
fn bodies_that_trickle_end_and_those_on_long_poll_paths_do_not() {
    let origin = Origin::start(|connection, seen| {
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        connection.answer("200 OK", "", "whole");
        Then::Keep
    });
    let proxy = before(&[&origin])
        .limits(|limits| {
            limits.body_timeout = Duration::from_millis(500);
            limits.body_minimum = 100;
            limits.long_poll_paths = vec!["/poll".to_owned()];
        })
        .start();
    // A byte at a time, each well within the time for a body.
    let trickle = |path: &str, piece: usize| {
        let mut client = proxy.client();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            20 * piece
        );
        client.send(head.as_bytes()).unwrap();
        for _ in 0..20 {
            if client.send(&vec![b'x'; piece]).is_err() {
                break;
            }
            // The pace is what is tested.
            std::thread::sleep(Duration::from_millis(100));
        }
        client.reply("POST").map_or(0, |reply| reply.status)
    };
    assert!(matches!(trickle("/", 1), 0 | 408));
    assert_eq!(trickle("/", 100), 200);
    assert_eq!(trickle("/poll", 1), 200);
}
