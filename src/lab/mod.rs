//! Judges rules off line: batches of cases, vectors, and requests known to be honest.
//!
//! Layer 2. Called by control and cli; calls rules, canon and model.
//! Holds: no network, no clock; the same input gives the same output.
//! See `guide::dialect` for the format of cases.

mod address;
mod case;
mod evaluate;
pub mod honest;
mod sets;
pub mod vectors;

pub use address::Address;
pub use evaluate::Evaluate;
