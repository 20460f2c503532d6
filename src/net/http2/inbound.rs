//! A client's HTTP/2 connection on its way to the HTTP library: deadlines, and an end to floods.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::HTTP2_PREFACE;
use super::frames::Frames;
use crate::net::{Clock, Deadlines, Slot};

/// `GOAWAY` with a debug text of none, but for its stream and code (RFC 9113 section 6.8).
const GOAWAY: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];

/// `NO_ERROR` and `ENHANCE_YOUR_CALM` (RFC 9113 section 7).
const NO_ERROR: u32 = 0x0;
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// How long a client may let a connection rest.
#[derive(Clone, Copy, Debug)]
pub struct Http2Timeouts {
    /// Within a frame of a body, and without taking a byte that is there for it.
    pub body: Duration,
    /// Within a head, and from accept to the first.
    pub head: Duration,
    /// While no request is being answered.
    pub idle: Duration,
}

/// What the read deadline is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Http2Awaited {
    /// More of a frame of a body.
    Body,
    /// The first request.
    First,
    /// The rest of a head.
    Head,
    /// A next request.
    Request,
}

/// What is known of a connection's frames. Clones share it.
#[derive(Clone, Debug)]
pub struct Http2Watch {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    deadlines: Rc<Deadlines>,
    timeouts: Http2Timeouts,
    frames: RefCell<Frames>,
    awaited: Cell<Http2Awaited>,
    /// The tick at which time gave something back last.
    regained: Cell<u64>,
    /// Answers that are still being made or handed over.
    working: Cell<usize>,
    /// Bytes of answers at the moment the deadline for taking them was set.
    taken: Cell<u64>,
    ended: Cell<bool>,
}

impl Http2Watch {
    /// Of a connection that was just accepted, whose deadline for the first head is set or begins now.
    pub fn new(clock: &Clock, deadlines: Rc<Deadlines>, timeouts: Http2Timeouts) -> Self {
        if !deadlines.is_set(Slot::Read) {
            deadlines.set(Slot::Read, timeouts.head);
        }
        Self {
            shared: Rc::new(Shared {
                clock: clock.clone(),
                deadlines,
                timeouts,
                frames: RefCell::new(Frames::new(HTTP2_PREFACE.len())),
                awaited: Cell::new(Http2Awaited::First),
                regained: Cell::new(clock.now()),
                working: Cell::new(0),
                taken: Cell::new(0),
                ended: Cell::new(false),
            }),
        }
    }

    /// What the read deadline is about.
    pub fn awaited(&self) -> Http2Awaited {
        self.shared.awaited.get()
    }

    /// Whether the client cost more than it got done.
    pub fn is_flood(&self) -> bool {
        self.shared.frames.borrow().is_flood()
    }

