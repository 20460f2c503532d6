//! Rows of many patterns as a tree of bits, of which only the words are moved in which something is under way.

use super::classes::ClassMap;
use super::jump::Jump;
use crate::rules::pattern::text::Text;

/// Many rows as one program: rows that begin alike share their first steps, and behind those each goes on alone.
///
/// A step leads to the step of the next bit of its word, or to others, for which it is a fork.
#[derive(Debug)]
pub(super) struct Trie {
    pub(super) classes: ClassMap,
    /// For each class the moves of each word.
    pub(super) moves: Box<[Moves]>,
    pub(super) words: Box<[Word]>,
    /// So many words at the front hold all steps that rows begin with; they are moved with every unit.
    pub(super) roots: usize,
    /// For each step, in the order of bits, where its targets begin; at last where all end.
    pub(super) forks: Box<[u32]>,
    pub(super) targets: Box<[Target]>,
    /// For each step that ends a row, in the order of bits, where its patterns begin; at last where all end.
    pub(super) ends: Box<[u32]>,
    pub(super) patterns: Box<[End]>,
    /// Patterns that an empty text matches.
    pub(super) on_empty: Box<[u32]>,
    pub(super) jump: Option<Jump>,
    /// Whether a match may begin elsewhere than at the start.
    pub(super) floats: bool,
}

/// The steps of one word that a unit of one class takes, and those that it stays at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moves {
    pub(super) take: u64,
    pub(super) stay: u64,
}

/// What is the same for all units, of 64 steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    /// Steps that the step of the bit before leads to.
    pub(super) inner: u64,
    /// Steps that lead to others besides.
    pub(super) forks: u64,
    /// Steps that end a row, anywhere and at the end of the text only.
    pub(super) last: u64,
    pub(super) last_at_end: u64,
    /// Steps of `last` that lead nowhere: once met, they need not be met again.
    pub(super) leaves: u64,
    /// Steps that rows begin with, those that begin anywhere and all.
    pub(super) first: u64,
    pub(super) start: u64,
    /// How many ends of rows are in the words before.
    pub(super) ends_before: u32,
}

/// The pattern of a row that ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct End {
    pub(super) pattern: u32,
    /// It ends at the end of the text only.
    pub(super) at_end: bool,
}

/// Steps of one word that a fork leads to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) word: u32,
    pub(super) steps: u64,
}

/// What running a trie works in.
#[derive(Debug, Default)]
pub(super) struct TrieMemory {
    states: Vec<State>,
    /// A bit for each word behind the first ones in which anything is under way.
    busy: Vec<u64>,
}

/// Where a text has come to in one word.
#[derive(Clone, Copy, Debug)]
struct State {
    /// The steps that were taken last.
    now: u64,
    /// Those that may be taken next because a row begins with them or a fork leads to them.
    open: u64,
    /// Those at which a row ended.
    met: u64,
}

impl TrieMemory {
    fn begin(&mut self, words: &[Word]) {
        self.states.clear();
        self.states.extend(words.iter().map(|word| State {
            now: 0,
            open: word.start,
            met: 0,
        }));
        self.busy.clear();
        self.busy.resize(words.len().div_ceil(64), 0);
    }

    /// Whether nothing is under way in the words behind the first ones.
    fn is_idle(&self) -> bool {
        self.busy.iter().all(|busy| *busy == 0)
    }
}

impl Trie {
    /// Calls `meet` with every pattern that matches, with some perhaps more than once.
    pub(super) fn matches(
        &self,
        text: Text<'_>,
        memory: &mut TrieMemory,
        meet: &mut impl FnMut(u32),
    ) {
        let bytes = text.bytes();
        if bytes.is_empty() {
            self.on_empty.iter().for_each(|pattern| meet(*pattern));
            return;
        }
        memory.begin(&self.words);
        self.run(bytes, memory);
        for (word, state) in self.words.iter().zip(&memory.states) {
            let mut met = state.met | state.now & word.last_at_end;
            while met != 0 {
                let bit = met & met.wrapping_neg();
                met ^= bit;
                let before = (word.last | word.last_at_end) & (bit - 1);
                let end = (word.ends_before + before.count_ones()) as usize;
                let (from, to) = (self.ends[end] as usize, self.ends[end + 1] as usize);
                for end in &self.patterns[from..to] {
                    let is_met = if end.at_end { state.now } else { state.met } & bit != 0;
                    if is_met {
                        meet(end.pattern);
                    }
                }
            }
        }
    }

