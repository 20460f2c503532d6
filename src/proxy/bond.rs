//! Upstream connections that belong to one client connection, since a login on them counts for all that follows.
//!
//! NTLM, and Negotiate as web servers practise it, authenticate a connection and not a request (\[MS-NTHT\];
//! RFC 4559 section 6). An upstream connection on which either was begun must carry the requests of no other client,
//! ever; and its client must meet no other one, on which it is nobody or in the middle of a handshake.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::ProxyError;
use super::balance::Place;
use super::conversation::Conversation;

/// Whether a field with these values names a scheme that authenticates connections, in any of its lines and anywhere in
/// a list.
///
/// Quotes are not looked at: to take part of a quoted text for a scheme costs a connection that is not shared, while
/// to miss one behind a quote that never ends would share a login.
pub(super) fn names_bound_scheme<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> bool {
    let is_bound = |value: &[u8]| {
        value.split(|&byte| byte == b',').any(|element| {
            let scheme = element
                .split(u8::is_ascii_whitespace)
                .find(|word| !word.is_empty())
                .unwrap_or_default();
            // Negotiate, Nego2 and what may follow them.
            let is_negotiate = scheme
                .get(..4)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"nego"));
            is_negotiate || scheme.eq_ignore_ascii_case(b"ntlm")
        })
    };
    values.any(is_bound)
}

/// The upstream connections that belong to one client connection; at most one for each upstream.
#[derive(Default)]
pub(super) struct Bonds {
    /// Once true, never false again.
    bound: Cell<bool>,
    /// A connection has ended, and its client's has to.
    ended: Cell<bool>,
    held: RefCell<Vec<Held>>,
    /// What still sends requests of this client's.
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

/// A connection between two requests of its client.
struct Held {
    upstream: usize,
    talk: Rc<Talk>,
}

/// A conversation and its server, which whoever sends the rest of the request shares.
pub(super) struct Talk {
    pub(super) conversation: RefCell<Conversation>,
    /// Whose connections in use this is counted among.
    pub(super) server: Cell<Option<Place>>,
}

impl Talk {
    /// A conversation with this server.
    pub(super) fn new(conversation: Conversation, server: Place) -> Rc<Self> {
        Rc::new(Self {
            conversation: RefCell::new(conversation),
            server: Cell::new(Some(server)),
        })
    }

    /// Sends the rest of a request whose response has begun.
    pub(super) async fn send_rest(self: Rc<Self>) {
        // Whoever reads the response learns how it ended.
        let _ = poll_fn(|context| self.conversation.borrow_mut().poll_send(context)).await;
    }
}

impl Bonds {
    /// From now on, no upstream connection of this client is shared.
    pub(super) fn bind(&self) {
        self.bound.set(true);
    }

    /// Whether upstream connections of this client belong to it alone.
    pub(super) fn is_bound(&self) -> bool {
        self.bound.get()
    }

    /// Takes the connection that the client has to the servers of an upstream.
    pub(super) fn take(&self, upstream: usize) -> Option<Rc<Talk>> {
        let mut held = self.held.borrow_mut();
        let index = held.iter().position(|held| held.upstream == upstream)?;
        Some(held.swap_remove(index).talk)
    }

    fn keep(&self, upstream: usize, talk: Rc<Talk>) {
        self.held.borrow_mut().push(Held { upstream, talk });
    }

    /// Has a task end with the client at the latest.
    pub(super) fn adopt(&self, task: JoinHandle<()>) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// A connection of the client's cannot be used any more.
    pub(super) fn end(&self) {
        self.ended.set(true);
    }

    /// Whether a connection of this client's is known to have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether a connection of this client's has ended; else the task is woken when one does.
    pub(super) fn poll_ended(&self, context: &mut Context<'_>) -> bool {
        if self.is_bound() && !self.ended.get() {
            let ended = |held: &Held| held.talk.conversation.borrow_mut().poll_ended(context);
            let any = self.held.borrow().iter().any(ended);
            self.ended.set(any);
        }
        self.has_ended()
    }
}

impl Drop for Bonds {
    fn drop(&mut self) {
        self.tasks.get_mut().iter().for_each(JoinHandle::abort);
    }
}

/// An upstream connection in use by one exchange.
pub(super) struct Lease {
    pub(super) talk: Rc<Talk>,
    pub(super) home: Home,
    /// What sends the rest of the request goes on until this is dropped, at least.
    pub(super) _sending: Rc<Bonds>,
}

/// Where a connection goes after an exchange.
pub(super) enum Home {
    /// Back to its client, for the upstream with this index.
    Client(Rc<Bonds>, usize),
    /// To whoever needs one next; it was last in use at this tick.
    Pool(u64),
}

impl Lease {
    /// Reads more of the response body.
    pub(super) fn poll_body(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        self.talk.conversation.borrow_mut().poll_body(context)
    }

    /// Whether the whole body of the response was read.
    pub(super) fn is_body_ended(&self) -> bool {
        self.talk.conversation.borrow().is_body_ended()
    }

    /// What is known of how much is left of it.
    pub(super) fn size_hint(&self) -> SizeHint {
        let left = self.talk.conversation.borrow().body_left();
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The response has ended properly.
    pub(super) fn release(&self) {
        match &self.home {
            // The server may answer before it has read the request. The next one then waits for the rest.
            Home::Client(bonds, upstream) => bonds.keep(*upstream, Rc::clone(&self.talk)),
            Home::Pool(now) => {
                let connection = self.talk.conversation.borrow_mut().settle();
                // The place is given up only then: the connection is in use as long as the request is being sent.
                if let Some(connection) = connection
                    && let Some(server) = self.talk.server.take()
                {
                    server.give_back(connection, *now);
                }
            }
        }
    }

    /// The response broke off; the connection ends, and with it that of a client it belongs to.
    pub(super) fn abandon(&self) {
        self.talk.conversation.borrow_mut().abandon();
        if let Home::Client(bonds, _) = &self.home {
            bonds.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_of_connections_are_found_wherever_they_stand() {
        for (value, expected) in [
            ("NTLM", true),
            ("ntlm TlRMTVNTUAAB", true),
            ("Negotiate YII=", true),
            ("NEGOTIATE", true),
            ("Nego2 abc", true),
            ("\tNTLM\tabc", true),
            ("Basic realm=\"a\", NTLM", true),
            ("Basic realm=\"a,b\",Negotiate", true),
            ("Basic realm=\"never ends, ntlm", true),
            (",,nego2", true),
            ("Basic realm=\"NTLM\"", false),
            ("Basic bnRsbQ==", false),
            ("Bearer NTLM", false),
            ("Digest realm=\"x\", nonce=\"Negotiate\"", false),
            ("NTLMv2", false),
            ("Neg", false),
            ("", false),
        ] {
            let values = [&b"Basic eA=="[..], value.as_bytes()];
            assert_eq!(names_bound_scheme(values.into_iter()), expected, "{value}");
        }
    }
}
