//! Serves a client that speaks HTTP/1.1: its requests, one after the other.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::Body as _;

use super::body::{ClientBody, ResponseBody};
use super::connection::LAST_REQUEST;
use super::metrics::Counted;
use super::service::{Answered, Begun, Client};
use crate::net::{
    Awaited, IncomingBody, Link, RequestFraming, RequestHead, ServerConnection, Slot,
};

/// How long a client that let its body rest gets to take the answer to that.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// How serving ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    /// Nothing is left to say.
    Closed,
    /// Something went wrong within a response, which the client must not take for its end.
    Broken,
    /// The rest of a head did not come in time.
    HeadLate,
    /// There was nothing to do for too long.
    Idle,
}

/// How far the connection is.
enum Stage {
    /// Before a request.
    Request,
    /// A server has to answer.
    Answering(Pin<Box<dyn Future<Output = Answered>>>),
    /// A response is on its way; none of it was sent so far if it is `fresh`.
    Sending { body: ResponseBody, fresh: bool },
    /// All of the response was handed over.
    Ending,
}

/// A connection at work.
struct Serving<'a> {
    client: &'a Rc<Client>,
    wire: &'a Rc<RefCell<ServerConnection>>,
    stage: Stage,
    /// The proxy drains, and a request that may be on its way has a moment.
    hurried: bool,
    /// The client was given its last time for an answer.
    last_answer: bool,
    /// Counts the connection among those at rest.
    resting: Option<Counted>,
}

/// Serves requests until nothing more can come, or has to.
pub(super) async fn serve(client: &Rc<Client>, wire: &Rc<RefCell<ServerConnection>>) -> Ending {
    let mut serving = Serving {
        client,
        wire,
        stage: Stage::Request,
        hurried: false,
        last_answer: false,
        resting: None,
    };
    poll_fn(|context| serving.poll(context)).await
}

impl Serving<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ending> {
        let link = &self.client.link;
        link.deadlines().watch(context);
        if let Poll::Ready(ending) = self.poll_stages(context) {
            return Poll::Ready(ending);
        }
        if self.client.core.draining.get() {
            self.hurry();
        }
        // What belongs to one client does not outlive it, nor the client that.
        if self.client.bonds.poll_ended(context) && !link.is_busy() {
            return Poll::Ready(Ending::Closed);
        }
        if link.deadlines().has_passed(Slot::Rest) {
            self.rest();
        } else if link.awaited() == Awaited::Head {
            self.resting = None;
        }
        overdue(link, &mut self.last_answer)
    }

    fn poll_stages(&mut self, context: &mut Context<'_>) -> Poll<Ending> {
        loop {
            match &mut self.stage {
                Stage::Request => {
                    let next = self.wire.borrow_mut().poll_request(context);
                    match ready!(next) {
                        Ok(Some((head, framing))) => {
                            self.resting = None;
                            if let Err(ending) = self.begin(head, framing) {
                                return Poll::Ready(ending);
                            }
                        }
                        Ok(None) | Err(_) => return Poll::Ready(Ending::Closed),
                    }
                }
                Stage::Answering(answering) => match answering.as_mut().poll(context) {
                    Poll::Ready(answered) => {
                        if let Err(ending) = self.answer(answered) {
                            return Poll::Ready(ending);
                        }
                    }
                    Poll::Pending => {
                        ready!(self.wire.borrow_mut().poll_gone(context));
                        return Poll::Ready(Ending::Closed);
                    }
                },
                Stage::Sending { body, fresh } => {
                    match ready!(poll_sending(self.wire, body, fresh, context)) {
                        Ok(()) => self.stage = Stage::Ending,
                        Err(ending) => return Poll::Ready(ending),
                    }
                }
                Stage::Ending => {
                    let mut wire = self.wire.borrow_mut();
                    if ready!(wire.poll_send(context)).is_err() {
                        return Poll::Ready(Ending::Broken);
                    }
                    self.client.link.flushed();
                    if self.client.tunnel.borrow().is_some() {
                        return Poll::Ready(Ending::Closed);
                    }
                    let limit = self.client.core.shared.config.limits.drained_body;
                    if !ready!(wire.poll_end(context, limit)) {
                        return Poll::Ready(Ending::Closed);
                    }
                    self.stage = Stage::Request;
                }
            }
        }
    }

    fn begin(&mut self, head: RequestHead, framing: RequestFraming) -> Result<(), Ending> {
        let client = self.client;
        client.link.begin();
        let body = match framing {
            RequestFraming::Length(0) => ClientBody::None,
            _ => ClientBody::Http1(IncomingBody::of(self.wire)),
        };
        match client.begin(head, body) {
            Ok(Begun::Answered(reply)) => self.answer(Ok(reply)),
            Ok(Begun::Forward(errand)) => {
                let client = Rc::clone(client);
                self.stage = Stage::Answering(Box::pin(async move { client.run(errand).await }));
                Ok(())
            }
            Err(reset) => self.answer(Err(reset)),
        }
    }

    fn answer(&mut self, answered: Answered) -> Result<(), Ending> {
        self.client.link.respond();
        let Ok(reply) = answered else {
            return Err(Ending::Broken);
        };
        let drains = self.client.core.draining.get() && self.client.tunnel.borrow().is_none();
        let length = reply.body.size_hint().exact();
        let last = reply.last || drains;
        self.wire.borrow_mut().respond(&reply.head, length, last);
        self.stage = Stage::Sending {
            body: reply.body,
            fresh: true,
        };
        Ok(())
    }

    /// A proxy that drains lets the exchange in progress end, and gives a request that may be on its way a moment.
    fn hurry(&mut self) {
        let link = &self.client.link;
        let waits = matches!(link.awaited(), Awaited::First | Awaited::Request);
        if waits && !link.is_busy() && !std::mem::replace(&mut self.hurried, true) {
            link.deadlines().set(Slot::Read, LAST_REQUEST);
        }
    }

    /// There was nothing to do for a moment: goes on with as little memory as can be.
    fn rest(&mut self) {
        let (link, core) = (&self.client.link, &self.client.core);
        link.deadlines().clear(Slot::Rest);
        if link.is_busy() || !matches!(link.awaited(), Awaited::First | Awaited::Request) {
            return;
        }
        self.wire.borrow_mut().shrink();
        self.client.recent.borrow_mut().forget();
        core.rested.set(core.rested.get() + 1);
        self.resting = Some(core.shared.meters.resting());
    }
}

