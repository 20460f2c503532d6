//! Finds the rules whose required texts are in an input, in about the same time for any number of rules.
//!
//! Layer 1, inside `rules`. Called by the indexed matcher; calls pattern.
//! Holds: a rule whose text is in the input is always found; what is found beside it costs time and no verdict;
//!        a scan allocates nothing once its memory is warm.
//! See `guide::architecture` for how a request is judged.

mod clause;
mod cost;
mod literal;
mod strings;
mod table;

use self::clause::Clause;
pub(crate) use self::literal::Literals;
use self::table::Table;
use crate::rules::pattern::Tree;

/// The shortest text worth looking for: a single byte is in nearly every input.
const MIN_BYTES: usize = 2;

/// Texts up to this length have a table of their own, since they need to be looked for at every byte.
const SHORT: usize = 3;

/// How often a clause may be found in honest requests; one that is found more often saves nothing.
const MAX_COST: f64 = 0.5;

/// The texts of one input, and whose they are.
#[derive(Debug)]
pub(super) struct Gate {
    bytes: Box<[u8]>,
    /// Where each text begins in the bytes and where its rules begin; at last where all end.
    texts: Box<[(u32, u32)]>,
    rules: Box<[u32]>,
    tables: Vec<Table>,
}

/// What a gate remembers between scans.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// For each text, the scan that found it last and the number of the hit.
    last: Vec<(u32, u32)>,
    scan: u32,
}

/// A text that stands in an input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hit {
    text: u32,
    /// The place, if there is no other.
    pub(super) place: Option<usize>,
}

/// A gate under construction.
#[derive(Debug, Default)]
pub(super) struct GateBuilder {
    bytes: Vec<u8>,
    /// For each text of each rule, where it begins and ends in the bytes, and the rule.
    texts: Vec<(u32, u32, u32)>,
}

/// What a pattern requires of its input.
#[derive(Debug)]
pub(crate) struct Requirement {
    pub(super) clause: Clause,
    /// How often one of the texts will be found in vain.
    pub(super) cost: f64,
}

/// What a pattern requires, if looking for it is worth while.
pub(crate) fn requirement(tree: &Tree, literals: &mut Literals) -> Option<Requirement> {
    let (texts, cost) = literals.required(tree)?;
    let mut texts = literals.texts(texts);
    let clause = Clause::new(texts.clone());
    let is_long = texts.all(|text| text.len() >= MIN_BYTES);
    (is_long && cost <= MAX_COST).then_some(Requirement { clause, cost })
}

impl GateBuilder {
    /// Adds the texts of a rule.
    pub(super) fn add(&mut self, rule: u32, clause: &Clause) {
        for text in clause.iter() {
            let start = self.bytes.len() as u32;
            self.bytes.extend_from_slice(text);
            self.texts.push((start, self.bytes.len() as u32, rule));
        }
    }

    pub(super) fn build(mut self) -> Gate {
        let all = self.bytes;
        let text_of = |(start, end, _): &(u32, u32, u32)| &all[*start as usize..*end as usize];
        self.texts
            .sort_unstable_by(|one, other| (text_of(one), one.2).cmp(&(text_of(other), other.2)));
        self.texts
            .dedup_by(|one, other| one.2 == other.2 && text_of(one) == text_of(other));
        let (mut bytes, mut texts) = (Vec::new(), Vec::new());
        let mut last = None;
        for (rule, text) in self.texts.iter().map(text_of).enumerate() {
            if last != Some(text) {
                texts.push((bytes.len() as u32, rule as u32));
                bytes.extend_from_slice(text);
                last = Some(text);
            }
        }
        texts.push((bytes.len() as u32, self.texts.len() as u32));
        let rules = self.texts.iter().map(|(_, _, rule)| *rule).collect();
        let mut tables = Vec::new();
        for short in [false, true] {
            let chosen = (0..)
                .zip(texts.windows(2))
                .map(|(number, ends)| (number, &bytes[ends[0].0 as usize..ends[1].0 as usize]))
                .filter(|(_, text)| (text.len() <= SHORT) == short);
            if chosen.clone().next().is_some() {
                tables.push(Table::new(chosen));
            }
        }
        Gate {
            bytes: bytes.into_boxed_slice(),
            texts: texts.into_boxed_slice(),
            rules,
            tables,
        }
    }
}

impl Gate {
    /// Lists every text in the input.
    pub(super) fn scan(&self, input: &[u8], seen: &mut Seen, hits: &mut Vec<Hit>) {
        seen.begin(self.texts.len());
        hits.clear();
        let mut finds = Finds {
            gate: self,
            input,
            seen,
            hits,
        };
        for table in &self.tables {
            table.scan(input, &mut |text, at| finds.take(text, at));
        }
    }

    /// The text of a hit and its rules.
    pub(super) fn text(&self, hit: Hit) -> (&[u8], &[u32]) {
        self.numbered(hit.text as usize)
    }

    #[inline]
    fn numbered(&self, text: usize) -> (&[u8], &[u32]) {
        let ((first, rules), (end, rules_end)) = (self.texts[text], self.texts[text + 1]);
        (
            &self.bytes[first as usize..end as usize],
            &self.rules[rules as usize..rules_end as usize],
        )
    }

    /// Calls `visit` with every text and each of its rules.
    pub(super) fn each<'g>(&'g self, visit: &mut impl FnMut(&'g [u8], u32)) {
        for text in 0..self.texts.len() - 1 {
            let (text, rules) = self.numbered(text);
            rules.iter().for_each(|rule| visit(text, *rule));
        }
    }

    /// About how many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        let tables: usize = self.tables.iter().map(Table::memory).sum();
        size_of_val(&*self.bytes) + size_of_val(&*self.texts) + size_of_val(&*self.rules) + tables
    }
}

