//! Judging a request and its response by one snapshot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Method, Version, request, response};

use super::audit::{Watched, WatchedRequest};
use super::except::Reply;
use super::snapshot::{Handle, Reader, Snapshot};
use super::{
    ActiveException, BodyTransform, BodyWatch, Excepted, Exceptions, Paused, PausedPool, rewrite,
};
use crate::rules::{
    BodySkip, Decision, Fields, Recent, RequestMemory, RequestView, ResponseDecision, ResponseView,
    RuleId, RuleSet, Scratch, Verdict,
};

/// What is known of the connection a request came on.
///
/// # Examples
///
/// ```
/// use stopgap::filter::Peer;
///
/// // Put it among a request's extensions for a `FilterService` to find.
/// let peer = Peer { secure: true, remote: Some("192.0.2.1:50000".parse()?), ..Peer::default() };
/// let request = http::Request::get("/").extension(peer).body(())?;
/// assert!(request.extensions().get::<Peer>().is_some_and(|peer| peer.secure));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// Whether the client speaks TLS to us.
    pub secure: bool,
    /// The client's address.
    pub remote: Option<SocketAddr>,
    /// The address that the client connected to.
    pub local: Option<SocketAddr>,
}

/// The head of a request as it is judged, with its fields as received, hop-by-hop fields included: rules see what the
/// client sent.
///
/// # Examples
///
/// ```
/// use stopgap::filter::Head;
///
/// let (parts, ()) = http::Request::get("https://mail.example/owa/?a=b").body(())?.into_parts();
/// assert_eq!(Head::from(&parts).target, b"/owa/?a=b");
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query (RFC 9112 section 3.2.1).
    pub target: &'a [u8],
    /// The version of the protocol.
    pub version: Version,
    /// The fields.
    pub fields: &'a dyn Fields,
}

impl<'a> From<&'a request::Parts> for Head<'a> {
    fn from(parts: &'a request::Parts) -> Self {
        let target = parts.uri.path_and_query();
        Self {
            method: &parts.method,
            target: target.map_or(b"/", |target| target.as_str().as_bytes()),
            version: parts.version,
            fields: &parts.headers,
        }
    }
}

impl std::fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.target.escape_ascii())
    }
}

/// Judges messages; one for each worker, since it owns the memory that judging works in.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use stopgap::filter::{Filter, Handle, Peer, Snapshot};
/// use stopgap::model::Revision;
/// use stopgap::rules::{RuleSet, SourceOrigin};
///
/// let text = r#"<rules><rule name="r"><match url="^ecp/" /><action type="AbortRequest" /></rule></rules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut filter = Filter::new(Handle::new(Snapshot::single(Revision(1), rules)));
///
/// let (parts, ()) = Request::get("/ecp/default.aspx").body(())?.into_parts();
/// let judged = filter.judge(0, &parts, &Peer::default());
/// assert!(judged.decision.verdict.stops());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Filter {
    handle: Handle,
    reader: Reader,
    scratch: Scratch,
    /// Of rules that are only watched: what they make of a request must not show in what the others decide.
    watched: Scratch,
}

/// A judged request.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use stopgap::filter::{Filter, Handle, Peer, Snapshot};
/// use stopgap::model::Revision;
/// use stopgap::rules::{RuleSet, SourceOrigin};
///
/// let text = r#"<rules><rule name="r"><match url="^ecp/" /><action type="AbortRequest" /></rule></rules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut filter = Filter::new(Handle::new(Snapshot::single(Revision(1), rules)));
///
/// let (parts, ()) = Request::get("/owa/").body(())?.into_parts();
/// let judged = filter.judge(0, &parts, &Peer::default());
/// assert!(!judged.decision.verdict.stops());
/// assert!(judged.response.is_none(), "no response rule is there");
/// assert_eq!((judged.snapshot.revision(), judged.out_of_steps), (Revision(1), 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Judged {
    /// What the rules decided.
    pub decision: Decision,
    /// What judges the response; `None` when no response rule can apply.
    pub response: Option<ResponseFilter>,
    /// The stopped pool that would have to serve the request, which the rules let pass.
    pub paused: Option<Arc<PausedPool>>,
    /// The exception that let it pass a rule, whatever other rules decided.
    pub excepted: Option<Excepted>,
    /// The snapshot that decided.
    pub snapshot: Arc<Snapshot>,
    /// Searches that ran out of steps: a match for a rule that refuses requests, none for any other.
    pub out_of_steps: u64,
}

