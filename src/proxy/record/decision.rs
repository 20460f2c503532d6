//! The line of one decision, and that of those that had none.

use std::io::Write;

use http::header::HOST;

use super::allowance::Actor;
use crate::filter::Judged;
use crate::model::MitigationId;
use crate::net::RequestHead;
use crate::proxy::escape::json_string;
use crate::proxy::request_id::RequestId;
use crate::rules::{RuleInfo, Verdict};

/// A decision that is told: any but to let a request pass untouched without an exception.
#[derive(Debug)]
pub(super) struct Told<'a> {
    judged: &'a Judged,
    rule: Option<&'a RuleInfo>,
    /// Whether an exception or a stopped pool alone is why it is told.
    passes: bool,
}

/// The request that a decision is about.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Asked<'a> {
    pub(in crate::proxy) id: RequestId,
    /// The client's address as shown.
    pub(in crate::proxy) client: &'a [u8],
    pub(in crate::proxy) head: &'a RequestHead,
}

impl<'a> Told<'a> {
    /// What is told of a request to a site; `None` when nothing is.
    pub(super) fn of(judged: &'a Judged, site: usize) -> Option<Self> {
        let decision = &judged.decision;
        let excepted = judged.excepted.as_ref();
        let passes = decision.verdict == Verdict::Pass && decision.failure.is_none();
        if passes && judged.paused.is_none() && excepted.is_none() {
            return None;
        }
        // What passes as it is, passes on the word of an exception: then its rule is of interest.
        let rule = excepted
            .filter(|_| passes)
            .map(|excepted| excepted.rule)
            .or(decision.rule);
        let rule = rule.map(|rule| judged.snapshot.site(site).rule(rule));
        Some(Self {
            judged,
            rule,
            passes,
        })
    }

    /// Writes the line, without formatting.
    pub(super) fn write(&self, out: &mut Vec<u8>, time: &str, asked: Asked<'_>) {
        begin(out, time, asked);
        let paused = self.judged.paused.as_deref();
        for piece in [",\"action\":\"", self.action(), "\""] {
            out.extend_from_slice(piece.as_bytes());
        }
        let (rule, origin) = (self.rule, self.rule.map(|rule| &rule.origin));
        let mitigation = paused.map(|paused| &paused.mitigation);
        let source = paused.map(|paused| paused.source.as_str());
        put_actor(
            out,
            rule.map_or("", |rule| &rule.name),
            mitigation.or_else(|| origin?.mitigation.as_ref()),
            source.or_else(|| Some(origin?.source.as_str())),
        );
        end(out, self.judged, self.status());
    }

    /// Whose decision it is.
    pub(super) fn actor(&self) -> Actor<'a> {
        match (&self.judged.paused, self.rule) {
            (Some(pool), _) => Actor::Pool(pool),
            (None, Some(rule)) => Actor::Rule(rule),
            (None, None) => Actor::Rest,
        }
    }

    fn action(&self) -> &'static str {
        let decision = &self.judged.decision;
        match decision.failure {
            _ if self.judged.paused.is_some() => "paused",
            Some(_) => "error",
            None if self.passes => "excepted",
            None => decision.verdict.name(),
        }
    }

    /// The status code of our answer, or 0.
    fn status(&self) -> u16 {
        let decision = &self.judged.decision;
        match (&decision.verdict, decision.failure) {
            _ if self.judged.paused.is_some() => 503,
            (_, Some(_)) => 500,
            (Verdict::Redirect { status, .. } | Verdict::Respond { status, .. }, None) => *status,
            (Verdict::Abort | Verdict::Pass | Verdict::Rewrite { .. }, None) => 0,
        }
    }
}

/// Writes the line of so many decisions that had none.
pub(super) fn put_omitted(out: &mut Vec<u8>, time: &str, actor: Actor<'_>, count: u64) {
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "{{\"time\":\"{time}\",\"action\":\"omitted\",\"count\":{count}"
    );
    match actor {
        Actor::Pool(pool) => {
            put_actor(out, "", Some(&pool.mitigation), Some(&pool.source));
            put_pool(out, &pool.pool);
        }
        Actor::Rest => put_actor(out, "", None, None),
        Actor::Rule(rule) => {
            let origin = &rule.origin;
            let mitigation = origin.mitigation.as_ref();
            put_actor(out, &rule.name, mitigation, Some(&origin.source));
        }
    }
    out.extend_from_slice(b"}\n");
}