/// What a scan finds.
struct Finds<'s> {
    gate: &'s Gate,
    input: &'s [u8],
    seen: &'s mut Seen,
    hits: &'s mut Vec<Hit>,
}

impl Finds<'_> {
    /// Notes a text that may stand at a place, if it does; one that may stand at another, too, has none.
    #[inline(never)]
    fn take(&mut self, number: u32, place: usize) {
        let (scan, hit) = self.seen.last[number as usize];
        if scan == self.seen.scan {
            self.hits[hit as usize].place = None;
            return;
        }
        let (wanted, _) = self.gate.numbered(number as usize);
        let there = self.input.get(place..);
        let there = there.and_then(|rest| rest.get(..wanted.len()));
        if there.is_some_and(|there| is_alike(there, wanted)) {
            self.seen.last[number as usize] = (self.seen.scan, self.hits.len() as u32);
            self.hits.push(Hit {
                text: number,
                place: Some(place),
            });
        }
    }
}

/// Whether bytes are as many others, without regard to the case of letters.
///
/// Eight are compared at a time, for the bits that both cases share: nearly all that look like a text and are none differ in
/// these, and nearly all that are one do not differ.
fn is_alike(bytes: &[u8], others: &[u8]) -> bool {
    const CASE: u64 = 0x2020_2020_2020_2020;
    let (Some(last), Some(other_last)) = (bytes.last_chunk(), others.last_chunk()) else {
        return bytes.eq_ignore_ascii_case(others);
    };
    let (chunks, other_chunks) = (bytes.as_chunks().0, others.as_chunks().0);
    let pairs = chunks.iter().zip(other_chunks).chain([(last, other_last)]);
    let mut differing = 0;
    for (chunk, other) in pairs {
        differing |= u64::from_ne_bytes(*chunk) ^ u64::from_ne_bytes(*other);
        if differing & !CASE != 0 {
            return false;
        }
    }
    differing == 0 || bytes.eq_ignore_ascii_case(others)
}

impl Seen {
    fn begin(&mut self, texts: usize) {
        self.scan = self.scan.wrapping_add(1);
        if self.scan == 0 {
            self.last.clear();
            self.scan = 1;
        }
        self.last.resize(texts, (0, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(texts: &[&str]) -> Gate {
        let mut builder = GateBuilder::default();
        for (rule, text) in (0..).zip(texts) {
            builder.add(rule, &Clause::new([text.as_bytes()].into_iter()));
        }
        builder.build()
    }

    fn found(gate: &Gate, seen: &mut Seen, input: &str) -> Vec<u32> {
        let mut hits = Vec::new();
        gate.scan(input.as_bytes(), seen, &mut hits);
        let mut found: Vec<_> = hits
            .iter()
            .flat_map(|hit| gate.text(*hit).1)
            .copied()
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn the_rules_of_texts_in_the_input_are_found_once() {
        let gate = gate(&["powershell", "xyz", "ab", "powershell", "@[`{"]);
        let mut seen = Seen::default();
        for (input, expected) in [
            ("", &[][..]),
            ("a", &[]),
            ("aB", &[2]),
            ("PowerShell and powershell", &[0, 3]),
            ("PowerShel", &[]),
            ("powershellabxyz", &[0, 1, 2, 3]),
            // They differ in the bit that letters differ in, and are none.
            ("`{@[", &[]),
            ("@[`{", &[4]),
        ] {
            assert_eq!(found(&gate, &mut seen, input), expected, "{input}");
        }
    }

    #[test]
    fn bytes_are_alike_that_differ_in_case_only() {
        for (one, other, alike) in [
            ("", "", true),
            ("ab", "aB", true),
            ("ab", "ac", false),
            ("abcdefgh", "abcdefgh", true),
            ("abcdefgh", "aBcdefgH", true),
            ("abcdefgh", "abcdefgi", false),
            ("abcdefg@", "abcdefg`", false),
            ("abcdefghij", "abcdefghiJ", true),
            ("abcdefghij", "abcdefghik", false),
            ("abcdefghij[klmnop", "abcdefghij{klmnop", false),
            ("abcdefghijklmnopq", "ABCDEFGHIJKLMNOPQ", true),
            ("xbcdefghijklmnopq", "ABCDEFGHIJKLMNOPQ", false),
        ] {
            assert_eq!(
                is_alike(one.as_bytes(), other.as_bytes()),
                alike,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn a_text_has_a_place_where_it_stands_once() {
        let gate = gate(&["powershell", "aaaaaaaaaa", "ab"]);
        let mut seen = Seen::default();
        let mut hits = Vec::new();
        for (input, expected) in [
            ("", &[][..]),
            ("..powershell", &[("powershell", Some(2))]),
            ("powershell PowerShell", &[("powershell", None)]),
            ("xxaB", &[("ab", Some(2))]),
            ("abab", &[("ab", None)]),
            ("aaaaaaaaa", &[]),
            ("...aaaaaaaaaaa", &[("aaaaaaaaaa", None)]),
        ] {
            gate.scan(input.as_bytes(), &mut seen, &mut hits);
            let found = hits.iter().map(|hit| (gate.text(*hit).0, hit.place));
            let expected = expected
                .iter()
                .map(|(text, place)| (text.as_bytes(), *place));
            assert!(found.eq(expected), "{input} {hits:?}");
        }
    }

    #[test]
    fn what_is_remembered_survives_the_end_of_numbers() {
        let gate = gate(&["powershell"]);
        let mut seen = Seen::default();
        assert_eq!(found(&gate, &mut seen, "powershell"), [0]);
        seen.scan = u32::MAX;
        assert_eq!(found(&gate, &mut seen, "powershell"), [0]);
        assert_eq!(found(&gate, &mut seen, "powershell"), [0]);
    }
}
