//! HTTP/2 to servers: many requests on few connections, and what may never be among them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use stopgap::proxy::{HealthCheck, Server, ServerTls, Upstream};
use tokio::sync::Semaphore;

use crate::support::client::Lost;
use crate::support::http2::{GOAWAY, HEADERS, PREFACE, SETTINGS, frame};
use crate::support::http2_origin::{Exchange, Http2Origin};
use crate::support::origin::{Origin, Then};
use crate::support::proxy::{Builder, eventually, serving};

fn upstream(address: SocketAddr) -> Upstream {
    let url = format!("h2c://{address}");
    Upstream::Servers([url.parse::<Server>().unwrap()].into_iter().collect())
}

fn before(address: SocketAddr) -> Builder {
    serving(upstream(address))
}

#[test]
fn requests_of_many_clients_share_a_connection() {
    let origin = Http2Origin::echo();
    let proxy = before(origin.address).start();
    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for round in 0..3 {
        for client in &mut clients {
            client.send(format!("GET /{round} HTTP/1.1\r\nHost: mail.example:81\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Own: 2\r\nTE: trailers\r\n\r\n").as_bytes()).unwrap();
        }
        for client in &mut clients {
            let reply = client.reply("GET").unwrap();
            assert_eq!((reply.status, reply.text()), (200, format!("/{round}")));
        }
    }
    let seen = origin.others();
    assert_eq!(seen.len(), 60);
    for seen in &seen {
        assert_eq!(seen.connection, 1);
        assert!(
            seen.uri.starts_with("http://mail.example:81/"),
            "{}",
            seen.uri
        );
        assert_eq!(seen.fields["x-own"], "2");
        assert_eq!(seen.fields["x-forwarded-host"], "mail.example:81");
        for name in ["host", "connection", "x-hop", "content-length"] {
            assert!(!seen.fields.contains_key(name), "{name}");
        }
    }
}

#[test]
fn bodies_go_both_ways_within_the_windows_and_trailers_behind_them() {
    let origin = Http2Origin::start(|mut exchange: Exchange| async move {
        let body = exchange.take().await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("abc"));
        exchange.answer(200, &body, Some(trailers)).await;
    });
    let proxy = before(origin.address).start();
    let mut client = proxy.client();
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    // More than any window, by announced length.
    let reply = client.request("POST", "/", &[], &body).unwrap();
    assert!(reply.body == body);
    let seen = origin.next();
    assert_eq!(seen.fields["content-length"], "3000000");
    assert!(seen.body == body && seen.trailers.is_none());
    // In chunks, with fields behind them of which not all may pass.
    let mut bytes =
        b"POST / HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n"
            .to_vec();
    for piece in body.chunks(70_000) {
        bytes.extend(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\nX-Trailer: 1\r\nHost: evil\r\nCookie: a=b\r\n\r\n");
    client.send(&bytes).unwrap();
    assert!(client.reply("POST").unwrap().body == body);
    let seen = origin.next();
    assert!(!seen.fields.contains_key("content-length"));
    let trailers = seen.trailers.unwrap();
    assert_eq!(
        (trailers.len(), &trailers["x-trailer"]),
        (1, &HeaderValue::from_static("1"))
    );
    assert!(seen.body == body);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn no_login_of_a_connection_ever_shares_one() {
    let origin = Http2Origin::echo();
    // HTTP/1.1 on the same port is not to be had: a login finds no server rather than a shared connection.
    let proxy = before(origin.address).start();
    for scheme in ["NTLM TlRMTVNTUAAB", "Negotiate YII="] {
        let reply = proxy
            .client()
            .get("/", &[("Authorization", scheme)])
            .unwrap();
        assert_eq!(reply.status, 502);
    }
    assert!(origin.others().is_empty());
    assert_eq!(
        proxy
            .client()
            .get("/", &[("Authorization", "Basic eA==")])
            .unwrap()
            .status,
        200
    );
}

#[test]
fn offer_of_such_a_login_binds_the_client_from_then_on() {
    // A server that speaks both, told apart by what comes first, as prior knowledge has it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let by_http2 = Http2Origin::start(|mut exchange: Exchange| async move {
        exchange.take().await.unwrap();
        let response = http::Response::builder()
            .status(401)
            .header("www-authenticate", "NTLM");
        let _ = exchange
            .respond
            .send_response(response.body(()).unwrap(), true);
    });
    let by_http1 = Origin::answering("in");
    let (http2, http1) = (by_http2.address, by_http1.address);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut first = [0; 3];
                if stream.peek(&mut first).is_err() {
                    return;
                }
                let to = if first == *b"PRI" { http2 } else { http1 };
                let other = std::net::TcpStream::connect(to).unwrap();
                let (mut from, mut into) =
                    (stream.try_clone().unwrap(), other.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Write);
                });
                let (mut from, mut into) = (other, stream);
                let _ = std::io::copy(&mut from, &mut into);
                let _ = into.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    let proxy = before(address).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/", &[]).unwrap().status, 401);
    for _ in 0..3 {
        let reply = client.get("/", &[("Authorization", "NTLM TlRM")]).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "in"));
    }
    // All on one connection of the client's own; another client is on none of it.
    assert_eq!(by_http1.connections(), 1);
    assert_eq!(by_http2.others().len(), 1);
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 401);
    assert_eq!(by_http1.connections(), 1);
}

