//! The texts of rules, as people wrote them.

use super::{ExplainedConditions, ExplainedRule, ExplainedTest, Place, RuleEnd};
use crate::rules::pattern::PatternSyntax;
use crate::rules::source::{
    Action, Conditions, PatternText, RequestRule, ResponseAction, ResponseRule, Subject, Test,
};
use crate::rules::{RuleError, RuleId, RuleKind, RuleSource};

/// Appends the rules of a source in the order in which they are compiled.
pub(super) fn describe(
    source: &RuleSource,
    texts: &mut Vec<ExplainedRule>,
) -> Result<(), RuleError> {
    for rules in [&source.global_rules, &source.rules] {
        for rule in rules.resolve()?.into_iter().filter(|rule| rule.enabled) {
            let text = request_rule(rule, next(texts));
            texts.push(text);
        }
    }
    for rule in source
        .response_rules
        .resolve()?
        .into_iter()
        .filter(|rule| rule.enabled)
    {
        let text = response_rule(rule, source, next(texts))?;
        texts.push(text);
    }
    Ok(())
}

fn next(texts: &[ExplainedRule]) -> RuleId {
    RuleId(u32::try_from(texts.len()).expect("limits keep rules below 2^32"))
}

fn request_rule(rule: &RequestRule, id: RuleId) -> ExplainedRule {
    ExplainedRule {
        subject: ExplainedTest {
            input: "url".to_owned(),
            question: match &rule.url {
                Some(text) => pattern(text, rule.syntax),
                None => "has no pattern".to_owned(),
            },
            inputs: Vec::new(),
        },
        conditions: conditions(&rule.conditions, rule.syntax),
        action: action(&rule.action),
        ..empty(id, &rule.name, RuleKind::Request, &rule.place)
    }
}

fn response_rule(
    rule: &ResponseRule,
    source: &RuleSource,
    id: RuleId,
) -> Result<ExplainedRule, RuleError> {
    let input = match &rule.subject {
        Subject::Body { .. } => "response body".to_owned(),
        Subject::Field(name) => format!("RESPONSE_{}", name.to_ascii_uppercase().replace('-', "_")),
        Subject::Status => "RESPONSE_STATUS".to_owned(),
        Subject::Tags(_) => "attributes in the response body".to_owned(),
    };
    let pre_condition = match &rule.pre_condition {
        Some(wanted) => {
            let known = source.pre_conditions.resolve()?;
            let found = known
                .into_iter()
                .find(|known| known.name.eq_ignore_ascii_case(&wanted.name));
            found.map(|found| {
                (
                    found.name.clone(),
                    conditions(&found.conditions, found.syntax),
                )
            })
        }
        None => None,
    };
    Ok(ExplainedRule {
        pre_condition,
        subject: ExplainedTest {
            input,
            question: pattern(&rule.pattern, rule.syntax),
            inputs: Vec::new(),
        },
        conditions: conditions(&rule.conditions, rule.syntax),
        action: match &rule.action {
            ResponseAction::None => "None".to_owned(),
            ResponseAction::Rewrite { value, .. } => format!("Rewrite to {}", value.template),
        },
        ..empty(id, &rule.name, RuleKind::Response, &rule.place)
    })
}

fn empty(id: RuleId, name: &str, kind: RuleKind, place: &Place) -> ExplainedRule {
    ExplainedRule {
        id,
        name: name.to_owned(),
        kind,
        file: place.file.to_string(),
        line: place.line,
        pre_condition: None,
        subject: ExplainedTest {
            input: String::new(),
            question: String::new(),
            inputs: Vec::new(),
        },
        conditions: ExplainedConditions::default(),
        action: String::new(),
        end: RuleEnd::Unreached,
    }
}

fn conditions(conditions: &Conditions, syntax: PatternSyntax) -> ExplainedConditions {
    let tests = conditions.list.iter().map(|condition| ExplainedTest {
        input: condition.input.template.to_string(),
        question: match &condition.test {
            Test::IsDirectory { negate } => exists("a directory", *negate),
            Test::IsFile { negate } => exists("a file", *negate),
            Test::Pattern(text) => pattern(text, syntax),
        },
        inputs: Vec::new(),
    });
    ExplainedConditions {
        any: conditions.any,
        list: tests.collect(),
    }
}

fn exists(what: &str, negate: bool) -> String {
    let not = if negate { "not " } else { "" };
    format!("is {not}{what}")
}

fn pattern(text: &PatternText, syntax: PatternSyntax) -> String {
    let verb = match (syntax, text.negate) {
        (PatternSyntax::EcmaScript, false) => "matches",
        (PatternSyntax::EcmaScript, true) => "does not match",
        (PatternSyntax::ExactMatch, false) => "is exactly",
        (PatternSyntax::ExactMatch, true) => "is not exactly",
        (PatternSyntax::Wildcard, false) => "matches the wildcard",
        (PatternSyntax::Wildcard, true) => "does not match the wildcard",
    };
    let case = if text.ignore_case {
        ""
    } else {
        ", in this letter case"
    };
    format!("{verb} \"{}\"{case}", text.text)
}

fn action(action: &Action) -> String {
    match action {
        Action::Abort => "AbortRequest".to_owned(),
        Action::None => "None".to_owned(),
        Action::Redirect { url, status, .. } => format!("Redirect {status} to {}", url.template),
        Action::Respond {
            status, substatus, ..
        } if *substatus > 0 => format!("CustomResponse {status}.{substatus}"),
        Action::Respond { status, .. } => format!("CustomResponse {status}"),
        Action::Rewrite { url, .. } => format!("Rewrite to {}", url.template),
    }
}
