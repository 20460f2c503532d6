//! Texts that every match of a pattern holds, and recent inputs in lower case to look for them in.

use std::ops::RangeInclusive;

use memchr::memmem::Finder;

use super::ast::{Ast, Node, NodeId};
use super::unit_set::UnitSet;

/// As many of a pattern's texts are looked for, the longest ones.
const MAX_TEXTS: usize = 4;

/// Shorter texts than this are in too many inputs, unless they are signs.
const MIN_BYTES: usize = 3;

/// The lengths of inputs that are remembered: shorter ones are read at once, and longer ones take memory.
const REMEMBERED: RangeInclusive<usize> = 64..=64 * 1024;

/// Texts which stand in every match, one behind the other.
pub(super) type Texts = Box<[Required]>;

/// A text that stands in every match.
#[derive(Debug)]
pub(super) struct Required {
    finder: Finder<'static>,
    has_letters: bool,
}

impl Required {
    fn new(text: &[u8]) -> Self {
        Self {
            finder: Finder::new(text).into_owned(),
            has_letters: text.iter().any(u8::is_ascii_alphabetic),
        }
    }

    /// The text, in lower case.
    pub(super) fn text(&self) -> &[u8] {
        self.finder.needle()
    }

    pub(super) const fn has_letters(&self) -> bool {
        self.has_letters
    }

    /// Whether it can be looked for in an input whose small letters are known, or in one whose are not.
    pub(super) const fn can_be_sought(&self, letters_are_known: bool) -> bool {
        letters_are_known || !self.has_letters
    }

    /// The first place from this one on at which it stands, as far as it [can be sought](Self::can_be_sought).
    pub(super) fn find(
        &self,
        bytes: &[u8],
        recent: Option<&mut RecentInput>,
        from: usize,
    ) -> Option<usize> {
        let folded = recent.filter(|_| self.has_letters);
        let rest = folded.map_or(bytes, |recent| recent.folded()).get(from..)?;
        Some(from + self.finder.find(rest)?)
    }

    /// About how many bytes it occupies.
    fn memory(&self) -> usize {
        size_of::<Self>() + self.text().len()
    }
}

/// The texts that stand in every match of this part of a pattern, in their order.
pub(super) fn texts(ast: &Ast, root: NodeId) -> Texts {
    let mut reader = Reader {
        ast,
        done: Vec::new(),
        run: Vec::new(),
    };
    reader.node(root);
    reader.end_run();
    let mut texts = reader.done;
    let is_sign = |text: &[u8]| !text.iter().all(u8::is_ascii_alphanumeric);
    texts.retain(|text| text.len() >= MIN_BYTES || is_sign(text));
    while texts.len() > MAX_TEXTS {
        let shortest = (0..texts.len()).min_by_key(|at| texts[*at].len());
        texts.remove(shortest.unwrap_or_default());
    }
    texts.iter().map(|text| Required::new(text)).collect()
}

/// How many bytes texts occupy, about.
pub(super) fn memory(texts: &Texts) -> usize {
    texts.iter().map(Required::memory).sum()
}

/// The only text of a part of a pattern that matches wherever this text stands, whatever is around it.
pub(super) fn whole_text(ast: &Ast, root: NodeId) -> Option<Vec<u8>> {
    let mut whole = Whole {
        ast,
        text: Vec::new(),
        ended: false,
    };
    (whole.takes(root) && !whole.text.is_empty()).then_some(whole.text)
}

struct Whole<'a> {
    ast: &'a Ast,
    text: Vec<u8>,
    /// Something that takes any number of characters follows the text.
    ended: bool,
}

