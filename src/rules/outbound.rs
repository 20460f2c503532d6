//! Judges a response by the outbound rules of a plan.

use std::sync::Arc;

use super::matcher::{Part, Tested, Tester, Watch, conditions_hold, input_passes, one_line};
use super::pattern::Matched;
use super::plan::{ConditionsPlan, Input, Plan, ResponsePlan, SubjectPlan};
use super::scratch::{RequestMemory, SetMemory, Work};
use super::template::{Captures, Expansion, Sight, TooLong, Variable};
use super::view::read_field;
use super::{BodyRules, FieldChange, ResponseDecision, ResponseView, RuleId, body};

/// The one field whose lines cannot be joined into one (RFC 9110 section 5.3): rules judge each line by itself.
const SET_COOKIE: &str = "set-cookie";

/// One response under judgement.
pub(crate) struct ResponseJudge<'a, 's, W> {
    pub(crate) plan: &'a Arc<Plan>,
    pub(crate) request: &'a RequestMemory,
    pub(crate) response: &'a ResponseView<'a>,
    pub(crate) work: &'a mut Work,
    pub(crate) memory: &'a mut SetMemory,
    pub(crate) watch: W,
    /// Asked of each rule that would change the response, whether it is to leave it alone.
    pub(crate) spares: Option<&'a mut (dyn FnMut(RuleId) -> bool + 's)>,
    pub(crate) decision: ResponseDecision,
    /// The status line's code and reason, once a rule changed it.
    pub(crate) status_line: Option<Vec<u8>>,
}

/// What variables read: the request as remembered, and the response with what rules changed so far.
struct ResponseSight<'a> {
    plan: &'a Plan,
    request: &'a RequestMemory,
    response: &'a ResponseView<'a>,
    decision: &'a ResponseDecision,
    status_line: Option<&'a [u8]>,
}

impl Sight for ResponseSight<'_> {
    fn read(&self, variable: &Variable, out: &mut Vec<u8>) {
        match variable {
            Variable::ResponseField(name) => {
                self.read_field(name, out);
            }
            Variable::ResponseStatus => self.read_status(out),
            _ => {
                let at = self
                    .plan
                    .remembered
                    .iter()
                    .position(|known| known == variable);
                if let Some(value) = at.and_then(|at| self.request.values.get(at)) {
                    out.extend_from_slice(value);
                }
            }
        }
    }
}

impl ResponseSight<'_> {
    /// Whether the field exists, which an empty one does too.
    fn read_field(&self, name: &str, out: &mut Vec<u8>) -> bool {
        let changes = self.decision.fields.iter();
        let mut exists = false;
        for change in changes.filter(|change| change.name == name) {
            if exists {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(&change.value);
            exists = true;
        }
        exists || read_field(self.response.fields, name, out)
    }

    fn read_status(&self, out: &mut Vec<u8>) {
        match self.status_line {
            Some(line) => out.extend_from_slice(line),
            None => {
                out.extend_from_slice(self.response.status.to_string().as_bytes());
                if !self.response.reason.is_empty() {
                    out.push(b' ');
                    out.extend_from_slice(self.response.reason.as_bytes());
                }
            }
        }
    }
}

impl<W: Watch> ResponseJudge<'_, '_, W> {
    /// Judges the response by every group whose scope the request lies in.
    pub(crate) fn judge(mut self) -> ResponseDecision {
        let plan = self.plan;
        let mut body = Vec::new();
        for (number, (group, in_scope)) in (0..).zip(plan.groups.iter().zip(&self.request.in_scope))
        {
            if !in_scope {
                continue;
            }
            for at in group.responses.clone() {
                let rule = &plan.response_rules[at];
                if matches!(rule.subject, SubjectPlan::Body(_)) {
                    if self.wants_body(rule) {
                        body.push((number, at));
                    }
                    continue;
                }
                if self.apply(rule) == Ok(true) && rule.stop_processing {
                    break;
                }
            }
        }
        if !body.is_empty() {
            self.decide_body(body);
        }
        self.decision
    }

    /// Whether a rule for bodies is to see this one.
    fn wants_body(&mut self, rule: &ResponsePlan) -> bool {
        self.work.begin_rule();
        self.watch.rule(rule.id);
        let wants = self.pre_condition_holds(rule);
        if wants {
            self.watch.awaits_body();
        }
        wants
    }

