//! The agent's side of the socket: who asks, within which limits, and the answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::agent::Agent;
use super::protocol::{Fault, PROTOCOL_VERSION, Request};
use super::socket::AgentSocket;

/// The largest body that is taken: an order with every action that fits, several times.
pub const BODY_LIMIT: usize = 64 * 1024;

/// How long a request, head and body, may take to arrive.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an order may take before the answer is that it is still being carried out.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Connections served at once; more wait to be accepted.
pub const CONNECTION_LIMIT: usize = 16;

/// Serves the agent on the socket until `stopped`.
pub async fn serve(socket: AgentSocket, agent: Arc<Agent>, stopped: impl Future<Output = ()>) {
    let permits = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    let users = socket.users;
    let (listener, _file) = socket.socket.into_parts();
    let accept = async {
        loop {
            let permit = Arc::clone(&permits).acquire_owned().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of file descriptors, most likely: trying again at once would only spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (agent, known) = (Arc::clone(&agent), is_known(&stream, &users));
            tokio::spawn(async move {
                let served = timeout(ANSWER_TIMEOUT * 2, connection(stream, agent, known)).await;
                if let Ok(Err(error)) = served {
                    tracing::debug!(%error, "a connection ended early");
                }
                drop(permit);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = stopped => {}
    }
}

/// Whether the kernel says that the other side is one of the users.
fn is_known(stream: &UnixStream, users: &[u32]) -> bool {
    match stream.peer_cred() {
        Ok(peer) if users.contains(&peer.uid()) => true,
        Ok(peer) => {
            tracing::warn!(
                user = peer.uid(),
                process = peer.pid(),
                "a process of another user was refused"
            );
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a process without credentials was refused");
            false
        }
    }
}

async fn connection(
    stream: UnixStream,
    agent: Arc<Agent>,
    known: bool,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let agent = Arc::clone(&agent);
        async move {
            Ok::<_, Infallible>(match known {
                true => answer(request, agent).await,
                false => fault(
                    StatusCode::FORBIDDEN,
                    "this user may not ask: add it to `users` in the sidecar's settings",
                ),
            })
        }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(BODY_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(request: http::Request<Incoming>, agent: Arc<Agent>) -> Response<Full<Bytes>> {
    let prefix = format!("/v{PROTOCOL_VERSION}/");
    let Some(verb) = request
        .uri()
        .path()
        .strip_prefix(&prefix)
        .map(str::to_owned)
    else {
        let text = format!("this sidecar speaks version {PROTOCOL_VERSION}, below {prefix}");
        return fault(StatusCode::NOT_FOUND, text);
    };
    if request.method() != Method::POST {
        return fault(StatusCode::METHOD_NOT_ALLOWED, "every verb is a POST");
    }
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect();
    let body = match timeout(REQUEST_TIMEOUT, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let text = format!("the body is cut short, or longer than {BODY_LIMIT} bytes");
            return fault(StatusCode::PAYLOAD_TOO_LARGE, text);
        }
        Err(_) => return fault(StatusCode::REQUEST_TIMEOUT, "the body came too slowly"),
    };
    let request = match Request::read(&verb, &body) {
        Ok(Some(request)) => request,
        Ok(None) => return fault(StatusCode::NOT_FOUND, format!("there is no verb {verb:?}")),
        Err(error) => return fault(StatusCode::BAD_REQUEST, error.to_string()),
    };
    carry_out(request, agent).await
}

/// In a task of its own, so that whoever asked may go away while the order is carried out to its end.
async fn carry_out(request: Request, agent: Arc<Agent>) -> Response<Full<Bytes>> {
    let verb = request.verb();
    let order = tokio::spawn(async move { agent.answer(request).await });
    match timeout(ANSWER_TIMEOUT, order).await {
        Ok(Ok(Ok(reply))) => json(StatusCode::OK, &reply),
        Ok(Ok(Err(error))) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                verb,
                "not carried out"
            );
            fault(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
        Ok(Err(_)) => fault(StatusCode::INTERNAL_SERVER_ERROR, "the order ended early"),
        Err(_) => fault(
            StatusCode::GATEWAY_TIMEOUT,
            "the order is still being carried out; ask again",
        ),
    }
}

fn fault(status: StatusCode, error: impl Into<String>) -> Response<Full<Bytes>> {
    let error = error.into();
    json(status, &Fault { error })
}

fn json(status: StatusCode, content: &impl Serialize) -> Response<Full<Bytes>> {
    let body =
        serde_json::to_vec(content).expect("answers have only text keys and write to memory");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
