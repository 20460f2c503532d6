//! One plan: from what every source offers to the rule sets of every site.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::prepare::{Cache, Gates, Prepared, Refusal, Standing};
use super::rule_files::AcceptedFile;
use crate::mitigation::{
    Conflict, Entry, Facts, KillSwitch, Origin, Policy, Proof, SourceKind, State, resolve,
};
use crate::model::{Mitigation, MitigationId, UnixTime};
use crate::rules::{Dialect, RuleError, RuleOrigin, RuleSet};
use crate::telemetry::AlarmKind;

/// One source as planning sees it, in the order of priority.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) kind: SourceKind,
    pub(super) mitigations: Vec<Arc<Mitigation>>,
    /// SHA-256 of the document, of a feed.
    pub(super) digest: Option<String>,
    /// A local file, whose rules are prepared already.
    pub(super) file: Option<Arc<AcceptedFile>>,
}

/// A plan that was made and not yet published.
#[derive(Debug)]
pub(super) struct Plan {
    /// Every mitigation that counts, in the order of evaluation.
    pub(super) entries: Vec<Planned>,
    pub(super) conflicts: Vec<Conflict>,
    /// What is enforced, in the order of evaluation.
    pub(super) units: Vec<Unit>,
    /// What is only watched, in the order of evaluation.
    pub(super) watched: Vec<Unit>,
}

/// A mitigation and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) source: usize,
    pub(super) mitigation: Arc<Mitigation>,
    pub(super) state: State,
    /// What its state follows from.
    pub(super) facts: Facts,
    /// Why it failed, when a gate or its document refused it.
    pub(super) alarm: Option<AlarmKind>,
    /// Why it cannot even be watched.
    pub(super) unwatched: Option<String>,
    /// Why it is not proven although it is in force and behaves where it can be tried.
    pub(super) unproven: Option<String>,
    pub(super) prepared: Option<Arc<Prepared>>,
}

/// Rules that are added together: those of one mitigation, or of one local file.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) source: String,
    pub(super) mitigation: Option<MitigationId>,
    pub(super) prepared: Arc<Prepared>,
    /// The index of its entry; `None` for rules without a mitigation.
    entry: Option<usize>,
}

impl Unit {
    /// Whether both add the very same rules; content that did not change is never prepared twice.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.prepared, &other.prepared) && self.source == other.source
    }
}

/// What is behind the owner of counters of rules that are only watched.
const WATCHED: &str = " watched";

/// What is behind the owner of counters of responses that they would have changed.
const CHANGED: &str = " watched responses";

/// Counters that outlive every rule set, by mitigation or file, and action.
#[derive(Debug, Default)]
pub(super) struct Hits {
    counters: BTreeMap<(String, usize), Arc<AtomicU64>>,
}

impl Hits {
    /// The counter of one action of a mitigation, or of the rules of a file.
    pub(super) fn of(&mut self, owner: &str, action: usize) -> Arc<AtomicU64> {
        let counter = self.counters.entry((owner.to_owned(), action));
        Arc::clone(counter.or_default())
    }

    /// What rules that are only watched would have stopped and changed, all together.
    pub(super) fn watched(&self) -> [u64; 2] {
        [WATCHED, CHANGED].map(|suffix| {
            let own = self
                .counters
                .iter()
                .filter(|((owner, _), _)| owner.ends_with(suffix));
            own.map(|(_, counter)| counter.load(Ordering::Relaxed))
                .sum()
        })
    }

    /// The counters of every action of a mitigation, or of the rules of a file.
    pub(super) fn all(&self, owner: &str) -> Vec<Arc<AtomicU64>> {
        self.counters
            .range((owner.to_owned(), 0)..=(owner.to_owned(), usize::MAX))
            .map(|(_, counter)| Arc::clone(counter))
            .collect()
    }
}

