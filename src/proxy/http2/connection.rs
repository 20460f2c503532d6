//! One client connection that speaks HTTP/2, from its first byte to its close.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::stream;
use crate::net::{Deadlines, Http2Inbound, Http2Server, Http2Timeouts, Http2Watch, Slot, Stream};
use crate::proxy::connection::{LAST_REQUEST, LINGER, linger};
use crate::proxy::service::Client;

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
    // Twice what a head may have, so that one which has too much is told what is wrong with it.
    let list = 2 * (limits.head.bytes + limits.head.fields * FIELD_OVERHEAD);
    let list = u32::try_from(list).unwrap_or(u32::MAX);
    let mut server = Http2Server::new(inbound, limits.http2_streams, list);
    let mut told = false;
    let ending = poll_fn(|context| {
        deadlines.watch(context);
        if core.draining.get() && !told {
            told = true;
            server.close();
            if !watch.is_busy() {
                deadlines.set(Slot::Read, LAST_REQUEST);
            }
        }
        while let Poll::Ready(request) = server.poll_request(context) {
            match request {
                Some(request) => stream::serve(&client, &watch, request, context),
                None if watch.is_flood() => return Poll::Ready(Ending::Refused),
                None => return Poll::Ready(Ending::Closed),
            }
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
    drop(server);
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
