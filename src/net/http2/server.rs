//! Speaks HTTP/2 with a client: requests come, each with its body and with the way to answer it (RFC 9113).

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, request, response};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::reset::StreamReset;

/// Bytes of one request's body, and of those of a connection together, that a client may send before they were
/// taken.
const STREAM_WINDOW: u32 = 256 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;

/// Bytes of one answer that wait in the library for a client to take them.
const SEND_BUFFER: usize = 64 * 1_024;

/// Streams that a client may have reset before they were looked at, and that the library may have reset for what the
/// client did wrong, until the connection ends (CVE-2023-44487, CVE-2025-8671).
const PENDING_RESETS: usize = 50;
const ERROR_RESETS: usize = 100;

/// A client's connection.
///
/// Whoever drives it asks for [requests](Self::poll_request) until it has ended; what it has to read and to write moves
/// on with that.
pub struct Http2Server<S> {
    stage: Stage<S>,
    /// No further requests are taken.
    closing: bool,
}

enum Stage<S> {
    Greeting(Handshake<S, Bytes>),
    Serving(Connection<S, Bytes>),
}

/// A request as it came.
pub struct Http2Request {
    /// Its head.
    pub parts: request::Parts,
    /// Its body.
    pub body: Http2Body,
    /// The way to answer it.
    pub answer: Http2Answer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http2Server<S> {
    /// Begins on a stream of which nothing was read, with so many requests at a time and so many bytes of a head,
    /// counted as RFC 9113 section 6.5.2 says.
    pub fn new(stream: S, requests: u32, head: u32) -> Self {
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(requests)
            .max_header_list_size(head)
            .max_local_error_reset_streams(Some(ERROR_RESETS))
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(stream);
        Self {
            stage: Stage::Greeting(handshake),
            closing: false,
        }
    }

    /// The next request; `None` once the connection has ended, in whichever way.
    pub fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Option<Http2Request>> {
        if let Stage::Greeting(handshake) = &mut self.stage {
            let Ok(mut connection) = ready!(Pin::new(handshake).poll(context)) else {
                return Poll::Ready(None);
            };
            if self.closing {
                connection.graceful_shutdown();
            }
            self.stage = Stage::Serving(connection);
        }
        let Stage::Serving(connection) = &mut self.stage else {
            return Poll::Ready(None);
        };
        let accepted = ready!(connection.poll_accept(context));
        Poll::Ready(accepted.and_then(Result::ok).map(|(request, respond)| {
            let (parts, stream) = request.into_parts();
            Http2Request::new(parts, stream, respond)
        }))
    }

    /// Takes no further requests, and ends once those that were taken are answered.
    pub fn close(&mut self) {
        self.closing = true;
        if let Stage::Serving(connection) = &mut self.stage {
            connection.graceful_shutdown();
        }
    }
}

impl Http2Request {
    fn new(parts: request::Parts, stream: RecvStream, respond: SendResponse<Bytes>) -> Self {
        let wanted = Rc::new(Cell::new(false));
        let announced = parts.headers.get(CONTENT_LENGTH);
        let left = match stream.is_end_stream() {
            true => Some(0),
            false => announced.and_then(|length| length.to_str().ok()?.parse().ok()),
        };
        let expects = parts
            .headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let answer = Http2Answer {
            respond,
            sending: None,
            given: None,
            ended: false,
            wanted: expects.then(|| Rc::clone(&wanted)),
            head_only: parts.method == Method::HEAD,
        };
        let body = Http2Body {
            stream,
            left,
            begun: false,
            ended: false,
            wanted,
        };
        Self {
            parts,
            body,
            answer,
        }
    }
}

/// A request's body, which the client may send as fast as it is read.
pub struct Http2Body {
    stream: RecvStream,
    /// Bytes that were not read, if their number is known.
    left: Option<u64>,
    begun: bool,
    ended: bool,
    /// Whether it was asked for and has not begun.
    wanted: Rc<Cell<bool>>,
}

impl Http2Body {
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        while let Some(data) = ready!(self.stream.poll_data(context)) {
            let data = data?;
            self.stream.flow_control().release_capacity(data.len())?;
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        let trailers = ready!(self.stream.poll_trailers(context))?;
        self.ended = true;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = io::Error;

    /// The next piece. A body that its client gave up is an error, whatever the reason: it is not whole.
    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let next = this.poll_next(context);
        this.begun |= next.is_ready();
        this.wanted.set(!this.begun);
        next.map(|next| next.map(|next| next.map_err(broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The way to answer one request. Dropped before the end of the answer, it resets the stream.
pub struct Http2Answer {
    respond: SendResponse<Bytes>,
    /// Once the head was given.
    sending: Option<SendStream<Bytes>>,
    /// What of the body waits to be handed over, and whether nothing comes behind it.
    given: Option<(Bytes, bool)>,
    ended: bool,
    /// Whether the body is asked for, of a client that waits for a 100 before it sends one.
    wanted: Option<Rc<Cell<bool>>>,
    /// Whether only the head is asked for.
    head_only: bool,
}

impl Http2Answer {
    /// Tells a client that waits for it to send its body, once that is asked for (RFC 9110 section 10.1.1).
    pub fn go_on(&mut self) {
        if self.wanted.as_ref().is_some_and(|wanted| wanted.get()) {
            self.wanted = None;
            let mut interim = Response::new(());
            *interim.status_mut() = StatusCode::CONTINUE;
            // A stream that has ended tells so when it is asked for.
            let _ = self.respond.send_informational(interim);
        }
    }

    /// Whether the client has given the request up.
    pub fn poll_given_up(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.sending {
            Some(sending) => sending.poll_reset(context).map(drop),
            None => self.respond.poll_reset(context).map(drop),
        }
    }

    /// Gives the head of the answer, before a body of this length if that is known; whether a body is to follow.
    ///
    /// # Errors
    ///
    /// When the stream has ended.
    pub fn head(&mut self, mut parts: response::Parts, length: Option<u64>) -> io::Result<bool> {
        // What is said by it, ends here.
        parts.headers.remove(CONNECTION);
        let ends = self.head_only || length == Some(0);
        if let Some(length) = length.filter(|length| *length > 0) {
            let fields = &mut parts.headers;
            fields
                .entry(CONTENT_LENGTH)
                .or_insert_with(|| HeaderValue::from(length));
        }
        let head = Response::from_parts(parts, ());
        let sending = self.respond.send_response(head, ends).map_err(broken)?;
        self.sending = Some(sending);
        Ok(!ends)
    }

    /// Gives the next piece of the body; `last` if nothing follows. Only when what was given before is
    /// [sent](Self::poll_send).
    pub fn push(&mut self, piece: Bytes, last: bool) {
        self.given = Some((piece, last));
    }

    /// Whether all of the answer was handed over.
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Ends the body, with what trails it.
    ///
    /// # Errors
    ///
    /// When the stream has ended.
    pub fn end(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        match trailers {
            Some(trailers) => sending.send_trailers(trailers),
            None => sending.send_data(Bytes::new(), true),
        }
        .map_err(broken)
    }

    /// Hands over what was given, as fast as the client opens its windows.
    ///
    /// # Errors
    ///
    /// When the stream has ended.
    pub fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(sending) = &mut self.sending else {
            return Poll::Ready(Ok(()));
        };
        let Some((piece, last)) = &mut self.given else {
            return Poll::Ready(Ok(()));
        };
        if !piece.is_empty() && sending.capacity() == 0 {
            // The least that makes the library tell of room: what is reserved, no other stream has.
            sending.reserve_capacity(1);
            while sending.capacity() == 0 {
                match ready!(sending.poll_capacity(context)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                }
            }
        }
        let (piece, last) = (std::mem::take(piece), *last);
        self.given = None;
        self.ended = last;
        if last || !piece.is_empty() {
            sending.send_data(piece, last).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Resets the stream.
    pub fn reset(&mut self, reset: &StreamReset) {
        self.respond.send_reset(reset.reason());
    }

    /// Resets the stream for a fault that is not the client's.
    pub fn fail(&mut self) {
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl<S> fmt::Debug for Http2Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http2Server")
    }
}

impl fmt::Debug for Http2Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Request")
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Http2Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http2Body")
    }
}

impl fmt::Debug for Http2Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http2Answer")
    }
}
