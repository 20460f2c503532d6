//! Rows of one pattern or of many as bits, a bit for each step, that a text moves along.

use super::row::{Row, Sets, rows};
use crate::rules::pattern::ast::{Ast, NodeId};
use crate::rules::pattern::text::Text;
use crate::rules::pattern::unit_set::UnitSet;

/// Classes of units that a program can tell apart.
const MAX_CLASSES: usize = 255;

/// Bytes that one place in a match may have, for the search to jump to them.
const MAX_NEEDLES: usize = 3;

/// Steps from a match's beginning to such a place at most.
const MAX_BACK: usize = 12;

/// Patterns to be made one program.
#[derive(Debug, Default)]
pub(in crate::rules::pattern) struct Builder {
    sets: Sets,
    /// Each with the pattern it belongs to.
    rows: Vec<(Row, u32)>,
    steps: usize,
    /// Whether a pattern that matches any text is left out.
    is_selective: bool,
    /// Whether the texts may have more before them than patterns see.
    begins_anywhere: bool,
}

/// A program; see [`Builder`].
#[derive(Debug)]
pub(in crate::rules::pattern) struct Program {
    /// The class of each unit of ASCII.
    ascii: Box<[u8; 128]>,
    /// The other units in order: where each run of one class begins.
    wide: Box<[(u16, u8)]>,
    /// For each class a word of bits after the other: the steps that a unit of the class takes, then as many words of
    /// those it stays at.
    moves: Box<[u64]>,
    words: Words,
    /// The pattern that is matched when the last step of a row is reached, and at which place.
    lasts: Box<[Last]>,
    /// Patterns that match any text, and those that match an empty one.
    always: Box<[u32]>,
    on_empty: Box<[u32]>,
    jump: Option<Jump>,
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

#[derive(Clone, Copy, Debug)]
struct Last {
    place: u32,
    pattern: u32,
}

/// Where to look for the next possible match when none is under way.
#[derive(Clone, Copy, Debug)]
struct Jump {
    needles: [u8; MAX_NEEDLES],
    count: usize,
    /// How many bytes before that a match begins.
    back: usize,
    /// The bytes that it begins with: a bit for each of ASCII.
    begin: u128,
    /// The bytes behind the needle, if they are known and of ASCII.
    behind: Option<u128>,
}

/// The bits of a program of several words while it runs.
#[derive(Debug, Default)]
pub(in crate::rules::pattern) struct Registers {
    now: Vec<u64>,
    next: Vec<u64>,
    met: Vec<u64>,
}

impl Registers {
    /// How many bytes they occupy.
    pub(in crate::rules::pattern) fn memory(&self) -> usize {
        8 * (self.now.capacity() + self.next.capacity() + self.met.capacity())
    }
}

impl Builder {
    /// One that leaves out patterns that match any text.
    pub(super) fn selective(begins_anywhere: bool) -> Self {
        Self {
            is_selective: true,
            begins_anywhere,
            ..Self::default()
        }
    }

    /// Adds what this part of a pattern matches; `false`, and nothing added, if bits cannot say it.
    pub(in crate::rules::pattern) fn add(
        &mut self,
        ast: &Ast,
        root: NodeId,
        looks_hold: bool,
        pattern: u32,
    ) -> bool {
        let Some(mut rows) = rows(ast, root, looks_hold, &mut self.sets) else {
            return false;
        };
        if self.begins_anywhere {
            rows.iter_mut().for_each(|row| row.from_start = false);
        }
        if self.is_selective && rows.iter().any(Row::is_trivial) {
            return false;
        }
        self.steps += rows.iter().map(|row| row.steps.len()).sum::<usize>();
        self.rows.extend(rows.into_iter().map(|row| (row, pattern)));
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
            .any(|(row, _)| row.steps.is_empty() && !row.to_end)
    }

