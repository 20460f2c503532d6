//! Tells the process log how mitigations change their state.

use std::collections::{BTreeMap, BTreeSet};

use super::exceptions;
use super::feed_state::Condition;
use super::history::TransitionReport;
use super::notify::Happening;
use super::report::{MitigationView, View};
use crate::mitigation::State;
use crate::model::UnixTime;
use crate::telemetry::{AlarmKind, Event};

/// The states that were told last, by source and id.
#[derive(Debug, Default)]
pub(super) struct Transitions {
    told: Option<BTreeMap<(String, String), String>>,
}

impl Transitions {
    /// Logs each state that is not what it was; those of the first cycle only for who debugs, since the greeting
    /// counts them.
    pub(super) fn follow(&mut self, view: &View) {
        let key = |entry: &MitigationView| (entry.source.clone(), entry.mitigation.id.to_string());
        let states = view.mitigations.iter();
        let now: BTreeMap<_, _> = states
            .map(|entry| (key(entry), text(&entry.state)))
            .collect();
        let Some(told) = self.told.replace(now.clone()) else {
            for ((source, id), state) in &now {
                tracing::debug!(mitigation = id, source, state, "mitigation");
            }
            return;
        };
        for entry in &view.mitigations {
            let key = key(entry);
            let (before, state) = (told.get(&key), &now[&key]);
            if before != Some(state) {
                let before = before.map_or("", String::as_str);
                let event_id = event(&entry.state).number();
                let (source, id) = &key;
                tracing::info!(
                    event_id,
                    mitigation = id,
                    source,
                    state,
                    before,
                    "mitigation"
                );
            }
        }
        for ((source, id), before) in told.iter().filter(|(key, _)| !now.contains_key(key)) {
            tracing::info!(
                event_id = Event::Removed.number(),
                mitigation = id,
                source,
                before,
                "mitigation no longer offered"
            );
        }
    }
}

/// Logs what became of exceptions, among other transitions.
pub(super) fn log_exceptions(transitions: &[TransitionReport]) {
    for transition in transitions {
        let Some(event) = exceptions::event_of(transition) else {
            continue;
        };
        let event_id = event.number();
        let TransitionReport {
            id,
            source: exception,
            state,
            reason,
            ..
        } = transition;
        match event {
            Event::ExceptionChanged => {
                tracing::info!(
                    event_id,
                    mitigation = id,
                    exception,
                    state,
                    reason,
                    "exception"
                );
            }
            _ => tracing::warn!(
                event_id,
                mitigation = id,
                exception,
                state,
                reason,
                "exception"
            ),
        }
    }
}

/// The feeds that were told stale.
#[derive(Debug, Default)]
pub(super) struct StaleFeeds {
    told: Option<BTreeSet<String>>,
}

impl StaleFeeds {
    /// Each feed that has become stale. In the first cycle none was fetched yet, so what is stale then is told only if
    /// that did not help.
    pub(super) fn follow(&mut self, conditions: &[Condition], now: UnixTime) -> Vec<Happening> {
        let stale = conditions.iter();
        let stale = stale.filter(|(kind, ..)| *kind == AlarmKind::Stale);
        let Some(told) = &mut self.told else {
            self.told = Some(BTreeSet::new());
            return Vec::new();
        };
        let mut happenings = Vec::new();
        let mut present = BTreeSet::new();
        for (_, feed, reason) in stale {
            present.insert(feed.clone());
            if !told.contains(feed) {
                happenings.push(Happening::Stale {
                    time: now.to_string(),
                    feed: feed.clone(),
                    reason: reason.clone(),
                });
            }
        }
        *told = present;
        happenings
    }
}

/// The event that coming into a state is.
const fn event(state: &State) -> Event {
    match state {
        State::Applied(_) | State::Partial(_) => Event::MitigationApplied,
        State::Audit => Event::Audit,
        State::AwaitingApproval => Event::AwaitingApproval,
        State::Blocked => Event::Blocked,
        State::DisabledOrganisation | State::DisabledServer => Event::Disabled,
        State::Drifted(_) => Event::Drifted,
        State::Expired | State::KillSwitch | State::Withdrawn => Event::Removed,
        State::Failed(_) => Event::Failed,
        State::NotApplicable(_) => Event::NotApplicable,
    }
}

/// The state without the time of its proof, which every cycle renews.
fn text(state: &State) -> String {
    match state {
        State::Applied(_) => state.name().to_owned(),
        _ => state.to_string(),
    }
}
