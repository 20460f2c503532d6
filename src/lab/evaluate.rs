//! Judges cases, one JSON object a line in and one out: what `stopgap eval` prints.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::Address;
use super::case::{Case, Response, Text};
use super::sets::Sets;
use crate::canon::{Refusals, refuse};
use crate::model::explain;
use crate::rules::{
    Decision, Dialect, FieldChange, RequestView, ResponseView, RuleError, RuleSet, Scratch,
    SourceOrigin, Verdict,
};

/// Judges cases in one dialect, by their own rules or by rules given for all of them.
///
/// Rules are compiled once while cases of the same rules follow each other.
///
/// # Examples
///
/// ```
/// use stopgap::lab::Evaluate;
/// use stopgap::rules::Dialect;
///
/// let case = r#"{"id": 1, "rules_xml": "<rules><rule name='r'><match url='^a$'/><action type='AbortRequest'/></rule></rules>",
///     "request": {"method": "GET", "url": "http://localhost/a"}}"#;
/// let outcome = Evaluate::new(Dialect::Iis).line(&case.replace('\n', ""));
/// assert_eq!(outcome, r#"{"id":1,"action":"abort","rule":"r"}"#);
/// ```
#[derive(Debug)]
pub struct Evaluate {
    sets: Sets,
    scratch: Scratch,
}

/// What became of one case.
#[derive(Default, Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    id: serde_json::Value,
    action: &'static str,
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    substatus: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    set_headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    set_variables: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_headers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Evaluate {
    /// Judges every case by the rules in its `rules_xml`.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            sets: Sets::new(dialect),
            scratch: Scratch::default(),
        }
    }

    /// Judges every case that has no `rules_xml` by these rules.
    ///
    /// # Errors
    ///
    /// Refuses text that is no rule set.
    pub fn with_rules(mut self, text: &str, origin: &SourceOrigin) -> Result<Self, RuleError> {
        self.sets.give(text, origin)?;
        Ok(self)
    }

    /// Judges one case, given and answered as a JSON object on one line.
    ///
    /// A line that is no case, and rules that are refused, are answered with `"action": "error"` and the reason in
    /// `error`. In the hardened dialect a target that is refused before the rules has the action `reject`.
    pub fn line(&mut self, line: &str) -> String {
        let mut out = Vec::new();
        self.line_into(line, &mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    /// Appends what [`line`](Self::line) answers, without a line break.
    pub fn line_into(&mut self, line: &str, out: &mut Vec<u8>) {
        let outcome = match serde_json::from_str::<Case<'_>>(line) {
            Ok(case) => Outcome {
                id: case.id.clone(),
                ..self.case(&case)
            },
            Err(error) => Outcome::error(format!("the line is no case: {error}")),
        };
        serde_json::to_writer(out, &outcome).expect("strings and numbers are always JSON");
    }

    fn case(&mut self, case: &Case<'_>) -> Outcome {
        let dialect = self.sets.dialect;
        let rules = match self.sets.of(case) {
            Ok(rules) => rules,
            Err(error) => return Outcome::error(explain(error)),
        };
        let mut address = Address::parse(case.request.url.as_str());
        address.secure |= case.request.https;
        if dialect == Dialect::Hardened
            && let Some(refusal) = refuse(address.target.as_bytes(), &Refusals::default())
        {
            return Outcome {
                action: "reject",
                status: Some(400),
                reason: Some(refusal.word().to_owned()),
                ..Outcome::default()
            };
        }
        judge(rules, case, &address, &mut self.scratch)
    }
}

impl Outcome {
    fn error(reason: String) -> Self {
        Self {
            action: "error",
            error: Some(reason),
            ..Self::default()
        }
    }
}

