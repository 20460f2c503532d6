//! The exact-match syntax: the text itself.

use super::ast::{Ast, Node, NodeId};
use super::error::{Kind, PatternError};
use super::limits;

/// Reads a text that the whole input must equal, or that it must hold if `substring`, into an empty tree.
pub(super) fn parse(text: &str, substring: bool, ast: &mut Ast) -> Result<NodeId, PatternError> {
    if text.len() > limits::PATTERN_BYTES {
        return Err(PatternError::new(limits::PATTERN_BYTES, Kind::TooLong));
    }
    let mut items = Vec::new();
    if !substring {
        items.push(ast.push(Node::Start));
    }
    for unit in text.encode_utf16() {
        items.push(ast.push(Node::Unit(unit)));
    }
    if !substring {
        items.push(ast.push(Node::End));
    }
    Ok(ast.push_concat(&items))
}
