//! Judging allocates nothing for a request in which nothing is encoded.

use std::sync::Arc;

use http::Request;
use stopgap::canon::{Refusals, Views, refuse};
use stopgap::feed::BUNDLED;
use stopgap::filter::{ActiveException, Exceptions, Filter, Handle, Peer, Snapshot};
use stopgap::lab::honest;
use stopgap::lab::vectors::{self, Reading};
use stopgap::model::{Exception, ExceptionDraft, Revision};
use stopgap::rules::pattern::{Matched, Pattern, PatternCache, PatternOptions, PatternSyntax};
use stopgap::rules::{
    Dialect, RequestView, RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch, SourceOrigin,
    Verdict,
};

use super::support::allocations;
use super::support::baseline;

/// All bundled mitigations in one set, as a server enforces them.
fn bundled() -> RuleSet {
    let mut builder = RuleSet::builder(RuleLimits::default());
    for mitigation in baseline::mitigations() {
        let reading = Reading {
            document: "bundled",
            dialect: Dialect::Hardened,
            verified: true,
        };
        for (_, source) in vectors::sources(&mitigation, reading).unwrap() {
            builder.add(&source, RuleOrigin::local("bundled")).unwrap();
        }
    }
    builder.build()
}

fn is_plain(target: &str) -> bool {
    Views::hardened(target.as_bytes()).iter().count() == 1
}

#[test]
fn plain_request_that_passes_costs_none() {
    assert!(BUNDLED.len() > 20);
    let rules = bundled();
    let mut scratch = Scratch::default();
    let (mut plain, mut encoded) = (0, 0);
    for request in honest::requests() {
        let mut fields = vec![("Host", "mail.example")];
        fields.extend_from_slice(&request.fields);
        let view = RequestView::new(request.method, request.target.as_bytes(), &fields);
        // What patterns are searched with is built once for each worker.
        let verdict = rules.judge(&view, &mut scratch).verdict;
        if verdict != Verdict::Pass {
            continue;
        }
        let (count, decision) = allocations::during(|| rules.judge(&view, &mut scratch));
        assert_eq!(decision.verdict, Verdict::Pass);
        match is_plain(request.target) {
            true => {
                assert_eq!(count, 0, "{}", request.target);
                plain += 1;
            }
            false => encoded += 1,
        }
    }
    assert!(plain > 40 && encoded > 5, "{plain} and {encoded}");
}

/// A filter by one rule against `/…/evil`, with so many exceptions from it below `/owa`.
fn excepting(count: usize) -> Filter {
    let text = r#"<rules><rule name="r"><match url="evil$" /><action type="AbortRequest" /></rule></rules>"#;
    let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml")).unwrap();
    let mut builder = RuleSet::builder(RuleLimits::default());
    let origin = RuleOrigin {
        mitigation: Some("M1.1".parse().unwrap()),
        ..RuleOrigin::local("rules.xml")
    };
    builder.add(&source, origin).unwrap();
    let exception = |number: usize| {
        let draft = ExceptionDraft {
            name: &format!("e{number}"),
            mitigation: "M1.1",
            path: "/owa",
            clients: vec!["192.0.2.0/24"],
            owner: "o",
            reason: "r",
            expires: "2026-12-31T00:00:00Z",
            ..ExceptionDraft::default()
        };
        Arc::new(ActiveException::new(Exception::read(&draft).unwrap(), 0))
    };
    let exceptions = Exceptions::new((0..count).map(exception));
    let snapshot = Snapshot::single(Revision(1), builder.build()).with_exceptions(exceptions);
    Filter::new(Handle::new(snapshot))
}

#[test]
fn exceptions_cost_none() {
    for count in [0, 1, 100] {
        let mut filter = excepting(count);
        let peer = Peer {
            remote: Some("192.0.2.7:50000".parse().unwrap()),
            ..Peer::default()
        };
        for (target, stops) in [
            ("/owa/good", false),
            ("/owa/evil", count == 0),
            ("/ecp/evil", true),
        ] {
            let (parts, ()) = Request::get(target).body(()).unwrap().into_parts();
            // What patterns are searched with is built once for each worker.
            filter.judge(0, &parts, &peer);
            let (allocated, judged) = allocations::during(|| filter.judge(0, &parts, &peer));
            assert_eq!(judged.decision.verdict.stops(), stops, "{target}, {count}");
            assert_eq!(judged.excepted.is_some(), target == "/owa/evil" && !stops);
            assert_eq!(allocated, 0, "{target}, {count}");
        }
    }
}

#[test]
fn views_and_refusals_of_a_plain_target_cost_none() {
    let target = b"/owa/auth/logon.aspx?url=https://mail.example/owa/&reason=2";
    let (count, views) = allocations::during(|| Views::hardened(target).iter().count());
    assert_eq!((count, views), (0, 1));
    let (count, refusal) = allocations::during(|| refuse(target, &Refusals::default()));
    assert_eq!((count, refusal), (0, None));
    // The count counts: a target in which something is encoded has views of its own.
    let (count, views) = allocations::during(|| Views::hardened(b"/%61").iter().count());
    assert!(count > 0 && views == 2, "{count} {views}");
}

/// So many patterns, of which no two are alike, with a text that each matches.
fn patterns(count: usize, shape: &str) -> Vec<(Pattern, String)> {
    let pattern = |number: usize| {
        let text = shape.replace('#', &number.to_string());
        let options = PatternOptions::default();
        let pattern = Pattern::new(&text, PatternSyntax::EcmaScript, options).unwrap();
        (pattern, format!("x ab{number}cdcd ab{number}cdcd"))
    };
    (0..count).map(pattern).collect()
}

fn search_all(patterns: &[(Pattern, String)], cache: &mut PatternCache) {
    for (pattern, text) in patterns {
        assert_eq!(pattern.is_match(cache, text.as_bytes()), Matched::Yes);
    }
}

#[test]
fn what_searching_builds_is_counted_as_it_is() {
    for shape in [
        "ab#(cd){2}",
        "\\bab#(?:cd)*",
        "(?=.*ab#)(?!.*z)x.*(?:cd)+",
        "(ab#cdcd).\\1",
    ] {
        let patterns = patterns(300, shape);
        let (kept, cache) = allocations::kept(|| {
            let mut cache = PatternCache::new();
            search_all(&patterns, &mut cache);
            cache
        });
        let counted = cache.memory();
        let range = kept / 20 * 18..kept / 20 * 27;
        assert!(range.contains(&counted), "{shape}: {counted} of {kept}");
    }
}

#[test]
fn what_searching_builds_stays_within_the_bound() {
    const BOUND: usize = 32 * 1024 * 1024;
    // More than twice the bound, if all of it were kept.
    let patterns = patterns(4_000, "\\bab#(?:cd)*");
    let (kept, mut cache) = allocations::kept(|| {
        let mut cache = PatternCache::new();
        search_all(&patterns[..300], &mut cache);
        cache
    });
    assert!(kept / 300 * 4_000 > 2 * BOUND, "{kept}");
    let (most, ()) = allocations::peak(|| search_all(&patterns, &mut cache));
    assert!(kept + most < BOUND + BOUND / 8, "{most}");
    assert!(cache.memory() <= BOUND + BOUND / 16, "{}", cache.memory());
}
