//! The memory that judging works in.

use super::FieldChange;
use super::matcher::indexed::IndexMemory;
use super::pattern::{Groups, PatternCache};
use super::recent::Recent;
use super::state::State;
use super::template::{Captures, TooLong};

/// How many rule sets one worker remembers caches for: those of its sites, and of snapshots just replaced.
const MAX_SETS: usize = 32;

/// Working memory of one worker: kept between requests so that judging allocates little.
///
/// It may serve any number of rule sets; it remembers those it served last.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RequestView, RuleSet, Scratch, SourceOrigin};
///
/// let text = r#"<rules><rule name="r"><match url="^old/(.*)" /><action type="Rewrite" url="/new/{R:1}" /></rule></rules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut scratch = Scratch::default();
/// rules.judge(&RequestView::new("GET", b"/old/x", &[("Host", "h")]), &mut scratch);
/// assert_eq!(scratch.rewritten_url(), Some(&b"/new/x"[..]));
/// assert_eq!(scratch.take_out_of_steps(), 0);
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) state: State,
    pub(crate) work: Work,
    sets: Vec<(u64, SetMemory)>,
    recent: Recent,
}

/// The parts of a scratch that judging by one set needs.
pub(crate) struct Parts<'s> {
    pub(crate) state: &'s mut State,
    pub(crate) work: &'s mut Work,
    pub(crate) memory: &'s mut SetMemory,
    pub(crate) recent: &'s mut Recent,
}

/// Buffers that hold nothing between rules.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// For each view, whether the URL matched in it, and its groups.
    pub(crate) url: Vec<(bool, Captures)>,
    /// `{C:n}`.
    pub(crate) conditions: Captures,
    pub(crate) groups: Groups,
    pub(crate) input: Vec<u8>,
}

/// What is remembered for one rule set.
#[derive(Debug, Default)]
pub(crate) struct SetMemory {
    pub(crate) patterns: PatternCache,
    /// Values of the plan's inputs, those of the first view first.
    pub(crate) inputs: Vec<InputValue>,
    pub(crate) index: IndexMemory,
}

/// The value of one input in one view, and the state of the URL that it belongs to.
#[derive(Debug)]
pub(crate) struct InputValue {
    pub(crate) epoch: u64,
    pub(crate) text: Vec<u8>,
    pub(crate) outcome: Result<(), TooLong>,
}

impl Default for InputValue {
    fn default() -> Self {
        Self {
            epoch: 0,
            text: Vec::new(),
            outcome: Ok(()),
        }
    }
}

/// What response rules need to know of the request, kept until the response comes.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RequestView, ResponseView, RuleSet, Scratch, SourceOrigin};
///
/// let text = r#"<outboundRules><rule name="r">
///   <match serverVariable="RESPONSE_X_PATH" pattern=".*" /><action type="Rewrite" value="{URL}" />
/// </rule></outboundRules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut scratch = Scratch::default();
/// let memory = {
///     let request = RequestView::new("GET", b"/a", &[("Host", "h")]);
///     rules.judge(&request, &mut scratch);
///     rules.remember(&request, &mut scratch)
/// };
/// // The request may be gone by the time its response comes.
/// let response = ResponseView { status: 200, reason: "", fields: &[("Server", "s")] };
/// let decision = rules.judge_response(&memory, &response, &mut scratch);
/// assert_eq!(decision.fields[0].value, b"/a");
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RequestMemory {
    /// The set it was made for.
    pub(crate) set: u64,
    /// For each group, whether the request lies in its scope.
    pub(crate) in_scope: Vec<bool>,
    /// Whether the response has no content, since only its head was asked for.
    pub(crate) is_head: bool,
    /// Values of what the plan remembers.
    pub(crate) values: Vec<Vec<u8>>,
}

impl Scratch {
    /// The URL that the request judged last was rewritten to, as the rules wrote it; `None` if none rewrote it.
    ///
    /// [`Verdict::Rewrite`](super::Verdict::Rewrite) holds it in the form that may be sent.
    pub fn rewritten_url(&self) -> Option<&[u8]> {
        self.state.rewritten_url()
    }

    /// How many searches ran out of steps since this was asked last: each counted as a match for a rule that refuses
    /// requests, and as none for any other.
    pub fn take_out_of_steps(&mut self) -> u64 {
        let sets = self.sets.iter_mut();
        sets.map(|(_, memory)| memory.patterns.take_out_of_steps())
            .sum()
    }

    /// Gives what is known of the last request for what is known of another connection's, before judging and again
    /// behind it. Without, every request is taken for one of the same connection.
    pub const fn exchange_recent(&mut self, recent: &mut Recent) {
        std::mem::swap(&mut self.recent, recent);
    }

    /// The parts that judging by one set needs, ready for use.
    pub(crate) fn parts(&mut self, set: u64) -> Parts<'_> {
        let at = match self.sets.iter().position(|(known, _)| *known == set) {
            Some(at) => at,
            None => {
                if self.sets.len() == MAX_SETS {
                    self.sets.remove(0);
                }
                self.sets.push((set, SetMemory::default()));
                self.sets.len() - 1
            }
        };
        Parts {
            state: &mut self.state,
            work: &mut self.work,
            memory: &mut self.sets[at].1,
            recent: &mut self.recent,
        }
    }
}

impl Work {
    /// Forgets the groups of the rule before.
    pub(crate) fn begin_rule(&mut self) {
        for (matched, captures) in &mut self.url {
            *matched = false;
            captures.clear();
        }
        self.conditions.clear();
    }
}

/// Replaces the value of a field that is changed already, or appends the change.
pub(super) fn change_field(changes: &mut Vec<FieldChange>, name: &str, value: &[u8]) {
    match changes.iter_mut().find(|change| change.name == name) {
        Some(change) => {
            change.value.clear();
            change.value.extend_from_slice(value);
        }
        None => changes.push(FieldChange {
            name: name.to_owned(),
            value: value.to_vec(),
        }),
    }
}
