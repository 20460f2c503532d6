//! Malformed HTTP/1.1 on the wire, line by line from `tests/corpus/http-malformed.jsonl`.
//!
//! Each line says which outcomes are acceptable and what a server behind the proxy may see of it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::encoding::{from_base64, inflate};
use crate::support::origin::{Origin, Then};
use crate::support::proxy::before;

const CORPUS: &str = include_str!("../corpus/http-malformed.jsonl");

/// Lines that are not held here, each with its reason.
const EXCLUDED: &[(&str, &str)] = &[];

/// How long one line may take in all.
const PATIENCE: Duration = Duration::from_secs(10);

struct Line {
    id: String,
    bytes: Vec<u8>,
    acceptable: Vec<String>,
    upstream: u64,
    canary: Option<String>,
    half_open: bool,
}

fn lines() -> Vec<Line> {
    let strings = |value: &Value| {
        let words = value.as_array().unwrap().iter();
        words
            .map(|word| word.as_str().unwrap().to_owned())
            .collect()
    };
    CORPUS
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let packed = from_base64(line["raw_b64"].as_str().unwrap());
            let bytes = if line["raw_enc"] == "base64" {
                packed
            } else {
                inflate(&packed)
            };
            assert_eq!(bytes.len() as u64, line["raw_len"].as_u64().unwrap());
            let canary = line["canary_must_not_arrive"].as_bool().unwrap();
            Line {
                id: format!(
                    "{} ({})",
                    line["id"].as_str().unwrap(),
                    line["name"].as_str().unwrap()
                ),
                bytes,
                acceptable: strings(&line["acceptable"]),
                upstream: line["max_upstream_requests"].as_u64().unwrap(),
                canary: line["canary_path"]
                    .as_str()
                    .filter(|_| canary)
                    .map(str::to_owned),
                half_open: line["half_open"].as_bool().unwrap(),
            }
        })
        .collect()
}

/// Sends a line on a connection of its own: everything that came back until the proxy closed. The client's side
/// stays open unless the line is complete in itself.
fn converse(address: SocketAddr, line: &Line) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut writer = stream.try_clone().unwrap();
    let (bytes, half_open) = (line.bytes.clone(), line.half_open);
    let sending = std::thread::spawn(move || {
        // A proxy that refuses early may close before it has read everything.
        let _ = writer.write_all(&bytes);
        if !half_open {
            let _ = writer.shutdown(Shutdown::Write);
        }
    });
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

/// The first final status of an answer.
fn status(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    let mut lines = text
        .split("\r\n")
        .filter(|line| line.starts_with("HTTP/1.1 "));
    lines.find_map(|line| line[9..12].parse().ok().filter(|&status| status >= 200))
}

/// What a line came to, in the corpus's words, and why that is wrong if it is.
fn outcome(line: &Line, answer: &[u8], origin: &Origin) -> Result<&'static str, String> {
    let seen = origin.others();
    if seen.len() as u64 > line.upstream {
        return Err(format!("{} requests reached the server", seen.len()));
    }
    if let Some(canary) = &line.canary
        && seen.iter().any(|seen| seen.target() == canary)
    {
        return Err("the canary reached the server".to_owned());
    }
    let forwarded = !seen.is_empty();
    let outcome = match status(answer) {
        Some(200) if forwarded => "forward",
        Some(408) => "timeout",
        Some(400..=599) => "reject",
        None if answer.is_empty() || answer.starts_with(b"HTTP/1.1 100") => "close",
        _ => "local",
    };
    match line
        .acceptable
        .iter()
        .any(|acceptable| acceptable == outcome)
    {
        true => Ok(outcome),
        false => Err(format!("{outcome} is not among {:?}", line.acceptable)),
    }
}

#[test]
fn every_line_ends_acceptably() {
    let origin = Origin::start(|connection, seen| {
        // Recorded before its body, which may break off when the next line is judged already.
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
    let proxy = before(&[&origin]).limits(timeouts).start();
    let (mut counts, mut faults, mut excluded) = (BTreeMap::new(), Vec::new(), 0);
    for line in lines() {
        let answer = converse(proxy.address, &line);
        let result = outcome(&line, &answer, &origin);
        let reason = EXCLUDED
            .iter()
            .find(|(id, _)| line.id.starts_with(id))
            .map(|(_, reason)| *reason);
        match (result, reason) {
            (Ok(outcome), None) => *counts.entry(outcome).or_insert(0) += 1,
            (Ok(_), Some(_)) => faults.push(format!("{}: excluded, yet fine", line.id)),
            (Err(fault), None) => {
                faults.push(format!("{}: {fault}: {}", line.id, answer.escape_ascii()))
            }
            (Err(_), Some(_)) => excluded += 1,
        }
    }
    let total: usize = counts.values().sum();
    println!("{total} lines end acceptably {counts:?}, {excluded} are excluded");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    assert_eq!(total + excluded, CORPUS.lines().count());
}

/// How long until a connection on which this was sent, and which stays open, brings a byte or its end.
fn owed(address: SocketAddr, bytes: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let begun = Instant::now();
    // A proxy that refuses early may close before it has read everything.
    let _ = writer.write_all(bytes);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read(&mut [0; 1]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => PATIENCE,
        _ => begun.elapsed(),
    }
}

#[test]
fn whatever_breaks_off_is_owed_no_longer_than_a_head_may_take() {
    const HEAD: Duration = Duration::from_millis(300);
    // Deadlines are looked at every tenth of a second; the rest is for a machine that has much to do.
    const LATEST: Duration = Duration::from_secs(3);
    let origin = Origin::start(|connection, seen| {
        if connection.body(&seen).is_none() {
            return Then::Close;
        }
        connection.answer("200 OK", "", "seen");
        Then::Keep
    });
    let timeouts = |limits: &mut stopgap::proxy::Limits| {
        limits.head_timeout = HEAD;
        limits.body_timeout = HEAD;
        // Whoever is owed nothing may stay, and is not let go for that.
        limits.idle_timeout = Duration::from_secs(60);
    };
    let proxy = before(&[&origin]).limits(timeouts).start();
    let (lines, next) = (lines(), std::sync::atomic::AtomicUsize::new(0));
    let cuts: Vec<&[u8]> = lines
        .iter()
        .flat_map(|line| {
            let length = line.bytes.len();
            let ends = [1, length / 3, length / 2, length.saturating_sub(1), length];
            ends.map(|end| &line.bytes[..end.min(length)])
        })
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                while let Some(bytes) =
                    cuts.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let after = owed(proxy.address, bytes);
                    let shown = bytes[..bytes.len().min(300)].escape_ascii();
                    assert!(after < LATEST, "nothing within {after:?}: {shown}");
                }
            });
        }
    });
}
