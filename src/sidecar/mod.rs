//! Carries out what a rule cannot: stopping services and application pools on the server itself.
//!
//! Layer 2. Called by cli and config; calls store.
//! Holds: the state before a change is on the disk before the change, and nothing overwrites it;
//! no order names a command, and no driver uses a shell; success is what was read back.
//! See `guide::operations` for settings and drivers.

use std::fmt;

mod agent;
mod allow;
mod driver;
mod error;
mod journal;
mod protocol;
mod target;

pub use agent::{Agent, AgentConfig, SETTLE_TIMEOUT, STEP_TIMEOUT};
pub use allow::{AllowList, EXCHANGE_POOLS, EXCHANGE_SERVICES, NamePattern, Refused};
pub use driver::{Answer, Driver, DriverError, DryRun, Found};
pub use error::SidecarError;
pub use journal::{ENTRY_LIMIT, JournalError, JournalStore};
pub use protocol::{
    ACTION_LIMIT, Action, Fault, HOLDER_LIMIT, Health, Holder, InvalidHolder, Outcome,
    PROTOCOL_VERSION, Plan, Reply, Request, TargetReport, TargetResult, Undo,
};
pub use target::{Desired, InvalidName, NAME_LIMIT, Name, Startup, Target, TargetState};

/// The sidecar can do nothing, since this version has no driver for any service manager.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoDriver;

impl fmt::Display for NoDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no driver configured: this version has none, so actions on services and application pools are \
             reported as missing and never carried out",
        )
    }
}

impl std::error::Error for NoDriver {}

/// The names of the drivers in this build.
pub const DRIVERS: [&str; 0] = [];
