//! What can go wrong on the data plane, and who is at fault.

use std::fmt;
use std::io;

use super::ServerGroup;
use crate::net::{ListenAddress, ResponseError, TlsError};

/// A failure of the data plane.
#[derive(Debug)]
pub struct ProxyError {
    kind: Kind,
    party: Party,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Kind {
    Bind(ListenAddress),
    Busy,
    Certificate(ListenAddress),
    Closed,
    Connect,
    ConnectTimeout,
    Exchange,
    Handshake,
    NoListener,
    NoServer(String),
    NoSite,
    TooManyServers(String),
    RequestBody,
    ResponseTimeout,
    ServerTls(String),
    UnaskedUpgrade,
    Worker,
}

/// Who is at fault.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Party {
    /// The client.
    Downstream,
    /// We, or the machine we run on.
    Internal,
    /// What an administrator or a rule decided.
    Policy,
    /// The server behind us.
    Upstream,
}

impl Party {
    /// One lower-case word for logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Internal => "internal",
            Self::Policy => "policy",
            Self::Upstream => "upstream",
        }
    }
}

impl ProxyError {
    fn new(kind: Kind, party: Party) -> Self {
        Self {
            kind,
            party,
            source: None,
        }
    }

    fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(super) fn bind(address: ListenAddress, source: io::Error) -> Self {
        Self::new(Kind::Bind(address), Party::Internal).because(source)
    }

    pub(super) fn certificate(address: ListenAddress, source: TlsError) -> Self {
        Self::new(Kind::Certificate(address), Party::Policy).because(source)
    }

    pub(super) fn server_tls(server: &impl fmt::Display, source: TlsError) -> Self {
        Self::new(Kind::ServerTls(server.to_string()), Party::Policy).because(source)
    }

    pub(super) fn handshake(source: io::Error) -> Self {
        Self::new(Kind::Handshake, Party::Upstream).because(source)
    }

    pub(super) fn no_listener() -> Self {
        Self::new(Kind::NoListener, Party::Policy)
    }

    pub(super) fn no_site() -> Self {
        Self::new(Kind::NoSite, Party::Policy)
    }

    pub(super) fn no_server(site: &str) -> Self {
        Self::new(Kind::NoServer(site.to_owned()), Party::Policy)
    }

    pub(super) fn too_many_servers(site: &str) -> Self {
        Self::new(Kind::TooManyServers(site.to_owned()), Party::Policy)
    }

    pub(super) fn busy() -> Self {
        Self::new(Kind::Busy, Party::Policy)
    }

    pub(super) fn worker(source: io::Error) -> Self {
        Self::new(Kind::Worker, Party::Internal).because(source)
    }

    pub(super) fn connect(source: io::Error) -> Self {
        Self::new(Kind::Connect, Party::Upstream).because(source)
    }

    pub(super) fn connect_timeout() -> Self {
        Self::new(Kind::ConnectTimeout, Party::Upstream)
    }

    pub(super) fn exchange(source: ResponseError) -> Self {
        Self::new(Kind::Exchange, Party::Upstream).because(source)
    }

    pub(super) fn broken_request() -> Self {
        Self::new(Kind::RequestBody, Party::Downstream)
    }

    pub(super) fn closed() -> Self {
        Self::new(Kind::Closed, Party::Upstream)
    }

    pub(super) fn unasked_upgrade() -> Self {
        Self::new(Kind::UnaskedUpgrade, Party::Upstream)
    }

    pub(super) fn response_timeout() -> Self {
        Self::new(Kind::ResponseTimeout, Party::Upstream)
    }

    pub(super) fn request_body(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::new(Kind::RequestBody, Party::Downstream).because(source)
    }

    /// Who is at fault.
    pub const fn party(&self) -> Party {
        self.party
    }

    /// Whether the same request may be sent again: nothing of it has reached a server.
    pub const fn is_retry_safe(&self) -> bool {
        matches!(
            self.kind,
            Kind::Busy | Kind::Closed | Kind::Connect | Kind::ConnectTimeout | Kind::Handshake
        )
    }

    /// Whether settings have to be changed before a start can succeed.
    pub const fn is_invalid_input(&self) -> bool {
        matches!(
            self.kind,
            Kind::Certificate(_)
                | Kind::NoListener
                | Kind::NoServer(_)
                | Kind::NoSite
                | Kind::ServerTls(_)
                | Kind::TooManyServers(_)
        )
    }

    /// Whether every server had as many connections in use as it may have.
    pub const fn is_busy(&self) -> bool {
        matches!(self.kind, Kind::Busy)
    }

    /// Whether a server was too slow, rather than wrong or away.
    pub const fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::ConnectTimeout | Kind::ResponseTimeout)
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Bind(address) => write!(
                f,
                "cannot listen on {address}: stop what uses it, or choose another address with --listen"
            ),
            Kind::Busy => f.write_str("every server has as many connections as it may have"),
            Kind::Certificate(address) => {
                write!(f, "the certificates for {address} cannot be used")
            }
            Kind::Closed => f.write_str("the server closed the connection at once"),
            Kind::Connect => f.write_str("no connection to the server"),
            Kind::ConnectTimeout => f.write_str("the server did not accept a connection in time"),
            Kind::Exchange => f.write_str("the server did not answer properly"),
            Kind::Handshake => f.write_str(
                "no TLS with the server: it does not speak it, or cannot prove who it is",
            ),
            Kind::NoListener => f.write_str("there is no listener: name one with --listen"),
            Kind::NoServer(site) => {
                write!(f, "site {site:?} has no server: name one with --upstream")
            }
            Kind::NoSite => f.write_str("there is no site to serve"),
            Kind::RequestBody => f.write_str("the client did not send its body properly"),
            Kind::ResponseTimeout => f.write_str("the server did not answer in time"),
            Kind::ServerTls(server) => write!(f, "the server {server} could not be verified"),
            Kind::TooManyServers(site) => write!(
                f,
                "an upstream of site {site:?} has more than {} servers",
                ServerGroup::SERVERS
            ),
            Kind::UnaskedUpgrade => {
                f.write_str("the server changed to a protocol that nobody asked for")
            }
            Kind::Worker => f.write_str("cannot start a worker thread"),
        }
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
