//! Who a client is behind proxies, who is believed about it, and what servers are told.

use std::time::Duration;

use stopgap::proxy::{Balance, ClientField, ForwardingFields, ProxyConfig, TrustedProxies};

use crate::support::client::Lost;
use crate::support::origin::{Origin, Seen, Then};
use crate::support::proxy::{Builder, before, eventually};

const NAMES: [&str; 6] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

fn believing(builder: Builder, networks: &[&str]) -> Builder {
    let networks = networks.iter().map(|network| network.parse().unwrap());
    let trusted: TrustedProxies = networks.collect();
    builder.config(|config| config.listeners[0].trusted = trusted)
}

fn sending_all(config: &mut ProxyConfig) {
    let send = &mut config.forwarding.send;
    *send = ForwardingFields::NONE;
    for name in NAMES {
        send.add(name.parse().unwrap());
    }
}

/// Every line of the fields that speak of the client.
fn told(seen: &Seen) -> Vec<String> {
    let line = |name: &&str| {
        let values = seen.values(name).into_iter();
        values
            .map(|value| format!("{name}: {value}"))
            .collect::<Vec<_>>()
    };
    NAMES.iter().flat_map(line).collect()
}

const SPOOFED: [(&str, &str); 9] = [
    ("Forwarded", "for=6.6.6.6;host=evil;proto=https"),
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Forwarded-For", "7.7.7.7"),
    ("X-Forwarded-Host", "evil"),
    ("X-Forwarded-Port", "1"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Ssl", "on"),
    ("X-Forwarded-Server", "evil"),
    ("X-Real-IP", "6.6.6.6"),
];

#[test]
fn nothing_that_a_client_claims_reaches_a_server() {
    let origin = Origin::answering("hello");
    for networks in [&[][..], &["192.0.2.0/24"]] {
        let proxy = believing(before(&[&origin]), networks)
            .config(sending_all)
            .start();
        let port = proxy.address.port();
        assert_eq!(proxy.client().get("/", &SPOOFED).unwrap().status, 200);
        let seen = origin.next();
        let expected = [
            "forwarded: for=127.0.0.1;host=localhost;proto=http".to_owned(),
            "x-forwarded-for: 127.0.0.1".to_owned(),
            "x-forwarded-host: localhost".to_owned(),
            format!("x-forwarded-port: {port}"),
            "x-forwarded-proto: http".to_owned(),
            "x-real-ip: 127.0.0.1".to_owned(),
        ];
        assert_eq!(told(&seen), expected);
        assert!(seen.values("x-forwarded-ssl").is_empty());
        assert!(seen.values("x-forwarded-server").is_empty());
    }
}

#[test]
fn trusted_proxies_are_believed_about_their_clients() {
    let origin = Origin::answering("hello");
    let proxy = believing(before(&[&origin]), &["127.0.0.1", "10.0.0.0/8"])
        .config(sending_all)
        .start();
    let fields = [
        ("X-Forwarded-For", "6.6.6.6, [2001:db8::7]:4711"),
        ("X-Forwarded-For", "10.0.0.3"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "mail.example:8443"),
        ("X-Forwarded-Server", "edge"),
        ("Forwarded", "for=6.6.6.6"),
        ("X-Real-IP", "6.6.6.6"),
    ];
    assert_eq!(proxy.client().get("/", &fields).unwrap().status, 200);
    let seen = origin.next();
    assert_eq!(
        told(&seen),
        [
            "forwarded: for=\"[2001:db8::7]\";host=\"mail.example:8443\";proto=https, for=10.0.0.3, for=127.0.0.1",
            "x-forwarded-for: 2001:db8::7, 10.0.0.3, 127.0.0.1",
            "x-forwarded-host: mail.example:8443",
            "x-forwarded-port: 8443",
            "x-forwarded-proto: https",
            "x-real-ip: 2001:db8::7",
        ]
    );
    assert_eq!(seen.values("x-forwarded-server"), ["edge"]);
    // A trusted proxy speaks for itself when it names nobody, or nobody that could be.
    for fields in [
        &[][..],
        &[("X-Forwarded-For", "unknown")],
        &[("Forwarded", "for=6.6.6.6")],
    ] {
        assert_eq!(proxy.client().get("/", fields).unwrap().status, 200);
        assert_eq!(origin.next().values("x-real-ip"), ["127.0.0.1"]);
    }
}

#[test]
fn forwarded_is_read_instead_where_settings_say_so() {
    let origin = Origin::answering("hello");
    let proxy = believing(before(&[&origin]), &["127.0.0.1"])
        .config(sending_all)
        .config(|config| config.forwarding.read = ClientField::Forwarded)
        .start();
    let fields = [
        (
            "Forwarded",
            "for=6.6.6.6, for=\"192.0.2.9:4711\";proto=https;host=mail.example",
        ),
        ("X-Forwarded-For", "7.7.7.7"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "evil"),
    ];
    assert_eq!(proxy.client().get("/", &fields).unwrap().status, 200);
    assert_eq!(
        told(&origin.next()),
        [
            "forwarded: for=192.0.2.9;host=mail.example;proto=https, for=127.0.0.1",
            "x-forwarded-for: 192.0.2.9, 127.0.0.1",
            "x-forwarded-host: mail.example",
            "x-forwarded-port: 443",
            "x-forwarded-proto: https",
            "x-real-ip: 192.0.2.9",
        ]
    );
}

#[test]
fn proxy_protocol_names_the_proxy_that_is_believed_or_not() {
    let origin = Origin::answering("hello");
    let proxy = believing(before(&[&origin]), &["10.0.0.0/8"])
        .config(|config| {
            config.listeners[0].proxies.networks = vec!["127.0.0.1".parse().unwrap()];
        })
        .start();
    for (header, client, port) in [
        (
            "PROXY TCP4 10.0.0.5 198.51.100.1 1234 443\r\n",
            "192.0.2.1, 10.0.0.5",
            "443",
        ),
        (
            "PROXY TCP4 203.0.113.5 198.51.100.1 1234 8443\r\n",
            "203.0.113.5",
            "8443",
        ),
    ] {
        let mut connection = proxy.client();
        connection.send(header.as_bytes()).unwrap();
        let fields = [("X-Forwarded-For", "192.0.2.1")];
        assert_eq!(connection.get("/", &fields).unwrap().status, 200);
        let seen = origin.next();
        assert_eq!(seen.values("x-forwarded-for"), [client]);
        assert_eq!(seen.values("x-forwarded-port"), [port]);
    }
    // What passes the balancer without a word of it comes from nobody that is believed.
    let mut connection = proxy.client();
    connection.send(b"PROXY UNKNOWN\r\n").unwrap();
    let fields = [("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(connection.get("/", &fields).unwrap().status, 200);
    assert_eq!(origin.next().values("x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn rules_see_the_client_and_its_scheme() {
    let origin = Origin::answering("hello");
    let rules = r#"<rule name="address"><match url=".*" /><conditions><add input="{REMOTE_ADDR}" pattern="^192\.0\.2\.66$" /></conditions><action type="CustomResponse" statusCode="403" /></rule>
        <rule name="scheme"><match url=".*" /><conditions><add input="{HTTPS}" pattern="^off$" /></conditions><action type="CustomResponse" statusCode="426" /></rule>"#;
    let proxy = believing(before(&[&origin]), &["127.0.0.1"])
        .rules(rules)
        .start();
    // All on one connection, as a proxy in front has it.
    let mut connection = proxy.client();
    let mut status = |client: &str, scheme: &str| {
        let fields = [("X-Forwarded-For", client), ("X-Forwarded-Proto", scheme)];
        connection.get("/", &fields).unwrap().status
    };
    assert_eq!(status("192.0.2.66", "https"), 403);
    assert_eq!(status("192.0.2.67", "https"), 200);
    assert_eq!(status("192.0.2.67", "http"), 426);
    assert_eq!(status("192.0.2.66", "https"), 403);
    assert_eq!(status("192.0.2.67", "https"), 200);
    let own = before(&[&origin]).rules(rules).start();
    let fields = [
        ("X-Forwarded-For", "192.0.2.66"),
        ("X-Forwarded-Proto", "https"),
    ];
    assert_eq!(own.client().get("/", &fields).unwrap().status, 426);
}

#[test]
fn requests_of_one_client_are_bounded_and_connections_of_its_proxy_are_not() {
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let held = std::sync::Mutex::new(held);
    let origin = Origin::start(move |connection, seen| {
        if seen.target() == "/held" {
            let _ = held.lock().unwrap().recv_timeout(Duration::from_secs(20));
        }
        connection.answer("200 OK", "", "");
        Then::Keep
    });
    let proxy = believing(before(&[&origin]), &["127.0.0.1"])
        .limits(|limits| limits.connections_per_client = 1)
        .start();
    let one = [("X-Forwarded-For", "192.0.2.1")];
    let mut holding = proxy.client();
    holding
        .send(b"GET /held HTTP/1.1\r\nHost: m\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
        .unwrap();
    eventually("the first request is with the server", || {
        origin.connections() == 1
    });
    let mut second = proxy.client();
    let refused = second.get("/", &one).unwrap();
    assert_eq!(
        (refused.status, refused.text().contains("too-many-requests")),
        (429, true)
    );
    let other = [("X-Forwarded-For", "192.0.2.2")];
    assert_eq!(second.get("/", &other).unwrap().status, 200);
    release.send(()).unwrap();
    assert_eq!(holding.reply("GET").unwrap().status, 200);
    assert_eq!(second.get("/", &one).unwrap().status, 200);
    // Whoever is not believed has one connection.
    let own = before(&[&origin])
        .limits(|limits| limits.connections_per_client = 1)
        .start();
    let mut first = own.client();
    assert_eq!(first.get("/", &one).unwrap().status, 200);
    let beyond = own.client().get("/", &other);
    assert!(
        matches!(beyond, Err(Lost::Closed | Lost::Reset)),
        "{beyond:?}"
    );
}

#[test]
fn clients_behind_a_proxy_are_spread_by_their_own_addresses() {
    let origins = [Origin::answering("0"), Origin::answering("1")];
    let proxy = believing(before(&[&origins[0], &origins[1]]), &["127.0.0.1"])
        .config(|config| {
            if let stopgap::proxy::Upstream::Servers(group) = &mut config.sites[0].upstream {
                group.balance = Balance::ClientAddress;
            }
        })
        .start();
    let mut connection = proxy.client();
    let mut server = |client: &str| {
        connection
            .get("/", &[("X-Forwarded-For", client)])
            .unwrap()
            .text()
    };
    let servers: Vec<String> = (1..=32).map(|n| server(&format!("192.0.2.{n}"))).collect();
    assert!(servers.contains(&"0".to_owned()) && servers.contains(&"1".to_owned()));
    let again: Vec<String> = (1..=32).map(|n| server(&format!("192.0.2.{n}"))).collect();
    assert_eq!(servers, again);
}

#[test]
fn long_lists_are_read_no_further_than_they_have_to_be() {
    let origin = Origin::answering("hello");
    let proxy = believing(before(&[&origin]), &["127.0.0.1", "10.0.0.0/8"]).start();
    let client = |list: &str| {
        let fields = [("X-Forwarded-For", list)];
        assert_eq!(proxy.client().get("/", &fields).unwrap().status, 200);
        let chain = origin.next().values("x-forwarded-for").join(",");
        (
            chain.split(',').count(),
            chain.split(',').next().unwrap().to_owned(),
        )
    };
    // As much as a field may hold, of which only the end counts.
    let long = format!("{}192.0.2.1, 10.0.0.2", "6.6.6.6,".repeat(8_000));
    assert_eq!(client(&long), (3, "192.0.2.1".to_owned()));
    let trusted = vec!["10.0.0.2"; 5_000].join(",");
    assert_eq!(client(&trusted), (33, "10.0.0.2".to_owned()));
}
