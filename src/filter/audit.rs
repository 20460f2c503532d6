//! What rules that are only watched would have stopped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use http::request;

use crate::rules::RuleSet;

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

/// Requests that are sampled from the first on; later ones are when their count is a power of two.
const FIRST: u64 = 16;

/// Rules that are judged and not acted on, one set for each site, and where samples of what they would stop go.
///
/// # Examples
///
/// ```
/// use stopgap::filter::{Audit, Samples};
/// use stopgap::rules::RuleSet;
///
/// let audit = Audit::new(vec![RuleSet::empty()], Samples::default());
/// assert!(audit.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Audit {
    sites: Vec<RuleSet>,
    samples: Samples,
}

impl Audit {
    /// Watches by one set for each site, in the order of the sites.
    pub fn new(sites: Vec<RuleSet>, samples: Samples) -> Self {
        let watches = sites.iter().any(|set| set.rules().next().is_some());
        Self {
            sites: if watches { sites } else { Vec::new() },
            samples,
        }
    }

    /// Whether there is nothing to watch.
    pub const fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    pub(super) fn site(&self, index: usize) -> Option<&RuleSet> {
        self.sites.get(index)
    }

    pub(super) const fn samples(&self) -> &Samples {
        &self.samples
    }
}

/// The last few requests that each mitigation would have stopped, without what is private in them. Clones share them.
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
    /// Those of one mitigation, oldest first: method and path. The query and segments with an `@` are left out.
    pub fn of(&self, mitigation: &str) -> Vec<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let own = kept.get(mitigation);
        own.map_or_else(Vec::new, |own| own.iter().cloned().collect())
    }

    /// Takes a sample, if this is a count at which one is taken and nobody else is at it: a request never waits here.
    pub(super) fn take(&self, mitigation: &str, count: u64, parts: &request::Parts) {
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
        own.push_back(redacted(parts));
    }
}

fn redacted(parts: &request::Parts) -> String {
    let path = parts.uri.path().split('/').map(|segment| {
        let is_private = segment.contains('@') || segment.to_ascii_lowercase().contains("%40");
        if is_private { "\u{2026}" } else { segment }
    });
    let path: Vec<&str> = path.collect();
    let query = if parts.uri.query().is_some() {
        "?\u{2026}"
    } else {
        ""
    };
    let text = format!("{} {}{query}", parts.method, path.join("/"));
    text.chars().take(SAMPLE_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(target: &str) -> request::Parts {
        let request = Request::get(target).body(()).unwrap();
        request.into_parts().0
    }

    #[test]
    fn samples_tell_nothing_private() {
        for (target, expected) in [
            ("/owa/?a=secret", "GET /owa/?\u{2026}"),
            ("/owa/u@mail.example/x", "GET /owa/\u{2026}/x"),
            ("/owa/u%40mail.example", "GET /owa/\u{2026}"),
        ] {
            assert_eq!(redacted(&parts(target)), expected);
        }
        let long = format!("/{}", "a".repeat(2 * SAMPLE_LENGTH));
        assert_eq!(redacted(&parts(&long)).chars().count(), SAMPLE_LENGTH);
    }

    #[test]
    fn samples_are_few_and_the_newest_stay() {
        let samples = Samples::default();
        for count in 1..=64 {
            samples.take("M1.1", count, &parts(&format!("/{count}")));
        }
        let own = samples.of("M1.1");
        assert_eq!(own.len(), SAMPLE_LIMIT);
        assert_eq!(own[SAMPLE_LIMIT - 3..], ["GET /16", "GET /32", "GET /64"]);
        assert!(samples.of("M2.1").is_empty());
    }
}
