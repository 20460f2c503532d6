//! Why the sidecar cannot do what it was asked.

use std::fmt;

use super::journal::JournalError;

/// An order was not carried out.
#[derive(Debug)]
pub struct SidecarError {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The journal cannot be used.
    Journal(JournalError),
}

impl From<JournalError> for SidecarError {
    fn from(error: JournalError) -> Self {
        Self {
            kind: Kind::Journal(error),
        }
    }
}

impl fmt::Display for SidecarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Journal(_) => {
                f.write_str("the sidecar changes nothing, since its journal cannot be used")
            }
        }
    }
}

impl std::error::Error for SidecarError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Journal(error) => Some(error),
        }
    }
}
