//! What mitigations stop: services and pools on the servers, and the paths that the proxy answers with 503 meanwhile.

use std::collections::BTreeMap;

use super::config::ControlConfig;
use super::plan::{Hits, Planned, Source};
use super::prepare::Gates;
use crate::filter::{Paused, PausedPool, PoolTable};
use crate::mitigation::{Extent, Stops, Target};
use crate::model::{self, ActionKind, Mitigation, MitigationId, Scope};

/// The name under which a mitigation holds what it stops: the same for every revision of it.
pub(super) fn holder(id: &MitigationId) -> String {
    let (letters, numbers) = id.key();
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    format!("{letters}{}", numbers.join("."))
}

/// The services and pools that a mitigation stops anywhere.
pub(super) fn stops(mitigation: &Mitigation) -> Stops {
    stops_on(mitigation, None)
}

/// The services and pools that a mitigation stops on a server of these sites; of any, if they are not known.
fn stops_on(mitigation: &Mitigation, sites: Option<&Vec<String>>) -> Stops {
    let is_for = |scope: &Scope| match scope {
        Scope::Server => true,
        Scope::Site { site, .. } => {
            sites.is_none_or(|sites| sites.iter().any(|own| own.eq_ignore_ascii_case(site)))
        }
    };
    let mut stops = Stops::new();
    for action in mitigation.actions.iter().filter(|own| is_for(&own.scope)) {
        let (target, extent) = match &action.kind {
            ActionKind::AppPool(pool) => (Target::Pool(pool.name.clone()), pool.extent),
            ActionKind::Service(service) => (Target::Service(service.name.clone()), service.extent),
            ActionKind::DoNothing | ActionKind::Rewrite(_) => continue,
        };
        let extent = match extent {
            model::Extent::Disabled => Extent::Disabled,
            model::Extent::Stopped => Extent::Stopped,
        };
        let known = stops.entry(target).or_insert(extent);
        *known = extent.max(*known);
    }
    stops
}

/// What every mitigation in force stops, by server and by its holder.
pub(super) fn wanted(
    entries: &[Planned],
    config: &ControlConfig,
) -> BTreeMap<String, BTreeMap<String, Stops>> {
    let on = |server: &String| {
        let sites = config.server_sites.get(server);
        let enforced = entries.iter().filter(|entry| entry.state.is_enforced());
        enforced
            .map(|entry| {
                (
                    holder(&entry.mitigation.id),
                    stops_on(&entry.mitigation, sites),
                )
            })
            .filter(|(_, stops)| !stops.is_empty())
            .collect()
    };
    let servers = config.servers.iter();
    servers.map(|server| (server.clone(), on(server))).collect()
}

/// A pool whose paths are answered with 503, on which sites and on whose behalf.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pause {
    pool: String,
    mitigation: MitigationId,
    source: String,
    action: usize,
    sites: Vec<usize>,
}

/// The pools whose paths are answered with 503, by the mitigations in force.
pub(super) fn pauses(sources: &[Source], entries: &[Planned], gates: &Gates) -> Vec<Pause> {
    let enforced = entries.iter().filter(|entry| entry.state.is_enforced());
    let pauses = enforced.flat_map(|entry| {
        let actions = entry.mitigation.actions.iter().enumerate();
        actions.filter_map(|(index, action)| match &action.kind {
            ActionKind::AppPool(pool) if pool.proxy503 => Some(Pause {
                pool: pool.name.clone(),
                mitigation: entry.mitigation.id.clone(),
                source: sources[entry.source].name.clone(),
                action: index,
                // A target that names no site has failed its mitigation before.
                sites: gates.sites_of(&action.scope).unwrap_or_default(),
            }),
            _ => None,
        })
    });
    pauses.collect()
}

/// What no server of each site serves while these pools are stopped.
pub(super) fn compile(
    pauses: &[Pause],
    sites: usize,
    table: &PoolTable,
    hits: &mut Hits,
) -> Vec<Paused> {
    let site = |site: usize| {
        let pools = pauses.iter().filter(|pause| pause.sites.contains(&site));
        let pools: Vec<_> = pools
            .map(|pause| PausedPool {
                pool: pause.pool.clone(),
                mitigation: pause.mitigation.clone(),
                source: pause.source.clone(),
                hits: hits.of(&pause.mitigation.to_string(), pause.action),
            })
            .collect();
        Paused::new(table, pools)
    };
    (0..sites).map(site).collect()
}

/// Which pools serve which paths, by the settings.
pub(super) fn table(config: &ControlConfig) -> PoolTable {
    let mut table = PoolTable::exchange();
    for pool in &config.pools {
        table.set(&pool.pool, &pool.paths);
    }
    table
}

/// What a person should know about pools of a mitigation that the proxy knows no path of.
pub(super) fn unknown_paths(mitigation: &Mitigation, table: &PoolTable) -> Option<String> {
    let mut unknown = mitigation
        .actions
        .iter()
        .filter_map(|action| match &action.kind {
            ActionKind::AppPool(pool) if pool.proxy503 && !table.knows(&pool.name) => {
                Some(pool.name.as_str())
            }
            _ => None,
        })
        .peekable();
    unknown.peek()?;
    let names: Vec<_> = unknown.collect();
    Some(format!(
        "the proxy answers nothing itself while {} is stopped: name its paths with [[pool]]",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_share_a_holder() {
        for (id, expected) in [("M90.1.0", "M90.1"), ("M90.1", "M90.1"), ("M90", "M90")] {
            assert_eq!(holder(&id.parse().unwrap()), expected);
        }
    }
}
