//! Mitigations that are needed no more since every server is fixed: who is told, and what an operator's word does.

use std::collections::BTreeSet;

use super::error::ControlError;
use super::notify::Happening;
use super::plan::{Planned, Source, origins};
use super::report::View;
use crate::mitigation::{Decisions, Evidence, Policy, Retirement, SiteBuilds, evidence, resolve};
use crate::model::{MitigationId, UnixTime};
use crate::telemetry::Event;

/// What was proposed last, by source and id.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    told: Option<BTreeSet<(String, String)>>,
}

impl Proposals {
    /// Tells of each mitigation that an operator may retire now and could not before. Those of the
    /// first cycle are known from the run before, since nobody was asked yet.
    pub(super) fn follow(&mut self, view: &View, now: UnixTime) -> Vec<Happening> {
        let retirable = view.mitigations.iter().filter_map(|entry| {
            let key = (entry.source.clone(), entry.mitigation.id.to_string());
            Some((key, entry.retirable.as_ref()?))
        });
        let retirable: Vec<_> = retirable.collect();
        let keys = retirable.iter().map(|(key, _)| key.clone()).collect();
        let Some(told) = self.told.replace(keys) else {
            return Vec::new();
        };
        let mut happenings = Vec::new();
        for ((source, id), servers) in retirable {
            if !told.contains(&(source.clone(), id.clone())) {
                tracing::info!(
                    event_id = Event::Retirable.number(),
                    mitigation = id,
                    source,
                    servers,
                    "fixed on every server; `stopgap mitigation retire {id}` retires it"
                );
                happenings.push(Happening::Retirable {
                    time: now.to_string(),
                    reason: format!("fixed on every server: {servers}"),
                    id,
                    source,
                });
            }
        }
        happenings
    }
}

/// The mitigations below `id` that an operator may retire.
pub(super) fn retirable(
    id: &MitigationId,
    sources: &[Source],
    policy: &Policy,
    now: UnixTime,
) -> Result<Vec<MitigationId>, ControlError> {
    let policy = Policy {
        retirement: Retirement::Propose,
        retired: Vec::new(),
        kept: Vec::new(),
        ..policy.clone()
    };
    let resolution = resolve(&origins(sources), &policy, now);
    let own = resolution.entries.iter();
    let own: Vec<_> = own.filter(|own| id.covers(&own.mitigation.id)).collect();
    let fixed = own.iter().filter(|own| own.facts.retirable.is_some());
    let fixed: Vec<MitigationId> = fixed.map(|own| own.mitigation.id.clone()).collect();
    if !fixed.is_empty() {
        return Ok(fixed);
    }
    let reason = match own.first() {
        None => format!("no source offers {id}; `stopgap mitigation list` lists all"),
        Some(own) => match evidence(&own.mitigation, &policy.learned) {
            Evidence::Affected(server) => format!("{id} is still needed: {server} is affected"),
            Evidence::Fixed(_) => format!("{id} is not in force here anyway"),
            Evidence::Unknown if own.mitigation.applies.is_empty() => {
                format!("{id} names no build that is fixed: block it if it is not needed")
            }
            Evidence::Unknown => format!(
                "no fixed build is known of every server that {id} is for: `stopgap status` shows what each says; \
                 block it if it is not needed"
            ),
        },
    };
    Err(ControlError::order(reason))
}

/// What of the decisions to retire is out of date, since a server shows an affected build again.
pub(super) fn outdated(
    decisions: &Decisions,
    entries: &[Planned],
    learned: &[SiteBuilds],
) -> Vec<MitigationId> {
    let is_affected = |id: &&MitigationId| {
        let mut own = entries.iter().filter(|own| id.covers(&own.mitigation.id));
        own.any(|own| matches!(evidence(&own.mitigation, learned), Evidence::Affected(_)))
    };
    decisions.retired().filter(is_affected).cloned().collect()
}
