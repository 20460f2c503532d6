//! The exact-match syntax: the text itself.

use super::ast::{Ast, Node};
use super::error::{Kind, PatternError};
use super::limits;

/// Reads a text that the whole input must equal, or that it must hold if `substring`.
pub(super) fn parse(text: &str, ignore_case: bool, substring: bool) -> Result<Ast, PatternError> {
    if text.len() > limits::PATTERN_BYTES {
        return Err(PatternError::new(limits::PATTERN_BYTES, Kind::TooLong));
    }
    let mut ast = Ast::new(ignore_case);
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
    let root = ast.push_concat(&items);
    ast.set_root(root);
    Ok(ast)
}
