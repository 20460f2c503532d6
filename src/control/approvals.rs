//! Which mitigations a person approved: an approval is for what was shown, and not for what it may become.

use std::sync::Arc;

use super::error::ControlError;
use super::plan::{Source, origins};
use crate::mitigation::{Decisions, Policy, content, resolve};
use crate::model::{Digest, Mitigation, MitigationId, UnixTime};
use crate::signature::sha256;

/// What an approval is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ApprovalOf {
    /// The content that was offered then: another one waits again.
    #[default]
    Content,
    /// The id, whatever comes under it; `M2` covers every `M2.x`.
    Id,
}

fn digest(mitigation: &Mitigation) -> Digest {
    sha256(content(mitigation).as_bytes())
}

/// What is offered in a content that was approved.
pub(super) fn approved(decisions: &Decisions, sources: &[Source]) -> Vec<Arc<Mitigation>> {
    let offered = sources.iter().flat_map(|source| &source.mitigations);
    let approved = offered.filter(|own| {
        // Most have never been approved, and need no digest.
        decisions.approved_contents().any(|(id, _)| id == &own.id) && {
            let digest = digest(own);
            let mut contents = decisions.approved_contents();
            contents.any(|(id, content)| id == &own.id && *content == digest)
        }
    });
    approved.cloned().collect()
}

/// The mitigations below `id` that a person may approve, each with its content.
pub(super) fn awaiting(
    id: &MitigationId,
    sources: &[Source],
    policy: &Policy,
    now: UnixTime,
) -> Result<Vec<(MitigationId, Digest)>, ControlError> {
    let policy = Policy {
        approved: Vec::new(),
        approved_contents: Vec::new(),
        ..policy.clone()
    };
    let resolution = resolve(&origins(sources), &policy, now);
    let own = resolution.entries.iter();
    let own: Vec<_> = own.filter(|own| id.covers(&own.mitigation.id)).collect();
    if own.is_empty() {
        return Err(ControlError::order(format!(
            "no source offers {id} now; an approval is for what is shown, so approve it when one does"
        )));
    }
    let awaiting = own.iter().filter(|own| own.facts.awaits_approval);
    let awaiting: Vec<_> = awaiting
        .map(|own| (own.mitigation.id.clone(), digest(&own.mitigation)))
        .collect();
    match awaiting.is_empty() {
        true => Err(ControlError::order(format!("{id} waits for no approval"))),
        false => Ok(awaiting),
    }
}
