//! The matcher in use: judges only the rules whose required texts are in the request, in their order.
//!
//! What it leaves out is what [`linear`](super::linear) would find not to apply, and a rule that does not apply changes
//! nothing; so both decide alike.

use std::collections::BTreeMap;
use std::ops::Range;

use super::gate::{Gate, GateBuilder, Requirement, Seen};
use super::linear::{Judge, Step};
use crate::rules::pattern::{Many, ManyBuilder, ManyMemory};
use crate::rules::plan::{Input, PatternTest, Plan, RequestPlan, TestPlan};
use crate::rules::{Decision, RuleId};

/// The longest input whose scan is remembered, in bytes.
const MAX_REMEMBERED: usize = 16 * 1024;

/// Which rules to judge for which request.
#[derive(Debug, Default)]
pub(crate) struct Index {
    gates: Vec<InputGate>,
    /// Rules of which nothing can be said without judging them, in ascending order.
    always: Vec<u32>,
    lists: Vec<List>,
    /// For each rule, the number of its list.
    list_of: Vec<u32>,
}

/// Rules that `stopProcessing` ends together.
#[derive(Debug)]
struct List {
    rules: Range<usize>,
    group: usize,
}

/// The input that a gate looks into. Url first: it is the cheapest to have.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Source {
    Url,
    /// Its number among the plan's inputs.
    Shared(usize),
}

#[derive(Debug)]
struct InputGate {
    source: Source,
    over_views: bool,
    gate: Gate,
    /// Rules that require no text.
    tail: Many,
    /// The longest input for which each rule's verdict is known from its texts; beyond that linear judging may refuse
    /// for the length alone.
    longest: Vec<(u32, usize)>,
    /// The least of them.
    least: usize,
}

/// What makes a request be judged by a rule.
#[derive(Debug)]
pub(crate) enum Selection<'i> {
    /// Every request is.
    Always,
    /// Its pattern is met, with others as one program.
    Bits,
    /// One of so many texts is in the input.
    Texts { first: &'i [u8], count: usize },
}

/// What one worker remembers for one index.
#[derive(Debug, Default)]
pub(crate) struct IndexMemory {
    inputs: Vec<InputMemory>,
    /// The rules found, in ascending order.
    found: Vec<u32>,
}

/// The last scan of one input, since connections repeat their fields.
#[derive(Debug, Default)]
struct InputMemory {
    seen: Seen,
    tail: ManyMemory,
    is_set: bool,
    text: Vec<u8>,
    found: Vec<u32>,
}

impl Index {
    /// The index of a plan's request rules.
    pub(crate) fn new(plan: &Plan, requirements: Vec<Option<Requirement>>) -> Self {
        let mut index = Self::default();
        for (group, rules) in plan.groups.iter().enumerate() {
            for list in &rules.lists {
                let number = index.lists.len() as u32;
                index.list_of.extend(list.clone().map(|_| number));
                index.lists.push(List {
                    rules: list.clone(),
                    group,
                });
            }
        }
        let mut builders = BTreeMap::new();
        for (number, rule) in (0..).zip(&plan.request_rules) {
            if !index.add(number, rule, plan, &requirements, &mut builders) {
                index.always.push(number);
            }
        }
        drop(requirements);
        let used = |(_, builder): &(Source, InputGateBuilder)| !builder.longest.is_empty();
        index.gates = builders
            .into_iter()
            .filter(used)
            .map(|(source, builder)| builder.build(source))
            .collect();
        index
    }