#[test]
fn resets_end_their_own_stream_and_tell_what_may_be_done() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let origin = Http2Origin::start(move |mut exchange: Exchange| {
        let count = Arc::clone(&count);
        async move {
            match exchange.path().as_str() {
                "/internal" => exchange.respond.send_reset(h2::Reason::INTERNAL_ERROR),
                "/refused" if count.fetch_add(1, Ordering::SeqCst) == 0 => {
                    exchange.respond.send_reset(h2::Reason::REFUSED_STREAM);
                }
                "/always" => exchange.respond.send_reset(h2::Reason::REFUSED_STREAM),
                "/half" => {
                    let response = http::Response::builder().header("content-length", "10");
                    let response = response.body(()).unwrap();
                    let mut stream = exchange.respond.send_response(response, false).unwrap();
                    let _ = stream.send_data(bytes::Bytes::from_static(b"half"), false);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    stream.send_reset(h2::Reason::INTERNAL_ERROR);
                }
                _ => {
                    let _ = exchange.take().await;
                    exchange.answer(200, b"ok", None).await;
                }
            }
        }
    });
    let proxy = before(origin.address).start();
    let mut client = proxy.client();
    assert_eq!(
        client
            .request("POST", "/internal", &[], b"x")
            .unwrap()
            .status,
        502
    );
    // Nothing was done with it, so it is asked again.
    assert_eq!(proxy.client().get("/refused", &[]).unwrap().status, 200);
    assert_eq!(
        proxy.metric("stopgap_proxy_upstream_retries_total{reason=\"refused\"}"),
        1.0
    );
    assert_eq!(refused.load(Ordering::SeqCst), 2);
    assert_eq!(proxy.client().get("/always", &[]).unwrap().status, 502);
    let ended = proxy.client().get("/half", &[]);
    assert!(
        matches!(ended, Err(Lost::Truncated | Lost::Reset)),
        "{ended:?}"
    );
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 200);
    assert_eq!(origin.connections(), 1);
}

/// Answers the first connection as it says, with what was read up to the first head; and hands on the others.
fn first_connection_of(
    origin: SocketAddr,
    answer: impl Fn(&mut std::net::TcpStream, u32) + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut first = true;
        for mut stream in listener.incoming().map_while(Result::ok) {
            if std::mem::take(&mut first) {
                let mut preface = [0; PREFACE.len()];
                stream.read_exact(&mut preface).unwrap();
                stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head).unwrap();
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    let mut payload = vec![0; length as usize];
                    stream.read_exact(&mut payload).unwrap();
                    if head[3] == HEADERS {
                        answer(
                            &mut stream,
                            u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
                        );
                        break;
                    }
                }
                continue;
            }
            let other = std::net::TcpStream::connect(origin).unwrap();
            let (mut from, mut into) = (stream.try_clone().unwrap(), other.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut into));
            let (mut from, mut into) = (other, stream);
            std::thread::spawn(move || std::io::copy(&mut from, &mut into));
        }
    });
    address
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(
        GOAWAY,
        0,
        0,
        &[last.to_be_bytes(), code.to_be_bytes()].concat(),
    )
}

