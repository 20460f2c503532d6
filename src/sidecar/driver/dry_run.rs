//! A driver that changes nothing but its memory: to try a configuration, and to test against.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Answer, Driver, DriverError, Found};
use crate::sidecar::target::{Startup, Target, TargetState};

/// How a target is that was never spoken of.
const UNTOUCHED: TargetState = TargetState {
    running: true,
    startup: Startup::Automatic,
};

/// A server that exists in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct DryRun {
    targets: Arc<Mutex<BTreeMap<Target, TargetState>>>,
    /// Whether targets that were never spoken of do not exist.
    only_these: bool,
}

impl DryRun {
    /// A server on which everything exists and runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// A server on which only these targets exist.
    pub fn with(targets: impl IntoIterator<Item = (Target, TargetState)>) -> Self {
        Self {
            targets: Arc::new(Mutex::new(targets.into_iter().collect())),
            only_these: true,
        }
    }

    /// The state of every target that exists or was spoken of.
    pub fn states(&self) -> BTreeMap<Target, TargetState> {
        self.lock().clone()
    }

    /// Gives a target another state, as somebody else than the sidecar would.
    pub fn interfere(&self, target: Target, state: TargetState) {
        self.lock().insert(target, state);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Target, TargetState>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, target: &Target) -> Option<TargetState> {
        let found = self.lock().get(target).copied();
        found.or((!self.only_these).then_some(UNTOUCHED))
    }

    fn change(
        &self,
        target: &Target,
        change: impl FnOnce(&mut TargetState) -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        let mut state = self
            .find(target)
            .ok_or_else(|| DriverError::new(format!("there is no {target}")))?;
        change(&mut state)?;
        self.lock().insert(target.clone(), state);
        Ok(())
    }
}

impl Driver for DryRun {
    fn name(&self) -> &'static str {
        "dry-run"
    }

    fn health(&self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<Found>> {
        Box::pin(async move {
            Ok(self.find(target).map(|state| Found {
                names: vec![target.name().to_string()],
                state,
            }))
        })
    }

    fn set_startup<'a>(&'a self, target: &'a Target, startup: Startup) -> Answer<'a, ()> {
        Box::pin(async move {
            self.change(target, |state| {
                state.startup = startup;
                Ok(())
            })
        })
    }

    fn start<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        Box::pin(async move {
            self.change(target, |state| {
                if state.startup == Startup::Disabled {
                    return Err(DriverError::new(format!("{target} is disabled")));
                }
                state.running = true;
                Ok(())
            })
        })
    }

    fn stop<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        Box::pin(async move {
            self.change(target, |state| {
                state.running = false;
                Ok(())
            })
        })
    }

    fn barred(&self, _: &Target, _: Startup) -> Startup {
        Startup::Disabled
    }

    fn startable(&self, _: &Target) -> Startup {
        Startup::Manual
    }
}