    /// Whether the client has ended its side.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.get()
    }

    /// Whether an answer is being made, or not taken whole.
    pub fn is_busy(&self) -> bool {
        self.shared.frames.borrow().unanswered() > 0
    }

    /// An answer is being made.
    pub fn begin(&self) {
        self.shared.working.set(self.shared.working.get() + 1);
    }

    /// An answer was handed over whole, or given up.
    pub fn finish(&self) {
        self.shared.working.set(self.shared.working.get() - 1);
        self.await_taking();
    }

    /// Whether answers that were handed over were not taken in time: fewer than `least` bytes since the deadline for
    /// that was set. Otherwise another one begins.
    pub fn is_stalled(&self, least: u64) -> bool {
        let shared = &self.shared;
        if !shared.deadlines.has_passed(Slot::Upstream) {
            return false;
        }
        shared.deadlines.clear(Slot::Upstream);
        let stalled = shared.frames.borrow().answered_bytes() < shared.taken.get() + least;
        self.await_taking();
        stalled && shared.deadlines.is_set(Slot::Upstream)
    }

    /// The last words to the client, if they can be put behind what was sent: why the connection ends.
    pub fn goodbye(&self) -> Vec<u8> {
        let frames = self.shared.frames.borrow();
        if !frames.can_send() {
            return Vec::new();
        }
        let code = match self.awaited() {
            Http2Awaited::First | Http2Awaited::Request if !frames.is_flood() => NO_ERROR,
            _ => ENHANCE_YOUR_CALM,
        };
        [
            GOAWAY.as_slice(),
            &frames.last().to_be_bytes(),
            &code.to_be_bytes(),
        ]
        .concat()
    }

    fn received(&self, bytes: &[u8]) -> io::Result<()> {
        let now = self.shared.clock.now();
        let passed = now.saturating_sub(self.shared.regained.replace(now));
        let mut frames = self.shared.frames.borrow_mut();
        frames.gain(i64::try_from(passed).unwrap_or(i64::MAX / 2));
        frames.receive(bytes);
        match frames.is_flood() {
            true => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a flood of frames",
            )),
            false => Ok(()),
        }
    }

    /// Sets the deadline for answers that the library holds, since the client does not take them.
    fn await_taking(&self) {
        let shared = &self.shared;
        let frames = shared.frames.borrow();
        if frames.unanswered() <= shared.working.get() {
            shared.deadlines.clear(Slot::Upstream);
        } else if !shared.deadlines.is_set(Slot::Upstream) {
            shared.taken.set(frames.answered_bytes());
            shared.deadlines.set(Slot::Upstream, shared.timeouts.body);
        }
    }

    /// Sets the deadline for what the client has to send now.
    fn await_bytes(&self) {
        let shared = &self.shared;
        let frames = shared.frames.borrow();
        let (awaited, after) = if !frames.has_begun() {
            return;
        } else if frames.is_within_head() {
            (Http2Awaited::Head, shared.timeouts.head)
        } else if frames.is_within_data() {
            (Http2Awaited::Body, shared.timeouts.body)
        } else if frames.unanswered() == 0 {
            (Http2Awaited::Request, shared.timeouts.idle)
        } else {
            shared.awaited.set(Http2Awaited::Request);
            shared.deadlines.clear(Slot::Read);
            return;
        };
        if shared.awaited.replace(awaited) != awaited || !shared.deadlines.is_set(Slot::Read) {
            shared.deadlines.set(Slot::Read, after);
        }
    }
}

/// Wraps a client's stream, whose every byte is seen by the [`Http2Watch`].
///
/// Reading fails once the client's frames are a flood. Deadlines are set here and looked at by whoever drives the
/// connection: those for reading, in [`Slot::Write`] for a socket that takes nothing, and in [`Slot::Upstream`] for
/// windows that stay shut.
#[derive(Debug)]
pub struct Http2Inbound<S> {
    stream: Rc<RefCell<S>>,
    watch: Http2Watch,
    /// Bytes that were read before, to know the protocol by.
    early: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http2Inbound<S> {
    /// Wraps a stream of which `early` was read already. The owner keeps a share, for what comes after the library.
    pub const fn new(stream: Rc<RefCell<S>>, watch: Http2Watch, early: Vec<u8>) -> Self {
        Self {
            stream,
            watch,
            early,
        }
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        let deadlines = &self.watch.shared.deadlines;
        match result {
            Poll::Ready(_) => deadlines.clear(Slot::Write),
            Poll::Pending if !deadlines.is_set(Slot::Write) => {
                deadlines.set(Slot::Write, self.watch.shared.timeouts.body);
            }
            Poll::Pending => {}
        }
        self.watch.await_bytes();
        self.watch.await_taking();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Http2Inbound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.early.is_empty() {
            let result = Pin::new(&mut *this.stream.borrow_mut()).poll_read(context, buffer);
            if result.is_pending() {
                this.watch.await_bytes();
                return result;
            }
            if let Poll::Ready(Err(error)) = result {
                return Poll::Ready(Err(error));
            }
        } else {
            let count = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early[..count]);
            this.early.drain(..count);
        }
        let fresh = &buffer.filled()[before..];
        this.watch.shared.ended.set(fresh.is_empty());
        let result = this.watch.received(fresh);
        this.watch.await_bytes();
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Http2Inbound<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut *this.stream.borrow_mut()).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = result {
            this.watch.shared.frames.borrow_mut().send(&bytes[..count]);
        }
        this.wrote(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut *this.stream.borrow_mut()).poll_write_vectored(context, slices);
        if let Poll::Ready(Ok(mut count)) = result {
            let mut frames = this.watch.shared.frames.borrow_mut();
            for slice in slices {
                let length = count.min(slice.len());
                frames.send(&slice[..length]);
                count -= length;
            }
        }
        this.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream.borrow_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream.borrow_mut()).poll_shutdown(context)
    }
}
