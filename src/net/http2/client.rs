//! Speaks HTTP/2 to a server: many requests at a time over one stream (RFC 9113).

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{Request, StatusCode, response};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use crate::net::{ResponseError, Stream};

/// Requests in progress on one connection, however many the server allows.
const STREAMS: usize = 100;

/// Bytes of one response that a server may send before they were taken, and bytes of all of a connection: enough that
/// a client who takes nothing stops no other.
const STREAM_WINDOW: u32 = 128 * 1_024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;

/// Bytes of one request that wait in the library for the server to take them.
const SEND_BUFFER: usize = 64 * 1_024;

/// Bytes of a response head, counted as RFC 9113 section 6.5.2 says.
const HEAD_LIMIT: u32 = 256 * 1_024;

/// A connection to a server. Clones share it; it ends once nobody has it and its last stream has ended.
#[derive(Clone)]
pub struct ClientSession {
    requests: SendRequest<Bytes>,
    shared: Rc<Shared>,
}

struct Shared {
    active: Cell<usize>,
    /// Nothing new begins on it.
    retired: Cell<bool>,
    /// Told when something of it becomes free, or it ends.
    changed: Rc<Notify>,
}

/// One request and its response.
pub struct ClientStream {
    head: Option<ResponseFuture>,
    body: Option<RecvStream>,
    sending: SendStream<Bytes>,
    piece: Bytes,
    /// What ends the request, once it was given: trailers, or nothing but the end.
    last: Option<Option<HeaderMap>>,
    sent: bool,
    /// Bytes of the response body that are left, if their number was announced.
    left: Option<u64>,
    ended: bool,
    session: Rc<Shared>,
}

impl ClientSession {
    /// Begins to speak HTTP/2 on a stream that is connected, once the server has said how many requests it takes at a
    /// time. `changed` is told when a stream ends, or all of it.
    ///
    /// A task of this thread keeps it going.
    ///
    /// # Errors
    ///
    /// When the connection fails.
    pub async fn begin(stream: Stream, changed: Rc<Notify>) -> Result<Self, ResponseError> {
        let (requests, mut connection) = h2::client::Builder::new()
            .initial_max_send_streams(0)
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_LIMIT)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(stream)
            .await?;
        // How many requests the server takes at a time is in the first thing that it says.
        poll_fn(|context| match Pin::new(&mut connection).poll(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(ResponseError::from(error))),
            Poll::Ready(Ok(())) => Poll::Ready(Err(ResponseError::Ended)),
            Poll::Pending if requests.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        let shared = Rc::new(Shared {
            active: Cell::new(0),
            retired: Cell::new(false),
            changed,
        });
        let known = Rc::clone(&shared);
        tokio::task::spawn_local(async move {
            // Whoever has a stream on it learns of a failure there.
            let _ = connection.await;
            known.retired.set(true);
            known.changed.notify_waiters();
        });
        Ok(Self { requests, shared })
    }

    /// Whether another request may begin on it.
    pub fn has_room(&self) -> bool {
        let most = self.requests.current_max_send_streams().min(STREAMS);
        !self.shared.retired.get() && self.shared.active.get() < most
    }

    /// Requests in progress on it.
    pub fn active(&self) -> usize {
        self.shared.active.get()
    }

    /// Whether nothing new begins on it any more.
    pub fn is_retired(&self) -> bool {
        self.shared.retired.get()
    }

    /// Begins a request, whose target is absolute; `ends` when it has no body.
    ///
    /// # Errors
    ///
    /// When the server takes no more requests on this connection, or the connection has failed.
    pub fn open(&self, request: Request<()>, ends: bool) -> Result<ClientStream, ResponseError> {
        let mut requests = self.requests.clone();
        let (head, sending) = requests.send_request(request, ends).inspect_err(|_| {
            self.shared.retired.set(true);
        })?;
        self.shared.active.set(self.shared.active.get() + 1);
        Ok(ClientStream {
            head: Some(head),
            body: None,
            sending,
            piece: Bytes::new(),
            last: None,
            sent: ends,
            left: None,
            ended: false,
            session: Rc::clone(&self.shared),
        })
    }
}

