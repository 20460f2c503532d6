//! Decides whether patterns match by shifting bits: one pass, whose cost follows from the patterns alone.
//!
//! Layer 1, inside rules. Called by pattern and the indexed matcher; calls none.
//! Holds: the verdict is exactly the automata's, for any text; a step costs the same whatever the text;
//!        building costs microseconds and about two kilobytes for a pattern as rules have them.
//! See `guide::architecture` for where it is used.

mod many;
mod program;
mod row;

pub(in crate::rules) use many::{Many, ManyBuilder, ManyMemory};
pub(super) use program::{Builder, Program, Registers};