impl Whole<'_> {
    /// Whether this goes on with the text, or is around it and may take nothing.
    fn takes(&mut self, id: NodeId) -> bool {
        match self.ast.node(id) {
            Node::Class(number) => {
                let set = self.ast.class(number);
                let both = only_byte(set).filter(|byte| has_both_cases(set, *byte));
                both.is_some_and(|byte| self.push(byte))
            }
            Node::Concat(kids) => self.ast.kids(kids).iter().all(|kid| self.takes(*kid)),
            Node::Empty => true,
            Node::Group { sub, .. } => self.takes(sub),
            Node::Repeat { min: 0, .. } => {
                self.ended = !self.text.is_empty();
                true
            }
            Node::Unit(unit) => match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii_alphabetic() => {
                    self.ast.ignore_case() && self.push(byte.to_ascii_lowercase())
                }
                Ok(byte) => byte.is_ascii() && self.push(byte),
                Err(_) => false,
            },
            Node::Alternate(_)
            | Node::Backreference(_)
            | Node::Boundary { .. }
            | Node::End
            | Node::Look { .. }
            | Node::Repeat { .. }
            | Node::Start => false,
        }
    }

    fn push(&mut self, byte: u8) -> bool {
        self.text.push(byte);
        !self.ended
    }
}

/// Whether a set that holds no other byte has this one in both cases.
fn has_both_cases(set: &UnitSet, byte: u8) -> bool {
    let bytes = set.ascii_ranges().flat_map(|(first, last)| first..=last);
    bytes.count() == if byte.is_ascii_alphabetic() { 2 } else { 1 }
}

struct Reader<'a> {
    ast: &'a Ast,
    done: Vec<Vec<u8>>,
    run: Vec<u8>,
}

impl Reader<'_> {
    /// Recursion ends with the nesting limit of the parser.
    fn node(&mut self, id: NodeId) {
        match self.ast.node(id) {
            Node::Alternate(_) | Node::Backreference(_) => self.end_run(),
            // These take nothing, so what stands on both sides of them stands together.
            Node::Boundary { .. } | Node::Empty | Node::End | Node::Look { .. } | Node::Start => {}
            Node::Class(number) => match only_byte(self.ast.class(number)) {
                Some(byte) => self.run.push(byte),
                None => self.end_run(),
            },
            Node::Concat(kids) => {
                for kid in self.ast.kids(kids) {
                    self.node(*kid);
                }
            }
            Node::Group { sub, .. } => self.node(sub),
            Node::Repeat { min: 0, .. } => self.end_run(),
            Node::Repeat { sub, .. } => {
                self.end_run();
                self.node(sub);
                self.end_run();
            }
            Node::Unit(unit) => match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => self.run.push(byte.to_ascii_lowercase()),
                _ => self.end_run(),
            },
        }
    }

    fn end_run(&mut self) {
        if !self.run.is_empty() {
            self.done.push(std::mem::take(&mut self.run));
        }
    }
}

/// The byte that all units of a set are in lower case, if they are one.
pub(super) fn only_byte(set: &UnitSet) -> Option<u8> {
    if !set.wide().is_empty() {
        return None;
    }
    let mut bytes = set.ascii_ranges().flat_map(|(first, last)| first..=last);
    let byte = bytes.next()?.to_ascii_lowercase();
    bytes
        .all(|other| other.to_ascii_lowercase() == byte)
        .then_some(byte)
}

/// The inputs that were searched last, since the rules that are found search the same ones in turn.
#[derive(Debug, Default)]
pub(super) struct RecentInputs {
    inputs: [RecentInput; 2],
    /// The one that is not replaced next.
    last: usize,
    /// How many were remembered so far.
    count: u64,
}

/// An input that may be searched again.
#[derive(Debug, Default)]
pub(super) struct RecentInput {
    /// Tells it from every other that one cache remembered; 0 for none.
    number: u64,
    input: Vec<u8>,
    is_ascii: bool,
    folded: Vec<u8>,
    is_folded: bool,
}

impl RecentInputs {
    /// The input as it is known, if it is one that is worth knowing.
    pub(super) fn find(&mut self, input: &[u8]) -> Option<&mut RecentInput> {
        if !REMEMBERED.contains(&input.len()) {
            return None;
        }
        if self.inputs[self.last].input != input {
            self.last = 1 - self.last;
            let other = &mut self.inputs[self.last];
            if other.input != input {
                self.count += 1;
                other.number = self.count;
                other.input.clear();
                other.input.extend_from_slice(input);
                other.is_ascii = input.is_ascii();
                other.is_folded = false;
            }
        }
        Some(&mut self.inputs[self.last])
    }