#[test]
fn requests_that_a_server_leaves_behind_go_on_elsewhere_and_others_do_not() {
    let origin = Http2Origin::echo();
    // Neither stream was looked at: what has no body goes on a new connection, whatever its method.
    for method in ["GET", "DELETE"] {
        let address = first_connection_of(origin.address, |stream, _| {
            stream.write_all(&goaway(0, 0)).unwrap();
        });
        let proxy = before(address).start();
        let reply = proxy.client().request(method, "/again", &[], b"").unwrap();
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (200, "/again"),
            "{method}"
        );
        assert_eq!(origin.next().method, method);
    }
    // It was looked at, and the connection ended: only what is safe is asked again.
    for (method, status) in [("GET", 200), ("DELETE", 502)] {
        let address = first_connection_of(origin.address, |stream, id| {
            stream.write_all(&goaway(id, 0)).unwrap();
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        });
        let proxy = before(address).start();
        let reply = proxy.client().request(method, "/", &[], b"").unwrap();
        assert_eq!(reply.status, status, "{method}");
        assert_eq!(origin.others().len(), usize::from(status == 200));
    }
}

#[test]
fn connections_are_bounded_and_requests_wait_for_a_stream() {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let (tell, told) = mpsc::sync_channel(16);
    let origin = Http2Origin::with(builder, None, move |mut exchange: Exchange| {
        let (held, tell) = (Arc::clone(&held), tell.clone());
        async move {
            let _ = exchange.take().await;
            tell.send(exchange.connection).unwrap();
            held.acquire().await.unwrap().forget();
            exchange.answer(200, b"ok", None).await;
        }
    });
    let proxy = before(origin.address).start();
    // The server's own bound is known once it has said something.
    gate.add_permits(1);
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 200);
    told.recv().unwrap();
    let mut clients: Vec<_> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n").unwrap();
    }
    // Four connections with two streams each; two requests wait.
    let first: Vec<usize> = (0..8)
        .map(|_| told.recv_timeout(Duration::from_secs(20)).unwrap())
        .collect();
    for connection in 1..=4 {
        assert_eq!(
            first.iter().filter(|one| **one == connection).count(),
            2,
            "{first:?}"
        );
    }
    assert!(told.recv_timeout(Duration::from_millis(100)).is_err());
    gate.add_permits(10);
    for client in &mut clients {
        assert_eq!(client.reply("GET").unwrap().status, 200);
    }
    assert_eq!(origin.connections(), 4);
}

