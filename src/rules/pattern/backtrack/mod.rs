//! Matches a pattern as ES5.1 section 15.10.2 defines it, one choice after the other, within a budget of steps.
//!
//! Layer 1, inside rules. Called by the pattern's search; calls none.
//! Holds: choices wait on a heap stack, never on the thread's; every step is counted before it is taken; a pattern
//!        without counts, look-aheads and back-references never needs more steps than its size times the input's.
//! See `guide::dialect` for which patterns come here.

mod machine;
mod program;
mod subject;

pub(super) use machine::{Machine, Outcome};
pub(super) use program::Program;

/// The steps a search has left.
#[derive(Debug)]
pub(super) struct Steps(u32);

/// The budget of a search is used up.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutOfSteps;

impl Steps {
    pub(super) const fn new(steps: u32) -> Self {
        Self(steps)
    }

    /// How many are left.
    pub(super) const fn left(&self) -> u32 {
        self.0
    }

    /// Takes so many steps out of the budget; with fewer than that, all that are left.
    pub(super) fn take(&mut self, steps: u32) -> Result<(), OutOfSteps> {
        let is_within = steps <= self.0;
        self.0 = self.0.saturating_sub(steps);
        if is_within { Ok(()) } else { Err(OutOfSteps) }
    }
}
