//! The substitution grammar: text with references to captures, variables, functions and maps.
//!
//! Layer 1, inside `rules`. Called by parse and compile; calls canon.
//! Holds: text is parsed once; what was bound cannot fail when it is expanded; bytes stay bytes.
//! See `guide::dialect` for the grammar and the list of variables.

mod bind;
mod expand;
mod function;
mod parse;
mod variable;

pub(crate) use bind::{Bound, Reads, Scope, Stage};
pub(crate) use expand::{Captures, Expansion, RewriteMap, Sight, TooLong};
pub(crate) use parse::Template;
pub(crate) use variable::{Variable, field_name};
