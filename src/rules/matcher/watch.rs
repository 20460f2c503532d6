//! What may look on while messages are judged, without a part in what is decided.

use crate::rules::RuleId;
use crate::rules::plan::PatternTest;
use crate::rules::state::RequestSight;
use crate::rules::template::{Bound, Expansion};

/// Looks on while rules are judged. Whoever does not want to know pays nothing: see [`Unwatched`].
pub(crate) trait Watch {
    /// This rule is judged from here on.
    fn rule(&mut self, _rule: RuleId) {}

    /// One input of the rule was tested.
    fn tested(&mut self, _part: Part, _tested: &Tested<'_>) {}

    /// The rule waits for the body of the response.
    fn awaits_body(&mut self) {}

    /// The rule applied; with the sub-status of the error 500 that it ended in, if it did.
    fn acted(&mut self, _failure: Option<u16>) {}
}

/// Nobody looks on.
pub(crate) struct Unwatched;

impl Watch for Unwatched {}

/// The part of a rule that a test belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// A condition by its number.
    Condition(usize),
    /// What `<match>` sees.
    Match,
    /// A condition of the rule's precondition, by its number there.
    PreCondition(usize),
}

/// One test and how it ended.
pub(crate) struct Tested<'t> {
    /// What was tested; `None` for a text that is too long.
    pub(crate) input: Option<&'t [u8]>,
    /// `None` for a test of another kind.
    pub(crate) pattern: Option<PatternTest>,
    pub(crate) holds: bool,
    /// Where the input came from; requests only.
    pub(crate) reading: Option<Reading<'t>>,
}

/// What an input was read from.
pub(crate) struct Reading<'t> {
    pub(crate) sight: &'t RequestSight<'t>,
    /// The text that was expanded, and what with; `None` for the URL itself.
    pub(crate) text: Option<(&'t Bound, &'t Expansion<'t>)>,
}
