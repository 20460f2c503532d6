//! One request to a server and its response, both on their way at once.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE};
use http::uri::Scheme;
use http::{Method, Request, Uri, request};
use http_body::{Body as _, Frame};

use super::ProxyError;
use super::body::RequestBody;
use super::caller::Forwarded;
use super::headers;
use super::pool::Connection;
use crate::net::{
    ClientSession, ClientStream, RequestHead, RequestLength, ResponseError, ResponseHead, Stream,
    encode, encode_plain,
};

/// A request that can be sent: its head in bytes, and its body.
pub(super) struct Outgoing {
    head: Vec<u8>,
    /// The head in parts, if it may be sent by HTTP/2.
    parts: Option<Box<request::Parts>>,
    method: Method,
    body: Option<RequestBody>,
    length: RequestLength,
}

impl Outgoing {
    /// Makes a request of a head that may go upstream and its body. It may be sent by HTTP/2 only if that is said.
    pub(super) fn new(
        mut head: RequestHead,
        forwarded: &Forwarded,
        body: RequestBody,
        http2: bool,
    ) -> Self {
        let exact = body.size_hint().exact();
        let method = head.method().clone();
        let length = match exact {
            _ if body.is_none() && !expects_body(&method) => RequestLength::None,
            _ if body.is_none() => RequestLength::Exact(0),
            Some(length) => RequestLength::Exact(length),
            None => RequestLength::Chunked,
        };
        if http2 {
            headers::take_apart(&mut head, forwarded);
        }
        let host = head.value(&HOST).unwrap_or_default();
        let add = |tell: &mut dyn FnMut(HeaderName, &[u8])| {
            // One that may be sent in parts has it already.
            if !http2 {
                headers::each_forwarded(forwarded, host, tell);
            }
        };
        Self {
            head: match &head {
                RequestHead::Parts(parts) => encode(parts, length, add),
                RequestHead::Plain(plain) => encode_plain(&method, plain, length, add),
            },
            parts: match head {
                RequestHead::Parts(parts) if http2 => Some(parts),
                _ => None,
            },
            method,
            body: Some(body).filter(|body| !body.is_none()),
            length,
        }
    }

    /// Whether it may be sent again although a server may have seen it (RFC 9110 section 9.2.2).
    pub(super) fn is_repeatable(&self) -> bool {
        let is_safe = matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS);
        is_safe && self.length == RequestLength::None
    }

    /// The request as HTTP/2 has it: its host is that of its target (RFC 9113 section 8.3.1).
    fn for_http2(&self, scheme: &Scheme) -> Option<Request<()>> {
        let mut parts = request::Parts::clone(self.parts.as_deref()?);
        let mut target = http::uri::Parts::default();
        target.scheme = Some(scheme.clone());
        target.path_and_query = parts.uri.path_and_query().cloned();
        let host = parts.headers.remove(HOST)?;
        target.authority = Some(host.as_bytes().try_into().ok()?);
        parts.uri = Uri::from_parts(target).ok()?;
        parts.version = http::Version::HTTP_2;
        parts.headers.remove(CONTENT_LENGTH);
        if let RequestLength::Exact(length) = self.length {
            parts.headers.insert(CONTENT_LENGTH, length.into());
        }
        // Whatever a server sends behind its response is passed on, as far as the client's protocol lets it.
        parts
            .headers
            .insert(TE, HeaderValue::from_static("trailers"));
        Some(Request::from_parts(parts, ()))
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
    carrier: Option<Carrier>,
    upload: Option<Upload>,
    /// Why the request is not sent whole.
    failure: Option<ProxyError>,
    /// Whoever waits for the response, or for the request to be sent.
    waiting: Option<Waker>,
}

/// What an exchange is on.
enum Carrier {
    /// A connection of its own, by HTTP/1.1.
    Connection(Connection),
    /// One stream among several, by HTTP/2.
    Stream(Box<ClientStream>),
}

