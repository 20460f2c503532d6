//! Servers that misbehave in the middle of an exchange, and an end under load: nobody gets another's bytes, and nobody
//! who was taken goes without an answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use crate::support::client::{Client, Lost};
use crate::support::origin::{Origin, Then};
use crate::support::process::Daemon;
use crate::support::proxy::before;

#[test]
fn what_comes_behind_a_response_reaches_nobody() {
    let origin = Origin::start(|connection, seen| {
        connection.take(seen);
        if connection.count() == 1 {
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        } else {
            connection.answer("200 OK", "", "again");
        }
        Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    for number in 1..=5 {
        assert_eq!(client.get("/", &[]).unwrap().text(), "first");
        assert_eq!(origin.connections(), number);
    }
}

#[test]
fn interim_answer_is_no_answer() {
    let origin = Origin::start(|connection, seen| {
        let forever = seen.target() == "/forever";
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n");
        if forever {
            let mut buffer = [0; 4_096];
            while matches!(connection.read(&mut buffer), Ok(1..)) {}
            return Then::Close;
        }
        let body = connection.take(seen).unwrap();
        connection.answer("200 OK", "", &body.len().to_string());
        Then::Keep
    });
    let proxy = before(&[&origin])
        .limits(|limits| limits.response_timeout = Duration::from_millis(300))
        .start();
    let late = proxy.client().request("POST", "/forever", &[], b"body");
    assert_eq!(late.unwrap().status, 504);
    let reply = proxy.client().request("POST", "/", &[], b"body").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "4"));
}

#[test]
fn server_that_refuses_before_the_body_came_is_heard_and_left() {
    let origin = Origin::start(|connection, seen| {
        match seen.target() {
            "/login" => {
                connection.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
                // Takes in what is on its way, so that no reset overtakes the answer.
                let mut buffer = [0; 65_536];
                while matches!(connection.read(&mut buffer), Ok(1..)) {}
                Then::Close
            }
            _ => {
                connection.take(seen);
                connection.answer("200 OK", "", "ok");
                Then::Keep
            }
        }
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    client
        .send(b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
        .unwrap();
    client.send(&[b'x'; 100_000]).unwrap();
    let reply = client.reply("POST").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (401, "no"));
    drop(client);
    // Nothing of that body is taken for a request.
    assert_eq!(proxy.client().get("/", &[]).unwrap().text(), "ok");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn server_that_ends_its_side_is_not_asked_again_on_that_connection() {
    let (tell, ended) = std::sync::mpsc::sync_channel(1);
    let origin = Origin::start(move |connection, seen| {
        let target = seen.target().to_owned();
        connection.take(seen);
        if target == "/nothing" {
            return Then::Close;
        }
        connection.answer("200 OK", "", "whole");
        // In order, and without a word of it in the head.
        connection.end();
        tell.send(()).unwrap();
        Then::Close
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/", &[]).unwrap().text(), "whole");
        // Whoever asks before it ended may be too late without knowing (RFC 9112 section 9.3.1).
        ended.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    assert_eq!(
        client
            .request("POST", "/nothing", &[], b"x")
            .unwrap()
            .status,
        502
    );
    // What is not safe to repeat was sent once.
    let asked = origin
        .others()
        .iter()
        .filter(|seen| seen.target() == "/nothing")
        .count();
    assert_eq!(asked, 1);
}

#[test]
fn end_under_load_answers_every_request_that_was_taken() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::answering("hello");
    let upstream = format!("http://{}", origin.address);
    let daemon = Daemon::start(&folder.path().join("state"), &["--upstream", &upstream]);
    let address = daemon.address;
    let (clients, answered) = (16, Arc::new(AtomicUsize::new(0)));
    let ready = Arc::new(Barrier::new(clients + 1));
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let (ready, answered) = (Arc::clone(&ready), Arc::clone(&answered));
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                assert_eq!(client.get("/", &[]).unwrap().status, 200);
                ready.wait();
                // Each asks on until it is told that its connection ends.
                loop {
                    match client.get("/", &[]) {
                        Ok(reply) if reply.field("connection") == Some("close") => return None,
                        Ok(reply) if reply.status == 200 => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        other => return Some(other.map(|reply| reply.status)),
                    }
                }
            })
        })
        .collect();
    ready.wait();
    while answered.load(Ordering::Relaxed) < 500 {
        std::thread::yield_now();
    }
    daemon.signal("TERM");
    let failures: Vec<Option<Result<u16, Lost>>> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert!(failures.iter().all(Option::is_none), "{failures:?}");
    assert!(daemon.wait().success());
}