/// Writes who decided.
fn put_actor(
    out: &mut Vec<u8>,
    rule: &str,
    mitigation: Option<&MitigationId>,
    source: Option<&str>,
) {
    out.extend_from_slice(b",\"rule\":");
    json_string(out, rule.as_bytes());
    out.extend_from_slice(b",\"mitigation\":");
    match mitigation {
        Some(mitigation) => json_string(out, mitigation.to_string().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"source\":");
    json_string(out, source.unwrap_or_default().as_bytes());
}

fn put_pool(out: &mut Vec<u8>, pool: &str) {
    out.extend_from_slice(b",\"pool\":");
    json_string(out, pool.as_bytes());
}

/// Writes what every line begins with.
fn begin(out: &mut Vec<u8>, time: &str, asked: Asked<'_>) {
    let Asked { id, client, head } = asked;
    let pieces: [&[u8]; 7] = [
        b"{\"time\":\"",
        time.as_bytes(),
        b"\",\"request_id\":\"",
        &id.text(),
        b"\",\"client\":\"",
        client,
        b"\",\"method\":",
    ];
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    json_string(out, head.method().as_str().as_bytes());
    out.extend_from_slice(b",\"target\":");
    json_string(out, head.path_and_query().unwrap_or(b"*"));
    out.extend_from_slice(b",\"host\":");
    json_string(out, head.value(&HOST).unwrap_or_default());
}

/// Writes what a line ends with.
fn end(out: &mut Vec<u8>, judged: &Judged, status: u16) {
    if let Some(paused) = &judged.paused {
        put_pool(out, &paused.pool);
    }
    if let Some(excepted) = &judged.excepted {
        out.extend_from_slice(b",\"exception\":");
        json_string(out, excepted.exception.exception().name().as_bytes());
    }
    out.extend_from_slice(b",\"status\":");
    out.extend(decimal(status));
    out.extend_from_slice(b"}\n");
}

/// The digits of a status code, or 0.
fn decimal(status: u16) -> impl Iterator<Item = u8> {
    let digits = [status / 100, status / 10 % 10, status % 10];
    let shown = if status == 0 { 2 } else { 0 };
    digits
        .into_iter()
        .skip(shown)
        .map(|digit| b'0' + (digit % 10) as u8)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::filter::PausedPool;
    use crate::rules::{RuleKind, RuleOrigin};

    #[test]
    fn omitted_decisions_are_told_by_the_names_of_their_lines() {
        let rule = |name: &str, origin| RuleInfo {
            name: name.to_owned(),
            kind: RuleKind::Request,
            origin: Arc::new(origin),
        };
        let local = rule("a\"\n", RuleOrigin::local("my\\rules.xml"));
        let of_mitigation = rule(
            "b",
            RuleOrigin {
                mitigation: Some("M1.1".parse().unwrap()),
                ..RuleOrigin::local("feed")
            },
        );
        let pool = Arc::new(PausedPool {
            pool: "p\"".to_owned(),
            mitigation: "M90.1".parse().unwrap(),
            source: "feed".to_owned(),
            hits: Arc::default(),
        });
        for (actor, count, end) in [
            (
                Actor::Rule(&local),
                1,
                r#""count":1,"rule":"a\"\u000a","mitigation":null,"source":"my\\rules.xml"}"#,
            ),
            (
                Actor::Rule(&of_mitigation),
                u64::MAX,
                r#""count":18446744073709551615,"rule":"b","mitigation":"M1.1","source":"feed"}"#,
            ),
            (
                Actor::Pool(&pool),
                2,
                r#""count":2,"rule":"","mitigation":"M90.1","source":"feed","pool":"p\""}"#,
            ),
            (
                Actor::Rest,
                3,
                r#""count":3,"rule":"","mitigation":null,"source":""}"#,
            ),
        ] {
            let mut line = Vec::new();
            put_omitted(&mut line, "T", actor, count);
            let expected = format!("{{\"time\":\"T\",\"action\":\"omitted\",{end}\n");
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
    }
}
