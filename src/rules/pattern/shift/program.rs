//! Rows of one pattern as bits, a bit for each step, that a text moves along.

use super::classes::{ClassMap, Classes};
use super::jump::{Jump, Lead, jump, lead, places};
use super::row::{Row, Sets, rows};
use crate::rules::pattern::ast::{Ast, NodeId};
use crate::rules::pattern::text::Text;

/// A pattern, or a part of one, to be made a program.
#[derive(Debug, Default)]
pub(in crate::rules::pattern) struct Builder {
    sets: Sets,
    rows: Vec<Row>,
    steps: usize,
}

/// A program; see [`Builder`].
#[derive(Debug)]
pub(in crate::rules::pattern) struct Program {
    classes: ClassMap,
    /// For each class a word of bits after the other: the steps that a unit of the class takes, then as many words of
    /// those it stays at.
    moves: Box<[u64]>,
    words: Words,
    /// Whether any text matches, and whether an empty one does.
    always: bool,
    on_empty: bool,
    /// Where to look for the next possible match when none is under way.
    jump: Option<Jump>,
    lead: Option<Lead>,
    /// Whether a match may begin elsewhere than at the start.
    floats: bool,
}

/// What is the same for all units: five kinds of bits, a word of each after the other, together since a search reads
/// them all.
#[derive(Debug)]
struct Words {
    all: Box<[u64]>,
    count: usize,
}

/// First steps of rows that begin anywhere.
const FIRST: usize = 0;
/// First steps of all rows.
const START: usize = 1;
/// Steps that the step before leads to.
const INNER: usize = 2;
/// Last steps, where a row is done.
const LAST: usize = 3;
/// Last steps of rows that are done at the end of the text only.
const LAST_AT_END: usize = 4;

impl Words {
    fn new(count: usize) -> Self {
        Self {
            all: vec![0; 5 * count].into(),
            count,
        }
    }

    fn of(&self, kind: usize) -> &[u64] {
        &self.all[kind * self.count..][..self.count]
    }

    fn of_mut(&mut self, kind: usize) -> &mut [u64] {
        &mut self.all[kind * self.count..][..self.count]
    }
}

/// The bits of a program of several words while it runs.
#[derive(Debug, Default)]
pub(in crate::rules::pattern) struct Registers {
    now: Vec<u64>,
    next: Vec<u64>,
}

impl Registers {
    /// How many bytes they occupy.
    pub(in crate::rules::pattern) fn memory(&self) -> usize {
        8 * (self.now.capacity() + self.next.capacity())
    }
}

impl Builder {
    /// Adds what this part of a pattern matches; `false`, and nothing added, if bits cannot say it.
    pub(in crate::rules::pattern) fn add(
        &mut self,
        ast: &Ast,
        root: NodeId,
        looks_hold: bool,
    ) -> bool {
        let Some(rows) = rows(ast, root, looks_hold, &mut self.sets) else {
            return false;
        };
        self.steps += rows.iter().map(|row| row.steps.len()).sum::<usize>();
        self.rows.extend(rows);
        true
    }

    /// How many steps have been added.
    pub(in crate::rules::pattern) const fn steps(&self) -> usize {
        self.steps
    }

    /// Whether something that was added matches at every place of every text, the beginning among them.
    pub(in crate::rules::pattern) fn matches_everywhere(&self) -> bool {
        self.rows
            .iter()
            .any(|row| row.steps.is_empty() && !row.to_end)
    }

    /// The program; `None` if it would have to tell too many kinds of units apart.
    pub(in crate::rules::pattern) fn build(self) -> Option<Program> {
        let classes = Classes::new(self.sets.all())?;
        let count = self.steps.div_ceil(64).max(1);
        let mut words = Words::new(count);
        let mut moves = vec![0; 2 * count * classes.count].into_boxed_slice();
        let (mut always, mut on_empty) = (false, false);
        let mut place = 0;
        for row in &self.rows {
            if row.steps.is_empty() {
                let whole = row.from_start && row.to_end;
                *(if whole { &mut on_empty } else { &mut always }) = true;
                continue;
            }
            for (number, step) in row.steps.iter().enumerate() {
                let (word, bit) = (place / 64, 1 << (place % 64));
                if number > 0 {
                    words.of_mut(INNER)[word] |= bit;
                } else {
                    words.of_mut(START)[word] |= bit;
                    words.of_mut(FIRST)[word] |= if row.from_start { 0 } else { bit };
                }
                for class in &classes.of_sets[usize::from(step.take)] {
                    moves[usize::from(*class) * 2 * count + word] |= bit;
                }
                let stay = step.stay.iter();
                for class in stay.flat_map(|set| &classes.of_sets[usize::from(*set)]) {
                    moves[(usize::from(*class) * 2 + 1) * count + word] |= bit;
                }
                if number + 1 == row.steps.len() {
                    let kind = if row.to_end { LAST_AT_END } else { LAST };
                    words.of_mut(kind)[word] |= bit;
                }
                place += 1;
            }
        }
        let places = places(self.rows.iter(), self.sets.all());
        Some(Program {
            jump: jump(&places),
            lead: lead(&places),
            floats: words.of(FIRST).iter().any(|first| *first != 0),
            classes: classes.map,
            moves,
            words,
            always,
            on_empty,
        })
    }
}

