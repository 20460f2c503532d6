//! What searching builds and reuses, within a bound of memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::backtrack::Machine;
use super::follow::FollowMemory;
use super::limits;
use super::quick::{Clue, Quick};
use super::search::Built;
use super::text::{Text, TextBuffer};
use super::texts::{RecentInput, RecentInputs};
use super::{Matched, Pattern, Tree};

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
    slots: Slots,
    /// Searches that ran out of steps since this was taken last.
    out_of_steps: u64,
    machine: Machine,
    follow: FollowMemory,
    text: TextBuffer,
    recent: RecentInputs,
    left: Left,
}

/// What searches may still cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// How many automata may be built.
    pub(super) builds: u32,
    /// Steps of searches that no bits decide.
    pub(super) steps: u32,
    /// States of automata times bytes of inputs.
    pub(super) work: u64,
}

impl Left {
    /// What the searches of one request may cost.
    const REQUEST: Self = Self {
        builds: limits::BUILDS,
        steps: limits::REQUEST_STEPS,
        work: limits::REQUEST_WORK,
    };

    /// Only searches themselves are bounded.
    const UNBOUNDED: Self = Self {
        builds: u32::MAX,
        steps: u32::MAX,
        work: u64::MAX,
    };
}

impl Default for PatternCache {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            out_of_steps: 0,
            machine: Machine::default(),
            follow: FollowMemory::default(),
            text: TextBuffer::default(),
            recent: RecentInputs::default(),
            left: Left::UNBOUNDED,
        }
    }
}

/// What was made of patterns.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    /// Where the programs of a pattern are.
    index: HashMap<u64, usize, BuildHasherDefault<IdHasher>>,
    /// The slot that is next to be judged when memory is short.
    hand: usize,
    /// Searches by automata since memory was last counted; a new slot counts as many.
    since_count: u32,
}

/// What was made of one pattern.
#[derive(Debug)]
pub(super) struct Slot {
    pattern: u64,
    used: bool,
    quick: Option<Quick>,
    /// What bits told last of an input that is remembered, by its number: the sieve and the search ask alike.
    told: Option<(u64, bool)>,
    /// Kept for patterns that need more than the quick program.
    pub(super) tree: Option<Box<Tree>>,
    pub(super) built: Built,
}

impl Slot {
    /// What bits tell about the pattern, of which this is the slot; `None` if they cannot. `recent` is the text as it is
    /// known, if it is.
    pub(super) fn verdict(
        &mut self,
        pattern: &Pattern,
        text: Text<'_>,
        recent: Option<&mut RecentInput>,
        clue: Option<Clue<'_>>,
    ) -> Option<bool> {
        let number = recent.as_ref().map(|recent| recent.number());
        if let Some((known, matches)) = self.told
            && number == Some(known)
        {
            return Some(matches);
        }
        let verdict = self.quick(pattern).verdict(text, recent, clue);
        if let Some(told) = number.zip(verdict) {
            self.told = Some(told);
        }
        verdict
    }

    fn quick(&mut self, pattern: &Pattern) -> &Quick {
        self.quick.get_or_insert_with(|| {
            let read = pattern.tree();
            let quick = Quick::new(&read);
            if !quick.decides() {
                self.tree = Some(Box::new(read));
            }
            quick
        })
    }

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
    pub(super) follow: &'t mut FollowMemory,
    /// The input as it is known, if it is of ASCII.
    pub(super) recent: Option<&'t mut RecentInput>,
    pub(super) left: &'t mut Left,
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

    /// Bounds what the searches that follow, those of one message, may build and cost together.
    ///
    /// Where no automaton may be built, a search takes longer and decides alike; where no steps are left, it ends with
    /// [`Matched::OutOfSteps`].
    pub(in crate::rules) fn begin(&mut self) {
        self.left = Left::REQUEST;
    }

    /// Lets searches cost together what they cost, each within its own bounds: for whoever is not on a request's path.
    pub(in crate::rules) fn begin_unbounded(&mut self) {
        self.left = Left::UNBOUNDED;
    }

    /// Lets no automaton be built.
    #[cfg(test)]
    pub(super) fn forbid_automata(&mut self) {
        self.left.builds = 0;
    }

