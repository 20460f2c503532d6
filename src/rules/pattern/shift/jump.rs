//! Where to look for the next possible match when none is under way.

use memchr::memmem::Finder;

use super::row::Row;
use crate::rules::pattern::texts::only_byte;
use crate::rules::pattern::unit_set::UnitSet;

/// Bytes that one place in a match may have, for the search to jump to them.
const MAX_NEEDLES: usize = 3;

/// Steps from a match's beginning to such a place at most.
const MAX_BACK: usize = 12;

/// Places of a match that are looked at for a text, and bytes that it must have at least.
const MAX_PLACES: usize = 64;
const MIN_TEXT: usize = 3;

/// A text that stands at one place of every match, in lower case.
#[derive(Debug)]
pub(super) struct Lead {
    text: Finder<'static>,
    /// How many bytes before it a match begins.
    back: usize,
}

impl Lead {
    /// The next place from here on where a match may begin, in a text in lower case.
    pub(super) fn next(&self, folded: &[u8], at: usize) -> Option<usize> {
        let mut at = at;
        loop {
            let rest = folded.get(at + self.back..)?;
            at += self.text.find(rest)?;
            // What stands before the text is of ASCII, too: a match cannot begin inside another character.
            if folded[at].is_ascii() {
                return Some(at);
            }
            at += 1;
        }
    }

    /// How many bytes before this text a match begins, if it is the one.
    pub(super) fn reach_before(&self, text: &[u8]) -> Option<usize> {
        (self.text.needle() == text).then_some(self.back)
    }

    /// About how many bytes it occupies beside itself.
    pub(super) fn memory(&self) -> usize {
        self.text.needle().len()
    }
}

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

/// The units at the places of a match, as far as all rows that may begin anywhere have them at the same place; none if
/// there is a place where they may be beyond ASCII.
pub(super) fn places<'r>(rows: impl Iterator<Item = &'r Row>, sets: &[UnitSet]) -> Vec<UnitSet> {
    let floating: Vec<&Row> = rows
        .filter(|row| !row.from_start && !row.steps.is_empty())
        .collect();
    let shortest = floating.iter().map(|row| row.steps.len()).min();
    let mut places = Vec::new();
    for number in 0..shortest.unwrap_or(0).min(MAX_PLACES) {
        let mut set = UnitSet::default();
        for row in &floating {
            set.union(&sets[usize::from(row.steps[number].take)]);
        }
        if !set.wide().is_empty() {
            break;
        }
        places.push(set);
        // Behind a step that may repeat, places are no longer known.
        if floating.iter().any(|row| row.steps[number].stay.is_some()) {
            break;
        }
    }
    places
}

/// The place that the fewest bytes stand at, if they are few.
pub(super) fn jump(places: &[UnitSet]) -> Option<Jump> {
    let begin = places.first()?.ascii();
    let mut best: Option<(u32, Jump)> = None;
    for (back, set) in places.iter().enumerate().take(MAX_BACK) {
        if let Some((frequency, needles, count)) = needles(set)
            && best.is_none_or(|(least, _)| frequency < least)
        {
            let jump = Jump {
                needles,
                count,
                back,
                begin,
                behind: places.get(back + 1).map(UnitSet::ascii),
            };
            best = Some((frequency, jump));
        }
    }
    best.map(|(_, jump)| jump)
}

/// The longest text that stands at the same place of every match.
pub(super) fn lead(places: &[UnitSet]) -> Option<Lead> {
    let bytes: Vec<Option<u8>> = places.iter().map(only_byte).collect();
    let (mut best, mut from) = (0..0, 0);
    for at in 0..=bytes.len() {
        if bytes.get(at).copied().flatten().is_none() {
            if at - from > best.len() {
                best = from..at;
            }
            from = at + 1;
        }
    }
    let text: Vec<u8> = bytes[best.clone()].iter().flatten().copied().collect();
    (text.len() >= MIN_TEXT).then(|| Lead {
        text: Finder::new(&text).into_owned(),
        back: best.start,
    })
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
