//! Talks to the running instance over its control socket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::command::InstanceArguments;
use super::exit::{Exit, Failure, OrExit};
use super::settings::of_instance;

/// Time for an answer. A reload compiles every rule that changed.
const DEADLINE: Duration = Duration::from_secs(60);

/// The longest answer that is read.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// An instance did not do what it was asked.
#[derive(Debug)]
enum InstanceError {
    Answer(StatusCode, String),
    Deadline,
    Unreachable(PathBuf, std::io::Error),
}

impl fmt::Display for InstanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(status, text) => write!(f, "the instance answered {status}: {text}"),
            Self::Deadline => write!(
                f,
                "the instance did not answer within {} s",
                DEADLINE.as_secs()
            ),
            Self::Unreachable(path, _) => write!(
                f,
                "no instance answers at {}: start one with `stopgap run`, or name its socket with --socket",
                path.display()
            ),
        }
    }
}

impl std::error::Error for InstanceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(_, error) => Some(error),
            Self::Answer(..) | Self::Deadline => None,
        }
    }
}

/// Sends one request to the instance and returns the body of its answer.
pub(super) fn ask(
    instance: &InstanceArguments,
    method: Method,
    path: &str,
) -> Result<Vec<u8>, Failure> {
    send(instance, method, path, Vec::new())
}

/// Sends one request with a body to the instance and returns the body of its answer.
pub(super) fn send(
    instance: &InstanceArguments,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<Vec<u8>, Failure> {
    let socket = socket(instance)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::Unreachable)?;
    runtime.block_on(async {
        match tokio::time::timeout(DEADLINE, exchange(&socket, method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(Exit::Unreachable, InstanceError::Deadline)),
        }
    })
}

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<Vec<u8>, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        Failure::new(
            Exit::Unreachable,
            InstanceError::Unreachable(socket.to_owned(), error),
        )
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .or_exit(Exit::Unreachable)?;
    // Its failure is the failure of the exchange, which is told.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::new(Bytes::from(body)))
        .or_exit(Exit::Unreachable)?;
    let response = sender
        .send_request(request)
        .await
        .or_exit(Exit::Unreachable)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_LIMIT)
        .collect()
        .await
        .or_exit(Exit::Unreachable)?
        .to_bytes();
    match status.is_success() {
        true => Ok(body.to_vec()),
        false => {
            let text = String::from_utf8_lossy(&body).trim().to_owned();
            Err(Failure::new(
                Exit::Unreachable,
                InstanceError::Answer(status, text),
            ))
        }
    }
}

fn socket(instance: &InstanceArguments) -> Result<PathBuf, Failure> {
    if let Some(socket) = &instance.socket {
        return Ok(socket.clone());
    }
    let config = of_instance(instance)?;
    config.control_socket().ok_or_else(|| {
        Failure::new(
            Exit::Unreachable,
            "neither a setting nor the environment says where the state folder is: name the control socket with \
             --socket",
        )
    })
}