impl Shared {
    /// A server that goes away takes nothing new, although it may finish what it has.
    fn note(&self, error: &h2::Error) {
        if error.is_go_away() || error.is_io() {
            self.retired.set(true);
        }
    }
}

impl ClientStream {
    /// Gives a piece of the request body to be sent next. Only when what was given before is
    /// [sent](Self::poll_send).
    pub fn push(&mut self, piece: Bytes) {
        self.piece = piece;
    }

    /// Gives the end of the request, with what trails it.
    pub fn push_end(&mut self, trailers: Option<HeaderMap>) {
        if !self.sent {
            self.last = Some(trailers);
        }
    }

    /// Sends what was given, as fast as the server opens its window.
    ///
    /// # Errors
    ///
    /// When the server wants no more of the request, or the connection failed. A response may have come all the same.
    pub fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.piece.is_empty() {
            self.sending.reserve_capacity(self.piece.len());
            // The library tells of more room only.
            if self.sending.capacity() == 0 {
                match ready!(self.sending.poll_capacity(context)) {
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                }
            }
            let room = self.sending.capacity().min(self.piece.len());
            let part = self.piece.split_to(room);
            self.sending.send_data(part, false).map_err(broken)?;
        }
        if let Some(trailers) = self.last.take() {
            self.sent = true;
            match trailers {
                Some(trailers) => self.sending.send_trailers(trailers),
                None => self.sending.send_data(Bytes::new(), true),
            }
            .map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the head of the response. Interim responses come to nothing.
    ///
    /// # Errors
    ///
    /// When the stream or the connection ended, or brought what is no response.
    pub fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<response::Parts, ResponseError>> {
        let Some(head) = &mut self.head else {
            return Poll::Ready(Err(ResponseError::Ended));
        };
        let response = ready!(Pin::new(head).poll(context));
        self.head = None;
        let (parts, body) = response
            .inspect_err(|error| self.session.note(error))?
            .into_parts();
        let announced = parts.headers.get(CONTENT_LENGTH);
        self.left = match body.is_end_stream() {
            true => Some(0),
            false => announced.and_then(|length| length.to_str().ok()?.parse().ok()),
        };
        self.body = Some(body);
        Poll::Ready(Ok(parts))
    }

    /// Reads more of the response body, trailers at last; `None` at its end.
    ///
    /// # Errors
    ///
    /// When the stream was reset within it, or the connection failed.
    pub fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let Some(body) = self.body.as_mut().filter(|_| !self.ended) else {
            return Poll::Ready(None);
        };
        while let Some(data) = ready!(body.poll_data(context)) {
            let data = data?;
            // What is handed over is the client's to take; more is read only when it is asked for.
            body.flow_control().release_capacity(data.len())?;
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        let trailers = ready!(body.poll_trailers(context))?;
        self.ended = true;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    /// Whether the whole response was read.
    pub fn is_body_ended(&self) -> bool {
        self.ended || self.body.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    /// Bytes of the response body that were not read, if their number was announced.
    pub const fn body_left(&self) -> Option<u64> {
        self.left
    }

    /// Resets the stream, so that the server takes no half of a request for a whole one.
    pub fn reset(&mut self) {
        self.sending.send_reset(Reason::CANCEL);
    }

    /// Has nothing new begin on its connection, which may be dead.
    pub fn retire_session(&self) {
        self.session.retired.set(true);
    }
}

/// Asks one thing by HTTP/2 on a stream of its own, and reads no more than the status of the answer.
///
/// # Errors
///
/// When there is no proper answer.
pub async fn ask_http2<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    request: Request<()>,
) -> Result<StatusCode, ResponseError> {
    let (mut requests, connection) = h2::client::handshake(stream).await?;
    let (answer, _) = requests.send_request(request, true)?;
    let mut answer = pin!(answer);
    let answered = tokio::select! {
        answered = &mut answer => answered,
        // It may have brought the answer before it ended.
        _ = connection => answer.await,
    };
    Ok(answered?.status())
}

impl Drop for ClientStream {
    /// The library resets a stream that has not ended.
    fn drop(&mut self) {
        self.session.active.set(self.session.active.get() - 1);
        self.session.changed.notify_one();
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

impl std::fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSession")
            .field("active", &self.active())
            .finish()
    }
}

impl std::fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientStream")
    }
}
