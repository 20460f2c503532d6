//! Judges the vectors that a mitigation carries: its proof, and the self-test before every swap.

use std::fmt;
use std::sync::Arc;

use crate::canon::{Refusals, refuse};
use crate::model::{
    ActionKind, CannedResponse, Expectation, FieldExpectation, Mitigation, MitigationId, Scope,
    Vector,
};
use crate::rules::{
    Decision, Dialect, RequestView, ResponseDecision, ResponseView, RuleError, RuleId, RuleLimits,
    RuleOrigin, RuleSet, RuleSource, Scratch, SourceOrigin, Verdict,
};

/// How the rules of a mitigation are read.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The file or feed that it stands in, for errors.
    pub document: &'a str,
    /// The dialect that its rules are judged in.
    pub dialect: Dialect,
    /// Whether a verified publisher wrote it: what has an unknown name is then a notice and no error.
    pub verified: bool,
}

/// Reads the rewrite rules of one mitigation: the sources, each with the index of its action.
///
/// # Errors
///
/// Refuses the mitigation for the first rule that cannot be read.
pub fn sources(
    mitigation: &Mitigation,
    reading: Reading<'_>,
) -> Result<Vec<(usize, RuleSource)>, RuleError> {
    let mut sources = Vec::new();
    for (index, action) in mitigation.actions.iter().enumerate() {
        let ActionKind::Rewrite(text) = &action.kind else {
            continue;
        };
        let origin = SourceOrigin {
            name: reading.document.to_owned(),
            line: text.line,
            column: text.column,
        };
        let parsed = match reading.verified {
            true => RuleSource::parse_feed(&text.xml, &origin)?,
            false => RuleSource::parse(&text.xml, &origin)?,
        };
        let source = parsed.with_dialect(reading.dialect);
        sources.push((
            index,
            match &action.scope {
                Scope::Site { path, .. } => source.with_scope(path),
                Scope::Server => source,
            },
        ));
    }
    Ok(sources)
}

/// Compiles the rewrite rules of one mitigation into a set of its own, as [`judge`] and
/// [`honest::judge`](super::honest::judge) want it. Other actions, and an empty mitigation, make an empty set.
///
/// # Errors
///
/// Refuses the mitigation for the first rule that cannot be compiled.
pub fn compile(
    mitigation: &Mitigation,
    sources: &[(usize, RuleSource)],
    document: &str,
) -> Result<RuleSet, RuleError> {
    let mut builder = RuleSet::builder(RuleLimits::default());
    for (_, source) in sources {
        let origin = RuleOrigin {
            mitigation: Some(mitigation.id.clone()),
            source: document.to_owned(),
            hits: Arc::default(),
        };
        builder.add(source, origin)?;
    }
    Ok(builder.build())
}

/// A vector that did not come out as its mitigation says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VectorFailure {
    /// Line of the vector in its document, from 1.
    pub line: usize,
    /// Its method and target.
    pub request: String,
    /// What happened instead, and what was expected.
    pub reason: String,
}

impl fmt::Display for VectorFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            request,
            reason,
        } = self;
        write!(f, "line {line}: {request}: {reason}")
    }
}

/// Judges every vector of `mitigation` by `set`, which holds the rules of this mitigation and no others; none of
/// the failures returned means that the mitigation is proven.
///
/// A `stop` vector must be stopped by the mitigation, or be refused before any rule sees it; with a canned response,
/// the mitigation must change the response into what the vector expects. A `pass` vector must come through as it
/// was. Rules of other mitigations in the set never make a `pass` fail, but may hide a `stop` from its own.
pub fn judge(set: &RuleSet, mitigation: &Mitigation) -> Vec<VectorFailure> {
    let mut judge = Judge {
        set,
        own: &mitigation.id,
        scratch: Scratch::default(),
    };
    mitigation
        .vectors
        .iter()
        .filter_map(|vector| {
            let reason = judge.fault(vector)?;
            Some(VectorFailure {
                line: vector.line,
                request: format!("{} {}", vector.method, vector.target),
                reason,
            })
        })
        .collect()
}

struct Judge<'a> {
    set: &'a RuleSet,
    own: &'a MitigationId,
    scratch: Scratch,
}

