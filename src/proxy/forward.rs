//! Sending a request to one of a site's servers, and waiting for the head of its response.

use std::future::poll_fn;
use std::task::Poll;

use super::ProxyError;
use super::balance::{Place, Servers};
use super::bond::Talk;
use super::connect::connect;
use super::conversation::{Conversation, Outgoing, Unsent};
use super::core::Core;
use super::exchange::Exchange;
use super::metrics::Retry;
use super::pool::{Connection, Server};
use super::sessions::Way;
use crate::net::{ResponseError, ResponseHead};

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
    pub(super) head: ResponseHead,
    pub(super) conversation: Conversation,
    pub(super) server: Place,
}

/// The head of a response, and the exchange that goes on.
type Answered = (ResponseHead, Conversation);

/// How one attempt ended without a response.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and a box would cost every request"
)]
enum Attempt {
    Failed(Unanswered),
    /// The connection ended without a byte of a response.
    Lost(ProxyError),
    /// There is no connection.
    Unreachable(ProxyError),
}

/// Times that a request is given to a server by HTTP/2 before it counts as lost.
const ATTEMPTS: usize = 3;

/// What a request may share a connection with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sharing {
    /// Nothing, ever: it gets a connection that nobody has used yet.
    Nothing,
    /// Requests before it and behind it.
    Pool,
    /// Requests at the same time, too.
    Streams,
}

/// Sends a request to the server that is chosen for it: on a connection that is open if there is one, else on a new
/// one; to the next server if one cannot be reached.
///
/// Once anything of a request was sent it is not sent again, with these exceptions: a server may close an idle
/// connection at the moment it is used, so a safe request without a body that was lost on one is sent once more on a
/// new one (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1); and a server may say that it did nothing with a request,
/// which is sent once more then if its body is whole (RFC 9113 section 8.7). Every attempt after the first is counted
/// here, and there are at most as many as servers may be tried, and two.
pub(super) async fn forward(
    core: &Core,
    servers: &Servers,
    sharing: Sharing,
    mut request: Outgoing,
    exchange: &Exchange,
) -> Result<Answer, Unanswered> {
    let now = core.clock.now();
    let meters = &core.shared.meters;
    let mut shared = sharing != Sharing::Nothing;
    let mut failure = None;
    let candidates = servers.candidates(exchange.caller.address, now).await;
    for place in candidates.map_err(Unanswered::Server)? {
        if sharing == Sharing::Streams && place.http2.is_some() {
            // In a box, so that requests by HTTP/1.1 do not carry its size.
            match Box::pin(forward_by_http2(core, &place, &mut request, exchange)).await {
                Ok(Some(answered)) => return Ok(answer(answered, place)),
                // It speaks HTTP/1.1.
                Ok(None) => {}
                Err(Attempt::Failed(unanswered)) => return Err(failed(unanswered, &place)),
                Err(Attempt::Lost(error)) => return Err(failed(Unanswered::Server(error), &place)),
                Err(Attempt::Unreachable(error)) => {
                    failure = Some(unreachable(core, &place, error));
                    continue;
                }
            }
        }
        if let Some(connection) = idle(&place, shared) {
            match send(connection, &mut request, exchange).await {
                Ok(answered) => return Ok(answer(answered, place)),
                Err(Attempt::Failed(unanswered)) => return Err(failed(unanswered, &place)),
                Err(Attempt::Lost(_)) if request.is_repeatable() => {
                    meters.retry(Retry::Lost);
                    // It is lost once: what follows is a new connection, of whichever server.
                    shared = false;
                }
                Err(Attempt::Lost(error) | Attempt::Unreachable(error)) => {
                    return Err(Unanswered::Server(error));
                }
            }
        }
        // In a box, so that requests on idle connections do not carry its size.
        let connection = match Box::pin(connect(core, &place)).await {
            Ok(connection) => connection,
            Err(error) => {
                failure = Some(unreachable(core, &place, error));
                continue;
            }
        };
        place.wake();
        return match send(connection, &mut request, exchange).await {
            Ok(answered) => Ok(answer(answered, place)),
            Err(Attempt::Failed(unanswered)) => Err(failed(unanswered, &place)),
            Err(Attempt::Lost(error) | Attempt::Unreachable(error)) => {
                Err(failed(Unanswered::Server(error), &place))
            }
        };
    }
    Err(Unanswered::Server(
        failure.unwrap_or_else(ProxyError::closed),
    ))
}

