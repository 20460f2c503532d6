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

/// Steps of a search that no automaton decides: some milliseconds at most.
pub(super) const STEPS: u32 = 1_000_000;

/// Steps after which backtracking notes what it has tried, if that is sound for the pattern.
pub(super) const STEPS_BEFORE_MEMO: u32 = 10_000;

/// Cells of that note, a bit each: half a mebibyte.
pub(super) const MEMO_CELLS: usize = 4 * 1024 * 1024;

/// Units that backtracking compares in a row for one step.
pub(super) const UNITS_PER_STEP: u32 = 4;

/// Bytes that an automaton reads for one step.
pub(super) const BYTES_PER_STEP: usize = 16;

/// Choices and undo notes of backtracking that may wait at a time: four mebibytes.
pub(super) const WAITING: usize = 256 * 1024;

/// Bytes of the lazily built states of a pattern's automata together, in each direction; full, one begins anew.
pub(super) const LAZY_STATES: usize = 256 * 1024;

/// Bytes of a cache from which on programs that were not used lately are dropped.
pub(super) const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// States of an automaton times bytes of an input: what the slowest of the automata's searches may cost.
pub(super) const WORK: u64 = 1 << 30;

/// Words of bits of a pattern that is searched by shifting them; a longer one is left to an automaton.
pub(super) const SHIFT_WORDS: usize = 8;

/// Automata that the searches of one request may build. A search beyond them follows all ways to match at once: it takes
/// longer and decides alike.
pub(super) const BUILDS: u32 = 4;

/// Steps of all searches of one request that no bits decide: some tenths of a second at most. Beyond them such a search
/// ends as one that ran out of its own.
pub(super) const REQUEST_STEPS: u32 = 16_000_000;

/// The same in states of automata times bytes of inputs.
pub(super) const REQUEST_WORK: u64 = 4 * WORK;
