//! Proves that a feed in our own format is signed by enough keys, newest, and the one that was asked for; and makes such
//! feeds.
//!
//! Layer 1. Called by `feed`, `control`, `config` and `cli`; calls `model`.
//! Holds: no payload is parsed before enough distinct keys signed it; keys are told apart by their octets alone.
//! Holds: whom to trust comes from the caller's first root, and from roots that the one before vouches for.
//! Holds: a state that was handed out never comes from a document that was refused.
//! See `guide::publishing` for the way of a publisher.

mod chain;
mod dsse;
mod error;
mod feed;
mod key;
mod role;
mod root;
mod state;

pub use chain::{ROOTS, RootChain};
pub use dsse::{ENVELOPE_BYTES, Envelope, FEED_TYPE, ROOT_BYTES, ROOT_TYPE, SIGNATURES};
pub use error::{EnvelopeError, Fault};
pub use feed::{FeedPayload, NAME_BYTES};
pub use key::{KEY_FILE_BYTES, KeyPair, PublicKey};
pub use role::{KEYS, Role};
pub use root::{RootBuilder, RootMetadata};
pub use state::{Acceptance, CLOCK_SKEW, FLOORS, FeedContent, FeedState, Restored, STATE_BYTES};
