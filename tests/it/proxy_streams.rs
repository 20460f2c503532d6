//! A request and its response on their way at once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::support::origin::Origin;
use crate::support::proxy::{before, before_addresses};

/// More than sockets hold between two ends.
const UPLOAD: usize = 32 << 20;

#[test]
fn upload_goes_on_while_the_client_reads_nothing_of_the_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = sync_channel(1);
    std::thread::spawn(move || {
        let (mut reader, _) = listener.accept().unwrap();
        let mut writer = reader.try_clone().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        // An answer without end, which nobody reads.
        std::thread::spawn(move || {
            let _ = writer.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while writer.write_all(&[b'x'; 65_536]).is_ok() {}
        });
        let mut body = vec![0; UPLOAD];
        tell.send(reader.read_exact(&mut body).is_ok()).unwrap();
    });
    let proxy = before_addresses(&[address]).start();
    let mut client = TcpStream::connect(proxy.address).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {UPLOAD}\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    client
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    client.write_all(&vec![b'y'; UPLOAD]).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(true));
}

#[test]
fn connection_that_gave_its_memory_back_serves_on() {
    let origin = Origin::answering("hello");
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/", &[]).unwrap().status, 200);
        let resting = || proxy.metric("stopgap_proxy_connections_resting") == 1.0;
        crate::support::proxy::eventually("the connection rests", resting);
    }
    // Part of a head wakes it, and the rest is waited for as ever.
    client.send(b"GET / HTTP/1.1\r\nHo").unwrap();
    let awake = || proxy.metric("stopgap_proxy_connections_resting") == 0.0;
    crate::support::proxy::eventually("the connection is awake", awake);
    client
        .send(b"st: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    assert_eq!(client.reply("GET").unwrap().status, 200);
    assert_eq!(client.reply("GET").unwrap().status, 200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn answer_with_two_lengths_reaches_nobody() {
    let origin = Origin::start(|connection, seen| {
        connection.take(seen);
        connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        );
        crate::support::origin::Then::Keep
    });
    let proxy = before(&[&origin]).start();
    let mut client = proxy.client();
    for connections in 1..3 {
        assert_eq!(client.get("/", &[]).unwrap().status, 502);
        assert_eq!(origin.connections(), connections);
    }
}
