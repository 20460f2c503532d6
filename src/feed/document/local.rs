//! A file of the administrator's: mitigations, or rewrite rules with nothing around them.

use super::actions::is_rewrite;
use super::{FeedDocument, NAMESPACE, parse_xml, read, refused};
use crate::feed::config::TypeAliases;
use crate::feed::error::FeedError;
use crate::model::RewriteText;
use crate::xml::Element;

/// A document that is trusted for where it lies, not for a signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalDocument {
    /// What it holds.
    pub content: LocalContent,
    /// Whether its root asks for hardened judging with `sg:dialect="hardened"`; without it IIS is followed exactly.
    pub hardened: bool,
}

/// What a local document holds, told apart by its root element.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LocalContent {
    /// Mitigations, in the format of a feed.
    Mitigations(FeedDocument),
    /// Rewrite rules alone: they have no id, no state and no vectors.
    Rules(RewriteText),
}

impl LocalDocument {
    /// Reads a file of the administrator's, or a document compiled into the program.
    ///
    /// # Errors
    ///
    /// When it is no XML, has neither root, or has the root of a feed and cannot be used as one. What is wrong
    /// inside one mitigation is that one's [`failure`](crate::model::Mitigation::failure).
    pub fn parse(bytes: &[u8], aliases: &TypeAliases) -> Result<Self, FeedError> {
        let document = parse_xml(bytes)?;
        let root = document.root();
        let hardened = is_hardened(root)?;
        let content = if root.is("", "EOCS") {
            LocalContent::Mitigations(read(root, aliases)?)
        } else if is_rewrite(root) || root.is("", "configuration") {
            let position = root.position();
            LocalContent::Rules(RewriteText {
                xml: root.source().to_owned(),
                line: position.line,
                column: position.column,
            })
        } else {
            return Err(refused(format!(
                "{}: the root is {}: write EOCS for mitigations, or rewrite or rules for rules alone",
                root.position(),
                root.qualified_name()
            )));
        };
        Ok(Self { content, hardened })
    }
}

fn is_hardened(root: Element<'_>) -> Result<bool, FeedError> {
    match root
        .attribute_ns(NAMESPACE, "dialect")
        .map(|found| found.value())
    {
        None | Some("iis") => Ok(false),
        Some("hardened") => Ok(true),
        Some(word) => Err(refused(format!(
            "{}: sg:dialect={word:?}: write hardened or iis",
            root.position()
        ))),
    }
}
