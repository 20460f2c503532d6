//! What can go wrong between a feed's address and its mitigations.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::model::explain;
use crate::signature::envelope;
use crate::telemetry::AlarmKind;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A feed's document could not be fetched, verified or read.
#[derive(Debug)]
pub struct FeedError {
    kind: Kind,
    cause: Option<Cause>,
}

/// Where on its way a feed failed, in the order of the way.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// Its settings, before anything is asked for.
    Settings,
    /// A connection to its host, or to the proxy.
    Connect,
    /// TLS with its host.
    Tls,
    /// The exchange that brings the document, or the file.
    Exchange,
    /// Signature, signer, age and name.
    Trust,
    /// The content of the document.
    Read,
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
    /// The document has the version of another one that was accepted.
    Equivocation,
    /// The exchange broke before the body.
    Exchange,
    /// The file cannot be read.
    File(String),
    /// The document was issued ahead of this clock.
    Future,
    /// The proxy refused to connect, with this status.
    Proxy(u16),
    /// A redirection to this place, which is outside the configured host.
    RedirectedAway(String),
    /// The document is older than the accepted one.
    Rollback,
    /// The next root is refused.
    Root,
    /// The newest root has expired.
    RootExpired,
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
    /// The document cannot be kept for a restart.
    Unkept,
    /// The document is another feed's.
    WrongFeed,
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

    /// Why a document in our own format is refused.
    pub(super) fn envelope(error: envelope::EnvelopeError) -> Self {
        let kind = match error.fault() {
            envelope::Fault::Equivocation => Kind::Equivocation,
            envelope::Fault::Future => Kind::Future,
            envelope::Fault::Malformed => Kind::Document,
            envelope::Fault::Name => Kind::WrongFeed,
            envelope::Fault::Rollback => Kind::Rollback,
            envelope::Fault::RootExpired => Kind::RootExpired,
            envelope::Fault::RootReplayed | envelope::Fault::RootSkipped => Kind::Root,
            envelope::Fault::State => Kind::State,
            envelope::Fault::Key
            | envelope::Fault::Publishing
            | envelope::Fault::Threshold
            | envelope::Fault::Type => Kind::Signature,
        };
        Self::because(kind, error)
    }

    /// Why the next root of a feed is refused.
    pub(super) fn root(error: envelope::EnvelopeError) -> Self {
        Self::because(Kind::Root, error)
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
            Kind::Equivocation => AlarmKind::Equivocation,
            Kind::Future => AlarmKind::Future,
            Kind::Rollback => AlarmKind::Rollback,
            Kind::Root => AlarmKind::RootRefused,
            Kind::RootExpired => AlarmKind::RootExpired,
            Kind::WrongFeed => AlarmKind::WrongFeed,
            Kind::Signature | Kind::Trust => AlarmKind::SignatureRefused,
            Kind::State | Kind::Unkept => AlarmKind::State,
            Kind::Document | Kind::TooLarge(_) | Kind::Encoded(_) => AlarmKind::Refused,
            _ => AlarmKind::Unreachable,
        }
    }

    /// Where on its way the feed failed.
    pub const fn step(&self) -> Step {
        match self.kind {
            Kind::Authorities(_) | Kind::Trust => Step::Settings,
            Kind::Connect(_) | Kind::Proxy(_) => Step::Connect,
            Kind::Tls(_) => Step::Tls,
            Kind::Body
            | Kind::Deadline(_)
            | Kind::Encoded(_)
            | Kind::Exchange
            | Kind::File(_)
            | Kind::RedirectedAway(_)
            | Kind::State
            | Kind::Status(_)
            | Kind::TooLarge(_)
            | Kind::TooManyRedirects(_)
            | Kind::Unkept => Step::Exchange,
            Kind::Equivocation
            | Kind::Future
            | Kind::Rollback
            | Kind::Root
            | Kind::RootExpired
            | Kind::Signature
            | Kind::WrongFeed => Step::Trust,
            Kind::Document => Step::Read,
        }
    }

    /// Whether bytes arrived and their signature, age or signer was refused.
    pub const fn is_untrusted(&self) -> bool {
        matches!(self.step(), Step::Trust)
    }

    /// Whether the address has no document: what a walk over roots ends at. Some hosts say that a file is forbidden
    /// when there is none.
    pub(super) fn is_absent(&self) -> bool {
        match &self.kind {
            Kind::Status(status) => matches!(status, 403 | 404 | 410),
            Kind::File(_) => self
                .cause
                .as_deref()
                .and_then(|cause| cause.downcast_ref::<io::Error>())
                .is_some_and(|error| error.kind() == io::ErrorKind::NotFound),
            _ => false,
        }
    }

    /// What an administrator can do about it, in a sentence without its end.
    pub const fn remedy(&self) -> &'static str {
        match self.kind {
            Kind::Authorities(_) => {
                "name a PEM file with certificates that this user can read: ca = \"ca.pem\""
            }
            Kind::Body | Kind::Exchange => {
                "something ended the connection: fetch the URL from this machine by another program; compare port and \
                 scheme with what the publisher says"
            }
            Kind::Connect(_) => {
                "check that the name resolves and that a firewall lets this machine reach the port; where only a proxy \
                 leads out, write proxy = \"http://HOST:PORT\""
            }
            Kind::Deadline(_) => {
                "something swallows packets, or the way is slow: check firewalls and proxy; raise deadline if it is slow"
            }
            Kind::Document => {
                "check that the URL leads to a feed and to no page about it; if it does, tell the publisher"
            }
            Kind::Encoded(_) => {
                "have the server or the proxy on the way send the document as it is"
            }
            Kind::Equivocation => {
                "ask the publisher which of the two is genuine, and for a higher version"
            }
            Kind::File(_) => "check the path, and that this user can read the file",
            Kind::Future => {
                "set the clock of this machine by a time server; if it is right, tell the publisher"
            }
            Kind::Proxy(_) => {
                "have the proxy let this machine through to that host without a login"
            }
            Kind::RedirectedAway(_) => "if you trust that place, write it as url",
            Kind::Rollback => {
                "the server, a cache or an attacker gives out an old file: tell the publisher"
            }
            Kind::Root => {
                "the publisher must serve each root under its own number, signed as the last one demands"
            }
            Kind::RootExpired => "the publisher must publish the next root",
            Kind::Signature => {
                "check that trust names this feed's publisher, and that nothing on the way changes documents; if both \
                 are right, the publisher's keys have changed: ask by another way than this feed"
            }
            Kind::State | Kind::Unkept => {
                "make the state folder readable and writable for this user"
            }
            Kind::Status(401 | 403) => {
                "the server wants a login, or refuses this machine: ask who runs it"
            }
            Kind::Status(404 | 410) => {
                "there is no such document: compare url with what the publisher says"
            }
            Kind::Status(_) => "the server is at fault: try again later, then tell who runs it",
            Kind::Tls(_) => {
                "the certificate is not trusted here, has expired, or is another host's: check this machine's clock; \
                 where a proxy looks into TLS, name its authority by ca = \"ca.pem\""
            }
            Kind::TooLarge(_) => "check that the URL leads to a feed; if it does, raise size_limit",
            Kind::TooManyRedirects(_) => "the server sends in circles: tell who runs it",
            Kind::Trust => "correct the settings of the feed's trust",
            Kind::WrongFeed => {
                "correct url, or publishes, which is the name that the publisher gave the feed"
            }
        }
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
            Kind::Equivocation => f.write_str("the version was accepted with other content"),
            Kind::Exchange => f.write_str("the server ended the exchange without a document"),
            Kind::File(path) => write!(f, "{path} cannot be read"),
            Kind::Future => f.write_str("the document lies ahead of this clock"),
            Kind::Proxy(status) => write!(f, "the proxy refused to connect with status {status}"),
            Kind::RedirectedAway(place) => {
                write!(f, "redirected to {place}, outside the configured host")
            }
            Kind::Rollback => f.write_str("the document is older than the accepted one"),
            Kind::Root => f.write_str("the feed's next root is refused"),
            Kind::RootExpired => f.write_str("nobody vouches for the feed's keys any more"),
            Kind::Signature => f.write_str("the signature is refused"),
            Kind::State => f.write_str("the document kept by the last run cannot be used"),
            Kind::Status(status) => write!(f, "the server answered with status {status}"),
            Kind::Tls(host) => write!(f, "no TLS with {host}"),
            Kind::TooLarge(limit) => write!(f, "the document is larger than {limit} bytes"),
            Kind::TooManyRedirects(limit) => write!(f, "redirected more than {limit} times"),
            Kind::Trust => f.write_str("the trust settings of the feed cannot be used"),
            Kind::Unkept => f.write_str("the document cannot be kept for the next start"),
            Kind::WrongFeed => f.write_str("the document is another feed's"),
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
