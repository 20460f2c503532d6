//! Reads `<outboundRules>`.

use super::inbound::{SYNTAXES, condition_list, conditions, grouping, parts, pattern};
use super::reader::Node;
use super::{collection, edit};
use crate::rules::error::Kind;
use crate::rules::pattern::PatternSyntax;
use crate::rules::source::{
    Conditions, NameText, PreCondition, ResponseAction, ResponseRule, Subject, TagSet, Tags,
};
use crate::rules::template::field_name;
use crate::rules::{RuleError, RuleSource};

/// The flags of `filterByTags`.
const TAGS: &[(&str, u32)] = &[
    ("None", 0),
    ("A", 1),
    ("Area", 2),
    ("Base", 4),
    ("Form", 8),
    ("Frame", 16),
    ("Head", 32),
    ("IFrame", 64),
    ("Img", 128),
    ("Input", 256),
    ("Link", 512),
    ("Script", 1024),
    ("CustomTags", CUSTOM_TAGS),
];

const CUSTOM_TAGS: u32 = 32768;

pub(super) fn section(node: Node<'_>, source: &mut RuleSource) -> Result<(), RuleError> {
    node.check(&["rewriteBeforeCache"])?;
    node.boolean("rewriteBeforeCache", false)?;
    for child in node.children(&["rule", "clear", "remove", "preConditions", "customTags"])? {
        match child.name() {
            "preConditions" => {
                source.pre_conditions = collection(child, &[], "preCondition", pre_condition)?;
            }
            "customTags" => source.tag_sets = collection(child, &[], "tags", tag_set)?,
            _ => source.response_rules.edits.push(edit(child, rule)?),
        }
    }
    Ok(())
}

fn rule(node: Node<'_>) -> Result<ResponseRule, RuleError> {
    let name = node.required_name("name")?;
    let node = node.in_rule(name);
    node.check(&[
        "name",
        "preCondition",
        "enabled",
        "patternSyntax",
        "stopProcessing",
    ])?;
    let [matched, when, action] = parts(node, ["match", "conditions", "action"])?;
    let matched = matched.ok_or_else(|| node.error(Kind::Missing("<match>")))?;
    let pre_condition = node
        .value("preCondition")
        .map(str::trim)
        .unwrap_or_default();
    Ok(ResponseRule {
        name: name.to_owned(),
        place: node.place(),
        enabled: node.boolean("enabled", true)?,
        syntax: node.keyword("patternSyntax", SYNTAXES, PatternSyntax::EcmaScript)?,
        stop_processing: node.boolean("stopProcessing", false)?,
        pre_condition: (!pre_condition.is_empty()).then(|| NameText {
            name: pre_condition.to_owned(),
            place: node.attribute_place("preCondition"),
        }),
        subject: subject(matched)?,
        pattern: pattern(matched, "pattern")?,
        conditions: conditions(when, true)?,
        action: action.map_or(Ok(ResponseAction::None), self::action)?,
    })
}

fn subject(node: Node<'_>) -> Result<Subject, RuleError> {
    node.check(&[
        "filterByTags",
        "customTags",
        "serverVariable",
        "pattern",
        "occurrences",
        "ignoreCase",
        "negate",
    ])?;
    node.no_children()?;
    let occurrences = node.number("occurrences", "a whole number", |_: &u64| true, 0)?;
    let flags = flags(node)?;
    let variable = node
        .value("serverVariable")
        .map(str::trim)
        .unwrap_or_default();
    if variable.is_empty() {
        return Ok(if flags == 0 {
            Subject::Body { occurrences }
        } else {
            Subject::Tags(tags(node, flags)?)
        });
    }
    if flags != 0 {
        return Err(node.attribute_error(
            "serverVariable",
            Kind::Unsupported(
                "a rule judges either a field or the body; remove serverVariable or filterByTags"
                    .to_owned(),
            ),
        ));
    }
    if variable.eq_ignore_ascii_case("RESPONSE_STATUS") {
        return Ok(Subject::Status);
    }
    match field_name(variable, "RESPONSE_") {
        Some(field) => Ok(Subject::Field(field)),
        None => Err(node.value_error(
            "serverVariable",
            "RESPONSE_STATUS, or RESPONSE_ and the field's name, such as RESPONSE_LOCATION",
        )),
    }
}

fn flags(node: Node<'_>) -> Result<u32, RuleError> {
    let all = TAGS.iter().fold(0, |all, (_, flag)| all | flag);
    let Some(text) = node.value("filterByTags") else {
        return Ok(0);
    };
    text.split(',').map(str::trim).try_fold(0, |flags, word| {
        let named = TAGS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word));
        let number = || word.parse().ok().filter(|number| number & !all == 0);
        named
            .map(|(_, flag)| *flag)
            .or_else(number)
            .map(|flag| flags | flag)
            .ok_or_else(|| {
                let names: Vec<&str> = TAGS.iter().map(|(name, _)| *name).collect();
                let expected = format!("names with commas between, of: {}", names.join(", "));
                node.value_error("filterByTags", &expected)
            })
    })
}

fn tags(node: Node<'_>, flags: u32) -> Result<Tags, RuleError> {
    let custom = node.value("customTags").map(str::trim).unwrap_or_default();
    let wants_custom = flags & CUSTOM_TAGS != 0;
    if wants_custom && custom.is_empty() {
        return Err(node.attribute_error("customTags", Kind::Missing("the attribute")));
    }
    Ok(Tags {
        flags,
        custom: wants_custom.then(|| NameText {
            name: custom.to_owned(),
            place: node.attribute_place("customTags"),
        }),
    })
}

fn action(node: Node<'_>) -> Result<ResponseAction, RuleError> {
    node.check(&["type", "value", "replace"])?;
    node.no_children()?;
    let rewrite = node.keyword(
        "type",
        &[
            ("None", false),
            ("Rewrite", true),
            ("0", false),
            ("1", true),
        ],
        false,
    )?;
    let value = node.text("value")?;
    let replace = node.boolean("replace", true)?;
    Ok(if rewrite {
        ResponseAction::Rewrite { value, replace }
    } else {
        ResponseAction::None
    })
}

fn pre_condition(node: Node<'_>) -> Result<PreCondition, RuleError> {
    node.check(&["name", "patternSyntax", "logicalGrouping"])?;
    Ok(PreCondition {
        name: node.required_name("name")?.to_owned(),
        place: node.place(),
        syntax: node.keyword("patternSyntax", SYNTAXES, PatternSyntax::EcmaScript)?,
        conditions: Conditions {
            list: condition_list(node, &["input", "pattern", "ignoreCase", "negate"])?,
            any: grouping(node)?,
            track_all_captures: false,
        },
    })
}

fn tag_set(node: Node<'_>) -> Result<TagSet, RuleError> {
    node.check(&["name"])?;
    let mut tags = Vec::new();
    for child in node.children(&["tag", "clear"])? {
        child.no_children()?;
        if child.name() == "clear" {
            child.check(&[])?;
            tags.clear();
            continue;
        }
        child.check(&["name", "attribute"])?;
        tags.push((
            child.required_name("name")?.to_owned(),
            child.required_name("attribute")?.to_owned(),
        ));
    }
    Ok(TagSet {
        name: node.required_name("name")?.to_owned(),
        place: node.place(),
        tags,
    })
}
