//! Reads `<rules>` and `<globalRules>`.

use super::collection;
use super::reader::Node;
use crate::rules::RuleError;
use crate::rules::error::Kind;
use crate::rules::pattern::PatternSyntax;
use crate::rules::source::{
    Action, Collection, Condition, Conditions, PatternText, RequestRule, SetVariable, Test, Text,
};
use crate::rules::template::Template;

/// How long a pattern may be, in octets.
pub(super) const MAX_PATTERN: usize = 16 * 1024;

/// How many conditions one rule may have.
pub(super) const MAX_CONDITIONS: usize = 1_000;

/// `patternSyntax` with the labels that IIS Manager shows, which scripts write, and the numbers of the schema.
pub(super) const SYNTAXES: &[(&str, PatternSyntax)] = &[
    ("ECMAScript", PatternSyntax::EcmaScript),
    ("Wildcard", PatternSyntax::Wildcard),
    ("ExactMatch", PatternSyntax::ExactMatch),
    ("Regular Expressions", PatternSyntax::EcmaScript),
    ("Wildcards", PatternSyntax::Wildcard),
    ("Exact Match", PatternSyntax::ExactMatch),
    ("0", PatternSyntax::EcmaScript),
    ("1", PatternSyntax::Wildcard),
    ("2", PatternSyntax::ExactMatch),
];

const ACTIONS: &[(&str, ActionType)] = &[
    ("None", ActionType::None),
    ("Rewrite", ActionType::Rewrite),
    ("Redirect", ActionType::Redirect),
    ("CustomResponse", ActionType::CustomResponse),
    ("AbortRequest", ActionType::AbortRequest),
    ("0", ActionType::None),
    ("1", ActionType::Rewrite),
    ("2", ActionType::Redirect),
    ("3", ActionType::CustomResponse),
    ("4", ActionType::AbortRequest),
];

const REDIRECTS: &[(&str, u16)] = &[
    ("Permanent", 301),
    ("Found", 302),
    ("SeeOther", 303),
    ("Temporary", 307),
    ("301", 301),
    ("302", 302),
    ("303", 303),
    ("307", 307),
];

#[derive(Clone, Copy, PartialEq)]
enum ActionType {
    AbortRequest,
    CustomResponse,
    None,
    Redirect,
    Rewrite,
}

#[derive(Clone, Copy, PartialEq)]
enum MatchType {
    IsDirectory,
    IsFile,
    Pattern,
}

pub(super) fn rules(node: Node<'_>) -> Result<Collection<RequestRule>, RuleError> {
    let keeps_escapes = !node.boolean("useOriginalURLEncoding", true)?;
    collection(node, &["useOriginalURLEncoding"], "rule", |node| {
        let mut rule = rule(node)?;
        rule.keeps_escapes = keeps_escapes;
        Ok(rule)
    })
}

fn rule(node: Node<'_>) -> Result<RequestRule, RuleError> {
    let name = node.required_name("name")?;
    let node = node.in_rule(name);
    node.check(&[
        "name",
        "enabled",
        "patternSyntax",
        "stopProcessing",
        "responseCacheDirective",
    ])?;
    // Decides about IIS's own cache and nothing else; read so that a misspelt value is still found.
    node.keyword(
        "responseCacheDirective",
        &[
            ("Auto", 0),
            ("Always", 1),
            ("Never", 2),
            ("NotIfRuleMatched", 3),
            ("0", 0),
            ("1", 1),
            ("2", 2),
            ("3", 3),
        ],
        0,
    )?;
    let [url, parts, set, act] = parts(node, ["match", "conditions", "serverVariables", "action"])?;
    Ok(RequestRule {
        name: name.to_owned(),
        place: node.place(),
        enabled: node.boolean("enabled", true)?,
        syntax: node.keyword("patternSyntax", SYNTAXES, PatternSyntax::EcmaScript)?,
        stop_processing: node.boolean("stopProcessing", false)?,
        keeps_escapes: false,
        url: url.map(match_url).transpose()?,
        conditions: conditions(parts, false)?,
        set: set.map(set_variables).transpose()?.unwrap_or_default(),
        action: act.map_or(Ok(Action::None), action)?,
    })
}

/// The children of a rule, each at most once and in any order.
pub(super) fn parts<'a, const N: usize>(
    node: Node<'a>,
    names: [&'static str; N],
) -> Result<[Option<Node<'a>>; N], RuleError> {
    let mut parts = [None; N];
    for child in node.children(&names)? {
        if let Some(at) = names.iter().position(|name| *name == child.name()) {
            if parts[at].is_some() {
                let what = format!("<{}> in this rule", names[at]);
                return Err(child.error(Kind::Duplicate(what)));
            }
            parts[at] = Some(child);
        }
    }
    Ok(parts)
}

fn match_url(node: Node<'_>) -> Result<PatternText, RuleError> {
    node.check(&["url", "ignoreCase", "negate"])?;
    node.no_children()?;
    if node.required("url")?.is_empty() {
        return Err(node.attribute_error("url", Kind::Missing("the pattern")));
    }
    pattern(node, "url")
}

pub(super) fn pattern(node: Node<'_>, attribute: &'static str) -> Result<PatternText, RuleError> {
    let text = node.required(attribute)?;
    node.limit(attribute, text, "a pattern in octets", MAX_PATTERN)?;
    Ok(PatternText {
        text: text.to_owned(),
        place: node.attribute_place(attribute),
        attribute,
        ignore_case: node.boolean("ignoreCase", true)?,
        negate: node.boolean("negate", false)?,
    })
}

