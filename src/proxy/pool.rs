//! The servers of one site, and one worker's connections to them.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::oneshot;

use super::body::RequestBody;
use super::config;
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

/// The servers of one site.
pub(super) struct Servers {
    servers: Vec<Rc<Server>>,
    next: Cell<usize>,
}

/// One server.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    /// What `host` says, when that is an address.
    pub(super) address: Option<SocketAddr>,
    /// How it is spoken to within TLS, if it is.
    pub(super) tls: Option<TlsClient>,
    limit: Cell<usize>,
    idle: RefCell<Vec<Idle>>,
    rests_until: Cell<u64>,
}

struct Idle {
    sender: Sender,
    since: u64,
}

impl Servers {
    /// Worker number `start` begins with another server than the one before it.
    ///
    /// `tls` holds how each server is spoken to within TLS, if it is.
    pub(super) fn new(
        servers: &[config::Server],
        tls: &[Option<TlsClient>],
        start: usize,
        idle_limit: usize,
    ) -> Self {
        let server = |(server, tls): (&config::Server, &Option<TlsClient>)| {
            let address = server.host.parse::<IpAddr>().ok();
            Rc::new(Server {
                host: server.host.clone(),
                port: server.port,
                address: address.map(|address| SocketAddr::new(address, server.port)),
                tls: tls.clone(),
                limit: Cell::new(idle_limit),
                idle: RefCell::default(),
                rests_until: Cell::new(0),
            })
        };
        Self {
            servers: servers.iter().zip(tls).map(server).collect(),
            next: Cell::new(start),
        }
    }

    /// Every server once: in turn, those that rest last.
    pub(super) fn candidates(&self, now: u64) -> impl Iterator<Item = &Rc<Server>> {
        let start = self.next.get();
        self.next.set(start.wrapping_add(1));
        let turn = move |resting: bool| {
            let count = self.servers.len();
            (0..count)
                .map(move |offset| &self.servers[start.wrapping_add(offset) % count])
                .filter(move |server| (server.rests_until.get() > now) == resting)
        };
        turn(false).chain(turn(true))
    }

    /// Closes connections that were idle for too long.
    pub(super) fn close_idle(&self, now: u64, timeout: Duration) {
        let oldest = now.saturating_sub(Clock::ticks(timeout));
        for server in &self.servers {
            server
                .idle
                .borrow_mut()
                .retain(|idle| idle.since >= oldest && !idle.sender.requests.is_closed());
        }
    }
}

impl Server {
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
        if idle.len() < self.limit.get() && !sender.requests.is_closed() {
            idle.push(Idle { sender, since: now });
        }
    }

    /// The server could not be reached; whether that is news.
    pub(super) fn rest(&self, now: u64) -> bool {
        self.rests_until.replace(now + Clock::ticks(REST)) == 0
    }

    /// The server was reached.
    pub(super) fn wake(&self) {
        self.rests_until.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_take_turns_and_resting_ones_come_last() {
        let servers: Vec<config::Server> = ["http://10.0.0.1", "http://b", "http://c"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let servers = Servers::new(&servers, &[None, None, None], 0, 4);
        let order = |now| {
            servers
                .candidates(now)
                .map(|server| server.host.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(order(1), ["10.0.0.1", "b", "c"]);
        assert_eq!(order(1), ["b", "c", "10.0.0.1"]);
        servers.servers[2].rest(1);
        assert_eq!(order(1), ["10.0.0.1", "b", "c"]);
        servers.servers[0].rest(1);
        assert_eq!(order(1), ["b", "10.0.0.1", "c"].map(str::to_owned));
        assert_eq!(order(1 + Clock::ticks(REST)), ["b", "c", "10.0.0.1"]);
        servers.servers[0].wake();
        assert!(servers.servers[0].address.is_some() && servers.servers[1].address.is_none());
    }
}
