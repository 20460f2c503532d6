//! What operators decided, kept on disk.

use crate::mitigation::{Decision, DecisionError, Decisions};
use crate::model::MitigationId;
use crate::store::{Slot, StateDir};

/// The name of the slot.
const SLOT: &str = "decisions";

/// The decisions and the place where they are kept.
#[derive(Debug)]
pub(super) struct Decided {
    slot: Slot,
    decisions: Decisions,
    fault: Option<String>,
}

impl Decided {
    /// Reads what was kept. What cannot be read counts as nothing decided, which is told as a fault.
    pub(super) fn open(state: &StateDir) -> Self {
        let slot = state.slot(SLOT);
        let read = slot.read().map_err(|error| error.to_string());
        let decisions = read.and_then(|bytes| {
            let bytes = bytes.unwrap_or_default();
            let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
            Decisions::read(&text).map_err(|error| error.to_string())
        });
        let (decisions, fault) = match decisions {
            Ok(decisions) => (decisions, None),
            Err(error) => {
                let fault = format!("what operators decided is lost: {error}; decide it again");
                (Decisions::default(), Some(fault))
            }
        };
        Self {
            slot,
            decisions,
            fault,
        }
    }

    /// What is decided.
    pub(super) const fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Why what was decided is not known, or not kept.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Takes a decision, and keeps it. One that cannot be kept counts until the process ends.
    pub(super) fn decide(&mut self, decision: &Decision) -> Result<bool, DecisionError> {
        let changed = self.decisions.decide(decision)?;
        if changed || self.fault.is_some() {
            self.keep();
        }
        Ok(changed)
    }

    /// Forgets that these were retired.
    pub(super) fn unretire(&mut self, ids: &[MitigationId]) {
        if self.decisions.unretire(|id| ids.contains(id)) {
            self.keep();
        }
    }

    fn keep(&mut self) {
        let kept = self.slot.replace(self.decisions.write().as_bytes());
        self.fault = kept
            .err()
            .map(|error| format!("a restart will not know what operators decided: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_survive_and_damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let block = Decision::Block("M2".parse().unwrap());
        assert_eq!(Decided::open(&state).decide(&block), Ok(true));
        let mut again = Decided::open(&state);
        assert_eq!(again.decisions().blocked().count(), 1);
        assert_eq!(again.fault(), None);
        state.slot(SLOT).replace(b"nonsense").unwrap();
        again = Decided::open(&state);
        assert!(again.fault().unwrap().contains("is lost"));
        assert_eq!(again.decide(&block), Ok(true));
        assert_eq!(again.fault(), None);
        assert_eq!(Decided::open(&state).decisions().blocked().count(), 1);
    }
}
