//! Why a pattern was refused, and where.

use std::fmt;

use super::limits;

/// A pattern that was refused: what is wrong at which byte of its text, and what to write instead.
///
/// # Examples
///
/// ```
/// use stopgap::rules::pattern::{Pattern, PatternOptions, PatternSyntax};
///
/// // Look-behind came to ECMAScript after edition 5.
/// let error = Pattern::new("(?<=a)b", PatternSyntax::EcmaScript, PatternOptions::default()).unwrap_err();
/// assert!(!error.to_string().is_empty());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PatternError {
    offset: usize,
    kind: Kind,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    BackslashAtEnd,
    ClassNotClosed,
    ClassRange,
    GroupNotClosed,
    GroupNotOpened,
    InlineFlags,
    Lookbehind,
    NamedGroup,
    NothingToRepeat,
    RepeatOrder,
    TooLarge,
    TooLong,
    TooManyGroups,
    TooManyRepeats,
    TooNested,
    UnknownGroup,
}

impl PatternError {
    pub(super) const fn new(offset: usize, kind: Kind) -> Self {
        Self { offset, kind }
    }

    /// The byte of the pattern's text where the refused construct begins, from 0; its length at the end.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    #[cfg(test)]
    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pattern is wrong at its byte {}: ", self.offset)?;
        match self.kind {
            Kind::BackslashAtEnd => {
                f.write_str("nothing follows the `\\`; write `\\\\` for the character itself")
            }
            Kind::ClassNotClosed => {
                f.write_str("no `]` ends this class; write `\\[` for the character itself")
            }
            Kind::ClassRange => f.write_str(
                "the range ends before it begins; swap its ends, or put the `-` last in the class",
            ),
            Kind::GroupNotClosed => {
                f.write_str("no `)` ends this group; write `\\(` for the character itself")
            }
            Kind::GroupNotOpened => {
                f.write_str("no `(` begins this group; write `\\)` for the character itself")
            }
            Kind::InlineFlags => f.write_str(
                "flags inside a pattern are not ECMAScript; use the attribute `ignoreCase`",
            ),
            Kind::Lookbehind => f.write_str(
                "URL Rewrite has no look-behind; match what stands before and use a group",
            ),
            Kind::NamedGroup => {
                f.write_str("URL Rewrite has no named groups; write `(` and refer to its number")
            }
            Kind::NothingToRepeat => f.write_str(
                "nothing stands here that could be repeated; write `\\` before it for the character",
            ),
            Kind::RepeatOrder => {
                f.write_str("the upper count is below the lower one; swap the counts")
            }
            Kind::TooLarge => f.write_str(
                "compiled, it would pass the size limit; lower its counts or split the rule",
            ),
            Kind::TooLong => write!(
                f,
                "longer than {} bytes; split the rule",
                limits::PATTERN_BYTES
            ),
            Kind::TooManyGroups => write!(
                f,
                "more than {} groups; write `(?:` where nothing refers to the group",
                limits::GROUPS
            ),
            Kind::TooManyRepeats => write!(
                f,
                "a count above {}; lower it, or leave the upper one out",
                limits::REPEAT
            ),
            Kind::TooNested => write!(
                f,
                "more than {} groups inside each other; flatten them",
                limits::NESTING
            ),
            Kind::UnknownGroup => {
                f.write_str("no such group; write `(?:`, `(?=`, `(?!`, or `\\(` for the character")
            }
        }
    }
}

impl std::error::Error for PatternError {}
