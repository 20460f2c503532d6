//! Several servers behind one site: which of them gets a request, and what becomes of those that fail.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use stopgap::proxy::{Balance, HealthCheck, Route, ServerGroup, Upstream};

use crate::support::client::Client;
use crate::support::origin::{Origin, Then};
use crate::support::proxy::{Builder, Fixture, before, before_addresses, eventually};

/// A server that is not there.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Changes the upstream of the only site.
fn group(builder: Builder, change: impl FnOnce(&mut ServerGroup)) -> Builder {
    builder.config(|config| {
        let Upstream::Servers(group) = &mut config.sites[0].upstream else {
            panic!("no servers");
        };
        change(group);
    })
}

/// How many of these requests each server answered, each on a connection of its own.
fn answers(proxy: &Fixture, count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let reply = proxy.client().get("/", &[]).unwrap();
        assert_eq!(reply.status, 200);
        *answers.entry(reply.text()).or_default() += 1;
    }
    answers
}

fn counts<const N: usize>(pairs: [(&str, usize); N]) -> BTreeMap<String, usize> {
    pairs
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

fn state(proxy: &Fixture, server: usize) -> &'static str {
    proxy.running.upstreams()[0].servers[server].state
}

#[test]
fn weights_share_requests_out() {
    let (one, two) = (Origin::answering("one"), Origin::answering("two"));
    let proxy = group(before(&[&one, &two]), |group| group.members[1].weight = 3).start();
    assert_eq!(answers(&proxy, 16), counts([("one", 4), ("two", 12)]));
}

#[test]
fn backup_serves_only_while_nobody_else_does() {
    let two = Origin::answering("two");
    let proxy = group(before_addresses(&[nowhere(), two.address]), |group| {
        group.members[1].backup = true;
    })
    .start();
    assert_eq!(answers(&proxy, 4), counts([("two", 4)]));
}

#[test]
fn client_address_stays_with_its_server() {
    let names = ["one", "two", "three", "four"];
    let origins = names.map(Origin::answering);
    let proxy = group(before(&origins.each_ref()), |group| {
        group.balance = Balance::ClientAddress;
    })
    .start();
    assert_eq!(answers(&proxy, 8).len(), 1);
}

#[test]
fn routes_lead_to_upstreams_of_their_own() {
    let (rest, owa, api) = (
        Origin::answering("rest"),
        Origin::answering("owa"),
        Origin::answering("api"),
    );
    let route = |paths: &[&str], origin: &Origin| Route {
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
        upstream: before(&[origin]).config.sites.remove(0).upstream,
    };
    let proxy = before(&[&rest])
        .config(|config| {
            config.sites[0].routes = vec![route(&["/owa"], &owa), route(&["/owa/api"], &api)];
        })
        .start();
    let mut client = proxy.client();
    for (target, expected) in [
        ("/", "rest"),
        ("/OWA/x", "owa"),
        ("/owax", "rest"),
        ("/o%77a/api/y?z", "api"),
    ] {
        assert_eq!(
            client.get(target, &[]).unwrap().text(),
            expected,
            "{target}"
        );
    }
}

#[test]
fn server_that_cannot_be_reached_is_left_out_until_it_is_back() {
    let (one, dead) = (Origin::answering("one"), nowhere());
    let proxy = group(before_addresses(&[dead, one.address]), |group| {
        group.ejection.failures = 1;
        group.ejection.time = Duration::from_millis(200);
    })
    .start();
    assert_eq!(answers(&proxy, 4), counts([("one", 4)]));
    assert_eq!(proxy.metric("stopgap_proxy_upstream_ejections_total"), 1.0);
    let retries = proxy.metric("stopgap_proxy_upstream_retries_total{reason=\"unreachable\"}");
    assert!((1.0..3.0).contains(&retries), "{retries}");
    let listener = TcpListener::bind(dead).unwrap();
    let answered = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&answered);
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback");
            told.store(true, Ordering::SeqCst);
        }
    });
    eventually("the server gets requests again", || {
        assert_eq!(proxy.client().get("/", &[]).unwrap().status, 200);
        answered.load(Ordering::SeqCst)
    });
}