    /// Notes which of these rules, by group and number, the body is to be rewritten by.
    fn decide_body(&mut self, mut rules: Vec<(usize, usize)>) {
        let scope = match body::scope(self.response, self.request.is_head) {
            Ok(scope) => scope,
            Err(skip) => {
                self.decision.body_skip = skip;
                return;
            }
        };
        rules.retain(
            |(_, rule)| match scope.takes(&self.plan.response_rules[*rule]) {
                Ok(takes) => takes,
                Err(skip) => {
                    self.decision.body_skip = Some(skip);
                    false
                }
            },
        );
        let plan = self.plan;
        rules.retain(|(_, rule)| !self.is_spared(plan.response_rules[*rule].id));
        if rules.is_empty() {
            return;
        }
        let sight = self.sight();
        let value = |variable| {
            let mut value = Vec::new();
            sight.read(variable, &mut value);
            value
        };
        let values = self.plan.body_variables.iter().map(value).collect();
        self.decision.body = Some(BodyRules {
            plan: Arc::clone(self.plan),
            rules,
            values,
            encoding: scope.encoding,
            notes: None,
        });
    }

    fn is_spared(&mut self, rule: RuleId) -> bool {
        self.spares.as_mut().is_some_and(|spares| spares(rule))
    }

    fn pre_condition_holds(&mut self, rule: &ResponsePlan) -> bool {
        rule.pre_condition.is_none_or(|number| {
            self.conditions_hold(&self.plan.pre_conditions[number], Part::PreCondition)
        })
    }

    /// Whether the rule applied. A text that grows too long leaves the response as it is.
    fn apply(&mut self, rule: &ResponsePlan) -> Result<bool, TooLong> {
        self.work.begin_rule();
        self.watch.rule(rule.id);
        if !self.pre_condition_holds(rule) {
            return Ok(false);
        }
        let (mut values, exists) = self.subject(&rule.subject);
        let mut applied = false;
        for value in &mut values {
            if let Some(changed) = self.changed(rule, value, exists)? {
                *value = changed;
                applied = true;
            }
        }
        if applied && self.is_spared(rule.id) {
            return Ok(false);
        }
        if applied {
            if matches!(&rule.value, Some((_, replaces)) if *replaces || !exists) {
                self.change(&rule.subject, values);
            }
            self.decision.rules.push(rule.id);
            self.watch.acted(None);
        }
        Ok(applied)
    }

    /// The values to judge, and whether there is any: one empty value stands for a field that does not exist.
    fn subject(&self, subject: &SubjectPlan) -> (Vec<Vec<u8>>, bool) {
        let mut value = Vec::new();
        let exists = match subject {
            SubjectPlan::Field(name) if name == SET_COOKIE => {
                let lines = self.cookie_lines();
                if !lines.is_empty() {
                    return (lines, true);
                }
                false
            }
            SubjectPlan::Field(name) => self.sight().read_field(name, &mut value),
            // Judged as it comes, not here.
            SubjectPlan::Body(_) => return (Vec::new(), true),
            SubjectPlan::Status => {
                self.sight().read_status(&mut value);
                true
            }
        };
        (vec![value], exists)
    }

    fn cookie_lines(&self) -> Vec<Vec<u8>> {
        let changed = self.decision.fields.iter();
        let changed: Vec<_> = changed
            .filter(|change| change.name == SET_COOKIE)
            .map(|change| change.value.clone())
            .collect();
        if !changed.is_empty() {
            return changed;
        }
        let mut lines = Vec::new();
        let fields = self.response.fields;
        fields.values(SET_COOKIE, &mut |value| lines.push(value.to_vec()));
        lines
    }

    /// What the rule makes of one value; `None` if it does not apply to it.
    fn changed(
        &mut self,
        rule: &ResponsePlan,
        subject: &[u8],
        exists: bool,
    ) -> Result<Option<Vec<u8>>, TooLong> {
        self.work.begin_rule();
        let span = self.matched_span(rule, subject);
        let tested = Tested {
            input: Some(subject),
            pattern: Some(rule.pattern),
            holds: span.is_some(),
            reading: None,
        };
        self.watch.tested(Part::Match, &tested);
        let Some(span) = span else {
            return Ok(None);
        };
        if !self.conditions_hold(&rule.conditions, Part::Condition) {
            return Ok(None);
        }
        let mut changed = subject[..span.start].to_vec();
        match &rule.value {
            Some((value, replaces)) if *replaces || !exists => {
                self.expansion(&self.work.conditions)
                    .expand(value, &mut changed)?;
            }
            _ => changed.extend_from_slice(&subject[span.clone()]),
        }
        changed.extend_from_slice(&subject[span.end..]);
        Ok(Some(one_line(changed)))
    }

