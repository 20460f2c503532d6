//! Compiles outbound rules.

use super::{Compiler, Manner, Unit, check_field};
use crate::rules::error::{Kind, nearest};
use crate::rules::pattern::PatternSyntax;
use crate::rules::plan::{BodyPlan, ConditionsPlan, Input, ResponsePlan, SubjectPlan};
use crate::rules::source::{NameText, PreCondition, ResponseAction, ResponseRule, Subject, Tags};
use crate::rules::template::{Bound, Stage};
use crate::rules::{RuleError, RuleId};

impl Compiler {
    pub(super) fn response_rule(
        &mut self,
        rule: &ResponseRule,
        unit: &Unit<'_>,
    ) -> Result<(), RuleError> {
        let manner = Manner {
            stage: Stage::Response,
            syntax: rule.syntax,
            hardened: false,
            substring: false,
            rule: &rule.name,
        };
        let subject = subject(rule, unit)?;
        // Unlike an inbound one, an outbound exact match is found anywhere.
        let searching = Manner {
            substring: true,
            ..manner
        };
        let pattern = self.pattern_test(&rule.pattern, searching)?;
        let pre_condition = match &rule.pre_condition {
            Some(name) => Some(self.pre_condition(name, unit)?),
            None => None,
        };
        let (mut conditions, mut reads) = self.conditions(&rule.conditions, unit, manner)?;
        let is_body = matches!(subject, SubjectPlan::Body(_));
        self.remember_conditions(&conditions, is_body);
        let value = match &rule.action {
            ResponseAction::None => None,
            ResponseAction::Rewrite { value, replace } => {
                let bound = self.bind(value, unit, Stage::Response)?;
                reads = reads.and(bound.reads());
                self.remember(&bound, is_body);
                Some((bound, *replace))
            }
        };
        self.check_groups(reads, Some(pattern), &conditions, &rule.place)?;
        conditions.reads_groups = reads.condition_group.is_some();
        self.plan.response_rules.push(ResponsePlan {
            id: RuleId(u32::try_from(self.infos.len()).expect("limits keep rules below 2^32")),
            pre_condition,
            subject,
            pattern,
            conditions,
            value,
            stop_processing: rule.stop_processing,
        });
        Ok(())
    }

    fn pre_condition(&mut self, name: &NameText, unit: &Unit<'_>) -> Result<usize, RuleError> {
        let known = unit.source.pre_conditions.resolve()?;
        let names = known.iter().map(|known| known.name.as_str());
        let number = check_name("preCondition", name, names)
            .map_err(|error| error.in_attribute("preCondition"))?;
        let PreCondition {
            syntax,
            conditions,
            place,
            ..
        } = known[number];
        let manner = Manner {
            stage: Stage::Response,
            syntax: *syntax,
            hardened: false,
            substring: false,
            rule: "",
        };
        let (mut plan, reads) = self.conditions(conditions, unit, manner)?;
        self.check_groups(reads, None, &plan, place)?;
        plan.reads_groups = reads.condition_group.is_some();
        self.remember_conditions(&plan, false);
        self.plan.pre_conditions.push(plan);
        Ok(self.plan.pre_conditions.len() - 1)
    }

    fn remember_conditions(&mut self, conditions: &ConditionsPlan, for_body: bool) {
        for condition in &conditions.list {
            if let Input::Own(bound) = &condition.input {
                self.remember(bound, for_body);
            }
        }
    }

    /// Notes what a text reads of the request, to be kept until the response comes.
    fn remember(&mut self, bound: &Bound, for_body: bool) {
        bound.each_variable(&mut |variable| {
            if for_body && !self.plan.body_variables.contains(variable) {
                self.plan.body_variables.push(variable.clone());
            }
            if !variable.is_response() && !self.plan.remembered.contains(variable) {
                self.plan.remembered.push(variable.clone());
            }
        });
    }
}

/// The number of the known name that is meant.
fn check_name<'k>(
    what: &'static str,
    wanted: &NameText,
    mut known: impl Iterator<Item = &'k str> + Clone,
) -> Result<usize, RuleError> {
    let near = nearest(&wanted.name, known.clone());
    known
        .position(|name| name.eq_ignore_ascii_case(&wanted.name))
        .ok_or_else(|| {
            let kind = Kind::Undefined {
                what,
                name: wanted.name.clone(),
                near: near.map(str::to_owned),
            };
            RuleError::new(&wanted.place, kind)
        })
}

/// What the rule changes.
fn subject(rule: &ResponseRule, unit: &Unit<'_>) -> Result<SubjectPlan, RuleError> {
    Ok(match &rule.subject {
        Subject::Body { .. } if rule.syntax == PatternSyntax::Wildcard => {
            let text = "a wildcard covers the whole body and cannot be searched in it; use another patternSyntax, or filterByTags";
            let kind = Kind::Unsupported(text.to_owned());
            return Err(RuleError::new(&rule.place, kind).in_attribute("patternSyntax"));
        }
        Subject::Body { occurrences } => SubjectPlan::Body(BodyPlan::Text {
            occurrences: *occurrences,
        }),
        Subject::Field(name) => {
            check_field(name, &rule.pattern.place, "serverVariable")?;
            SubjectPlan::Field(name.clone())
        }
        Subject::Status => SubjectPlan::Status,
        Subject::Tags(tags) => SubjectPlan::Body(BodyPlan::Attributes(attributes(tags, unit)?)),
    })
}

/// The flags of `filterByTags` with the attributes that each stands for.
const TAG_ATTRIBUTES: &[(u32, &str, &[&str])] = &[
    (1, "a", &["href"]),
    (2, "area", &["href"]),
    (4, "base", &["href"]),
    (8, "form", &["action"]),
    (16, "frame", &["src", "longdesc"]),
    (32, "head", &["profile"]),
    (64, "iframe", &["src", "longdesc"]),
    (128, "img", &["src", "longdesc", "usemap"]),
    (256, "input", &["src", "usemap"]),
    (512, "link", &["href"]),
    (1024, "script", &["src"]),
];

/// Elements and attributes that are judged, in lower case, since HTML does not look at letter case.
fn attributes(tags: &Tags, unit: &Unit<'_>) -> Result<Vec<(String, String)>, RuleError> {
    let mut pairs = Vec::new();
    for (flag, tag, attributes) in TAG_ATTRIBUTES {
        if tags.flags & flag != 0 {
            let named = attributes.iter();
            pairs.extend(named.map(|attribute| ((*tag).to_owned(), (*attribute).to_owned())));
        }
    }
    if let Some(name) = &tags.custom {
        let known = unit.source.tag_sets.resolve()?;
        let names = known.iter().map(|set| set.name.as_str());
        let number = check_name("custom tag set", name, names)
            .map_err(|error| error.in_attribute("customTags"))?;
        let custom = known[number].tags.iter();
        pairs
            .extend(custom.map(|(tag, attribute)| {
                (tag.to_ascii_lowercase(), attribute.to_ascii_lowercase())
            }));
    }
    Ok(pairs)
}
