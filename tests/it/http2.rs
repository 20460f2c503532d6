//! HTTP/2 with clients: what passes, what is refused, what ends a stream and what a connection.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, End, HEADERS, Http2Client, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, head, request,
};
use crate::support::origin::{Origin, Then};
use crate::support::proxy::{Builder, before, eventually};

/// How long a test waits for a server before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Error codes (RFC 9113 section 7).
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
const HTTP_1_1_REQUIRED: u32 = 13;

fn http2(builder: Builder) -> Builder {
    builder.config(|config| config.listeners[0].http2 = true)
}

fn status(end: &End) -> u16 {
    match end {
        End::Answered { status, .. } => *status,
        end => panic!("{end:?}"),
    }
}

fn reason(end: &End) -> String {
    let End::Answered { body, .. } = end else {
        panic!("{end:?}");
    };
    let text = String::from_utf8_lossy(body);
    let word = text.lines().find_map(|line| line.strip_prefix("reason: "));
    word.unwrap_or_default().to_owned()
}

#[test]
fn requests_are_judged_and_forwarded_as_by_http1() {
    let origin = Origin::answering("hello");
    let rule = r#"<rule name="a"><match url="^attack"/><action type="AbortRequest"/></rule>
        <rule name="b"><match url="^custom"/><action type="CustomResponse" statusCode="403" statusDescription="No."/></rule>
        <rule name="c"><match url=".*"/><conditions><add input="{HTTP_COOKIE}" pattern="a=1; b=2"/></conditions><action type="CustomResponse" statusCode="404"/></rule>"#;
    let proxy = http2(before(&[&origin])).rules(rule).start();
    let mut client = Http2Client::connect(proxy.address, &[]);
    let hello = End::Answered {
        status: 200,
        body: b"hello".to_vec(),
    };
    assert_eq!(
        client.get(1, "/owa/?x=1", &[("x-own", " v "), ("te", "trailers")]),
        hello
    );
    let seen = origin.next();
    assert_eq!(seen.line, "GET /owa/?x=1 HTTP/1.1");
    assert_eq!(seen.values("host"), ["mail.example"]);
    assert_eq!(seen.values("x-own"), ["v"]);
    assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"]);
    assert!(seen.values("te").is_empty());
    assert_eq!(client.get(3, "/attack", &[]), End::Reset(CANCEL));
    let answered = client.get(5, "/custom", &[]);
    assert_eq!(status(&answered), 403);
    assert_eq!(
        status(&client.get(7, "/", &[("cookie", "a=1"), ("cookie", "b=2")])),
        404
    );
    // The connection lives on, and HTTP/1.1 is served beside it.
    assert_eq!(client.get(9, "/", &[]), hello);
    assert_eq!(proxy.client().get("/", &[]).unwrap().text(), "hello");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn streams_share_a_connection_and_bodies_pass_both_ways() {
    let origin = Origin::start(|connection, seen| {
        let Some(body) = connection.take(seen) else {
            return Then::Close;
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.send(&[head.as_bytes(), &body].concat());
        Then::Keep
    });
    let proxy = http2(before(&[&origin])).start();
    let mut client = Http2Client::connect(proxy.address, &[]);
    let body: Vec<u8> = (0..30_000_u32).map(|n| (n % 251) as u8).collect();
    let pieces = |stream: u32| {
        let last = body.chunks(16_384).count() - 1;
        let piece = move |(index, piece): (usize, &[u8])| {
            frame(
                DATA,
                if index == last { END_STREAM } else { 0 },
                stream,
                piece,
            )
        };
        body.chunks(16_384)
            .enumerate()
            .map(piece)
            .collect::<Vec<_>>()
    };
    client.send(&head(1, &request("POST", "/a", &[]), false));
    client.send(&head(
        3,
        &request("POST", "/b", &[("content-length", "30000")]),
        false,
    ));
    for (one, other) in pieces(1).iter().zip(pieces(3)) {
        client.send(&[one.as_slice(), &other].concat());
    }
    let expected = End::Answered {
        status: 200,
        body: body.clone(),
    };
    assert!(client.end(3) == expected && client.end(1) == expected);
}

#[test]
fn heads_are_held_to_the_limits_each_with_its_own_reason() {
    let origin = Origin::answering("hello");
    let proxy = http2(before(&[&origin])).start();
    let mut client = Http2Client::connect(proxy.address, &[]);
    let (ticket, field) = ("a".repeat(64 * 1_024 - 13), "a".repeat(64 * 1_024));
    let target = format!("/{}", "a".repeat(65_533));
    let half = "a".repeat(60_000);
    let crumbs = |count: usize| vec![("cookie", "a=1"); count];
    assert_eq!(
        status(&client.get(1, "/", &[("authorization", &ticket)])),
        200
    );
    for (stream, path, fields, expected, word) in [
        (3, "/", vec![("x", field.as_str())], 431, "field-too-large"),
        (
            5,
            "/",
            vec![("x", half.as_str()), ("y", &half), ("z", &half)],
            431,
            "head-too-large",
        ),
        (7, "/", crumbs(257), 431, "too-many-fields"),
        (9, "/", vec![("host", "other.example")], 400, "host"),
        (11, "/%00", vec![], 400, "control-character"),
    ] {
        let end = client.get(stream, path, &fields);
        assert_eq!((status(&end), reason(&end).as_str()), (expected, word));
    }
    assert_eq!(status(&client.get(13, "/", &crumbs(256))), 200);
    assert_eq!(status(&client.get(15, &target, &[])), 200);
    for (method, path) in [("TRACE", "/"), ("GET", "*")] {
        let stream = if method == "TRACE" { 19 } else { 21 };
        client.send(&head(stream, &request(method, path, &[]), true));
        assert!(matches!(
            client.end(stream),
            End::Answered {
                status: 400 | 501,
                ..
            } | End::Reset(1)
        ));
    }
    // Far beyond, the library ends the connection before anything was kept.
    let endless = vec![("x", half.as_str()); 8];
    let end = client.get(23, "/", &endless);
    assert!(matches!(
        end,
        End::Gone(Some(ENHANCE_YOUR_CALM)) | End::Answered { status: 431, .. }
    ));
}

#[test]
fn body_is_asked_for_with_100_once_a_server_takes_it() {
    let origin = Origin::start(|connection, seen| {
        let Some(body) = connection.take(seen) else {
            return Then::Close;
        };
        connection.answer("200 OK", "", &String::from_utf8(body).unwrap());
        Then::Keep
    });
    let proxy = http2(before(&[&origin])).start();
    let mut client = Http2Client::connect(proxy.address, &[]);
    let expecting = |path| {
        let fields = [("expect", "100-continue"), ("content-length", "5")];
        request("POST", path, &fields)
    };
    client.send(&head(1, &expecting("/"), false));
    // Only after it does the client send any of the body.
    assert_eq!(client.status(1), 100);
    client.send(&frame(DATA, END_STREAM, 1, b"hello"));
    let answered = End::Answered {
        status: 200,
        body: b"hello".to_vec(),
    };
    assert_eq!(client.end(1), answered);
    // One that is refused is not to send it, nor is one to be told twice.
    client.send(&head(3, &expecting("/%00"), false));
    assert_eq!(client.status(3), 400);
    let fields = [("expect", "100-continue")];
    client.send(&head(5, &request("POST", "/", &fields), false));
    assert_eq!(client.status(5), 100);
    client.send(&frame(DATA, 0, 5, b"hel"));
    client.send(&frame(DATA, END_STREAM, 5, b"lo"));
    assert_eq!(client.end(5), answered);
    // A client that does not ask for it is not told.
    client.send(&head(7, &request("POST", "/", &[]), false));
    client.send(&frame(DATA, END_STREAM, 7, b"hello"));
    assert_eq!(client.status(7), 200);
}

#[test]
fn body_that_its_client_gave_up_is_never_a_whole_one_to_the_server() {
    let (tell, told) = sync_channel(10);
    let (begin, begun) = sync_channel(10);
    let origin = Origin::start(move |connection, seen| {
        begin.send(()).unwrap();
        tell.send(connection.body(&seen)).unwrap();
        Then::Close
    });
    let proxy = http2(before(&[&origin])).start();
    let mut client = Http2Client::connect(proxy.address, &[]);
    for (stream, code) in [(1, CANCEL), (3, NO_ERROR), (5, INTERNAL_ERROR)] {
        client.send(&head(stream, &request("POST", "/", &[]), false));
        client.send(&frame(DATA, 0, stream, b"half of it"));
        begun.recv_timeout(PATIENCE).unwrap();
        client.send(&frame(RST_STREAM, 0, stream, &code.to_be_bytes()));
        assert_eq!(told.recv_timeout(PATIENCE), Ok(None), "{code}");
    }
}

#[test]
fn only_the_head_is_answered_where_only_that_is_asked_for() {
    let origin = Origin::start(|connection, _| {
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n");
        Then::Keep
    });
    let proxy = http2(before(&[&origin])).start();
    let mut client = Http2Client::connect(proxy.address, &[]);
    for (stream, path, expected) in [(1, "/", 200), (3, "/%00", 400)] {
        client.send(&head(stream, &request("HEAD", path, &[]), true));
        let answered = End::Answered {
            status: expected,
            body: Vec::new(),
        };
        assert_eq!(client.end(stream), answered);
    }
}

#[test]
fn fragments_reach_neither_rules_nor_servers() {
    let origin = Origin::answering("hello");
    // Looks at everything of a target that a rule can see.
    let rule = r#"<rule name="a"><match url=".*"/><conditions logicalGrouping="MatchAny"><add input="{UNENCODED_URL}" pattern="cut|#"/>
        <add input="{REQUEST_URI}" pattern="cut|#"/><add input="{QUERY_STRING}" pattern="cut|#"/></conditions><action type="AbortRequest"/></rule>"#;
    let proxy = http2(before(&[&origin])).rules(rule).start();
    let mut client = Http2Client::connect(proxy.address, &[]);
    for (number, (path, seen)) in [
        ("/owa/#cut", "/owa/"),
        ("/owa/?a=1#cut?b=2", "/owa/?a=1"),
        ("/owa#/../cut", "/owa"),
        ("/#", "/"),
        // Nothing before it is no path either, and taken for the root.
        ("#cut", "/"),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = 2 * number as u32 + 1;
        assert_eq!(status(&client.get(stream, path, &[])), 200, "{path}");
        assert_eq!(origin.next().line, format!("GET {seen} HTTP/1.1"));
    }
    // HTTP/1.1 shows it, so that it is refused there.
    let reply = proxy.client().get("/owa/#cut", &[]).unwrap();
    assert_eq!(reply.status, 400);
    assert!(
        reply.text().contains("reason: fragment"),
        "{}",
        reply.text()
    );
}

#[test]
fn logins_by_connection_are_sent_to_http1_and_share_nothing() {
    let origin = Origin::start(|connection, seen| {
        let target = seen.target().to_owned();
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        match target.as_str() {
            "/login" => {
                connection.answer("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", "")
            }
            _ => connection.answer("200 OK", "", "hello"),
        }
        Then::Keep
    });
    let proxy = http2(before(&[&origin])).start();
    let mut client = Http2Client::connect(proxy.address, &[]);
    assert_eq!(
        client.get(1, "/", &[("authorization", "NTLM TlRM")]),
        End::Reset(HTTP_1_1_REQUIRED)
    );
    assert_eq!(
        client.get(3, "/", &[("authorization", "Negotiate YII")]),
        End::Reset(HTTP_1_1_REQUIRED)
    );
    assert_eq!(origin.connections(), 0);
    assert_eq!(client.get(5, "/login", &[]), End::Reset(HTTP_1_1_REQUIRED));
    assert_eq!(status(&client.get(7, "/", &[])), 200);
    // The connection on which the login was offered is nobody's any more.
    assert_eq!(origin.connections(), 2);
    assert_eq!(
        status(&client.get(9, "/", &[("authorization", "Basic YTpi")])),
        200
    );
    assert_eq!(origin.connections(), 2);
}

#[test]
fn floods_end_the_connection() {
    let origin = Origin::answering("hello");
    let proxy = http2(before(&[&origin])).start();
    let floods: [(&str, Vec<u8>); 5] = [
        ("ping", frame(PING, 0, 0, &[0; 8])),
        ("settings", frame(SETTINGS, 0, 0, b"")),
        ("priority", frame(2, 0, 1, &[0; 5])),
        ("window update", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0xbe, 0, 0, b"")),
    ];
    for (name, flood) in floods {
        let mut client = Http2Client::connect(proxy.address, &[]);
        let mut sender = client.stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            use std::io::Write;
            let many = flood.repeat(1_000);
            (0..100).all(|_| sender.write_all(&many).is_ok())
        });
        let code = client.gone();
        assert!(
            code.is_none_or(|code| code == ENHANCE_YOUR_CALM),
            "{name}: {code:?}"
        );
        sending.join().unwrap();
    }
    let mut client = Http2Client::connect(proxy.address, &[]);
    let mut sender = client.stream.try_clone().unwrap();
    let reset = std::thread::spawn(move || {
        use std::io::Write;
        let fields = request("GET", "/owa/", &[]);
        (0..5_000_u32).all(|n| {
            let stream = 2 * n + 1;
            let reset = frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
            sender
                .write_all(&[head(stream, &fields, true), reset].concat())
                .is_ok()
        })
    });
    let code = client.gone();
    assert!(
        code.is_none_or(|code| code == ENHANCE_YOUR_CALM),
        "{code:?}"
    );
    reset.join().unwrap();
    eventually("no stream is left", || {
        proxy.metric("stopgap_proxy_connections") == 0.0
    });
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 200);
}

