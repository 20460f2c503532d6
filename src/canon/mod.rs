//! Brings a request target to the views that a web server behind us could take of it, and refuses the few
//! targets that no honest client sends.
//!
//! Layer 0. Called by rules, proxy and lab; calls nothing.
//! Holds: the first view is IIS's own; no view is longer than the target; equal views appear once;
//! nothing is allocated for a target with nothing to decode and nothing to fold;
//! decoding stops after [`MAX_DECODES`] rounds.
//! See `guide::dialect` for which rules are judged over which views.

mod fold;
mod percent;
mod refusal;
mod segments;
mod target;
mod views;

pub use percent::{MAX_DECODES, is_unreserved, percent_decode, percent_encode, uppercase_escapes};
pub use refusal::{Refusal, Refusals, refuse};
pub use target::{path_has_prefix, split_target};
pub use views::{Decoding, View, Views};
