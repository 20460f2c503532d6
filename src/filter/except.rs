//! Requests that a mitigation lets pass although its rules apply to them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::canon::{Decoding, Views, path_has_prefix, percent_decode};
use crate::model::{Exception, MitigationId};
use crate::rules::{Decision, RequestView, RuleId, RuleInfo, RuleSet, Scratch};

/// An exception in force, and how often it let a request pass.
///
/// # Examples
///
/// ```
/// use stopgap::filter::ActiveException;
/// use stopgap::model::{Exception, ExceptionDraft};
///
/// let exception = Exception::read(&ExceptionDraft {
///     name: "room-7",
///     mitigation: "M1.1",
///     path: "/autodiscover",
///     clients: vec!["192.0.2.0/24"],
///     owner: "A. Person",
///     reason: "the phone in room 7",
///     expires: "2026-12-31T00:00:00Z",
///     ..ExceptionDraft::default()
/// })?;
/// let active = ActiveException::new(exception, 0);
/// assert_eq!((active.exception().name(), active.hits()), ("room-7", 0));
/// # Ok::<(), stopgap::model::InvalidException>(())
/// ```
#[derive(Debug)]
pub struct ActiveException {
    exception: Exception,
    hits: AtomicU64,
}

impl ActiveException {
    /// An exception that let so many requests pass before.
    pub const fn new(exception: Exception, hits: u64) -> Self {
        Self {
            exception,
            hits: AtomicU64::new(hits),
        }
    }

    /// What it is.
    pub const fn exception(&self) -> &Exception {
        &self.exception
    }

    /// How many requests it let pass.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Whether it covers a path in each of its views: what it lets pass must not be something else to the server.
    fn covers(&self, views: &Views<'_>) -> bool {
        let prefix = self.exception.path().as_bytes();
        views.iter().all(|view| match view.decoding {
            Decoding::Raw => begins_with_segments(&view.path, prefix),
            _ => path_has_prefix(&view.path, prefix),
        })
    }
}

/// The exceptions in force, for every site.
///
/// # Examples
///
/// ```
/// assert!(stopgap::filter::Exceptions::default().is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Exceptions {
    /// In the order of mitigations, so that a rule finds its own.
    list: Vec<Arc<ActiveException>>,
}

/// A rule that applied to a request and let it pass.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use http::Request;
/// use stopgap::filter::{ActiveException, Exceptions, Filter, Handle, Peer, Snapshot};
/// use stopgap::model::{Exception, ExceptionDraft, Revision};
/// use stopgap::rules::{RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin};
///
/// let text = r#"<rules><rule name="r"><match url="^a/" /><action type="AbortRequest" /></rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let origin = RuleOrigin { mitigation: Some("M1.1".parse()?), ..RuleOrigin::local("rules.xml") };
/// let mut builder = RuleSet::builder(RuleLimits::default());
/// builder.add(&source, origin)?;
///
/// let exception = Exception::read(&ExceptionDraft {
///     name: "room-7",
///     mitigation: "M1.1",
///     path: "/a/b",
///     clients: vec!["192.0.2.0/24"],
///     owner: "A. Person",
///     reason: "the phone in room 7",
///     expires: "2026-12-31T00:00:00Z",
///     ..ExceptionDraft::default()
/// })?;
/// let exceptions = Exceptions::new([Arc::new(ActiveException::new(exception, 0))]);
/// let snapshot = Snapshot::single(Revision(1), builder.build()).with_exceptions(exceptions);
/// let mut filter = Filter::new(Handle::new(snapshot));
///
/// let peer = Peer { remote: Some("192.0.2.1:50000".parse()?), ..Peer::default() };
/// let (parts, ()) = Request::get("/a/b/c").body(())?.into_parts();
/// let judged = filter.judge(0, &parts, &peer);
/// assert!(!judged.decision.verdict.stops());
/// assert_eq!(judged.excepted.ok_or("an exception")?.exception.exception().name(), "room-7");
///
/// let (parts, ()) = Request::get("/a/c").body(())?.into_parts();
/// assert!(filter.judge(0, &parts, &peer).decision.verdict.stops());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Excepted {
    /// The exception that says so.
    pub exception: Arc<ActiveException>,
    /// The first rule that it was asked about.
    pub rule: RuleId,
}

