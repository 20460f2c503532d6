//! Does what a rule that applies says.

use std::sync::Arc;

use super::linear::Judge;
use super::watch::Watch;
use crate::rules::plan::{ActionPlan, AnswerText, Group, RequestPlan, SetPlan, SetTarget};
use crate::rules::template::{Bound, TooLong};
use crate::rules::{Verdict, target, view};

/// IIS's sub-status for a server variable that rules may not set.
const VARIABLE_NOT_ALLOWED: u16 = 50;

/// IIS's sub-status for a text that cannot be expanded.
const CANNOT_EXPAND: u16 = 52;

/// What follows an action.
pub(super) enum Flow {
    /// The next rule, unless this one stops processing.
    Continue,
    /// The verdict.
    End(Verdict),
    /// An error 500 with this sub-status.
    Fail(u16),
}

impl Flow {
    /// The sub-status of the error 500, if it is one.
    pub(super) const fn failure(&self) -> Option<u16> {
        match self {
            Self::Continue | Self::End(_) => None,
            Self::Fail(substatus) => Some(*substatus),
        }
    }
}

/// Sets the rule's variables and performs its action.
pub(super) fn act<W: Watch>(judge: &mut Judge<'_, W>, group: &Group, rule: &RequestPlan) -> Flow {
    for set in &rule.set {
        if let Err(substatus) = set_variable(judge, set) {
            return Flow::Fail(substatus);
        }
    }
    perform(judge, group, rule).unwrap_or(Flow::Fail(CANNOT_EXPAND))
}

fn set_variable<W: Watch>(judge: &mut Judge<'_, W>, set: &SetPlan) -> Result<(), u16> {
    if !set.allowed {
        return Err(VARIABLE_NOT_ALLOWED);
    }
    if !set.replace && exists(judge, &set.target) {
        return Ok(());
    }
    let value = judge.expand(&set.value).map_err(|TooLong| CANNOT_EXPAND)?;
    match &set.target {
        SetTarget::Field(name) => judge.state.set_field(name, &one_line(value)),
        SetTarget::Variable { name, variable } => {
            judge.state.set_variable(name, variable, value);
        }
    }
    Ok(())
}

fn exists<W: Watch>(judge: &Judge<'_, W>, target: &SetTarget) -> bool {
    match target {
        SetTarget::Field(name) => {
            judge.state.field(name).is_some()
                || view::read_field(judge.request.fields, name, &mut Vec::new())
        }
        SetTarget::Variable { name, variable } => {
            let given = &judge.request.variables;
            judge.state.variable(variable).is_some()
                || given
                    .iter()
                    .any(|(known, _)| known.eq_ignore_ascii_case(name))
        }
    }
}

fn perform<W: Watch>(
    judge: &mut Judge<'_, W>,
    group: &Group,
    rule: &RequestPlan,
) -> Result<Flow, TooLong> {
    Ok(match &rule.action {
        ActionPlan::Abort => Flow::End(Verdict::Abort),
        ActionPlan::None => Flow::Continue,
        ActionPlan::Redirect {
            url,
            append_query,
            status,
        } => {
            let url = compose(judge, group, url, *append_query, true)?;
            Flow::End(Verdict::Redirect {
                status: *status,
                location: target::location(url),
            })
        }
        ActionPlan::Respond(answer) => Flow::End(Verdict::Respond {
            status: answer.status,
            substatus: answer.substatus,
            reason: words(judge, &answer.reason, one_line)?,
            description: words(judge, &answer.description, |text| text)?,
        }),
        ActionPlan::Rewrite { url, append_query } => {
            let url = compose(judge, group, url, *append_query, false)?;
            judge.state.rewrite(url, rule.keeps_escapes);
            Flow::Continue
        }
    })
}

fn compose<W: Watch>(
    judge: &Judge<'_, W>,
    group: &Group,
    url: &Bound,
    append_query: bool,
    has_fragment: bool,
) -> Result<Vec<u8>, TooLong> {
    let text = judge.expand(url)?;
    let query = judge
        .state
        .current()
        .view(0)
        .query()
        .filter(|_| append_query);
    Ok(target::compose(&text, &group.scope, query, has_fragment))
}

/// A value that stays in its field: a recipient would replace CR, LF and NUL by spaces (RFC 9110 section 5.5).
pub(crate) fn one_line(mut value: Vec<u8>) -> Vec<u8> {
    for byte in &mut value {
        if matches!(byte, b'\r' | b'\n' | 0) {
            *byte = b' ';
        }
    }
    value
}

/// A text of an answer, of which `mend` makes one that may stand in its place.
fn words<W: Watch>(
    judge: &Judge<'_, W>,
    words: &AnswerText,
    mend: fn(Vec<u8>) -> Vec<u8>,
) -> Result<Arc<str>, TooLong> {
    match words {
        AnswerText::Fixed(fixed) => Ok(Arc::clone(fixed)),
        AnswerText::Read(bound) => judge.expand(bound).map(|read| lossy_text(&mend(read))),
    }
}

/// Bytes as text; what is no UTF-8 is replaced.
pub(crate) fn lossy_text(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}
