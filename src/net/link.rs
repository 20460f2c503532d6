//! What the transport and the service of one client connection tell each other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::clock::{Deadlines, Registration, Slot};
use super::framing::Malformed;
use super::pace::Pace;

/// The state that a [`ServerConnection`](super::ServerConnection) shares with whoever answers its requests.
///
/// An exchange begins when a request head has been handed over and ends when the last byte of its response was
/// given to the kernel. Clones share the state.
#[derive(Clone, Debug)]
pub struct Link {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    deadlines: Rc<Deadlines>,
    phase: Cell<Phase>,
    awaited: Cell<Awaited>,
    malformed: Cell<Option<Malformed>>,
    reset: Cell<bool>,
    body_timeout: Cell<Option<Duration>>,
    /// Of one stream among several on its connection, which has deadlines of its own.
    stream: Option<StreamState>,
}

/// What a stream has beside what a connection has.
#[derive(Debug)]
struct StreamState {
    _registration: Registration,
    /// How fast its request body has to come.
    reading: RefCell<Pace>,
}

/// How far the current exchange is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// No request is being answered.
    Idle,
    /// A request is being answered, its response has not begun.
    Answering,
    /// The head of the response was handed over.
    Responding,
    /// All of the response was handed over, some of it may still wait to be sent.
    Flushing,
}

/// What the read deadline is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Awaited {
    /// More of a request body.
    Body,
    /// The first byte of a new connection.
    First,
    /// The rest of a request head.
    Head,
    /// A next request.
    Request,
}

impl Link {
    /// The link of a new connection.
    pub fn new(deadlines: Rc<Deadlines>) -> Self {
        Self::with(deadlines, None)
    }

    /// The link of one stream among several on its connection. `least` bytes of its request body have to come within the
    /// time for one, unless it has a time of its own.
    pub fn of_stream(deadlines: Rc<Deadlines>, registration: Registration, least: usize) -> Self {
        let state = StreamState {
            _registration: registration,
            reading: RefCell::new(Pace::new(Slot::Read, least)),
        };
        Self::with(deadlines, Some(state))
    }

    fn with(deadlines: Rc<Deadlines>, stream: Option<StreamState>) -> Self {
        Self {
            shared: Rc::new(Shared {
                deadlines,
                phase: Cell::new(Phase::Idle),
                awaited: Cell::new(Awaited::First),
                malformed: Cell::new(None),
                reset: Cell::new(false),
                body_timeout: Cell::new(None),
                stream,
            }),
        }
    }

    /// The deadlines of the connection.
    pub fn deadlines(&self) -> &Deadlines {
        &self.shared.deadlines
    }

    /// An exchange begins.
    pub fn begin(&self) {
        self.shared.phase.set(Phase::Answering);
        self.shared.body_timeout.set(None);
        if self.shared.awaited.get() != Awaited::Body {
            self.deadlines().clear(Slot::Read);
        }
    }

    /// The head of the response is handed over.
    pub fn respond(&self) {
        self.shared.phase.set(Phase::Responding);
    }

    /// All of the response is handed over.
    pub fn finish(&self) {
        if self.shared.phase.get() == Phase::Responding {
            self.shared.phase.set(Phase::Flushing);
        }
    }

    /// Everything handed over was sent.
    pub fn flushed(&self) {
        if self.shared.phase.get() == Phase::Flushing {
            self.shared.phase.set(Phase::Idle);
        }
    }

    /// Whether an exchange is in progress.
    pub fn is_busy(&self) -> bool {
        self.shared.phase.get() != Phase::Idle
    }

    /// Whether the response of the current exchange has begun.
    pub fn is_responding(&self) -> bool {
        matches!(self.shared.phase.get(), Phase::Responding | Phase::Flushing)
    }

    /// What the read deadline is about.
    pub fn awaited(&self) -> Awaited {
        self.shared.awaited.get()
    }

    pub(super) fn set_awaited(&self, awaited: Awaited) {
        self.shared.awaited.set(awaited);
    }

    /// It is the client's turn to send more of the body of a stream, within this time.
    pub fn await_body(&self, timeout: Duration) {
        if let Some(stream) = &self.shared.stream
            && !self.deadlines().is_set(Slot::Read)
        {
            self.set_awaited(Awaited::Body);
            stream.reading.borrow_mut().wait(self.deadlines(), timeout);
        }
    }

    /// So many bytes more of the body of a stream have come.
    pub fn got_body(&self, count: usize) {
        if let Some(stream) = &self.shared.stream {
            let mut reading = stream.reading.borrow_mut();
            reading.moved(self.deadlines(), count);
            if self.body_timeout().is_some() {
                reading.reset();
            }
        }
    }

    /// The whole body of a stream has come.
    pub fn end_body(&self) {
        if self.shared.stream.is_some() {
            self.deadlines().clear(Slot::Read);
        }
    }

    /// The client of a stream has this time to take what was handed over.
    pub fn await_taking(&self, timeout: Duration) {
        if self.shared.stream.is_some() {
            self.deadlines().set(Slot::Write, timeout);
        }
    }

    /// The client of a stream took what was handed over.
    pub fn taken(&self) {
        if self.shared.stream.is_some() {
            self.deadlines().clear(Slot::Write);
        }
    }

    /// Whether the client let a body rest for too long.
    pub fn is_body_late(&self) -> bool {
        self.awaited() == Awaited::Body && self.deadlines().has_passed(Slot::Read)
    }

    /// Lets the body of the current request rest for another time than usual.
    pub fn set_body_timeout(&self, timeout: Duration) {
        self.shared.body_timeout.set(Some(timeout));
    }

    pub(super) fn body_timeout(&self) -> Option<Duration> {
        self.shared.body_timeout.get()
    }

    /// What was wrong with the client's bytes, once something was.
    pub fn malformed(&self) -> Option<Malformed> {
        self.shared.malformed.get()
    }

    pub(super) fn set_malformed(&self, malformed: Malformed) {
        self.shared.malformed.set(Some(malformed));
    }

    /// Has the connection closed by a reset, with nothing more sent.
    pub fn reset(&self) {
        self.shared.reset.set(true);
    }

    /// Whether the connection is to be closed by a reset.
    pub fn is_reset(&self) -> bool {
        self.shared.reset.get()
    }
}