#[test]
fn server_errors_count_only_when_that_is_asked_for() {
    for asked in [false, true] {
        let bad = Origin::start(|connection, seen| {
            connection.take(seen);
            connection.answer("503 Service Unavailable", "", "bad");
            Then::Keep
        });
        let good = Origin::answering("good");
        let proxy = group(before(&[&bad, &good]), |group| {
            group.ejection.failures = 3;
            group.ejection.server_errors = asked;
        })
        .start();
        let mut client = proxy.client();
        let bad = (0..40)
            .filter(|_| client.get("/", &[]).unwrap().status == 503)
            .count();
        assert_eq!(bad, if asked { 3 } else { 20 });
        assert_eq!(
            state(&proxy, 0),
            if asked { "ejected" } else { "not checked" }
        );
    }
}

/// What the rules stop, and what a client does wrong, says nothing about a server.
#[test]
fn blocked_and_broken_requests_do_not_count_against_a_server() {
    let (one, two) = (Origin::answering("one"), Origin::answering("two"));
    let block = r#"<rule name="b" stopProcessing="true"><match url="^blocked" /><action type="CustomResponse" statusCode="503" statusReason="no" statusDescription="no" /></rule>"#;
    let proxy = group(before(&[&one, &two]).rules(block), |group| {
        group.ejection.failures = 1;
        group.ejection.server_errors = true;
    })
    .start();
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.get("/blocked", &[]).unwrap().status, 503);
        let mut broken = proxy.client();
        broken
            .send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n")
            .unwrap();
        eventually("the server has it", || {
            proxy.metric("stopgap_proxy_upstream_connections") > 0.0
        });
        broken.send(b"nonsense\r\n").unwrap();
        assert_eq!(broken.reply("POST").unwrap().status, 400);
    }
    assert_eq!(state(&proxy, 0), "not checked");
    assert_eq!(answers(&proxy, 4), counts([("one", 2), ("two", 2)]));
    assert_eq!(proxy.metric("stopgap_proxy_upstream_ejections_total"), 0.0);
}

/// A server whose health checks go as the flag says.
fn checked(name: &'static str, well: &Arc<AtomicBool>) -> Origin {
    let well = Arc::clone(well);
    Origin::start(move |connection, seen| {
        if seen.target() != "/owa/healthcheck.htm" {
            connection.take(seen);
            connection.answer("200 OK", "", name);
            return Then::Keep;
        }
        assert_eq!(seen.values("host"), ["mail.example"]);
        assert_eq!(seen.values("user-agent"), ["stopgap-health-check"]);
        match well.load(Ordering::SeqCst) {
            true => connection.answer("200 OK", "", "200 OK"),
            false => connection.answer("503 Service Unavailable", "", ""),
        }
        Then::Close
    })
}

#[test]
fn health_checks_take_servers_out_and_bring_them_back() {
    let well = [(); 2].map(|()| Arc::new(AtomicBool::new(true)));
    let (one, two) = (checked("one", &well[0]), checked("two", &well[1]));
    let proxy = group(before(&[&one, &two]), |group| {
        group.health = Some(HealthCheck {
            host: Some("mail.example".to_owned()),
            interval: Duration::from_millis(20),
            ..HealthCheck::of("/owa/healthcheck.htm")
        });
    })
    .start();
    let both = |state_of: [&str; 2]| {
        eventually("health checks come to a verdict", || {
            [0, 1].map(|server| state(&proxy, server)) == state_of
        });
    };
    let fit = format!(
        "stopgap_proxy_upstream_fit{{server=\"http://{}\"}}",
        one.address
    );
    both(["up", "up"]);
    well[0].store(false, Ordering::SeqCst);
    both(["down", "up"]);
    let status = proxy.running.upstreams().remove(0);
    assert_eq!(status.servers[0].reason, "answered with 503");
    eventually("the worker has noticed", || proxy.metric(&fit) == 0.0);
    assert_eq!(answers(&proxy, 6), counts([("two", 6)]));
    well[1].store(false, Ordering::SeqCst);
    both(["down", "down"]);
    eventually("when nobody is well, all are asked", || {
        answers(&proxy, 2).len() == 2
    });
    well.iter()
        .for_each(|well| well.store(true, Ordering::SeqCst));
    both(["up", "up"]);
    eventually("the worker has noticed", || proxy.metric(&fit) == 1.0);
    assert_eq!(answers(&proxy, 6), counts([("one", 3), ("two", 3)]));
    assert!(proxy.metric("stopgap_proxy_health_checks_total{result=\"bad\"}") >= 6.0);
}

