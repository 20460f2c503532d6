//! Decides whether patterns match by shifting bits: one pass, whose cost follows from the patterns alone.
//!
//! Layer 1, inside rules. Called by pattern and the indexed matcher; calls none.
//! Holds: the verdict is exactly the automata's, for any text; what a unit of it costs is bounded by the words of bits;
//!        building costs microseconds and about two kilobytes for a pattern as rules have them;
//!        of many patterns only the words are moved in which one is under way.
//! See `guide::architecture` for where it is used.

mod classes;
mod jump;
mod layout;
mod many;
mod program;
mod row;
mod trie;

pub(super) use many::steps_together;
pub(in crate::rules) use many::{Many, ManyBuilder, ManyMemory};
pub(super) use program::{Builder, Program};
