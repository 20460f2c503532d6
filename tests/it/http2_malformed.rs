//! Malformed HTTP/2 on the wire, line by line from `tests/corpus/http2-malformed.jsonl`.
//!
//! Each line says which outcomes are acceptable and what a server behind the proxy may see of it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::encoding::{from_base64, inflate};
use crate::support::http2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM};
use crate::support::origin::{Origin, Then};
use crate::support::proxy::before;

const CORPUS: &str = include_str!("../corpus/http2-malformed.jsonl");

/// How long one line may take in all.
const PATIENCE: Duration = Duration::from_secs(15);

struct Line {
    id: String,
    bytes: Vec<u8>,
    acceptable: Vec<String>,
    upstream: u64,
    canary: Option<String>,
}

fn lines() -> Vec<Line> {
    CORPUS
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let packed = from_base64(line["raw_b64"].as_str().unwrap());
            let bytes = match line["raw_enc"] == "base64" {
                true => packed,
                false => inflate(&packed),
            };
            assert_eq!(bytes.len() as u64, line["raw_len"].as_u64().unwrap());
            let words = line["acceptable"].as_array().unwrap().iter();
            Line {
                id: format!(
                    "{} ({})",
                    line["id"].as_str().unwrap(),
                    line["name"].as_str().unwrap()
                ),
                bytes,
                acceptable: words
                    .map(|word| word.as_str().unwrap().to_owned())
                    .collect(),
                upstream: line["max_upstream_requests"].as_u64().unwrap(),
                canary: line["canary_path"].as_str().map(str::to_owned),
            }
        })
        .collect()
}

/// Sends a line on a connection of its own, and stays silent: everything that came back until the proxy closed.
fn converse(address: SocketAddr, line: &Line) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut writer = stream.try_clone().unwrap();
    let bytes = line.bytes.clone();
    // A proxy that has seen enough closes before it has read everything.
    let sending = std::thread::spawn(move || writer.write_all(&bytes).is_ok());
    let begun = Instant::now();
    let mut answer = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(begun.elapsed() < PATIENCE, "{}: no end", line.id);
            }
            Err(_) => break,
        }
    }
    sending.join().unwrap();
    answer
}

/// What the frames of an answer say, in the corpus's words; the proxy always closes in the end.
fn said(answer: &[u8]) -> Vec<&'static str> {
    let mut said = Vec::new();
    let mut rest = answer;
    while let Some((header, behind)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let Some((payload, behind)) = behind.split_at_checked(length) else {
            break;
        };
        rest = behind;
        match header[3] {
            RST_STREAM => said.push("stream-error"),
            // NO_ERROR is how a connection that did nothing ends.
            GOAWAY if payload[4..8] != [0; 4] => said.push("connection-error"),
            // The first byte of a block is the status, among those that RFC 7541 appendix A lists.
            HEADERS if header[4] & END_HEADERS != 0 => match payload[0] {
                0x88 => said.push("forward-normalised"),
                0x8c => said.push("400"),
                _ => said.push("other-status"),
            },
            DATA if header[4] & END_STREAM != 0 => {}
            _ => {}
        }
    }
    said.push("close");
    said
}

fn outcome(line: &Line, answer: &[u8], origin: &Origin) -> Result<&'static str, String> {
    let seen = origin.others();
    if seen.len() as u64 > line.upstream {
        return Err(format!("{} requests reached the server", seen.len()));
    }
    let smuggled = |target: &str| {
        line.canary
            .as_deref()
            .is_some_and(|path| target.contains(path))
    };
    if seen.iter().any(|seen| smuggled(seen.target())) {
        return Err("the canary reached the server".to_owned());
    }
    let whole = seen.iter().any(|seen| seen.body.is_some());
    let said = said(answer);
    let accepts = |word: &str| line.acceptable.iter().any(|acceptable| acceptable == word);
    // It closed in time and used no more memory than tests of their own allow.
    if accepts("bounded-memory-and-cpu") {
        return Ok("bounded-memory-and-cpu");
    }
    if let Some(word) = said.iter().find(|word| accepts(word)) {
        return Ok(word);
    }
    if accepts("abort-upstream") && !whole {
        return Ok("abort-upstream");
    }
    Err(format!("{said:?} is not among {:?}", line.acceptable))
}

#[test]
fn every_line_ends_acceptably() {
    let origin = Origin::start(|connection, seen| {
        connection.record(seen.clone());
        if connection.body(&seen).is_none() {
            return Then::Close;
        }
        connection.answer("200 OK", "", "seen");
        Then::Keep
    });
    let timeouts = |limits: &mut stopgap::proxy::Limits| {
        limits.head_timeout = Duration::from_millis(300);
        limits.body_timeout = Duration::from_millis(300);
        limits.idle_timeout = Duration::from_millis(300);
    };
    let proxy = before(&[&origin])
        .limits(timeouts)
        .config(|config| config.listeners[0].http2 = true)
        .start();
    let (mut counts, mut faults) = (BTreeMap::new(), Vec::new());
    for line in lines() {
        let answer = converse(proxy.address, &line);
        match outcome(&line, &answer, &origin) {
            Ok(outcome) => *counts.entry(outcome).or_insert(0) += 1,
            Err(fault) => faults.push(format!("{}: {fault}", line.id)),
        }
    }
    println!(
        "{} lines end acceptably {counts:?}",
        counts.values().sum::<usize>()
    );
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