    /// The program; `None` if it would have to tell too many kinds of units apart.
    pub(in crate::rules::pattern) fn build(self) -> Option<Program> {
        let classes = Classes::new(self.sets.all())?;
        let count = self.steps.div_ceil(64).max(1);
        let mut words = Words::new(count);
        let mut moves = vec![0; 2 * count * classes.count].into_boxed_slice();
        let (mut lasts, mut always, mut on_empty) = (Vec::new(), Vec::new(), Vec::new());
        let mut place = 0;
        for (row, pattern) in &self.rows {
            if row.steps.is_empty() {
                let whole = row.from_start && row.to_end;
                let list = if whole { &mut on_empty } else { &mut always };
                list.push(*pattern);
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
                    lasts.push(Last {
                        place: place as u32,
                        pattern: *pattern,
                    });
                }
                place += 1;
            }
        }
        Some(Program {
            jump: jump(&self.rows, self.sets.all()),
            floats: words.of(FIRST).iter().any(|first| *first != 0),
            ascii: classes.ascii,
            wide: classes.wide.into(),
            moves,
            words,
            lasts: lasts.into(),
            always: always.into(),
            on_empty: on_empty.into(),
        })
    }
}

impl Program {
    /// Whether any of its patterns matches.
    pub(in crate::rules::pattern) fn is_match(
        &self,
        text: Text<'_>,
        registers: &mut Registers,
    ) -> bool {
        let bytes = text.bytes();
        if !self.always.is_empty() || (bytes.is_empty() && !self.on_empty.is_empty()) {
            return true;
        }
        if self.words.count == 1 {
            return self.run_one(bytes);
        }
        self.run(bytes, registers, true);
        registers.met.iter().any(|met| *met != 0)
    }

    /// Calls `meet` with every pattern that matches, with some perhaps more than once.
    pub(in crate::rules::pattern) fn matches(
        &self,
        text: Text<'_>,
        registers: &mut Registers,
        meet: &mut impl FnMut(u32),
    ) {
        let bytes = text.bytes();
        self.always.iter().for_each(|pattern| meet(*pattern));
        if bytes.is_empty() {
            self.on_empty.iter().for_each(|pattern| meet(*pattern));
        }
        self.run(bytes, registers, false);
        if registers.met.iter().all(|met| *met == 0) {
            return;
        }
        for last in &self.lasts {
            if registers.met[last.place as usize / 64] >> (last.place % 64) & 1 != 0 {
                meet(last.pattern);
            }
        }
    }

    /// Words of bits: what each unit of a text costs.
    pub(in crate::rules::pattern) fn width(&self) -> usize {
        self.words.count
    }

