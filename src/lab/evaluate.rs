//! Judges cases, one JSON object a line in and one out: what `stopgap eval` prints.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Address;
use crate::canon::{Refusals, refuse};
use crate::model::explain;
use crate::rules::{
    Decision, Dialect, FieldChange, FileTree, RequestView, ResponseView, RuleError, RuleLimits,
    RuleOrigin, RuleSet, RuleSource, Scratch, SourceOrigin, Verdict,
};

/// Judges cases in one dialect, by their own rules or by rules given for all of them.
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
    dialect: Dialect,
    rules: Option<RuleSource>,
}

/// One case as read. Fields that only say what is expected are passed over.
#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    id: serde_json::Value,
    rules_xml: Option<String>,
    request: Request,
    #[serde(default)]
    context: Context,
    response: Option<Response>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default)]
    headers: Headers,
    remote_addr: Option<IpAddr>,
    #[serde(default)]
    https: bool,
}

fn get() -> String {
    "GET".to_owned()
}

/// What surrounds the request: what exists on disk, further variables, and rules of the levels above.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    files: Vec<String>,
    dirs: Vec<String>,
    variables: BTreeMap<String, String>,
    parent_rules_xml: Vec<String>,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    body: String,
}

const fn ok() -> u16 {
    200
}

/// Fields as an object, with one value or several for a name, or as an array of pairs.
#[derive(Deserialize)]
#[serde(untagged)]
enum Headers {
    Map(BTreeMap<String, Values>),
    Pairs(Vec<(String, String)>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Many(Vec<String>),
    One(String),
}

impl Default for Headers {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

impl Headers {
    fn pairs(&self) -> Vec<(String, String)> {
        match self {
            Self::Map(map) => map
                .iter()
                .flat_map(|(name, values)| {
                    let values = match values {
                        Values::Many(values) => values.as_slice(),
                        Values::One(value) => std::slice::from_ref(value),
                    };
                    values.iter().map(|value| (name.clone(), value.clone()))
                })
                .collect(),
            Self::Pairs(pairs) => pairs.clone(),
        }
    }
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

/// Files and directories that exist, as URL paths; letter case does not matter, as on Windows.
#[derive(Debug)]
struct Listed {
    files: Vec<String>,
    directories: Vec<String>,
}

impl FileTree for Listed {
    fn is_file(&self, path: &[u8]) -> bool {
        is_listed(&self.files, path)
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path == b"/" || is_listed(&self.directories, path)
    }
}

fn is_listed(paths: &[String], path: &[u8]) -> bool {
    let trimmed = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_ascii_lowercase();
    paths
        .iter()
        .any(|known| trimmed(known.as_bytes()) == trimmed(path))
}

impl Evaluate {
    /// Judges every case by the rules in its `rules_xml`.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            rules: None,
        }
    }

    /// Judges every case that has no `rules_xml` by these rules.
    ///
    /// # Errors
    ///
    /// Refuses text that is no rule set.
    pub fn with_rules(mut self, text: &str, origin: &SourceOrigin) -> Result<Self, RuleError> {
        let source = self.in_dialect(RuleSource::parse(text, origin)?);
        compile(&source, &Context::default())?;
        self.rules = Some(source);
        Ok(self)
    }

    /// Judges one case, given and answered as a JSON object on one line.
    ///
    /// A line that is no case, and rules that are refused, are answered with `"action": "error"` and the reason in
    /// `error`. In the hardened dialect a target that is refused before the rules has the action `reject`.
    pub fn line(&self, line: &str) -> String {
        let outcome = match serde_json::from_str::<Case>(line) {
            Ok(case) => {
                let outcome = self.case(&case).unwrap_or_else(|error| Outcome {
                    action: "error",
                    error: Some(explain(&error)),
                    ..Outcome::default()
                });
                Outcome {
                    id: case.id,
                    ..outcome
                }
            }
            Err(error) => Outcome {
                action: "error",
                error: Some(format!("the line is no case: {error}")),
                ..Outcome::default()
            },
        };
        serde_json::to_string(&outcome).expect("strings and numbers are always JSON")
    }