/// Judges the response to one request, by the snapshot that judged the request.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use stopgap::filter::{Filter, Handle, Peer, Snapshot};
/// use stopgap::model::Revision;
/// use stopgap::rules::{RuleSet, SourceOrigin};
///
/// let text = r#"<outboundRules><rule name="r"><match serverVariable="RESPONSE_X" pattern=".*" /><action type="Rewrite" value="1" /></rule></outboundRules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut filter = Filter::new(Handle::new(Snapshot::single(Revision(1), rules)));
///
/// let (mut parts, ()) = Request::get("/").body(())?.into_parts();
/// let response = filter.judge(0, &parts, &Peer::default()).response.ok_or("a rule may apply")?;
/// response.prepare(&mut parts);
/// // ... forward the request, and when the response has come:
/// let (mut parts, ()) = Response::new(()).into_parts();
/// response.apply(&mut filter, &mut parts);
/// assert_eq!(parts.headers["x"], "1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ResponseFilter {
    snapshot: Arc<Snapshot>,
    site: usize,
    /// `None` when no response rule is in force.
    memory: Option<RequestMemory>,
    /// `None` when no response rule is watched.
    watched: Option<WatchedRequest>,
    /// The exceptions that cover the request, and the one that was used on it.
    covering: Vec<Arc<ActiveException>>,
    used: Option<Arc<ActiveException>>,
    /// Whether a rule that acts counts a hit.
    counts: bool,
}

/// What response rules made of a head, and of the body to come.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use stopgap::filter::{Filter, Handle, Peer, Snapshot};
/// use stopgap::model::Revision;
/// use stopgap::rules::{RuleSet, SourceOrigin};
///
/// let text = r#"<outboundRules><rule name="r"><match serverVariable="RESPONSE_X" pattern=".*" /><action type="Rewrite" value="1" /></rule></outboundRules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut filter = Filter::new(Handle::new(Snapshot::single(Revision(1), rules)));
///
/// let (parts, ()) = Request::get("/").body(())?.into_parts();
/// let response = filter.judge(0, &parts, &Peer::default()).response.ok_or("a rule may apply")?;
/// let (mut parts, ()) = Response::new(()).into_parts();
/// let filtered = response.apply(&mut filter, &mut parts);
/// assert_eq!(filtered.rules.len(), 1);
/// assert!(filtered.body.is_none() && filtered.body_skip.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Filtered {
    /// The rules that acted on the head, in order.
    pub rules: Vec<RuleId>,
    /// What every piece of the body has to go through, if rules want to rewrite it.
    pub body: Option<BodyTransform>,
    /// What is to see every piece of the body as it is sent, if rules that are only watched want to rewrite it.
    pub watch: Option<BodyWatch>,
    /// Whether an exception had a rule leave it alone, by which the request was not excepted already.
    pub excepted: bool,
    /// Why the body passes as it is although a rule wants to rewrite it.
    pub body_skip: Option<BodySkip>,
    /// Searches in the head that ran out of steps, which count as no match.
    pub out_of_steps: u64,
}

impl Filter {
    /// A filter that follows `handle`.
    pub fn new(handle: Handle) -> Self {
        let reader = handle.reader();
        Self {
            handle,
            reader,
            scratch: Scratch::default(),
            watched: Scratch::default(),
        }
    }

    /// Judges the head of a request by the current snapshot, and counts a hit of the rule that acted.
    ///
    /// `parts` must hold the fields as received, hop-by-hop fields included: rules see what the client sent.
    pub fn judge(&mut self, site: usize, parts: &request::Parts, peer: &Peer) -> Judged {
        self.decide(site, &parts.into(), peer, true)
    }

