//! Takes clients' requests, has them judged, forwards what may pass, and streams the answers back.
//!
//! Layer 3. Called by app; calls filter, canon, net and telemetry.
//! Holds: a request that was stopped never reaches an upstream; no body is held whole;
//!        workers share nothing but the filter's handle and counters.
//! See `guide::architecture` for the order of a request.

mod config;
mod error;
mod limits;

pub use config::{
    AccessFormat, AccessLog, BuiltIn, InvalidServer, Listener, ProxyConfig, Server, Site, Upstream,
};
pub use error::{Party, ProxyError};
pub use limits::Limits;
