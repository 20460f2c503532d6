//! An explanation as text for people, and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::table::printable;
use crate::canon::{Decoding, Refusal};
use crate::rules::{
    BodySkip, ExplainedConditions, ExplainedInput, ExplainedRule, ExplainedTest, Explanation,
    RuleEnd, RuleKind, RuleSet, Verdict,
};

/// What is explained.
pub(super) struct Subject<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    /// Why the proxy refuses the target before any rule, if it does.
    pub(super) refusal: Option<Refusal>,
    pub(super) rules: &'a RuleSet,
    pub(super) explanation: &'a Explanation,
}

impl Subject<'_> {
    /// The rules to show: those for responses only if there was one.
    fn rules(&self) -> impl Iterator<Item = &ExplainedRule> {
        let has_response = self.explanation.response.is_some();
        let rules = self.explanation.rules.iter();
        rules.filter(move |rule| has_response || rule.kind == RuleKind::Request)
    }
}

/// Text for people, without a character that could steer a terminal.
pub(super) fn text(subject: &Subject<'_>) -> String {
    let mut lines = vec![format!("{} {}", subject.method, subject.target)];
    for view in &subject.explanation.views {
        let query = view.query.as_deref().map(lossy);
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let word = decoding(view.decoding);
        lines.push(format!("  {word:<8} {}{query}", lossy(&view.path)));
    }
    if let Some(refusal) = subject.refusal {
        lines.push(format!(
            "  the proxy refuses this target before any rule: {} (400)",
            refusal.word()
        ));
    }
    for rule in subject.rules() {
        lines.push(String::new());
        rule_text(subject, rule, &mut lines);
    }
    lines.push(String::new());
    lines.push(format!("=> {}", verdict(subject)));
    if let Some(response) = response_verdict(subject) {
        lines.push(format!("=> response: {response}"));
    }
    if let Some(body) = body_verdict(subject) {
        lines.push(format!("=> body: {body}"));
    }
    lines.iter().fold(String::new(), |mut text, line| {
        text.push_str(printable(line).trim_end());
        text.push('\n');
        text
    })
}

fn rule_text(subject: &Subject<'_>, rule: &ExplainedRule, lines: &mut Vec<String>) {
    let info = subject.rules.rule(rule.id);
    let mitigation = info.origin.mitigation.as_ref();
    let mitigation = mitigation
        .map(|id| format!("mitigation {id}, "))
        .unwrap_or_default();
    lines.push(format!(
        "{}. {} rule {:?} ({mitigation}{}, line {}): {}",
        rule.id.0 + 1,
        kind(rule.kind),
        rule.name,
        rule.file,
        rule.line,
        end(rule.end)
    ));
    if rule.end == RuleEnd::Unreached {
        return;
    }
    if let Some((name, conditions)) = &rule.pre_condition {
        condition_text(&format!("precondition {name:?}"), conditions, lines);
    }
    test_text("match", &rule.subject, lines);
    condition_text("condition", &rule.conditions, lines);
    lines.push(format!("   action: {}", rule.action));
}

fn condition_text(what: &str, conditions: &ExplainedConditions, lines: &mut Vec<String>) {
    let all = conditions.len();
    let needed = if conditions.any { "one" } else { "all" };
    for (number, test) in (1..).zip(conditions.iter()) {
        let what = match all {
            1 => what.to_owned(),
            _ => format!("{what} {number} ({needed} of {all})"),
        };
        test_text(&what, test, lines);
    }
}

fn test_text(what: &str, test: &ExplainedTest, lines: &mut Vec<String>) {
    lines.push(format!("   {what}: {} {}", test.input, test.question));
    if test.inputs.is_empty() {
        lines.push("      not tested".to_owned());
    }
    for input in &test.inputs {
        lines.push(format!("      {}", input_text(input)));
    }
}

fn input_text(input: &ExplainedInput) -> String {
    let mut text = String::new();
    if let Some(place) = &input.place {
        let _ = write!(text, "{place}: ");
    }
    if let Some(view) = input.decoding {
        let _ = write!(text, "{:<8} ", decoding(view));
    }
    match &input.value {
        Some(value) => {
            let _ = write!(text, "{:?}", lossy(value));
        }
        None => text.push_str("(longer than a text may grow)"),
    }
    if let Some(sent) = &input.sent {
        let _ = write!(text, ", sent as {:?}", lossy(sent));
    }
    text.push_str(if input.holds { ": holds" } else { ": fails" });
    if let (Some(span), Some(value)) = (&input.span, &input.value) {
        let matched = lossy(&value[span.clone()]);
        let _ = write!(text, ", found at {}..{}: {matched:?}", span.start, span.end);
    }
    if input.out_of_steps {
        text.push_str(", since the pattern ran out of steps");
    }
    text
}

/// One JSON document.
pub(super) fn json(subject: &Subject<'_>) -> String {
    let explanation = subject.explanation;
    let views = explanation.views.iter().map(|view| {
        json!({
            "view": decoding(view.decoding),
            "path": lossy(&view.path),
            "query": view.query.as_deref().map(lossy),
        })
    });
    let rules = subject.rules().map(|rule| rule_json(subject, rule));
    let document = json!({
        "method": subject.method,
        "target": subject.target,
        "refusal": subject.refusal.map(Refusal::word),
        "views": views.collect::<Vec<Value>>(),
        "rules": rules.collect::<Vec<Value>>(),
        "verdict": explanation.decision.verdict.name(),
        "rule": explanation.decision.rule.map(|id| &subject.rules.rule(id).name),
        "substatus": explanation.decision.failure,
        "rewritten": explanation.rewritten.as_deref().map(lossy),
        "response": explanation.response.as_ref().map(|response| json!({
            "status": response.status,
            "rules": response.rules.iter().map(|id| &subject.rules.rule(*id).name).collect::<Vec<_>>(),
            "fields": response.fields.iter().map(|change| json!({
                "name": change.name,
                "value": lossy(&change.value),
            })).collect::<Vec<_>>(),
        })),
        "body": explanation.body.as_ref().map(|body| json!({
            "text": lossy(&body.text),
            "rules": body.rules.iter().map(|id| &subject.rules.rule(*id).name).collect::<Vec<_>>(),
            "skip": body.skip.map(BodySkip::word),
            "untold": body.untold,
        })),
    });
    format!("{document:#}\n")
}

