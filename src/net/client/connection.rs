//! One connection to a server.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::header::HeaderMap;
use http::{Method, StatusCode, response};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::body::{Decoder, Next};
use super::error::ResponseError;
use super::head::{self, Framing, HEAD_LIMIT};
use crate::net::Stream;

/// Bytes that are read at once: as few as most responses have at first, more while all that is asked for comes.
const READ: usize = 8 * 1_024;
const READ_LIMIT: usize = 128 * 1_024;

/// Interim responses before a final one.
const INTERIM: usize = 16;

/// Bytes of body that are gathered with what waits to be sent; a larger piece is sent from where it lies.
const GATHER: usize = 4 * 1_024;

/// Sends requests and reads their responses, one after the other.
#[derive(Debug)]
pub struct ClientConnection {
    stream: Stream,
    output: Output,
    input: BytesMut,
    read: usize,
    state: State,
    persistent: bool,
}

#[derive(Debug)]
enum State {
    /// Between two exchanges.
    Idle,
    /// A request was begun; the head of its response is awaited.
    Head {
        method: Method,
        scanned: usize,
        interim: usize,
        /// Whether anything has come.
        answered: bool,
    },
    Body(Decoder),
    /// The server has changed to another protocol.
    Left,
    /// Nothing that comes can be understood any more.
    Failed,
}

/// What waits to be sent.
#[derive(Debug, Default)]
struct Output {
    /// The head of the request first, kept until its response begins; then the frames of chunks.
    text: Vec<u8>,
    sent: usize,
    /// Sent behind the text.
    piece: Bytes,
    /// Sent behind the piece.
    tail: &'static [u8],
    flushed: bool,
}

