//! The nouns that every part shares, as plain data.
//!
//! Layer 0. Called by everything; calls nothing.
//! Holds: no I/O, no clock, no async; a value that exists is valid.
//! See `guide::lifecycle` for how these nouns live.

mod digest;
mod explain;
mod id;
mod mitigation;
mod time;
mod vector;

pub use digest::Digest;
pub use explain::explain;
pub use id::{InvalidMitigationId, MitigationId};
pub use mitigation::{
    Action, ActionKind, BuildRange, Extent, Mitigation, Mode, PoolStop, Revision, RewriteText,
    Scope, ServiceStop,
};
pub use time::UnixTime;
pub use vector::{CannedResponse, Expectation, FieldExpectation, Vector};
