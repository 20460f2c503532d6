//! A client's connection as the HTTP library sees it: whole, well-framed requests and nothing else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clock::Slot;
use super::framing::{HeadLimits, Malformed, Tracker};
use super::link::{Awaited, Link};
use super::pace::Pace;

/// Bytes of a chunked body that are checked before its head is handed over, as far as they have arrived.
const WITHHELD_BODY: usize = 64 * 1_024;

/// How long a connection is idle before it is to be kept with little memory.
const REST: Duration = Duration::from_millis(200);

/// Bytes that are read at once from a connection that was kept so.
const WAKE: usize = 4 * 1_024;

/// How long a client may let a connection rest.
#[derive(Clone, Copy, Debug)]
pub struct InboundTimeouts {
    /// Within a body.
    pub body: Duration,
    /// After it ended its side while its request is being answered.
    pub half_close: Duration,
    /// Within a head or a trailer section.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// Bytes of a body that have to move, either way, within the time for one, unless its request has a time of its
    /// own.
    pub least: usize,
}

/// Wraps a client's stream.
///
/// Reading yields a head only when it is whole and well-formed. What is malformed is never yielded: within a head
/// the stream ends once everything before it was answered, within a body reading fails. The [`Link`] says which.
/// Deadlines for reading and writing are set here and looked at by whoever drives the connection.
#[derive(Debug)]
pub struct Inbound<S> {
    stream: S,
    link: Link,
    timeouts: InboundTimeouts,
    tracker: Tracker,
    /// Bytes that were read and not handed over; the first `released` of them may be.
    pending: Vec<u8>,
    released: usize,
    handed: usize,
    ended: bool,
    served: bool,
    reading: Pace,
    writing: Pace,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Inbound<S> {
    /// Wraps a stream that was just accepted; the deadline for the first head begins, unless it has.
    pub fn new(
        stream: S,
        link: Link,
        limits: HeadLimits,
        refuse_fragment: bool,
        timeouts: InboundTimeouts,
    ) -> Self {
        if !link.deadlines().is_set(Slot::Read) {
            link.deadlines().set(Slot::Read, timeouts.head);
        }
        link.deadlines().set(Slot::Rest, REST);
        Self {
            stream,
            link,
            timeouts,
            tracker: Tracker::new(limits, refuse_fragment),
            pending: Vec::new(),
            released: 0,
            handed: 0,
            ended: false,
            served: false,
            reading: Pace::new(Slot::Read, timeouts.least),
            writing: Pace::new(Slot::Write, timeouts.least),
        }
    }

    /// Puts bytes before those of the stream that were read from it already.
    pub fn with_early(mut self, early: Vec<u8>) -> Self {
        if !early.is_empty() {
            self.pending = early;
            self.examine();
        }
        self
    }

    /// The stream, and what was read from it and not handed over.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.pending[self.handed..].to_vec())
    }

    /// Takes back bytes that were handed over and not looked at.
    pub fn take_back(&mut self, bytes: &[u8]) {
        drop(self.pending.splice(..self.handed, bytes.iter().copied()));
        self.released = self.released - self.handed + bytes.len();
        self.handed = 0;
    }

