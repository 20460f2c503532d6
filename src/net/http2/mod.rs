//! HTTP/2: watches the frames of a client's connection on their way to and from the HTTP library, and holds what it
//! does not; and speaks it to clients and to servers.
//!
//! Layer 1. Part of net; calls clock and stream only.
//! Holds: frames are counted, never changed; what a connection may cost without getting anything done is bounded;
//!        no wait for a client is without a bound.
//! See `guide::threat_model` for the attacks.

mod client;
mod frames;
mod inbound;
mod reset;
mod server;

pub use client::{ClientSession, ClientStream, ask_http2};
pub use inbound::{Http2Awaited, Http2Inbound, Http2Timeouts, Http2Watch};
pub use reset::StreamReset;
pub use server::{Http2Answer, Http2Body, Http2Request, Http2Server};

/// What a client that speaks HTTP/2 sends first (RFC 9113 section 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
