//! The nouns that every part shares, as plain data.
//!
//! Layer 0. Called by everything; calls nothing.
//! Holds: no I/O, no clock, no async; a value that exists is valid.
//! See `guide::lifecycle` for how these nouns live.

mod digest;
mod exception;
mod explain;
mod id;
mod mitigation;
mod network;
mod time;
mod vector;

pub use digest::Digest;
pub use exception::{
    EXCEPTION_NAME_LIMIT, EXCEPTION_NETWORKS_LIMIT, EXCEPTION_TEXT_LIMIT, Exception,
    ExceptionDraft, InvalidException,
};
pub use explain::explain;
pub use id::{InvalidMitigationId, MitigationId};
pub use mitigation::{
    Action, ActionKind, BuildRange, Extent, Mitigation, Mode, PoolStop, Revision, RewriteText,
    Scope, ServiceStop,
};
pub use network::{InvalidNetwork, Network};
pub use time::UnixTime;
pub use vector::{CannedResponse, Expectation, FieldExpectation, Vector};