impl ClientConnection {
    /// Takes over a stream that is connected.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            output: Output {
                flushed: true,
                ..Output::default()
            },
            input: BytesMut::new(),
            read: READ,
            state: State::Idle,
            persistent: true,
        }
    }

    /// Begins a request with its head in bytes.
    pub fn begin(&mut self, head: Vec<u8>, method: Method) {
        self.output = Output {
            text: head,
            ..Output::default()
        };
        self.state = State::Head {
            method,
            scanned: 0,
            interim: 0,
            answered: false,
        };
    }

    /// The head of the request as it was given, for another connection, when nothing of a response has come.
    pub fn take_back(&mut self) -> Option<Vec<u8>> {
        let untouched = matches!(
            self.state,
            State::Head {
                answered: false,
                ..
            }
        );
        untouched.then(|| std::mem::take(&mut self.output.text))
    }

    /// Gives a piece of the request body to be sent next, within a chunk of its own if `chunked`. Only when what was
    /// given before is [sent](Self::poll_send), but for the head.
    pub fn push(&mut self, piece: Bytes, chunked: bool) {
        if piece.is_empty() {
            return;
        }
        self.output.make_room();
        if chunked {
            let size = format!("{:x}\r\n", piece.len());
            self.output.text.extend_from_slice(size.as_bytes());
            self.output.tail = b"\r\n";
        }
        self.output.piece = piece;
    }

    /// Gives the end of a chunked request body, and the fields that trail it (RFC 9112 section 7.1.2).
    pub fn push_end(&mut self, trailers: Option<&HeaderMap>) {
        self.output.make_room();
        let text = &mut self.output.text;
        text.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.into_iter().flatten() {
            head::field(text, name.as_str(), value.as_bytes());
        }
        text.extend_from_slice(b"\r\n");
    }

    /// Sends what was given.
    ///
    /// # Errors
    ///
    /// When the connection failed. A response may have come all the same.
    pub fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.output.flushed {
            ready!(self.output.poll_write(&mut self.stream, context))?;
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.output.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the head of the response. Interim responses come to nothing, but for a change of protocol
    /// (RFC 9110 section 15.2).
    ///
    /// # Errors
    ///
    /// When the connection ended, failed, or brought what is no response; it is of no use then.
    pub fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<response::Parts, ResponseError>> {
        loop {
            match self.take_head() {
                Ok(Some(parts)) => return Poll::Ready(Ok(parts)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
            if ready!(self.poll_read(context))? == 0 {
                return Poll::Ready(Err(self.fail(ResponseError::Ended)));
            }
            if let State::Head { answered, .. } = &mut self.state {
                *answered = true;
            }
        }
    }

    fn take_head(&mut self) -> Result<Option<response::Parts>, ResponseError> {
        loop {
            let State::Head {
                method,
                scanned,
                interim,
                ..
            } = &mut self.state
            else {
                return Err(ResponseError::Ended);
            };
            let Some(end) = head::end(&self.input, scanned) else {
                let too_large = self.input.len() > HEAD_LIMIT;
                return match too_large {
                    true => Err(ResponseError::Malformed("a response head is too large")),
                    false => Ok(None),
                };
            };
            let bytes = self.input.split_to(end).freeze();
            let head = head::parse(&bytes, method)?;
            if head.parts.status == StatusCode::SWITCHING_PROTOCOLS {
                self.state = State::Left;
                return Ok(Some(head.parts));
            }
            if head.parts.status.is_informational() {
                *scanned = 0;
                *interim += 1;
                if *interim > INTERIM {
                    return Err(ResponseError::Malformed(
                        "there are too many interim responses",
                    ));
                }
                continue;
            }
            self.persistent = head.persistent;
            self.enter_body(head.framing);
            return Ok(Some(head.parts));
        }
    }

    fn enter_body(&mut self, framing: Framing) {
        self.state = State::Body(Decoder::new(framing));
    }

    /// Reads more of the response body; `None` at its end.
    ///
    /// # Errors
    ///
    /// When the connection ended within it, failed, or brought what is no body; it is of no use then.
    pub fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        loop {
            let State::Body(decoder) = &mut self.state else {
                return Poll::Ready(None);
            };
            match decoder.next(&mut self.input) {
                Ok(Next::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Next::Trailers(fields)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Ok(Next::End) => return Poll::Ready(None),
                Ok(Next::More) => {}
                Err(error) => return Poll::Ready(Some(Err(self.fail(error)))),
            }
            let by_close = decoder.ends_with_stream();
            match ready!(self.poll_read(context)) {
                Ok(0) if by_close => {
                    self.enter_body(Framing::Length(0));
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(self.fail(ResponseError::Ended)))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// Whether the whole response body was read.
    pub fn is_body_ended(&self) -> bool {
        matches!(&self.state, State::Body(decoder) if decoder.is_ended())
    }

    /// Bytes of the response body that were not read, if their number was announced.
    pub fn body_left(&self) -> Option<u64> {
        match &self.state {
            State::Body(decoder) => decoder.left(),
            _ => None,
        }
    }

    /// Ends an exchange whose request was sent and whose response was read, both whole; whether the connection can
    /// be used again.
    pub fn settle(&mut self) -> bool {
        let may = self.may_settle();
        if may {
            self.state = State::Idle;
            self.output.text = Vec::new();
            self.output.sent = 0;
        }
        may
    }

    /// Whether [`settle`](Self::settle) would succeed.
    pub fn may_settle(&self) -> bool {
        self.persistent && self.is_body_ended() && self.output.flushed && self.input.is_empty()
    }

    /// Watches an idle connection: ready once it can be used no more, since it ended or something came unasked.
    pub fn poll_unusable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        Pin::new(&mut self.stream)
            .poll_read(context, &mut buffer)
            .map(drop)
    }

    /// Whether an idle connection is still good, as far as was heard by now.
    pub fn is_usable(&mut self) -> bool {
        self.poll_unusable(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    }

    /// Gives back the memory that an idle connection does not need.
    pub fn shrink(&mut self) {
        self.input = BytesMut::new();
        self.read = READ;
    }

    /// Has the connection reset, rather than closed in order, when this is dropped.
    pub fn reset_when_dropped(&self) {
        self.stream.reset_when_dropped();
    }

    /// The stream, and what was read from it behind the last response.
    pub fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.input.freeze())
    }

    fn fail(&mut self, error: ResponseError) -> ResponseError {
        // What was asked stays, for whoever asks elsewhere.
        if !matches!(
            self.state,
            State::Head {
                answered: false,
                ..
            }
        ) {
            self.state = State::Failed;
        }
        self.persistent = false;
        error
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, ResponseError>> {
        let (room, result) = match self.read {
            // By way of the stack: nearly every response is much smaller, and memory of just its size costs less.
            READ => {
                let mut memory = [MaybeUninit::uninit(); READ];
                let mut buffer = ReadBuf::uninit(&mut memory);
                let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
                self.input.extend_from_slice(buffer.filled());
                (READ, read.map(|()| buffer.filled().len()))
            }
            _ => {
                self.input.reserve(self.read);
                let room = self.input.capacity() - self.input.len();
                // The future keeps nothing between two polls.
                let read = pin!(self.stream.read_buf(&mut self.input));
                (room, ready!(read.poll(context)))
            }
        };
        match result {
            Ok(count) => {
                if count == room {
                    self.read = (self.read * 2).min(READ_LIMIT);
                } else if count < self.read / 4 {
                    self.read = (self.read / 2).max(READ);
                }
                Poll::Ready(Ok(count))
            }
            Err(error) => Poll::Ready(Err(self.fail(error.into()))),
        }
    }
}

impl Output {
    /// Makes room for more. A head that was sent is not asked for again once a body follows.
    fn make_room(&mut self) {
        self.flushed = false;
        if self.sent == self.text.len() {
            self.text.clear();
            self.sent = 0;
        }
    }

    fn poll_write(
        &mut self,
        stream: &mut Stream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.piece.len() <= GATHER {
            self.text.extend_from_slice(&self.piece);
            self.text.extend_from_slice(self.tail);
            self.piece = Bytes::new();
            self.tail = b"";
        }
        loop {
            let text = &self.text[self.sent..];
            let stream = Pin::new(&mut *stream);
            let written = if !self.piece.is_empty() || !self.tail.is_empty() {
                let slices = [text, &self.piece[..], self.tail].map(io::IoSlice::new);
                ready!(stream.poll_write_vectored(context, &slices))?
            } else if text.is_empty() {
                return Poll::Ready(Ok(()));
            } else {
                ready!(stream.poll_write(context, text))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
    }

    fn advance(&mut self, written: usize) {
        let text = written.min(self.text.len() - self.sent);
        self.sent += text;
        let piece = (written - text).min(self.piece.len());
        bytes::Buf::advance(&mut self.piece, piece);
        self.tail = &self.tail[written - text - piece..];
    }
}
