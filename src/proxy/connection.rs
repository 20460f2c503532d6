//! One client connection, from accept to close.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Party;
use super::bond::Bonds;
use super::caller::Caller;
use super::core::Core;
use super::http1::{self, Ending};
use super::http2;
use super::metrics::{Outcome, Reason};
use super::record::{AccessEntry, Answered};
use super::respond;
use super::service::Client;
use super::upgrade;
use super::worker::Terms;
use crate::net::{
    self, Admitted, Deadlines, HTTP2_PREFACE, Link, Malformed, ProxiedEnds, ServerConnection,
    ServerSettings, ServerTimeouts, Slot, Socket, Stream, TlsServer,
};
use crate::rules::Recent;

/// How long, and for how many bytes, a closed connection is read on, so that what was sent last is not lost to a
/// reset (RFC 9112 section 9.6).
pub(super) const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1_024;

/// Bytes of its last request that a connection by HTTP/2 may keep while it has nothing to do.
const RESTING_BYTES: usize = 4 * 1_024;

/// How long a connection may still take for a request once the proxy drains.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(1);

/// The addresses of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) remote: Option<SocketAddr>,
    pub(super) local: Option<SocketAddr>,
}

/// Shakes hands with a client; `None` when that fails, or takes longer than a head may.
pub(super) async fn secure(core: &Core, tls: &TlsServer, socket: Socket) -> Option<Stream> {
    // Being registered keeps a proxy that drains from ending before this does.
    let (deadlines, _registration) = core.clock.register();
    deadlines.set(Slot::Read, core.shared.config.limits.head_timeout);
    let mut accept = pin!(tls.accept(socket));
    let accepted = poll_fn(|context| {
        deadlines.watch(context);
        match accept.as_mut().poll(context) {
            Poll::Pending if deadlines.has_passed(Slot::Read) => {
                Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()))
            }
            poll => poll,
        }
    });
    let accepted = accepted.await;
    if let Err(error) = &accepted {
        core.shared.meters.handshake_failures.inc();
        tracing::debug!(%error, "no TLS with a client");
    }
    accepted.ok()
}

/// Reads who a connection's client is, from the proxy in front: both ends of its connection, or nothing when the proxy
/// speaks for itself. `None` when that fails, or takes longer than a head may.
pub(super) async fn introduced(core: &Core, stream: &mut TcpStream) -> Option<Option<ProxiedEnds>> {
    let (deadlines, _registration) = core.clock.register();
    deadlines.set(Slot::Read, core.shared.config.limits.head_timeout);
    let mut read = pin!(net::read_proxy_header(stream));
    let read = poll_fn(|context| {
        deadlines.watch(context);
        match read.as_mut().poll(context) {
            Poll::Pending if deadlines.has_passed(Slot::Read) => {
                Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()))
            }
            poll => poll,
        }
    });
    let read = read.await;
    if let Err(error) = &read {
        core.shared.meters.connections_refused.inc();
        tracing::debug!(%error, "a proxy in front did not say who its client is");
    }
    read.ok()
}

/// Serves one connection to its end.
///
/// What stays for as long as the connection is made before the future is first polled: of many connections that come
/// at once it lies together, and the memory between, which each needs for a moment, can be given back whole.
pub(super) fn serve(
    core: Rc<Core>,
    stream: Stream,
    ends: Ends,
    terms: Rc<Terms>,
    admitted: Admitted,
) -> impl Future<Output = ()> {
    let counted = core.shared.meters.connection();
    let (deadlines, registration) = core.clock.register();
    let caller = Caller::of_connection(ends, stream.is_secure(), &core.shared.config.forwarding);
    let client = Rc::new(Client {
        link: Link::new(Rc::clone(&deadlines)),
        caller: Rc::new(caller),
        believed: terms.trusts(&ends),
        terms: Rc::clone(&terms),
        bonds: Rc::new(Bonds::default()),
        recent: Rc::default(),
        multiplexed: false,
        tunnel: RefCell::new(None),
        core,
    });
    async move {
        let _held = (admitted, counted, registration);
        attend(client, stream, &terms, deadlines).await;
    }
}

