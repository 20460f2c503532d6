//! The proxy's side of a connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::error::{Kind, SidecarError};
use super::protocol::{Fault, PROTOCOL_VERSIONS, Reply, Request, common_version};
use crate::net::MutualClient;

/// The largest answer that is read.
pub const ANSWER_LIMIT: usize = 1024 * 1024;

/// How long a remote sidecar may take to be connected and to shake hands.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks one sidecar, over a connection for each request. Clones know the same version of the protocol.
#[derive(Clone, Debug)]
pub struct Client {
    place: Place,
    timeout: Duration,
    /// The version that the sidecar spoke last.
    version: Arc<AtomicU32>,
}

/// Where the sidecar is.
#[derive(Clone, Debug)]
enum Place {
    Address {
        host: String,
        port: u16,
        tls: MutualClient,
    },
    Socket(PathBuf),
}

impl Client {
    /// A client of the sidecar at this socket, which waits for an answer for this long.
    pub fn new(path: &Path, timeout: Duration) -> Self {
        Self::at(Place::Socket(path.to_owned()), timeout)
    }

    /// A client of the sidecar on another host, which waits for an answer for this long.
    pub fn remote(host: &str, port: u16, tls: MutualClient, timeout: Duration) -> Self {
        let host = host.to_owned();
        Self::at(Place::Address { host, port, tls }, timeout)
    }

    fn at(place: Place, timeout: Duration) -> Self {
        let newest = PROTOCOL_VERSIONS.last().copied().unwrap_or_default();
        Self {
            place,
            timeout,
            version: Arc::new(AtomicU32::new(newest)),
        }
    }

    /// Asks, and waits for the answer. Asking the same again is always safe.
    ///
    /// # Errors
    ///
    /// When the sidecar cannot be reached, refuses, does not answer in time, or not in this protocol.
    pub async fn ask(&self, request: &Request) -> Result<Reply, SidecarError> {
        match timeout(self.timeout, self.agree(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(SidecarError::new(Kind::TimedOut)),
        }
    }

    /// Asks in the version that the sidecar spoke last, and once more in another if it names one that both speak.
    async fn agree(&self, request: &Request) -> Result<Reply, SidecarError> {
        let tried = self.version.load(Ordering::Relaxed);
        let error = match self.exchange(request, tried).await {
            Err(error) => error,
            reply => return reply,
        };
        let Some(theirs) = error.versions() else {
            return Err(error);
        };
        match common_version(PROTOCOL_VERSIONS, theirs) {
            Some(version) if version != tried => {
                self.version.store(version, Ordering::Relaxed);
                self.exchange(request, version).await
            }
            _ => Err(error),
        }
    }

    async fn exchange(&self, request: &Request, version: u32) -> Result<Reply, SidecarError> {
        match &self.place {
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| {
                    SidecarError::new(Kind::Unreachable(LOCAL_HINT, error.into()))
                })?;
                exchange(stream, request, version).await
            }
            Place::Address { host, port, tls } => {
                let connect = async {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    tls.connect(stream).await
                };
                let connected = timeout(CONNECT_TIMEOUT, connect).await;
                let connected =
                    connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
                let stream = connected.map_err(|error| {
                    SidecarError::new(Kind::Unreachable(REMOTE_HINT, error.into()))
                })?;
                exchange(stream, request, version).await
            }
        }
    }
}

/// What to look at when a socket does not answer.
const LOCAL_HINT: &str = "see that it runs, and that its `users` name this process's user";

/// What to look at when an address does not answer.
const REMOTE_HINT: &str =
    "see that it runs, that its address is right, and that its certificate is the one expected";

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &Request,
    version: u32,
) -> Result<Reply, SidecarError> {
    let malformed = |error| SidecarError::new(Kind::Malformed(error));
    let broken = |error: hyper::Error| {
        SidecarError::new(match error.is_parse() {
            true => Kind::Malformed(error.into()),
            false => Kind::Lost(error.into()),
        })
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let request = http::Request::post(format!("/v{version}/{}", request.verb()))
        .header(HOST, "sidecar")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(request.body())))
        .map_err(|error| malformed(error.into()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(malformed)?
            .to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| malformed(error.into()));
        }
        let fault: Fault =
            serde_json::from_slice(&body).map_err(|error| malformed(error.into()))?;
        Err(SidecarError::new(match status {
            StatusCode::NOT_FOUND if !fault.versions.is_empty() => Kind::Version(fault.versions),
            _ => Kind::Answered(status.as_u16(), fault.error),
        }))
    };
    let driven = async {
        // What ends the connection early ends the exchange with an error of its own.
        let _ = connection.await;
        std::future::pending::<Result<Reply, SidecarError>>().await
    };
    tokio::select! {
        biased;
        answer = exchange => answer,
        never = driven => never,
    }
}