/// Counts a server that cannot be reached, and says so if that is news.
fn unreachable(core: &Core, place: &Place, error: ProxyError) -> ProxyError {
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    if place.rest(core.clock.now()) {
        tracing::warn!(%error, cause, host = place.host, "server not reached");
    }
    place.failed();
    core.shared.meters.retry(Retry::Unreachable);
    error
}

/// Sends a request on a stream of a connection by HTTP/2, to a server that is spoken to by that; `None` when it is to
/// be sent by HTTP/1.1.
async fn forward_by_http2(
    core: &Core,
    place: &Place,
    request: &mut Outgoing,
    exchange: &Exchange,
) -> Result<Option<Answered>, Attempt> {
    let Some(sessions) = &place.http2 else {
        return Ok(None);
    };
    let meters = &core.shared.meters;
    let mut left = ATTEMPTS;
    loop {
        if sessions.wants_http1(core.clock.now()) {
            return Ok(None);
        }
        let way = sessions.way(core, place).await;
        let session = match way.map_err(Attempt::Unreachable)? {
            Way::Stream(session) => session,
            Way::Own(connection) => {
                place.wake();
                return send(connection, request, exchange).await.map(Some);
            }
        };
        place.wake();
        let (error, untouched) =
            match Conversation::begin_stream(&session, sessions.scheme(), request) {
                Err(error) => (error, true),
                Ok(mut conversation) => match converse(&mut conversation, exchange).await {
                    Ok(Ok(head)) => {
                        exchange.begin_response();
                        return Ok(Some((head, conversation)));
                    }
                    Ok(Err(error)) => {
                        let untouched = conversation.give_back(request);
                        (error, untouched)
                    }
                    Err(unanswered) => {
                        if matches!(unanswered, Unanswered::Server(_)) {
                            conversation.suspect();
                        }
                        return Err(Attempt::Failed(unanswered));
                    }
                },
            };
        let unprocessed = error.is_unprocessed();
        let wants_http1 = error.needs_http1();
        if wants_http1 {
            sessions.avoid(core.clock.now());
        }
        let may = untouched && (unprocessed || wants_http1 || request.is_repeatable());
        left -= 1;
        if !may || left == 0 {
            return Err(Attempt::Lost(ProxyError::exchange(error)));
        }
        meters.retry(match unprocessed || wants_http1 {
            true => Retry::Refused,
            false => Retry::Lost,
        });
    }
}

fn idle(server: &Server, shared: bool) -> Option<Connection> {
    if shared { server.take_idle() } else { None }
}

/// What came on a connection of this server.
fn answer((head, conversation): Answered, server: Place) -> Answer {
    server.answered(head.status().as_u16());
    Answer {
        head,
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
        Err(Attempt::Lost(_) | Attempt::Unreachable(_)) => Err(Unanswered::Ended),
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
    let result = converse(&mut conversation, exchange).await;
    match result {
        Ok(Ok(head)) => {
            exchange.begin_response();
            Ok((head, conversation))
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

/// Sends the request and waits for the head of its response.
async fn converse(
    conversation: &mut Conversation,
    exchange: &Exchange,
) -> Result<Result<ResponseHead, ResponseError>, Unanswered> {
    poll_fn(|context| {
        // A server that takes no more of a request may have answered it.
        if let Poll::Ready(Err(Unsent::Client)) = conversation.poll_send(context) {
            return Poll::Ready(Err(Unanswered::ClientFault));
        }
        match conversation.poll_head(context) {
            Poll::Ready(head) => Poll::Ready(Ok(head)),
            Poll::Pending => waited_too_long(exchange).map(Err),
        }
    })
    .await
}
