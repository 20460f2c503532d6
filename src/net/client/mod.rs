//! Speaks HTTP/1.1 to a server: one request and its response at a time, over one stream.
//!
//! Layer 1. Called by proxy; calls nothing of ours but the stream.
//! Holds: a response gets no byte that its framing does not give it; what cannot be framed for certain is an error,
//!        never a guess; a connection is used again only when its last response ended where its framing says and
//!        nothing came behind it; a request body is asked for more only when the last piece has left.
//! See `guide::architecture` for why HTTP/1.1 is spoken by code of our own.

mod body;
mod connection;
mod error;
mod head;
mod own;
mod response;

pub use connection::ClientConnection;
pub use error::ResponseError;
pub use head::{RequestLength, encode, encode_plain};
pub use own::OwnResponse;
pub(super) use own::OwnValues;
pub use response::{PlainResponse, ResponseHead};
