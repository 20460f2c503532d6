//! Where the groups of a match lie.

use std::ops::Range;

/// The parts of an input that a match and its groups cover; reuse it, it keeps its memory.
///
/// # Examples
///
/// ```
/// use stopgap::rules::pattern::{Groups, Matched, Pattern, PatternCache, PatternOptions, PatternSyntax};
///
/// let pattern = Pattern::new("(a)|(b)", PatternSyntax::EcmaScript, PatternOptions::default())?;
/// let mut groups = Groups::default();
/// let found = pattern.captures(&mut PatternCache::new(), b"xb", 0, &mut groups);
/// assert_eq!(found, Matched::Yes);
/// // The whole match, the group that took no part, the one that did.
/// assert_eq!((groups.get(0), groups.get(1), groups.get(2)), (Some(1..2), None, Some(1..2)));
/// # Ok::<(), stopgap::rules::pattern::PatternError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Groups {
    spans: Vec<Option<(usize, usize)>>,
}

impl Groups {
    /// The bytes of the input that group `number` covers, 0 being the whole match; `None` when there was no match,
    /// the group took no part in it, or the pattern has no such group.
    ///
    /// A boundary inside a character beyond U+FFFF, which ECMAScript takes for two units, lies between the second
    /// and the third of its four bytes.
    pub fn get(&self, number: usize) -> Option<Range<usize>> {
        let (start, end) = (*self.spans.get(number)?)?;
        Some(start..end)
    }

    /// How many groups there are to ask for, the whole match included; 0 after a search without a match.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether the last search found nothing.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.spans.clear();
    }

    pub(super) fn push(&mut self, span: Option<(usize, usize)>) {
        self.spans.push(span);
    }
}
