//! What is left of requests that were broken off in every way: nothing, however many there were.

use std::io::Write;
use std::net::SocketAddr;

use crate::support::client::Client;
use crate::support::http2::{Http2Client, RST_STREAM, frame, head, request};
use crate::support::origin::{Origin, Then};
use crate::support::process::turn;
use crate::support::proxy::{Fixture, before, eventually};

/// Descriptors of this process, and bytes of memory that it occupies.
fn usage() -> (usize, usize) {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    (descriptors, pages * 4_096)
}

/// Begins a request in one of many ways and breaks it off.
fn abort(address: SocketAddr, kind: usize) {
    let send = |bytes: &[u8]| {
        let mut client = Client::connect(address);
        let _ = client.send(bytes);
        client
    };
    match kind % 9 {
        // Within a head, a body, a chunk; while the server thinks; within the response.
        0 => drop(send(b"GET / HTTP/1.1\r\nHo")),
        1 => drop(send(
            b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
        )),
        2 => drop(send(
            b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        )),
        3 => drop(send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")),
        4 => drop(send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")),
        // Refused, and stopped by a rule.
        5 => drop(send(b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n")),
        6 => assert!(Client::connect(address).get("/attack", &[]).is_err()),
        // Streams of HTTP/2, reset and left.
        7 => {
            let mut client = Http2Client::connect(address, &[]);
            client.send(&head(1, &request("GET", "/late", &[]), true));
            client.send(&head(3, &request("POST", "/body", &[]), false));
            client.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
            let _ = client.stream.flush();
        }
        _ => {
            let mut client = Http2Client::connect(address, &[(4, 1)]);
            client.send(&head(1, &request("GET", "/large", &[]), true));
        }
    }
}

fn cycle(proxy: &Fixture, count: usize) -> (usize, usize) {
    for kind in 0..count {
        abort(proxy.address, kind);
    }
    eventually("no connection is left", || {
        proxy.metric("stopgap_proxy_connections") == 0.0
    });
    eventually("no upstream connection is in use", || {
        proxy.metric("stopgap_proxy_upstream_connections") <= 64.0
    });
    usage()
}

fn leaks_nothing(count: usize) {
    let _turn = turn();
    let origin = Origin::start(|connection, seen| {
        match seen.target() {
            "/late" => {
                // Until the proxy gives up.
                let _ = connection.read(&mut [0]);
                return Then::Close;
            }
            "/large" => {
                let body = "a".repeat(400_000);
                connection.answer("200 OK", "", &body);
            }
            _ if connection.body(&seen).is_none() => return Then::Close,
            _ => connection.answer("200 OK", "", "hello"),
        }
        Then::Keep
    });
    let rule = r#"<rule name="a"><match url="^attack"/><action type="AbortRequest"/></rule>"#;
    let limits = |limits: &mut stopgap::proxy::Limits| {
        limits.body_timeout = std::time::Duration::from_secs(2);
        limits.idle_upstream_timeout = std::time::Duration::from_secs(1);
    };
    let proxy = before(&[&origin])
        .rules(rule)
        .limits(limits)
        .config(|config| config.listeners[0].http2 = true)
        .start();
    let first = cycle(&proxy, count);
    let mut last = first;
    for _ in 0..2 {
        last = cycle(&proxy, count);
    }
    eventually("every upstream connection is closed", || {
        proxy.metric("stopgap_proxy_upstream_connections") == 0.0
    });
    println!(
        "{count} a cycle: descriptors and bytes after the first {first:?}, after the third {last:?}"
    );
    // Other tests run in this process, too: what grows by each request would show far beyond.
    let allowed = 2_048 * count.max(8_192);
    assert!(
        last.1 < first.1 + allowed,
        "memory grew from {} to {}",
        first.1,
        last.1
    );
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 200);
}

#[test]
fn broken_requests_leave_nothing() {
    leaks_nothing(450);
}

#[test]
#[ignore = "takes a minute: 10,000 a cycle"]
fn ten_thousand_broken_requests_leave_nothing() {
    leaks_nothing(10_000);
}
