//! Carries out what a rule cannot: stopping services and application pools on the server itself.
//!
//! Layer 2. Called by cli; calls nothing.
//! Holds: without a driver nothing is done, and that is said; no order ever becomes a shell string.
//! See `guide::operations` for what this version leaves out.

use std::fmt;

/// The sidecar can do nothing, since this version has no driver for any service manager.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoDriver;

impl fmt::Display for NoDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no driver configured: this version has none, so actions on services and application pools are \
             reported as missing and never carried out",
        )
    }
}

impl std::error::Error for NoDriver {}

/// The names of the drivers in this build.
pub const DRIVERS: [&str; 0] = [];
