//! stopgap: an emergency-mitigation reverse proxy, and the request filter inside it.
//!
//! A vendor can describe an attack within hours and needs weeks to ship a patch. stopgap stands in front of
//! the web front ends, takes signed mitigations, and enforces them without a restart.
//!
//! The crate is a stack of modules in eight layers; a module imports only modules of lower layers:
//!
//! ```text
//! 7  cli
//! 6  app
//! 5  config
//! 4  admin
//! 3  proxy                control
//! 2  filter   lab     feed          sidecar
//! 1  rules   signature   mitigation  |  net   store   telemetry
//! 0  model        canon        xml
//! ```
//!
//! Without default features the crate is the embeddable filter alone: [`model`], [`canon`], [`xml`],
//! [`rules`] and [`filter`], with no runtime, TLS or server. See [`filter`] for an example that puts it in
//! front of any tower service, and [`guide`] for the longer texts.

#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod canon;
pub mod filter;
pub mod guide;
pub mod model;
pub mod rules;
pub mod xml;

#[cfg(feature = "daemon")]
pub mod admin;
#[cfg(feature = "daemon")]
pub mod app;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod control;
#[cfg(feature = "daemon")]
pub mod feed;
#[cfg(feature = "daemon")]
pub mod lab;
#[cfg(feature = "daemon")]
pub mod mitigation;
#[cfg(feature = "daemon")]
pub mod net;
#[cfg(feature = "daemon")]
pub mod proxy;
#[cfg(feature = "daemon")]
pub mod sidecar;
#[cfg(feature = "daemon")]
pub mod signature;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
pub mod telemetry;