    /// Adds a rule to the gate of the input it requires the rarest text of, and to the tail of some input if it requires
    /// none; `false` if nothing can be said.
    fn add(
        &self,
        number: u32,
        rule: &RequestPlan,
        plan: &Plan,
        requirements: &[Option<Requirement>],
        builders: &mut BTreeMap<Source, InputGateBuilder>,
    ) -> bool {
        let best = tests(rule)
            .filter(|(_, _, test)| !test.negate)
            .filter_map(|(source, over_views, test)| {
                let Requirement { clause, cost } = requirements[test.pattern as usize].as_ref()?;
                let longest = test.of(&plan.patterns).longest_input();
                Some((*cost, source, over_views, clause, longest))
            })
            .min_by(|one, other| one.0.total_cmp(&other.0));
        let Some((_, source, over_views, clause, longest)) = best else {
            // Conditions first: the URL is mostly matched by a pattern that takes all.
            let tests: Vec<_> = tests(rule).collect();
            return tests.into_iter().rev().any(|(source, over_views, test)| {
                let pattern = test.of(&plan.patterns);
                if test.negate {
                    return false;
                }
                let builder = builders
                    .entry(source)
                    .or_insert_with(|| InputGateBuilder::new(source));
                let added = builder.tail.add(&pattern.tree(), number);
                if added {
                    builder.over_views |= over_views;
                    builder.longest.push((number, pattern.longest_input()));
                }
                added
            });
        };
        let builder = builders
            .entry(source)
            .or_insert_with(|| InputGateBuilder::new(source));
        builder.over_views |= over_views;
        builder.longest.push((number, longest));
        builder.gate.add(number, clause);
        true
    }

    /// Judges the request, of which the state has been begun.
    pub(crate) fn judge(&self, mut judge: Judge<'_>) -> Decision {
        let mut memory = std::mem::take(&mut judge.memory.index);
        let decision = self.judge_candidates(&mut judge, &mut memory);
        judge.memory.index = memory;
        decision
    }

    fn judge_candidates(&self, judge: &mut Judge<'_>, memory: &mut IndexMemory) -> Decision {
        let mut last: Option<RuleId> = None;
        let mut epoch = judge.state.epoch;
        self.select(judge, memory);
        let (mut always, mut found, mut from) = (0, 0, 0);
        while let Some(number) = {
            let always = next(&self.always, &mut always, from);
            let found = next(&memory.found, &mut found, from);
            always.into_iter().chain(found).min()
        } {
            let list = &self.lists[self.list_of[number as usize] as usize];
            let group = &judge.plan.groups[list.group];
            let rule = &judge.plan.request_rules[number as usize];
            from = number + 1;
            match judge.step(group, rule, &mut last) {
                Step::Decided(decision) => return decision,
                Step::EndOfList => from = list.rules.end as u32,
                Step::Next => {}
            }
            // What a rule changed, the texts of those behind it may lie in.
            if epoch != judge.state.epoch {
                epoch = judge.state.epoch;
                self.select(judge, memory);
                found = 0;
            }
        }
        judge.finish(last)
    }

    /// Finds the rules that are to be judged as the request is now, beside those that always are.
    fn select(&self, judge: &mut Judge<'_>, memory: &mut IndexMemory) {
        memory.found.clear();
        memory
            .inputs
            .resize_with(self.gates.len(), InputMemory::default);
        for (gate, remembered) in self.gates.iter().zip(&mut memory.inputs) {
            let views = match gate.source {
                _ if !gate.over_views => 1,
                Source::Url => judge.state.current().len(),
                Source::Shared(_) => judge.state.view_count(),
            };
            for view in 0..views {
                let Some(input) = read(gate.source, view, judge) else {
                    memory
                        .found
                        .extend(gate.longest.iter().map(|(rule, _)| *rule));
                    break;
                };
                remembered.scan(gate, input, view, &mut memory.found);
            }
        }
        memory.found.sort_unstable();
        memory.found.dedup();
    }

