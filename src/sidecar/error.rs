//! Why the sidecar cannot do what it was asked.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::journal::JournalError;

/// An order was not carried out, or the sidecar could not be asked.
#[derive(Debug)]
pub struct SidecarError {
    kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// The sidecar answered with a refusal.
    Answered(u16, String),
    /// The journal cannot be used.
    Journal(JournalError),
    /// The answer is none of this protocol.
    Malformed(Box<dyn std::error::Error + Send + Sync>),
    /// The socket of the agent cannot be made.
    Socket(PathBuf, io::Error),
    /// The answer took too long.
    TimedOut,
    /// Nothing answers.
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
}

impl SidecarError {
    pub(super) const fn new(kind: Kind) -> Self {
        Self { kind }
    }

    /// Whether nothing answers, so that nothing was done.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self.kind, Kind::Unreachable(_))
    }

    /// Whether the order may have been carried out although no answer came; asking again is safe.
    pub const fn is_unknown(&self) -> bool {
        matches!(self.kind, Kind::Malformed(_) | Kind::TimedOut)
    }
}

impl From<JournalError> for SidecarError {
    fn from(error: JournalError) -> Self {
        Self::new(Kind::Journal(error))
    }
}

impl fmt::Display for SidecarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Answered(status, error) => write!(f, "the sidecar refused ({status}): {error}"),
            Kind::Journal(_) => {
                f.write_str("the sidecar changes nothing, since its journal cannot be used")
            }
            Kind::Malformed(_) => f.write_str(
                "the sidecar's answer is not understood: see that both programs have one version",
            ),
            Kind::Socket(path, _) => write!(
                f,
                "the socket {} cannot be made: see that its folder exists and that nothing else is there",
                path.display()
            ),
            Kind::TimedOut => f.write_str("the sidecar did not answer in time"),
            Kind::Unreachable(_) => f.write_str(
                "the sidecar cannot be reached: see that it runs, and that its `users` name this process's user",
            ),
        }
    }
}

impl std::error::Error for SidecarError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Journal(error) => Some(error),
            Kind::Malformed(error) | Kind::Unreachable(error) => Some(error.as_ref()),
            Kind::Socket(_, error) => Some(error),
            Kind::Answered(..) | Kind::TimedOut => None,
        }
    }
}
