//! Sending a request to one of a site's servers, and waiting for the head of its response.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use http::{Method, Request, Response};
use hyper::body::Incoming;

use super::ProxyError;
use super::balance::{Place, Servers};
use super::body::RequestBody;
use super::connect::connect;
use super::core::Core;
use super::exchange::Exchange;
use super::metrics::Retry;
use super::pool::{Sender, Server};

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
    pub(super) response: Response<Incoming>,
    pub(super) sender: Sender,
    pub(super) server: Place,
}

/// How one attempt ended without a response.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for a moment, and a box would cost every request"
)]
enum Attempt {
    Failed(Unanswered),
    /// The connection ended without a byte of a response.
    Lost(ProxyError),
    /// Nothing of the request was sent.
    Unsent(Request<RequestBody>),
}

/// Sends a request to the server that is chosen for it: on an idle connection if there is one, else on a new one; to
/// the next server if one cannot be reached.
///
/// `shared` lets it use an idle connection, rather than one that nobody has used yet.
///
/// Once anything of a request was sent it is not sent again, with one exception: a server may close an idle connection
/// at the moment it is used, so a safe request without a body that was lost on one is sent once more on a new one
/// (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).
pub(super) async fn forward(
    core: &Core,
    servers: &Servers,
    shared: bool,
    mut request: Request<RequestBody>,
    exchange: &Exchange,
) -> Result<Answer, Unanswered> {
    let now = core.clock.now();
    let meters = &core.shared.meters;
    let mut failure = None;
    let candidates = servers.candidates(exchange.client, now).await;
    for place in candidates.map_err(Unanswered::Server)? {
        while let Some(sender) = idle(&place, shared) {
            let spare = spare(&request);
            match send(sender, request, exchange).await {
                Ok(answered) => return Ok(answer(answered, place)),
                Err(Attempt::Failed(unanswered)) => return Err(failed(unanswered, &place)),
                Err(Attempt::Lost(error)) => {
                    request = spare.ok_or(Unanswered::Server(error))?;
                    meters.retry(Retry::Lost);
                    break;
                }
                Err(Attempt::Unsent(unsent)) => {
                    request = unsent;
                    meters.retry(Retry::Unsent);
                }
            }
        }
        let sender = match connect(core, &place).await {
            Ok(sender) => sender,
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
        match send(sender, request, exchange).await {
            Ok(answered) => return Ok(answer(answered, place)),
            Err(Attempt::Failed(unanswered)) => return Err(failed(unanswered, &place)),
            Err(Attempt::Lost(error)) => {
                return Err(failed(Unanswered::Server(error), &place));
            }
            Err(Attempt::Unsent(unsent)) => request = unsent,
        }
    }
    Err(Unanswered::Server(
        failure.unwrap_or_else(ProxyError::closed),
    ))
}

fn idle(server: &Server, shared: bool) -> Option<Sender> {
    if shared { server.take_idle() } else { None }
}

/// What came on a connection of this server.
fn answer((response, sender): (Response<Incoming>, Sender), place: Place) -> Answer {
    place.answered(response.status().as_u16());
    Answer {
        response,
        sender,
        server: place,
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
    mut sender: Sender,
    place: Place,
    request: Request<RequestBody>,
    exchange: &Exchange,
) -> Result<Answer, Unanswered> {
    let ready = poll_fn(|context| {
        if let Poll::Ready(ready) = sender.requests.poll_ready(context) {
            return Poll::Ready(ready.map_err(|_| Unanswered::Ended));
        }
        waited_too_long(exchange).map(Err)
    });
    ready.await?;
    match send(sender, request, exchange).await {
        Ok(answered) => Ok(answer(answered, place)),
        Err(Attempt::Failed(unanswered)) => Err(failed(unanswered, &place)),
        Err(Attempt::Lost(_) | Attempt::Unsent(_)) => Err(Unanswered::Ended),
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
    mut sender: Sender,
    request: Request<RequestBody>,
    exchange: &Exchange,
) -> Result<(Response<Incoming>, Sender), Attempt> {
    sender.busy.set(true);
    let mut response = pin!(sender.requests.try_send_request(request));
    let result = poll_fn(|context| {
        if let Poll::Ready(result) = response.as_mut().poll(context) {
            return Poll::Ready(Ok(result));
        }
        waited_too_long(exchange).map(Err)
    })
    .await;
    match result {
        Ok(Ok(response)) => {
            exchange.begin_response();
            Ok((response, sender))
        }
        Ok(Err(mut error)) => match error.take_message() {
            Some(request) => {
                sender.busy.set(false);
                Err(Attempt::Unsent(request))
            }
            None => Err(blame(error.into_error())),
        },
        Err(unanswered) => Err(Attempt::Failed(unanswered)),
    }
}

/// A copy of a request that may be sent twice. It costs about a microsecond, so only reused connections make one.
fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let is_safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let body = request.body().copy_of_none().filter(|_| is_safe)?;
    let mut copy = Request::new(body);
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    Some(copy)
}

/// Whose fault an error of the HTTP library is: that of whoever made the request body fail, or the server's.
fn blame(error: hyper::Error) -> Attempt {
    let source = std::error::Error::source(&error);
    if source.is_some_and(|source| source.is::<ProxyError>()) {
        return Attempt::Failed(Unanswered::ClientFault);
    }
    let lost =
        error.is_incomplete_message() || source.is_some_and(|source| source.is::<io::Error>());
    let error = ProxyError::exchange(error);
    if lost {
        Attempt::Lost(error)
    } else {
        Attempt::Failed(Unanswered::Server(error))
    }
}
