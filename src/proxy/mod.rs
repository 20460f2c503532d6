//! Takes clients' requests, has them judged, forwards what may pass, and streams the answers back.
//!
//! Layer 3. Called by app; calls filter, canon, net and telemetry.
//! Holds: a request that was stopped never reaches an upstream; no body is held whole;
//!        workers share nothing but the filter's handle and counters.
//! See `guide::architecture` for the order of a request.

mod act;
mod admit;
mod balance;
mod body;
mod bond;
mod caller;
mod claims;
mod config;
mod connect;
mod connection;
mod conversation;
mod core;
mod error;
mod escape;
mod exchange;
mod fields;
mod forward;
mod forwarding;
mod group;
mod headers;
mod health;
mod http1;
mod http2;
mod limits;
mod metrics;
mod pool;
mod probe;
mod record;
mod request_id;
mod respond;
mod route;
mod running;
mod service;
mod sessions;
mod short_text;
mod standing;
mod upgrade;
mod worker;

pub use config::{
    AccessFormat, AccessLog, BuiltIn, DecisionLog, InvalidServer, Listener, ProxyConfig, Route,
    Server, ServerTls, Site, Upstream,
};
pub use error::{Party, ProxyError};
pub use forwarding::{
    ClientField, Forwarding, ForwardingField, ForwardingFields, TrustedProxies, UnknownField,
};
pub use group::{
    Balance, Ejection, HealthCheck, Member, ServerGroup, ServerStatus, UpstreamStatus,
};
pub use limits::Limits;
pub use running::{Proxy, Running};
