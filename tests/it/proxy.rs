//! The data plane over real sockets: what reaches a server, what comes back, and on which connections.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use stopgap::proxy::{Site, Upstream};

use crate::support::client::{Client, Lost};
use crate::support::origin::{Origin, Then};
use crate::support::proxy::{before, before_addresses, block_on, eventually, serving};

#[test]
fn connections_are_kept_on_both_sides() {
    let origin = Origin::answering("hello");
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    for _ in 0..5 {
        let reply = client.get("/owa/", &[]).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    }
    let mut other = proxy.client();
    assert_eq!(other.get("/", &[]).unwrap().status, 200);
    assert_eq!(origin.connections(), 1);
    assert_eq!(proxy.metric("stopgap_proxy_connections"), 2.0);
    assert_eq!(
        proxy.metric("stopgap_proxy_requests_total{outcome=\"forwarded\"}"),
        6.0
    );
}

#[test]
fn connections_are_kept_over_chunked_answers() {
    let origin = Origin::start(|connection, _| {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.send(&[head, &b"5\r\nhello\r\n0\r\n\r\n"[..]].concat());
        Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/", &[]).unwrap().text(), "hello");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|connection, seen| {
        let target = seen.target().to_owned();
        connection.answer("200 OK", "", &target);
        Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    let requests: String = (0..100)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    client.send(requests.as_bytes()).unwrap();
    for n in 0..100 {
        assert_eq!(client.reply("GET").unwrap().text(), format!("/{n}"));
    }
}

#[test]
fn fields_reach_the_server_as_agreed() {
    let origin = Origin::answering("");
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    let fields = [
        ("Host", "Mail.Example:8080"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("Proxy-Authorization", "Basic eA=="),
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil"),
        ("Forwarded", "for=203.0.113.7"),
        ("X-Real-IP", "203.0.113.7"),
        ("X-Original-URL", "/ecp/"),
        ("X-Rewrite-URL", "/ecp/"),
        ("X-HTTP-Method-Override", "PUT"),
        ("Cookie", "a=b"),
        ("Cookie", "c=d"),
        ("X-Latin", "caf\u{e9}"),
    ];
    assert_eq!(client.get("/a/%41?b=%20&c", &fields).unwrap().status, 200);
    let seen = origin.next();
    assert_eq!(seen.line, "GET /a/%41?b=%20&c HTTP/1.1");
    for (name, values) in [
        ("host", vec!["Mail.Example:8080"]),
        ("x-forwarded-for", vec!["127.0.0.1"]),
        ("x-forwarded-proto", vec!["http"]),
        ("x-forwarded-host", vec!["Mail.Example:8080"]),
        ("cookie", vec!["a=b", "c=d"]),
        ("x-latin", vec!["caf\u{c3}\u{a9}"]),
    ] {
        assert_eq!(seen.values(name), values, "{name}");
    }
    let names: Vec<String> = seen
        .fields
        .iter()
        .map(|(name, _)| name.to_lowercase())
        .collect();
    for gone in [
        "connection",
        "x-hop",
        "keep-alive",
        "te",
        "upgrade",
        "proxy-authorization",
        "forwarded",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "via",
    ] {
        assert!(!names.contains(&gone.to_owned()), "{gone} in {names:?}");
    }
}

#[test]
fn fields_of_the_response_reach_the_client_as_agreed() {
    let origin = Origin::start(|connection, _| {
        let fields = "Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nWWW-Authenticate: Negotiate\r\nServer: IIS\r\n";
        connection.answer("401 Not today", fields, "no");
        Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let reply = proxy.client().get("/", &[]).unwrap();
    assert_eq!(
        (reply.status, reply.reason.as_str(), reply.text().as_str()),
        (401, "Not today", "no")
    );
    let mut names: Vec<String> = reply
        .fields
        .iter()
        .map(|(name, _)| name.to_lowercase())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "content-length",
            "server",
            "set-cookie",
            "set-cookie",
            "www-authenticate"
        ]
    );
}

#[test]
fn answers_without_a_body_keep_the_connection() {
    let origin = Origin::start(|connection, seen| {
        match seen.target() {
            "/head" => connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
            "/204" => connection.send(b"HTTP/1.1 204 No Content\r\n\r\n"),
            "/304" => connection.send(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
            _ => connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        };
        Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    for (method, target, status) in [
        ("HEAD", "/head", 200),
        ("GET", "/204", 204),
        ("GET", "/304", 304),
        ("GET", "/", 200),
    ] {
        let reply = client.request(method, target, &[], b"").unwrap();
        assert_eq!((reply.status, reply.body.len()), (status, 0), "{target}");
        if method == "HEAD" {
            assert_eq!(reply.field("content-length"), Some("500"));
        }
    }
    assert_eq!(origin.connections(), 1);
}

/// Each piece is sent only when the other side has the piece before it: nothing waits for a whole body.
#[test]
fn bodies_stream_both_ways_at_once() {
    let origin = Origin::start(|connection, _| {
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut piece = [0; 4];
        for _ in 0..50 {
            let mut at = 0;
            while at < piece.len() {
                match connection.read(&mut piece[at..]) {
                    Ok(count) if count > 0 => at += count,
                    _ => return Then::Close,
                }
            }
            connection.send(&[b"4\r\n", &piece[..], b"\r\n"].concat());
        }
        connection.send(b"0\r\n\r\n");
        Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    client
        .send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 200\r\n\r\n")
        .unwrap();
    let head = client.read_until_blank_line().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for n in 0..50 {
        let piece = format!("{n:04}");
        client.send(piece.as_bytes()).unwrap();
        assert_eq!(
            client.read_exactly(9).unwrap(),
            format!("4\r\n{piece}\r\n").into_bytes()
        );
    }
    assert_eq!(client.read_exactly(5).unwrap(), b"0\r\n\r\n");
}

#[test]
fn large_bodies_pass_whole() {
    const LENGTH: usize = 8 << 20;
    let origin = Origin::start(|connection, seen| {
        let body = connection.take(seen).unwrap();
        connection
            .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
        connection.send(&body);
        Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let body: Vec<u8> = (0..LENGTH).map(|n| (n * 7 / 3) as u8).collect();
    let mut client = proxy.client();
    for _ in 0..2 {
        let echo = client.request("POST", "/", &[], &body).unwrap();
        assert!(echo.body == body);
    }
    let mut chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(100_000) {
        chunked.extend(format!("{:x};x=y\r\n", piece.len()).bytes());
        chunked.extend(piece);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
    client.send(&chunked).unwrap();
    assert!(client.reply("POST").unwrap().body == body);
    assert_eq!(origin.connections(), 1);
    let trailers = |_| origin.next().trailers;
    let trailers: Vec<Vec<String>> = (0..3).map(trailers).collect();
    assert_eq!(trailers, [vec![], vec![], vec!["x-trailer: 1".to_owned()]]);
}

#[test]
fn servers_take_turns_and_a_dead_one_is_passed_over() {
    let (one, two) = (Origin::answering("one"), Origin::answering("two"));
    let dead = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = before_addresses(&[one.address, dead, two.address]).start();
    let mut client = proxy.client();
    let answers: Vec<String> = (0..6)
        .map(|_| client.get("/", &[]).unwrap().text())
        .collect();
    assert!(
        answers.contains(&"one".to_owned()) && answers.contains(&"two".to_owned()),
        "{answers:?}"
    );
    assert_eq!(
        proxy.metric("stopgap_proxy_requests_total{outcome=\"failed\"}"),
        0.0
    );
}

#[test]
fn unreachable_server_gives_502_with_the_request_s_name() {
    let dead = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = before_addresses(&[dead]).start();
    let mut client = proxy.client();
    for _ in 0..2 {
        let reply = client.get("/", &[]).unwrap();
        assert_eq!(reply.status, 502);
        let id = reply.field("x-request-id").unwrap();
        assert_eq!(
            reply.text(),
            format!("502 Bad Gateway\nreason: upstream\nrequest: {id}\n")
        );
    }
    assert_eq!(
        proxy.metric("stopgap_proxy_errors_total{party=\"upstream\"}"),
        2.0
    );
}

#[test]
fn silent_server_gives_504() {
    let origin = Origin::start(|connection, seen| {
        connection.take(seen);
        let _ = connection.read(&mut [0]);
        Then::Close
    });
    let proxy = before(&[&origin])
        .limits(|limits| limits.response_timeout = Duration::from_millis(200))
        .start();
    let mut client = proxy.client();
    let reply = client.request("POST", "/", &[], b"hello").unwrap();
    assert_eq!(
        (reply.status, reply.field("x-request-id").is_some()),
        (504, true)
    );
    assert!(reply.text().contains("reason: upstream-timeout\n"));
}

#[test]
fn long_poll_paths_wait_longer() {
    let (go, wait) = sync_channel(2);
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |connection, seen| {
        connection.take(seen);
        wait.lock().unwrap().recv().unwrap();
        connection.answer("200 OK", "", "late");
        Then::Keep
    });
    let limits = |limits: &mut stopgap::proxy::Limits| {
        limits.response_timeout = Duration::from_millis(100);
        limits.long_poll_paths = vec!["/Microsoft-Server-ActiveSync".to_owned()];
    };
    let proxy = before(&[&origin]).limits(limits).start();
    let (mut patient, mut other) = (proxy.client(), proxy.client());
    patient
        .send(
            b"POST /microsoft-server-activesync?x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        )
        .unwrap();
    assert_eq!(origin.next().target(), "/microsoft-server-activesync?x");
    assert_eq!(other.get("/owa", &[]).unwrap().status, 504);
    // Either connection may be the first to wait.
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(patient.reply("POST").unwrap().text(), "late");
}

#[test]
fn stale_connection_is_replaced_and_the_request_sent_once() {
    let origin = Origin::start(|connection, seen| {
        connection.take(seen);
        connection.answer("200 OK", "", "x");
        Then::Close
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    for n in 1..=20 {
        assert_eq!(
            client.request("POST", "/", &[], b"body").unwrap().status,
            200,
            "{n}"
        );
        assert_eq!(origin.next().body.unwrap(), b"body");
        eventually("the end of the connection is noticed", || {
            proxy.metric("stopgap_proxy_upstream_connections") == 0.0
        });
    }
    assert_eq!(origin.others(), []);
}

#[test]
fn safe_request_lost_on_a_reused_connection_is_sent_again_and_no_other_is() {
    let origin = Origin::start(|connection, seen| {
        let first = connection.body(&seen).is_some() && connection.count() == 1;
        connection.record(seen);
        if !first {
            return Then::Reset;
        }
        connection.answer("200 OK", "", "x");
        Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/1", &[]).unwrap().status, 200);
    assert_eq!(client.get("/2", &[]).unwrap().status, 200);
    assert_eq!(client.request("POST", "/3", &[], b"x").unwrap().status, 502);
    let seen = [origin.next(), origin.next(), origin.next(), origin.next()];
    let said = seen.each_ref().map(|seen| (seen.connection, seen.target()));
    assert_eq!(said, [(1, "/1"), (1, "/2"), (2, "/2"), (2, "/3")]);
    assert_eq!(origin.others(), []);
}

#[test]
fn nothing_is_left_of_connections_that_broke_off_anywhere() {
    let origin = Origin::start(|connection, seen| {
        if connection.body(&seen).is_none() {
            return Then::Close;
        }
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while connection.send(&[b'x'; 10_000]) {}
        Then::Close
    });
    let proxy = before(&[&origin]).start();
    for n in 0..200 {
        let mut client = proxy.client();
        let bytes: &[u8] = match n % 4 {
            0 => b"",
            1 => b"GET / HTTP/1.1\r\nHost",
            2 => b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
            _ => b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        };
        client.send(bytes).unwrap();
        if n % 4 == 3 {
            client.read_until_blank_line().unwrap();
        }
    }
    eventually("clients are gone", || {
        proxy.metric("stopgap_proxy_connections") == 0.0
    });
    eventually("servers are gone", || {
        proxy.metric("stopgap_proxy_upstream_connections") == 0.0
    });
}

#[test]
fn server_that_breaks_off_within_a_body_breaks_the_client_s_connection() {
    for head in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let origin = Origin::start(move |connection, _| {
            connection.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes());
            connection.send(b"5\r\nhello\r\n");
            Then::Close
        });
        let proxy = before(&[&origin]).start();
        let mut client = proxy.client();
        let lost = client.get("/", &[]).unwrap_err();
        assert!(matches!(lost, Lost::Truncated | Lost::Reset), "{lost:?}");
    }
}

#[test]
fn server_that_answers_nonsense_or_nothing_gives_502_once() {
    for answer in [
        "",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let origin = Origin::start(move |connection, seen| {
            connection.take(seen);
            connection.send(answer.as_bytes());
            Then::Close
        });
        let proxy = before(&[&origin]).start();
        assert_eq!(
            proxy
                .client()
                .request("POST", "/", &[], b"x")
                .unwrap()
                .status,
            502,
            "{answer}"
        );
        origin.next();
        assert_eq!(origin.others(), [], "{answer}");
    }
}

#[test]
fn client_that_goes_away_within_its_body_takes_the_server_s_connection_with_it() {
    let (ended, end) = sync_channel(4);
    let origin = Origin::start(move |connection, seen| {
        connection.record(seen);
        let mut buffer = [0; 1_024];
        let result = loop {
            match connection.read(&mut buffer) {
                Ok(0) => break "end",
                Ok(_) => {}
                Err(_) => break "reset",
            }
        };
        ended.send(result).unwrap();
        Then::Close
    });
    let proxy = before(&[&origin]).start();
    for head in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut client = proxy.client();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n4\r\nhell\r\n").as_bytes())
            .unwrap();
        origin.next();
        drop(client);
        assert_eq!(
            end.recv_timeout(Duration::from_secs(20)).unwrap(),
            "reset",
            "{head}"
        );
    }
    eventually("connections are gone", || {
        proxy.metric("stopgap_proxy_connections") == 0.0
            && proxy.metric("stopgap_proxy_upstream_connections") == 0.0
    });
}

#[test]
fn client_that_ends_its_side_still_gets_its_answer() {
    let origin = Origin::answering("late");
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.end().unwrap();
    assert_eq!(client.reply("GET").unwrap().text(), "late");
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn client_that_went_away_while_waiting_frees_the_server() {
    let origin = Origin::start(|connection, seen| {
        connection.take(seen);
        let _ = connection.read(&mut [0]);
        Then::Close
    });
    let proxy = before(&[&origin])
        .limits(|limits| limits.half_close_timeout = Duration::from_millis(100))
        .start();
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.next();
    drop(client);
    eventually("the server is free", || {
        proxy.metric("stopgap_proxy_upstream_connections") == 0.0
    });
    eventually("the connection is gone", || {
        proxy.metric("stopgap_proxy_connections") == 0.0
    });
}

#[test]
fn early_answer_reaches_a_client_that_still_sends() {
    let origin = Origin::start(|connection, _| {
        connection.answer("413 Content Too Large", "Connection: close\r\n", "no");
        // What the client sends is taken until it stops, so that the answer is not lost to a reset.
        while connection
            .read(&mut [0; 65_536])
            .is_ok_and(|count| count > 0)
        {}
        Then::Close
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nstart")
        .unwrap();
    assert_eq!(client.reply("POST").unwrap().status, 413);
}

#[test]
fn expectation_is_met_and_one_final_answer_comes() {
    let origin = Origin::answering("done");
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .unwrap();
    assert_eq!(
        client.read_until_blank_line().unwrap(),
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    client.send(b"hello").unwrap();
    assert_eq!(client.reply("POST").unwrap().text(), "done");
    assert_eq!(origin.next().body.unwrap(), b"hello");
}

#[test]
fn sites_are_chosen_by_host_and_built_in_ones_answer_themselves() {
    let origin = Origin::answering("mail");
    let site = |name: &str, hosts: &[&str], upstream| Site {
        name: name.to_owned(),
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        upstream,
        routes: Vec::new(),
    };
    let welcome = Upstream::BuiltIn(Arc::new(|parts| {
        Response::new(Bytes::from(format!("welcome to {}", parts.uri)))
    }));
    let mail = before(&[&origin]).config.sites.remove(0).upstream;
    let proxy = serving(welcome.clone())
        .config(|config| {
            config.sites = vec![
                site("default", &[], welcome),
                site("mail", &["Mail.Example"], mail),
            ]
        })
        .start();
    let mut client = proxy.client();
    assert_eq!(
        client
            .get("/x", &[("Host", "mail.example:8080")])
            .unwrap()
            .text(),
        "mail"
    );
    assert_eq!(
        client.get("/x", &[("Host", "other")]).unwrap().text(),
        "welcome to /x"
    );
    assert_eq!(
        client
            .get("http://MAIL.example/x", &[("Host", "other")])
            .unwrap()
            .text(),
        "mail"
    );
    assert_eq!(
        origin.next().values("host"),
        ["Mail.Example:8080".to_lowercase()]
    );
    assert_eq!(origin.next().values("host"), ["MAIL.example"]);
}

#[test]
fn websocket_is_tunnelled_after_101_and_only_then() {
    let origin = Origin::start(|connection, seen| {
        let accepts = seen.target() == "/socket";
        assert_eq!(seen.values("upgrade"), ["websocket"]);
        connection.record(seen);
        if !accepts {
            connection.answer("426 Upgrade Required", "", "no");
            return Then::Keep;
        }
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly");
        let mut buffer = [0; 4];
        while let Ok(count @ 1..) = connection.read(&mut buffer) {
            connection.send(&buffer[..count]);
        }
        Then::Close
    });
    let proxy = before(&[&origin]).start();
    let ask = |target: &str| {
        format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
    };
    let mut client = proxy.client();
    client.send(ask("/other").as_bytes()).unwrap();
    assert_eq!(client.reply("GET").unwrap().status, 426);
    client.send(ask("/socket").as_bytes()).unwrap();
    let head = client.read_until_blank_line().unwrap();
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("upgrade: websocket\r\n"),
        "{head}"
    );
    assert_eq!(client.read_exactly(5).unwrap(), b"early");
    for _ in 0..3 {
        client.send(b"\x81\x01").unwrap();
        assert_eq!(client.read_exactly(2).unwrap(), b"\x81\x01");
    }
    client.end().unwrap();
    assert_eq!(client.rest().unwrap(), b"");
}

#[test]
fn connections_beyond_a_bound_are_closed() {
    let origin = Origin::answering("x");
    let proxy = before(&[&origin])
        .limits(|limits| limits.connections_per_client = 2)
        .start();
    let mut kept = [proxy.client(), proxy.client()];
    kept.iter_mut()
        .for_each(|client| assert_eq!(client.get("/", &[]).unwrap().status, 200));
    let mut third = proxy.client();
    assert!(matches!(
        third.get("/", &[]),
        Err(Lost::Closed | Lost::Reset)
    ));
    assert_eq!(proxy.metric("stopgap_proxy_connections_refused_total"), 1.0);
    drop(kept);
    eventually("a place is free again", || {
        Client::connect(proxy.address)
            .get("/", &[])
            .is_ok_and(|reply| reply.status == 200)
    });
}

#[test]
fn drain_finishes_what_was_begun() {
    let (go, wait) = sync_channel(1);
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |connection, seen| {
        connection.take(seen);
        wait.lock().unwrap().recv().unwrap();
        connection.answer("200 OK", "", "finished");
        Then::Keep
    });
    let proxy = before(&[&origin])
        .config(|config| config.workers = 2)
        .start();
    let mut busy = proxy.client();
    busy.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    origin.next();
    std::thread::scope(|scope| {
        scope.spawn(|| block_on(proxy.running.drain(Duration::from_secs(20))));
        eventually("draining has begun", || {
            Client::try_connect(proxy.address).is_err()
        });
        go.send(()).unwrap();
        let reply = busy.reply("GET").unwrap();
        assert_eq!(
            (reply.text().as_str(), reply.field("connection")),
            ("finished", Some("close"))
        );
        assert_eq!(busy.rest().unwrap(), b"");
    });
    assert_eq!(proxy.running.workers(), 0);
    assert!(Client::try_connect(proxy.address).is_err());
}

#[test]
fn drain_serves_a_head_that_is_on_its_way_and_a_connection_that_waits() {
    let origin = Origin::answering("served");
    let proxy = before(&[&origin]).start();
    let (mut idle, mut partial, mut fresh) = (proxy.client(), proxy.client(), proxy.client());
    assert_eq!(idle.get("/", &[]).unwrap().status, 200);
    partial.send(b"GET / HTTP/1.1\r\nHost:").unwrap();
    eventually("all are accepted", || {
        proxy.metric("stopgap_proxy_connections") == 3.0
    });
    std::thread::scope(|scope| {
        scope.spawn(|| block_on(proxy.running.drain(Duration::from_secs(20))));
        eventually("draining has begun", || {
            Client::try_connect(proxy.address).is_err()
        });
        assert_eq!(
            fresh.get("/", &[]).unwrap().field("connection"),
            Some("close")
        );
        partial.send(b" a\r\n\r\n").unwrap();
        let reply = partial.reply("GET").unwrap();
        assert_eq!(
            (reply.text().as_str(), reply.field("connection")),
            ("served", Some("close"))
        );
        // It had a moment for a request that was on its way.
        assert_eq!(idle.rest().unwrap(), b"");
    });
}

#[test]
fn drain_ends_at_its_deadline_and_stop_at_once() {
    let origin = Origin::start(|connection, seen| {
        connection.take(seen);
        let _ = connection.read(&mut [0]);
        Then::Close
    });
    for deadline in [Some(Duration::from_millis(100)), None] {
        let proxy = before(&[&origin]).start();
        let mut client = proxy.client();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        origin.next();
        match deadline {
            Some(deadline) => block_on(proxy.running.drain(deadline)),
            None => block_on(proxy.running.stop()),
        }
        assert!(client.reply("GET").is_err());
    }
}

#[test]
fn many_workers_serve_one_address() {
    let origin = Origin::answering("x");
    let proxy = before(&[&origin])
        .config(|config| config.workers = 4)
        .start();
    for _ in 0..40 {
        assert_eq!(proxy.client().get("/", &[]).unwrap().status, 200);
    }
    assert_eq!(proxy.running.workers(), 4);
}

#[test]
fn half_read_answers_do_not_hold_a_worker() {
    let origin = Origin::start(|connection, _| {
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n");
        let piece = vec![b'x'; 100_000];
        while connection.send(&piece) {}
        Then::Close
    });
    let proxy = before(&[&origin])
        .limits(|limits| limits.body_timeout = Duration::from_millis(300))
        .start();
    let mut slow = std::net::TcpStream::connect(proxy.address).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    slow.read_exact(&mut [0; 10]).unwrap();
    eventually("a client that does not read is cut off", || {
        proxy.metric("stopgap_proxy_connections") == 0.0
    });
    eventually("and so is its server", || {
        proxy.metric("stopgap_proxy_upstream_connections") == 0.0
    });
}
