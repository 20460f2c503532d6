//! Where to look for the next possible match when none is under way.

use super::row::Row;
use crate::rules::pattern::unit_set::UnitSet;

/// Bytes that one place in a match may have, for the search to jump to them.
const MAX_NEEDLES: usize = 3;

/// Steps from a match's beginning to such a place at most.
const MAX_BACK: usize = 12;

/// The bytes that stand at one place of every match, and what is known around them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jump {
    needles: [u8; MAX_NEEDLES],
    count: usize,
    /// How many bytes before that a match begins.
    back: usize,
    /// The bytes that it begins with: a bit for each of ASCII.
    begin: u128,
    /// The bytes behind the needle, if they are known and of ASCII.
    behind: Option<u128>,
}

impl Jump {
    /// The next place from here on where a match may begin.
    pub(super) fn next(&self, bytes: &[u8], at: usize) -> Option<usize> {
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
pub(super) fn jump<'r>(rows: impl Iterator<Item = &'r Row>, sets: &[UnitSet]) -> Option<Jump> {
    let floating: Vec<&Row> = rows
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
pub(super) const fn frequency_of(byte: u8) -> u32 {
    match byte {
        b'a'..=b'z' | b'0'..=b'9' => 4,
        b'A'..=b'Z' | b'-' | b'.' | b'/' | b'_' => 3,
        b' ' | b'%' | b'&' | b';' | b'=' => 2,
        _ => 1,
    }
}
