//! The obvious matcher: every rule in its order. Others are measured against it.

use super::act::{self, Flow};
use super::condition::{Tester, conditions_hold, input_passes};
use super::watch::{Part, Reading, Tested, Unwatched, Watch};
use crate::canon::path_has_prefix;
use crate::rules::pattern::PatternCache;
use crate::rules::plan::{Group, Input, Plan, RequestPlan};
use crate::rules::recent::Recent;
use crate::rules::scratch::{SetMemory, Work};
use crate::rules::state::{RequestSight, State};
use crate::rules::template::{Captures, Expansion, TooLong};
use crate::rules::{Decision, RequestView, RuleId, Verdict};

/// One request under judgement.
pub(crate) struct Judge<'a, W = Unwatched> {
    pub(crate) plan: &'a Plan,
    pub(crate) request: &'a RequestView<'a>,
    pub(crate) state: &'a mut State,
    pub(crate) work: &'a mut Work,
    pub(crate) memory: &'a mut SetMemory,
    pub(crate) recent: &'a mut Recent,
    /// Asked of each rule that applies, whether it is to let the request pass all the same.
    pub(crate) spares: Option<&'a mut (dyn FnMut(RuleId) -> bool + 'a)>,
    pub(crate) watch: W,
}

/// What follows one rule.
pub(super) enum Step {
    /// Nothing: the request is decided.
    Decided(Decision),
    /// The first rule of the next list.
    EndOfList,
    /// The next rule.
    Next,
}

