//! Turns octets into a bounded tree of elements, and a tree into its canonical octets.
//!
//! Layer 0. Called by `rules`, `signature` and `feed`; calls nothing of ours.
//! Holds: no document type, no processing instruction, no entity but the five that XML names itself.
//! Holds: every limit is checked before the memory it bounds is taken; nothing recurses by the input's depth.
//! Holds: what the tree shows is what [`canonicalize`] writes; comments are in neither.
//! See `guide::threat_model` for why the reader is this strict.

mod canonical;
mod document;
mod error;
mod parser;
mod position;
mod scanner;
mod text;
mod tree;

pub use canonical::{Canonical, canonicalize};
pub use document::{Document, Limits};
pub use error::XmlError;
pub use position::Position;
pub use tree::{Attribute, Element};

/// The namespace that the prefix `xml` is bound to (Namespaces in XML 1.0, section 3).
pub(crate) const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";
