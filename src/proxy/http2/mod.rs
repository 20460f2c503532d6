//! Serves clients that speak HTTP/2: the same judging, forwarding and answering, a stream at a time.
//!
//! Layer 3. Part of proxy. Called by connection; calls service.
//! Holds: a request is held to the limits and checks of HTTP/1.1; one stream that ends badly leaves the others alone;
//!        no login by connection is begun on a connection that others share upstream.
//! See `guide::operations` for the limits.

mod connection;
mod head;
mod stream;

pub(super) use connection::serve;
pub(super) use head::check;
