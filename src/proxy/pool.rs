//! One worker's connections to a server.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::oneshot;

use super::balance::Seat;
use super::body::RequestBody;
use super::{Limits, Member, ServerGroup};
use crate::net::{Clock, Stream, TlsClient};

/// How long a server that refused a connection is asked only after the others.
const REST: Duration = Duration::from_secs(2);

/// A connection to a server, ready for one request at a time.
pub(super) struct Sender {
    pub(super) requests: SendRequest<RequestBody>,
    /// Whether a request was begun and not answered to its end.
    pub(super) busy: Rc<Cell<bool>>,
    /// Yields the socket when the connection has left HTTP, or has ended.
    pub(super) left: oneshot::Receiver<Left>,
}

/// What is left of a connection to a server. One that was busy is reset when this is dropped, so that the server
/// cannot take half a request for a whole one.
pub(super) struct Left {
    pub(super) stream: Option<Stream>,
    /// Bytes that were read too far.
    pub(super) early: Bytes,
    pub(super) busy: Rc<Cell<bool>>,
}

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream
            && self.busy.get()
        {
            stream.reset_when_dropped();
        }
    }
}

/// A server.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    /// What `host` says, when that is an address.
    pub(super) address: Option<SocketAddr>,
    /// How it is spoken to within TLS, if it is.
    pub(super) tls: Option<TlsClient>,
    /// Its place in its group.
    pub(super) seat: Seat,
    pub(super) connect_timeout: Duration,
    /// Idle connections that are kept.
    limit: usize,
    idle: RefCell<Vec<Idle>>,
    rests_until: Cell<u64>,
}

struct Idle {
    sender: Sender,
    since: u64,
}

impl Server {
    pub(super) fn new(
        member: &Member,
        tls: &Option<TlsClient>,
        seat: Seat,
        group: &ServerGroup,
        limits: &Limits,
    ) -> Self {
        let Member { server, .. } = member;
        let address = server.host.parse::<IpAddr>().ok();
        Self {
            host: server.host.clone(),
            port: server.port,
            address: address.map(|address| SocketAddr::new(address, server.port)),
            tls: tls.clone(),
            seat,
            connect_timeout: group.connect_timeout.unwrap_or(limits.connect_timeout),
            limit: group
                .idle_connections
                .unwrap_or(limits.idle_upstream_connections),
            idle: RefCell::default(),
            rests_until: Cell::new(0),
        }
    }

    /// Closes connections that were idle since before this tick.
    pub(super) fn close_idle(&self, oldest: u64) {
        self.idle
            .borrow_mut()
            .retain(|idle| idle.since >= oldest && !idle.sender.requests.is_closed());
    }

    /// The connection used last, if one is usable.
    pub(super) fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { sender, .. }) = idle.pop() {
            if sender.requests.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection for later, unless it is closed or enough are kept.
    pub(super) fn give_back(&self, sender: Sender, now: u64) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.limit && !sender.requests.is_closed() {
            idle.push(Idle { sender, since: now });
        }
    }

    /// The server could not be reached; whether that is news.
    pub(super) fn rest(&self, now: u64) -> bool {
        self.rests_until.replace(now + Clock::ticks(REST)) == 0
    }

    /// Whether the server could not be reached a moment ago.
    pub(super) fn rests(&self, now: u64) -> bool {
        self.rests_until.get() > now
    }

    /// The server was reached.
    pub(super) fn wake(&self) {
        self.rests_until.set(0);
    }
}
