//! What can be said of each part of a pattern without running it.

use std::ops::Range;

use super::ast::{Ast, Node};

/// What is known of one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// It can match without taking a unit.
    pub(super) nullable: bool,
    /// It holds a look-ahead or a back-reference, so no automaton decides it.
    pub(super) irregular: bool,
    /// The numbers of the groups inside, empty for none.
    pub(super) groups: Range<u32>,
}

/// The facts of every node, by its number.
pub(super) fn facts(ast: &Ast) -> Vec<Facts> {
    let mut all = vec![Facts::default(); ast.len()];
    for (id, node) in ast.nodes() {
        let of = |id: &u32| &all[*id as usize];
        let facts = match node {
            Node::Alternate(kids) => {
                let kids = ast.kids(kids);
                Facts {
                    nullable: kids.iter().any(|kid| of(kid).nullable),
                    ..together(kids.iter().map(of))
                }
            }
            Node::Concat(kids) => {
                let kids = ast.kids(kids);
                Facts {
                    nullable: kids.iter().all(|kid| of(kid).nullable),
                    ..together(kids.iter().map(of))
                }
            }
            // Nothing is to be said of these, and most nodes are.
            Node::Class(_) | Node::Unit(_) => continue,
            Node::Group { sub, index } => {
                let inside = of(&sub).clone();
                Facts {
                    groups: index..inside.groups.end.max(index + 1),
                    ..inside
                }
            }
            Node::Look { sub, .. } => Facts {
                nullable: true,
                irregular: true,
                groups: of(&sub).groups.clone(),
            },
            Node::Repeat { sub, min, .. } => {
                let inside = of(&sub).clone();
                Facts {
                    nullable: inside.nullable || min == 0,
                    ..inside
                }
            }
            Node::Backreference(_) => Facts {
                nullable: true,
                irregular: true,
                ..Facts::default()
            },
            Node::Boundary { .. } | Node::Empty | Node::End | Node::Start => Facts {
                nullable: true,
                ..Facts::default()
            },
        };
        all[id as usize] = facts;
    }
    all
}

/// What several parts have in common; groups are numbered in the order of the parts.
fn together<'f>(parts: impl Iterator<Item = &'f Facts>) -> Facts {
    let mut sum = Facts::default();
    for part in parts {
        sum.irregular |= part.irregular;
        if sum.groups.is_empty() {
            sum.groups = part.groups.clone();
        } else if !part.groups.is_empty() {
            sum.groups.end = part.groups.end;
        }
    }
    sum
}