impl Exceptions {
    /// These exceptions. Of two that cover one request, the one that comes first counts it.
    pub fn new(list: impl IntoIterator<Item = Arc<ActiveException>>) -> Self {
        let mut list: Vec<_> = list.into_iter().collect();
        list.sort_by(|one, other| {
            let (one, other) = (one.exception.mitigation(), other.exception.mitigation());
            one.key().cmp(&other.key())
        });
        Self { list }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Those of one mitigation.
    fn of(&self, mitigation: &MitigationId) -> &[Arc<ActiveException>] {
        let wanted = mitigation.key();
        let before = |active: &Arc<ActiveException>| active.exception.mitigation().key() < wanted;
        let list = &self.list[self.list.partition_point(before)..];
        let own = |active: &Arc<ActiveException>| active.exception.mitigation().key() == wanted;
        &list[..list.partition_point(own)]
    }

    /// Those that cover a request, for whichever mitigation: what response rules are to know of it.
    pub(super) fn covering(&self, request: &RequestView<'_>) -> Vec<Arc<ActiveException>> {
        let Some(client) = request.remote.map(|remote| remote.ip()) else {
            return Vec::new();
        };
        let mut views = None;
        let own = self.list.iter().filter(|active| {
            active.exception.is_for(client)
                && active.covers(views.get_or_insert_with(|| Views::hardened(request.target)))
        });
        own.cloned().collect()
    }

    /// Judges a request by rules that let pass what is excepted; with what was.
    pub(super) fn judge(
        &self,
        rules: &RuleSet,
        request: &RequestView<'_>,
        scratch: &mut Scratch,
    ) -> (Decision, Option<Excepted>) {
        let mut passage = Passage {
            exceptions: self,
            target: request.target,
            client: request.remote.map(|remote| remote.ip()),
            views: None,
            used: None,
        };
        let decision = rules.judge_sparing(request, scratch, &mut |rule| {
            passage.spares(rule, rules.rule(rule))
        });
        (decision, passage.used)
    }
}

/// The response to one request, as exceptions see it.
pub(super) struct Reply<'a> {
    /// Those that cover the request.
    pub(super) covering: &'a [Arc<ActiveException>],
    /// The last one that was counted for the request or its response.
    pub(super) used: Option<&'a Arc<ActiveException>>,
    /// Whether one was counted that was not before.
    pub(super) counts: bool,
}

impl Reply<'_> {
    /// Whether a rule that would change the response leaves it alone.
    pub(super) fn spares(&mut self, rule: &RuleInfo) -> bool {
        let Some(mitigation) = &rule.origin.mitigation else {
            return false;
        };
        let about = |active: &&Arc<ActiveException>| {
            let exception = &active.exception;
            exception.is_about(mitigation, &rule.name)
        };
        let Some(active) = self.covering.iter().find(about) else {
            return false;
        };
        if !self.used.is_some_and(|used| Arc::ptr_eq(used, active)) {
            active.hits.fetch_add(1, Ordering::Relaxed);
            self.used = Some(active);
            self.counts = true;
        }
        true
    }
}

/// One request, as exceptions see it.
struct Passage<'a> {
    exceptions: &'a Exceptions,
    target: &'a [u8],
    client: Option<IpAddr>,
    /// Made when a rule applies for which there is an exception: most requests never need them.
    views: Option<Views<'a>>,
    used: Option<Excepted>,
}