    /// How many bytes it occupies.
    pub(in crate::rules::pattern) fn memory(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.ascii)
            + size_of_val(&*self.wide)
            + size_of_val(&*self.moves)
            + size_of_val(&*self.words.all)
            + size_of_val(&*self.lasts)
            + size_of_val(&*self.always)
            + size_of_val(&*self.on_empty)
    }

    fn run_one(&self, bytes: &[u8]) -> bool {
        let of = |kind| self.words.of(kind)[0];
        let (any, inner, last) = (of(FIRST), of(INNER), of(LAST));
        let mut first = of(START);
        let (mut now, mut at) = (0, 0);
        while at < bytes.len() {
            if now == 0 && first == any {
                match &self.jump {
                    Some(jump) => match jump.next(bytes, at) {
                        Some(next) => at = next,
                        None => return false,
                    },
                    None if first == 0 => return false,
                    None => {}
                }
            }
            let class = self.class(bytes, &mut at);
            let (take, stay) = (self.moves[2 * class], self.moves[2 * class + 1]);
            now = (now << 1 & inner | first) & take | now & stay;
            if now & last != 0 {
                return true;
            }
            first = any;
        }
        now & of(LAST_AT_END) != 0
    }

    /// Notes in the registers which last steps are met; only whether there are any, if one `is_enough`.
    fn run(&self, bytes: &[u8], registers: &mut Registers, is_enough: bool) {
        let count = self.words.count;
        // A word of zeros before the first, for it to carry from.
        for bits in [&mut registers.now, &mut registers.next] {
            bits.clear();
            bits.resize(count + 1, 0);
        }
        registers.met.clear();
        registers.met.resize(count, 0);
        let met = &mut registers.met[..count];
        let (mut now, mut next) = (&mut registers.now[..], &mut registers.next[..]);
        let (mut at, mut first) = (0, self.words.of(START));
        while at < bytes.len() {
            let class = self.class(bytes, &mut at);
            let moves = &self.moves[2 * class * count..][..2 * count];
            let (alive, done) = self.step(moves, first, now, next, met);
            first = self.words.of(FIRST);
            std::mem::swap(&mut now, &mut next);
            if is_enough && done != 0 {
                return;
            }
            match &self.jump {
                Some(jump) if alive == 0 => at = jump.next(bytes, at).unwrap_or(bytes.len()),
                None if alive == 0 && !self.floats => return,
                _ => {}
            }
        }
        let last = self.words.of(LAST_AT_END).iter();
        for ((met, bits), last) in met.iter_mut().zip(&now[1..]).zip(last) {
            *met |= bits & last;
        }
    }

    /// Moves all words by one unit; the bits that are set then, and those of rows that are done, in any word.
    fn step(
        &self,
        moves: &[u64],
        first: &[u64],
        now: &[u64],
        next: &mut [u64],
        met: &mut [u64],
    ) -> (u64, u64) {
        let count = met.len();
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
            met[number] |= bits & last[number];
            alive |= bits;
            done |= bits & last[number];
        }
        (alive, done)
    }

    /// The class of the unit that begins here, which is stepped over.
    #[inline]
    fn class(&self, bytes: &[u8], at: &mut usize) -> usize {
        let byte = bytes[*at];
        if let Some(class) = self.ascii.get(usize::from(byte)) {
            *at += 1;
            return usize::from(*class);
        }
        self.wide_class(bytes, at)
    }

    #[cold]
    fn wide_class(&self, bytes: &[u8], at: &mut usize) -> usize {
        let part = |ahead: usize| u16::from(bytes.get(*at + ahead).copied().unwrap_or(0) & 0x3f);
        let lead = bytes[*at];
        let (unit, length) = if lead < 0xe0 {
            (u16::from(lead & 0x1f) << 6 | part(1), 2)
        } else {
            (u16::from(lead & 0x0f) << 12 | part(1) << 6 | part(2), 3)
        };
        *at += length;
        let run = self.wide.partition_point(|(start, _)| *start <= unit);
        let class = run.checked_sub(1).map_or(0, |run| self.wide[run].1);
        usize::from(class)
    }
}

impl Jump {
    /// The next place from here on where a match may begin.
    fn next(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let mut from = at + self.back;
        loop {
            let rest = bytes.get(from..)?;
            let [one, two, three] = self.needles;
            let found = match self.count {
                1 => memchr::memchr(one, rest)?,
                2 => memchr::memchr2(one, two, rest)?,
                _ => memchr::memchr3(one, two, three, rest)?,
            };
            let start = from + found - self.back;
            let is_in = |set: u128, at: usize| {
                let byte = bytes.get(at).filter(|byte| byte.is_ascii());
                byte.is_some_and(|byte| set >> byte & 1 != 0)
            };
            if is_in(self.begin, start)
                && self.behind.is_none_or(|set| is_in(set, from + found + 1))
            {
                return Some(start);
            }
            from += found + 1;
        }
    }
}

/// The place in all rows that the fewest bytes stand at, if they are few.
fn jump(rows: &[(Row, u32)], sets: &[UnitSet]) -> Option<Jump> {
    let floating = rows.iter().map(|(row, _)| row);
    let floating: Vec<&Row> = floating
        .filter(|row| !row.from_start && !row.steps.is_empty())
        .collect();
    let shortest = floating.iter().map(|row| row.steps.len()).min()?;
    let place = |number: usize| {
        let mut set = UnitSet::default();
        for row in &floating {
            set.union(&sets[usize::from(row.steps[number].take)]);
        }
        set.wide().is_empty().then_some(set)
    };
    let repeats = |number: usize| floating.iter().any(|row| row.steps[number].stay.is_some());
    let begin = place(0)?.ascii();
    let mut best: Option<(u32, Jump)> = None;
    for back in 0..shortest.min(MAX_BACK) {
        let Some(set) = place(back) else {
            break;
        };
        if let Some((frequency, needles, count)) = needles(&set)
            && best.is_none_or(|(least, _)| frequency < least)
        {
            let next = (back + 1 < shortest && !repeats(back)).then_some(back + 1);
            let jump = Jump {
                needles,
                count,
                back,
                begin,
                behind: next.and_then(place).map(|set| set.ascii()),
            };
            best = Some((frequency, jump));
        }
        // Behind a step that may repeat, places are no longer known.
        if repeats(back) {
            break;
        }
    }
    best.map(|(_, jump)| jump)
}

