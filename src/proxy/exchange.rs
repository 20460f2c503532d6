//! One request and its response, from the moment the head was read.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Duration;

use super::Party;
use super::caller::Caller;
use super::core::Core;
use super::metrics::Outcome;
use super::record::{AccessEntry, Answered};
use super::request_id::RequestId;
use crate::net::{Admitted, Link, Slot};
use crate::rules::BodySkip;

/// What the parts of one exchange tell each other. It ends, and is written to the access log, when its last owner
/// drops it.
pub(super) struct Exchange {
    core: Rc<Core>,
    link: Link,
    pub(super) id: RequestId,
    /// Who the request is from.
    pub(super) caller: Rc<Caller>,
    /// Its place among the requests of a client that comes by a trusted proxy.
    place: OnceCell<Admitted>,
    access: Option<AccessEntry>,
    outcome: Cell<Outcome>,
    /// Who is at fault, if anybody is.
    party: Cell<Option<Party>>,
    status: Cell<u16>,
    bytes: Cell<u64>,
    patience: Cell<Patience>,
    request_ended: Cell<bool>,
    response_begun: Cell<bool>,
    response_ended: Cell<bool>,
    /// It is traffic, not a probe.
    counted: Cell<bool>,
}

/// How long this exchange may rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Within a body.
    pub(super) body: Duration,
    /// Before the head of the response.
    pub(super) response: Duration,
}

impl Exchange {
    pub(super) fn new(
        core: &Rc<Core>,
        link: &Link,
        id: RequestId,
        caller: Rc<Caller>,
        access: Option<AccessEntry>,
    ) -> Rc<Self> {
        let limits = &core.shared.config.limits;
        let patience = Patience {
            body: limits.body_timeout,
            response: limits.response_timeout,
        };
        Rc::new(Self {
            core: Rc::clone(core),
            link: link.clone(),
            id,
            caller,
            place: OnceCell::new(),
            access,
            outcome: Cell::new(Outcome::Failed),
            party: Cell::new(None),
            status: Cell::new(0),
            bytes: Cell::new(0),
            patience: Cell::new(patience),
            request_ended: Cell::new(false),
            response_begun: Cell::new(false),
            response_ended: Cell::new(false),
            counted: Cell::new(true),
        })
    }

    /// Counts it among the requests that its client has in progress; whether there may be one more.
    ///
    /// The connections of a proxy in front are not those of the client.
    pub(super) fn admit(&self) -> bool {
        let Some(address) = self.caller.address else {
            return true;
        };
        match self.core.shared.admission.admit_request(address) {
            Some(place) => self.place.set(place).is_ok(),
            None => false,
        }
    }

    /// Has its end not be counted: it is a probe and no traffic.
    pub(super) fn leave_uncounted(&self) {
        self.counted.set(false);
    }

    pub(super) fn set_patience(&self, patience: Patience) {
        self.patience.set(patience);
    }

    /// Lets the head of the response take this long.
    pub(super) fn set_response_timeout(&self, response: Duration) {
        let body = self.patience.get().body;
        self.patience.set(Patience { body, response });
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Says how it ends; `status` is 0 when nothing is answered.
    pub(super) fn settle(&self, outcome: Outcome, status: u16) {
        self.outcome.set(outcome);
        self.status.set(status);
    }

    /// Says whose fault it is that the client does not get what it asked for.
    pub(super) fn blame(&self, party: Party) {
        self.party.set(Some(party));
    }

    /// Counts bytes of the response body.
    pub(super) fn add_bytes(&self, count: usize) {
        self.bytes.set(self.bytes.get() + count as u64);
    }

    /// Counts a body that passed as it was although a rule wanted to rewrite it.
    pub(super) fn count_skip(&self, skip: BodySkip) {
        self.core.shared.meters.body_skip(skip);
        tracing::debug!(reason = skip.word(), request = %self.id, "a body was not rewritten");
    }

    /// It is the server's turn to take more of the request, of which so many bytes have come.
    pub(super) fn await_server(&self, count: usize) {
        self.link.got_body(count);
        if !self.is_response_in_progress() {
            self.link
                .deadlines()
                .set(Slot::Upstream, self.patience.get().body);
        }
    }

    /// It is the client's turn to send more of the request.
    pub(super) fn await_client(&self) {
        self.link.await_body(self.patience.get().body);
        if !self.is_response_in_progress() {
            self.link.deadlines().clear(Slot::Upstream);
        }
    }

    /// While a response is on its way, the deadline is about that alone.
    fn is_response_in_progress(&self) -> bool {
        self.response_begun.get() && !self.response_ended.get()
    }

    /// All of the request was sent.
    pub(super) fn end_request(&self) {
        self.request_ended.set(true);
        self.link.end_body();
        let deadlines = self.link.deadlines();
        if !self.response_begun.get() {
            deadlines.set(Slot::Upstream, self.patience.get().response);
        } else if self.response_ended.get() {
            deadlines.clear(Slot::Upstream);
        }
    }

    /// All of the response was handed over, or given up. What is left of the request still has to move on.
    pub(super) fn end_response(&self) {
        self.response_ended.set(true);
        self.link.deadlines().clear(Slot::Upstream);
        if !self.request_ended.get() {
            self.await_server(0);
        }
        self.link.finish();
    }

    /// Whether all of the request was sent.
    pub(super) fn is_request_ended(&self) -> bool {
        self.request_ended.get()
    }

    /// The head of the server's response is there.
    pub(super) fn begin_response(&self) {
        self.response_begun.set(true);
        self.link.deadlines().clear(Slot::Upstream);
    }

    /// It is the server's turn to send more of the response.
    pub(super) fn await_response(&self) {
        self.link.taken();
        let deadlines = self.link.deadlines();
        if !deadlines.is_set(Slot::Upstream) {
            deadlines.set(Slot::Upstream, self.patience.get().body);
        }
    }

    /// More of the response has come.
    pub(super) fn got_response(&self) {
        self.link.await_taking(self.patience.get().body);
        self.link.deadlines().clear(Slot::Upstream);
    }

    /// Whether the server let too much time pass.
    pub(super) fn is_server_late(&self) -> bool {
        self.link.deadlines().has_passed(Slot::Upstream)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.counted.get() {
            return;
        }
        let outcome = self.outcome.get();
        self.core.shared.meters.request(outcome);
        if let Some(entry) = &self.access {
            let answered = Answered {
                status: self.status.get(),
                bytes: self.bytes.get(),
                verdict: outcome.name(),
                party: self.party.get(),
            };
            self.core.recorder.borrow_mut().access(entry, answered);
        }
    }
}
