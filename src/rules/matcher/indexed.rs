//! The matcher in use: judges only the rules whose required texts are in the request, in their order.
//!
//! What it leaves out is what [`linear`](super::linear) would find not to apply, and a rule that does not apply changes
//! nothing; so both decide alike. A rule whose text is there is left out all the same if bits tell that the pattern which
//! asks for the text does not match: a text that nearly all of a pattern follows is what hostile requests are full of.

use std::collections::BTreeMap;
use std::ops::Range;

use super::gate::{Gate, GateBuilder, Hit, Requirement, Seen};
use super::linear::{Judge, Step, relative};
use crate::rules::pattern::{Clue, Many, ManyBuilder, ManyMemory, PatternCache};
use crate::rules::plan::{Input, PatternTest, Plan, RequestPlan, TestPlan};
use crate::rules::recent::Recent;
use crate::rules::template::{TooLong, Variable};
use crate::rules::{Decision, RuleId};

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

/// What tells, while no rule has changed anything, that an input asks for the rules it asked for before.
#[derive(Debug)]
enum Key {
    /// The field of this name, of which alone the input is made.
    Field(String),
    /// Nothing does.
    None,
    /// The request target, of which alone the input is made.
    Target,
    /// The input itself, which is the field of this name if there is one.
    Value(Option<String>),
}

#[derive(Debug)]
struct InputGate {
    /// The first rule that it selects; gates stand in this order, since those of later rules may not be needed.
    first: u32,
    source: Source,
    key: Key,
    over_views: bool,
    /// The texts of members, by their number.
    gate: Gate,
    /// Rules that require no text.
    tail: Many,
    members: Vec<Member>,
    /// The least of what is the longest input for each.
    least: usize,
}

/// A rule that the input of a gate selects.
#[derive(Debug)]
struct Member {
    rule: u32,
    /// The pattern that the input must match for the rule to apply.
    pattern: u32,
    /// The longest input for which its verdict is known from its texts; beyond that linear judging may refuse for the
    /// length alone.
    longest: usize,
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
    /// How many gates were looked into, as the request is now.
    scanned: usize,
    /// The first rule that was not judged yet.
    from: u32,
    /// How far the rules found, and those that always are judged, were gone through.
    at_found: usize,
    at_always: usize,
}

impl IndexMemory {
    /// Begins with a request.
    fn begin(&mut self, gates: usize) {
        self.inputs.resize_with(gates, InputMemory::default);
        (self.from, self.at_always) = (0, 0);
        self.forget();
    }

    /// Forgets what was found, since the request was changed.
    fn forget(&mut self) {
        self.found.clear();
        (self.scanned, self.at_found) = (0, 0);
    }
}

