//! Proves mitigations over the wire: their vectors, through every listener, judged by what comes back.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::report::View;
use crate::filter::{PROBE_FIELD, Probes, Seen};
use crate::model::{Expectation, FieldExpectation, Mitigation, MitigationId, Vector};
use crate::net::{ListenAddress, Stream, TlsClient, connect_unix};

/// Time between two rounds while nothing is published.
pub const PROOF_INTERVAL: Duration = Duration::from_secs(60);

/// The shortest time between two rounds.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// How long one probe may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest answer that is read.
const ANSWER_LIMIT: u64 = 1024 * 1024;

/// Where probes go.
#[derive(Clone, Debug)]
pub struct ProofTargets {
    /// Every traffic listener.
    pub listeners: Vec<ProofListener>,
    /// A host name of each site, in the order of the sites; nothing for one that only is the default.
    pub hosts: Vec<Option<String>>,
}

/// A traffic listener as a probe meets it.
#[derive(Clone, Debug)]
pub struct ProofListener {
    /// Where it listens.
    pub address: ListenAddress,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether it takes nobody without a certificate, which probes do not have.
    pub demands_certificate: bool,
}

/// What a round came to for one mitigation.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) mitigation: Arc<Mitigation>,
    pub(super) result: Result<Extent, String>,
}

/// How far it is proven that a mitigation is in force as it should be; if it is not, that is an error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Extent {
    /// Through every listener.
    Everywhere,
    /// Not through every listener, for the reason given.
    Partly(String),
}

/// One mitigation to prove, and where.
struct Task {
    mitigation: Arc<Mitigation>,
    sites: Vec<usize>,
}

/// Sends probes, one at a time.
pub(super) struct Prover {
    targets: ProofTargets,
    probes: Probes,
    tls: Option<TlsClient>,
}

/// What came back over the wire.
enum Wire {
    Answer(Vec<u8>),
    /// The connection ended without an octet.
    Ended,
    /// Nothing is known: it could not be connected, or took too long.
    Lost,
}

/// Looks at requests only while it lives.
struct Active<'a>(&'a Probes);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.set_active(false);
    }
}

impl Prover {
    pub(super) fn new(targets: ProofTargets, probes: Probes) -> Self {
        let tls = targets.listeners.iter().any(|listener| listener.tls);
        let tls = tls.then(TlsClient::to_ourselves).and_then(|client| {
            let told =
                client.inspect_err(|error| tracing::error!(%error, "TLS listeners are not proven"));
            told.ok()
        });
        Self {
            targets,
            probes,
            tls,
        }
    }

    /// Proves everything that `view` says is in force. What could not be tried is left out.
    pub(super) async fn round(&self, view: &View) -> Vec<Proof> {
        self.probes.set_active(true);
        let _active = Active(&self.probes);
        let mut proofs = Vec::new();
        for task in tasks(view) {
            let result = match self.prove(&task).await {
                Ok(Some(extent)) => Ok(extent),
                Ok(None) => continue,
                Err(reason) => Err(reason),
            };
            proofs.push(Proof {
                mitigation: task.mitigation,
                result,
            });
        }
        proofs
    }

    /// Proves one mitigation; nothing if it is not known what became of a vector.
    async fn prove(&self, task: &Task) -> Result<Option<Extent>, String> {
        let (mut known, mut closed) = (true, Vec::new());
        for listener in &self.targets.listeners {
            if listener.demands_certificate {
                closed.push(format!("https://{}", listener.address));
                continue;
            }
            for site in &task.sites {
                let host = self.targets.hosts.get(*site).cloned().flatten();
                for vector in &task.mitigation.vectors {
                    let host = host.as_deref().unwrap_or("localhost");
                    let fault = self.probe(listener, host, vector, &task.mitigation.id);
                    match fault.await {
                        None => known = false,
                        Some(Ok(())) => {}
                        Some(Err(reason)) => {
                            let (method, target) = (&vector.method, &vector.target);
                            let scheme = if listener.tls { "https" } else { "http" };
                            return Err(format!(
                                "{method} {target} {reason} on {scheme}://{}",
                                listener.address
                            ));
                        }
                    }
                }
            }
        }
        Ok(known.then(|| match closed.is_empty() {
            true => Extent::Everywhere,
            false => Extent::Partly(format!(
                "{} demands client certificates, which no probe has",
                closed.join(", ")
            )),
        }))
    }

