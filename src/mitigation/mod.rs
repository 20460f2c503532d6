//! Decides, from what every source offers and what the administrator said, which mitigation is in which state, and
//! what each server's sidecar is to be told.
//!
//! Layer 1. Called by control and config; calls nothing of ours but the model.
//! Holds: pure; the same input gives the same answer; every mitigation that is offered gets exactly one state.
//! See `guide::lifecycle` for priorities and states.

mod builds;
mod content;
mod decisions;
mod ledger;
mod policy;
mod resolve;
mod state;

pub use builds::{
    Build, BuildRecord, Evidence, FORGET_AFTER, InvalidBuild, Learned, Retirement, ServerBuild,
    SiteBuilds, evidence,
};
pub use content::content;
pub use decisions::{DECISION_LIMIT, Decision, DecisionError, Decisions};
pub use ledger::{
    Answer, Command, Effect, Extent, FIRST_RETRY, LONGEST_KNOCK, LONGEST_RETRY, LOOK_INTERVAL,
    Ledger, Missing, Order, Record, Stops, Target,
};
pub use policy::{DEFAULT_RING, KillSwitch, LAST_RING, Policy};
pub use resolve::{Conflict, Entry, Origin, Resolution, SourceKind, resolve, same_content};
pub use state::{Facts, Proof, State};