/// What one input is scanned with.
#[derive(Debug, Default)]
struct InputMemory {
    seen: Seen,
    hits: Vec<Hit>,
    tail: ManyMemory,
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
        let used = |(_, builder): &(Source, InputGateBuilder)| !builder.members.is_empty();
        index.gates = builders
            .into_iter()
            .filter(used)
            .map(|(source, builder)| builder.build(source, plan))
            .collect();
        index.gates.sort_by_key(|gate| gate.first);
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
                Some((*cost, source, over_views, clause, test))
            })
            .min_by(|one, other| one.0.total_cmp(&other.0));
        let member = |test: PatternTest| Member {
            rule: number,
            pattern: test.pattern,
            longest: test.of(&plan.patterns).longest_input(),
        };
        let Some((_, source, over_views, clause, test)) = best else {
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
                    builder.members.push(member(test));
                }
                added
            });
        };
        let builder = builders
            .entry(source)
            .or_insert_with(|| InputGateBuilder::new(source));
        builder.over_views |= over_views;
        builder.gate.add(builder.members.len() as u32, clause);
        builder.members.push(member(test));
        true
    }

    /// Judges the request, of which the state has been begun.
    pub(crate) fn judge(&self, mut judge: Judge<'_>) -> Decision {
        let mut memory = std::mem::take(&mut judge.memory.index);
        memory.begin(self.gates.len());
        let decision = match self.next(&mut judge, &mut memory) {
            None => judge.finish(None),
            Some(number) => self.judge_candidates(number, &mut judge, &mut memory),
        };
        judge.memory.index = memory;
        decision
    }

    /// Judges by the rules that are selected, of which this is the first.
    fn judge_candidates(
        &self,
        first: u32,
        judge: &mut Judge<'_>,
        memory: &mut IndexMemory,
    ) -> Decision {
        let mut last: Option<RuleId> = None;
        let mut epoch = judge.state.epoch;
        judge.state.see();
        let mut candidate = Some(first);
        while let Some(number) = candidate {
            let list = &self.lists[self.list_of[number as usize] as usize];
            let group = &judge.plan.groups[list.group];
            let rule = &judge.plan.request_rules[number as usize];
            memory.from = number + 1;
            match judge.step(group, rule, &mut last) {
                Step::Decided(decision) => return decision,
                Step::EndOfList => memory.from = list.rules.end as u32,
                Step::Next => {}
            }
            // What a rule changed, the texts of those behind it may lie in.
            if epoch != judge.state.epoch {
                epoch = judge.state.epoch;
                memory.forget();
            }
            candidate = self.next(judge, memory);
        }
        judge.finish(last)
    }

    /// The next rule that is to be judged as the request is now.
    fn next(&self, judge: &mut Judge<'_>, memory: &mut IndexMemory) -> Option<u32> {
        let always = next(&self.always, &mut memory.at_always, memory.from);
        let found = next(&memory.found, &mut memory.at_found, memory.from);
        let least = always.into_iter().chain(found).min();
        match self.gates.get(memory.scanned) {
            Some(gate) if least.is_none_or(|least| gate.first <= least) => {
                self.select(judge, memory, least)
            }
            _ => least,
        }
    }

    /// Finds rules by the gates that may have one before `least`, the first of those that are known; the first of all.
    fn select(
        &self,
        judge: &mut Judge<'_>,
        memory: &mut IndexMemory,
        mut least: Option<u32>,
    ) -> Option<u32> {
        let IndexMemory {
            inputs,
            found,
            scanned,
            ..
        } = memory;
        let is_as_sent = judge.state.is_untouched() && judge.request.variables.is_empty();
        let mut recent = std::mem::take(judge.recent);
        recent.begin(judge.state.set, self.gates.len());
        while let Some(gate) = self.gates.get(*scanned)
            && least.is_none_or(|least| gate.first <= least)
        {
            let (number, start) = (*scanned, found.len());
            *scanned += 1;
            let mut scan = Scan {
                index: self,
                plan: judge.plan,
                gate,
                memory: &mut inputs[number],
            };
            scan.input(number, is_as_sent, judge, &mut recent, found);
            let new = found[start..].iter().copied();
            least = least
                .into_iter()
                .chain(new.filter(|rule| *rule >= memory.from))
                .min();
        }
        *judge.recent = recent;
        if found.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        memory.at_found = 0;
        least
    }

    /// What makes each rule be judged, in the order of rules.
    pub(crate) fn selections(&self) -> Vec<Selection<'_>> {
        let mut all: Vec<_> = self.list_of.iter().map(|_| Selection::Bits).collect();
        for rule in &self.always {
            all[*rule as usize] = Selection::Always;
        }
        for gate in &self.gates {
            gate.gate.each(&mut |text, member| {
                let selection = &mut all[gate.members[member as usize].rule as usize];
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
                + size_of_val(gate.members.as_slice())
        });
        gates.sum::<usize>()
            + size_of_val(self.always.as_slice())
            + size_of_val(self.lists.as_slice())
            + size_of_val(self.list_of.as_slice())
    }
}

/// What tells that an input is as before.
fn key(source: Source, over_views: bool, plan: &Plan) -> Key {
    let Source::Shared(number) = source else {
        return Key::Target;
    };
    let input = &plan.inputs[number];
    let mut read = Vec::new();
    input.each_variable(&mut |variable| read.push(variable));
    match read[..] {
        [Variable::RequestField(name)] if input.is_variable() => Key::Value(Some(name.clone())),
        [Variable::RequestField(name)] => Key::Field(name.clone()),
        ref all if all.iter().all(|variable| variable.is_of_target()) => Key::Target,
        _ if over_views => Key::None,
        _ => Key::Value(None),
    }
}

impl InputGate {
    /// Calls `find` with the input of the first view.
    fn with_first_view(
        &self,
        judge: &mut Judge<'_>,
        found: &mut Vec<u32>,
        find: impl FnOnce(&[u8], &mut PatternCache, &mut Vec<u32>),
    ) {
        judge.state.see();
        if self.with_view(0, judge, found, find).is_err() {
            self.find_all(found);
        }
    }

    /// Calls `find` with the input of a view.
    #[inline]
    fn with_view(
        &self,
        view: usize,
        judge: &mut Judge<'_>,
        found: &mut Vec<u32>,
        find: impl FnOnce(&[u8], &mut PatternCache, &mut Vec<u32>),
    ) -> Result<(), TooLong> {
        match self.source {
            Source::Shared(number) => judge.with_shared_input(number, view, |input, patterns| {
                find(input, patterns, found);
            }),
            Source::Url => {
                let path = judge.state.current().view(view).path();
                find(path, &mut judge.memory.patterns, found);
                Ok(())
            }
        }
    }

    /// Appends all rules, for an input that is too long to be expanded: that counts for rules that refuse.
    fn find_all(&self, found: &mut Vec<u32>) {
        found.extend(self.members.iter().map(|member| member.rule));
    }
}

