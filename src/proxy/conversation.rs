//! One request to a server and its response, both on their way at once.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Method, request, response};
use http_body::{Body as _, Frame};

use super::ProxyError;
use super::body::RequestBody;
use super::pool::Connection;
use crate::net::{ClientConnection, RequestLength, ResponseError, Stream, encode};

/// A request that can be sent: its head in bytes, and its body.
pub(super) struct Outgoing {
    head: Vec<u8>,
    method: Method,
    body: Option<RequestBody>,
    length: RequestLength,
}

impl Outgoing {
    /// Makes a request of a head and its body.
    pub(super) fn new(parts: &request::Parts, body: RequestBody) -> Self {
        let exact = body.size_hint().exact();
        let length = match exact {
            _ if body.is_none() && !expects_body(&parts.method) => RequestLength::None,
            _ if body.is_none() => RequestLength::Exact(0),
            Some(length) => RequestLength::Exact(length),
            None => RequestLength::Chunked,
        };
        Self {
            head: encode(parts, length),
            method: parts.method.clone(),
            body: Some(body).filter(|body| !body.is_none()),
            length,
        }
    }

    /// Whether it may be sent again although a server may have seen it (RFC 9110 section 9.2.2).
    pub(super) fn is_repeatable(&self) -> bool {
        let is_safe = matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS);
        is_safe && self.length == RequestLength::None
    }

    /// Takes back its head, to be sent once more.
    pub(super) fn restore(&mut self, head: Vec<u8>) {
        self.head = head;
    }
}

/// Whether a method without a body says so (RFC 9110 section 8.6).
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::PATCH | Method::POST | Method::PUT)
}

/// An exchange with a server, and the connection it is on.
///
/// One that was begun and not settled resets its connection when it is dropped, so that the server cannot take half a
/// request for a whole one.
pub(super) struct Conversation {
    connection: Option<Connection>,
    upload: Option<Upload>,
    /// Why the request is not sent whole.
    failure: Option<ProxyError>,
    /// Whoever waits for the response, or for the request to be sent.
    waiting: Option<Waker>,
}

/// The part of a request that is still to be sent.
struct Upload {
    body: Option<RequestBody>,
    length: RequestLength,
    left: u64,
    /// Whether nothing was sent so far.
    fresh: bool,
}

/// How sending ended.
pub(super) enum Unsent {
    /// The client's body was malformed or broke off.
    Client,
    /// The connection failed; there may be a response all the same.
    Server,
}

impl Conversation {
    /// Begins to send a request.
    pub(super) fn begin(mut connection: Connection, outgoing: &mut Outgoing) -> Self {
        connection
            .wire
            .begin(std::mem::take(&mut outgoing.head), outgoing.method.clone());
        let upload = Upload {
            body: outgoing.body.take(),
            length: outgoing.length,
            fresh: true,
            left: match outgoing.length {
                RequestLength::Exact(length) => length,
                RequestLength::Chunked | RequestLength::None => 0,
            },
        };
        Self {
            connection: Some(connection),
            upload: Some(upload),
            failure: None,
            waiting: None,
        }
    }

    /// Whether some of the request is still to be sent.
    pub(super) const fn is_sending(&self) -> bool {
        self.upload.is_some()
    }

    /// Sends more of the request.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let (Some(upload), Some(connection)) = (&mut self.upload, &mut self.connection) else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(upload.poll(&mut connection.wire, context));
        self.upload = None;
        if let Err(Unsent::Client) = result {
            self.failure = Some(ProxyError::broken_request());
        }
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(result)
    }

    /// Waits until the request is sent whole.
    pub(super) fn poll_sent(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.is_sending() {
            self.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Reads the head of the response.
    pub(super) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<response::Parts, ResponseError>> {
        match &mut self.connection {
            Some(connection) => connection.wire.poll_head(context),
            None => Poll::Ready(Err(ResponseError::Ended)),
        }
    }

    /// Reads more of the body of the response.
    pub(super) fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if self.is_sending() {
            self.waiting = Some(context.waker().clone());
        }
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Some(Err(ProxyError::closed())));
        };
        match connection.wire.poll_body(context) {
            Poll::Ready(Some(Err(error))) => {
                // What came before goes to the client first.
                self.failure = Some(ProxyError::exchange(error));
                context.waker().wake_by_ref();
                Poll::Pending
            }
            poll => poll.map(|next| next.map(|next| next.map_err(ProxyError::exchange))),
        }
    }

    /// Whether the whole body of the response was read.
    pub(super) fn is_body_ended(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.wire.is_body_ended())
    }

    /// Bytes of the body of the response that are left, if their number was announced.
    pub(super) fn body_left(&self) -> Option<u64> {
        self.connection
            .as_ref()
            .and_then(|connection| connection.wire.body_left())
    }

    /// The head of the request, to be sent on another connection, if nothing of a response has come.
    pub(super) fn take_back(mut self) -> Option<Vec<u8>> {
        self.connection.as_mut()?.wire.take_back()
    }

    /// Whether nothing more can be done on the connection of an exchange that is over; else the task is woken once
    /// that is so.
    pub(super) fn poll_ended(&mut self, context: &mut Context<'_>) -> bool {
        let sent = self.poll_sent(context).is_ready();
        match &mut self.connection {
            Some(connection) => {
                let wire = &mut connection.wire;
                (sent && !wire.may_settle()) || wire.poll_unusable(context).is_ready()
            }
            None => true,
        }
    }

    /// The connection, if it can carry another exchange.
    pub(super) fn settle(&mut self) -> Option<Connection> {
        let usable = !self.is_sending() && self.failure.is_none();
        let mut connection = self.connection.take_if(|_| usable)?;
        if connection.wire.settle() {
            return Some(connection);
        }
        self.connection = Some(connection);
        None
    }

    /// Ends it at once, wherever it is.
    pub(super) fn abandon(&mut self) {
        self.upload = None;
        if let Some(connection) = self.connection.take() {
            connection.wire.reset_when_dropped();
        }
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// The stream and what came behind the response, once the server has changed to another protocol.
    pub(super) fn into_tunnel(mut self) -> Option<(Stream, Bytes)> {
        self.connection
            .take()
            .map(|connection| connection.wire.into_parts())
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection
            && (self.is_sending() || self.failure.is_some() || !connection.wire.is_body_ended())
        {
            connection.wire.reset_when_dropped();
        }
    }
}

impl Upload {
    fn poll(
        &mut self,
        connection: &mut ClientConnection,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            // What has arrived of the body leaves together with the head.
            if self.body.is_none() || !std::mem::take(&mut self.fresh) {
                ready!(connection.poll_send(context)).map_err(|_| Unsent::Server)?;
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(()));
            };
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.count(&data)?;
                        connection.push(data, self.length == RequestLength::Chunked);
                    }
                    if self.length != RequestLength::Chunked && self.left == 0 {
                        self.body = None;
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Unsent::Client)),
                Poll::Ready(None) if self.left > 0 => return Poll::Ready(Err(Unsent::Client)),
                Poll::Ready(None) => {
                    self.body = None;
                    if self.length == RequestLength::Chunked {
                        connection.push_end();
                    }
                }
                Poll::Pending => {
                    ready!(connection.poll_send(context)).map_err(|_| Unsent::Server)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// A body is exactly as long as was said, whoever counted before.
    fn count(&mut self, data: &Bytes) -> Result<(), Unsent> {
        if let RequestLength::Exact(_) = self.length {
            self.left = self
                .left
                .checked_sub(data.len() as u64)
                .ok_or(Unsent::Client)?;
        }
        Ok(())
    }
}
