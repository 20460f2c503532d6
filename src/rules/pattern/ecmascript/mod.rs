//! Reads a pattern as ECMAScript 5.1 does, Annex B included, without the `u` flag.
//!
//! Layer 1, inside rules. Called by the pattern module; calls none.
//! Holds: accepts what browsers accept, the newer look-behind, named groups and inline flags excepted, which IIS
//!        does not know; every refusal carries the byte where it arose.
//! See `guide::dialect` for what each construct means.

// Where this differs from what V8 does without the `u` flag, each on purpose:
//
// - look-behind, named groups and, in newer versions, inline flags are refused: ES5.1 has none of them, and a rule
//   that relies on them would not work in IIS;
// - hence `\k` is always the letter, as it is in V8 for a pattern without a named group;
// - the limits of `limits.rs`, where V8 has others or none;
// - case is that of the Unicode version of Rust's standard library, where V8 follows its own copy of ICU.

mod class;
mod escape;
mod parser;

pub(super) use parser::Parser;
#[cfg(test)]
pub(super) use parser::parse;