    /// How many bytes they occupy.
    pub(super) fn memory(&self) -> usize {
        let inputs = self.inputs.iter();
        inputs
            .map(|recent| recent.input.capacity() + recent.folded.capacity())
            .sum()
    }
}

impl RecentInput {
    /// Tells it from every other that one cache remembered.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) const fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    /// The input with small letters.
    pub(super) fn folded(&mut self) -> &[u8] {
        if !self.is_folded {
            self.folded.clear();
            self.folded.extend_from_slice(&self.input);
            self.folded.make_ascii_lowercase();
            self.is_folded = true;
        }
        &self.folded
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::rules::pattern::ecmascript;

    #[test]
    fn texts_are_those_of_every_match_in_their_order() {
        for (pattern, expected) in [
            ("a", &[][..]),
            ("Abc", &["abc"]),
            (
                "(.*)X-BEResource=(.+)/(.+)~(.+)",
                &["x-beresource=", "/", "~"],
            ),
            ("jndi:(ldap|rmi|dns)://word", &["jndi:", "://word"]),
            ("(abc)+def", &["abc", "def"]),
            ("(abc)*def", &["def"]),
            ("(?:abc)?def", &["def"]),
            ("ab[cC]d\\b[e]f", &["abcdef"]),
            ("abc|abd", &[]),
            ("abc(?=def)ghi", &["abcghi"]),
            ("aaa.bbbb.ccc.ddd.eeee", &["bbbb", "ccc", "ddd", "eeee"]),
            ("abc\u{e9}def", &["abc", "def"]),
        ] {
            let ast = ecmascript::parse(pattern, true, false).unwrap();
            let found = texts(&ast, ast.root());
            let found: Vec<_> = found.iter().map(Required::text).collect();
            let expected: Vec<_> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn whole_text_is_that_of_patterns_that_say_nothing_else() {
        for (pattern, expected) in [
            ("abc", Some("abc")),
            (".*abc", Some("abc")),
            ("(.*)X-Be(.*)", Some("x-be")),
            ("(?:[^/]*)a[bB][.]c\\/d{0,3}", Some("ab.c/")),
            ("a[b]c", Some("abc")),
            ("abc.*d", None),
            ("^abc", None),
            ("abc$", None),
            ("\\babc", None),
            ("abc.", None),
            ("a+", None),
            ("abc|abd", None),
            ("(?=abc)abc", None),
            ("ab\u{e9}", None),
            (".*", None),
        ] {
            let ast = ecmascript::parse(pattern, true, false).unwrap();
            let found = whole_text(&ast, ast.root());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{pattern}");
        }
        for (pattern, expected) in [("abc", None), ("/[a]", None), ("/1[aA]", Some("/1a"))] {
            let ast = ecmascript::parse(pattern, false, false).unwrap();
            let found = whole_text(&ast, ast.root());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{pattern}");
        }
    }

    #[test]
    fn recent_inputs_are_those_that_were_asked_for() {
        let mut inputs = RecentInputs::default();
        let one = "Ab".repeat(40).into_bytes();
        let two = "\u{c9}B".repeat(40).into_bytes();
        let three = "aB".repeat(40).into_bytes();
        let mut numbers = HashMap::new();
        for input in [&one, &two, &one, &two, &three, &one, &three, &two, &two] {
            let recent = inputs.find(input).unwrap();
            let known = numbers.insert(recent.number(), input);
            assert!(known.is_none_or(|known| known == input));
            assert_eq!(recent.is_ascii(), input.is_ascii());
            assert_eq!(recent.folded(), input.to_ascii_lowercase());
        }
        let (least, most) = (*REMEMBERED.start(), *REMEMBERED.end());
        for (length, is_remembered) in [
            (least - 1, false),
            (least, true),
            (most, true),
            (most + 1, false),
        ] {
            let found = inputs.find(&vec![b'A'; length]);
            assert_eq!(found.is_some(), is_remembered, "{length}");
        }
        assert!(inputs.memory() < 5 * most);
    }
}
