//! The proxy's side of the socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::{Kind, SidecarError};
use super::protocol::{Fault, PROTOCOL_VERSION, Reply, Request};

/// The largest answer that is read.
pub const ANSWER_LIMIT: usize = 1024 * 1024;

/// Asks one sidecar, over a connection for each request.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// A client of the sidecar at this socket, which waits for an answer for this long.
    pub fn new(path: &Path, timeout: Duration) -> Self {
        Self {
            path: path.to_owned(),
            timeout,
        }
    }

    /// Asks, and waits for the answer. Asking the same again is always safe.
    ///
    /// # Errors
    ///
    /// When the sidecar cannot be reached, refuses, does not answer in time, or not in this protocol.
    pub async fn ask(&self, request: &Request) -> Result<Reply, SidecarError> {
        match timeout(self.timeout, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(SidecarError::new(Kind::TimedOut)),
        }
    }

    async fn exchange(&self, request: &Request) -> Result<Reply, SidecarError> {
        let unreachable = |error| SidecarError::new(Kind::Unreachable(error));
        let malformed = |error| SidecarError::new(Kind::Malformed(error));
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|error| unreachable(error.into()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.into()))?;
        let request = http::Request::post(format!("/v{PROTOCOL_VERSION}/{}", request.verb()))
            .header(HOST, "sidecar")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(request.body())))
            .map_err(|error| malformed(error.into()))?;
        let exchange = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| malformed(error.into()))?;
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
            Err(SidecarError::new(Kind::Answered(
                status.as_u16(),
                fault.error,
            )))
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
}