impl Passage<'_> {
    /// Whether a rule that applies lets the request pass; counts it once for each exception in a row.
    fn spares(&mut self, id: RuleId, rule: &RuleInfo) -> bool {
        let (Some(client), Some(mitigation)) = (self.client, &rule.origin.mitigation) else {
            return false;
        };
        let found = self.exceptions.of(mitigation).iter().find(|active| {
            let exception = &active.exception;
            exception.is_about(mitigation, &rule.name)
                && exception.is_for(client)
                && active.covers(
                    self.views
                        .get_or_insert_with(|| Views::hardened(self.target)),
                )
        });
        let Some(active) = found else {
            return false;
        };
        let is_counted = |used: &Excepted| Arc::ptr_eq(&used.exception, active);
        if !self.used.as_ref().is_some_and(is_counted) {
            active.hits.fetch_add(1, Ordering::Relaxed);
        }
        self.used.get_or_insert_with(|| Excepted {
            exception: Arc::clone(active),
            rule: id,
        });
        true
    }
}

/// Whether an undecoded path begins with the segments of a prefix, each of them decoded by itself: `/a%40b` lies under
/// `/a@b`, and `/x/..%2Fa@b` does not.
fn begins_with_segments(raw: &[u8], prefix: &[u8]) -> bool {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    let count = prefix.iter().filter(|&&byte| byte == b'/').count();
    let mut slashes = raw.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let end = slashes.nth(count).map_or(raw.len(), |(at, _)| at);
    // As many slashes on both sides: an encoded one would be one too many.
    percent_decode(&raw[..end]).eq_ignore_ascii_case(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ExceptionDraft;

    fn active(mitigation: &str, path: &str) -> Arc<ActiveException> {
        let exception = Exception::read(&ExceptionDraft {
            name: "x",
            mitigation,
            path,
            clients: vec!["192.0.2.0/24"],
            owner: "o",
            reason: "r",
            expires: "2026-12-31T00:00:00Z",
            ..ExceptionDraft::default()
        });
        Arc::new(ActiveException::new(exception.unwrap(), 0))
    }

    #[test]
    fn path_is_covered_in_every_view_or_not_at_all() {
        for (path, target, covered) in [
            ("/owa", "/owa", true),
            ("/owa", "/OWA/x?/ecp", true),
            ("/owa", "/owa/x%20y", true),
            ("/owa", "/%6fwa/x", true),
            ("/owa/a@b", "/owa/a%40b/x", true),
            ("/owa/a@b", "/owa%2Fa@b/x", false),
            ("/owa", "/owax", false),
            ("/owa", "/owa/../ecp", false),
            ("/owa", "/owa/..%2fecp", false),
            ("/owa", "/owa/%2e%2e/ecp", false),
            ("/owa", "/owa/%252e%252e/ecp", false),
            ("/owa", "/owa/%2e%2e%5cecp", false),
            ("/owa", "/owa/..;/ecp", false),
            ("/owa", "/owa/..\\ecp", false),
            ("/owa", "/ecp/../owa/x", false),
            ("/owa", "/ecp/..%2fowa/x", false),
            ("/owa", "//owa/x", false),
            ("/owa", "/(S(x))/owa/x", false),
            ("/owa", "/owa;a=b/x", false),
            ("/owa", "/%256fwa/x", false),
            ("/", "/anything/../at%2fall", true),
        ] {
            let views = Views::hardened(target.as_bytes());
            let found = active("M1.1", path).covers(&views);
            assert_eq!(found, covered, "{path} covers {target}");
        }
    }

    #[test]
    fn each_mitigation_finds_its_own() {
        let all = ["M2.1", "M1.1", "PING1", "M1.2", "M1.1.0", "M10"];
        let exceptions = Exceptions::new(all.map(|id| active(id, "/a")));
        for (id, count) in [
            ("M1.1", 2),
            ("M1.1.3", 2),
            ("M1.2", 1),
            ("M1", 0),
            ("M10", 1),
            ("PING1", 1),
            ("Z9", 0),
        ] {
            assert_eq!(exceptions.of(&id.parse().unwrap()).len(), count, "{id}");
        }
    }
}
