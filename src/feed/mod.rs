//! Fetches signed documents on a schedule and turns what was verified into mitigations.
//!
//! Layer 2. Called by control, config and cli; calls signature, xml and store.
//! Holds: nothing is parsed that was not verified; nothing here compiles rules; a feed that fails keeps its last
//! good document.
//! See `guide::lifecycle` for the way of a document.

mod bundled;
mod config;
mod connect;
mod document;
mod error;
mod fetch;
mod proof;
mod schedule;
mod source;

pub use bundled::BUNDLED;
pub use config::{
    ActionType, CONNECT_DEADLINE, DEADLINE, DOCUMENT_FILE, FeedConfig, INTERVAL, ISSUE_FILE,
    InvalidSource, SIZE_LIMIT, STALE_AFTER, Source, Trust, TypeAliases,
};
pub use document::{
    ACTION_LIMIT, CONFIG_LIMIT, FIELD_LIMIT, FeedDocument, LocalContent, LocalDocument, NAMESPACE,
    NOTICE_LIMIT, Nameless, VECTOR_LIMIT,
};
pub use error::{FeedError, Step};
pub use fetch::{
    Fetched, Fetcher, REDIRECT_LIMIT, ROOT_LIMIT, VALIDATOR_BYTES, fetch, fetch_with_roots,
};
pub use proof::FORMER;
pub use schedule::{BACKOFF, Schedule, chance};
pub use source::{Acceptance, Accepted, Feed, Issue, Refusal};