    /// The same for a connection that keeps what its last request came to: what this one repeats is compared instead
    /// of searched, if nothing was published meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Request;
    /// use stopgap::filter::{Filter, Handle, Peer, Snapshot};
    /// use stopgap::model::Revision;
    /// use stopgap::rules::{Recent, RuleSet, SourceOrigin};
    ///
    /// let text = r#"<rules><rule name="r"><match url="^ecp/" /><action type="AbortRequest" /></rule></rules>"#;
    /// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
    /// let handle = Handle::new(Snapshot::single(Revision(1), RuleSet::empty()));
    /// let mut filter = Filter::new(handle.clone());
    /// let mut recent = Recent::default();
    ///
    /// let (parts, ()) = Request::get("/ecp/default.aspx").body(())?.into_parts();
    /// let judged = filter.judge_on(&mut recent, 0, &(&parts).into(), &Peer::default());
    /// assert!(!judged.decision.verdict.stops());
    /// handle.publish(Snapshot::single(Revision(2), rules));
    /// let judged = filter.judge_on(&mut recent, 0, &(&parts).into(), &Peer::default());
    /// assert!(judged.decision.verdict.stops());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn judge_on(
        &mut self,
        recent: &mut Recent,
        site: usize,
        head: &Head<'_>,
        peer: &Peer,
    ) -> Judged {
        self.scratch.exchange_recent(recent);
        let judged = self.decide(site, head, peer, true);
        self.scratch.exchange_recent(recent);
        judged
    }

    /// Judges the head of a request that is not traffic: as [`judge`](Self::judge), and no rule counts a hit, nor for
    /// the response.
    pub fn judge_uncounted(&mut self, site: usize, parts: &request::Parts, peer: &Peer) -> Judged {
        self.decide(site, &parts.into(), peer, false)
    }

    fn decide(&mut self, site: usize, head: &Head<'_>, peer: &Peer, counts: bool) -> Judged {
        let snapshot = Arc::clone(self.reader.load());
        let rules = snapshot.site(site);
        let view = RequestView {
            method: head.method.as_str(),
            target: head.target,
            version: version(head.version),
            secure: peer.secure,
            remote: peer.remote,
            local: peer.local,
            fields: head.fields,
            variables: &[],
        };
        // What is not traffic is excepted from nothing.
        let exceptions = snapshot.exceptions().filter(|_| counts);
        let (decision, excepted) = judge(rules, &view, exceptions, &mut self.scratch);
        if let Some(rule) = decision.rule.filter(|_| counts) {
            rules.rule(rule).origin.hits.fetch_add(1, Ordering::Relaxed);
        }
        // What is not traffic shows what rules do.
        let paused = snapshot
            .paused(site)
            .filter(|_| counts)
            .and_then(|paused| pausing(paused, view.target, &decision));
        if let Some(pool) = &paused {
            pool.hits.fetch_add(1, Ordering::Relaxed);
        }
        let passes = paused.is_none() && !decision.verdict.stops();
        let watched = snapshot.audit().site(site).filter(|_| counts && passes);
        let watched = watched.and_then(|watched| self.watch(watched, &view, head, &snapshot));
        let memory = (rules.has_response_rules() && passes)
            .then(|| rules.remember(&view, &mut self.scratch));
        let response = (memory.is_some() || watched.is_some()).then(|| ResponseFilter {
            snapshot: Arc::clone(&snapshot),
            site,
            memory,
            watched,
            covering: exceptions.map_or_else(Vec::new, |all| all.covering(&view)),
            used: excepted.as_ref().map(|own| Arc::clone(&own.exception)),
            counts,
        });
        Judged {
            decision,
            response,
            paused,
            excepted,
            snapshot,
            out_of_steps: self.scratch.take_out_of_steps(),
        }
    }

    /// Judges a request that passes by rules that are only watched, and counts what they would have stopped; what
    /// response rules among them have to know, if they would have let it pass.
    #[cold]
    fn watch(
        &mut self,
        watched: &Watched,
        view: &RequestView<'_>,
        head: &Head<'_>,
        snapshot: &Snapshot,
    ) -> Option<WatchedRequest> {
        let rules = &watched.rules;
        let exceptions = snapshot.exceptions();
        let (decision, _) = judge(rules, view, exceptions, &mut self.watched);
        let Some(rule) = decision.rule.filter(|_| decision.verdict.stops()) else {
            return rules.has_response_rules().then(|| WatchedRequest {
                memory: rules.remember(view, &mut self.watched),
                method: head.method.clone(),
                target: String::from_utf8_lossy(head.target).into_owned(),
            });
        };
        let rule = rules.rule(rule);
        let count = rule.origin.hits.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(id) = &rule.origin.mitigation {
            let samples = snapshot.audit().samples();
            samples.take_stopped(
                &id.to_string(),
                count,
                head.method,
                &String::from_utf8_lossy(head.target),
            );
        }
        None
    }
}

/// Judges by rules that let pass what is excepted.
fn judge(
    rules: &RuleSet,
    view: &RequestView<'_>,
    exceptions: Option<&Exceptions>,
    scratch: &mut Scratch,
) -> (Decision, Option<Excepted>) {
    match exceptions {
        None => (rules.judge(view, scratch), None),
        Some(exceptions) => exceptions.judge(rules, view, scratch),
    }
}

/// The stopped pool that a request leads to, by the target as sent or by the one that a rule gave it.
fn pausing(paused: &Paused, target: &[u8], decision: &Decision) -> Option<Arc<PausedPool>> {
    let rewritten = match &decision.verdict {
        _ if decision.failure.is_some() => return None,
        verdict if verdict.stops() => return None,
        Verdict::Rewrite { target } => Some(target),
        _ => None,
    };
    let found = paused.find(target);
    let found = found.or_else(|| paused.find(rewritten?));
    found.map(Arc::clone)
}