    /// Waits, in place of the HTTP library and with no buffer of its own, until there is something for that to read.
    /// Deadlines are set as if it read.
    ///
    /// # Errors
    ///
    /// When the connection failed.
    pub fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.released > self.handed || self.ended || self.link.malformed().is_some() {
            return Poll::Ready(Ok(()));
        }
        let mut memory = [0; WAKE];
        let mut buffer = ReadBuf::new(&mut memory);
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            read?;
            match buffer.filled() {
                [] => self.stream_ended(),
                bytes => {
                    self.pending.extend_from_slice(bytes);
                    self.examine();
                }
            }
            return Poll::Ready(Ok(()));
        }
        self.await_bytes();
        Poll::Pending
    }

    /// Whether the client has ended its side, so that nothing more can come.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is wrong with bytes that would begin a request, which nobody was told.
    pub fn unread_fault(&self) -> Option<Malformed> {
        let unread = self.tracker.is_between_requests() || self.tracker.withholds();
        self.link.malformed().filter(|_| unread)
    }

    /// Hands over released bytes; false when there are none.
    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let length = (self.released - self.handed).min(buffer.remaining());
        if length == 0 {
            return false;
        }
        buffer.put_slice(&self.pending[self.handed..self.handed + length]);
        self.handed += length;
        if self.handed == self.released {
            self.pending.drain(..self.released);
            (self.released, self.handed) = (0, 0);
            if self.pending.is_empty() {
                self.pending = Vec::new();
            }
        }
        true
    }

    /// Whether the bytes at hand end within a head.
    fn is_within_head(&self) -> bool {
        self.tracker.is_between_requests()
            && !self.tracker.is_upgrading()
            && self.pending[self.released..]
                .iter()
                .any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Looks at what stands in `pending` behind the released bytes.
    fn examine(&mut self) {
        let advance = self.tracker.advance(&self.pending[self.released..]);
        self.released += advance.released;
        if let Some(malformed) = advance.malformed {
            self.link.set_malformed(malformed);
        }
    }

    /// Reads once into `buffer` and takes the bytes: straight through where that is allowed, else by way of
    /// `pending`. The count of bytes read.
    fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let fresh = &buffer.filled()[before..];
        let count = fresh.len();
        let mut straight = 0;
        if self.pending.is_empty() {
            let advance = self.tracker.advance(fresh);
            straight = advance.released;
            self.pending.extend_from_slice(&fresh[straight..]);
            if let Some(malformed) = advance.malformed {
                self.link.set_malformed(malformed);
            }
        } else {
            self.pending.extend_from_slice(fresh);
            self.examine();
        }
        buffer.set_filled(before + straight);
        Poll::Ready(Ok(count))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(tunnel) = self.link.take_upgrade() {
            self.tracker.settle_upgrade(tunnel);
            self.examine();
        }
        let start = buffer.filled().len();
        loop {
            if self.hand_over(buffer) || buffer.filled().len() > start || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if self.link.malformed().is_some() {
                return self.refuse();
            }
            if self.ended || self.tracker.is_upgrading() {
                return self.end();
            }
            match self.poll_fill(context, buffer) {
                Poll::Ready(Ok(0)) => self.stream_ended(),
                Poll::Ready(Ok(_)) if self.withholds_enough() => {
                    self.released += self.tracker.release_withheld()
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if self.tracker.withholds() => {
                    self.released += self.tracker.release_withheld()
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn withholds_enough(&self) -> bool {
        self.tracker.withholds() && self.pending.len() - self.released >= WITHHELD_BODY
    }

    fn stream_ended(&mut self) {
        self.ended = true;
        self.released += self.tracker.release_withheld();
        if self.is_within_head() {
            self.link.set_malformed(Malformed::Incomplete);
        }
    }

    /// Malformed bytes come next: an end where a head would begin, a failure within a body.
    fn refuse(&self) -> Poll<io::Result<()>> {
        match self.link.malformed() {
            Some(malformed) if self.unread_fault().is_none() => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, malformed)))
            }
            _ if self.link.is_busy() => {
                self.link.put_off_read();
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The client sends no more for now: the end of the stream, but not while a request is being answered. A client
    /// that only ended its own side gets its response; one that went away is found out by writing to it.
    fn end(&self) -> Poll<io::Result<()>> {
        let deadlines = self.link.deadlines();
        if !self.tracker.is_between_requests() || !self.link.is_busy() {
            return Poll::Ready(Ok(()));
        }
        if self.ended && !self.link.is_responding() {
            if deadlines.has_passed(Slot::Read) {
                return Poll::Ready(Ok(()));
            }
            if !deadlines.is_set(Slot::Read) {
                deadlines.set(Slot::Read, self.timeouts.half_close);
            }
        }
        self.link.put_off_read();
        Poll::Pending
    }

    /// Sets the deadline for what is waited for now.
    fn await_bytes(&mut self) {
        let deadlines = self.link.deadlines();
        if self.tracker.is_between_requests() {
            self.reading.reset();
            if self.link.is_busy() {
                return;
            }
            let (awaited, after) = match (self.is_within_head(), self.served) {
                (true, _) => (Awaited::Head, self.timeouts.head),
                (false, true) => (Awaited::Request, self.timeouts.idle),
                (false, false) => (Awaited::First, self.timeouts.head),
            };
            // On a new connection the time for the head began when it was accepted.
            let begun = (self.link.awaited(), awaited) == (Awaited::First, Awaited::Head);
            if !deadlines.is_set(Slot::Read) || (self.link.awaited() != awaited && !begun) {
                deadlines.set(Slot::Read, after);
                if awaited != Awaited::Head {
                    deadlines.set(Slot::Rest, REST);
                }
            }
            self.link.set_awaited(awaited);
            return;
        }
        let trailers = self.tracker.is_in_trailers();
        if !deadlines.is_set(Slot::Read) || self.link.awaited() != Awaited::Body {
            self.link.set_awaited(Awaited::Body);
            match (trailers, self.link.body_timeout()) {
                (true, _) => deadlines.set(Slot::Read, self.timeouts.head),
                (false, Some(timeout)) => deadlines.set(Slot::Read, timeout),
                (false, None) => self.reading.wait(deadlines, self.timeouts.body),
            }
        }
    }

    /// Clears the deadline that the bytes just handed over were waited for.
    fn got_bytes(&mut self, count: usize) {
        self.served = true;
        if self.link.awaited() == Awaited::Body && self.link.body_timeout().is_none() {
            self.reading.moved(self.link.deadlines(), count);
        } else if !(self.ended && self.link.is_busy()) {
            self.link.deadlines().clear(Slot::Read);
        }
        self.link.deadlines().clear(Slot::Rest);
        self.link.set_awaited(Awaited::Request);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Inbound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = this.poll_next(context, buffer);
        match &result {
            Poll::Pending => this.await_bytes(),
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                this.got_bytes(buffer.filled().len() - before)
            }
            Poll::Ready(_) => {}
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Inbound<S> {
    /// Holds the client to taking enough; `count` is what it took.
    fn wrote<T>(&mut self, result: Poll<io::Result<T>>, count: usize) -> Poll<io::Result<T>> {
        let deadlines = self.link.deadlines();
        if result.is_ready() {
            self.writing.moved(deadlines, count);
        } else if !deadlines.is_set(Slot::Write) {
            self.writing.wait(deadlines, self.timeouts.body);
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Inbound<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        let count = written(&result);
        this.wrote(result, count)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        let count = written(&result);
        this.wrote(result, count)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(context);
        if matches!(result, Poll::Ready(Ok(()))) && this.link.flushed() {
            // The library has read already and was told to wait, which it still does.
            this.await_bytes();
        }
        this.wrote(result, 0)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

const fn written(result: &Poll<io::Result<usize>>) -> usize {
    match result {
        Poll::Ready(Ok(count)) => *count,
        _ => 0,
    }
}
