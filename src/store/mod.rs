//! Keeps small files that survive a crash: one folder, one owner, whole files only.
//!
//! Layer 1. Called by feed, control and app; calls nothing of ours.
//! Holds: a reader sees the old content or the new, never a mixture; damage is an error, never content;
//! two processes never write one folder.
//! See `guide::lifecycle` for what is kept.

mod error;
mod slot;
mod state_dir;

pub use error::StoreError;
pub use slot::{SLOT_LIMIT, Slot};
pub use state_dir::StateDir;
