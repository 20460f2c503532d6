//! What rules that are only watched would have stopped or changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::Method;

use super::Snapshot;
use crate::model::MitigationId;
use crate::rules::{BodyRewriter, BodyRules, RequestMemory, RuleId, RuleKind, RuleSet};

/// Samples that are kept of one mitigation.
///
/// # Examples
///
/// ```
/// assert_eq!(stopgap::filter::SAMPLE_LIMIT, 8);
/// ```
pub const SAMPLE_LIMIT: usize = 8;

/// Characters of a sample that are kept.
///
/// # Examples
///
/// ```
/// assert_eq!(stopgap::filter::SAMPLE_LENGTH, 200);
/// ```
pub const SAMPLE_LENGTH: usize = 200;

/// Requests and responses that are sampled from the first on; later ones are when their count is a power of two.
const FIRST: u64 = 16;

/// Rules that are judged and not acted on, one set for each site, and where samples of what they would stop go.
///
/// # Examples
///
/// ```
/// use stopgap::filter::{Audit, Samples};
/// use stopgap::rules::RuleSet;
///
/// let audit = Audit::new(vec![RuleSet::empty()], Samples::default(), |_| Default::default());
/// assert!(audit.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Audit {
    sites: Vec<Watched>,
    samples: Samples,
}

/// The rules that one site is watched by.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) rules: RuleSet,
    /// Counts responses for each mitigation that has response rules among them.
    changes: Vec<(MitigationId, Arc<AtomicU64>)>,
}

impl Audit {
    /// Watches by one set for each site, in the order of the sites. What request rules would stop counts as hits of
    /// theirs; the responses that those of a mitigation would change are counted by what `changes` gives for it.
    pub fn new(
        sites: Vec<RuleSet>,
        samples: Samples,
        mut changes: impl FnMut(&MitigationId) -> Arc<AtomicU64>,
    ) -> Self {
        let watches = sites.iter().any(|set| set.rules().next().is_some());
        let watched = |rules: RuleSet| {
            let responses = rules.rules().map(|(_, rule)| rule);
            let responses = responses.filter(|rule| rule.kind == RuleKind::Response);
            let mut ids: Vec<_> = responses
                .filter_map(|rule| rule.origin.mitigation.clone())
                .collect();
            ids.sort_unstable();
            ids.dedup();
            let changes = ids.into_iter().map(|id| {
                let counter = changes(&id);
                (id, counter)
            });
            let changes = changes.collect();
            Watched { rules, changes }
        };
        Self {
            sites: match watches {
                true => sites.into_iter().map(watched).collect(),
                false => Vec::new(),
            },
            samples,
        }
    }

    /// Whether there is nothing to watch.
    pub const fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    pub(super) fn site(&self, index: usize) -> Option<&Watched> {
        self.sites.get(index)
    }

    pub(super) const fn samples(&self) -> &Samples {
        &self.samples
    }
}

/// A request that passes, as far as response rules that are only watched need it.
#[derive(Clone, Debug)]
pub(super) struct WatchedRequest {
    pub(super) memory: RequestMemory,
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
}

impl WatchedRequest {
    /// Takes down that these rules would have changed the response. `counted` has the numbers of those mitigations by
    /// which this response was counted already.
    pub(super) fn note(
        &self,
        snapshot: &Snapshot,
        site: usize,
        rules: &[RuleId],
        counted: &mut Vec<usize>,
    ) {
        let audit = snapshot.audit();
        let Some(watched) = audit.site(site) else {
            return;
        };
        for (number, (mitigation, counter)) in watched.changes.iter().enumerate() {
            let own = rules.iter().filter(|rule| {
                let origin = &watched.rules.rule(**rule).origin;
                origin.mitigation.as_ref() == Some(mitigation)
            });
            let mut subjects: Vec<&str> = own
                .filter_map(|rule| watched.rules.subject(*rule))
                .collect();
            if subjects.is_empty() {
                continue;
            }
            subjects.sort_unstable();
            subjects.dedup();
            if !counted.contains(&number) {
                counter.fetch_add(1, Ordering::Relaxed);
                counted.push(number);
            }
            let count = counter.load(Ordering::Relaxed);
            audit.samples.take(&mitigation.to_string(), count, || {
                let request = redacted(&self.method, &self.target);
                shortened(&format!("{request} -> {}", subjects.join(", ")))
            });
        }
    }
}