#[test]
fn servers_are_sent_nothing_unless_they_are_to_be_checked() {
    let origin = Origin::answering("one");
    let proxy = before(&[&origin]).start();
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 200);
    assert_eq!((origin.connections(), state(&proxy, 0)), (1, "not checked"));
}

/// Servers that answer once they are told to.
fn held(name: &'static str) -> (Origin, std::sync::mpsc::SyncSender<()>, Arc<AtomicUsize>) {
    let (go, wait) = sync_channel::<()>(64);
    let wait = Mutex::new(wait);
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let origin = Origin::start(move |connection, seen| {
        connection.take(seen);
        count.fetch_add(1, Ordering::SeqCst);
        if wait.lock().unwrap().recv().is_err() {
            return Then::Close;
        }
        connection.answer("200 OK", "", name);
        Then::Keep
    });
    (origin, go, begun)
}

#[test]
fn connections_to_a_server_are_bounded_and_the_next_request_waits() {
    let (origin, go, begun) = held("x");
    let proxy = group(before(&[&origin]), |group| {
        group.connections = Some(1);
        group.queue = 1;
        group.queue_timeout = Duration::from_secs(20);
    })
    .config(|config| config.workers = 2)
    .start();
    let ask = |client: &mut Client| client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (mut first, mut second, mut third) = (proxy.client(), proxy.client(), proxy.client());
    ask(&mut first);
    eventually("the first is on its way", || {
        begun.load(Ordering::SeqCst) == 1
    });
    ask(&mut second);
    eventually("the second waits", || {
        proxy.running.upstreams()[0].waiting == 1
    });
    assert_eq!(proxy.running.upstreams()[0].servers[0].in_use, Some(1));
    ask(&mut third);
    let refused = third.reply("GET").unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("reason: upstream-busy\n"));
    go.send(()).unwrap();
    assert_eq!(first.reply("GET").unwrap().text(), "x");
    go.send(()).unwrap();
    assert_eq!(second.reply("GET").unwrap().text(), "x");
    eventually("nothing is held any more", || {
        let status = &proxy.running.upstreams()[0];
        (status.waiting, status.servers[0].in_use) == (0, Some(0))
    });
}

#[test]
fn requests_at_the_same_time_find_their_connections_again_and_few_are_kept_for_long() {
    const AT_ONCE: usize = 12;
    for (limit, after_both, kept) in [(4, AT_ONCE, 4.0), (0, 2 * AT_ONCE, 0.0)] {
        let all_there = Barrier::new(AT_ONCE);
        let origin = Origin::start(move |connection, _| {
            all_there.wait();
            connection.answer("200 OK", "", "x");
            Then::Keep
        });
        let proxy = group(before(&[&origin]), |group| {
            group.idle_connections = Some(limit);
        })
        .start();
        let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| proxy.client()).collect();
        for _ in 0..2 {
            for client in &mut clients {
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            }
            for client in &mut clients {
                assert_eq!(client.reply("GET").unwrap().text(), "x");
            }
        }
        assert_eq!(origin.connections(), after_both, "limit {limit}");
        eventually("the others are closed", || {
            proxy.metric("stopgap_proxy_upstream_connections") == kept
        });
    }
}

#[test]
fn waiting_ends_and_a_client_that_goes_away_waits_no_longer() {
    let (origin, go, begun) = held("x");
    let proxy = group(before(&[&origin]), |group| {
        group.connections = Some(1);
        group.queue_timeout = Duration::from_millis(200);
    })
    .limits(|limits| limits.half_close_timeout = Duration::from_millis(100))
    .start();
    let ask = |client: &mut Client| client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (mut first, mut second) = (proxy.client(), proxy.client());
    ask(&mut first);
    eventually("the first is on its way", || {
        begun.load(Ordering::SeqCst) == 1
    });
    ask(&mut second);
    assert_eq!(second.reply("GET").unwrap().status, 503);
    drop(first);
    eventually("its place is free", || {
        proxy.running.upstreams()[0].servers[0].in_use == Some(0)
    });
    drop(go);
}

#[test]
fn upstream_has_its_own_timeout() {
    let silent = Origin::start(|connection, seen| {
        connection.take(seen);
        let _ = connection.read(&mut [0]);
        Then::Close
    });
    let proxy = group(before(&[&silent]), |group| {
        group.response_timeout = Some(Duration::from_millis(100));
    })
    .start();
    assert_eq!(proxy.client().get("/", &[]).unwrap().status, 504);
}
