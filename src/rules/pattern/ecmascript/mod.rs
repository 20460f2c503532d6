//! Reads a pattern as ECMAScript 5.1 does, Annex B included, without the `u` flag.
//!
//! Layer 1, inside rules. Called by the pattern module; calls none.
//! Holds: accepts what browsers accept, the newer look-behind, named groups and inline flags excepted, which IIS
//!        does not know; every refusal carries the byte where it arose.
//! See `guide::dialect` for what each construct means.

mod class;
mod escape;
mod parser;

pub(super) use parser::parse;
