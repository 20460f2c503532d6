//! A server, a proxy and clients in this process, on loopback ports of their own.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use stopgap::filter::{Handle, Snapshot};
use stopgap::model::{Revision, UnixTime};
use stopgap::proxy::{Listener, Proxy, ProxyConfig, Running, Site, Upstream};
use stopgap::rules::RuleSet;
use stopgap::telemetry::Metrics;

/// Connections that ask at the same time, each from a thread of its own.
const CONNECTIONS: usize = 8;

const REQUEST: &[u8] = b"GET /owa/service.svc?action=GetConversationItems&app=Mail HTTP/1.1\r\nHost: mail.example\r\n\
    User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64)\r\nAccept: application/json, text/plain, */*\r\n\
    Referer: https://mail.example/owa/\r\nCookie: ClientId=9A1B2C3D4E5F60718293; cadata=Wm9vbUluR2FsYXh5\r\n\r\n";

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world\n";

/// A server that answers every request with the same few bytes. Its threads end with the process.
pub(crate) fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("a bound socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut head = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        head.extend_from_slice(&buffer[..count]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        }
    }
}

/// A proxy with one worker before a server.
pub(crate) fn proxy(origin: SocketAddr, rules: RuleSet) -> (Running, SocketAddr, Handle) {
    let server = format!("http://{origin}").parse().expect("an address");
    let site = Site {
        name: "Default Web Site".to_owned(),
        hosts: Vec::new(),
        routes: Vec::new(),
        upstream: Upstream::Servers([server].into_iter().collect()),
    };
    let listener = Listener::plain(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut config = ProxyConfig::new(vec![listener], vec![site], || UnixTime::new(1_700_000_000));
    config.workers = 1;
    let handle = Handle::new(Snapshot::single(Revision(1), rules));
    let proxy = Proxy::bind(config, handle.clone(), &Metrics::default()).expect("a free port");
    let address = proxy.addresses()[0].tcp().expect("it listens at a port");
    (proxy.start().expect("a thread"), address, handle)
}

/// Microseconds that each of `count` requests took, in order of size.
pub(crate) fn ask(address: SocketAddr, count: usize) -> Vec<f64> {
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| std::thread::spawn(move || client(address, count / CONNECTIONS)))
        .collect();
    let mut times: Vec<f64> = clients
        .into_iter()
        .flat_map(|client| client.join().expect("every request is answered"))
        .map(|time| time.as_secs_f64() * 1e6)
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

fn client(address: SocketAddr, count: usize) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).expect("the proxy accepts");
    stream.set_nodelay(true).expect("a socket");
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    let mut ask = || {
        let begun = Instant::now();
        stream.write_all(REQUEST).expect("the connection is kept");
        answer.clear();
        while !answer.ends_with(b"Hello, world\n") {
            let read = stream.read(&mut buffer).expect("the connection is kept");
            assert!(read > 0, "the connection ended");
            answer.extend_from_slice(&buffer[..read]);
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "an honest request passes"
        );
        begun.elapsed()
    };
    ask();
    (0..count).map(|_| ask()).collect()
}

/// The 50th, 90th, 99th and 99.9th percentile as columns.
pub(crate) fn percentiles(times: &[f64]) -> String {
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    [0.5, 0.9, 0.99, 0.999]
        .map(|share| format!("{:.0}", at(share)))
        .join(",")
}
