//! What can go wrong between a feed's address and its mitigations.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::model::explain;
use crate::telemetry::AlarmKind;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A feed's document could not be fetched, verified or read.
#[derive(Debug)]
pub struct FeedError {
    kind: Kind,
    cause: Option<Cause>,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// The certificate authorities to trust for TLS cannot be read.
    Authorities(String),
    /// The body ended early or broke HTTP's framing.
    Body,
    /// No connection to this host and port.
    Connect(String),
    /// Not done within this time.
    Deadline(Duration),
    /// The document is no document of this format.
    Document,
    /// The body has this content encoding, which was not asked for.
    Encoded(String),
    /// The exchange broke before the body.
    Exchange,
    /// The file cannot be read.
    File(String),
    /// The proxy refused to connect, with this status.
    Proxy(u16),
    /// A redirection to this place, which is outside the configured host.
    RedirectedAway(String),
    /// The document is older than the accepted one.
    Rollback,
    /// The signature is refused.
    Signature,
    /// The document that was kept for a restart cannot be used.
    State,
    /// An answer with this status.
    Status(u16),
    /// TLS with this host failed.
    Tls(String),
    /// More than this many bytes.
    TooLarge(usize),
    /// More than this many redirections.
    TooManyRedirects(usize),
    /// The trust settings cannot be used.
    Trust,
}

impl FeedError {
    pub(super) const fn new(kind: Kind) -> Self {
        Self { kind, cause: None }
    }

    pub(super) fn because(kind: Kind, cause: impl Into<Cause>) -> Self {
        Self {
            kind,
            cause: Some(cause.into()),
        }
    }

    pub(super) fn file(path: &std::path::Path, error: io::Error) -> Self {
        Self::because(Kind::File(path.display().to_string()), error)
    }

    #[cfg(test)]
    pub(super) const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The kind of alarm that this failure is.
    pub const fn alarm(&self) -> AlarmKind {
        match self.kind {
            Kind::Rollback => AlarmKind::Rollback,
            Kind::Signature | Kind::Trust => AlarmKind::SignatureRefused,
            Kind::State => AlarmKind::State,
            Kind::Document | Kind::TooLarge(_) | Kind::Encoded(_) => AlarmKind::Refused,
            _ => AlarmKind::Unreachable,
        }
    }

    /// Whether bytes arrived and their signature, age or signer was refused.
    pub const fn is_untrusted(&self) -> bool {
        matches!(self.kind, Kind::Rollback | Kind::Signature)
    }

    /// The whole chain in one line, from the outermost error to its last cause.
    pub fn explain(&self) -> String {
        explain(self)
    }
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Authorities(file) => {
                write!(f, "the certificate authorities in {file} cannot be used")
            }
            Kind::Body => f.write_str("the document was cut short"),
            Kind::Connect(place) => write!(f, "no connection to {place}"),
            Kind::Deadline(time) => write!(f, "not fetched within {} s", time.as_secs_f32()),
            Kind::Document => f.write_str("the document cannot be read"),
            Kind::Encoded(coding) => {
                write!(
                    f,
                    "the document came as {coding:?}, which was not asked for"
                )
            }
            Kind::Exchange => f.write_str("the server ended the exchange without a document"),
            Kind::File(path) => write!(f, "{path} cannot be read"),
            Kind::Proxy(status) => write!(f, "the proxy refused to connect with status {status}"),
            Kind::RedirectedAway(place) => {
                write!(f, "redirected to {place}, outside the configured host")
            }
            Kind::Rollback => f.write_str("the document is older than the accepted one"),
            Kind::Signature => f.write_str("the signature is refused"),
            Kind::State => f.write_str("the document kept by the last run cannot be used"),
            Kind::Status(status) => write!(f, "the server answered with status {status}"),
            Kind::Tls(host) => write!(f, "no TLS with {host}"),
            Kind::TooLarge(limit) => write!(f, "the document is larger than {limit} bytes"),
            Kind::TooManyRedirects(limit) => write!(f, "redirected more than {limit} times"),
            Kind::Trust => f.write_str("the trust settings of the feed cannot be used"),
        }
    }
}

impl std::error::Error for FeedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}