    fn run(&self, bytes: &[u8], memory: &mut TrieMemory) {
        let mut at = 0;
        let mut is_first = true;
        while at < bytes.len() {
            let mut alive = 0;
            if self.roots == 1 && !is_first && memory.is_idle() {
                alive = self.run_root(bytes, &mut at, memory);
            } else {
                let (class, length) = self.classes.class(bytes, at);
                at += length;
                let moves = &self.moves[class * self.words.len()..][..self.words.len()];
                // Later words first: what a step leads to lies behind it, and is not to be taken by the same unit.
                for block in (0..memory.busy.len()).rev() {
                    let mut busy = memory.busy[block];
                    while busy != 0 {
                        let bit = 63 - busy.leading_zeros();
                        busy ^= 1 << bit;
                        self.step(64 * block + bit as usize, moves, memory);
                    }
                    alive |= memory.busy[block];
                }
                alive |= self.step_roots(moves, memory);
            }
            if is_first {
                is_first = false;
                let roots = self.words[..self.roots].iter();
                for (state, word) in memory.states.iter_mut().zip(roots) {
                    state.open = word.first;
                }
            }
            match &self.jump {
                Some(jump) if alive == 0 => at = jump.next(bytes, at).unwrap_or(bytes.len()),
                None if alive == 0 && !self.floats => return,
                _ => {}
            }
        }
    }

    /// Moves the only first word while nothing is under way in the others; nothing is afterwards if this is 0.
    #[inline(never)]
    fn run_root(&self, bytes: &[u8], at: &mut usize, memory: &mut TrieMemory) -> u64 {
        let (word, all) = (&self.words[0], self.words.len());
        let may_skip = self.jump.is_some() || !self.floats;
        let (mut state, mut turned) = (memory.states[0], 0);
        while *at < bytes.len() {
            let (class, length) = self.classes.class(bytes, *at);
            *at += length;
            let moves = self.moves[class * all];
            let before = state.now;
            state.now = (before << 1 & word.inner | state.open) & moves.take | before & moves.stay;
            state.met |= state.now & word.last;
            turned = (state.now ^ before) & word.forks;
            if turned != 0 || (state.now == 0 && may_skip) {
                break;
            }
        }
        memory.states[0] = state;
        self.turn(0, turned, memory);
        state.now
    }

    /// Moves the first words by one unit; the bits that are set then, in any of them.
    fn step_roots(&self, moves: &[Moves], memory: &mut TrieMemory) -> u64 {
        let mut alive = 0;
        for number in (0..self.roots).rev() {
            let (word, moves) = (&self.words[number], moves[number]);
            let state = &mut memory.states[number];
            let before = state.now;
            let bits = (before << 1 & word.inner | state.open) & moves.take | before & moves.stay;
            state.now = bits;
            alive |= bits;
            let turned = (bits ^ before) & word.forks;
            if bits & word.last | turned != 0 {
                state.met |= bits & word.last;
                self.turn(number, turned, memory);
            }
        }
        alive
    }

    /// Moves one word behind the first ones by one unit.
    #[inline]
    fn step(&self, number: usize, moves: &[Moves], memory: &mut TrieMemory) {
        let (word, moves) = (&self.words[number], moves[number]);
        let state = &mut memory.states[number];
        let before = state.now;
        let mut bits = (before << 1 & word.inner | state.open) & moves.take | before & moves.stay;
        let met = bits & word.last;
        if met != 0 {
            state.met |= met;
            bits &= !word.leaves;
            state.open &= !(met & word.leaves);
        }
        state.now = bits;
        if bits | state.open == 0 {
            memory.busy[number / 64] ^= 1 << (number % 64);
        }
        let turned = (bits ^ before) & word.forks;
        if turned != 0 {
            self.turn(number, turned, memory);
        }
    }

    /// Opens what forks lead to that began to be taken, and closes what those lead to that ceased to be.
    fn turn(&self, number: usize, mut turned: u64, memory: &mut TrieMemory) {
        let now = memory.states[number].now;
        while turned != 0 {
            let bit = turned.trailing_zeros();
            turned &= turned - 1;
            let fork = 64 * number + bit as usize;
            let (from, to) = (self.forks[fork] as usize, self.forks[fork + 1] as usize);
            for target in &self.targets[from..to] {
                let number = target.word as usize;
                let open = &mut memory.states[number].open;
                if now >> bit & 1 == 0 {
                    *open &= !target.steps;
                } else {
                    *open |= target.steps;
                    memory.busy[number / 64] |= 1 << (number % 64);
                }
            }
        }
    }

    /// How many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.classes.memory()
            + size_of_val(&*self.moves)
            + size_of_val(&*self.words)
            + size_of_val(&*self.forks)
            + size_of_val(&*self.targets)
            + size_of_val(&*self.ends)
            + size_of_val(&*self.patterns)
            + size_of_val(&*self.on_empty)
    }
}
