//! The longer texts, a page for each module below.
//!
//! Layer: none. Called by readers; calls nothing.
//! Holds: what the pages promise is what the code does; a change of one changes the other.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("lifecycle.md")]
pub mod lifecycle {}

#[doc = include_str!("dialect.md")]
pub mod dialect {}

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("threat_model.md")]
pub mod threat_model {}

#[cfg(feature = "daemon")]
#[doc = include_str!("publishing.md")]
pub mod publishing {}
