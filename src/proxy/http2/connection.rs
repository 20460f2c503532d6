//! One client connection that speaks HTTP/2, from its first byte to its close.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use hyper::server::conn::http2::Builder;
use hyper_util::rt::TokioIo;

use super::stream::{StreamService, Streams};
use crate::net::{Deadlines, Http2Inbound, Http2Timeouts, Http2Watch, Slot, Stream};
use crate::proxy::connection::{LAST_REQUEST, LINGER, linger};
use crate::proxy::service::Client;

/// Bytes of one request's body, and of those of a connection together, that a client may send before they were
/// taken.
const STREAM_WINDOW: u32 = 256 * 1_024;
const CONNECTION_WINDOW: u32 = 1_024 * 1_024;

/// Bytes of one answer that wait in the library for a client to take them.
const SEND_BUFFER: usize = 64 * 1_024;

/// Streams that a client may have reset before they were looked at, and that the library may have reset for what the
/// client did wrong, until the connection ends (CVE-2023-44487, CVE-2025-8671).
const PENDING_RESETS: usize = 50;
const ERROR_RESETS: usize = 100;

/// Bytes that the library counts for a field beside its own (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Bytes of answers that a client has to take within a time for bodies, or it takes nothing.
const LEAST_TAKEN: u64 = 1_024;

/// How serving ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    /// Nothing is left to say.
    Closed,
    /// The client cost too much, or let too much time pass.
    Refused,
    /// The client takes nothing.
    Stalled,
}

/// Serves one connection to its end. `early` was read from it already.
pub(in crate::proxy) async fn serve(
    client: Client,
    stream: Stream,
    early: Vec<u8>,
    deadlines: Rc<Deadlines>,
) {
    let core = Rc::clone(&client.core);
    let limits = &core.shared.config.limits;
    let timeouts = Http2Timeouts {
        body: limits.body_timeout,
        head: limits.head_timeout,
        idle: limits.idle_timeout,
    };
    let watch = Http2Watch::new(&core.clock, Rc::clone(&deadlines), timeouts);
    let stream = Rc::new(RefCell::new(stream));
    let inbound = Http2Inbound::new(Rc::clone(&stream), watch.clone(), early);
    let begun = Rc::new(Cell::new(None));
    let streams = Streams {
        begun: Rc::clone(&begun),
        watch: watch.clone(),
    };
    // Twice what a head may have, so that one which has too much is told what is wrong with it.
    let list = 2 * (limits.head.bytes + limits.head.fields * FIELD_OVERHEAD);
    let mut connection = Box::pin(
        Builder::new(streams)
            .auto_date_header(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(limits.http2_streams)
            .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
            .max_local_error_reset_streams(ERROR_RESETS)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(
                TokioIo::new(inbound),
                StreamService {
                    client: Rc::new(client),
                    begun,
                },
            ),
    );
    let mut told = false;
    let ending = poll_fn(|context| {
        deadlines.watch(context);
        if core.draining.get() && !told {
            told = true;
            connection.as_mut().graceful_shutdown();
            if !watch.is_busy() {
                deadlines.set(Slot::Read, LAST_REQUEST);
            }
        }
        if let Poll::Ready(result) = connection.as_mut().poll(context) {
            return Poll::Ready(match result {
                Err(_) if watch.is_flood() => Ending::Refused,
                _ => Ending::Closed,
            });
        }
        if deadlines.has_passed(Slot::Write) || watch.is_stalled(LEAST_TAKEN) {
            return Poll::Ready(Ending::Stalled);
        }
        match deadlines.has_passed(Slot::Read) {
            true => Poll::Ready(Ending::Refused),
            false => Poll::Pending,
        }
    })
    .await;
    let goodbye = match ending {
        Ending::Refused => watch.goodbye(),
        Ending::Closed | Ending::Stalled => Vec::new(),
    };
    // Streams that are left end with the connection; the socket stays for the last words.
    drop(connection);
    let Ok(stream) = Rc::try_unwrap(stream) else {
        return;
    };
    let mut stream = stream.into_inner();
    if ending == Ending::Stalled {
        stream.reset_when_dropped();
    } else if !watch.has_ended() {
        // A client that does not take this, or keeps sending, has had its time.
        let _ = tokio::time::timeout(LINGER, linger(&mut stream, &goodbye)).await;
    }
}
