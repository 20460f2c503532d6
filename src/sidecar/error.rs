//! Why the sidecar cannot do what it was asked.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::journal::JournalError;
use super::protocol::PROTOCOL_VERSIONS;

/// An order was not carried out, or the sidecar could not be asked.
#[derive(Debug)]
pub struct SidecarError {
    kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// The address of the agent cannot be had.
    Address(SocketAddr, io::Error),
    /// The sidecar answered with a refusal.
    Answered(u16, String),
    /// The journal cannot be used.
    Journal(JournalError),
    /// The connection ended before the answer.
    Lost(Box<dyn std::error::Error + Send + Sync>),
    /// The answer is none of this protocol.
    Malformed(Box<dyn std::error::Error + Send + Sync>),
    /// The socket of the agent cannot be made.
    Socket(PathBuf, io::Error),
    /// The answer took too long.
    TimedOut,
    /// Nothing answers; what to look at.
    Unreachable(&'static str, Box<dyn std::error::Error + Send + Sync>),
    /// The sidecar speaks these versions of the protocol, and none that we do.
    Version(Vec<u32>),
}

impl SidecarError {
    pub(super) const fn new(kind: Kind) -> Self {
        Self { kind }
    }

    /// Whether nothing answers, so that nothing was done.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self.kind, Kind::Unreachable(..))
    }

    /// Whether the order may have been carried out although no answer came; asking again is safe.
    pub const fn is_unknown(&self) -> bool {
        matches!(
            self.kind,
            Kind::Lost(_) | Kind::Malformed(_) | Kind::TimedOut
        )
    }

    /// The versions of the protocol that the sidecar speaks, when it was asked in another.
    pub(super) fn versions(&self) -> Option<&[u32]> {
        match &self.kind {
            Kind::Version(versions) => Some(versions),
            _ => None,
        }
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
            Kind::Address(address, _) => write!(
                f,
                "the address {address} cannot be had: see that it is one of this host's and that nothing else listens there"
            ),
            Kind::Answered(status, error) => write!(f, "the sidecar refused ({status}): {error}"),
            Kind::Journal(_) => {
                f.write_str("the sidecar changes nothing, since its journal cannot be used")
            }
            Kind::Lost(_) => f.write_str("the sidecar went away before it answered"),
            Kind::Malformed(_) => f.write_str(
                "the sidecar's answer is not understood: see that both programs have one version",
            ),
            Kind::Socket(path, _) => write!(
                f,
                "the socket {} cannot be made: see that its folder exists and that nothing else is there",
                path.display()
            ),
            Kind::TimedOut => f.write_str("the sidecar did not answer in time"),
            Kind::Unreachable(hint, _) => write!(f, "the sidecar cannot be reached: {hint}"),
            Kind::Version(theirs) => write!(
                f,
                "the sidecar speaks versions {theirs:?} of the protocol and this program {PROTOCOL_VERSIONS:?}: update \
                 the older of the two"
            ),
        }
    }
}

impl std::error::Error for SidecarError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Journal(error) => Some(error),
            Kind::Lost(error) | Kind::Malformed(error) | Kind::Unreachable(_, error) => {
                Some(error.as_ref())
            }
            Kind::Address(_, error) | Kind::Socket(_, error) => Some(error),
            Kind::Answered(..) | Kind::TimedOut | Kind::Version(_) => None,
        }
    }
}
