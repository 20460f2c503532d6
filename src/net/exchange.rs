//! One request and its response over a connection of their own, for what is asked seldom and read whole.

use std::error::Error;
use std::fmt;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why there is no response that can be read.
#[derive(Debug)]
pub struct ExchangeError(hyper::Error);

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no proper answer")
    }
}

impl Error for ExchangeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Sends a request over a stream, and reads the response up to `limit` bytes of its body; what is behind them is not
/// read. Redirections are the caller's. Takes as long as the server does: bound it.
///
/// The request is sent as it is, so it has to name its host, and to ask for the connection to be closed.
///
/// # Errors
///
/// When the connection ends or fails before the response, or within what is read of it, or when that is no HTTP/1
/// (RFC 9112).
pub async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    limit: usize,
) -> Result<Response<Bytes>, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lost = ExchangeError;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let work = async {
        let (parts, mut body) = sender
            .send_request(request)
            .await
            .map_err(lost)?
            .into_parts();
        let mut read = BytesMut::new();
        while read.len() < limit {
            let Some(frame) = body.frame().await else {
                break;
            };
            if let Ok(data) = frame.map_err(lost)?.into_data() {
                let room = limit - read.len();
                read.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
        Ok(Response::from_parts(parts, read.freeze()))
    };
    let driven = async {
        // What ends the connection early ends the exchange with an error of its own.
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        answer = work => answer,
        never = driven => never,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn answered(answer: &'static [u8], limit: usize) -> Result<Response<Bytes>, String> {
        let (client, mut server) = tokio::io::duplex(4_096);
        let serve = async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                server.read_buf(&mut head).await.unwrap();
            }
            // Whoever has read enough goes away.
            let _ = server.write_all(answer).await;
        };
        let request = Request::get("/a").body(Full::default()).unwrap();
        let (answer, ()) = tokio::join!(exchange(client, request, limit), serve);
        answer.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn body_is_read_up_to_the_limit() {
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        for (limit, body) in [(5, "abcde"), (6, "abcde"), (4, "abcd"), (3, "abc"), (0, "")] {
            assert_eq!(answered(chunked, limit).await.unwrap().body(), body);
        }
        let by_close = b"HTTP/1.1 404 No\r\n\r\nabc";
        let answer = answered(by_close, 10).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.body()[..]),
            (404, &b"abc"[..])
        );
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_error() {
        for cut in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na"[..],
            b"SSH-2.0\r\n",
            b"",
        ] {
            assert!(answered(cut, 9).await.is_err());
        }
    }
}