pub(super) fn conditions(
    node: Option<Node<'_>>,
    track_all_captures: bool,
) -> Result<Conditions, RuleError> {
    let Some(node) = node else {
        return Ok(Conditions {
            list: Vec::new(),
            any: false,
            track_all_captures,
        });
    };
    node.check(&["logicalGrouping", "trackAllCaptures"])?;
    Ok(Conditions {
        list: condition_list(
            node,
            &["input", "matchType", "pattern", "ignoreCase", "negate"],
        )?,
        any: grouping(node)?,
        track_all_captures: node.boolean("trackAllCaptures", track_all_captures)?,
    })
}

pub(super) fn grouping(node: Node<'_>) -> Result<bool, RuleError> {
    let words = [
        ("MatchAll", false),
        ("MatchAny", true),
        ("0", false),
        ("1", true),
    ];
    node.keyword("logicalGrouping", &words, false)
}

pub(super) fn condition_list(
    node: Node<'_>,
    attributes: &[&str],
) -> Result<Vec<Condition>, RuleError> {
    let mut list = Vec::new();
    for child in node.children(&["add", "clear"])? {
        child.no_children()?;
        if child.name() == "clear" {
            child.check(&[])?;
            list.clear();
            continue;
        }
        child.check(attributes)?;
        if list.len() == MAX_CONDITIONS {
            return Err(child.error(Kind::Limit {
                what: "the conditions of one rule",
                limit: MAX_CONDITIONS,
            }));
        }
        list.push(condition(child)?);
    }
    Ok(list)
}

fn condition(node: Node<'_>) -> Result<Condition, RuleError> {
    let words = [
        ("Pattern", MatchType::Pattern),
        ("IsFile", MatchType::IsFile),
        ("IsDirectory", MatchType::IsDirectory),
        ("0", MatchType::Pattern),
        ("1", MatchType::IsFile),
        ("2", MatchType::IsDirectory),
    ];
    let match_type = node.keyword("matchType", &words, MatchType::Pattern)?;
    let negate = node.boolean("negate", false)?;
    let test = match match_type {
        MatchType::IsDirectory => Test::IsDirectory { negate },
        MatchType::IsFile => Test::IsFile { negate },
        MatchType::Pattern => Test::Pattern(pattern(node, "pattern")?),
    };
    let mut input = node.text("input")?;
    if match_type == MatchType::Pattern {
        node.required("input")?;
    } else if input.template.is_empty() {
        input.template = Template::variable("REQUEST_FILENAME");
    }
    Ok(Condition { input, test })
}

fn set_variables(node: Node<'_>) -> Result<Vec<SetVariable>, RuleError> {
    node.check(&[])?;
    let mut list: Vec<SetVariable> = Vec::new();
    for child in node.children(&["set", "clear"])? {
        child.no_children()?;
        if child.name() == "clear" {
            child.check(&[])?;
            list.clear();
            continue;
        }
        child.check(&["name", "value", "replace"])?;
        let name = child.name_text("name")?;
        if list
            .iter()
            .any(|set| set.name.name.eq_ignore_ascii_case(&name.name))
        {
            let what = format!("server variable {:?} in this rule", name.name);
            return Err(child.attribute_error("name", Kind::Duplicate(what)));
        }
        list.push(SetVariable {
            name,
            value: child.text("value")?,
            replace: child.boolean("replace", true)?,
        });
    }
    Ok(list)
}

fn action(node: Node<'_>) -> Result<Action, RuleError> {
    node.check(&[
        "type",
        "url",
        "appendQueryString",
        "logRewrittenUrl",
        "redirectType",
        "statusCode",
        "subStatusCode",
        "statusReason",
        "statusDescription",
    ])?;
    node.no_children()?;
    // Changes what IIS logs and nothing else.
    node.boolean("logRewrittenUrl", false)?;
    let append_query = node.boolean("appendQueryString", true)?;
    let status = node.keyword("redirectType", REDIRECTS, 301)?;
    Ok(match node.keyword("type", ACTIONS, ActionType::None)? {
        ActionType::AbortRequest => Action::Abort,
        ActionType::CustomResponse => custom_response(node)?,
        ActionType::None => Action::None,
        ActionType::Redirect => Action::Redirect {
            url: target(node)?,
            append_query,
            status,
        },
        ActionType::Rewrite => Action::Rewrite {
            url: target(node)?,
            append_query,
        },
    })
}

fn target(node: Node<'_>) -> Result<Text, RuleError> {
    node.required("url")?;
    node.trimmed_text("url")
}

fn custom_response(node: Node<'_>) -> Result<Action, RuleError> {
    // The schema leaves 300 to 307 to the Redirect action; below 200 is no final response (RFC 9110 section 15.2).
    let is_final = |status: &u16| matches!(status, 200..=299 | 308..=999);
    node.required("statusCode")?;
    Ok(Action::Respond {
        status: node.number(
            "statusCode",
            "a number from 200 to 999, but for 300 to 307: use the action Redirect for these",
            is_final,
            0,
        )?,
        substatus: node.number(
            "subStatusCode",
            "a number from 0 to 999",
            |n: &u16| *n <= 999,
            0,
        )?,
        reason: node.text("statusReason")?,
        description: node.text("statusDescription")?,
    })
}
