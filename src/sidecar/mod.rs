//! Carries out what a rule cannot: stopping services and application pools on the server itself.
//!
//! Layer 2. Called by control, cli and config; calls net and store.
//! Holds: the state before a change is on the disk before the change, and nothing overwrites it;
//! no order names a command, and no driver uses a shell; success is what was read back.
//! See `guide::operations` for settings and drivers.

mod agent;
mod allow;
mod client;
mod driver;
mod error;
mod journal;
mod keep;
mod protocol;
mod server;
mod socket;
mod target;

pub use agent::{Agent, AgentConfig, SETTLE_TIMEOUT, STEP_TIMEOUT};
pub use allow::{AllowList, EXCHANGE_POOLS, EXCHANGE_SERVICES, NamePattern, Refused};
pub use client::{ANSWER_LIMIT, CONNECT_TIMEOUT, Client};
pub use driver::{
    Answer, Bar, CommandConfig, CommandDriver, DRIVERS, Driver, DriverConfig, DriverError, DryRun,
    Ended, Found, KIND_PLACEHOLDER, NAME_PLACEHOLDER, Process, Programs, WindowsConfig,
    WindowsDriver,
};
#[cfg(target_os = "linux")]
pub use driver::{SystemdConfig, SystemdDriver, UNIT_SUFFIX};
pub use error::SidecarError;
pub use journal::{ENTRY_LIMIT, JournalError, JournalStore};
pub use keep::keep;
pub use protocol::{
    ACTION_LIMIT, Action, Fault, HOLDER_LIMIT, Health, Holder, InvalidHolder, Outcome,
    PROTOCOL_VERSIONS, Plan, Reply, Request, TargetReport, TargetResult, Undo,
};
pub use server::{
    ANSWER_TIMEOUT, AgentAddress, AgentListener, BODY_LIMIT, CONNECTION_LIMIT, HANDSHAKE_LIMIT,
    REQUEST_TIMEOUT, serve,
};
pub use socket::AgentSocket;
pub use target::{Desired, InvalidName, NAME_LIMIT, Name, Startup, Target, TargetState};
