//! How targets are looked at and changed, one way for each kind of service manager.

mod command;
mod dry_run;
mod process;
#[cfg(target_os = "linux")]
mod systemd;
mod windows;

use std::fmt;
use std::pin::Pin;

pub use command::{Bar, CommandConfig, CommandDriver, KIND_PLACEHOLDER, NAME_PLACEHOLDER};
pub use dry_run::DryRun;
pub use process::{Ended, Process, Programs};
#[cfg(target_os = "linux")]
pub use systemd::{SystemdConfig, SystemdDriver, UNIT_SUFFIX};
pub use windows::{WindowsConfig, WindowsDriver};

use super::target::{Startup, Target, TargetState};

/// The drivers of this build, each with what it acts on.
pub const DRIVERS: &[(&str, &str)] = &[
    ("command", "an operator's own programs, one for each step"),
    (
        "dry-run",
        "nothing: orders are answered as if they were carried out",
    ),
    #[cfg(target_os = "linux")]
    ("systemd", "units of systemd, over D-Bus"),
    (
        "windows",
        "services and application pools through sc.exe and appcmd.exe; never run on Windows yet",
    ),
];

/// Which driver, with its settings.
#[derive(Clone, Debug)]
pub enum DriverConfig {
    /// An operator's own programs.
    Command(CommandConfig),
    /// Nothing but memory.
    DryRun,
    /// systemd.
    #[cfg(target_os = "linux")]
    Systemd(SystemdConfig),
    /// `sc.exe` and `appcmd.exe`.
    Windows(WindowsConfig),
}

impl DriverConfig {
    /// The driver.
    pub fn build(self) -> Box<dyn Driver> {
        match self {
            Self::Command(config) => Box::new(CommandDriver::new(config, Box::new(Programs))),
            Self::DryRun => Box::new(DryRun::new()),
            #[cfg(target_os = "linux")]
            Self::Systemd(config) => Box::new(SystemdDriver::new(config)),
            Self::Windows(config) => Box::new(WindowsDriver::new(config, Box::new(Programs))),
        }
    }
}

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

    /// What an operator should know about it although it works.
    fn notice(&self) -> Option<&'static str> {
        None
    }

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
