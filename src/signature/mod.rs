//! Proves that a feed's octets come from a publisher that is trusted, and gives out only what was proven.
//!
//! Layer 1. Called by `feed`, `control`, `config` and `cli`; calls `xml` and `model`.
//! Holds: nothing leaves but the canonical octets that were digested, inside [`Verified`], which is made only here.
//! Holds: a key or certificate counts only if it chains to a root that the caller named; the document names none.
//! Holds: no network, no files, no clock: time is an argument.
//! See `guide::threat_model` for what is checked against whom.

mod algorithm;
mod anchors;
mod certificate;
mod chain;
mod der;
pub mod envelope;
mod error;
mod oid;
mod profile;
mod random;
mod timestamp;
mod verifier;
mod webhook;

pub use algorithm::sha256;
pub use anchors::TrustAnchors;
pub use error::{Fault, VerifyError};
pub use random::random_octets;
pub use verifier::{Verified, Verifier, XmlDsigPolicy};
pub use webhook::{WEBHOOK_SECRET_MAX, WEBHOOK_SECRET_MIN, WebhookKey};
