//! A pattern's tree as the regular expression that a byte automaton is built from.

use regex_syntax::hir::{
    Class, ClassBytes, ClassBytesRange, ClassUnicode, ClassUnicodeRange, Hir, Look, Repetition,
};

use super::ast::{Ast, NO_LIMIT, Node, NodeId};
use super::case;
use super::text::encode_surrogate;
use super::unit_set::UnitSet;

/// Which inputs an automaton is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Alphabet {
    /// ASCII only: small, and what nearly every input needs.
    Ascii,
    /// The form of [`Text`](super::text::Text).
    Wide,
}

/// The expression of every node, of which those named in `left_out` and every look-ahead match nothing at all, and
/// in which a back-reference matches anything.
///
/// So the expression of a tree with neither is exact, and that of any other accepts at least what the tree does.
pub(super) fn translate(ast: &Ast, alphabet: Alphabet, left_out: &[NodeId]) -> Vec<Hir> {
    let mut done: Vec<Hir> = Vec::new();
    for (id, node) in ast.nodes() {
        let mut take = |id: NodeId| std::mem::replace(&mut done[id as usize], Hir::empty());
        let hir = match node {
            _ if left_out.contains(&id) => Hir::empty(),
            Node::Alternate(kids) => {
                Hir::alternation(ast.kids(kids).iter().map(|kid| take(*kid)).collect())
            }
            Node::Backreference(_) => anything(alphabet),
            Node::Boundary { negated: false } => Hir::look(Look::WordAscii),
            Node::Boundary { negated: true } => Hir::look(Look::WordAsciiNegate),
            Node::Class(number) => class(ast.class(number), alphabet),
            Node::Concat(kids) => {
                Hir::concat(ast.kids(kids).iter().map(|kid| take(*kid)).collect())
            }
            Node::Empty => Hir::empty(),
            Node::End => Hir::look(Look::End),
            Node::Group { sub, .. } => take(sub),
            // The expression of its inside stays in its place, for who wants it.
            Node::Look { .. } => Hir::empty(),
            Node::Repeat {
                sub,
                min,
                max,
                greedy,
            } => Hir::repetition(Repetition {
                min,
                max: (max != NO_LIMIT).then_some(max),
                greedy,
                sub: Box::new(take(sub)),
            }),
            Node::Start => Hir::look(Look::Start),
            Node::Unit(unit) if ast.ignore_case() => equal_units(unit, alphabet),
            Node::Unit(unit) => literal(unit, alphabet),
        };
        done.push(hir);
    }
    done
}

/// Any number of units: not of bytes, since no match may begin or end inside a unit.
fn anything(alphabet: Alphabet) -> Hir {
    Hir::repetition(Repetition {
        min: 0,
        max: None,
        greedy: true,
        sub: Box::new(class(&UnitSet::all(), alphabet)),
    })
}

fn literal(unit: u16, alphabet: Alphabet) -> Hir {
    match (char::from_u32(unit.into()), alphabet) {
        (Some(character), Alphabet::Wide) => {
            Hir::literal(character.encode_utf8(&mut [0; 4]).as_bytes())
        }
        (None, Alphabet::Wide) => Hir::literal(encode_surrogate(unit)),
        (Some(character), Alphabet::Ascii) if character.is_ascii() => Hir::literal([unit as u8]),
        (_, Alphabet::Ascii) => Hir::fail(),
    }
}

fn equal_units(unit: u16, alphabet: Alphabet) -> Hir {
    let mut set = UnitSet::default();
    let mut count = 0;
    for equal in case::equivalents(unit) {
        set.insert(equal, equal);
        count += 1;
    }
    if count == 1 {
        literal(unit, alphabet)
    } else {
        class(&set, alphabet)
    }
}

fn class(set: &UnitSet, alphabet: Alphabet) -> Hir {
    let ascii = set.ascii_ranges();
    if alphabet == Alphabet::Ascii || set.wide().is_empty() {
        return Hir::class(Class::Bytes(ClassBytes::new(
            ascii.map(|(first, last)| ClassBytesRange::new(first, last)),
        )));
    }
    let mut characters: Vec<ClassUnicodeRange> = ascii
        .map(|(first, last)| ClassUnicodeRange::new(first.into(), last.into()))
        .collect();
    let mut choices = Vec::new();
    for (first, last) in set.wide() {
        characters.extend(characters_between(*first, (*last).min(0xd7ff)));
        characters.extend(characters_between((*first).max(0xe000), *last));
        surrogates_between((*first).max(0xd800), (*last).min(0xdfff), &mut choices);
    }
    if !characters.is_empty() {
        choices.push(Hir::class(Class::Unicode(ClassUnicode::new(characters))));
    }
    Hir::alternation(choices)
}

fn characters_between(first: u16, last: u16) -> Option<ClassUnicodeRange> {
    let character = |unit: u16| char::from_u32(unit.into());
    let ordered = first <= last;
    let range = ClassUnicodeRange::new(character(first)?, character(last)?);
    ordered.then_some(range)
}

/// Surrogates are no characters, so their byte sequences are written out: rows of 64 share their first two bytes.
fn surrogates_between(first: u16, last: u16, choices: &mut Vec<Hir>) {
    let mut next = first;
    while next <= last {
        let rows = if next & 0x3f == 0 && next | 0x3f <= last {
            (last + 1 - next) >> 6
        } else {
            0
        };
        let end = if rows > 0 {
            next + (rows << 6) - 1
        } else {
            last.min(next | 0x3f)
        };
        let [lead, from_row, from] = encode_surrogate(next);
        let [_, to_row, to] = encode_surrogate(end);
        let bytes = |first, last| {
            Hir::class(Class::Bytes(ClassBytes::new([ClassBytesRange::new(
                first, last,
            )])))
        };
        choices.push(Hir::concat(vec![
            Hir::literal([lead]),
            bytes(from_row, to_row),
            bytes(from, to),
        ]));
        next = end + 1;
    }
}
