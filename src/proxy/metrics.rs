//! What the data plane counts.

use std::fmt;

use super::Party;
use super::admit::Inadmissible;
use crate::canon::Refusal;
use crate::net::Malformed;
use crate::rules::BodySkip;
use crate::telemetry::{Counter, Counters, Gauge, Gauges, Label, Labelled, Metrics};

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Outcome {
    /// The connection was reset by a rule.
    Aborted,
    /// A function of ours answered.
    BuiltIn,
    /// No server gave an answer.
    Failed,
    /// A server answered.
    Forwarded,
    /// A mitigation has stopped the pool that serves the path.
    Paused,
    /// A rule sent the client elsewhere.
    Redirected,
    /// It was refused before or beside the rules.
    Refused,
    /// A rule answered.
    Responded,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Aborted,
        Self::BuiltIn,
        Self::Failed,
        Self::Forwarded,
        Self::Paused,
        Self::Redirected,
        Self::Refused,
        Self::Responded,
    ];

    /// One lower-case word for logs and metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::BuiltIn => "built_in",
            Self::Failed => "failed",
            Self::Forwarded => "forwarded",
            Self::Paused => "paused",
            Self::Redirected => "redirected",
            Self::Refused => "refused",
            Self::Responded => "responded",
        }
    }
}

impl Label for Outcome {
    const NAME: &'static str = "outcome";

    fn value(&self) -> &str {
        self.name()
    }
}

impl Label for Party {
    const NAME: &'static str = "party";

    fn value(&self) -> &str {
        self.name()
    }
}

impl Label for BodySkip {
    const NAME: &'static str = "reason";

    fn value(&self) -> &str {
        self.word()
    }
}

/// Why a request was refused without asking the rules.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Reason {
    /// What it asks for is not for a proxy to do, or it contradicts itself.
    Inadmissible(Inadmissible),
    /// Its bytes are no proper HTTP/1.
    Malformed(Malformed),
    /// Its target has a form that no honest client sends.
    Target(Refusal),
    /// It did not come in time.
    Timeout,
    /// Its client, which comes by a proxy in front, has as many requests in progress as it may.
    TooMany,
}

impl Reason {
    /// One lower-case word for logs, metrics and error pages.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Inadmissible(reason) => reason.word(),
            Self::Malformed(malformed) => malformed.word(),
            Self::Target(refusal) => refusal.word(),
            Self::Timeout => "timeout",
            Self::TooMany => "too-many-requests",
        }
    }

    /// The status code that says so.
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Inadmissible(reason) => reason.status(),
            Self::Malformed(malformed) => malformed.status(),
            Self::Target(_) => 400,
            Self::Timeout => 408,
            Self::TooMany => 429,
        }
    }
}

impl Label for Reason {
    const NAME: &'static str = "reason";

    fn value(&self) -> &str {
        self.word()
    }
}

/// Why a request was sent, or was to be sent, once more.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Retry {
    /// It may be sent twice, and was lost on a connection that had been idle.
    Lost,
    /// Its server said that it did nothing with it.
    Refused,
    /// Its server could not be reached.
    Unreachable,
}

impl Label for Retry {
    const NAME: &'static str = "reason";

    fn value(&self) -> &str {
        match self {
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
        }
    }
}

/// A server of the settings; there are as many as are written there.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct ServerName(String);

impl Label for ServerName {
    const NAME: &'static str = "server";

    fn value(&self) -> &str {
        &self.0
    }
}

/// How a health check ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum CheckResult {
    Bad,
    Good,
}

impl Label for CheckResult {
    const NAME: &'static str = "result";

    fn value(&self) -> &str {
        match self {
            Self::Bad => "bad",
            Self::Good => "good",
        }
    }
}

/// The counters of every worker; clones share them.
#[derive(Clone)]
pub(super) struct Meters {
    requests: [Counter; Outcome::ALL.len()],
    refusals: Counters<Reason>,
    errors: Counters<Party>,
    bodies_skipped: Counters<BodySkip>,
    connections: Gauge,
    resting: Gauge,
    pub(super) connections_refused: Counter,
    pub(super) accept_errors: Counter,
    pub(super) handshake_failures: Counter,
    searches_out_of_steps: Counter,
    excepted: Counter,
    pub(super) decision_lines_omitted: Counter,
    upstream_connections: Gauge,
    upstream_connects: Counter,
    retries: Counters<Retry>,
    upstream_fit: Gauges<ServerName>,
    health_checks: Counters<CheckResult>,
    pub(super) ejections: Counter,
}

