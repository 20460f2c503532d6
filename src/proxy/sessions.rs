//! One worker's connections to a server that is spoken to by HTTP/2.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

use http::uri::Scheme;
use tokio::sync::Notify;

use super::ProxyError;
use super::connect::{counted, open, secure};
use super::core::Core;
use super::metrics::Counted;
use super::pool::{Connection, Server};
use crate::net::{ClientConnection, ClientSession, Clock, TlsClient};

/// Connections of one worker to one server, each of which carries many requests.
const SESSIONS: usize = 4;

/// How long a server that wants HTTP/1.1 after all is believed.
const HTTP1: std::time::Duration = std::time::Duration::from_secs(60);

/// The connections of one worker to one server.
pub(super) struct Sessions {
    /// How it is spoken to within TLS, if it is.
    tls: Option<TlsClient>,
    open: RefCell<Vec<Session>>,
    /// Whether one is being opened: whoever needs one waits for that first.
    opening: Cell<bool>,
    /// Told when a stream or a connection ends, or one was opened.
    changed: Rc<Notify>,
    /// Until when the server is spoken to by HTTP/1.1.
    http1_until: Cell<u64>,
}

struct Session {
    session: ClientSession,
    /// When it carried something last.
    since: Cell<u64>,
    _counted: Counted,
}

/// How a request may go.
pub(super) enum Way {
    /// On a stream of this connection.
    Stream(ClientSession),
    /// On a connection of its own: the server speaks HTTP/1.1 alone.
    Own(Connection),
}

/// Marks a connection as being opened until it is dropped.
struct Opening<'s>(&'s Sessions);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.changed.notify_waiters();
    }
}

impl Sessions {
    pub(super) fn new(tls: Option<&TlsClient>) -> Self {
        Self {
            tls: tls.map(TlsClient::with_http2),
            open: RefCell::default(),
            opening: Cell::new(false),
            changed: Rc::default(),
            http1_until: Cell::new(0),
        }
    }

    /// The scheme of what is asked for here.
    pub(super) const fn scheme(&self) -> &Scheme {
        // Both are constants of the library, which has no other way to name them.
        match self.tls {
            Some(_) => &Scheme::HTTPS,
            None => &Scheme::HTTP,
        }
    }

    /// Whether the server was found to speak HTTP/1.1 alone, a while ago at most.
    pub(super) fn wants_http1(&self, now: u64) -> bool {
        self.http1_until.get() > now
    }

    /// The server wants HTTP/1.1.
    pub(super) fn avoid(&self, now: u64) {
        self.http1_until.set(now + Clock::ticks(HTTP1));
    }

    /// A way for one more request: a connection that has room, or a new one; waits until there is one, for as long as
    /// connecting may take.
    pub(super) async fn way(&self, core: &Core, server: &Server) -> Result<Way, ProxyError> {
        let way = self.unbounded_way(core, server);
        tokio::time::timeout(server.connect_timeout, way)
            .await
            .unwrap_or_else(|_| Err(self.late()))
    }

    fn late(&self) -> ProxyError {
        match self.open.borrow().is_empty() {
            true => ProxyError::connect_timeout(),
            false => ProxyError::busy(),
        }
    }

    async fn unbounded_way(&self, core: &Core, server: &Server) -> Result<Way, ProxyError> {
        loop {
            // Listens before it looks, so that nothing changes in between without a word.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(session) = self.with_room(core.clock.now()) {
                return Ok(Way::Stream(session));
            }
            if !self.opening.get() && self.open.borrow().len() < SESSIONS {
                return self.connect(core, server).await;
            }
            changed.await;
        }
    }

    fn with_room(&self, now: u64) -> Option<ClientSession> {
        let mut open = self.open.borrow_mut();
        // What is left of one that takes nothing new goes on without being here.
        open.retain(|one| !one.session.is_retired());
        let one = open.iter().find(|one| one.session.has_room())?;
        one.since.set(now);
        Some(one.session.clone())
    }

    async fn connect(&self, core: &Core, server: &Server) -> Result<Way, ProxyError> {
        self.opening.set(true);
        let _opening = Opening(self);
        let stream = secure(core, server, self.tls.as_ref(), open(server).await?).await?;
        if self.tls.is_some() && !stream.is_http2() {
            self.avoid(core.clock.now());
            return Ok(Way::Own(counted(core, ClientConnection::new(stream))));
        }
        let session = ClientSession::begin(stream, Rc::clone(&self.changed));
        let session = session.await.map_err(ProxyError::exchange)?;
        self.open.borrow_mut().push(Session {
            session: session.clone(),
            since: Cell::new(core.clock.now()),
            _counted: core.shared.meters.upstream_connection(),
        });
        Ok(Way::Stream(session))
    }

    /// Closes connections that carried nothing since before the tick `oldest`.
    pub(super) fn close_idle(&self, oldest: u64, now: u64) {
        self.open.borrow_mut().retain(|one| {
            if one.session.active() > 0 {
                one.since.set(now);
            }
            one.since.get() >= oldest && !one.session.is_retired()
        });
    }
}