impl Judge<'_> {
    /// What is wrong with how this vector comes out; `None` when nothing is.
    fn fault(&mut self, vector: &Vector) -> Option<String> {
        let refusal = refuse(vector.target.as_bytes(), &Refusals::default());
        if let Some(refusal) = refusal {
            return match (vector.expectation, &vector.response) {
                (Expectation::Stop, None) => None,
                _ => Some(format!(
                    "is refused before any rule ({}): write another target",
                    refusal.word()
                )),
            };
        }
        let fields = with_host(&vector.fields);
        let request = request_view(&vector.method, vector.target.as_bytes(), &fields);
        let decision = self.set.judge(&request, &mut self.scratch);
        match (&vector.response, vector.expectation) {
            (None, Expectation::Stop) => self.stop_fault(&decision),
            (None, Expectation::Pass) => self.pass_fault(&decision),
            (Some(response), expectation) => self.pass_fault(&decision).or_else(|| {
                let mut changed = self.judge_response(&request, response);
                let mut sent = response.clone();
                if let Some(body) = changed.body.take() {
                    let (text, acted, _) = body.rewrite(response.body.as_bytes());
                    changed.rules.extend(acted);
                    sent.body = String::from_utf8_lossy(&text).into_owned();
                }
                match expectation {
                    Expectation::Pass => self.changed_fault(&changed),
                    Expectation::Stop => self.expectation_fault(vector, &sent, &changed),
                }
            }),
        }
    }

    fn judge_response(
        &mut self,
        request: &RequestView<'_>,
        response: &CannedResponse,
    ) -> ResponseDecision {
        let memory = self.set.remember(request, &mut self.scratch);
        let response = ResponseView {
            status: response.status,
            reason: "",
            fields: &response.fields,
        };
        self.set
            .judge_response(&memory, &response, &mut self.scratch)
    }

    fn stop_fault(&self, decision: &Decision) -> Option<String> {
        let expected = "must be stopped";
        if let Some(substatus) = decision.failure {
            return Some(format!("{expected}, but a rule fails with 500.{substatus}"));
        }
        let is_own = decision.rule.is_some_and(|rule| self.is_own(rule));
        match (decision.verdict.stops(), decision.rule) {
            (true, _) if is_own => None,
            (true, Some(rule)) => Some(format!(
                "{expected} by {}, but {} stops it first",
                self.own,
                self.named(rule)
            )),
            _ => Some(format!("{expected}, but passes")),
        }
    }

    fn pass_fault(&self, decision: &Decision) -> Option<String> {
        let rule = decision.rule.filter(|&rule| self.is_own(rule))?;
        let named = self.named(rule);
        if let Some(substatus) = decision.failure {
            return Some(format!("must pass, but {named} fails with 500.{substatus}"));
        }
        let is_unchanged = decision.verdict == Verdict::Pass && decision.fields.is_empty();
        (!is_unchanged).then(|| format!("must pass, but {named} does: {}", decision.verdict.name()))
    }

    fn changed_fault(&self, changed: &ResponseDecision) -> Option<String> {
        let rule = changed.rules.iter().find(|&&rule| self.is_own(rule))?;
        Some(format!(
            "its response must stay as it is, but {} changes it",
            self.named(*rule)
        ))
    }

    fn expectation_fault(
        &self,
        vector: &Vector,
        response: &CannedResponse,
        changed: &ResponseDecision,
    ) -> Option<String> {
        if !changed.rules.iter().any(|&rule| self.is_own(rule)) {
            return Some("its response must be changed, but stays as it is".to_owned());
        }
        vector.expected.iter().find_map(|expected| match expected {
            FieldExpectation::BodyFragment(fragment) => (!response.body.contains(fragment))
                .then(|| format!("its response body must hold {fragment:?}, but does not")),
            FieldExpectation::Field { name, value } => {
                let sent = field_sent(response, changed, name);
                (sent.as_deref() != Some(value)).then(|| match sent {
                    Some(sent) => format!("{name} must be {value:?}, but is {sent:?}"),
                    None => format!("{name} must be {value:?}, but is missing"),
                })
            }
        })
    }

    fn is_own(&self, rule: RuleId) -> bool {
        let mitigation = self.set.rule(rule).origin.mitigation.as_ref();
        mitigation.is_some_and(|mitigation| mitigation.same_mitigation(self.own))
    }

    fn named(&self, rule: RuleId) -> String {
        format!("rule {:?}", self.set.rule(rule).name)
    }
}

/// The value of a response field as it would be sent, several joined by commas (RFC 9110 section 5.3).
fn field_sent(response: &CannedResponse, changed: &ResponseDecision, name: &str) -> Option<String> {
    let is_named = |other: &str| other.eq_ignore_ascii_case(name);
    let change = changed.fields.iter().rfind(|change| is_named(&change.name));
    if let Some(change) = change {
        return Some(String::from_utf8_lossy(&change.value).into_owned());
    }
    let values: Vec<&str> = response
        .fields
        .iter()
        .filter(|(other, _)| is_named(other))
        .map(|(_, value)| value.as_str())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The fields, and a `Host` if there is none among them.
fn with_host(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    let mut fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    if !fields
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        fields.insert(0, ("Host", "localhost"));
    }
    fields
}

