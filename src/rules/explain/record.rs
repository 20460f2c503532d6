//! Writes down what the matcher shows of itself.

use super::{ExplainedConditions, ExplainedInput, ExplainedRule, ExplainedTest, RuleEnd};
use crate::canon::{Decoding, split_target};
use crate::rules::body::{Note, TestNote};
use crate::rules::matcher::{Part, Reading, Tested, Watch};
use crate::rules::pattern::{Groups, Matched, PatternCache};
use crate::rules::plan::PatternTest;
use crate::rules::state::RequestSight;
use crate::rules::template::{Expansion, Sight, Variable};
use crate::rules::{RuleId, RuleSet};

/// Fills in the inputs and ends of rules while they are judged.
pub(super) struct Recorder<'r> {
    set: &'r RuleSet,
    rules: Vec<ExplainedRule>,
    current: usize,
    cache: PatternCache,
    groups: Groups,
}

impl<'r> Recorder<'r> {
    pub(super) fn new(set: &'r RuleSet, rules: Vec<ExplainedRule>) -> Self {
        Self {
            set,
            rules,
            current: 0,
            cache: PatternCache::default(),
            groups: Groups::default(),
        }
    }

    pub(super) fn finish(self) -> Vec<ExplainedRule> {
        self.rules
    }

    /// These rules judge the body: none of them has matched yet.
    pub(super) fn body_judged(&mut self, rules: impl Iterator<Item = RuleId>) {
        for rule in rules {
            self.rules[rule.0 as usize].end = RuleEnd::Match;
        }
    }

    /// Every other rule that waits for the body waits in vain.
    pub(super) fn body_passes(&mut self) {
        let waiting = self.rules.iter_mut();
        for rule in waiting.filter(|rule| rule.end == RuleEnd::AwaitsBody) {
            rule.end = RuleEnd::BodyPasses;
        }
    }

    /// Takes down what judging the body came to.
    pub(super) fn body(&mut self, notes: Vec<Note>) {
        for note in notes {
            match note {
                Note::Acted(rule) => self.rules[rule.0 as usize].end = RuleEnd::Applied,
                Note::Tested(test) => self.body_test(test),
            }
        }
    }

    fn body_test(&mut self, test: TestNote) {
        let rule = &mut self.rules[test.rule.0 as usize];
        let has_applied = rule.end == RuleEnd::Applied;
        if let Some(told) = test_of(rule, test.part) {
            told.inputs.push(ExplainedInput {
                place: test.place,
                decoding: None,
                sent: None,
                value: test.value,
                span: test.span,
                out_of_steps: test.out_of_steps,
                holds: test.holds,
            });
        }
        if !has_applied {
            rule.end = end(rule);
        }
    }

    /// Where the pattern matched, and whether its budget ran out: the matcher itself notes no more than it needs.
    fn locate(
        &mut self,
        test: PatternTest,
        input: &[u8],
    ) -> (Option<std::ops::Range<usize>>, bool) {
        let pattern = self.set.pattern(test);
        match pattern.captures(&mut self.cache, input, 0, &mut self.groups) {
            Matched::No => (None, false),
            Matched::OutOfSteps => (None, true),
            Matched::Yes => (self.groups.get(0), false),
        }
    }
}

impl Watch for &mut Recorder<'_> {
    fn rule(&mut self, rule: RuleId) {
        self.current = rule.0 as usize;
        let rule = &mut self.rules[self.current];
        // Until a test says otherwise: without one, the scope kept the URL from being tested.
        rule.end = RuleEnd::OutOfScope;
    }

    fn tested(&mut self, part: Part, tested: &Tested<'_>) {
        let (span, out_of_steps) = match (tested.pattern, tested.input) {
            (Some(test), Some(input)) => self.locate(test, input),
            _ => (None, false),
        };
        let reading = tested.reading.as_ref();
        let input = ExplainedInput {
            place: None,
            decoding: reading.and_then(decoding),
            sent: reading
                .and_then(sent)
                .filter(|sent| Some(sent.as_slice()) != tested.input),
            value: tested.input.map(<[u8]>::to_vec),
            span,
            out_of_steps,
            holds: tested.holds,
        };
        let rule = &mut self.rules[self.current];
        if let Some(test) = test_of(rule, part) {
            test.inputs.push(input);
        }
        rule.end = end(rule);
    }

    fn awaits_body(&mut self) {
        self.rules[self.current].end = RuleEnd::AwaitsBody;
    }

    fn acted(&mut self, failure: Option<u16>) {
        self.rules[self.current].end = failure.map_or(RuleEnd::Applied, RuleEnd::Failed);
    }
}