/// Looks on while a body passes, to see which rules that are only watched would have rewritten it.
///
/// What it sees is neither held up nor changed. As [`BodyTransform`](super::BodyTransform) does, it holds a body of at
/// most [`MAX_PATTERN_BODY`](crate::rules::MAX_PATTERN_BODY) octets. One with a content coding is never seen: it would
/// have to be asked for without, which would change it.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use stopgap::filter::{Audit, Filter, Handle, Peer, Samples, Snapshot};
/// use stopgap::model::Revision;
/// use stopgap::rules::{RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin};
///
/// let text = r#"<outboundRules><rule name="r"><match pattern="secret" /><action type="Rewrite" value="word" /></rule></outboundRules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut builder = RuleSet::builder(RuleLimits::default());
/// builder.add(&source, RuleOrigin { mitigation: Some("M1.1".parse()?), ..RuleOrigin::local("rules.xml") })?;
///
/// let samples = Samples::default();
/// let audit = Audit::new(vec![builder.build()], samples.clone(), |_| Default::default());
/// let snapshot = Snapshot::single(Revision(1), RuleSet::empty()).with_audit(audit);
/// let mut filter = Filter::new(Handle::new(snapshot));
///
/// let (parts, ()) = Request::get("/a").body(())?.into_parts();
/// let response = filter.judge(0, &parts, &Peer::default()).response.ok_or("a rule may apply")?;
/// let (mut parts, ()) = Response::builder().header("content-type", "text/plain").body(())?.into_parts();
/// let filtered = response.apply(&mut filter, &mut parts);
/// assert!(filtered.body.is_none());
/// let mut watch = filtered.watch.ok_or("a rule wants the body")?;
/// watch.see(b"a sec");
/// watch.see(b"ret");
/// watch.finish();
/// assert_eq!(samples.of("M1.1"), ["GET /a -> body"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BodyWatch {
    rewriter: BodyRewriter,
    /// What it would have become, which nobody gets.
    text: Vec<u8>,
    request: WatchedRequest,
    snapshot: Arc<Snapshot>,
    site: usize,
    /// The mitigations by which the response was counted for its head.
    counted: Vec<usize>,
}

impl BodyWatch {
    pub(super) fn new(
        rules: BodyRules,
        request: WatchedRequest,
        snapshot: &Arc<Snapshot>,
        site: usize,
        counted: Vec<usize>,
    ) -> Self {
        Self {
            rewriter: BodyRewriter::new(rules),
            text: Vec::new(),
            request,
            snapshot: Arc::clone(snapshot),
            site,
            counted,
        }
    }

    /// Sees the next piece of the body.
    pub fn see(&mut self, piece: &[u8]) {
        self.rewriter.write(piece, &mut self.text);
        self.text.clear();
    }

    /// Takes down what would have been rewritten, now that the body has ended.
    pub fn finish(mut self) {
        self.rewriter.finish(&mut self.text);
        let acted = self.rewriter.acted();
        let (snapshot, site) = (&self.snapshot, self.site);
        self.request.note(snapshot, site, acted, &mut self.counted);
    }
}

/// The last few requests that each mitigation would have stopped, or whose responses it would have changed, without what is private in them. Clones share them.
///
/// # Examples
///
/// ```
/// let samples = stopgap::filter::Samples::default();
/// assert!(samples.of("M1.1").is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Samples {
    kept: Arc<Mutex<BTreeMap<String, VecDeque<String>>>>,
}

impl Samples {
    /// Those of one mitigation, oldest first: method and path, and behind an arrow which fields of the response would have
    /// been changed, or `status` or `body`. The query and segments with an `@` are left out, and so is every value.
    pub fn of(&self, mitigation: &str) -> Vec<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let own = kept.get(mitigation);
        own.map_or_else(Vec::new, |own| own.iter().cloned().collect())
    }

    /// Takes a sample, if this is a count at which one is taken and nobody else is at it: a request never waits here.
    fn take(&self, mitigation: &str, count: u64, text: impl FnOnce() -> String) {
        if count > FIRST && !count.is_power_of_two() {
            return;
        }
        let Ok(mut kept) = self.kept.try_lock() else {
            return;
        };
        let own = kept.entry(mitigation.to_owned()).or_default();
        if own.len() == SAMPLE_LIMIT {
            own.pop_front();
        }
        own.push_back(text());
    }

    /// Takes a sample of a request that would have been stopped.
    pub(super) fn take_stopped(&self, mitigation: &str, count: u64, method: &Method, target: &str) {
        self.take(mitigation, count, || redacted(method, target));
    }
}

fn redacted(method: &Method, target: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, _)) => (path, "?\u{2026}"),
        None => (target, ""),
    };
    let path = path.split('/').map(|segment| {
        let is_private = segment.contains('@') || segment.to_ascii_lowercase().contains("%40");
        if is_private { "\u{2026}" } else { segment }
    });
    let path: Vec<&str> = path.collect();
    shortened(&format!("{method} {}{query}", path.join("/")))
}

fn shortened(text: &str) -> String {
    text.chars().take(SAMPLE_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_tell_nothing_private() {
        for (target, expected) in [
            ("/owa/?a=secret", "GET /owa/?\u{2026}"),
            ("/owa/u@mail.example/x", "GET /owa/\u{2026}/x"),
            ("/owa/u%40mail.example", "GET /owa/\u{2026}"),
        ] {
            assert_eq!(redacted(&Method::GET, target), expected);
        }
        let long = format!("/{}", "a".repeat(2 * SAMPLE_LENGTH));
        let sample = redacted(&Method::GET, &long);
        assert_eq!(sample.chars().count(), SAMPLE_LENGTH);
    }

    #[test]
    fn samples_are_few_and_the_newest_stay() {
        let samples = Samples::default();
        for count in 1..=64 {
            samples.take_stopped("M1.1", count, &Method::GET, &format!("/{count}"));
        }
        let own = samples.of("M1.1");
        assert_eq!(own.len(), SAMPLE_LIMIT);
        assert_eq!(own[SAMPLE_LIMIT - 3..], ["GET /16", "GET /32", "GET /64"]);
        assert!(samples.of("M2.1").is_empty());
    }
}