    fn case(&self, case: &Case) -> Result<Outcome, RuleError> {
        let rules = compile(&self.source(case)?, &case.context)?;
        let mut address = Address::parse(&case.request.url);
        address.secure |= case.request.https;
        if self.dialect == Dialect::Hardened
            && let Some(refusal) = refuse(address.target.as_bytes(), &Refusals::default())
        {
            return Ok(Outcome {
                action: "reject",
                status: Some(400),
                reason: Some(refusal.word().to_owned()),
                ..Outcome::default()
            });
        }
        let mut fields = case.request.headers.pairs();
        if !fields
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            fields.push(("Host".to_owned(), address.authority.clone()));
        }
        let variables: Vec<_> = case.context.variables.clone().into_iter().collect();
        let view = RequestView {
            method: &case.request.method,
            target: address.target.as_bytes(),
            version: "HTTP/1.1",
            secure: address.secure,
            remote: case.request.remote_addr.map(|ip| SocketAddr::new(ip, 0)),
            local: Some(SocketAddr::from(([127, 0, 0, 1], address.port()))),
            fields: &fields,
            variables: &variables,
        };
        let mut scratch = Scratch::default();
        let decision = rules.judge(&view, &mut scratch);
        let current = scratch.rewritten_url().map(lossy);
        let host = fields
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = host.map_or("", |(_, value)| value);
        let mut outcome = Outcome {
            rule: decision.rule.map(|id| rules.rule(id).name.clone()),
            ..describe(&decision, current, &address, host)
        };
        if let Some(response) = &case.response
            && !decision.verdict.stops()
            && decision.failure.is_none()
        {
            let memory = rules.remember(&view, &mut scratch);
            respond(&rules, &memory, response, &mut scratch, &mut outcome);
        }
        Ok(outcome)
    }

    /// The hardened dialect is for all rules; otherwise a text chooses its own.
    fn in_dialect(&self, source: RuleSource) -> RuleSource {
        match self.dialect {
            Dialect::Hardened => source.with_dialect(Dialect::Hardened),
            Dialect::Iis => source,
        }
    }

    /// The case's rules below those of its parents, or the rules given for all.
    fn source(&self, case: &Case) -> Result<RuleSource, RuleError> {
        let parse = |text: &str, name: &str| {
            let origin = SourceOrigin::named(name);
            Ok(self.in_dialect(RuleSource::parse(text, &origin)?))
        };
        let own = match (&case.rules_xml, &self.rules) {
            (Some(text), _) => parse(text, "rules_xml")?,
            (None, Some(rules)) => rules.clone(),
            (None, None) => parse("<rules/>", "rules_xml")?,
        };
        let mut above: Option<RuleSource> = None;
        for text in &case.context.parent_rules_xml {
            let level = parse(text, "parent_rules_xml")?;
            above = Some(match above {
                Some(above) => level.below(&above)?,
                None => level,
            });
        }
        match above {
            Some(above) => own.below(&above),
            None => Ok(own),
        }
    }
}

fn compile(source: &RuleSource, context: &Context) -> Result<RuleSet, RuleError> {
    let listed = Listed {
        files: context.files.clone(),
        directories: context.dirs.clone(),
    };
    // The root is empty, so that physical paths are the URL paths that the context lists.
    let mut builder = RuleSet::builder(RuleLimits::default())
        .with_document_root("", Some(Arc::new(listed)))
        .with_variables(context.variables.keys());
    builder.add(source, RuleOrigin::local("case"))?;
    Ok(builder.build())
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
            outcome.reason = Some(reason.clone());
            outcome.description = Some(description.clone());
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
    response: &Response,
    scratch: &mut Scratch,
    outcome: &mut Outcome,
) {
    let fields = response.headers.pairs();
    let view = ResponseView {
        status: response.status,
        reason: "",
        fields: &fields,
    };
    let decision = rules.judge_response(memory, &view, scratch);
    let is_changed = |name: &str| {
        let mut changes = decision.fields.iter();
        changes.any(|change| change.name.eq_ignore_ascii_case(name))
    };
    let kept = fields.iter().filter(|(name, _)| !is_changed(name)).cloned();
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
    let body = decision
        .body
        .map(|rules| rules.rewrite(response.body.as_bytes()).0);
    if let (Some(body), Some(length)) = (&body, headers.get_mut("content-length")) {
        *length = body.len().to_string();
    }
    if let (Some(_), Some(tag)) = (&body, headers.get_mut("etag"))
        && !tag.starts_with("W/")
    {
        tag.insert_str(0, "W/");
    }
    outcome.response_headers = Some(headers);
    outcome.response_body = Some(body.as_deref().map_or_else(|| response.body.clone(), lossy));
}

fn shown(change: &FieldChange) -> (String, String) {
    (change.name.clone(), lossy(&change.value))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
