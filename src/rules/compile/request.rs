//! Compiles inbound rules.

use std::sync::Arc;

use super::{Compiler, Dialect, Manner, Unit, check_field};
use crate::rules::error::Kind;
use crate::rules::matcher::{lossy_text, one_line};
use crate::rules::plan::{ActionPlan, AnswerText, RequestPlan, RespondPlan, SetPlan, SetTarget};
use crate::rules::source::{Action, RequestRule, SetVariable, Text};
use crate::rules::template::{Bound, Reads, Stage, Template, Variable, field_name};
use crate::rules::{RuleError, RuleId};

impl Compiler {
    pub(super) fn request_rule(
        &mut self,
        rule: &RequestRule,
        is_global: bool,
        unit: &Unit<'_>,
    ) -> Result<(), RuleError> {
        let refuses = rule.action.refuses();
        let manner = Manner {
            stage: Stage::Request,
            syntax: rule.syntax,
            hardened: refuses && unit.source.dialect == Dialect::Hardened,
            substring: false,
            rule: &rule.name,
        };
        let url = match &rule.url {
            Some(text) => Some(self.pattern_test(text, manner)?),
            None => None,
        };
        let (mut conditions, mut reads) = self.conditions(&rule.conditions, unit, manner)?;
        let mut set = Vec::with_capacity(rule.set.len());
        self.memory += rule.set.len() * size_of::<SetPlan>();
        for variable in &rule.set {
            set.push(self.set_variable(variable, is_global, unit, &mut reads)?);
        }
        let action = self.action(&rule.action, unit, &mut reads)?;
        self.check_groups(reads, url, &conditions, &rule.place)?;
        conditions.reads_groups = reads.condition_group.is_some();
        self.plan.is_hardened |= manner.hardened;
        self.plan.request_rules.push(RequestPlan {
            id: RuleId(u32::try_from(self.infos.len()).expect("limits keep rules below 2^32")),
            hardened: manner.hardened,
            refuses,
            stop_processing: rule.stop_processing,
            keeps_escapes: rule.keeps_escapes,
            url,
            conditions,
            set,
            action,
            reads_rule_groups: reads.rule_group.is_some(),
        });
        Ok(())
    }

    fn bind_for(
        &mut self,
        text: &Text,
        unit: &Unit<'_>,
        reads: &mut Reads,
    ) -> Result<Bound, RuleError> {
        let bound = self.bind(text, unit, Stage::Request)?;
        *reads = reads.and(bound.reads());
        Ok(bound)
    }

    fn set_variable(
        &mut self,
        set: &SetVariable,
        is_global: bool,
        unit: &Unit<'_>,
        reads: &mut Reads,
    ) -> Result<SetPlan, RuleError> {
        let name = set.name.name.to_ascii_uppercase();
        if name.starts_with("RESPONSE_") {
            let text =
                format!("{name} is part of the response; set it with a rule in outboundRules");
            return Err(
                RuleError::new(&set.name.place, Kind::Unsupported(text)).in_attribute("name")
            );
        }
        let variable = Variable::custom_or_named(&name);
        let target = match field_name(&name, "HTTP_") {
            // HTTP_METHOD and its like name no field, though they look as if they did.
            Some(field)
                if !matches!(
                    variable,
                    Variable::Method | Variable::HttpUrl | Variable::Protocol
                ) =>
            {
                check_field(&field, &set.name.place, "name")?;
                SetTarget::Field(field)
            }
            _ => SetTarget::Variable {
                name: name.clone(),
                variable,
            },
        };
        Ok(SetPlan {
            target,
            value: self.bind_for(&set.value, unit, reads)?,
            replace: set.replace,
            allowed: is_global || unit.allowed.contains(&name),
        })
    }

    fn action(
        &mut self,
        action: &Action,
        unit: &Unit<'_>,
        reads: &mut Reads,
    ) -> Result<ActionPlan, RuleError> {
        Ok(match action {
            Action::Abort => ActionPlan::Abort,
            Action::None => ActionPlan::None,
            Action::Redirect {
                url,
                append_query,
                status,
            } => ActionPlan::Redirect {
                url: self.bind_for(url, unit, reads)?,
                append_query: *append_query,
                status: *status,
            },
            Action::Respond {
                status,
                substatus,
                reason,
                description,
            } => {
                let codes = (*status, *substatus);
                let (answer, own) = self.answer(codes, [reason, description], unit)?;
                *reads = reads.and(own);
                ActionPlan::Respond(answer)
            }
            Action::Rewrite { url, append_query } => ActionPlan::Rewrite {
                url: self.bind_for(url, unit, reads)?,
                append_query: *append_query,
            },
        })
    }

    /// An answer, shared by all rules that answer alike, and what it reads.
    fn answer(
        &mut self,
        (status, substatus): (u16, u16),
        texts: [&Text; 2],
        unit: &Unit<'_>,
    ) -> Result<(Arc<RespondPlan>, Reads), RuleError> {
        let templates = texts.map(|text| &text.template);
        if let Some(last) = &self.last_answer
            && (last.plan.status, last.plan.substatus) == (status, substatus)
            && last.templates.each_ref() == templates
        {
            return Ok((Arc::clone(&last.plan), last.reads));
        }
        let mut reads = Reads::default();
        let [reason, description] = texts;
        let answer = Arc::new(RespondPlan {
            status,
            substatus,
            reason: words(self.bind_for(reason, unit, &mut reads)?, one_line),
            description: words(self.bind_for(description, unit, &mut reads)?, |text| text),
        });
        let plan = match self.answers.get(&answer) {
            Some(known) => Arc::clone(known),
            None => {
                self.answers.insert(Arc::clone(&answer));
                answer
            }
        };
        self.last_answer = Some(LastAnswer {
            templates: templates.map(Template::clone),
            plan: Arc::clone(&plan),
            reads,
        });
        Ok((plan, reads))
    }
}

/// A text of an answer, of which `mend` makes one that may stand in its place.
fn words(bound: Bound, mend: fn(Vec<u8>) -> Vec<u8>) -> AnswerText {
    match bound.fixed() {
        Some(fixed) => AnswerText::Fixed(lossy_text(&mend(fixed.to_vec()))),
        None => AnswerText::Read(bound),
    }
}

/// The answer of the rule before, since most rules of a source answer alike.
#[derive(Debug)]
pub(super) struct LastAnswer {
    /// Its reason and its description, as written.
    templates: [Template; 2],
    plan: Arc<RespondPlan>,
    reads: Reads,
}