/// The sources as they are resolved.
pub(super) fn origins(sources: &[Source]) -> Vec<Origin<'_>> {
    let sources = sources.iter();
    let origins = sources.map(|source| Origin {
        name: &source.name,
        kind: source.kind,
        mitigations: &source.mitigations,
    });
    origins.collect()
}

/// Decides what is enforced; compiles only what was not prepared before.
pub(super) fn plan(
    sources: &[Source],
    policy: &Policy,
    gates: &Gates,
    cache: &mut Cache,
    now: UnixTime,
) -> Plan {
    let resolution = resolve(&origins(sources), policy, now);
    let entries: Vec<Planned> = resolution
        .entries
        .into_iter()
        .map(|entry| judge(entry, sources, gates, cache, now))
        .collect();
    cache.sweep();
    let (units, watched) = units(sources, &entries, &policy.kill_switch);
    Plan {
        entries,
        conflicts: resolution.conflicts,
        units,
        watched,
    }
}

fn judge(
    mut entry: Entry,
    sources: &[Source],
    gates: &Gates,
    cache: &mut Cache,
    now: UnixTime,
) -> Planned {
    let mut planned = Planned {
        source: entry.source,
        mitigation: Arc::clone(&entry.mitigation),
        state: entry.facts.state(),
        facts: entry.facts.clone(),
        alarm: None,
        unwatched: None,
        unproven: None,
        prepared: None,
    };
    if planned.state.is_enforced() {
        match prepared(&sources[entry.source], &entry.mitigation, gates, cache, now) {
            Ok(prepared) => {
                entry.facts.proof = prepared.proven.map_or(Proof::Unproven, Proof::Judged);
                planned.prepared = Some(prepared);
            }
            Err(refusal) => {
                entry.facts.failure = Some(refusal.reason);
                planned.alarm = Some(refusal.alarm);
            }
        }
        planned.state = entry.facts.state();
        planned.facts = entry.facts;
    } else if planned.state == State::Audit {
        match prepared(&sources[entry.source], &entry.mitigation, gates, cache, now) {
            Ok(prepared) => planned.prepared = Some(prepared),
            Err(refusal) => planned.unwatched = Some(refusal.reason),
        }
    } else if matches!(planned.state, State::Failed(_)) {
        planned.alarm = Some(AlarmKind::Refused);
    }
    planned
}

fn prepared(
    source: &Source,
    mitigation: &Arc<Mitigation>,
    gates: &Gates,
    cache: &mut Cache,
    now: UnixTime,
) -> Result<Arc<Prepared>, Refusal> {
    if let Some(prepared) = source.file.as_ref().and_then(|f| f.prepared(mitigation)) {
        return Ok(Arc::clone(prepared));
    }
    let standing = Standing {
        name: &source.name,
        dialect: Dialect::Hardened,
        local: false,
    };
    cache.mitigation(gates, mitigation, standing, now)
}

/// What is enforced, and what is only watched.
fn units(
    sources: &[Source],
    entries: &[Planned],
    kill_switch: &KillSwitch,
) -> (Vec<Unit>, Vec<Unit>) {
    let (mut units, mut watched) = (Vec::new(), Vec::new());
    for (index, source) in sources.iter().enumerate() {
        let rules = source.file.as_ref().and_then(|file| file.rules.as_ref());
        if let (Some(rules), false) = (rules, *kill_switch == KillSwitch::All) {
            units.push(Unit {
                source: source.name.clone(),
                mitigation: None,
                prepared: Arc::clone(rules),
                entry: None,
            });
        }
        let own = entries.iter().enumerate();
        for (position, entry) in own.filter(|(_, entry)| entry.source == index) {
            if let Some(prepared) = &entry.prepared {
                let units = match entry.state {
                    State::Audit => &mut watched,
                    _ => &mut units,
                };
                units.push(Unit {
                    source: source.name.clone(),
                    mitigation: Some(entry.mitigation.id.clone()),
                    prepared: Arc::clone(prepared),
                    entry: Some(position),
                });
            }
        }
    }
    (units, watched)
}