/// A request over TLS without addresses, as lab judges all of them.
pub(super) fn request_view<'a>(
    method: &'a str,
    target: &'a [u8],
    fields: &'a Vec<(&'a str, &'a str)>,
) -> RequestView<'a> {
    RequestView {
        method,
        target,
        version: "HTTP/1.1",
        secure: true,
        remote: None,
        local: None,
        fields,
        variables: &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(mitigation: &Mitigation) -> RuleSet {
        let reading = Reading {
            document: "test",
            dialect: Dialect::Hardened,
            verified: false,
        };
        compile(mitigation, &sources(mitigation, reading).unwrap(), "test").unwrap()
    }
    use crate::model::{Action, Mode, RewriteText};

    const STOP_A: &str =
        r#"<rules><rule name="a"><match url="^a"/><action type="AbortRequest"/></rule></rules>"#;
    const FAIL_A: &str = r#"<rules><rule name="a"><match url="^a"/><serverVariables><set name="HTTP_X" value="1"/></serverVariables></rule></rules>"#;
    const ADD_FIELD: &str = r#"<outboundRules><rule name="a"><match serverVariable="RESPONSE_X" pattern="^$"/><conditions><add input="{URL}" pattern="^/a"/></conditions><action type="Rewrite" value="1"/></rule></outboundRules>"#;

    fn mitigation(id: &str, rules: &str, vectors: Vec<Vector>) -> Mitigation {
        let text = RewriteText {
            xml: rules.to_owned(),
            line: 1,
            column: 1,
        };
        Mitigation {
            id: id.parse().unwrap(),
            description: String::new(),
            cve: String::new(),
            reference: String::new(),
            side_effects: String::new(),
            group: String::new(),
            actions: vec![Action {
                kind: ActionKind::Rewrite(text),
                scope: Scope::Server,
                description: String::new(),
            }],
            vectors,
            applies: Vec::new(),
            mode: Mode::Enforce,
            approval_required: false,
            ring: None,
            not_before: None,
            not_after: None,
            withdrawn: false,
            failure: None,
        }
    }

    fn vector(expectation: Expectation, target: &str) -> Vector {
        Vector {
            expectation,
            method: "GET".to_owned(),
            target: target.to_owned(),
            fields: Vec::new(),
            response: None,
            expected: Vec::new(),
            line: 7,
        }
    }

    fn with_response(mut vector: Vector, value: &str) -> Vector {
        vector.response = Some(CannedResponse {
            status: 200,
            fields: Vec::new(),
            body: "<html>".to_owned(),
        });
        vector.expected = vec![FieldExpectation::Field {
            name: "X".to_owned(),
            value: value.to_owned(),
        }];
        vector
    }

    fn failures(rules: &str, vector: Vector) -> Vec<String> {
        let mitigation = mitigation("M1.1", rules, vec![vector]);
        let set = compiled(&mitigation);
        let failures = judge(&set, &mitigation).into_iter();
        failures.map(|failure| failure.to_string()).collect()
    }

    #[test]
    fn vectors_that_hold_say_nothing() {
        for vector in [
            vector(Expectation::Stop, "/a"),
            vector(Expectation::Stop, "/%2561"),
            vector(Expectation::Stop, "/%00"),
            vector(Expectation::Pass, "/b"),
        ] {
            assert_eq!(failures(STOP_A, vector), [""; 0]);
        }
        for vector in [
            with_response(vector(Expectation::Stop, "/a"), "1"),
            with_response(vector(Expectation::Pass, "/b"), ""),
        ] {
            assert_eq!(failures(ADD_FIELD, vector), [""; 0]);
        }
    }

    #[test]
    fn vectors_that_fail_say_why() {
        for (rules, vector, reason) in [
            (
                STOP_A,
                vector(Expectation::Stop, "/b"),
                "must be stopped, but passes",
            ),
            (
                STOP_A,
                vector(Expectation::Pass, "/a"),
                r#"must pass, but rule "a" does: abort"#,
            ),
            (
                STOP_A,
                vector(Expectation::Pass, "/%00"),
                "is refused before any rule (control-character): write another target",
            ),
            (
                FAIL_A,
                vector(Expectation::Stop, "/a"),
                "must be stopped, but a rule fails with 500.50",
            ),
            (
                ADD_FIELD,
                with_response(vector(Expectation::Stop, "/b"), "1"),
                "its response must be changed, but stays as it is",
            ),
            (
                ADD_FIELD,
                with_response(vector(Expectation::Stop, "/a"), "2"),
                r#"X must be "2", but is "1""#,
            ),
            (
                ADD_FIELD,
                with_response(vector(Expectation::Pass, "/a"), ""),
                r#"its response must stay as it is, but rule "a" changes it"#,
            ),
        ] {
            let request = format!("line 7: GET {}: {reason}", vector.target);
            assert_eq!(failures(rules, vector), [request]);
        }
    }

    #[test]
    fn other_mitigations_hide_a_stop_and_never_break_a_pass() {
        let own = |expectation| mitigation("M2.1", STOP_A, vec![vector(expectation, "/a")]);
        let other = mitigation("M1.1", STOP_A, Vec::new());
        let set = compiled(&other);
        let failures = judge(&set, &own(Expectation::Stop));
        let reason = r#"must be stopped by M2.1, but rule "a" stops it first"#;
        assert_eq!(failures[0].reason, reason);
        assert_eq!(judge(&set, &own(Expectation::Pass)), []);
        let set = compiled(&own(Expectation::Stop));
        assert_eq!(judge(&set, &own(Expectation::Stop)), []);
    }
}
