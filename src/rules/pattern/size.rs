//! How large a pattern's automaton can become, bounded from its tree so that building it later cannot fail.

use super::ast::{Ast, NO_LIMIT, Node};
use super::case;
use super::unit_set::UnitSet;

/// An upper bound on the states of the automaton for any input; saturates.
pub(super) fn states(ast: &Ast) -> u32 {
    const OVERHEAD: u32 = 16;
    const UNIT: u32 = 4;
    let mut bounds = vec![UNIT; ast.len()];
    for (id, node) in ast.nodes() {
        let of = |id: u32| bounds[id as usize];
        let bound = match node {
            Node::Alternate(kids) | Node::Concat(kids) => {
                ast.kids(kids).iter().fold(2, |sum: u32, kid| {
                    sum.saturating_add(of(*kid)).saturating_add(1)
                })
            }
            Node::Class(number) => class(ast.class(number)),
            Node::Group { sub, .. } | Node::Look { sub, .. } => of(sub).saturating_add(2),
            Node::Repeat { sub, min, max, .. } => {
                let rounds = if max == NO_LIMIT { min + 1 } else { max };
                of(sub)
                    .saturating_add(2)
                    .saturating_mul(rounds)
                    .saturating_add(2)
            }
            Node::Unit(unit) if unit >= 0x80 && ast.ignore_case() => {
                UNIT + 3 * case::equivalents(unit).count() as u32
            }
            Node::Unit(_) => continue,
            // Any number of any units.
            Node::Backreference(_) => class(&UnitSet::all()).saturating_add(4),
            Node::Boundary { .. } | Node::Empty | Node::End | Node::Start => 1,
        };
        bounds[id as usize] = bound;
    }
    let root = bounds.get(ast.root() as usize).copied().unwrap_or(1);
    root.saturating_add(OVERHEAD)
}

/// A range of UTF-8 beyond ASCII splits into at most three sequences of two bytes and five of three.
fn class(set: &UnitSet) -> u32 {
    let wide = set.wide().iter().map(
        |(first, last)| {
            if first >> 6 == last >> 6 { 3 } else { 3 * 8 }
        },
    );
    wide.fold(4, u32::saturating_add)
}

#[cfg(test)]
mod tests {
    use regex_automata::nfa::thompson::{Compiler, Config, WhichCaptures};

    use crate::rules::pattern::ecmascript;
    use crate::rules::pattern::translate::{Alphabet, translate};

    #[test]
    fn no_automaton_is_larger_than_its_bound() {
        for text in [
            "",
            "a",
            "abc",
            ".",
            "[^]",
            "\\w+",
            "\\W+",
            "\\s*",
            "[^a]",
            "k\u{e9}\u{3c3}\u{1f600}",
            "(a|b|cd|)*",
            "(?:a{3,7}){2,5}",
            "[^&=]{1,50}=[^&]{150}",
            ".{100}",
            "(.*)X-BEResource=(.+)/(.+)~(.+)",
            "(?:(?:a|)+|b){2,}",
            "(a)\\1*",
            "[\u{80}-\u{ffff}]{9}",
            "[\u{d7ff}-\u{e000}\u{801}-\u{fff1}]{3}",
            "(?=.*a)(?!b)c",
            "((((a?)?)?)?)?",
            "[\\s\\S]{20}$|^\\b\\B",
            "\\S{10}\\D{10}",
        ] {
            for ignore_case in [false, true] {
                let ast = ecmascript::parse(text, ignore_case, false).unwrap();
                let bound = super::states(&ast) as usize;
                for alphabet in [Alphabet::Ascii, Alphabet::Wide] {
                    let expressions = translate(&ast, alphabet, &[]);
                    for reverse in [false, true] {
                        let config = Config::new()
                            .reverse(reverse)
                            .which_captures(WhichCaptures::None);
                        let automaton = Compiler::new()
                            .configure(config)
                            .build_from_hir(&expressions[ast.root() as usize])
                            .unwrap();
                        let states = automaton.states().len();
                        assert!(states <= bound, "{text:?}: {states} states, bound {bound}");
                    }
                }
            }
        }
    }
}