impl<W: Watch> Judge<'_, W> {
    /// Judges the request, of which `state` has been begun and seen.
    pub(crate) fn judge(mut self) -> Decision {
        let mut last = None;
        for group in &self.plan.groups {
            for list in &group.lists {
                for rule in &self.plan.request_rules[list.clone()] {
                    match self.step(group, rule, &mut last) {
                        Step::Decided(decision) => return decision,
                        Step::EndOfList => break,
                        Step::Next => {}
                    }
                }
            }
        }
        self.finish(last)
    }

    /// Judges by one rule; `last` is the last rule that acted.
    pub(super) fn step(
        &mut self,
        group: &Group,
        rule: &RequestPlan,
        last: &mut Option<RuleId>,
    ) -> Step {
        self.watch.rule(rule.id);
        if !self.applies(group, rule) {
            return Step::Next;
        }
        if let Some(spares) = &mut self.spares
            && spares(rule.id)
        {
            return Step::Next;
        }
        let flow = act::act(self, group, rule);
        self.watch.acted(flow.failure());
        match flow {
            Flow::Continue => *last = Some(rule.id),
            Flow::End(verdict) => {
                return Step::Decided(self.decide(verdict, Some(rule.id), None));
            }
            Flow::Fail(substatus) => {
                return Step::Decided(self.decide(Verdict::Pass, *last, Some(substatus)));
            }
        }
        if rule.stop_processing {
            Step::EndOfList
        } else {
            Step::Next
        }
    }

    /// What a request comes to that no rule stopped.
    pub(super) fn finish(&self, last: Option<RuleId>) -> Decision {
        let verdict = match self.state.wire_target() {
            Some(target) => Verdict::Rewrite { target },
            None => Verdict::Pass,
        };
        self.decide(verdict, last, None)
    }

    fn decide(&self, verdict: Verdict, rule: Option<RuleId>, failure: Option<u16>) -> Decision {
        if self.state.is_untouched() {
            return Decision {
                verdict,
                rule,
                failure,
                ..Decision::PASS
            };
        }
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let variables = self.state.variables.iter();
        Decision {
            verdict,
            rule,
            fields: self.state.fields.clone(),
            variables: variables
                .map(|(name, _, value)| (name.clone(), text(value)))
                .collect(),
            failure,
        }
    }

    /// Whether scope, URL and conditions let the rule act.
    fn applies(&mut self, group: &Group, rule: &RequestPlan) -> bool {
        self.work.begin_rule();
        let views = if rule.hardened {
            self.state.view_count()
        } else {
            1
        };
        self.url_matches(group, rule, views)
            && (rule.conditions.list.is_empty() || self.conditions_hold(rule, views))
    }

    /// Tests the URL in each view, and notes the views it matched in with their groups.
    fn url_matches(&mut self, group: &Group, rule: &RequestPlan, views: usize) -> bool {
        let mut any = false;
        self.work
            .url
            .resize_with(views.max(self.work.url.len()), Default::default);
        for view in 0..views {
            let path = self.state.current().view(view).path();
            let Some(input) = relative(path, &group.scope) else {
                continue;
            };
            let mut tester = Tester {
                patterns: &self.plan.patterns,
                cache: &mut self.memory.patterns,
                groups: &mut self.work.groups,
                when_out_of_steps: rule.refuses,
            };
            let (matched, captures) = &mut self.work.url[view];
            *matched = match rule.url {
                Some(test) => tester.holds(test, input, rule.reads_rule_groups.then_some(captures)),
                None => {
                    captures.push(input);
                    true
                }
            };
            any |= *matched;
            let tested = Tested {
                input: Some(input),
                pattern: rule.url,
                holds: *matched,
                reading: Some(Reading {
                    sight: &sight(self.plan, self.request, self.state, view),
                    text: None,
                }),
            };
            self.watch.tested(Part::Match, &tested);
        }
        any
    }

    fn conditions_hold(&mut self, rule: &RequestPlan, views: usize) -> bool {
        let mut tracked = std::mem::take(&mut self.work.conditions);
        let holds = conditions_hold(
            &rule.conditions,
            &mut tracked,
            |number, tracked, mut wanted| {
                let condition = &rule.conditions.list[number];
                let views = if condition.over_views { views } else { 1 };
                (0..views).any(|view| {
                    self.condition_holds(rule, number, view, tracked, wanted.as_deref_mut())
                })
            },
        );
        self.work.conditions = tracked;
        holds
    }

    fn condition_holds(
        &mut self,
        rule: &RequestPlan,
        number: usize,
        view: usize,
        tracked: &Captures,
        wanted: Option<&mut Captures>,
    ) -> bool {
        let condition = &rule.conditions.list[number];
        let shared = match &condition.input {
            Input::Own(_) => 0,
            Input::Shared(number) => self.refresh(*number, view),
        };
        let sight = sight(self.plan, self.request, self.state, view);
        let expansion = Expansion {
            sight: &sight,
            maps: &self.plan.maps,
            rule: url_groups(&self.work.url, view),
            conditions: tracked,
        };
        let (text, input) = match &condition.input {
            Input::Own(text) => {
                self.work.input.clear();
                let expanded = expansion.expand(text, &mut self.work.input);
                (text, expanded.map(|()| self.work.input.as_slice()))
            }
            Input::Shared(number) => {
                let value = &self.memory.inputs[shared];
                let input = value.outcome.map(|()| value.text.as_slice());
                (&self.plan.inputs[*number], input)
            }
        };
        let mut tester = Tester {
            patterns: &self.plan.patterns,
            cache: &mut self.memory.patterns,
            groups: &mut self.work.groups,
            when_out_of_steps: rule.refuses,
        };
        let files = self.plan.files.as_deref();
        let holds = input_passes(&condition.test, input, wanted, &mut tester, files);
        let tested = Tested {
            input: input.ok(),
            pattern: condition.test.pattern(),
            holds,
            reading: Some(Reading {
                sight: &sight,
                text: Some((text, &expansion)),
            }),
        };
        self.watch.tested(Part::Condition(number), &tested);
        holds
    }

    /// Calls `find` with the value of one of the plan's inputs in one view, and with what patterns are searched with; a value
    /// that stands somewhere already is not copied.
    #[inline]
    pub(super) fn with_shared_input(
        &mut self,
        number: usize,
        view: usize,
        find: impl FnOnce(&[u8], &mut PatternCache),
    ) -> Result<(), TooLong> {
        let sight = sight(self.plan, self.request, self.state, view);
        if let Some(lent) = self.plan.inputs[number].lent(&|variable| sight.lend(variable)) {
            find(lent, &mut self.memory.patterns);
            return Ok(());
        }
        let at = self.refresh(number, view);
        let SetMemory {
            inputs, patterns, ..
        } = &mut *self.memory;
        inputs[at].outcome?;
        find(&inputs[at].text, patterns);
        Ok(())
    }

    /// Sees to it that an input has its value as the request is now, and says where.
    fn refresh(&mut self, number: usize, view: usize) -> usize {
        let at = view * self.plan.inputs.len() + number;
        let values = &mut self.memory.inputs;
        values.resize_with(values.len().max(at + 1), Default::default);
        let value = &mut values[at];
        if value.epoch != self.state.epoch {
            let expansion = Expansion {
                sight: &sight(self.plan, self.request, self.state, view),
                maps: &self.plan.maps,
                rule: &Captures::NONE,
                conditions: &Captures::NONE,
            };
            value.epoch = self.state.epoch;
            value.text.clear();
            value.outcome = expansion.expand(&self.plan.inputs[number], &mut value.text);
        }
        at
    }

    /// Expands a text of the rule's action.
    pub(super) fn expand(&self, text: &crate::rules::template::Bound) -> Result<Vec<u8>, TooLong> {
        let expansion = Expansion {
            sight: &sight(self.plan, self.request, self.state, 0),
            maps: &self.plan.maps,
            rule: url_groups(&self.work.url, 0),
            conditions: &self.work.conditions,
        };
        let mut out = Vec::new();
        expansion.expand(text, &mut out).map(|()| out)
    }
}

/// What variables read in one view.
fn sight<'s>(
    plan: &'s Plan,
    request: &'s RequestView<'s>,
    state: &'s State,
    view: usize,
) -> RequestSight<'s> {
    RequestSight {
        request,
        state,
        view,
        document_root: plan.document_root.as_deref().unwrap_or_default(),
    }
}

/// The groups of the URL in this view; those of the first view that matched, if this one did not.
fn url_groups(url: &[(bool, Captures)], view: usize) -> &Captures {
    static NONE: Captures = Captures::NONE;
    match url.get(view) {
        Some((true, captures)) => captures,
        _ => url
            .iter()
            .find(|(matched, _)| *matched)
            .map_or(&NONE, |(_, captures)| captures),
    }
}

/// What `<match url>` sees of a path: relative to the scope, without a leading slash. `None` outside the scope.
pub(super) fn relative<'p>(path: &'p [u8], scope: &[u8]) -> Option<&'p [u8]> {
    if !path_has_prefix(path, scope) {
        return None;
    }
    let path = &path[scope.len()..];
    Some(path.strip_prefix(b"/").unwrap_or(path))
}