    /// Sends one vector; nothing if it is not known what became of it.
    async fn probe(
        &self,
        listener: &ProofListener,
        host: &str,
        vector: &Vector,
        own: &MitigationId,
    ) -> Option<Result<(), String>> {
        let request = request(vector, host, self.probes.secret())?;
        self.probes.begin(vector.response.clone());
        let wire = timeout(DEADLINE, self.exchange(listener, &request)).await;
        let seen = self.probes.end();
        let wire = wire.unwrap_or(Wire::Lost);
        judge(&wire, seen.as_ref(), vector, own)
    }

    async fn exchange(&self, listener: &ProofListener, request: &[u8]) -> Wire {
        let Ok(mut stream) = self.connect(listener).await else {
            return Wire::Lost;
        };
        let mut answer = Vec::new();
        let sent = stream.write_all(request).await;
        let read = match sent {
            Ok(()) => stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await,
            Err(error) => Err(error),
        };
        let cut_off = [
            ErrorKind::BrokenPipe,
            ErrorKind::ConnectionAborted,
            ErrorKind::ConnectionReset,
            ErrorKind::UnexpectedEof,
        ];
        match (read, answer.is_empty()) {
            (_, false) => Wire::Answer(answer),
            (Ok(_), true) => Wire::Ended,
            (Err(error), true) if cut_off.contains(&error.kind()) => Wire::Ended,
            (Err(_), true) => Wire::Lost,
        }
    }

    async fn connect(&self, listener: &ProofListener) -> io::Result<Stream<TcpStream>> {
        let stream = match &listener.address {
            ListenAddress::Tcp(address) => {
                let stream = TcpStream::connect(reachable(*address)).await?;
                stream.set_nodelay(true)?;
                stream
            }
            ListenAddress::Unix(path) => connect_unix(path).await?,
        };
        match (listener.tls, &self.tls) {
            (false, _) => Ok(Stream::Plain(stream)),
            (true, Some(tls)) => tls.connect(stream).await,
            (true, None) => Err(ErrorKind::Unsupported.into()),
        }
    }
}

/// What is in force and has vectors, with the sites that its rules are for.
fn tasks(view: &View) -> Vec<Task> {
    let enforced = view
        .mitigations
        .iter()
        .filter(|own| own.state.is_enforced() && !own.mitigation.vectors.is_empty());
    enforced
        .filter_map(|own| {
            let groups = own.prepared.as_ref()?.groups.iter();
            let mut sites: Vec<usize> = groups.flat_map(|group| group.sites.clone()).collect();
            sites.sort_unstable();
            sites.dedup();
            Some(Task {
                mitigation: Arc::clone(&own.mitigation),
                sites,
            })
        })
        .collect()
}

