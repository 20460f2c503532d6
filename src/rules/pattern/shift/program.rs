//! Rows of one pattern as bits, a bit for each step, that a text moves along.

use super::classes::{ClassMap, Classes};
use super::jump::{Jump, Lead, jump, lead, places};
use super::row::{Row, Sets, rows};
use crate::rules::pattern::ast::{Ast, NodeId};
use crate::rules::pattern::limits::SHIFT_WORDS as MAX_WORDS;
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
    /// Whether a match may begin elsewhere than at the start, and whether every one may.
    floats: bool,
    floats_only: bool,
}

/// What is the same for all units: six kinds of bits, a word of each after the other, together since a search reads
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
/// No steps.
const NONE: usize = 5;
const KINDS: usize = 6;

impl Words {
    fn new(count: usize) -> Self {
        Self {
            all: vec![0; KINDS * count].into(),
            count,
        }
    }

    fn of(&self, kind: usize) -> &[u64] {
        &self.all[kind * self.count..][..self.count]
    }

    /// The words of every kind, of which there must be so many.
    fn kinds<const WORDS: usize>(&self) -> &[[u64; WORDS]; KINDS] {
        let (kinds, _) = self.all.as_chunks();
        let kinds = kinds.first_chunk();
        kinds.expect("a program is run by the number of its words")
    }

    fn of_mut(&mut self, kind: usize) -> &mut [u64] {
        &mut self.all[kind * self.count..][..self.count]
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

    /// Whether something that was added matches at every place of every text, the beginning among them.
    pub(in crate::rules::pattern) fn matches_everywhere(&self) -> bool {
        self.rows
            .iter()
            .any(|row| row.steps.is_empty() && !row.to_end)
    }

    /// The program; `None` if it would have to tell too many kinds of units apart, or be too long.
    pub(in crate::rules::pattern) fn build(self) -> Option<Program> {
        let classes = Classes::new(self.sets.all())?;
        let count = match self.steps.div_ceil(64) {
            0 => 1,
            few @ 1..=4 => few,
            5..=MAX_WORDS => MAX_WORDS,
            _ => return None,
        };
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
            floats_only: words.of(FIRST) == words.of(START),
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
        let lead = self.lead.as_ref().filter(|_| self.floats_only)?;
        lead.reach_before(text)
    }

    /// Whether it matches at a place from here on; `folded` is the text in lower case, if that is known.
    pub(in crate::rules::pattern) fn is_match(
        &self,
        text: Text<'_>,
        from: usize,
        folded: Option<&[u8]>,
    ) -> bool {
        let bytes = text.bytes();
        if self.always || (bytes.is_empty() && self.on_empty) {
            return true;
        }
        match self.words.count {
            1 => self.run::<1>(bytes, from, folded),
            2 => self.run::<2>(bytes, from, folded),
            3 => self.run::<3>(bytes, from, folded),
            4 => self.run::<4>(bytes, from, folded),
            _ => self.run::<MAX_WORDS>(bytes, from, folded),
        }
    }

    /// Whether a match begins exactly here.
    pub(in crate::rules::pattern) fn is_match_at(&self, text: Text<'_>, start: usize) -> bool {
        let bytes = text.bytes();
        match self.words.count {
            _ if self.always => true,
            1 => self.run_at::<1>(bytes, start),
            2 => self.run_at::<2>(bytes, start),
            3 => self.run_at::<3>(bytes, start),
            4 => self.run_at::<4>(bytes, start),
            _ => self.run_at::<MAX_WORDS>(bytes, start),
        }
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

    fn run<const WORDS: usize>(&self, bytes: &[u8], from: usize, folded: Option<&[u8]>) -> bool {
        let (mut at, mut first) = (from, START);
        loop {
            if first == FIRST || self.floats_only {
                if !self.floats {
                    return false;
                }
                match self.next(bytes, folded, at) {
                    Some(next) => at = next,
                    None => return false,
                }
            }
            match self.follow::<WORDS>(bytes, &mut at, first, FIRST) {
                None => return true,
                Some(now) if at >= bytes.len() => return self.is_done_at_end(now),
                Some(_) => first = FIRST,
            }
        }
    }

    fn run_at<const WORDS: usize>(&self, bytes: &[u8], start: usize) -> bool {
        let now = self.follow::<WORDS>(bytes, &mut { start }, START, NONE);
        now.is_none_or(|now| self.is_done_at_end(now))
    }

    /// Moves along from a place until the text ends or nothing is under way: the bits that are set then, or nothing when a
    /// row is done. The steps of one kind may be taken first at the first unit, and those of another at the others.
    #[inline]
    fn follow<const WORDS: usize>(
        &self,
        bytes: &[u8],
        at: &mut usize,
        first: usize,
        later: usize,
    ) -> Option<[u64; WORDS]> {
        let kinds = self.words.kinds::<WORDS>();
        let (inner, last) = (&kinds[INNER], &kinds[LAST]);
        let (mut first, later) = (&kinds[first], &kinds[later]);
        let (moves, _) = self.moves.as_chunks::<WORDS>();
        let (moves, _) = moves.as_chunks::<2>();
        let (mut now, mut place) = ([0; WORDS], *at);
        while place < bytes.len() {
            let (class, length) = self.classes.class(bytes, place);
            place += length;
            let [take, stay] = &moves[class];
            let (mut carry, mut alive, mut done) = (0, 0, 0);
            for word in 0..WORDS {
                let here = now[word];
                let next = (here << 1 | carry) & inner[word] | first[word];
                carry = here >> 63;
                now[word] = next & take[word] | here & stay[word];
                alive |= now[word];
                done |= now[word] & last[word];
            }
            if done != 0 {
                return None;
            }
            if alive == 0 {
                break;
            }
            first = later;
        }
        *at = place;
        Some(now)
    }

    fn is_done_at_end<const WORDS: usize>(&self, now: [u64; WORDS]) -> bool {
        let mut last = now.iter().zip(self.words.of(LAST_AT_END));
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
}