fn judge(rules: &RuleSet, case: &Case<'_>, address: &Address, scratch: &mut Scratch) -> Outcome {
    let mut fields: Vec<(&Text<'_>, &Text<'_>)> = Vec::with_capacity(8);
    fields.extend(
        case.request
            .headers
            .0
            .iter()
            .map(|(name, value)| (name, value)),
    );
    let is_host = |(name, _): &&(&Text<'_>, &Text<'_>)| name.as_str().eq_ignore_ascii_case("host");
    let (name, authority) = ("Host".into(), address.authority.as_str().into());
    let host = match fields.iter().find(is_host) {
        Some((_, host)) => host.as_str(),
        None => {
            fields.push((&name, &authority));
            &address.authority
        }
    };
    let variables = case.context.variables.0.iter();
    let variables: Vec<_> = variables
        .map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()))
        .collect();
    let view = RequestView {
        method: case.request.method.as_str(),
        target: address.target.as_bytes(),
        version: "HTTP/1.1",
        secure: address.secure,
        remote: case.request.remote_addr.map(|ip| SocketAddr::new(ip, 0)),
        local: Some(SocketAddr::from(([127, 0, 0, 1], address.port()))),
        fields: &fields,
        variables: &variables,
    };
    let decision = rules.judge(&view, scratch);
    let current = scratch.rewritten_url().map(lossy);
    let mut outcome = Outcome {
        rule: decision.rule.map(|id| rules.rule(id).name.clone()),
        ..describe(&decision, current, address, host)
    };
    if let Some(response) = &case.response
        && !decision.verdict.stops()
        && decision.failure.is_none()
    {
        let memory = rules.remember(&view, scratch);
        respond(rules, &memory, response, scratch, &mut outcome);
    }
    outcome
}

fn describe(
    decision: &Decision,
    current: Option<String>,
    address: &Address,
    host: &str,
) -> Outcome {
    let mut outcome = Outcome {
        set_headers: decision.fields.iter().map(shown).collect(),
        set_variables: decision.variables.iter().cloned().collect(),
        ..Outcome::default()
    };
    if let Some(substatus) = decision.failure {
        outcome.action = "error";
        outcome.status = Some(500);
        outcome.substatus = Some(substatus);
        outcome.error = Some(match substatus {
            50 => {
                "a rule sets a server variable that allowedServerVariables does not list".to_owned()
            }
            _ => "a text of a rule cannot be expanded".to_owned(),
        });
        return outcome;
    }
    outcome.action = match &decision.verdict {
        Verdict::Abort => "abort",
        Verdict::Pass => {
            outcome.url = Some(address.target.clone());
            "none"
        }
        Verdict::Redirect { status, location } => {
            outcome.status = Some(*status);
            outcome.location = Some(address.resolve(&lossy(location), host));
            "redirect"
        }
        Verdict::Respond {
            status,
            substatus,
            reason,
            description,
        } => {
            outcome.status = Some(*status);
            outcome.substatus = Some(*substatus);
            outcome.reason = Some(reason.to_string());
            outcome.description = Some(description.to_string());
            "custom"
        }
        Verdict::Rewrite { .. } => {
            outcome.url = current;
            "rewrite"
        }
    };
    outcome
}

/// The whole response as it would be sent.
fn respond(
    rules: &RuleSet,
    memory: &crate::rules::RequestMemory,
    response: &Response<'_>,
    scratch: &mut Scratch,
    outcome: &mut Outcome,
) {
    let fields = &response.headers.0;
    let view = ResponseView {
        status: response.status,
        reason: "",
        fields,
    };
    let decision = rules.judge_response(memory, &view, scratch);
    let is_changed = |name: &str| {
        let mut changes = decision.fields.iter();
        changes.any(|change| change.name.eq_ignore_ascii_case(name))
    };
    let kept = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !is_changed(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in kept.chain(decision.fields.iter().map(shown)) {
        headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|joined| {
                joined.push_str(", ");
                joined.push_str(&value);
            })
            .or_insert(value);
    }
    outcome.status = Some(decision.status.unwrap_or(response.status));
    let given = response.body.as_str();
    let body = decision.body.map(|rules| rules.rewrite(given.as_bytes()).0);
    if let (Some(body), Some(length)) = (&body, headers.get_mut("content-length")) {
        *length = body.len().to_string();
    }
    if let (Some(_), Some(tag)) = (&body, headers.get_mut("etag"))
        && !tag.starts_with("W/")
    {
        tag.insert_str(0, "W/");
    }
    outcome.response_headers = Some(headers);
    outcome.response_body = Some(body.as_deref().map_or_else(|| given.to_owned(), lossy));
}

fn shown(change: &FieldChange) -> (String, String) {
    (change.name.clone(), lossy(&change.value))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
