//! Upstream connections that belong to one client connection, since a login on them counts for all that follows.
//!
//! NTLM, and Negotiate as web servers practise it, authenticate a connection and not a request (\[MS-NTHT\];
//! RFC 4559 section 6). An upstream connection on which either was begun must carry the requests of no other client,
//! ever; and its client must meet no other one, on which it is nobody or in the middle of a handshake.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;

use http::header::{HeaderMap, HeaderName};

use super::balance::Place;
use super::pool::Sender;

/// Whether a field names a scheme that authenticates connections, in any of its lines and anywhere in a list.
///
/// Quotes are not looked at: to take part of a quoted text for a scheme costs a connection that is not shared, while
/// to miss one behind a quote that never ends would share a login.
pub(super) fn names_bound_scheme(fields: &HeaderMap, name: HeaderName) -> bool {
    fields
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .any(|element| {
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
}

/// The upstream connections that belong to one client connection; at most one for each upstream.
#[derive(Default)]
pub(super) struct Bonds {
    /// Once true, never false again.
    bound: Cell<bool>,
    /// A connection has ended, and its client's has to.
    ended: Cell<bool>,
    held: RefCell<Vec<Held>>,
}

/// A connection between two requests of its client.
struct Held {
    upstream: usize,
    sender: Sender,
    server: Place,
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
    pub(super) fn take(&self, upstream: usize) -> Option<(Sender, Place)> {
        let mut held = self.held.borrow_mut();
        let index = held.iter().position(|held| held.upstream == upstream)?;
        let Held { sender, server, .. } = held.swap_remove(index);
        Some((sender, server))
    }

    fn keep(&self, upstream: usize, sender: Sender, server: Place) {
        self.held.borrow_mut().push(Held {
            upstream,
            sender,
            server,
        });
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
        // A connection tells of its end, or is gone without a word; it is of no use either way.
        let ended = |held: &mut Held| {
            let left = Pin::new(&mut held.sender.left);
            left.poll(context).is_ready()
        };
        if self.is_bound() && !self.ended.get() {
            let any = self.held.borrow_mut().iter_mut().any(ended);
            self.ended.set(any);
        }
        self.has_ended()
    }
}

impl Drop for Bonds {
    fn drop(&mut self) {
        for held in self.held.get_mut() {
            // An early answer left it marked; the request has been sent whole since.
            if held.sender.requests.is_ready() {
                held.sender.busy.set(false);
            }
        }
    }
}

/// An upstream connection in use by one exchange.
pub(super) struct Lease {
    pub(super) sender: Sender,
    pub(super) server: Place,
    pub(super) home: Home,
}

/// Where a connection goes after an exchange.
pub(super) enum Home {
    /// Back to its client, for the upstream with this index.
    Client(Rc<Bonds>, usize),
    /// To whoever needs one next; it was last in use at this tick.
    Pool(u64),
}

impl Lease {
    /// The response has ended properly; `request_ended` says whether the request has, too.
    pub(super) fn release(self, request_ended: bool) {
        match self.home {
            // The server may answer before it has read the request. The next one then waits for the rest.
            Home::Client(bonds, upstream) => {
                self.sender.busy.set(!request_ended);
                bonds.keep(upstream, self.sender, self.server);
            }
            Home::Pool(now) if request_ended => {
                self.sender.busy.set(false);
                self.server.give_back(self.sender, now);
            }
            Home::Pool(_) => {}
        }
    }

    /// The response broke off; the connection ends, and with it that of a client it belongs to.
    pub(super) fn abandon(self) {
        if let Home::Client(bonds, _) = self.home {
            bonds.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};

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
            let mut fields = HeaderMap::new();
            fields.append(AUTHORIZATION, HeaderValue::from_static("Basic eA=="));
            fields.append(AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(
                names_bound_scheme(&fields, AUTHORIZATION),
                expected,
                "{value}"
            );
            assert!(!names_bound_scheme(&fields, WWW_AUTHENTICATE));
        }
    }
}
