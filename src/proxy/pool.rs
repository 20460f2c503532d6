//! One worker's connections to a server.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::balance::Seat;
use super::metrics::Counted;
use super::sessions::Sessions;
use super::{Limits, Member, ServerGroup};
use crate::net::{ClientConnection, Clock, TlsClient};

/// How long a server that refused a connection is asked only after the others.
const REST: Duration = Duration::from_secs(2);

/// Ticks after which an idle connection gives its memory back.
const RESTS: u64 = 2;

/// Ticks for which idle connections beyond the limit are kept: requests that came at the same time may do so again, and
/// each would cost another connection.
const SURPLUS: u64 = 20;

/// A connection to a server, counted while it exists.
pub(super) struct Connection {
    /// In a box, since it passes through many hands.
    pub(super) wire: Box<ClientConnection>,
    pub(super) _counted: Counted,
}

/// A server.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    /// The Unix socket that it is spoken to over, if it is.
    pub(super) socket: Option<PathBuf>,
    /// What `host` says, when that is an address.
    pub(super) address: Option<SocketAddr>,
    /// How it is spoken to within TLS, if it is.
    pub(super) tls: Option<TlsClient>,
    /// Its connections by HTTP/2, if it is spoken to by that.
    pub(super) http2: Option<Sessions>,
    /// Its place in its group.
    pub(super) seat: Seat,
    pub(super) connect_timeout: Duration,
    /// Idle connections that are kept for longer than a moment.
    limit: usize,
    /// The one that was used last is the last.
    idle: RefCell<Vec<Idle>>,
    rests_until: Cell<u64>,
}

struct Idle {
    connection: Connection,
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
            socket: server.socket.clone(),
            address: address.map(|address| SocketAddr::new(address, server.port)),
            tls: tls.clone(),
            http2: server.http2.then(|| Sessions::new(tls.as_ref())),
            seat,
            connect_timeout: group.connect_timeout.unwrap_or(limits.connect_timeout),
            limit: group
                .idle_connections
                .unwrap_or(limits.idle_upstream_connections),
            idle: RefCell::default(),
            rests_until: Cell::new(0),
        }
    }

    /// Closes connections that were idle since before the tick `oldest`, and has those rest that are idle for long.
    pub(super) fn close_idle(&self, oldest: u64, now: u64) {
        if let Some(sessions) = &self.http2 {
            sessions.close_idle(oldest, now);
        }
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|idle| {
            let wire = &mut idle.connection.wire;
            if idle.since + RESTS < now {
                wire.shrink();
            }
            idle.since >= oldest && wire.is_usable()
        });
        let surplus = idle.len().saturating_sub(self.limit);
        let first = idle.iter().take(surplus);
        let rested = first.take_while(|idle| idle.since + SURPLUS < now).count();
        idle.drain(..rested);
    }

    /// The connection used last, if one is usable.
    pub(super) fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut connection, .. }) = idle.pop() {
            if connection.wire.is_usable() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for later, unless none is to be kept.
    pub(super) fn give_back(&self, connection: Connection, now: u64) {
        if self.limit > 0 {
            self.idle.borrow_mut().push(Idle {
                connection,
                since: now,
            });
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
