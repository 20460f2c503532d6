//! The PROXY protocol on a listener: who is believed, and what comes of anything else.

use std::time::Duration;

use crate::support::client::{Client, Lost};
use crate::support::origin::Origin;
use crate::support::proxy::{Builder, before};

fn behind(builder: Builder, network: &str) -> Builder {
    builder.config(|config| config.listeners[0].proxies.networks = vec![network.parse().unwrap()])
}

#[test]
fn trusted_proxies_name_their_clients() {
    let origin = Origin::answering("hello");
    let proxy = behind(before(&[&origin]), "127.0.0.0/8").start();
    let mut client = proxy.client();
    client
        .send(b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\r\n")
        .unwrap();
    assert_eq!(client.get("/", &[]).unwrap().status, 200);
    assert_eq!(origin.next().values("x-forwarded-for"), ["192.0.2.7"]);
    let mut client = proxy.client();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    let mut addresses = [0; 36];
    (addresses[0], addresses[15]) = (0x20, 9);
    header.extend(addresses);
    client.send(&header).unwrap();
    assert_eq!(client.get("/", &[]).unwrap().status, 200);
    assert_eq!(origin.next().values("x-forwarded-for"), ["2000::9"]);
    let mut client = proxy.client();
    client.send(b"PROXY UNKNOWN\r\n").unwrap();
    assert_eq!(client.get("/", &[]).unwrap().status, 200);
    assert_eq!(origin.next().values("x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn anything_else_is_not_believed() {
    let origin = Origin::answering("hello");
    let limits = |limits: &mut stopgap::proxy::Limits| {
        limits.head_timeout = Duration::from_millis(300);
    };
    let proxy = behind(before(&[&origin]), "127.0.0.0/8")
        .limits(limits)
        .start();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: m\r\n\r\n"[..],
        b"",
        b"PROXY TCP4 192.0.2.7",
    ] {
        let mut client = proxy.client();
        client.send(bytes).unwrap();
        let ended = client.get("/", &[]);
        assert!(
            matches!(ended, Err(Lost::Closed | Lost::Reset)),
            "{ended:?}"
        );
    }
    // From elsewhere, a header is no request.
    let proxy = behind(before(&[&origin]), "192.0.2.0/24").start();
    let mut client = proxy.client();
    client
        .send(b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\r\n")
        .unwrap();
    assert_eq!(client.get("/", &[]).unwrap().status, 400);
    assert_eq!(
        Client::connect(proxy.address).get("/", &[]).unwrap().status,
        200
    );
    assert_eq!(origin.others().len(), 1);
}