async fn attend(client: Rc<Client>, mut stream: Stream, terms: &Terms, deadlines: Rc<Deadlines>) {
    let (core, link) = (Rc::clone(&client.core), client.link.clone());
    let limits = &core.shared.config.limits;
    let secure = stream.is_secure();
    let early = match terms.http2 && !secure {
        true => preface(&core, &mut stream, &deadlines).await,
        false => Vec::new(),
    };
    if stream.is_http2() || early == HTTP2_PREFACE {
        let Some(client) = Rc::into_inner(client) else {
            return;
        };
        let client = Client {
            multiplexed: true,
            // It is kept while nothing goes on, too.
            recent: Rc::new(RefCell::new(Recent::within(RESTING_BYTES))),
            ..client
        };
        // In a box of its own, so that connections by HTTP/1.1 do not carry its size.
        return Box::pin(http2::serve(client, stream, early, deadlines)).await;
    }
    let wire = ServerConnection::new(stream, link.clone(), settings(&client), &early);
    let wire = Rc::new(RefCell::new(wire));
    let ending = http1::serve(&client, &wire).await;
    let (fault, ended) = (wire.borrow().unread_fault(), wire.borrow().has_ended());
    let Some((stream, pending)) = wire.borrow_mut().take() else {
        return;
    };
    let tunnel = client.tunnel.take();
    if let Some(tunnel) = tunnel {
        let silence = limits.long_poll_timeout;
        // However a tunnel ends, both its sockets are closed with it.
        let _ = upgrade::carry(tunnel, stream, &pending, deadlines, silence).await;
        return;
    }
    let over = ended && fault.is_none() && !link.is_reset();
    if over && ending == Ending::Closed && !secure {
        // Nobody is there to linger for, or to say goodbye to; what was written may still be on its way.
        let sent = poll_fn(|context| stream.poll_send(context));
        let _ = tokio::time::timeout(limits.body_timeout, sent).await;
        return;
    }
    end(&client, stream, ending, fault, &pending).await;
}

fn settings(client: &Client) -> ServerSettings {
    let limits = &client.core.shared.config.limits;
    ServerSettings {
        limits: limits.head,
        refuse_fragment: client.terms.refusals.fragment,
        timeouts: ServerTimeouts {
            body: limits.body_timeout,
            half_close: limits.half_close_timeout,
            head: limits.head_timeout,
            idle: limits.idle_timeout,
            least: limits.body_minimum,
        },
    }
}

/// Reads as much of the preface of HTTP/2 as is there, within the time for a head; what was read is no more than that.
async fn preface(core: &Core, stream: &mut Stream, deadlines: &Deadlines) -> Vec<u8> {
    deadlines.set(Slot::Read, core.shared.config.limits.head_timeout);
    let mut early = Vec::new();
    let mut buffer = [0; HTTP2_PREFACE.len()];
    while early.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(&early) {
        let rest = HTTP2_PREFACE.len() - early.len();
        let mut read = pin!(stream.read(&mut buffer[..rest]));
        let read = poll_fn(|context| {
            deadlines.watch(context);
            match read.as_mut().poll(context) {
                Poll::Pending if deadlines.has_passed(Slot::Read) => Poll::Ready(Ok(0)),
                poll => poll,
            }
        });
        // Whoever serves the connection learns of an end, or of too much time, by itself.
        match read.await {
            Ok(0) | Err(_) => break,
            Ok(count) => early.extend_from_slice(&buffer[..count]),
        }
    }
    early
}

async fn end(
    client: &Client,
    mut stream: Stream,
    ending: Ending,
    fault: Option<Malformed>,
    pending: &[u8],
) {
    let link = &client.link;
    if link.is_reset() || ending == Ending::Broken {
        stream.reset_when_dropped();
        return;
    }
    if ending == Ending::Idle {
        // TLS says goodbye, so that nobody takes the end for an attack (RFC 8446 section 6.1).
        let _ = tokio::time::timeout(LINGER, stream.shutdown()).await;
        return;
    }
    let reason = match ending {
        Ending::HeadLate => Some(Reason::Timeout),
        Ending::Closed if !link.is_busy() => fault.map(Reason::Malformed),
        _ => None,
    };
    let last = reason.map(|reason| refuse(client, reason, pending));
    // A client that does not take this, or keeps sending, has had its time.
    let _ = tokio::time::timeout(
        LINGER,
        linger(&mut stream, last.as_deref().unwrap_or_default()),
    )
    .await;
}

/// Sends the last bytes, then reads until the client has ended too.
pub(super) async fn linger(stream: &mut Stream, last: &[u8]) -> std::io::Result<()> {
    stream.write_all(last).await?;
    stream.shutdown().await?;
    // Not within the task, which connections that do not linger carry, too.
    let mut waste = vec![0; 4_096];
    let mut seen = 0;
    while seen < LINGER_BYTES {
        match stream.read(&mut waste).await? {
            0 => break,
            count => seen += count,
        }
    }
    Ok(())
}

/// Answers a request whose head was never given.
fn refuse(client: &Client, reason: Reason, pending: &[u8]) -> Vec<u8> {
    let core = &client.core;
    let id = core.request_ids.next();
    core.shared.meters.refusal(reason);
    core.shared.meters.request(Outcome::Refused);
    let answer = respond::refused(reason, id);
    let mut recorder = core.recorder.borrow_mut();
    if recorder.wants_access() {
        let answered = Answered {
            status: reason.status(),
            bytes: answer.body.len() as u64,
            verdict: Outcome::Refused.name(),
            party: Some(Party::Downstream),
        };
        let entry = AccessEntry::unread(id, client.caller.address, pending, core.time.get());
        recorder.access(&entry, answered);
    }
    respond::in_bytes(&answer)
}
