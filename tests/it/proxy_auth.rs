//! Logins that are bound to connections: who rides on which upstream connection, and what ends with what.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::support::client::{Client, Lost, Reply};
use crate::support::origin::{Connection, Origin, Seen, Then};
use crate::support::proxy::{Fixture, before, eventually};

/// Answers as a server that speaks NTLM does: a first message gets a challenge that is good on its connection alone,
/// a matching third one logs that connection in, and what follows on it is its user's.
fn speak_ntlm(
    logins: &Mutex<HashMap<usize, Option<String>>>,
    connection: &mut Connection,
    seen: &Seen,
) {
    let number = seen.connection;
    let authorization = seen.values("authorization").first().copied().unwrap_or("");
    let message = authorization
        .split_once(' ')
        .map_or("", |(_, message)| message);
    let mut logins = logins.lock().unwrap();
    let expected = format!("third-{number}-");
    if message == "first" {
        logins.insert(number, None);
        let fields = format!("WWW-Authenticate: NTLM challenge-{number}\r\n");
        connection.answer("401 Unauthorized", &fields, "go on");
    } else if let Some(user) = message.strip_prefix(&expected)
        && logins.get(&number) == Some(&None)
    {
        logins.insert(number, Some(user.to_owned()));
        connection.answer("200 OK", "", user);
    } else if let Some(Some(user)) = logins.get(&number) {
        connection.answer("200 OK", "", user);
    } else {
        let fields = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n";
        connection.answer("401 Unauthorized", fields, "who are you?");
    }
}

/// A server that speaks NTLM.
fn ntlm_origin() -> Origin {
    let logins = Mutex::new(HashMap::new());
    Origin::start(move |connection, seen| {
        if connection.take(seen.clone()).is_none() {
            return Then::Close;
        }
        speak_ntlm(&logins, connection, &seen);
        Then::Keep
    })
}

/// A server whose first answer asks for NTLM, and that then does as it is told.
fn asking_origin(then: impl Fn(&mut Connection, Seen) -> Then + Send + Sync + 'static) -> Origin {
    Origin::start(move |connection, seen| {
        if connection.count() > 1 {
            return then(connection, seen);
        }
        connection.record(seen);
        connection.answer("401 Unauthorized", "WWW-Authenticate: NTLM\r\n", "");
        Then::Keep
    })
}

/// Sends the first message and yields the third, for this user.
fn begin(client: &mut Client, user: &str) -> String {
    let reply = client.get("/owa/", &[("Authorization", "NTLM first")]);
    let reply = reply.unwrap();
    assert_eq!(reply.status, 401);
    let challenge = reply.field("www-authenticate").unwrap();
    let number = challenge.strip_prefix("NTLM challenge-").unwrap();
    format!("NTLM third-{number}-{user}")
}

fn finish(client: &mut Client, third: &str) -> Reply {
    client.get("/owa/", &[("Authorization", third)]).unwrap()
}

fn log_in(client: &mut Client, user: &str) {
    let third = begin(client, user);
    let reply = finish(client, &third);
    assert_eq!((reply.status, reply.text().as_str()), (200, user));
}

fn upstream_connections(proxy: &Fixture) -> f64 {
    proxy.metric("stopgap_proxy_upstream_connections")
}

#[test]
fn handshake_stays_on_one_connection_and_counts_for_what_follows() {
    let origin = ntlm_origin();
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/owa/", &[]).unwrap().status, 401);
    log_in(&mut client, "ann");
    for _ in 0..3 {
        let reply = client.get("/owa/", &[]).unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "ann"));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn second_client_never_rides_on_a_login() {
    let origin = ntlm_origin();
    let proxy = before(&[&origin]).start();
    let mut ann = proxy.client();
    log_in(&mut ann, "ann");
    for _ in 0..20 {
        assert_eq!(proxy.client().get("/owa/", &[]).unwrap().status, 401);
    }
    assert_eq!(ann.get("/owa/", &[]).unwrap().text(), "ann");
    drop(ann);
    eventually("the login ends with its client", || {
        upstream_connections(&proxy) == 0.0
    });
    assert_eq!(proxy.client().get("/owa/", &[]).unwrap().status, 401);
}

