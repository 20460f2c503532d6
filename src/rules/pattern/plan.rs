//! How a pattern is searched: by one automaton, by several that must agree, or by backtracking.

use super::ast::{Ast, NO_LIMIT, Node, NodeId};
use super::facts::{Facts, facts};
use super::size;
use super::unit_set::UnitSet;

/// How to search for a pattern.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    /// The automaton's match ends where ECMAScript's does. A round of a repetition that takes nothing fails in
    /// ECMAScript (ES5.1 section 15.10.2.5) and another choice is tried, which an automaton does not.
    pub(super) ends_alike: bool,
    /// An upper bound on the states of its automata.
    pub(super) states: u32,
    /// It matches every input, as the pattern of most rules for the URL does.
    pub(super) takes_all: bool,
}

/// What decides whether there is a match.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Look-aheads at the beginning, which must all hold where the rest matches.
    Conjunction(Vec<Term>),
    /// Backtracking, where an automaton that accepts more lets it begin.
    Irregular,
    /// One automaton.
    Regular,
}

/// A look-ahead at the beginning of a pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    /// What it looks for.
    pub(super) sub: NodeId,
    pub(super) negated: bool,
    pub(super) reach: Reach,
}

/// Where the text that a look-ahead looks for may begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// Anywhere from here: it begins with this repetition of any unit.
    Anywhere(NodeId),
    /// Only here.
    Here,
    /// From here to the end of the line: it begins with this repetition of `.`.
    Line(NodeId),
}

impl Reach {
    /// The repetition at the beginning, which need not be searched for.
    pub(super) const fn skipped(self) -> Option<NodeId> {
        match self {
            Self::Anywhere(skipped) | Self::Line(skipped) => Some(skipped),
            Self::Here => None,
        }
    }
}

impl Plan {
    pub(super) fn new(ast: &Ast) -> Self {
        let facts = facts(ast);
        let nullable_rounds = ast.nodes().any(
            |(_, node)| matches!(node, Node::Repeat { sub, .. } if facts[sub as usize].nullable),
        );
        Self {
            shape: shape(ast, &facts),
            ends_alike: !nullable_rounds,
            states: size::states(ast),
            takes_all: takes_nothing(ast, ast.root()),
        }
    }
}

/// Whether this part can match without taking a unit or asking for anything, wherever that is.
///
/// Recursion ends with the nesting limit of the parser.
fn takes_nothing(ast: &Ast, id: NodeId) -> bool {
    let of = |id: &NodeId| takes_nothing(ast, *id);
    match ast.node(id) {
        Node::Alternate(kids) => ast.kids(kids).iter().any(of),
        Node::Concat(kids) => ast.kids(kids).iter().all(of),
        Node::Empty | Node::Repeat { min: 0, .. } => true,
        Node::Group { sub, .. } | Node::Repeat { sub, .. } => of(&sub),
        Node::Backreference(_)
        | Node::Boundary { .. }
        | Node::Class(_)
        | Node::End
        | Node::Look { .. }
        | Node::Start
        | Node::Unit(_) => false,
    }
}

fn shape(ast: &Ast, facts: &[Facts]) -> Shape {
    let root = ast.root();
    if !facts[root as usize].irregular {
        return Shape::Regular;
    }
    let single = [root];
    let items = match ast.node(root) {
        Node::Concat(kids) => ast.kids(kids),
        _ => &single,
    };
    let mut terms = Vec::new();
    // What takes no unit stands at one place, so the order of these does not matter.
    let mut leading = true;
    for item in items {
        match ast.node(*item) {
            Node::Look { sub, negated } if leading && !facts[sub as usize].irregular => {
                terms.push(Term {
                    sub,
                    negated,
                    reach: reach(ast, sub),
                });
            }
            Node::Boundary { .. } | Node::Empty | Node::End | Node::Start if leading => {}
            _ if facts[*item as usize].irregular => return Shape::Irregular,
            _ => leading = false,
        }
    }
    Shape::Conjunction(terms)
}

fn reach(ast: &Ast, sub: NodeId) -> Reach {
    let first = match ast.node(sub) {
        Node::Concat(kids) => ast.kids(kids).first().copied().unwrap_or(sub),
        _ => sub,
    };
    let Node::Repeat {
        sub: unit,
        min: 0,
        max: NO_LIMIT,
        ..
    } = ast.node(first)
    else {
        return Reach::Here;
    };
    let Node::Class(number) = ast.node(unit) else {
        return Reach::Here;
    };
    let left_out = ast.class(number).complement();
    if left_out == UnitSet::default() {
        Reach::Anywhere(first)
    } else if left_out == UnitSet::line_terminators() {
        Reach::Line(first)
    } else {
        Reach::Here
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::pattern::ecmascript;

    #[test]
    fn shapes_follow_where_look_aheads_stand() {
        for (text, shape) in [
            ("a.*b", "regular"),
            ("(?=.*a)(?=.*b)", "line line"),
            ("(?=.*?a)(?![^]*b)(?=c)", "line !anywhere here"),
            ("^(?!www)(.*)", "!here"),
            ("\\b(?=a)^c", "here"),
            ("(?=a)*b", "regular"),
            ("(?=a)+b", "here"),
            ("(?=a{2}.*)b", "here"),
            ("(?=.+a)b", "here"),
            ("a(?=b)", "irregular"),
            ("(?:(?=a)b|c)", "irregular"),
            ("(?=(?!a)b)", "irregular"),
            ("(?=(a)\\1)", "irregular"),
            ("(a)\\1", "irregular"),
            ("(a\\1)", "regular"),
            ("%(?![0-9a-f]{2})", "irregular"),
        ] {
            let ast = ecmascript::parse(text, true, false).unwrap();
            let found = match Plan::new(&ast).shape {
                Shape::Regular => "regular".to_owned(),
                Shape::Irregular => "irregular".to_owned(),
                Shape::Conjunction(terms) => {
                    let words = terms.iter().map(|term| {
                        let reach = match term.reach {
                            Reach::Anywhere(_) => "anywhere",
                            Reach::Here => "here",
                            Reach::Line(_) => "line",
                        };
                        format!("{}{reach}", if term.negated { "!" } else { "" })
                    });
                    words.collect::<Vec<_>>().join(" ")
                }
            };
            assert_eq!(found, shape, "{text}");
        }
    }

    #[test]
    fn patterns_that_ask_for_nothing_are_known() {
        for (text, takes_all) in [
            ("", true),
            (".*", true),
            ("(.*)", true),
            ("(a|b?)c*(?:d{0,3}|e)", true),
            ("(?:a*){2}", true),
            ("a|", true),
            ("a", false),
            ("^.*", false),
            (".*$", false),
            ("a*b", false),
            ("(?=a)|a", false),
            ("(a)*\\1", false),
        ] {
            let ast = ecmascript::parse(text, false, false).unwrap();
            assert_eq!(Plan::new(&ast).takes_all, takes_all, "{text}");
        }
    }

    #[test]
    fn ends_differ_where_a_round_can_take_nothing() {
        for (text, alike) in [
            ("(?:a|b)*", true),
            ("(?:a|)*", false),
            ("(a*)?", false),
            ("(?:a?){2}", false),
            ("(?:\\b)*a", false),
        ] {
            let ast = ecmascript::parse(text, false, false).unwrap();
            assert_eq!(Plan::new(&ast).ends_alike, alike, "{text}");
        }
    }
}
