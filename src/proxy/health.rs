//! Asking servers whether they are well, beside the traffic: one thread for the whole process.
//!
//! Servers are sent nothing unless their group has a [`HealthCheck`].

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use http::{Request, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::running::Order;
use super::standing::{Check, Group};
use super::{HealthCheck, Server};
use crate::net::{Stream, ask_http2, connect_unix};

/// What checks call themselves.
const AGENT: HeaderValue = HeaderValue::from_static("stopgap-health-check");

/// The part of the interval by which a check may come early or late, so that not all come at once.
const JITTER: f64 = 0.1;

/// Checks the servers of every group that wants it, until the order is another than to serve.
pub(super) async fn watch(groups: Vec<Arc<Group>>, mut orders: watch::Receiver<Order>) {
    let mut checks = JoinSet::new();
    for group in groups {
        let Some(check) = group.settings.health.clone() else {
            continue;
        };
        for server in 0..group.settings.members.len() {
            checks.spawn(attend(Arc::clone(&group), server, check.clone()));
        }
    }
    // Whoever gave the order is gone, or gave another: either way there is nothing to watch any more.
    let _ = orders.wait_for(|order| *order != Order::Serve).await;
}

/// Checks one server again and again.
async fn attend(group: Arc<Group>, server: usize, check: HealthCheck) {
    let mut record = Record::default();
    loop {
        let asked = ask(&group, server, &check);
        let result = tokio::time::timeout(check.timeout, asked)
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()));
        group.count_check(result.is_ok());
        if let Some(verdict) = record.add(result.is_ok(), check.rise, check.fall) {
            let reason = result.as_ref().err().map_or("", String::as_str);
            tell(&group.settings.members[server].server, verdict, reason);
            group.set_check(server, verdict, reason, group.now());
        }
        tokio::time::sleep(spread(check.interval, chance())).await;
    }
}

/// What the last checks of a server said.
#[derive(Debug, Default)]
struct Record {
    verdict: Option<Check>,
    /// Results in a row that speak against the verdict.
    against: u32,
}

impl Record {
    /// Adds a result; the new verdict, if it changes. The first counts alone, since nothing else is known.
    fn add(&mut self, good: bool, rise: u32, fall: u32) -> Option<Check> {
        let said = if good { Check::Up } else { Check::Down };
        let needed = match self.verdict {
            None => 1,
            Some(verdict) if verdict == said => {
                self.against = 0;
                return None;
            }
            Some(_) if good => rise,
            Some(_) => fall,
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.verdict = Some(said);
        self.verdict
    }
}

/// One check; the error says what was wrong.
async fn ask(group: &Group, server: usize, check: &HealthCheck) -> Result<(), String> {
    let Server {
        host,
        port,
        socket,
        http2,
        ..
    } = &group.settings.members[server].server;
    let socket = match socket {
        Some(path) => connect_unix(path).await,
        None => TcpStream::connect((host.as_str(), *port)).await,
    };
    let socket = socket.map_err(|error| format!("no connection: {error}"))?;
    // Fails only on a socket that is gone, which shows at once, or that has no delay.
    let _ = socket.set_nodelay(true);
    let tls = group.tls[server].as_ref();
    let stream = match (tls, http2) {
        (Some(tls), true) => tls.with_http2().connect(socket).await,
        (Some(tls), false) => tls.connect(socket).await,
        (None, _) => Ok(Stream::Plain(socket)),
    };
    let stream = stream.map_err(|error| format!("no TLS: {error}"))?;
    let request = request(group, server, check)?;
    let status = match *http2 && (stream.is_http2() || tls.is_none()) {
        true => by_http2(stream, request, tls.is_some()).await?,
        false => by_http1(stream, request).await?,
    };
    match check.expects(status) {
        true => Ok(()),
        false => Err(format!("answered with {status}")),
    }
}

async fn by_http1(
    stream: Stream<TcpStream>,
    request: Request<Empty<Bytes>>,
) -> Result<u16, String> {
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| because(&error))?;
    let mut answer = pin!(requests.send_request(request));
    let answered = tokio::select! {
        answered = &mut answer => answered,
        // It may have brought the answer before it ended.
        _ = connection => answer.await,
    };
    let answered = answered.map_err(|error| because(&error))?;
    Ok(answered.status().as_u16())
}

/// The host is that of the target (RFC 9113 section 8.3.1), and nothing speaks of the connection.
async fn by_http2(
    stream: Stream<TcpStream>,
    request: Request<Empty<Bytes>>,
    secure: bool,
) -> Result<u16, String> {
    let (mut parts, _) = request.into_parts();
    parts.headers.remove(CONNECTION);
    let host = parts.headers.remove(HOST);
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let uri = Uri::builder()
        .scheme(if secure { "https" } else { "http" })
        .authority(host.as_ref().map_or(&b""[..], HeaderValue::as_bytes))
        .path_and_query(target);
    parts.uri = uri.build().map_err(|error| error.to_string())?;
    parts.version = http::Version::HTTP_2;
    let answered = ask_http2(stream, Request::from_parts(parts, ())).await;
    let status = answered.map_err(|error| because(&error))?;
    Ok(status.as_u16())
}

fn request(
    group: &Group,
    server: usize,
    check: &HealthCheck,
) -> Result<Request<Empty<Bytes>>, String> {
    let server = &group.settings.members[server].server;
    let own = || {
        let text = server.to_string();
        match text.split_once("://") {
            Some((_, authority)) => authority.to_owned(),
            None => server.host.clone(),
        }
    };
    let host = check.host.clone().unwrap_or_else(own);
    let uri: Uri = check.target.parse().map_err(|_| "no target".to_owned())?;
    Request::builder()
        .method(check.method.clone())
        .uri(uri)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())
}

fn because(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("no proper answer: {error}: {source}"),
        None => format!("no proper answer: {error}"),
    }
}

fn tell(server: &Server, verdict: Check, reason: &str) {
    match verdict {
        Check::Down => tracing::warn!(%server, reason, "server is not well, and left out"),
        Check::Up | Check::Unknown => tracing::info!(%server, "server is well"),
    }
}

/// The interval, a tenth more or less.
fn spread(interval: Duration, chance: f64) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance)
}

/// A number from 0 to 1, good enough to spread load.
fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // 53 bits are what a double holds exactly.
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_changes_after_results_in_a_row() {
        let mut record = Record::default();
        let results = [
            (true, Some(Check::Up)),
            (false, None),
            (false, None),
            (true, None),
            (false, None),
            (false, None),
            (false, Some(Check::Down)),
            (false, None),
            (true, None),
            (false, None),
            (true, None),
            (true, Some(Check::Up)),
        ];
        for (number, (good, verdict)) in results.into_iter().enumerate() {
            assert_eq!(record.add(good, 2, 3), verdict, "{number}");
        }
        assert_eq!(Record::default().add(false, 2, 3), Some(Check::Down));
    }

    #[test]
    fn checks_are_spread() {
        let second = Duration::from_secs(1);
        let spreads = [0.0, 0.5, 1.0].map(|chance| spread(second, chance).as_millis());
        assert_eq!(spreads, [900, 1_000, 1_100]);
        assert!((0..8).any(|_| chance() != chance()));
    }
}