#[test]
fn handshake_of_one_client_is_of_no_use_to_another() {
    let origin = ntlm_origin();
    let proxy = before(&[&origin]).start();
    let (mut ann, mut eve) = (proxy.client(), proxy.client());
    let third = begin(&mut ann, "ann");
    assert_eq!(finish(&mut eve, &third).status, 401);
    assert_eq!(finish(&mut ann, &third).text(), "ann");
}

#[test]
fn interleaved_clients_keep_to_themselves() {
    let origins = [ntlm_origin(), ntlm_origin()];
    let proxy = before(&[&origins[0], &origins[1]]).start();
    let mut clients: Vec<Client> = (0..12).map(|_| proxy.client()).collect();
    let thirds: Vec<String> = clients
        .iter_mut()
        .enumerate()
        .map(|(n, client)| begin(client, &format!("user{n}")))
        .collect();
    for (n, client) in clients.iter_mut().enumerate().rev() {
        assert_eq!(finish(client, &thirds[n]).text(), format!("user{n}"));
    }
    for _ in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.get("/", &[]).unwrap().text(), format!("user{n}"));
        }
    }
    let connections = origins.iter().map(Origin::connections);
    assert_eq!(connections.collect::<Vec<_>>(), [6, 6]);
}

#[test]
fn being_asked_for_a_login_is_enough() {
    for asks in [
        "WWW-Authenticate: Basic realm=\"a\", nTLM\r\n",
        "WWW-Authenticate: Basic realm=\"a\"\r\nwww-authenticate: NEGOTIATE abc\r\n",
        "WWW-Authenticate: Nego2\r\n",
    ] {
        let origin = Origin::start(move |connection, seen| {
            connection.record(seen);
            connection.answer("401 Unauthorized", asks, "");
            Then::Keep
        });
        let proxy = before(&[&origin]).start();
        let mut clients = [proxy.client(), proxy.client()];
        for n in [0, 1, 0, 1] {
            assert_eq!(clients[n].get("/", &[]).unwrap().status, 401);
        }
        let connections = (0..4).map(|_| origin.next().connection);
        assert_eq!(connections.collect::<Vec<_>>(), [1, 2, 1, 2], "{asks}");
    }
}