/// The bytes of a set with how often they are met, if they are few.
fn needles(set: &UnitSet) -> Option<(u32, [u8; MAX_NEEDLES], usize)> {
    let bytes = set.ascii_ranges().flat_map(|(first, last)| first..=last);
    let mut needles = [0; MAX_NEEDLES];
    let (mut count, mut frequency) = (0, 0);
    for byte in bytes {
        *needles.get_mut(count)? = byte;
        count += 1;
        frequency += frequency_of(byte);
    }
    (count > 0).then_some((frequency, needles, count))
}

/// How often a byte stands in URLs, cookies and other fields, roughly.
const fn frequency_of(byte: u8) -> u32 {
    match byte {
        b'a'..=b'z' | b'0'..=b'9' => 4,
        b'A'..=b'Z' | b'-' | b'.' | b'/' | b'_' => 3,
        b' ' | b'%' | b'&' | b';' | b'=' => 2,
        _ => 1,
    }
}

/// Units that no set of a program tells apart are one class.
struct Classes {
    count: usize,
    ascii: Box<[u8; 128]>,
    wide: Vec<(u16, u8)>,
    /// The classes of each set.
    of_sets: Vec<Vec<u8>>,
}

impl Classes {
    fn new(sets: &[UnitSet]) -> Option<Self> {
        let mut parts: Vec<u128> = vec![u128::MAX];
        for set in sets {
            let bits = set.ascii();
            for at in 0..parts.len() {
                let (inside, outside) = (parts[at] & bits, parts[at] & !bits);
                if inside != 0 && outside != 0 {
                    parts[at] = inside;
                    parts.push(outside);
                }
            }
        }
        let mut ascii = Box::new([0; 128]);
        let mut of_sets: Vec<Vec<u8>> = vec![Vec::new(); sets.len()];
        for (class, part) in (0..).zip(&parts) {
            for (set, classes) in sets.iter().zip(&mut of_sets) {
                if part & set.ascii() != 0 {
                    classes.push(class);
                }
            }
            let mut rest = *part;
            while rest != 0 {
                ascii[rest.trailing_zeros() as usize] = class;
                rest &= rest - 1;
            }
        }
        let mut count = parts.len();
        let wide = wide_classes(sets, &mut of_sets, &mut count)?;
        Some(Self {
            count,
            ascii,
            wide,
            of_sets,
        })
    }
}

fn wide_classes(
    sets: &[UnitSet],
    of_sets: &mut [Vec<u8>],
    count: &mut usize,
) -> Option<Vec<(u16, u8)>> {
    let mut starts = vec![0x80];
    for (first, last) in sets.iter().flat_map(UnitSet::wide) {
        starts.push(*first);
        starts.extend(last.checked_add(1));
    }
    starts.sort_unstable();
    starts.dedup();
    let mut known: Vec<(Vec<bool>, u8)> = Vec::new();
    let mut wide = Vec::with_capacity(starts.len());
    for start in starts {
        let inside: Vec<bool> = sets.iter().map(|set| set.contains(start)).collect();
        let class = match known.iter().find(|(other, _)| *other == inside) {
            Some((_, class)) => *class,
            None => {
                if *count >= MAX_CLASSES {
                    return None;
                }
                let class = *count as u8;
                *count += 1;
                for (classes, _) in of_sets
                    .iter_mut()
                    .zip(&inside)
                    .filter(|(_, inside)| **inside)
                {
                    classes.push(class);
                }
                known.push((inside, class));
                class
            }
        };
        wide.push((start, class));
    }
    Some(wide)
}