fn test_of(rule: &mut ExplainedRule, part: Part) -> Option<&mut ExplainedTest> {
    match part {
        Part::Condition(number) => rule.conditions.list.get_mut(number),
        Part::Match => Some(&mut rule.subject),
        Part::PreCondition(number) => {
            let (_, conditions) = rule.pre_condition.as_mut()?;
            conditions.list.get_mut(number)
        }
    }
}

/// How judgement would end if nothing more came: each test that fails later overrides one that held.
fn end(rule: &ExplainedRule) -> RuleEnd {
    if let Some((_, conditions)) = &rule.pre_condition
        && first_failed(conditions).is_some()
    {
        return RuleEnd::PreCondition;
    }
    if !holds(&rule.subject) {
        return RuleEnd::Match;
    }
    first_failed(&rule.conditions).unwrap_or(RuleEnd::Match)
}

fn holds(test: &ExplainedTest) -> bool {
    test.inputs.iter().any(|input| input.holds)
}

fn first_failed(conditions: &ExplainedConditions) -> Option<RuleEnd> {
    if conditions.any {
        let none_holds = !conditions.is_empty() && !conditions.iter().any(holds);
        return none_holds.then_some(RuleEnd::Conditions);
    }
    let failed = conditions
        .iter()
        .position(|test| !test.inputs.is_empty() && !holds(test));
    failed.map(RuleEnd::Condition)
}

/// The view of an input that differs between views.
fn decoding(reading: &Reading<'_>) -> Option<Decoding> {
    if let Some((text, _)) = reading.text {
        let reads = text.reads();
        if !reads.target && reads.rule_group.is_none() {
            return None;
        }
    }
    let sight = reading.sight;
    sight.state.current().view(sight.view).decoding()
}

/// What the input was before decoding; `None` for one that is never decoded.
fn sent(reading: &Reading<'_>) -> Option<Vec<u8>> {
    let as_sent = AsSent(reading.sight);
    let mut sent = Vec::new();
    match reading.text {
        None => {
            as_sent.read(&Variable::Url, &mut sent);
            // `<match url>` has no leading slash.
            if sent.first() == Some(&b'/') {
                sent.remove(0);
            }
        }
        Some((text, expansion)) => {
            if !text.reads().target {
                return None;
            }
            let expansion = Expansion {
                sight: &as_sent,
                ..*expansion
            };
            expansion.expand(text, &mut sent).ok()?;
        }
    }
    Some(sent)
}

/// Reads the target before it was decoded, and everything else as rules do.
struct AsSent<'s>(&'s RequestSight<'s>);

impl Sight for AsSent<'_> {
    fn read(&self, variable: &Variable, out: &mut Vec<u8>) {
        let (original, current) = (&self.0.state.original, self.0.state.current());
        let sent = match variable {
            _ if self.0.state.variable(variable).is_some() => None,
            Variable::HttpUrl => Some(current.raw()),
            Variable::QueryString => Some(split_target(current.raw()).1.unwrap_or_default()),
            Variable::RequestUri | Variable::UnencodedUrl => Some(original.raw()),
            Variable::Url => Some(split_target(current.raw()).0),
            _ => None,
        };
        match sent {
            Some(sent) => out.extend_from_slice(sent),
            None => self.0.read(variable, out),
        }
    }
}