#[test]
fn logins_of_requests_share_connections() {
    let origin = Origin::start(|connection, seen| {
        connection.record(seen);
        let fields = "WWW-Authenticate: Basic realm=\"NTLM\"\r\n";
        connection.answer("401 Unauthorized", fields, "");
        Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let mut clients = [proxy.client(), proxy.client()];
    for n in [0, 1, 0, 1] {
        let fields = [("Authorization", "Basic bnRsbQ==")];
        assert_eq!(clients[n].get("/", &fields).unwrap().status, 401);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn client_is_closed_when_its_connection_is() {
    let origin = asking_origin(|connection, _| {
        connection.answer("200 OK", "Connection: close\r\n", "bye");
        Then::Close
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/", &[]).unwrap().status, 401);
    let reply = client.get("/", &[]).unwrap();
    assert_eq!(
        (reply.text().as_str(), reply.field("connection")),
        ("bye", Some("close"))
    );
    assert_eq!(client.rest(), Ok(Vec::new()));
}

#[test]
fn client_is_closed_when_its_idle_connection_is() {
    let origin = Origin::start(|connection, _| {
        connection.answer("401 Unauthorized", "WWW-Authenticate: NTLM\r\n", "");
        Then::Close
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/", &[]).unwrap().status, 401);
    assert_eq!(client.rest(), Ok(Vec::new()));
    drop(client);
    eventually("nothing is left", || {
        proxy.metric("stopgap_proxy_connections") == 0.0
    });
}

#[test]
fn request_lost_on_a_login_is_sent_to_nobody_else() {
    let origin = asking_origin(|connection, seen| {
        connection.record(seen);
        Then::Reset
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/", &[]).unwrap().status, 401);
    assert!(matches!(
        client.get("/lost", &[]),
        Err(Lost::Reset | Lost::Closed)
    ));
    eventually("both are gone", || {
        proxy.metric("stopgap_proxy_connections") == 0.0 && upstream_connections(&proxy) == 0.0
    });
    assert_eq!((origin.connections(), origin.others().len()), (1, 2));
}

#[test]
fn answer_before_the_body_was_read_keeps_the_connection() {
    let logins = Mutex::new(HashMap::new());
    let origin = Origin::start(move |connection, seen| {
        speak_ntlm(&logins, connection, &seen);
        match connection.body(&seen) {
            Some(_) => Then::Keep,
            None => Then::Close,
        }
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    let body = vec![b'x'; 1_000_000];
    let mut post = |authorization: &str| {
        let head = format!(
            "POST /EWS/Exchange.asmx HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.send(head.as_bytes()).unwrap();
        client.send(&body[..1]).unwrap();
        let reply = client.reply("POST").unwrap();
        client.send(&body[1..]).unwrap();
        reply
    };
    assert_eq!(post("NTLM first").status, 401);
    assert_eq!(post("NTLM third-1-ann").text(), "ann");
    assert_eq!(post("NTLM third-1-ann").text(), "ann");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn answer_instead_of_reading_the_body_ends_both_connections() {
    let origin = Origin::start(|connection, _| {
        connection.answer("401 Unauthorized", "WWW-Authenticate: NTLM\r\n", "");
        Then::Close
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    client
        .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nstart")
        .unwrap();
    assert_eq!(client.reply("POST").unwrap().status, 401);
    // The end, in order or not: the rest of the body has nowhere to go.
    assert!(matches!(client.rest(), Ok(rest) if rest.is_empty()));
    eventually("both are gone", || {
        proxy.metric("stopgap_proxy_connections") == 0.0 && upstream_connections(&proxy) == 0.0
    });
}

#[test]
fn login_lasts_over_answers_of_every_framing() {
    let origin = asking_origin(|connection, seen| {
        match seen.target() {
            "/chunked" => connection.send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ),
            "/none" => connection.send(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
            _ => connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        };
        Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/", &[]).unwrap().status, 401);
    for target in ["/chunked", "/none", "/length", "/chunked"] {
        let text = client.get(target, &[]).unwrap().text();
        assert_eq!(text, if target == "/none" { "" } else { "hello" });
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn each_site_of_a_client_has_a_connection_of_its_own() {
    let (mail, files) = (ntlm_origin(), ntlm_origin());
    let proxy = before(&[&mail])
        .config(|config| {
            let mut other = before(&[&files]).config.sites.remove(0);
            other.name = "files".to_owned();
            other.hosts = vec!["files.example".to_owned()];
            config.sites.push(other);
        })
        .start();
    let mut client = proxy.client();
    log_in(&mut client, "ann");
    let host = ("Host", "files.example");
    assert_eq!(client.get("/", &[host]).unwrap().status, 401);
    assert_eq!(client.get("/", &[]).unwrap().text(), "ann");
    let fields = [host, ("Authorization", "NTLM first")];
    assert_eq!(client.get("/", &fields).unwrap().status, 401);
    let fields = [host, ("Authorization", "NTLM third-1-ben")];
    assert_eq!(client.get("/", &fields).unwrap().text(), "ben");
    assert_eq!(client.get("/", &[]).unwrap().text(), "ann");
    assert_eq!(client.get("/", &[host]).unwrap().text(), "ben");
    assert_eq!((mail.connections(), files.connections()), (1, 1));
}

#[test]
fn login_lasts_over_a_stopped_request() {
    let origin = ntlm_origin();
    let rule = r#"<rule name="r"><match url="^stopped"/><action type="CustomResponse" statusCode="403"/></rule>"#;
    let proxy = before(&[&origin]).rules(rule).start();
    let mut client = proxy.client();
    log_in(&mut client, "ann");
    assert_eq!(client.get("/stopped", &[]).unwrap().status, 403);
    assert_eq!(client.get("/", &[]).unwrap().text(), "ann");
    assert_eq!(origin.connections(), 1);
}
