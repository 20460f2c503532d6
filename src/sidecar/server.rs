//! The agent's side of a connection: who asks, within which limits, and the answer.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::agent::Agent;
use super::error::{Kind, SidecarError};
use super::protocol::{Fault, PROTOCOL_VERSIONS, Request};
use super::socket::AgentSocket;
use crate::net::{self, MutualServer};

/// The largest body that is taken: an order with every action that fits, several times.
pub const BODY_LIMIT: usize = 64 * 1024;

/// How long a request, head and body, may take to arrive.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an order may take before the answer is that it is still being carried out.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// Connections served at once; more wait to be accepted.
pub const CONNECTION_LIMIT: usize = 16;

/// TLS handshakes of remote proxies under way at once, beside the connections; more wait to be accepted.
pub const HANDSHAKE_LIMIT: usize = 64;

/// Where the agent is asked.
#[derive(Debug)]
pub enum AgentListener {
    /// By remote proxies that it knows by their certificates.
    Address(AgentAddress),
    /// By processes of this host that it knows by their users.
    Socket(AgentSocket),
}

impl From<AgentSocket> for AgentListener {
    fn from(socket: AgentSocket) -> Self {
        Self::Socket(socket)
    }
}

impl From<AgentAddress> for AgentListener {
    fn from(address: AgentAddress) -> Self {
        Self::Address(address)
    }
}

/// A bound TCP address, with what makes clients known.
#[derive(Debug)]
pub struct AgentAddress {
    listener: TcpListener,
    tls: MutualServer,
}

impl AgentAddress {
    /// Listens at `address`; port 0 takes a free one. Needs a runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub fn bind(address: SocketAddr, tls: MutualServer) -> Result<Self, SidecarError> {
        let failed = |error| SidecarError::new(Kind::Address(address, error));
        let listener = net::listen(address).map_err(failed)?;
        Ok(Self { listener, tls })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves the agent until `stopped`.
pub async fn serve(
    listener: impl Into<AgentListener>,
    agent: Arc<Agent>,
    stopped: impl Future<Output = ()>,
) {
    let accept = async {
        match listener.into() {
            AgentListener::Address(address) => serve_address(address, agent).await,
            AgentListener::Socket(socket) => serve_socket(socket, agent).await,
        }
    };
    tokio::select! {
        () = accept => {}
        () = stopped => {}
    }
}

async fn serve_socket(socket: AgentSocket, agent: Arc<Agent>) {
    let permits = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    let users = socket.users;
    let (listener, _file) = socket.socket.into_parts();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let Some((stream, _)) = accepted(listener.accept().await).await else {
            continue;
        };
        let (agent, known) = (Arc::clone(&agent), is_known(&stream, &users));
        tokio::spawn(async move {
            bounded(stream, agent, known).await;
            drop(permit);
        });
    }
}

async fn serve_address(address: AgentAddress, agent: Arc<Agent>) {
    let permits = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKE_LIMIT));
    loop {
        // Whoever has no certificate of ours takes no place from those that have.
        let handshake = Arc::clone(&handshakes).acquire_owned().await;
        let Some((stream, peer)) = accepted(address.listener.accept().await).await else {
            continue;
        };
        let (agent, tls, permits) = (
            Arc::clone(&agent),
            address.tls.clone(),
            Arc::clone(&permits),
        );
        tokio::spawn(async move {
            let stream = match timeout(REQUEST_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::warn!(%peer, %error, "a remote peer was refused");
                    return;
                }
                Err(_) => return,
            };
            let permit = permits.acquire_owned().await;
            drop(handshake);
            bounded(stream, agent, true).await;
            drop(permit);
        });
    }
}

/// What was accepted; nothing, after a while, when nothing could be.
async fn accepted<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            // Out of file descriptors, most likely: trying again at once would only spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn bounded(stream: impl AsyncRead + AsyncWrite + Unpin, agent: Arc<Agent>, known: bool) {
    let served = timeout(ANSWER_TIMEOUT * 2, connection(stream, agent, known)).await;
    if let Ok(Err(error)) = served {
        tracing::debug!(%error, "a connection ended early");
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
    stream: impl AsyncRead + AsyncWrite + Unpin,
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
    let Some(verb) = verb(request.uri().path()).map(str::to_owned) else {
        let newest = PROTOCOL_VERSIONS.last().unwrap_or(&0);
        let fault = Fault {
            error: format!("the protocol has another version: its paths begin with /v{newest}/"),
            versions: PROTOCOL_VERSIONS.to_vec(),
        };
        return json(StatusCode::NOT_FOUND, &fault);
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

/// The verb in a path of a version that is spoken here.
fn verb(path: &str) -> Option<&str> {
    let (version, verb) = path.strip_prefix("/v")?.split_once('/')?;
    let spoken = PROTOCOL_VERSIONS
        .iter()
        .any(|known| known.to_string() == version);
    spoken.then_some(verb)
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
    let (error, versions) = (error.into(), Vec::new());
    json(status, &Fault { error, versions })
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