impl Clone for Filter {
    /// Another worker's filter: the same handle, memory of its own.
    fn clone(&self) -> Self {
        Self::new(self.handle.clone())
    }
}

impl ResponseFilter {
    /// The snapshot that judged the request and will judge the response.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether a rule may want to rewrite the body: the server is then to be asked for one that can be read.
    pub fn may_rewrite_body(&self) -> bool {
        let rules = self.snapshot.site(self.site);
        let memory = self.memory.as_ref();
        memory.is_some_and(|memory| rules.may_rewrite_body(memory))
    }

    /// Whether no rule acts on the response: rules only watch it, and its head stays as it is.
    pub const fn only_watches(&self) -> bool {
        self.memory.is_none()
    }

    /// Changes the head of the request accordingly: `Accept-Encoding` asks for no coding if a rule may want to read
    /// the body of the response.
    pub fn prepare(&self, parts: &mut request::Parts) {
        if self.may_rewrite_body() {
            rewrite::ask_for_identity(&mut parts.headers);
        }
    }

    /// Judges the head of the response, changes it accordingly, and counts hits.
    ///
    /// If the body is to be rewritten, the head says no length and no strong `ETag` any more.
    pub fn apply(&self, filter: &mut Filter, parts: &mut response::Parts) -> Filtered {
        self.judge(parts, &mut filter.scratch, &mut filter.watched)
    }

    /// Rules that are watched have a scratch of their own.
    pub(super) fn judge(
        &self,
        parts: &mut response::Parts,
        scratch: &mut Scratch,
        watched: &mut Scratch,
    ) -> Filtered {
        let mut filtered = match &self.memory {
            Some(memory) => self.change(memory, parts, scratch),
            None => Filtered::default(),
        };
        // What would have been changed of what is sent.
        if let Some(request) = &self.watched {
            filtered.watch = self.watch(request, parts, watched);
        }
        filtered
    }

    fn change(
        &self,
        memory: &RequestMemory,
        parts: &mut response::Parts,
        scratch: &mut Scratch,
    ) -> Filtered {
        let rules = self.snapshot.site(self.site);
        let (decision, excepted) = self.respond(rules, memory, parts, scratch);
        for rule in decision.rules.iter().filter(|_| self.counts) {
            rules
                .rule(*rule)
                .origin
                .hits
                .fetch_add(1, Ordering::Relaxed);
        }
        if let Some(Ok(status)) = decision.status.map(http::StatusCode::from_u16) {
            parts.status = status;
        }
        super::apply::change_fields(&decision.fields, &mut parts.headers);
        let body = decision
            .body
            .map(|rules| BodyTransform::new(rules, &self.snapshot, self.site));
        if body.is_some() {
            rewrite::loosen(&mut parts.headers);
        }
        Filtered {
            rules: decision.rules,
            body,
            watch: None,
            excepted,
            body_skip: decision.body_skip,
            out_of_steps: scratch.take_out_of_steps(),
        }
    }

    /// Judges by rules that leave alone what is excepted; whether something was that nobody has counted yet.
    fn respond(
        &self,
        rules: &RuleSet,
        memory: &RequestMemory,
        parts: &response::Parts,
        scratch: &mut Scratch,
    ) -> (ResponseDecision, bool) {
        let view = view(parts);
        if self.covering.is_empty() {
            return (rules.judge_response(memory, &view, scratch), false);
        }
        let mut reply = Reply {
            covering: &self.covering,
            used: self.used.as_ref(),
            counts: false,
        };
        let mut spares = |rule| reply.spares(rules.rule(rule));
        let decision = rules.judge_response_sparing(memory, &view, scratch, &mut spares);
        (decision, reply.counts)
    }

    /// Judges the response by rules that are only watched; what looks on at the body, if they want to.
    #[cold]
    fn watch(
        &self,
        request: &WatchedRequest,
        parts: &response::Parts,
        scratch: &mut Scratch,
    ) -> Option<BodyWatch> {
        let rules = &self.snapshot.audit().site(self.site)?.rules;
        let (decision, _) = self.respond(rules, &request.memory, parts, scratch);
        let mut counted = Vec::new();
        request.note(&self.snapshot, self.site, &decision.rules, &mut counted);
        let body = decision.body?;
        let (request, snapshot) = (request.clone(), &self.snapshot);
        Some(BodyWatch::new(body, request, snapshot, self.site, counted))
    }
}

fn view(parts: &response::Parts) -> ResponseView<'_> {
    ResponseView {
        status: parts.status.as_u16(),
        reason: parts.status.canonical_reason().unwrap_or(""),
        fields: &parts.headers,
    }
}

const fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