    /// About how many bytes it occupies.
    pub fn memory(&self) -> usize {
        self.slots.memory()
            + self.machine.memory()
            + self.follow.memory()
            + self.text.memory()
            + self.recent.memory()
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
        self.count_memory();
        let recent = self.recent.find(input).filter(|recent| recent.is_ascii());
        let text = match recent {
            Some(_) => Text::of_ascii(input),
            None => self.text.read(input),
        };
        let (slot, since_count) = self.slots.of(pattern);
        Place {
            text,
            slot,
            machine: &mut self.machine,
            follow: &mut self.follow,
            recent,
            left: &mut self.left,
            since_count,
        }
    }

    /// What rules out patterns for this input.
    pub(in crate::rules) fn sieve<'t>(&'t mut self, input: &'t [u8]) -> Sieve<'t> {
        self.count_memory();
        let recent = self.recent.find(input).filter(|recent| recent.is_ascii());
        let text = match recent {
            Some(_) => Text::of_ascii(input),
            None => self.text.read(input),
        };
        Sieve {
            text,
            recent,
            slots: &mut self.slots,
        }
    }

    /// Now and then, sees to it that programs keep within their bound.
    fn count_memory(&mut self) {
        if self.slots.since_count >= SEARCHES_BETWEEN_COUNTS {
            self.slots.since_count = 0;
            self.keep_within(limits::CACHE_BYTES);
        }
    }

    fn keep_within(&mut self, bytes: usize) {
        let memory = self.memory();
        self.slots.drop_some(memory.saturating_sub(bytes));
    }
}

/// Rules out patterns for one input.
#[derive(Debug)]
pub(in crate::rules) struct Sieve<'t> {
    text: Text<'t>,
    recent: Option<&'t mut RecentInput>,
    slots: &'t mut Slots,
}

impl Sieve<'_> {
    /// Whether bits tell that the pattern does not match, given where a text stands in the input.
    ///
    /// Then no search for it matches, nor runs out of steps.
    pub(in crate::rules) fn rules_out(
        &mut self,
        pattern: &Pattern,
        clue: Option<Clue<'_>>,
    ) -> bool {
        let clue = clue.filter(|_| self.text.is_ascii());
        let (slot, _) = self.slots.of(pattern.id);
        let recent = self.recent.as_deref_mut();
        pattern.is_affordable(self.text)
            && slot.verdict(pattern, self.text, recent, clue) == Some(false)
    }
}

impl Slots {
    /// The slot of a pattern, and the searches since memory was last counted.
    fn of(&mut self, pattern: u64) -> (&mut Slot, &mut u32) {
        let number = match self.index.get(&pattern) {
            Some(number) => *number,
            None => self.insert(pattern),
        };
        let slot = &mut self.all[number];
        slot.used = true;
        (slot, &mut self.since_count)
    }

    fn insert(&mut self, pattern: u64) -> usize {
        self.since_count += SEARCHES_PER_SLOT;
        self.all.push(Slot {
            pattern,
            used: true,
            quick: None,
            told: None,
            tree: None,
            built: Built::default(),
        });
        let number = self.all.len() - 1;
        self.index.insert(pattern, number);
        number
    }

    fn memory(&self) -> usize {
        self.all.iter().map(Slot::memory).sum::<usize>()
            + self.all.capacity() * size_of::<Slot>()
            + self.index.capacity() * size_of::<(u64, usize)>()
    }

