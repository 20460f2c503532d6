//! Requests that honest clients send, and which of them a set of rules would stop.

use std::fmt;
use std::sync::OnceLock;

use super::vectors::request_view;
use crate::model::MitigationId;
use crate::rules::{RuleSet, Scratch};

/// One request that an honest client sends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HonestRequest {
    /// The method.
    pub method: &'static str,
    /// The target, as sent.
    pub target: &'static str,
    /// The fields, in order, without `Host`.
    pub fields: Vec<(&'static str, &'static str)>,
    /// Mitigations that are known to stop it, which does not count against them.
    pub known_to_stop: Vec<MitigationId>,
}

/// The built-in set, in a fixed order.
pub fn requests() -> &'static [HonestRequest] {
    static REQUESTS: OnceLock<Vec<HonestRequest>> = OnceLock::new();
    REQUESTS.get_or_init(|| parse(include_str!("honest.txt")))
}

/// An honest request that a rule stops.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HonestStop {
    /// The mitigation that stops it; `None` for a rule of a local file.
    pub mitigation: Option<MitigationId>,
    /// The rule that stops it.
    pub rule: String,
    /// Its method and target.
    pub request: String,
}

impl fmt::Display for HonestStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {:?} stops {}", self.rule, self.request)
    }
}

/// Judges the built-in requests, and a plain `GET` of each of `extra_paths`, by one mitigation's rules.
///
/// Judging ends at the first rule that stops a request, so a set should hold one mitigation or one local file only:
/// in a larger one, an earlier rule hides a later one. Stops that are known of the mitigation are left out.
pub fn judge(set: &RuleSet, extra_paths: &[String]) -> Vec<HonestStop> {
    let mut scratch = Scratch::default();
    let mut stops = Vec::new();
    for request in requests() {
        let stop = judge_one(
            set,
            request.method,
            request.target,
            &request.fields,
            &mut scratch,
        );
        stops.extend(stop.filter(|stop| !is_known(request, stop)));
    }
    for path in extra_paths {
        stops.extend(judge_one(set, "GET", path, &[], &mut scratch));
    }
    stops
}

fn judge_one(
    set: &RuleSet,
    method: &str,
    target: &str,
    fields: &[(&'static str, &'static str)],
    scratch: &mut Scratch,
) -> Option<HonestStop> {
    let mut all = vec![("Host", "mail.example.test")];
    all.extend_from_slice(fields);
    let decision = set.judge(&request_view(method, target.as_bytes(), &all), scratch);
    // A rule that fails is answered with 500, so it stops the request as well.
    let stops = decision.verdict.stops() || decision.failure.is_some();
    let rule = set.rule(decision.rule.filter(|_| stops)?);
    Some(HonestStop {
        mitigation: rule.origin.mitigation.clone(),
        rule: rule.name.clone(),
        request: format!("{method} {target}"),
    })
}

fn is_known(request: &HonestRequest, stop: &HonestStop) -> bool {
    stop.mitigation.as_ref().is_some_and(|mitigation| {
        let mut known = request.known_to_stop.iter();
        known.any(|known| known.same_mitigation(mitigation))
    })
}

/// Reads the compact form that `honest.txt` describes in its head. What it cannot read it leaves out; a test holds
/// that nothing is.
fn parse(text: &'static str) -> Vec<HonestRequest> {
    let mut requests: Vec<HonestRequest> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(detail) = line.strip_prefix("  ") {
            let Some(request) = requests.last_mut() else {
                continue;
            };
            if let Some(id) = detail.strip_prefix("! ") {
                request.known_to_stop.extend(id.parse());
            } else {
                request.fields.extend(detail.split_once(": "));
            }
        } else if let Some((method, target)) = line.split_once(' ') {
            requests.push(HonestRequest {
                method,
                target,
                fields: Vec::new(),
                known_to_stop: Vec::new(),
            });
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::canon::{Refusals, refuse};
    use crate::rules::{RuleLimits, RuleOrigin, RuleSource, SourceOrigin};

    #[test]
    fn every_line_is_read() {
        let text = include_str!("honest.txt");
        let details = text.lines().filter(|line| line.starts_with("  ")).count();
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(['#', ' ']))
            .count();
        assert_eq!(requests().len(), lines);
        let read: usize = requests()
            .iter()
            .map(|request| request.fields.len() + request.known_to_stop.len())
            .sum();
        assert_eq!(read, details);
    }

    #[test]
    fn none_is_refused() {
        for request in requests() {
            let refusal = refuse(request.target.as_bytes(), &Refusals::default());
            assert_eq!(refusal, None, "{}", request.target);
        }
    }

    #[test]
    fn known_stops_do_not_count_against_their_mitigation() {
        let known = |id: &MitigationId| {
            let requests = requests().iter();
            requests
                .filter(|request| request.known_to_stop.contains(id))
                .count()
        };
        let text = r#"<rules><rule name="all"><match url=".*"/><action type="AbortRequest"/></rule></rules>"#;
        let source = RuleSource::parse(text, &SourceOrigin::named("test")).unwrap();
        for mitigation in [None, Some("M1.1.0"), Some("SG16.1"), Some("M9.1")] {
            let mitigation: Option<MitigationId> = mitigation.map(|id| id.parse().unwrap());
            let mut builder = RuleSet::builder(RuleLimits::default());
            let origin = RuleOrigin {
                mitigation: mitigation.clone(),
                source: "test".to_owned(),
                hits: Arc::default(),
            };
            builder.add(&source, origin).unwrap();
            let stops = judge(&builder.build(), &["/extra?x".to_owned()]);
            let variant = mitigation.as_ref().map(|id| match id.key() {
                ("M", [1, 1]) => known(&"M1.1".parse().unwrap()),
                _ => known(id),
            });
            assert_eq!(stops.len(), requests().len() + 1 - variant.unwrap_or(0));
            assert_eq!(stops.last().unwrap().request, "GET /extra?x");
        }
        assert!(known(&"M1.1".parse().unwrap()) > 0);
    }
}
