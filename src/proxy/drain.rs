//! Reading what a client still sends after its answer is decided.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Buf;
use http_body::Body;
use hyper::body::Incoming;

/// Reads a body to its end and throws it away, which keeps the connection; beyond `limit` bytes it is dropped,
/// which closes the connection.
pub(super) async fn drain(mut body: Incoming, limit: u64) {
    let mut seen = 0;
    while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        seen += frame.data_ref().map_or(0, |data| data.remaining() as u64);
        if seen > limit {
            return;
        }
    }
}