/// The part of a request that is still to be sent.
struct Upload {
    body: Option<RequestBody>,
    length: RequestLength,
    left: u64,
    /// Whether nothing was sent so far.
    fresh: bool,
    /// Whether none of the body was asked for so far.
    untouched: bool,
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
        Self::on(Carrier::Connection(connection), outgoing)
    }

    /// Begins to send a request that may be sent by HTTP/2, which stays as it is until its body is asked for.
    ///
    /// # Errors
    ///
    /// When no stream can begin on this connection.
    pub(super) fn begin_stream(
        session: &ClientSession,
        scheme: &Scheme,
        outgoing: &mut Outgoing,
    ) -> Result<Self, ResponseError> {
        let request = outgoing.for_http2(scheme).ok_or(ResponseError::Malformed(
            "the request has no form in HTTP/2",
        ))?;
        let stream = session.open(request, outgoing.body.is_none())?;
        Ok(Self::on(Carrier::Stream(Box::new(stream)), outgoing))
    }

    fn on(carrier: Carrier, outgoing: &mut Outgoing) -> Self {
        let upload = Upload {
            body: outgoing.body.take(),
            length: outgoing.length,
            fresh: true,
            untouched: true,
            left: match outgoing.length {
                RequestLength::Exact(length) => length,
                RequestLength::Chunked | RequestLength::None => 0,
            },
        };
        Self {
            carrier: Some(carrier),
            upload: Some(upload),
            failure: None,
            waiting: None,
        }
    }

    /// Whether other requests are on the same connection.
    pub(super) const fn is_multiplexed(&self) -> bool {
        matches!(self.carrier, Some(Carrier::Stream(_)))
    }

    /// Gives the body back to a request with which nobody has done anything; whether it is as it was.
    pub(super) fn give_back(&mut self, outgoing: &mut Outgoing) -> bool {
        match self.upload.take() {
            Some(Upload {
                body,
                untouched: true,
                ..
            }) => {
                outgoing.body = body;
                true
            }
            // All was sent, and there is no body.
            None => outgoing.length == RequestLength::None,
            Some(_) => false,
        }
    }

    /// The server lets it wait too long: nothing new begins on a connection with others.
    pub(super) fn suspect(&self) {
        if let Some(Carrier::Stream(stream)) = &self.carrier {
            stream.retire_session();
        }
    }

    /// Whether some of the request is still to be sent.
    pub(super) const fn is_sending(&self) -> bool {
        self.upload.is_some()
    }

    /// Sends more of the request.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let (Some(upload), Some(carrier)) = (&mut self.upload, &mut self.carrier) else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(upload.poll(carrier, context));
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
    ) -> Poll<Result<ResponseHead, ResponseError>> {
        match &mut self.carrier {
            Some(Carrier::Connection(connection)) => connection.wire.poll_head(context),
            Some(Carrier::Stream(stream)) => stream
                .poll_head(context)
                .map(|head| head.map(ResponseHead::from)),
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
        let next = match &mut self.carrier {
            Some(Carrier::Connection(connection)) => connection.wire.poll_body(context),
            Some(Carrier::Stream(stream)) => stream.poll_body(context),
            None => return Poll::Ready(Some(Err(ProxyError::closed()))),
        };
        match next {
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
        match &self.carrier {
            Some(Carrier::Connection(connection)) => connection.wire.is_body_ended(),
            Some(Carrier::Stream(stream)) => stream.is_body_ended(),
            None => false,
        }
    }

    /// Bytes of the body of the response that are left, if their number was announced.
    pub(super) fn body_left(&self) -> Option<u64> {
        match &self.carrier {
            Some(Carrier::Connection(connection)) => connection.wire.body_left(),
            Some(Carrier::Stream(stream)) => stream.body_left(),
            None => None,
        }
    }

    /// The head of the request, to be sent on another connection, if nothing of a response has come.
    pub(super) fn take_back(mut self) -> Option<Vec<u8>> {
        match &mut self.carrier {
            Some(Carrier::Connection(connection)) => connection.wire.take_back(),
            Some(Carrier::Stream(_)) | None => None,
        }
    }

    /// Whether nothing more can be done on the connection of an exchange that is over; else the task is woken once
    /// that is so.
    pub(super) fn poll_ended(&mut self, context: &mut Context<'_>) -> bool {
        let sent = self.poll_sent(context).is_ready();
        match &mut self.carrier {
            Some(Carrier::Connection(connection)) => {
                let wire = &mut connection.wire;
                (sent && !wire.may_settle()) || wire.poll_unusable(context).is_ready()
            }
            // None of these is kept for a client.
            Some(Carrier::Stream(_)) | None => true,
        }
    }

    /// The connection, if it can carry another exchange.
    pub(super) fn settle(&mut self) -> Option<Connection> {
        if self.is_sending() || self.failure.is_some() {
            return None;
        }
        let settled = match &mut self.carrier {
            Some(Carrier::Connection(connection)) => connection.wire.settle(),
            Some(Carrier::Stream(_)) | None => false,
        };
        match self.carrier.take_if(|_| settled) {
            Some(Carrier::Connection(connection)) => Some(connection),
            Some(Carrier::Stream(_)) | None => None,
        }
    }

    /// Ends it at once, wherever it is.
    pub(super) fn abandon(&mut self) {
        self.upload = None;
        if let Some(mut carrier) = self.carrier.take() {
            carrier.reset();
        }
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// The stream and what came behind the response, once the server has changed to another protocol.
    pub(super) fn into_tunnel(mut self) -> Option<(Stream, Bytes)> {
        match self.carrier.take() {
            Some(Carrier::Connection(connection)) => Some(connection.wire.into_parts()),
            Some(Carrier::Stream(_)) | None => None,
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let whole = !self.is_sending() && self.failure.is_none() && self.is_body_ended();
        if !whole && let Some(carrier) = &mut self.carrier {
            carrier.reset();
        }
    }
}

impl Carrier {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        let sent = match self {
            Self::Connection(connection) => connection.wire.poll_send(context),
            Self::Stream(stream) => stream.poll_send(context),
        };
        sent.map_err(|_| Unsent::Server)
    }

    fn push(&mut self, piece: Bytes, length: RequestLength) {
        match self {
            Self::Connection(connection) => {
                let chunked = length == RequestLength::Chunked;
                connection.wire.push(piece, chunked);
            }
            Self::Stream(stream) => stream.push(piece),
        }
    }

    /// Ends a body of this kind, and gives what trails it. One of a known length ends by itself on a connection.
    fn push_end(&mut self, trailers: Option<HeaderMap>, length: RequestLength) {
        match self {
            Self::Connection(connection) if length == RequestLength::Chunked => {
                connection.wire.push_end(trailers.as_ref());
            }
            Self::Connection(_) => {}
            Self::Stream(stream) => stream.push_end(trailers),
        }
    }

    /// Has it end so that the server takes nothing half for something whole.
    fn reset(&mut self) {
        match self {
            Self::Connection(connection) => connection.wire.reset_when_dropped(),
            Self::Stream(stream) => stream.reset(),
        }
    }
}

impl Upload {
    fn poll(
        &mut self,
        carrier: &mut Carrier,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            // What has arrived of the body leaves together with the head.
            if self.body.is_none() || !std::mem::take(&mut self.fresh) {
                ready!(carrier.poll_send(context))?;
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(Ok(()));
            };
            let next = Pin::new(body).poll_frame(context);
            self.untouched &= next.is_pending();
            match next {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.count(&data)?;
                        carrier.push(data, self.length);
                        if self.length != RequestLength::Chunked && self.left == 0 {
                            self.end(carrier, None);
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().ok();
                        self.end(carrier, trailers);
                    }
                },
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Unsent::Client)),
                Poll::Ready(None) if self.left > 0 => return Poll::Ready(Err(Unsent::Client)),
                Poll::Ready(None) => self.end(carrier, None),
                Poll::Pending => {
                    ready!(carrier.poll_send(context))?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn end(&mut self, carrier: &mut Carrier, trailers: Option<HeaderMap>) {
        self.body = None;
        carrier.push_end(trailers, self.length);
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
