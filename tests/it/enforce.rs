//! The real binary in front of a recording upstream: every vector of every bundled mitigation, on the wire.

use stopgap::canon::{Refusals, refuse};
use stopgap::model::{ActionKind, Expectation, FieldExpectation, Mitigation, Vector};
use tempfile::tempdir;

use crate::support::baseline;
use crate::support::client::{Client, Lost, Reply};
use crate::support::origin::{Origin, Then};
use crate::support::process::Daemon;

/// Request field that tells the upstream which canned response to send.
const VECTOR: &str = "x-test-vector";

#[test]
fn every_bundled_vector_behaves_as_written() {
    let (chosen, always): (Vec<_>, Vec<_>) = baseline::mitigations()
        .into_iter()
        .partition(|mitigation| !mitigation.group.is_empty());
    assert!(vectors_of(&always) > 20, "{} vectors", vectors_of(&always));
    let mut faults = judged_on_the_wire(&always, &[]);
    // An opt-in mitigation stops what others let pass, and is judged without them.
    for mitigation in chosen {
        let file = format!(
            "{}/rules/baseline/{}/mitigation.xml",
            env!("CARGO_MANIFEST_DIR"),
            mitigation.id
        );
        let group = mitigation.group.clone();
        faults.extend(judged_on_the_wire(
            &[mitigation],
            &["--rules", &file, "--group", &group],
        ));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn vectors_of(mitigations: &[Mitigation]) -> usize {
    mitigations
        .iter()
        .map(|mitigation| mitigation.vectors.len())
        .sum()
}

/// What is wrong about the vectors of these mitigations, sent to a daemon with these arguments.
fn judged_on_the_wire(mitigations: &[Mitigation], arguments: &[&str]) -> Vec<String> {
    let vectors: Vec<(&Mitigation, &Vector)> = mitigations
        .iter()
        .flat_map(|mitigation| {
            mitigation
                .vectors
                .iter()
                .map(move |vector| (mitigation, vector))
        })
        .collect();
    let origin = canned(
        vectors
            .iter()
            .map(|(_, vector)| (*vector).clone())
            .collect(),
    );
    let state = tempdir().unwrap();
    let upstream = format!("http://{}", origin.address);
    let daemon = Daemon::start(
        state.path(),
        &[&["--upstream", &upstream], arguments].concat(),
    );
    let mut faults = Vec::new();
    for (number, (mitigation, vector)) in vectors.into_iter().enumerate() {
        let arrived = send(&daemon, vector, number);
        let forwarded = !origin.others().is_empty();
        if let Some(fault) = fault(mitigation, vector, &arrived, forwarded) {
            let (line, target) = (vector.line, &vector.target);
            faults.push(format!(
                "{} line {line} {target}: {fault}, got {arrived:?}",
                mitigation.id
            ));
        }
    }
    faults
}

#[test]
fn m2_1_changes_owa_pages_and_nothing_else() {
    let origin = Origin::start(|connection, seen| {
        let kind = if seen.target().contains("script") {
            "text/javascript"
        } else {
            "text/html; charset=utf-8"
        };
        let fields =
            format!("Content-Type: {kind}\r\nContent-Security-Policy: default-src 'self'\r\n");
        connection.answer("200 OK", &fields, "<p>page</p>");
        Then::Keep
    });
    let state = tempdir().unwrap();
    let daemon = Daemon::start(
        state.path(),
        &["--upstream", &format!("http://{}", origin.address)],
    );
    let mut client = Client::connect(daemon.address);
    let (plain, changed) = (
        "default-src 'self'",
        "default-src 'self'; script-src-attr 'none'",
    );
    for (target, expected) in [
        ("/owa/", changed),
        ("/owa", changed),
        ("/OWA/?bO=1", changed),
        ("/owa/default.aspx", changed),
        ("/owa/script.js", plain),
        ("/owa/?script", plain),
        ("/owa/auth/logon.aspx", plain),
        ("/ecp/", plain),
        ("/owax/", plain),
        ("/", plain),
    ] {
        let reply = client.get(target, &[]).unwrap();
        assert_eq!(
            reply.field("content-security-policy"),
            Some(expected),
            "{target}"
        );
        assert_eq!(reply.text(), "<p>page</p>");
    }
}

/// An upstream that answers with the canned response of the vector named in the request, and records the request.
fn canned(vectors: Vec<Vector>) -> Origin {
    Origin::start(move |connection, seen| {
        let number: usize = seen.values(VECTOR)[0].parse().unwrap();
        let reply = match &vectors[number].response {
            Some(response) => {
                let fields: String = response
                    .fields
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}\r\n"))
                    .collect();
                (
                    format!("{} Canned", response.status),
                    fields,
                    response.body.clone(),
                )
            }
            None => ("200 OK".to_owned(), String::new(), "upstream".to_owned()),
        };
        if connection.take(seen).is_none() {
            return Then::Close;
        }
        connection.answer(&reply.0, &reply.1, &reply.2);
        Then::Keep
    })
}

fn send(daemon: &Daemon, vector: &Vector, number: usize) -> Result<Reply, Lost> {
    let mut fields: Vec<(&str, &str)> = vector
        .fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let number = number.to_string();
    fields.push((VECTOR, &number));
    Client::connect(daemon.address).request(&vector.method, &vector.target, &fields, b"")
}

/// What is wrong about what came back, if anything.
fn fault(
    mitigation: &Mitigation,
    vector: &Vector,
    arrived: &Result<Reply, Lost>,
    forwarded: bool,
) -> Option<String> {
    match (vector.expectation, &vector.response) {
        (Expectation::Stop, None) => {
            if forwarded {
                return Some("the upstream saw it".to_owned());
            }
            let refused = refuse(vector.target.as_bytes(), &Refusals::default()).is_some();
            let as_written = match arrived {
                Ok(reply) if refused => reply.status == 400,
                Ok(reply) => writes(mitigation, "CustomResponse") && reply.status >= 400,
                Err(lost) => *lost == Lost::Reset && writes(mitigation, "AbortRequest"),
            };
            (!as_written).then(|| "it was not stopped as its action says".to_owned())
        }
        (Expectation::Pass, None) => (!forwarded).then(|| "it did not pass".to_owned()),
        (expectation, Some(canned)) => {
            let Ok(reply) = arrived else {
                return Some("no response came".to_owned());
            };
            let expected = |name: &str| {
                vector.expected.iter().find_map(|expected| match expected {
                    FieldExpectation::Field { name: other, value }
                        if other.eq_ignore_ascii_case(name) =>
                    {
                        Some(value)
                    }
                    _ => None,
                })
            };
            let names = canned
                .fields
                .iter()
                .map(|(name, value)| (name.as_str(), value));
            let changed = expectation == Expectation::Stop;
            names
                .map(|(name, value)| {
                    (
                        name,
                        if changed {
                            expected(name).unwrap_or(value)
                        } else {
                            value
                        },
                    )
                })
                .chain(
                    vector
                        .expected
                        .iter()
                        .filter_map(|expected| match expected {
                            FieldExpectation::Field { name, value } => Some((name.as_str(), value)),
                            FieldExpectation::BodyFragment(_) => None,
                        }),
                )
                .find(|(name, value)| reply.field(name) != Some(value))
                .map(|(name, value)| format!("{name} is not {value:?}"))
        }
    }
}

fn writes(mitigation: &Mitigation, action: &str) -> bool {
    mitigation
        .actions
        .iter()
        .any(|entry| matches!(&entry.kind, ActionKind::Rewrite(text) if text.xml.contains(action)))
}