fn rule_json(subject: &Subject<'_>, rule: &ExplainedRule) -> Value {
    let info = subject.rules.rule(rule.id);
    let pre_condition = rule.pre_condition.as_ref().map(|(name, conditions)| {
        let mut value = conditions_json(conditions);
        value["name"] = json!(name);
        value
    });
    json!({
        "number": rule.id.0 + 1,
        "kind": kind(rule.kind),
        "name": rule.name,
        "mitigation": info.origin.mitigation.as_ref().map(ToString::to_string),
        "file": rule.file,
        "line": rule.line,
        "precondition": pre_condition,
        "match": test_json(&rule.subject),
        "conditions": conditions_json(&rule.conditions),
        "action": rule.action,
        "end": end(rule.end),
    })
}

fn conditions_json(conditions: &ExplainedConditions) -> Value {
    json!({
        "grouping": if conditions.any { "MatchAny" } else { "MatchAll" },
        "list": conditions.iter().map(test_json).collect::<Vec<_>>(),
    })
}

fn test_json(test: &ExplainedTest) -> Value {
    let inputs = test.inputs.iter().map(|input| {
        let mut value = json!({
            "view": input.decoding.map(decoding),
            "sent": input.sent.as_deref().map(lossy),
            "value": input.value.as_deref().map(lossy),
            "span": input.span.as_ref().map(|span| [span.start, span.end]),
            "out_of_steps": input.out_of_steps,
            "holds": input.holds,
        });
        if let Some(place) = &input.place {
            value["place"] = json!(place);
        }
        value
    });
    json!({
        "input": test.input,
        "question": test.question,
        "inputs": inputs.collect::<Vec<_>>(),
    })
}

/// What becomes of the request, in a few words.
fn verdict(subject: &Subject<'_>) -> String {
    let decision = &subject.explanation.decision;
    let by = decision
        .rule
        .map(|id| format!(", by rule {:?}", subject.rules.rule(id).name))
        .unwrap_or_default();
    if let Some(substatus) = decision.failure {
        return format!("error 500.{substatus}");
    }
    let what = match &decision.verdict {
        Verdict::Abort => "the connection is reset".to_owned(),
        Verdict::Pass => "the request passes".to_owned(),
        Verdict::Redirect { status, location } => {
            format!("redirected with {status} to {}", lossy(location))
        }
        Verdict::Respond {
            status, substatus, ..
        } => format!("answered with {status}, sub-status {substatus}"),
        Verdict::Rewrite { target } => format!("forwarded as {}", lossy(target)),
    };
    format!("{what}{by}")
}

fn response_verdict(subject: &Subject<'_>) -> Option<String> {
    let response = subject.explanation.response.as_ref()?;
    let mut changes: Vec<String> = response
        .fields
        .iter()
        .map(|change| format!("{}: {}", change.name, lossy(&change.value)))
        .collect();
    changes.extend(response.status.map(|status| format!("status {status}")));
    Some(match changes.is_empty() {
        true => "unchanged".to_owned(),
        false => changes.join("; "),
    })
}

fn body_verdict(subject: &Subject<'_>) -> Option<String> {
    let body = subject.explanation.body.as_ref()?;
    let mut said = match body.rules.len() {
        0 => "unchanged".to_owned(),
        count => {
            let rules = if count == 1 { "rule" } else { "rules" };
            format!(
                "rewritten by {count} {rules}, now {} octets",
                body.text.len()
            )
        }
    };
    if let Some(skip) = body.skip {
        let _ = write!(said, "; passes as it is, or in part: {}", skip.word());
    }
    if body.untold > 0 {
        let _ = write!(said, "; {} more tests are not told", body.untold);
    }
    Some(said)
}

fn end(end: RuleEnd) -> String {
    match end {
        RuleEnd::Applied => "applied".to_owned(),
        RuleEnd::AwaitsBody => "judges the body as it comes (--response-body shows how)".to_owned(),
        RuleEnd::BodyPasses => "the body is none that it judges".to_owned(),
        RuleEnd::Condition(number) => format!("condition {} failed", number + 1),
        RuleEnd::Conditions => "no condition held".to_owned(),
        RuleEnd::Failed(substatus) => format!("failed with 500.{substatus}"),
        RuleEnd::Match => "match failed".to_owned(),
        RuleEnd::OutOfScope => "out of scope".to_owned(),
        RuleEnd::PreCondition => "precondition failed".to_owned(),
        RuleEnd::Unreached => "not reached".to_owned(),
    }
}

const fn kind(kind: RuleKind) -> &'static str {
    match kind {
        RuleKind::Request => "request",
        RuleKind::Response => "response",
    }
}

const fn decoding(decoding: Decoding) -> &'static str {
    match decoding {
        Decoding::Iis => "iis",
        Decoding::Raw => "raw",
        Decoding::Once => "once",
        Decoding::Stable => "stable",
        Decoding::Resolved => "resolved",
        Decoding::Stripped => "stripped",
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