    /// Drops programs of so many bytes: those that no search used since the hand last came by go first.
    fn drop_some(&mut self, bytes: usize) {
        let mut left = bytes;
        while left > 0 && !self.all.is_empty() {
            self.hand %= self.all.len();
            let slot = &mut self.all[self.hand];
            if slot.used {
                slot.used = false;
                self.hand += 1;
                continue;
            }
            left = left.saturating_sub(slot.memory());
            let dropped = self.all.swap_remove(self.hand);
            self.index.remove(&dropped.pattern);
            if let Some(moved) = self.all.get(self.hand) {
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
    use crate::rules::pattern::{Groups, Pattern, PatternOptions, PatternSyntax};

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
            assert!(cache.slots.index.contains_key(&pattern.id));
        }
        for (number, pattern) in patterns.iter().enumerate() {
            let input = format!("a{number}b,c");
            assert_eq!(pattern.is_match(&mut cache, input.as_bytes()), Matched::Yes);
        }
        cache.keep_within(0);
        assert!(cache.slots.all.is_empty() && cache.slots.index.is_empty());
    }

    fn new(text: &str) -> Pattern {
        Pattern::new(text, PatternSyntax::EcmaScript, PatternOptions::default()).unwrap()
    }

    fn engines(cache: &PatternCache) -> usize {
        let slots = cache.slots.all.iter();
        slots.filter(|slot| slot.built.has_engine()).count()
    }

    #[test]
    fn a_request_builds_so_many_automata_and_is_decided_without_more() {
        let builds = limits::BUILDS as usize;
        // No bits decide these: the first half an automaton does, the other half backtracking.
        let texts = (0..2 * builds).map(|number| format!("\\ba{number}(?:bc)*d\\b"));
        let others = (0..2 * builds).map(|number| format!("(a{number})\\1d"));
        let patterns: Vec<_> = texts.chain(others).map(|text| new(&text)).collect();
        let input = |number: usize| match number.checked_sub(2 * builds) {
            Some(number) => format!("a{number}a{number}d"),
            None => format!("x a{number}bcbcd"),
        };
        let mut cache = PatternCache::new();
        let mut groups = Groups::default();
        for request in 1..=5 {
            cache.begin();
            for (number, pattern) in patterns.iter().enumerate() {
                let (hit, miss) = (input(number), input(number + 1));
                let found = pattern.is_match(&mut cache, hit.as_bytes());
                assert_eq!(found, Matched::Yes, "{hit}");
                let found = pattern.is_match(&mut cache, miss.as_bytes());
                assert_eq!(found, Matched::No, "{miss}");
                let found = pattern.captures(&mut cache, hit.as_bytes(), 0, &mut groups);
                assert_eq!(found, Matched::Yes, "{hit}");
                assert_eq!(groups.get(0).map(|span| span.end), Some(hit.len()), "{hit}");
            }
            assert_eq!(engines(&cache), patterns.len().min(request * builds));
        }
        assert_eq!(cache.take_out_of_steps(), 0);
    }

    #[test]
    fn a_request_that_used_its_steps_up_has_searches_end_without_a_verdict() {
        // Each takes all steps that a search has.
        let endless = new(r"(a*)*\1b(?!c)");
        let input = [vec![b'a'; 20_000], b"bc".to_vec()].concat();
        let other = new(r"(a)\1b");
        let mut cache = PatternCache::new();
        for _ in 0..2 {
            cache.begin();
            for _ in 0..limits::REQUEST_STEPS / limits::STEPS - 1 {
                let found = endless.is_match(&mut cache, &input);
                assert_eq!(found, Matched::OutOfSteps);
            }
            assert_eq!(other.is_match(&mut cache, b"aab"), Matched::Yes);
            assert_eq!(endless.is_match(&mut cache, &input), Matched::OutOfSteps);
            assert_eq!(other.is_match(&mut cache, b"aab"), Matched::OutOfSteps);
        }
        cache.begin_unbounded();
        for _ in 0..=limits::REQUEST_STEPS / limits::STEPS {
            assert_eq!(endless.is_match(&mut cache, &input), Matched::OutOfSteps);
        }
        assert_eq!(other.is_match(&mut cache, b"aab"), Matched::Yes);
    }

    #[test]
    fn a_request_that_had_automata_work_too_much_has_them_work_no_more() {
        let pattern = new(r"\b[a-z]{4000}\d\b");
        let most = limits::WORK / u64::from(pattern.states());
        let input = vec![b' '; most as usize];
        let mut cache = PatternCache::new();
        for _ in 0..2 {
            cache.begin();
            for _ in 0..limits::REQUEST_WORK / limits::WORK {
                assert_eq!(pattern.is_match(&mut cache, &input), Matched::No);
            }
            let left = usize::try_from(cache.left.work / u64::from(pattern.states())).unwrap();
            assert_eq!(pattern.is_match(&mut cache, &input[..left]), Matched::No);
            assert_eq!(pattern.is_match(&mut cache, b"x"), Matched::OutOfSteps);
        }
    }
}