impl Plan {
    /// Compiles the sets of every site. A unit that does not fit beside the others fails, and the rest is compiled.
    pub(super) fn compile(&mut self, gates: &Gates, hits: &mut Hits) -> Vec<RuleSet> {
        loop {
            let compiled: Result<Vec<RuleSet>, (usize, RuleError)> = (0..gates.site_count())
                .map(|site| self.compile_site(site, gates, hits))
                .collect();
            match compiled {
                Ok(compiled) => return compiled,
                Err((unit, error)) => self.fail(unit, &error),
            }
        }
    }

    /// Compiles what is only watched, for every site, beside what is enforced there: both cost the same requests. What
    /// does not fit is left out, since nothing depends on it.
    pub(super) fn compile_watched(
        &self,
        enforced: &[RuleSet],
        gates: &Gates,
        hits: &mut Hits,
    ) -> Vec<RuleSet> {
        let mut sets = Vec::new();
        for (site, enforced) in enforced.iter().enumerate() {
            let mut builder = gates.builder_within(&[site], enforced.headroom());
            for unit in &self.watched {
                let owner = watched_owner(&unit.owner());
                let groups = unit.prepared.groups.iter();
                for group in groups.filter(|group| group.sites.contains(&site)) {
                    let origin = RuleOrigin {
                        mitigation: unit.mitigation.clone(),
                        source: unit.source.clone(),
                        hits: hits.of(&owner, group.action),
                    };
                    if let Err(error) = builder.add(&group.source, origin) {
                        tracing::warn!(%error, source = unit.source, "not watched");
                    }
                }
            }
            sets.push(builder.build());
        }
        sets
    }

    fn compile_site(
        &self,
        site: usize,
        gates: &Gates,
        hits: &mut Hits,
    ) -> Result<RuleSet, (usize, RuleError)> {
        let mut builder = gates.builder(&[site]);
        for (index, unit) in self.units.iter().enumerate() {
            let owner = unit.owner();
            let groups = unit.prepared.groups.iter();
            for group in groups.filter(|group| group.sites.contains(&site)) {
                let origin = RuleOrigin {
                    mitigation: unit.mitigation.clone(),
                    source: unit.source.clone(),
                    hits: hits.of(&owner, group.action),
                };
                builder
                    .add(&group.source, origin)
                    .map_err(|error| (index, error))?;
            }
        }
        Ok(builder.build())
    }

    fn fail(&mut self, unit: usize, error: &RuleError) {
        let unit = self.units.remove(unit);
        let reason = format!("it does not fit beside what has priority: {error}");
        match unit.entry {
            Some(entry) => {
                let entry = &mut self.entries[entry];
                entry.state = State::Failed(reason);
                entry.alarm = Some(AlarmKind::Refused);
                entry.prepared = None;
            }
            None => tracing::warn!(file = unit.source, reason, "local rules are not enforced"),
        }
    }

    /// Whether every mitigation of `before` that was enforced is now refused by its document or a gate.
    pub(super) fn refuses_all(&self, before: &[Unit]) -> bool {
        !before.is_empty()
            && self.units.is_empty()
            && before.iter().all(|unit| {
                unit.mitigation.as_ref().is_some_and(|id| {
                    self.entries.iter().any(|entry| {
                        entry.mitigation.id.same_mitigation(id) && entry.alarm.is_some()
                    })
                })
            })
    }
}

/// Whose counter counts the responses that rules of `owner` would have changed while they are only watched.
pub(super) fn changed_owner(owner: &str) -> String {
    format!("{owner}{CHANGED}")
}

/// Whose counters the rules of `owner` use while they are only watched.
pub(super) fn watched_owner(owner: &str) -> String {
    format!("{owner}{WATCHED}")
}

impl Unit {
    /// Whose counters its rules use.
    fn owner(&self) -> String {
        match &self.mitigation {
            Some(id) => id.to_string(),
            None => self.source.clone(),
        }
    }
}
