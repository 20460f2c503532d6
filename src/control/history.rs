//! What became of every mitigation over time, kept on disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::exceptions::is_of_exception;
use super::plan::{Planned, Source};
use crate::mitigation::State;
use crate::model::UnixTime;
use crate::store::{Slot, StateDir};

/// Transitions that are kept; an older one goes for each that comes.
pub const HISTORY_LIMIT: usize = 2_000;

/// Characters of a reason that are kept.
pub const HISTORY_REASON_LIMIT: usize = 500;

/// The state of a mitigation that no source offers any more.
const NOT_OFFERED: &str = "NotOffered";

/// The name of the slot.
const SLOT: &str = "history";

/// One transition. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TransitionReport {
    /// When.
    pub time: String,
    /// The mitigation's id.
    pub id: String,
    /// The feed or file that it came from, or `bundled`; `exception NAME` when this became of an exception from it.
    pub source: String,
    /// The state before; empty when the mitigation was not known.
    pub before: String,
    /// The state since then; `NotOffered` when no source offers it any more.
    pub state: String,
    /// Why; empty when the state says it all.
    pub reason: String,
    /// SHA-256 of the document of its feed at that time, for `NotOffered` of the one that does not offer it; nothing for
    /// other sources, and for a feed that is gone.
    pub digest: Option<String>,
    /// The number of the rule set that was published then.
    pub revision: u64,
}

impl TransitionReport {
    /// As much of a reason as is kept.
    pub(super) fn shortened(reason: &str) -> String {
        reason.chars().take(HISTORY_REASON_LIMIT).collect()
    }
}

/// The transitions, oldest first, and the state that each mitigation was in last.
#[derive(Debug)]
pub(super) struct History {
    slot: Slot,
    kept: VecDeque<TransitionReport>,
    /// What a reader gets; made anew only when something changed.
    shown: Arc<[TransitionReport]>,
    last: BTreeMap<(String, String), Told>,
    /// Why the file cannot be used.
    fault: Option<String>,
}

/// A state and its reason.
type Told = (String, String);

impl History {
    /// Reads what was kept.
    pub(super) fn open(state: &StateDir) -> Self {
        let slot = state.slot(SLOT);
        let read = slot.read().map_err(|error| error.to_string());
        let kept = read.and_then(|bytes| match bytes {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            None => Ok(VecDeque::<TransitionReport>::new()),
        });
        let (mut kept, fault) = match kept {
            Ok(kept) => (kept, None),
            Err(error) => (VecDeque::new(), Some(format!("begun anew: {error}"))),
        };
        kept.drain(..kept.len().saturating_sub(HISTORY_LIMIT));
        let mut last = BTreeMap::new();
        for transition in kept.iter().filter(|own| !is_of_exception(own)) {
            let key = (transition.source.clone(), transition.id.clone());
            match transition.state == NOT_OFFERED {
                true => last.remove(&key),
                false => last.insert(key, (transition.state.clone(), transition.reason.clone())),
            };
        }
        Self {
            slot,
            shown: kept.iter().cloned().collect(),
            kept,
            last,
            fault,
        }
    }

    /// What is kept, oldest first.
    pub(super) fn shown(&self) -> Arc<[TransitionReport]> {
        Arc::clone(&self.shown)
    }