#[test]
fn clients_that_rest_are_ended() {
    let origin = Origin::start(|connection, seen| {
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        let body = "a".repeat(300_000);
        connection.answer("200 OK", "", &body);
        Then::Keep
    });
    let timeouts = |limits: &mut stopgap::proxy::Limits| {
        limits.head_timeout = Duration::from_millis(300);
        limits.body_timeout = Duration::from_millis(300);
        limits.idle_timeout = Duration::from_millis(300);
    };
    let proxy = http2(before(&[&origin])).limits(timeouts).start();
    let connect = |settings: &[(u16, u32)]| Http2Client::connect(proxy.address, settings);
    // Nothing at all, and an end of what was asked.
    assert_eq!(connect(&[]).gone(), Some(0));
    let mut idle = connect(&[]);
    assert_eq!(status(&idle.get(1, "/", &[])), 200);
    assert_eq!(idle.gone(), Some(0));
    // A head that does not end.
    let mut slow = connect(&[]);
    slow.takes = false;
    slow.send(&frame(
        HEADERS,
        END_STREAM,
        1,
        &block(&request("GET", "/", &[])),
    ));
    assert_eq!(slow.gone(), Some(ENHANCE_YOUR_CALM));
    let mut slow = connect(&[]);
    slow.takes = false;
    slow.send(&frame(
        HEADERS,
        END_STREAM,
        1,
        &block(&request("GET", "/", &[])),
    ));
    slow.send(&frame(CONTINUATION, END_HEADERS, 1, b"")[..5]);
    assert_eq!(slow.gone(), Some(ENHANCE_YOUR_CALM));
    // A body that does not come: its stream ends, others go on.
    let mut late = connect(&[]);
    late.send(&head(
        1,
        &request("POST", "/", &[("content-length", "5")]),
        false,
    ));
    assert_eq!(status(&late.end(1)), 408);
    assert_eq!(status(&late.get(3, "/", &[])), 200);
    // Windows that stay shut.
    let mut shut = connect(&[(4, 0)]);
    for stream in 0..50 {
        shut.send(&head(2 * stream + 1, &request("GET", "/", &[]), true));
    }
    shut.gone();
    eventually("nothing is left of them", || {
        proxy.metric("stopgap_proxy_connections") == 0.0
            && proxy.metric("stopgap_proxy_upstream_connections") <= 64.0
    });
}

#[test]
fn drain_ends_idle_connections_and_finishes_requests() {
    let origin = Origin::answering("hello");
    let proxy = http2(before(&[&origin])).start();
    let mut client = Http2Client::connect(proxy.address, &[]);
    assert_eq!(status(&client.get(1, "/", &[])), 200);
    let reading = std::thread::spawn(move || client.gone());
    crate::support::proxy::block_on(proxy.running.drain(Duration::from_secs(20)));
    assert_eq!(reading.join().unwrap(), Some(0));
}
