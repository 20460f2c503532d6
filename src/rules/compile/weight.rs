//! Weighs what rules cost requests that hold none of their texts, and refuses what would be too much.

use super::Compiler;
use crate::rules::error::{Kind, Place};
use crate::rules::pattern::{Manner, Tree};
use crate::rules::plan::{ConditionPlan, Input, PatternTest, RequestPlan};
use crate::rules::{RuleError, RuleLimits};

/// The weight of the rules so far, and how much it may become.
#[derive(Debug, Default)]
pub(super) struct Weights {
    patterns: Vec<Weight>,
    steps: usize,
    states: usize,
    limits: RuleLimits,
}

/// What a pattern weighs where it has to be searched for whatever the request.
#[derive(Clone, Copy, Debug)]
enum Weight {
    /// Nothing: a text stands for it.
    Text,
    /// Steps of the program that finds it together with others.
    Together(usize),
    /// States of the automata that find it alone, none if bits do.
    Alone(usize),
}

impl Weights {
    pub(super) fn new(limits: RuleLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Weighs the next pattern of the plan.
    pub(super) fn add(&mut self, tree: &Tree, has_text: bool) {
        // To lay a pattern out takes longer than to read it, and most need not be.
        let weight = if has_text {
            Weight::Text
        } else if let Some(steps) = tree.steps_together() {
            Weight::Together(steps)
        } else {
            match tree.manner() {
                Manner::Bits { .. } => Weight::Alone(0),
                Manner::Automaton | Manner::Irregular => Weight::Alone(tree.states() as usize),
            }
        };
        self.patterns.push(weight);
    }

    /// The weight of the rules so far.
    pub(super) const fn total(&self) -> (usize, usize) {
        (self.steps, self.states)
    }

    /// Goes back to a weight of before.
    pub(super) const fn set_total(&mut self, (steps, states): (usize, usize)) {
        self.steps = steps;
        self.states = states;
    }

    fn of(&self, test: &PatternTest) -> Weight {
        self.patterns[test.pattern as usize]
    }

    /// Adds what a rule weighs.
    fn take(&mut self, rule: &RequestPlan) {
        let list = &rule.conditions.list;
        let of_conditions = || list.iter().filter_map(|condition| condition.test.pattern());
        // Of these one is chosen to stand for the rule, conditions first.
        let can_stand = |condition: &&ConditionPlan| {
            let all = !rule.conditions.any || list.len() == 1;
            all && matches!(condition.input, Input::Shared(_))
        };
        let conditions = list.iter().rev().filter(can_stand);
        let tests = conditions.filter_map(|condition| condition.test.pattern());
        let tests = tests.chain(rule.url).filter(|test| !test.negate);
        let mut chosen = tests.map(|test| self.of(&test));
        if chosen.clone().any(|weight| matches!(weight, Weight::Text)) {
            return;
        }
        let together = chosen.find_map(|weight| match weight {
            Weight::Together(steps) => Some(steps),
            Weight::Alone(_) | Weight::Text => None,
        });
        match together {
            Some(steps) => self.steps += steps,
            None => {
                let all = rule.url.into_iter().chain(of_conditions());
                let alone = all.map(|test| match self.of(&test) {
                    Weight::Alone(states) => states,
                    Weight::Text | Weight::Together(_) => 0,
                });
                self.states += alone.sum::<usize>();
            }
        }
    }
}

impl Compiler {
    /// What these limits leave for a further set.
    pub(crate) fn headroom(&self, limits: RuleLimits) -> RuleLimits {
        RuleLimits {
            rules: limits.rules.saturating_sub(self.infos.len()),
            memory: limits.memory.saturating_sub(self.memory),
            steps: limits.steps.saturating_sub(self.weights.steps),
            states: limits.states.saturating_sub(self.weights.states),
        }
    }

    /// Weighs the rule that was compiled last, and refuses it if the set becomes too heavy by it.
    pub(super) fn weigh(&mut self, place: &Place) -> Result<(), RuleError> {
        if let Some(rule) = self.plan.request_rules.last() {
            self.weights.take(rule);
        }
        let Weights {
            steps,
            states,
            limits,
            ..
        } = &self.weights;
        let (what, limit) = if *steps > limits.steps {
            let what = "the characters that rules without a text of their own go through, such as [0-9] or a class that \
                        repeats, counted together over a set,";
            (what, limits.steps)
        } else if *states > limits.states {
            let what = "the states of patterns that every request is searched for alone, such as those that begin with a \
                        negative look-ahead, counted together over a set,";
            (what, limits.states)
        } else {
            return Ok(());
        };
        Err(RuleError::new(place, Kind::Limit { what, limit }))
    }
}