#[test]
fn server_that_answers_too_late_gets_no_more_on_that_connection() {
    let origin = Http2Origin::start(|mut exchange: Exchange| async move {
        let _ = exchange.take().await;
        if exchange.connection == 1 {
            std::future::pending::<()>().await;
        }
        exchange.answer(200, b"ok", None).await;
    });
    let proxy = before(origin.address)
        .limits(|limits| limits.response_timeout = Duration::from_millis(200))
        .start();
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 504);
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 200);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn client_that_reads_nothing_holds_up_no_other() {
    let origin = Http2Origin::start(|mut exchange: Exchange| async move {
        let _ = exchange.take().await;
        let body = match exchange.path().as_str() {
            "/large" => vec![b'x'; 20_000_000],
            _ => b"ok".to_vec(),
        };
        exchange.answer(200, &body, None).await;
    });
    let proxy = before(origin.address).start();
    let mut idle: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    for client in &mut idle {
        client
            .send(b"GET /large HTTP/1.1\r\nHost: m\r\n\r\n")
            .unwrap();
        client.read_exactly(1).unwrap();
    }
    for _ in 0..20 {
        assert_eq!(proxy.client().get("/", &[]).unwrap().text(), "ok");
    }
    // A client that goes away takes its stream with it.
    drop(idle);
    assert_eq!(proxy.client().get("/", &[]).unwrap().text(), "ok");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn tls_agrees_on_http2_or_on_what_the_server_speaks() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, issued.cert.pem()).unwrap();
    let config = |protocols: &[&str]| {
        let key =
            rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    };
    let before = |address: SocketAddr| {
        let mut server: Server = format!("h2://localhost:{}", address.port())
            .parse()
            .unwrap();
        server.tls = Some(ServerTls {
            authorities: Some(ca.clone()),
            name: None,
        });
        serving(Upstream::Servers([server].into_iter().collect()))
    };
    let origin = Http2Origin::with(
        h2::server::Builder::new(),
        Some(config(&["h2"])),
        |mut exchange: Exchange| async move {
            let _ = exchange.take().await;
            exchange.answer(200, b"two", None).await;
        },
    );
    let proxy = before(origin.address).start();
    assert_eq!(proxy.client().get("/", &[]).unwrap().text(), "two");
    assert!(origin.next().uri.starts_with("https://localhost/"));

    // One that speaks HTTP/1.1 alone is spoken to by that, and its connections stay as usual.
    let (plain, config) = (Origin::answering("one"), config(&["http/1.1"]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let to = plain.address;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut other = std::net::TcpStream::connect(to).unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            std::thread::spawn(move || {
                let mut tls = rustls::Stream::new(&mut tls, &mut stream);
                let mut buffer = [0; 65_536];
                // One request and one answer at a time, each in one piece.
                while let Ok(count @ 1..) = tls.read(&mut buffer) {
                    other.write_all(&buffer[..count]).unwrap();
                    let count = other.read(&mut buffer).unwrap();
                    tls.write_all(&buffer[..count]).unwrap();
                }
            });
        }
    });
    let proxy = before(address).start();
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/", &[]).unwrap().text(), "one");
    }
    assert_eq!(plain.connections(), 1);
}

#[test]
fn health_of_such_servers_is_asked_in_their_own_words() {
    let origin = Http2Origin::echo();
    let mut upstream = upstream(origin.address);
    if let Upstream::Servers(group) = &mut upstream {
        let mut check = HealthCheck::of("/health");
        check.interval = Duration::from_millis(10);
        check.host = Some("mail.example".to_owned());
        group.health = Some(check);
    }
    let proxy = serving(upstream).start();
    eventually("the server is well", || {
        proxy.running.upstreams()[0].servers[0].state == "up"
    });
    assert_eq!(origin.next().uri, "http://mail.example/health");
}

#[test]
fn server_that_wants_http1_gets_it() {
    let by_http1 = Origin::start(|connection, seen| {
        connection.take(seen);
        connection.answer("200 OK", "", "one");
        Then::Keep
    });
    let to = by_http1.address;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let by_http2 = Http2Origin::start(|mut exchange: Exchange| async move {
        exchange.respond.send_reset(h2::Reason::HTTP_1_1_REQUIRED);
    });
    let two = by_http2.address;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut first = [0; 3];
            if stream.peek(&mut first).is_err() {
                continue;
            }
            let other =
                std::net::TcpStream::connect(if first == *b"PRI" { two } else { to }).unwrap();
            let (mut from, mut into) = (stream.try_clone().unwrap(), other.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut into));
            let (mut from, mut into) = (other, stream);
            std::thread::spawn(move || std::io::copy(&mut from, &mut into));
        }
    });
    let proxy = before(address).start();
    for _ in 0..3 {
        assert_eq!(proxy.client().get("/", &[]).unwrap().text(), "one");
    }
    assert_eq!(
        proxy.metric("stopgap_proxy_upstream_retries_total{reason=\"refused\"}"),
        1.0
    );
}
