//! Speaks HTTP/1.1 to a client: one request and its response at a time, over one stream.
//!
//! Layer 1. Called by proxy; calls nothing of ours but the stream.
//! Holds: a head is given only when it is whole and well-formed, and a chunked one with as much of its body as has
//!        arrived; a response has exactly one framing, and bytes enough for it; another request is read only when the
//!        one before it was read to its end and answered to the last byte.
//! See `guide::architecture` for why HTTP/1.1 is spoken by code of our own.

mod body;
mod connection;
mod head;

pub use body::IncomingBody;
pub use connection::{ServerConnection, ServerSettings, ServerTimeouts};
pub use head::last_response;