    /// Where the pattern matched, with its groups noted; the whole subject where it must be absent and is.
    fn matched_span(
        &mut self,
        rule: &ResponsePlan,
        subject: &[u8],
    ) -> Option<std::ops::Range<usize>> {
        let pattern = rule.pattern.of(&self.plan.patterns);
        let cache = &mut self.memory.patterns;
        let groups = &mut self.work.groups;
        match (
            pattern.captures(cache, subject, 0, groups),
            rule.pattern.negate,
        ) {
            (Matched::No, true) => Some(0..subject.len()),
            (Matched::Yes, false) => {
                self.work
                    .url
                    .resize_with(self.work.url.len().max(1), Default::default);
                let (matched, captures) = &mut self.work.url[0];
                *matched = true;
                for group in 0..=pattern.group_count() {
                    captures.push(groups.get(group).map_or(&[], |span| &subject[span]));
                }
                groups.get(0)
            }
            _ => None,
        }
    }

    fn conditions_hold(&mut self, plan: &ConditionsPlan, part: fn(usize) -> Part) -> bool {
        let mut tracked = std::mem::take(&mut self.work.conditions);
        let mut input = std::mem::take(&mut self.work.input);
        let holds = conditions_hold(plan, &mut tracked, |number, tracked, wanted| {
            let condition = &plan.list[number];
            input.clear();
            let expanded = match &condition.input {
                Input::Own(text) => self.expansion(tracked).expand(text, &mut input),
                Input::Shared(number) => self
                    .expansion(tracked)
                    .expand(&self.plan.inputs[*number], &mut input),
            };
            let mut tester = Tester {
                patterns: &self.plan.patterns,
                cache: &mut self.memory.patterns,
                groups: &mut self.work.groups,
                when_out_of_steps: false,
            };
            let input = expanded.map(|()| input.as_slice());
            let files = self.plan.files.as_deref();
            let holds = input_passes(&condition.test, input, wanted, &mut tester, files);
            let tested = Tested {
                input: input.ok(),
                pattern: condition.test.pattern(),
                holds,
                reading: None,
            };
            self.watch.tested(part(number), &tested);
            holds
        });
        self.work.conditions = tracked;
        self.work.input = input;
        holds
    }

    fn change(&mut self, subject: &SubjectPlan, values: Vec<Vec<u8>>) {
        match subject {
            SubjectPlan::Body(_) => {}
            SubjectPlan::Field(name) => {
                self.decision.fields.retain(|change| change.name != *name);
                let changes = values.into_iter().map(|value| FieldChange {
                    name: name.clone(),
                    value,
                });
                self.decision.fields.extend(changes);
            }
            SubjectPlan::Status => {
                // What does not begin with a final status code cannot be sent and changes nothing.
                let line = values.into_iter().next().unwrap_or_default();
                let digits = line
                    .get(..3)
                    .and_then(|digits| std::str::from_utf8(digits).ok());
                let status = digits.and_then(|digits| digits.parse().ok());
                if let Some(status) = status.filter(|status: &u16| *status >= 200) {
                    self.decision.status = Some(status);
                    self.status_line = Some(line);
                }
            }
        }
    }

    fn sight(&self) -> ResponseSight<'_> {
        ResponseSight {
            plan: self.plan,
            request: self.request,
            response: self.response,
            decision: &self.decision,
            status_line: self.status_line.as_deref(),
        }
    }

    fn expansion<'e>(&'e self, conditions: &'e Captures) -> ResponseExpansion<'e> {
        ResponseExpansion {
            sight: self.sight(),
            rule: self.work.url.first().map(|(_, captures)| captures),
            conditions,
        }
    }
}

/// The parts of an [`Expansion`] that owns what it reads.
struct ResponseExpansion<'e> {
    sight: ResponseSight<'e>,
    rule: Option<&'e Captures>,
    conditions: &'e Captures,
}

impl ResponseExpansion<'_> {
    fn expand(&self, text: &super::template::Bound, out: &mut Vec<u8>) -> Result<(), TooLong> {
        static NONE: Captures = Captures::NONE;
        let expansion = Expansion {
            sight: &self.sight,
            maps: &self.sight.plan.maps,
            rule: self.rule.unwrap_or(&NONE),
            conditions: self.conditions,
        };
        expansion.expand(text, out)
    }
}
