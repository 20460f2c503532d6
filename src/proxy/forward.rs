//! Sending a request to one of a site's servers, and waiting for the head of its response.

use std::future::poll_fn;
use std::task::Poll;

use http::response;

use super::ProxyError;
use super::balance::{Place, Servers};
use super::bond::Talk;
use super::connect::connect;
use super::conversation::{Conversation, Outgoing, Unsent};
use super::core::Core;
use super::exchange::Exchange;
use super::metrics::Retry;
use super::pool::{Connection, Server};

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The client did not send its body in time.
    ClientLate,
    /// The client's body was malformed or broke off.
    ClientFault,
    /// The connection that belongs to the client ended before an answer began.
    Ended,
    /// No server answered.
    Server(ProxyError),
}

/// A response whose body has not come yet, and the connection it comes on.
pub(super) struct Answer {
    pub(super) parts: response::Parts,
    pub(super) conversation: Conversation,
    pub(super) server: Place,
}

/// The head of a response, and the exchange that goes on.
type Answered = (response::Parts, Conversation);

/// How one attempt ended without a response.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and a box would cost every request"
)]
enum Attempt {
    Failed(Unanswered),
    /// The connection ended without a byte of a response.
    Lost(ProxyError),
}

/// Sends a request to the server that is chosen for it: on an idle connection if there is one, else on a new one; to
/// the next server if one cannot be reached.
///
/// `shared` lets it use an idle connection, rather than one that nobody has used yet.
///
/// Once anything of a request was sent it is not sent again, with one exception: a server may close an idle connection
/// at the moment it is used, so a safe request without a body that was lost on one is sent once more on a new one
/// (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1). Every attempt after the first is counted here, and there are at
/// most as many as servers may be tried, and one.
pub(super) async fn forward(
    core: &Core,
    servers: &Servers,
    shared: bool,
    mut request: Outgoing,
    exchange: &Exchange,
) -> Result<Answer, Unanswered> {
    let now = core.clock.now();
    let meters = &core.shared.meters;
    let mut shared = shared;
    let mut failure = None;
    let candidates = servers.candidates(exchange.caller.address, now).await;
    for place in candidates.map_err(Unanswered::Server)? {
        if let Some(connection) = idle(&place, shared) {
            match send(connection, &mut request, exchange).await {
                Ok(answered) => return Ok(answer(answered, place)),
                Err(Attempt::Failed(unanswered)) => return Err(failed(unanswered, &place)),
                Err(Attempt::Lost(_)) if request.is_repeatable() => {
                    meters.retry(Retry::Lost);
                    // It is lost once: what follows is a new connection, of whichever server.
                    shared = false;
                }
                Err(Attempt::Lost(error)) => return Err(Unanswered::Server(error)),
            }
        }
        // In a box, so that requests on idle connections do not carry its size.
        let connection = match Box::pin(connect(core, &place)).await {
            Ok(connection) => connection,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                if place.rest(now) {
                    tracing::warn!(%error, cause, host = place.host, "server not reached");
                }
                place.failed();
                meters.retry(Retry::Unreachable);
                failure = Some(error);
                continue;
            }
        };
        place.wake();
        return match send(connection, &mut request, exchange).await {
            Ok(answered) => Ok(answer(answered, place)),
            Err(Attempt::Failed(unanswered)) => Err(failed(unanswered, &place)),
            Err(Attempt::Lost(error)) => Err(failed(Unanswered::Server(error), &place)),
        };
    }
    Err(Unanswered::Server(
        failure.unwrap_or_else(ProxyError::closed),
    ))
}

fn idle(server: &Server, shared: bool) -> Option<Connection> {
    if shared { server.take_idle() } else { None }
}

/// What came on a connection of this server.
fn answer((parts, conversation): Answered, server: Place) -> Answer {
    server.answered(parts.status.as_u16());
    Answer {
        parts,
        conversation,
        server,
    }
}

/// Counts a failure against the server whose fault it is.
fn failed(unanswered: Unanswered, place: &Place) -> Unanswered {
    if matches!(unanswered, Unanswered::Server(_)) {
        place.failed();
    }
    unanswered
}

/// Sends a request on the connection that belongs to its client, and on no other.
///
/// When that has ended, the client learns what it would have learnt from the server: its connection ends, too.
pub(super) async fn forward_bound(
    talk: &Talk,
    mut request: Outgoing,
    exchange: &Exchange,
) -> Result<Answer, Unanswered> {
    let sent = poll_fn(|context| {
        if talk.conversation.borrow_mut().poll_sent(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        waited_too_long(exchange).map(Err)
    });
    sent.await?;
    let settled = talk.conversation.borrow_mut().settle();
    let mut connection = settled.ok_or(Unanswered::Ended)?;
    if !connection.wire.is_usable() {
        return Err(Unanswered::Ended);
    }
    let server = talk.server.take().ok_or(Unanswered::Ended)?;
    match send(connection, &mut request, exchange).await {
        Ok(answered) => Ok(answer(answered, server)),
        Err(Attempt::Failed(unanswered)) => Err(failed(unanswered, &server)),
        Err(Attempt::Lost(_)) => Err(Unanswered::Ended),
    }
}

/// Whose time is over.
fn waited_too_long(exchange: &Exchange) -> Poll<Unanswered> {
    if exchange.link().is_body_late() {
        return Poll::Ready(Unanswered::ClientLate);
    }
    if exchange.is_server_late() {
        return Poll::Ready(Unanswered::Server(ProxyError::response_timeout()));
    }
    Poll::Pending
}

async fn send(
    connection: Connection,
    request: &mut Outgoing,
    exchange: &Exchange,
) -> Result<Answered, Attempt> {
    let mut conversation = Conversation::begin(connection, request);
    let result = poll_fn(|context| {
        // A server that takes no more of a request may have answered it.
        if let Poll::Ready(Err(Unsent::Client)) = conversation.poll_send(context) {
            return Poll::Ready(Err(Unanswered::ClientFault));
        }
        match conversation.poll_head(context) {
            Poll::Ready(head) => Poll::Ready(Ok(head)),
            Poll::Pending => waited_too_long(exchange).map(Err),
        }
    })
    .await;
    match result {
        Ok(Ok(parts)) => {
            exchange.begin_response();
            Ok((parts, conversation))
        }
        Ok(Err(error)) => {
            let error = ProxyError::exchange(error);
            Err(match conversation.take_back() {
                Some(head) => {
                    request.restore(head);
                    Attempt::Lost(error)
                }
                None => Attempt::Failed(Unanswered::Server(error)),
            })
        }
        Err(unanswered) => Err(Attempt::Failed(unanswered)),
    }
}