/// The search of an input for the rules to be judged.
struct Scan<'s> {
    index: &'s Index,
    plan: &'s Plan,
    gate: &'s InputGate,
    memory: &'s mut InputMemory,
}

impl Scan<'_> {
    /// Appends the rules that the input of the gate with this number asks to be judged: those of the request before, if
    /// it is the same.
    fn input(
        &mut self,
        number: usize,
        is_as_sent: bool,
        judge: &mut Judge<'_>,
        recent: &mut Recent,
        found: &mut Vec<u32>,
    ) {
        let (gate, request) = (self.gate, judge.request);
        let key = match if is_as_sent { &gate.key } else { &Key::None } {
            Key::Field(name) => request.fields.lone(name),
            Key::None => None,
            Key::Target => Some(request.target),
            Key::Value(name) => {
                return match name.as_deref().and_then(|name| request.fields.lone(name)) {
                    Some(value) => recent.recall(number, value, found, |found| {
                        self.value(value, &mut judge.memory.patterns, found);
                    }),
                    None => gate.with_first_view(judge, found, |value, patterns, found| {
                        recent.recall(number, value, found, |found| {
                            self.value(value, patterns, found);
                        });
                    }),
                };
            }
        };
        match key {
            Some(key) => recent.recall(number, key, found, |found| {
                self.views(judge, found);
            }),
            None => self.views(judge, found),
        }
    }

    /// Appends the rules that the input asks to be judged, in every view that matters.
    fn views(&mut self, judge: &mut Judge<'_>, found: &mut Vec<u32>) {
        judge.state.see();
        let views = match self.gate.source {
            _ if !self.gate.over_views => 1,
            Source::Url => judge.state.current().len(),
            Source::Shared(_) => judge.state.view_count(),
        };
        for view in 0..views {
            let gate = self.gate;
            let read = gate.with_view(view, judge, found, |input, patterns, found| {
                self.value(input, patterns, found);
            });
            if read.is_err() {
                gate.find_all(found);
                break;
            }
        }
    }

    /// Appends the rules that a value of the input asks to be judged.
    fn value(&mut self, input: &[u8], patterns: &mut PatternCache, found: &mut Vec<u32>) {
        let Self { gate, memory, .. } = self;
        if input.len() > gate.least {
            let longer = gate.members.iter();
            let longer = longer.filter(|member| input.len() > member.longest);
            found.extend(longer.map(|member| member.rule));
        }
        gate.gate.scan(input, &mut memory.seen, &mut memory.hits);
        if !memory.hits.is_empty() {
            self.sift(input, patterns, found);
        }
        self.gate.tail.scan(input, &mut self.memory.tail, found);
    }

    /// Appends the rules whose texts were hit, unless bits tell that their pattern does not match.
    #[inline(never)]
    fn sift(&self, input: &[u8], patterns: &mut PatternCache, found: &mut Vec<u32>) {
        let (mut start, mut sieve) = (0, patterns.sieve(input));
        for hit in &self.memory.hits {
            let (text, members) = self.gate.gate.text(*hit);
            for member in members {
                let Member { rule, pattern, .. } = self.gate.members[*member as usize];
                let Some(part) = self.part(rule, input) else {
                    continue;
                };
                if start != input.len() - part.len() {
                    start = input.len() - part.len();
                    sieve = patterns.sieve(part);
                }
                let place = hit.place.and_then(|place| place.checked_sub(start));
                let clue = place.map(|place| Clue { text, place });
                if !sieve.rules_out(&self.plan.patterns[pattern as usize], clue) {
                    found.push(rule);
                }
            }
        }
    }

    /// The part of an input that a rule sees, its end; `None` if it does not apply.
    fn part<'i>(&self, rule: u32, input: &'i [u8]) -> Option<&'i [u8]> {
        match self.gate.source {
            Source::Shared(_) => Some(input),
            Source::Url => {
                let list = &self.index.lists[self.index.list_of[rule as usize] as usize];
                relative(input, &self.plan.groups[list.group].scope)
            }
        }
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
    members: Vec<Member>,
}

impl InputGateBuilder {
    fn new(source: Source) -> Self {
        Self {
            over_views: false,
            gate: GateBuilder::default(),
            // A rule sees the path from its scope on.
            tail: ManyBuilder::new(source != Source::Url),
            members: Vec::new(),
        }
    }

    fn build(self, source: Source, plan: &Plan) -> InputGate {
        let least = self.members.iter().map(|member| member.longest).min();
        let first = self.members.iter().map(|member| member.rule).min();
        InputGate {
            first: first.unwrap_or_default(),
            source,
            key: key(source, self.over_views, plan),
            over_views: self.over_views,
            gate: self.gate.build(),
            tail: self.tail.build(),
            least: least.unwrap_or(usize::MAX),
            members: self.members,
        }
    }
}
