//! Why a filtered service gave no response.

use std::fmt;

/// The error of a [`FilterService`](super::FilterService).
#[derive(Debug)]
pub struct FilterError<E> {
    kind: Kind<E>,
}

#[derive(Debug)]
enum Kind<E> {
    Aborted,
    Service(E),
}

impl<E> FilterError<E> {
    pub(super) const fn aborted() -> Self {
        Self {
            kind: Kind::Aborted,
        }
    }

    pub(super) const fn service(error: E) -> Self {
        Self {
            kind: Kind::Service(error),
        }
    }

    /// Whether a rule aborted the request: the server must end the connection without a response. hyper does so
    /// when a service fails.
    pub const fn is_aborted(&self) -> bool {
        matches!(self.kind, Kind::Aborted)
    }

    /// The inner service's own error.
    pub fn into_service(self) -> Option<E> {
        match self.kind {
            Kind::Aborted => None,
            Kind::Service(error) => Some(error),
        }
    }
}

impl<E> fmt::Display for FilterError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Aborted => f.write_str("a rule aborted the request"),
            Kind::Service(_) => f.write_str("the filtered service failed"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for FilterError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Aborted => None,
            Kind::Service(error) => Some(error),
        }
    }
}