/// The address to connect to, for one to listen at.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// The octets of a probe; nothing for a vector that could be mistaken for two requests.
fn request(vector: &Vector, host: &str, secret: &str) -> Option<Vec<u8>> {
    let is_clean = |text: &str| !text.contains(['\r', '\n', '\0']);
    let clean = is_clean(&vector.method)
        && is_clean(&vector.target)
        && !vector.method.contains(' ')
        && !vector.target.contains(' ')
        && (vector.fields.iter()).all(|(name, value)| is_clean(name) && is_clean(value));
    if !clean {
        return None;
    }
    let has = |wanted: &str| {
        let mut fields = vector.fields.iter();
        fields.any(|(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    let mut text = format!("{} {} HTTP/1.1\r\n", vector.method, vector.target);
    if !has("host") {
        text.push_str(&format!("Host: {host}\r\n"));
    }
    // No vector has a body, and what frames one would promise it.
    let framing = [
        "connection",
        "content-length",
        "expect",
        "transfer-encoding",
        "upgrade",
    ];
    for (name, value) in &vector.fields {
        if !framing.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str(&format!(
        "{PROBE_FIELD}: {secret}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    Some(text.into_bytes())
}

/// Whether a probe came out as its vector says; nothing if that is not known.
fn judge(
    wire: &Wire,
    seen: Option<&Seen>,
    vector: &Vector,
    own: &MitigationId,
) -> Option<Result<(), String>> {
    let is_own = |id: &MitigationId| id.same_mitigation(own);
    let seen = match (wire, seen) {
        (Wire::Lost, _) => return None,
        (_, Some(seen)) => seen,
        // Refused by its framing, before the head was a request.
        (Wire::Answer(answer), None) if answer.starts_with(b"HTTP/1.1 400 ") => &Seen::Refused,
        _ => return None,
    };
    // What the wire says must agree, or the filter decided what was never done.
    let answer = match wire {
        Wire::Answer(answer) => Some(Answer::read(answer)?),
        _ => None,
    };
    let passed = answer
        .as_ref()
        .is_some_and(|answer| answer.field(PROBE_FIELD).is_some());
    if passed != matches!(seen, Seen::Passed(_)) {
        return Some(Err("is not answered as it was judged".to_owned()));
    }
    Some(match (vector.expectation, &vector.response, seen) {
        (Expectation::Pass, _, Seen::Stopped(Some(by))) if is_own(by) => {
            Err("must pass, and is stopped".to_owned())
        }
        (Expectation::Pass, Some(_), Seen::Passed(by)) if by.iter().any(is_own) => {
            Err("must keep its response, and loses it".to_owned())
        }
        (Expectation::Stop, None, Seen::Passed(_)) => Err("must be stopped, and passes".to_owned()),
        (Expectation::Stop, Some(_), Seen::Passed(_)) => answer
            .as_ref()
            .map_or(Ok(()), |answer| answer.holds(vector)),
        _ => Ok(()),
    })
}

/// A response as it came.
struct Answer<'a> {
    fields: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        let end = octets.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&octets[..end]).ok()?;
        let fields = head.split("\r\n").skip(1).filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name, value.trim()))
        });
        Some(Self {
            fields: fields.collect(),
            body: &octets[end + 4..],
        })
    }

    /// The value of a field, several joined by commas (RFC 9110 section 5.3).
    fn field(&self, name: &str) -> Option<String> {
        let fields = self.fields.iter();
        let own = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let values: Vec<&str> = own.map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    fn holds(&self, vector: &Vector) -> Result<(), String> {
        for expected in &vector.expected {
            match expected {
                FieldExpectation::BodyFragment(fragment) => {
                    let fragment = fragment.as_bytes();
                    let mut windows = self.body.windows(fragment.len().max(1));
                    if vector.method != "HEAD" && !windows.any(|window| window == fragment) {
                        return Err("must have its body changed, and keeps it".to_owned());
                    }
                }
                FieldExpectation::Field { name, value } => {
                    if self.field(name).as_deref() != Some(value) {
                        return Err(format!("must be answered with {name}, and is not"));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(expectation: Expectation, target: &str) -> Vector {
        Vector {
            expectation,
            method: "GET".to_owned(),
            target: target.to_owned(),
            fields: vec![("X-A".to_owned(), "1".to_owned())],
            response: None,
            expected: Vec::new(),
            line: 1,
        }
    }

    #[test]
    fn probe_is_one_request() {
        let mut probe = vector(Expectation::Stop, "/a?b");
        probe
            .fields
            .push(("Content-Length".to_owned(), "5".to_owned()));
        let text = request(&probe, "mail.example", "secret").unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "GET /a?b HTTP/1.1\r\nHost: mail.example\r\nX-A: 1\r\nx-stopgap-probe: secret\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        for target in ["/a b", "/a\r\nX: 1"] {
            assert_eq!(request(&vector(Expectation::Stop, target), "h", "s"), None);
        }
        probe.fields.push(("X".to_owned(), "1\n2".to_owned()));
        assert_eq!(request(&probe, "h", "s"), None);
    }

    #[test]
    fn wire_and_judgement_must_agree() {
        let own: MitigationId = "M1.1".parse().unwrap();
        let other: MitigationId = "M2.1".parse().unwrap();
        let (stop, pass) = (
            vector(Expectation::Stop, "/"),
            vector(Expectation::Pass, "/"),
        );
        let passed =
            || Wire::Answer(b"HTTP/1.1 200 OK\r\nx-stopgap-probe: passed\r\n\r\n".to_vec());
        let denied = || Wire::Answer(b"HTTP/1.1 403 No\r\n\r\n".to_vec());
        let stopped = |id: &MitigationId| Some(Seen::Stopped(Some(id.clone())));
        let came_through = || Some(Seen::Passed(Vec::new()));
        for (wire, seen, vector, expected) in [
            (Wire::Ended, stopped(&own), &stop, Some(true)),
            (denied(), stopped(&other), &stop, Some(true)),
            (passed(), came_through(), &stop, Some(false)),
            (passed(), stopped(&own), &stop, Some(false)),
            (denied(), came_through(), &pass, Some(false)),
            (passed(), came_through(), &pass, Some(true)),
            (denied(), stopped(&own), &pass, Some(false)),
            (denied(), stopped(&other), &pass, Some(true)),
            (Wire::Lost, stopped(&own), &stop, None),
            (Wire::Ended, None, &stop, None),
            (
                Wire::Answer(b"HTTP/1.1 400 Bad\r\n\r\n".to_vec()),
                None,
                &stop,
                Some(true),
            ),
        ] {
            let judged = judge(&wire, seen.as_ref(), vector, &own);
            assert_eq!(
                judged.as_ref().map(Result::is_ok),
                expected,
                "{seen:?} {judged:?}"
            );
        }
    }
}
