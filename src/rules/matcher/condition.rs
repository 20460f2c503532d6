//! Tests patterns and conditions, for requests and for responses.

use crate::rules::pattern::{Groups, Matched, Pattern, PatternCache};
use crate::rules::plan::{ConditionsPlan, FileTree, PatternTest, TestPlan};
use crate::rules::template::{Captures, TooLong};

/// What testing a pattern needs.
pub(crate) struct Tester<'a> {
    pub(crate) patterns: &'a [Pattern],
    pub(crate) cache: &'a mut PatternCache,
    pub(crate) groups: &'a mut Groups,
    /// What a pattern that runs out of steps counts as.
    pub(crate) when_out_of_steps: bool,
}

impl Tester<'_> {
    /// Whether a test holds for the input; where the pattern matched and groups are wanted, they are appended.
    pub(crate) fn holds(
        &mut self,
        test: PatternTest,
        input: &[u8],
        captures: Option<&mut Captures>,
    ) -> bool {
        let pattern = test.of(self.patterns);
        let Some(captures) = captures.filter(|_| !test.negate) else {
            return match pattern.is_match(self.cache, input) {
                Matched::No => test.negate,
                Matched::OutOfSteps => self.when_out_of_steps,
                Matched::Yes => !test.negate,
            };
        };
        match pattern.captures(self.cache, input, 0, self.groups) {
            Matched::No => false,
            Matched::OutOfSteps => self.when_out_of_steps,
            Matched::Yes => {
                for group in 0..=pattern.group_count() {
                    let span = self.groups.get(group);
                    captures.push(span.map_or(&[], |span| &input[span]));
                }
                true
            }
        }
    }
}

/// What a condition is judged on: the input in one view, or the news that it is too long.
pub(crate) type Sighted<'a> = Result<&'a [u8], TooLong>;

/// Judges conditions in order, as far as needed to know whether the rule applies.
///
/// `judge` tests condition `n` with the groups matched so far, and appends the groups of its match to the second
/// argument.
pub(crate) fn conditions_hold(
    plan: &ConditionsPlan,
    tracked: &mut Captures,
    mut judge: impl FnMut(usize, &Captures, Option<&mut Captures>) -> bool,
) -> bool {
    if plan.list.is_empty() {
        return true;
    }
    let mut matched = Captures::default();
    for number in 0..plan.list.len() {
        matched.clear();
        let wanted = plan.reads_groups.then_some(&mut matched);
        let holds = judge(number, tracked, wanted);
        if holds && matched.len() > 0 {
            tracked.follow(&matched, plan.track_all_captures);
        }
        if holds == plan.any {
            return plan.any;
        }
    }
    !plan.any
}

/// Tests one input.
pub(crate) fn input_passes(
    test: &TestPlan,
    input: Sighted<'_>,
    captures: Option<&mut Captures>,
    tester: &mut Tester<'_>,
    files: Option<&dyn FileTree>,
) -> bool {
    let Ok(input) = input else {
        return tester.when_out_of_steps;
    };
    match test {
        TestPlan::IsDirectory { negate } => {
            files.is_some_and(|files| files.is_directory(input)) != *negate
        }
        TestPlan::IsFile { negate } => files.is_some_and(|files| files.is_file(input)) != *negate,
        TestPlan::Pattern(test) => tester.holds(*test, input, captures),
    }
}
