//! What searching builds and reuses, within a bound of memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::backtrack::Machine;
use super::limits;
use super::quick::Quick;
use super::search::Built;
use super::text::{Text, TextBuffer};
use super::{Matched, Tree};

/// Programs built on first use and the memory of searches; one for each worker, for any patterns.
///
/// It holds about 32 MiB at most: beyond that, what was not used lately is dropped and built again when needed.
///
/// # Examples
///
/// ```
/// use stopgap::rules::pattern::{Matched, Pattern, PatternCache, PatternOptions, PatternSyntax};
///
/// let pattern = Pattern::new("a|b", PatternSyntax::EcmaScript, PatternOptions::default())?;
/// let mut cache = PatternCache::new();
/// assert_eq!(pattern.is_match(&mut cache, b"b"), Matched::Yes);
/// assert!(cache.memory() > 0);
/// assert_eq!(cache.take_out_of_steps(), 0);
/// # Ok::<(), stopgap::rules::pattern::PatternError>(())
/// ```
#[derive(Debug)]
pub struct PatternCache {
    slots: Vec<Slot>,
    /// Where the programs of a pattern are.
    index: HashMap<u64, usize, BuildHasherDefault<IdHasher>>,
    /// The slot that is next to be judged when memory is short.
    hand: usize,
    /// Searches by automata since memory was last counted; a new slot counts as many.
    since_count: u32,
    /// Searches that ran out of steps since this was taken last.
    out_of_steps: u64,
    machine: Machine,
    text: TextBuffer,
    /// How many automata may still be built.
    builds: u32,
}

impl Default for PatternCache {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            index: HashMap::default(),
            hand: 0,
            since_count: 0,
            out_of_steps: 0,
            machine: Machine::default(),
            text: TextBuffer::default(),
            builds: limits::BUILDS,
        }
    }
}

/// What was made of one pattern.
#[derive(Debug)]
pub(super) struct Slot {
    pattern: u64,
    used: bool,
    pub(super) quick: Option<Quick>,
    /// Kept for patterns that need more than the quick program.
    pub(super) tree: Option<Box<Tree>>,
    pub(super) built: Built,
}

impl Slot {
    fn memory(&self) -> usize {
        let tree = self.tree.as_ref();
        self.quick.as_ref().map_or(0, Quick::memory)
            + tree.map_or(0, |tree| size_of::<Tree>() + tree.ast().memory())
            + self.built.memory()
    }
}

/// What a search for one pattern in one input works with.
pub(super) struct Place<'t> {
    pub(super) text: Text<'t>,
    pub(super) slot: &'t mut Slot,
    pub(super) machine: &'t mut Machine,
    /// How many automata may still be built.
    pub(super) builds: &'t mut u32,
    /// Searches by what may grow, since memory was last counted.
    pub(super) since_count: &'t mut u32,
}

/// How often memory is counted.
const SEARCHES_BETWEEN_COUNTS: u32 = 4096;

/// As many searches a new slot counts.
const SEARCHES_PER_SLOT: u32 = 256;

impl PatternCache {
    /// A cache without programs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the searches that follow, those of one request, build a few automata; beyond them, a search backtracks where
    /// that is possible, which costs no memory and decides alike.
    pub(in crate::rules) fn begin(&mut self) {
        self.builds = limits::BUILDS;
    }

    /// About how many bytes it occupies.
    pub fn memory(&self) -> usize {
        let built: usize = self.slots.iter().map(Slot::memory).sum();
        built
            + self.slots.capacity() * size_of::<Slot>()
            + self.index.capacity() * size_of::<(u64, usize)>()
            + self.machine.memory()
            + self.text.memory()
    }

    /// How many searches ran out of steps since this was asked last.
    pub fn take_out_of_steps(&mut self) -> u64 {
        std::mem::take(&mut self.out_of_steps)
    }

    /// Notes how a search ended.
    pub(super) fn note(&mut self, found: Matched) -> Matched {
        if found == Matched::OutOfSteps {
            self.out_of_steps += 1;
        }
        found
    }

    /// What a search for this pattern in this input works with.
    pub(super) fn prepare<'t>(&'t mut self, pattern: u64, input: &'t [u8]) -> Place<'t> {
        if self.since_count >= SEARCHES_BETWEEN_COUNTS {
            self.since_count = 0;
            self.keep_within(limits::CACHE_BYTES);
        }
        let number = match self.index.get(&pattern) {
            Some(number) => *number,
            None => self.insert(pattern),
        };
        let slot = &mut self.slots[number];
        slot.used = true;
        Place {
            text: self.text.read(input),
            slot,
            machine: &mut self.machine,
            builds: &mut self.builds,
            since_count: &mut self.since_count,
        }
    }

    fn insert(&mut self, pattern: u64) -> usize {
        self.since_count += SEARCHES_PER_SLOT;
        self.slots.push(Slot {
            pattern,
            used: true,
            quick: None,
            tree: None,
            built: Built::default(),
        });
        let number = self.slots.len() - 1;
        self.index.insert(pattern, number);
        number
    }

    /// Drops programs until what is left needs no more than this: those that no search used since the hand last came
    /// by go first.
    fn keep_within(&mut self, bytes: usize) {
        let mut memory = self.memory();
        while memory > bytes && !self.slots.is_empty() {
            self.hand %= self.slots.len();
            let slot = &mut self.slots[self.hand];
            if slot.used {
                slot.used = false;
                self.hand += 1;
                continue;
            }
            memory = memory.saturating_sub(slot.memory());
            let dropped = self.slots.swap_remove(self.hand);
            self.index.remove(&dropped.pattern);
            if let Some(moved) = self.slots.get(self.hand) {
                self.index.insert(moved.pattern, self.hand);
            }
        }
    }
}

/// Hashes the numbers of patterns, which count up: a multiplication spreads them.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, number: u64) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = number.wrapping_mul(ODD).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::pattern::{Pattern, PatternOptions, PatternSyntax};

    #[test]
    fn what_was_not_used_is_dropped_first_and_built_again() {
        let patterns: Vec<_> = (0..40)
            .map(|number| {
                let text = format!("\\ba{number}b.*c");
                Pattern::new(&text, PatternSyntax::EcmaScript, PatternOptions::default()).unwrap()
            })
            .collect();
        let mut cache = PatternCache::new();
        for pattern in &patterns {
            assert_eq!(pattern.is_match(&mut cache, b"x"), Matched::No);
        }
        let full = cache.memory();
        // The first round of the hand only takes the marks away, from which those used again are spared.
        cache.keep_within(full - 1);
        for pattern in &patterns[20..30] {
            assert_eq!(pattern.is_match(&mut cache, b"x"), Matched::No);
        }
        cache.keep_within(full / 2);
        assert!(cache.memory() <= full / 2);
        for pattern in &patterns[20..30] {
            assert!(cache.index.contains_key(&pattern.id));
        }
        for (number, pattern) in patterns.iter().enumerate() {
            let input = format!("a{number}b,c");
            assert_eq!(pattern.is_match(&mut cache, input.as_bytes()), Matched::Yes);
        }
        cache.keep_within(0);
        assert!(cache.slots.is_empty() && cache.index.is_empty());
    }
}
