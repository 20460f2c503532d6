//! The wildcard syntax: the whole input, `*` any run of characters and a group of its own, `?` one character.

use super::ast::{Ast, NO_LIMIT, Node, NodeId};
use super::error::{Kind, PatternError};
use super::limits;
use super::unit_set::UnitSet;

/// Reads a wildcard pattern into an empty tree; every character but `*` and `?` stands for itself.
///
/// A run is as long as it can be, as in IIS, which makes `(.*)` of it. `?` takes one UTF-16 code unit.
pub(super) fn parse(text: &str, ast: &mut Ast) -> Result<NodeId, PatternError> {
    if text.len() > limits::PATTERN_BYTES {
        return Err(PatternError::new(limits::PATTERN_BYTES, Kind::TooLong));
    }
    let mut groups = 0;
    let mut items = vec![ast.push(Node::Start)];
    for (offset, character) in text.char_indices() {
        match character {
            '*' => {
                if groups == limits::GROUPS {
                    return Err(PatternError::new(offset, Kind::TooManyGroups));
                }
                groups += 1;
                items.push(run(ast, groups));
            }
            '?' => items.push(ast.push_class(UnitSet::all())),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    items.push(ast.push(Node::Unit(*unit)));
                }
            }
        }
    }
    items.push(ast.push(Node::End));
    Ok(ast.push_concat(&items))
}

fn run(ast: &mut Ast, index: u32) -> NodeId {
    let sub = ast.push_class(UnitSet::all());
    let sub = ast.push(Node::Repeat {
        sub,
        min: 0,
        max: NO_LIMIT,
        greedy: true,
    });
    ast.push(Node::Group { sub, index })
}
