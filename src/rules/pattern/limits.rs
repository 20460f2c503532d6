//! What bounds a pattern and a search, in one place.

/// Bytes of a pattern's text.
pub(super) const PATTERN_BYTES: usize = 16 * 1024;

/// Groups open inside each other, of any kind.
pub(super) const NESTING: usize = 200;

/// The largest count that a repetition may name.
pub(super) const REPEAT: u32 = 5_000;

/// Capturing groups of a pattern.
pub(super) const GROUPS: u32 = 1_000;

/// States of the automaton of a pattern for any input, as bounded from its tree before it is built: about a mebibyte.
pub(super) const STATES: u32 = 32 * 1024;
