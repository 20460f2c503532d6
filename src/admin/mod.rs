//! Shows what runs: health, metrics and status over HTTP, and a socket that takes orders.
//!
//! Layer 4. Called by app; calls control and telemetry.
//! Holds: no state of its own; the address is read-only, orders come over the socket alone.
//! See `guide::operations` for every path.

mod config;

pub use config::AdminConfig;
