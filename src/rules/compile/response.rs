//! Compiles outbound rules.

use super::{Compiler, Manner, Unit, check_field};
use crate::rules::error::{Kind, nearest};
use crate::rules::plan::{ConditionsPlan, Input, ResponsePlan, SubjectPlan};
use crate::rules::source::{NameText, PreCondition, ResponseAction, ResponseRule, Subject};
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
        self.remember_conditions(&conditions);
        let value = match &rule.action {
            ResponseAction::None => None,
            ResponseAction::Rewrite { value, replace } => {
                let bound = self.bind(value, unit, Stage::Response)?;
                reads = reads.and(bound.reads());
                self.remember(&bound);
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
        self.remember_conditions(&plan);
        self.plan.pre_conditions.push(plan);
        Ok(self.plan.pre_conditions.len() - 1)
    }

    fn remember_conditions(&mut self, conditions: &ConditionsPlan) {
        for condition in &conditions.list {
            if let Input::Own(bound) = &condition.input {
                self.remember(bound);
            }
        }
    }

    /// Notes what a text reads of the request, to be kept until the response comes.
    fn remember(&mut self, bound: &Bound) {
        bound.each_variable(&mut |variable| {
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

/// What the rule changes. Bodies are typed and parsed, and not yet judged.
fn subject(rule: &ResponseRule, unit: &Unit<'_>) -> Result<SubjectPlan, RuleError> {
    let (place, what) = match &rule.subject {
        Subject::Field(name) => {
            check_field(name, &rule.pattern.place, "serverVariable")?;
            return Ok(SubjectPlan::Field(name.clone()));
        }
        Subject::Status => return Ok(SubjectPlan::Status),
        Subject::Body { .. } => (&rule.pattern.place, "rewrites the response body"),
        Subject::Tags(tags) => {
            if let Some(name) = &tags.custom {
                let known = unit.source.tag_sets.resolve()?;
                check_name(
                    "custom tag set",
                    name,
                    known.iter().map(|set| set.name.as_str()),
                )
                .map_err(|error| error.in_attribute("customTags"))?;
            }
            (&tags.place, "rewrites attributes in the response body")
        }
    };
    let text = format!(
        "this rule {what}, and response-body rules are not part of this version; name a field with serverVariable, or disable the rule"
    );
    Err(RuleError::new(place, Kind::Unsupported(text)))
}