impl Program {
    /// How many bytes before the first such text the first match can begin, if matches hold one at that place.
    pub(in crate::rules::pattern) fn reach_before(&self, text: &[u8]) -> Option<usize> {
        let floats_only = self.words.of(FIRST) == self.words.of(START);
        let lead = self.lead.as_ref().filter(|_| floats_only)?;
        lead.reach_before(text)
    }

    /// Whether it matches at a place from here on; `folded` is the text in lower case, if that is known.
    pub(in crate::rules::pattern) fn is_match(
        &self,
        text: Text<'_>,
        from: usize,
        folded: Option<&[u8]>,
        registers: &mut Registers,
    ) -> bool {
        let bytes = text.bytes();
        if self.always || (bytes.is_empty() && self.on_empty) {
            return true;
        }
        if self.words.count == 1 {
            return self.run_one(bytes, from, folded);
        }
        self.run(bytes, from, folded, registers)
    }

    /// Words of bits: what each unit of a text costs.
    pub(in crate::rules::pattern) fn width(&self) -> usize {
        self.words.count
    }

    /// How many bytes it occupies.
    pub(in crate::rules::pattern) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.classes.memory()
            + self.lead.as_ref().map_or(0, Lead::memory)
            + size_of_val(&*self.moves)
            + size_of_val(&*self.words.all)
    }

    fn run_one(&self, bytes: &[u8], from: usize, folded: Option<&[u8]>) -> bool {
        let of = |kind| self.words.of(kind)[0];
        let (any, inner, last) = (of(FIRST), of(INNER), of(LAST));
        let mut first = of(START);
        let (mut now, mut at) = (0, from);
        while at < bytes.len() {
            if now == 0 && first == any {
                if first == 0 {
                    return false;
                }
                match self.next(bytes, folded, at) {
                    Some(next) => at = next,
                    None => return false,
                }
            }
            let class = self.classes.class(bytes, &mut at);
            let (take, stay) = (self.moves[2 * class], self.moves[2 * class + 1]);
            now = (now << 1 & inner | first) & take | now & stay;
            if now & last != 0 {
                return true;
            }
            first = any;
        }
        now & of(LAST_AT_END) != 0
    }

    /// The same for a program of several words.
    fn run(
        &self,
        bytes: &[u8],
        from: usize,
        folded: Option<&[u8]>,
        registers: &mut Registers,
    ) -> bool {
        let count = self.words.count;
        // A word of zeros before the first, for it to carry from.
        for bits in [&mut registers.now, &mut registers.next] {
            bits.clear();
            bits.resize(count + 1, 0);
        }
        let (mut now, mut next) = (&mut registers.now[..], &mut registers.next[..]);
        let (mut at, mut first) = (from, self.words.of(START));
        if from > 0 {
            at = match self.next(bytes, folded, from) {
                Some(next) => next,
                None => return false,
            };
        }
        while at < bytes.len() {
            let class = self.classes.class(bytes, &mut at);
            let moves = &self.moves[2 * class * count..][..2 * count];
            let (alive, done) = self.step(moves, first, now, next);
            if done != 0 {
                return true;
            }
            first = self.words.of(FIRST);
            std::mem::swap(&mut now, &mut next);
            if alive == 0 {
                match self.next(bytes, folded, at) {
                    Some(next) if self.floats => at = next,
                    _ => return false,
                }
            }
        }
        let mut last = now[1..].iter().zip(self.words.of(LAST_AT_END));
        last.any(|(bits, last)| bits & last != 0)
    }

    /// The next place from here on where a match may begin that may begin anywhere.
    fn next(&self, bytes: &[u8], folded: Option<&[u8]>, at: usize) -> Option<usize> {
        match (&self.lead, folded, &self.jump) {
            (Some(lead), Some(folded), _) => lead.next(folded, at),
            (_, _, Some(jump)) => jump.next(bytes, at),
            (_, _, None) => Some(at),
        }
    }

    /// Moves all words by one unit; the bits that are set then, and those of rows that are done, in any word.
    fn step(&self, moves: &[u64], first: &[u64], now: &[u64], next: &mut [u64]) -> (u64, u64) {
        let count = self.words.count;
        let (take, stay) = moves.split_at(count);
        let (inner, last) = (
            &self.words.of(INNER)[..count],
            &self.words.of(LAST)[..count],
        );
        let (before, here, next) = (&now[..count], &now[1..][..count], &mut next[1..][..count]);
        let (first, stay) = (&first[..count], &stay[..count]);
        let (mut alive, mut done) = (0, 0);
        for number in 0..count {
            let shifted = (here[number] << 1 | before[number] >> 63) & inner[number];
            let bits = (shifted | first[number]) & take[number] | here[number] & stay[number];
            next[number] = bits;
            alive |= bits;
            done |= bits & last[number];
        }
        (alive, done)
    }
}
