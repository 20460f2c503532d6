//! One connection to a server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use http_body::Frame;
use tokio::io::{AsyncRead, ReadBuf};

use super::body::{Decoder, Next};
use super::error::ResponseError;
use super::head::{self, Framing, HEAD_LIMIT};
use super::response::ResponseHead;
use crate::net::Stream;
use crate::net::input::Input;
use crate::net::output::Output;

/// Interim responses before a final one.
const INTERIM: usize = 16;

/// Sends requests and reads their responses, one after the other.
#[derive(Debug)]
pub struct ClientConnection {
    stream: Stream,
    /// The head of a request is kept until its response begins.
    output: Output,
    input: Input,
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

impl ClientConnection {
    /// Takes over a stream that is connected.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            output: Output::default(),
            input: Input::default(),
            state: State::Idle,
            persistent: true,
        }
    }

    /// Begins a request with its head in bytes.
    pub fn begin(&mut self, head: Vec<u8>, method: Method) {
        self.output = Output::of_head(head);
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
        untouched.then(|| self.output.take_text())
    }

    /// Gives a piece of the request body to be sent next, within a chunk of its own if `chunked`. Only when what was
    /// given before is [sent](Self::poll_send), but for the head.
    pub fn push(&mut self, piece: Bytes, chunked: bool) {
        self.output.push(piece, chunked);
    }

    /// Gives the end of a chunked request body, and the fields that trail it (RFC 9112 section 7.1.2).
    pub fn push_end(&mut self, trailers: Option<&HeaderMap>) {
        self.output.push_end(trailers);
    }

    /// Sends what was given.
    ///
    /// # Errors
    ///
    /// When the connection failed. A response may have come all the same.
    pub fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.poll_send(&mut self.stream, context).1
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
    ) -> Poll<Result<ResponseHead, ResponseError>> {
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

    fn take_head(&mut self) -> Result<Option<ResponseHead>, ResponseError> {
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
            let Some(end) = head::end(&self.input.bytes, scanned) else {
                let too_large = self.input.bytes.len() > HEAD_LIMIT;
                return match too_large {
                    true => Err(ResponseError::Malformed("a response head is too large")),
                    false => Ok(None),
                };
            };
            let bytes = self.input.bytes.split_to(end).freeze();
            let head = head::parse(&bytes, method)?;
            if head.head.status() == StatusCode::SWITCHING_PROTOCOLS {
                self.state = State::Left;
                return Ok(Some(head.head));
            }
            if head.head.status().is_informational() {
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
            return Ok(Some(head.head));
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
            match decoder.next(&mut self.input.bytes) {
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
            self.output = Output::default();
        }
        may
    }

    /// Whether [`settle`](Self::settle) would succeed.
    pub fn may_settle(&self) -> bool {
        self.persistent
            && self.is_body_ended()
            && !self.output.waits()
            && self.input.bytes.is_empty()
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
        self.input.shrink();
    }

    /// Has the connection reset, rather than closed in order, when this is dropped.
    pub fn reset_when_dropped(&self) {
        self.stream.reset_when_dropped();
    }

    /// The stream, and what was read from it behind the last response.
    pub fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.input.bytes.freeze())
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
        let filled = ready!(self.input.poll_fill(&mut self.stream, context));
        Poll::Ready(filled.map_err(|error| self.fail(error.into())))
    }
}