/// Counts a connection until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Meters {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let requests =
            metrics.counters::<Outcome>("stopgap_proxy_requests", "Requests by how they ended");
        Self {
            // One look-up for each outcome here spares one for each request.
            requests: Outcome::ALL
                .map(|outcome| requests.get_or_create(&Labelled(outcome)).clone()),
            refusals: metrics.counters(
                "stopgap_proxy_refusals",
                "Requests refused without asking the rules, by reason",
            ),
            errors: metrics.counters(
                "stopgap_proxy_errors",
                "Requests that could not be served, by the party at fault",
            ),
            bodies_skipped: metrics.counters(
                "stopgap_proxy_bodies_not_rewritten",
                "Bodies that passed as they were although a rule wanted to rewrite them, by reason",
            ),
            connections: metrics.gauge("stopgap_proxy_connections", "Client connections"),
            resting: metrics.gauge(
                "stopgap_proxy_connections_resting",
                "Client connections that are idle and gave their buffers back",
            ),
            connections_refused: metrics.counter(
                "stopgap_proxy_connections_refused",
                "Client connections beyond a limit, closed at once",
            ),
            accept_errors: metrics.counter(
                "stopgap_proxy_accept_errors",
                "Failures to accept a connection",
            ),
            searches_out_of_steps: metrics.counter(
                "stopgap_proxy_searches_out_of_steps",
                "Searches of patterns that ran out of steps: a match for rules that refuse, none for others",
            ),
            excepted: metrics.counter(
                "stopgap_proxy_requests_excepted",
                "Requests that an exception let pass a rule of a mitigation, or whose response it left alone",
            ),
            decision_lines_omitted: metrics.counter(
                "stopgap_decision_lines_omitted",
                "Decisions that had no line of their own, since there were too many",
            ),
            handshake_failures: metrics.counter(
                "stopgap_proxy_tls_handshake_failures",
                "Client connections on which TLS could not be agreed",
            ),
            upstream_connections: metrics.gauge(
                "stopgap_proxy_upstream_connections",
                "Connections to upstream servers",
            ),
            upstream_connects: metrics.counter(
                "stopgap_proxy_upstream_connects",
                "Connections opened to upstream servers",
            ),
            retries: metrics.counters(
                "stopgap_proxy_upstream_retries",
                "Attempts to send a request that came to nothing and did no harm, by reason",
            ),
            upstream_fit: metrics.gauges(
                "stopgap_proxy_upstream_fit",
                "Whether a server gets requests while there is a choice",
            ),
            health_checks: metrics.counters(
                "stopgap_proxy_health_checks",
                "Health checks of upstream servers, by result",
            ),
            ejections: metrics.counter(
                "stopgap_proxy_upstream_ejections",
                "Times that a server was left out since requests failed on it",
            ),
        }
    }

    pub(super) fn request(&self, outcome: Outcome) {
        self.requests[outcome as usize].inc();
    }

    /// Counts a client connection until the result is dropped.
    pub(super) fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// Counts a client connection that rests until the result is dropped.
    pub(super) fn resting(&self) -> Counted {
        Counted::new(&self.resting)
    }

    /// Counts a connection to a server until the result is dropped.
    pub(super) fn upstream_connection(&self) -> Counted {
        self.upstream_connects.inc();
        Counted::new(&self.upstream_connections)
    }

    pub(super) fn refusal(&self, reason: Reason) {
        self.refusals.get_or_create(&Labelled(reason)).inc();
    }

    pub(super) fn body_skip(&self, skip: BodySkip) {
        self.bodies_skipped.get_or_create(&Labelled(skip)).inc();
    }

    /// Counts searches that ran out of steps.
    pub(super) fn out_of_steps(&self, searches: u64) {
        if searches > 0 {
            self.searches_out_of_steps.inc_by(searches);
        }
    }

    /// Counts a request that an exception let pass a rule, if one did.
    pub(super) fn excepted(&self, excepted: bool) {
        if excepted {
            self.excepted.inc();
        }
    }

    /// The gauge of a server.
    pub(super) fn upstream_fit(&self, server: String) -> Gauge {
        let label = Labelled(ServerName(server));
        self.upstream_fit.get_or_create(&label).clone()
    }

    pub(super) fn health_check(&self, good: bool) {
        let result = if good {
            CheckResult::Good
        } else {
            CheckResult::Bad
        };
        self.health_checks.get_or_create(&Labelled(result)).inc();
    }

    pub(super) fn retry(&self, reason: Retry) {
        self.retries.get_or_create(&Labelled(reason)).inc();
    }

    pub(super) fn error(&self, party: Party) {
        self.errors.get_or_create(&Labelled(party)).inc();
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_each_in_its_place() {
        let metrics = Metrics::default();
        let meters = Meters::register(&metrics);
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| meters.request(outcome));
        }
        meters.refusal(Reason::Timeout);
        let page = metrics.render();
        assert!(
            page.contains("stopgap_proxy_requests_total{outcome=\"responded\"} 7\n"),
            "{page}"
        );
        assert!(
            page.contains("stopgap_proxy_requests_total{outcome=\"built_in\"} 1\n"),
            "{page}"
        );
        assert!(
            page.contains("stopgap_proxy_refusals_total{reason=\"timeout\"} 1\n"),
            "{page}"
        );
    }
}
