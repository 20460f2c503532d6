//! Judges a request by a plan.
//!
//! Layer 1, inside `rules`. Called by set; calls plan, state and pattern.
//! Holds: rules act in their order; a rule that does not apply changes nothing;
//!        every matcher decides as [`linear`] does.
//! See `guide::dialect` for the order of evaluation.

mod act;
mod condition;
mod gate;
pub(crate) mod indexed;
pub(crate) mod linear;
mod watch;

pub(crate) use act::{lossy_text, one_line};
pub(crate) use condition::{Tester, conditions_hold, input_passes};
pub(crate) use gate::{Literals, Requirement, requirement};
pub(crate) use watch::{Part, Reading, Tested, Unwatched, Watch};