    /// Why what happens is not kept.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Takes down each state that is not what it was.
    pub(super) fn follow(
        &mut self,
        sources: &[Source],
        entries: &[Planned],
        revision: u64,
        now: UnixTime,
    ) -> Vec<TransitionReport> {
        let mut changes = Vec::new();
        let mut present = BTreeMap::new();
        for entry in entries {
            let source = &sources[entry.source];
            let key = (source.name.clone(), entry.mitigation.id.to_string());
            let told = told(&entry.state);
            let before = self.last.get(&key);
            if before != Some(&told) {
                changes.push(TransitionReport {
                    time: now.to_string(),
                    id: key.1.clone(),
                    source: key.0.clone(),
                    before: before.map_or_else(String::new, |(state, _)| state.clone()),
                    state: told.0.clone(),
                    reason: told.1.clone(),
                    digest: source.digest.clone(),
                    revision,
                });
            }
            present.insert(key, told);
        }
        for (key, (before, _)) in &self.last {
            if !present.contains_key(key) {
                // The document that does not offer it any more, if its feed is still there.
                let source = sources.iter().find(|source| source.name == key.0);
                changes.push(TransitionReport {
                    time: now.to_string(),
                    id: key.1.clone(),
                    source: key.0.clone(),
                    before: before.clone(),
                    state: NOT_OFFERED.to_owned(),
                    reason: String::new(),
                    digest: source.and_then(|source| source.digest.clone()),
                    revision,
                });
            }
        }
        self.last = present;
        if !changes.is_empty() {
            self.keep(&changes);
        }
        changes
    }

    /// Takes down transitions of anything else, such as of exceptions; nothing if there are none.
    pub(super) fn take(&mut self, changes: &[TransitionReport]) {
        if !changes.is_empty() {
            self.keep(changes);
        }
    }

    fn keep(&mut self, changes: &[TransitionReport]) {
        self.kept.extend(changes.iter().cloned());
        let excess = self.kept.len().saturating_sub(HISTORY_LIMIT);
        self.kept.drain(..excess);
        self.shown = self.kept.iter().cloned().collect();
        let written = serde_json::to_vec(&self.kept).map_err(|error| error.to_string());
        let written = written.and_then(|bytes| {
            let replaced = self.slot.replace(&bytes);
            replaced.map_err(|error| error.to_string())
        });
        self.fault = written.err();
    }
}

/// The state without the time of its proof, which every cycle renews.
fn told(state: &State) -> Told {
    let reason = match state {
        State::Applied(_) => String::new(),
        _ => state.reason(),
    };
    (
        state.name().to_owned(),
        TransitionReport::shortened(&reason),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(number: usize) -> TransitionReport {
        TransitionReport {
            time: "2026-11-23T00:00:00Z".to_owned(),
            id: format!("M{number}"),
            source: "bundled".to_owned(),
            before: String::new(),
            state: "Applied".to_owned(),
            reason: String::new(),
            digest: None,
            revision: 1,
        }
    }

    #[test]
    fn history_is_kept_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let mut history = History::open(&state);
        let all: Vec<_> = (0..HISTORY_LIMIT).map(change).collect();
        history.keep(&all);
        assert_eq!(history.shown().len(), HISTORY_LIMIT);
        assert_eq!(history.shown()[0].id, "M0");
        history.keep(&[change(HISTORY_LIMIT)]);
        let read = History::open(&state);
        assert_eq!(read.shown().len(), HISTORY_LIMIT);
        assert_eq!(read.shown()[0].id, "M1");
        assert_eq!(read.shown(), history.shown());
        assert_eq!(read.fault(), None);
    }

    #[test]
    fn what_cannot_be_read_is_begun_anew_and_said() {
        let state = StateDir::memory();
        state.slot(SLOT).replace(b"[{").unwrap();
        let history = History::open(&state);
        assert!(history.shown().is_empty());
        assert!(history.fault().unwrap().starts_with("begun anew"));
    }

    #[test]
    fn nothing_is_taken_down_twice_and_a_restart_is_no_transition() {
        let state = StateDir::memory();
        let now = UnixTime::new(0);
        History::open(&state).keep(&[change(1)]);
        let mut history = History::open(&state);
        // No source offers it any more.
        let changes = history.follow(&[], &[], 2, now);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].state, NOT_OFFERED);
        assert!(history.follow(&[], &[], 2, now).is_empty());
        assert!(History::open(&state).follow(&[], &[], 1, now).is_empty());
    }
}
