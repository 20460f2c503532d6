//! How targets are looked at and changed, one way for each kind of service manager.

mod dry_run;

use std::fmt;
use std::pin::Pin;

pub use dry_run::DryRun;

use super::target::{Startup, Target, TargetState};

/// What a driver comes to, some time later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DriverError>> + Send + 'a>>;

/// A target as its service manager knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Every name it has there, aliases too: none of them may be on the deny-list.
    pub names: Vec<String>,
    /// Its state.
    pub state: TargetState,
}

/// Looks at targets and changes them, one step at a time.
///
/// No step needs to be believed: the agent reads the state back. A step that finds its work done succeeds.
pub trait Driver: Send + Sync {
    /// Its name, as in the settings.
    fn name(&self) -> &'static str;

    /// Whether the service manager can be reached.
    fn health(&self) -> Answer<'_, ()>;

    /// Reads a target's state; `None` when there is no such target.
    fn inspect<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<Found>>;

    /// Sets what may start a target.
    fn set_startup<'a>(&'a self, target: &'a Target, startup: Startup) -> Answer<'a, ()>;

    /// Starts a target.
    fn start<'a>(&'a self, target: &'a Target) -> Answer<'a, ()>;

    /// Stops a target.
    fn stop<'a>(&'a self, target: &'a Target) -> Answer<'a, ()>;

    /// The setting in which nothing starts the target; the target's own, `original`, when the driver knows no such
    /// setting.
    fn barred(&self, target: &Target, original: Startup) -> Startup;

    /// A setting in which the target can be started by hand, for one that was running although barred.
    fn startable(&self, target: &Target) -> Startup;
}

/// A step failed.
#[derive(Debug)]
pub struct DriverError {
    problem: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl DriverError {
    /// An error with this text.
    pub fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            source: None,
        }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for DriverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
