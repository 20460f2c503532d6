//! The body of the request that a connection is at.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::connection::ServerConnection;

/// A request's body, read from its connection as it is asked for.
///
/// Dropped before its end, it leaves the rest to whoever drives the connection.
#[derive(Debug)]
pub struct IncomingBody {
    connection: Rc<RefCell<ServerConnection>>,
}

impl IncomingBody {
    /// The body of the request whose head the connection gave last; one at a time.
    pub fn of(connection: &Rc<RefCell<ServerConnection>>) -> Self {
        connection.borrow_mut().lend_body();
        Self {
            connection: Rc::clone(connection),
        }
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.connection.borrow_mut().poll_body(context)
    }

    fn is_end_stream(&self) -> bool {
        self.connection.borrow().is_body_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.connection.borrow().body_left();
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        self.connection.borrow_mut().return_body();
    }
}