    /// What makes each rule be judged, in the order of rules.
    pub(crate) fn selections(&self) -> Vec<Selection<'_>> {
        let mut all: Vec<_> = self.list_of.iter().map(|_| Selection::Bits).collect();
        for rule in &self.always {
            all[*rule as usize] = Selection::Always;
        }
        for gate in &self.gates {
            gate.gate.each(&mut |text, rule| {
                let selection = &mut all[rule as usize];
                match selection {
                    Selection::Texts { count, .. } => *count += 1,
                    _ => {
                        *selection = Selection::Texts {
                            first: text,
                            count: 1,
                        };
                    }
                }
            });
        }
        all
    }

    /// About how many bytes it occupies.
    pub(crate) fn memory(&self) -> usize {
        let gates = self.gates.iter().map(|gate| {
            size_of::<InputGate>()
                + gate.gate.memory()
                + gate.tail.memory()
                + size_of_val(gate.longest.as_slice())
        });
        gates.sum::<usize>()
            + size_of_val(self.always.as_slice())
            + size_of_val(self.lists.as_slice())
            + size_of_val(self.list_of.as_slice())
    }
}

/// The tests that must all hold for a rule to apply, on inputs that every rule sees alike; whether each view has one.
fn tests(rule: &RequestPlan) -> impl Iterator<Item = (Source, bool, PatternTest)> {
    let url = rule.url.map(|test| (Source::Url, rule.hardened, test));
    let conditions = rule.conditions.list.iter();
    let all = !rule.conditions.any || rule.conditions.list.len() == 1;
    let conditions = conditions.filter(move |_| all).filter_map(|condition| {
        match (&condition.input, &condition.test) {
            (Input::Shared(number), TestPlan::Pattern(test)) => {
                Some((Source::Shared(*number), condition.over_views, *test))
            }
            _ => None,
        }
    });
    url.into_iter().chain(conditions)
}

/// The input in one view; `None` when it is too long to be expanded, which counts for rules that refuse.
fn read<'j>(source: Source, view: usize, judge: &'j mut Judge<'_>) -> Option<&'j [u8]> {
    match source {
        Source::Shared(number) => judge.shared_input(number, view).ok(),
        Source::Url => Some(judge.state.current().view(view).path()),
    }
}

/// The first number of a sorted list that is not below `from`, looked for from a place on that only moves on.
fn next(numbers: &[u32], at: &mut usize, from: u32) -> Option<u32> {
    while let Some(number) = numbers.get(*at) {
        if *number >= from {
            return Some(*number);
        }
        *at += 1;
    }
    None
}

#[derive(Debug)]
struct InputGateBuilder {
    over_views: bool,
    gate: GateBuilder,
    tail: ManyBuilder,
    longest: Vec<(u32, usize)>,
}

impl InputGateBuilder {
    fn new(source: Source) -> Self {
        Self {
            over_views: false,
            gate: GateBuilder::default(),
            // A rule sees the path from its scope on.
            tail: ManyBuilder::new(source != Source::Url),
            longest: Vec::new(),
        }
    }

    fn build(self, source: Source) -> InputGate {
        let least = self.longest.iter().map(|(_, longest)| *longest).min();
        InputGate {
            source,
            over_views: self.over_views,
            gate: self.gate.build(),
            tail: self.tail.build(),
            least: least.unwrap_or(usize::MAX),
            longest: self.longest,
        }
    }
}

impl InputMemory {
    /// Appends the rules that an input in one view asks to be judged.
    fn scan(&mut self, gate: &InputGate, input: &[u8], view: usize, found: &mut Vec<u32>) {
        if input.len() > gate.least {
            let longer = gate.longest.iter();
            let longer = longer.filter(|(_, longest)| input.len() > *longest);
            found.extend(longer.map(|(rule, _)| *rule));
        }
        if self.is_set && self.text == input {
            // A further view that is the same finds the same rules.
            if view == 0 {
                found.extend_from_slice(&self.found);
            }
            return;
        }
        if view > 0 || input.len() > MAX_REMEMBERED {
            self.is_set &= view > 0;
            gate.gate.scan(input, &mut self.seen, found);
            gate.tail.scan(input, &mut self.tail, found);
            return;
        }
        self.found.clear();
        gate.gate.scan(input, &mut self.seen, &mut self.found);
        gate.tail.scan(input, &mut self.tail, &mut self.found);
        self.text.clear();
        self.text.extend_from_slice(input);
        self.is_set = true;
        found.extend_from_slice(&self.found);
    }
}
