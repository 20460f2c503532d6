//! How requests are framed in a client's bytes, as strictly as RFC 9112 allows.
//!
//! Layer 1. Part of net. Called by server; calls nothing of ours.
//! Holds: what two parsers could read in two ways is refused, not repaired.
//! See `guide::operations` for the words of refusals.

mod chunked;
mod head;
mod malformed;
mod request;

pub(super) use chunked::Chunked;
pub(super) use head::{HeadScan, LastHead, ReadHead};

pub use head::{HeadLimits, RequestFraming};
pub use malformed::Malformed;
pub use request::{PlainHead, RequestHead};