/// Hands a response over, piece by piece.
fn poll_sending(
    wire: &RefCell<ServerConnection>,
    body: &mut ResponseBody,
    fresh: &mut bool,
    context: &mut Context<'_>,
) -> Poll<Result<(), Ending>> {
    loop {
        // What has arrived of the body leaves together with the head.
        if !std::mem::take(fresh) && ready!(wire.borrow_mut().poll_send(context)).is_err() {
            return Poll::Ready(Err(Ending::Broken));
        }
        if body.is_end_stream() {
            let ended = wire.borrow_mut().push_end();
            return Poll::Ready(ended.map_err(|_| Ending::Broken));
        }
        let next = Pin::new(&mut *body).poll_frame(context);
        let mut wire = wire.borrow_mut();
        let pushed = match next {
            Poll::Ready(Some(Ok(frame))) => wire.push(frame),
            Poll::Ready(None) => {
                let ended = wire.push_end();
                return Poll::Ready(ended.map_err(|_| Ending::Broken));
            }
            Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Ending::Broken)),
            Poll::Pending => {
                let sent = wire.poll_send(context);
                let gone = wire.poll_gone(context);
                return match (sent, gone) {
                    (Poll::Ready(Err(_)), _) | (_, Poll::Ready(())) => {
                        Poll::Ready(Err(Ending::Broken))
                    }
                    _ => Poll::Pending,
                };
            }
        };
        if pushed.is_err() {
            return Poll::Ready(Err(Ending::Broken));
        }
    }
}

/// Looks at the deadlines after the connection had its turn.
fn overdue(link: &Link, last_answer: &mut bool) -> Poll<Ending> {
    let deadlines = link.deadlines();
    if deadlines.has_passed(Slot::Write)
        || (deadlines.has_passed(Slot::Upstream) && !link.is_busy())
    {
        return Poll::Ready(Ending::Broken);
    }
    if !deadlines.has_passed(Slot::Read) {
        return Poll::Pending;
    }
    match link.awaited() {
        Awaited::First | Awaited::Request if !link.is_busy() => Poll::Ready(Ending::Idle),
        Awaited::Head if !link.is_busy() => Poll::Ready(Ending::HeadLate),
        Awaited::Body if std::mem::replace(last_answer, true) => Poll::Ready(Ending::Broken),
        Awaited::Body => {
            // The service saw the same deadline; what it answered has this long to leave.
            deadlines.set(Slot::Read, LAST_ANSWER);
            Poll::Pending
        }
        // A half-closed client, whose end the connection looks for.
        Awaited::First | Awaited::Head | Awaited::Request => Poll::Pending,
    }
}
