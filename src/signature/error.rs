//! Why a document was not proven to come from its publisher.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use crate::xml::{Position, XmlError};

/// What kind of check a document failed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// The signer's certificate does not lead to a trusted root at the time of signing. Seen on a feed that worked
    /// before: its publisher changed its chain, or somebody else signed.
    Chain,
    /// The verifier's own settings are wrong: nothing was verified.
    Configuration,
    /// The document was changed after it was signed.
    Digest,
    /// The document is not XML that is accepted here, or exceeds a limit.
    Document,
    /// The document was signed in the future: this clock, or the authority's, is wrong.
    Future,
    /// The signature is not made the one way that is accepted.
    Profile,
    /// The document is older than one that was accepted before.
    Rollback,
    /// No certificate of the document has the key that made the signature.
    Signature,
    /// The signer's certificate is on the list of the denied, or not on that of the allowed.
    Signer,
    /// The timestamp proves nothing.
    Timestamp,
    /// There is no timestamp, and one is required.
    TimestampMissing,
    /// The signer's certificate is not made for signing such documents.
    Usage,
}

/// A document was not proven to come from its publisher; it must not be used.
#[derive(Debug)]
pub struct VerifyError {
    fault: Fault,
    words: Cow<'static, str>,
    position: Option<Position>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl VerifyError {
    pub(super) fn new(fault: Fault, words: impl Into<Cow<'static, str>>) -> Self {
        Self {
            fault,
            words: words.into(),
            position: None,
            source: None,
        }
    }

    pub(super) fn caused_by(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }

    pub(super) fn document(source: XmlError) -> Self {
        Self::new(Fault::Document, "the document is not accepted").caused_by(source)
    }

    /// The signature's form is wrong at this place.
    pub(super) fn profile(position: Position, words: impl Into<Cow<'static, str>>) -> Self {
        Self {
            position: Some(position),
            ..Self::new(Fault::Profile, words)
        }
    }

    pub(super) fn timestamp(words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Fault::Timestamp, words)
    }

    /// The kind of check that failed.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Where in the document the signature's form is wrong; other faults have no place.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        f.write_str(&self.words)
    }
}

impl Error for VerifyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
