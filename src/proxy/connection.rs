//! One client connection, from accept to close.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1::{Builder, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bond::Bonds;
use super::caller::Caller;
use super::core::Core;
use super::http2;
use super::metrics::{Outcome, Reason};
use super::record::{AccessEntry, Answered};
use super::respond;
use super::service::{Client, ClientService};
use super::upgrade;
use super::worker::Terms;
use super::{Limits, Party};
use crate::net::{
    self, Admitted, Awaited, Deadlines, HTTP2_PREFACE, Inbound, InboundTimeouts, Link, Malformed,
    ProxiedEnds, Slot, Socket, Stream, TlsServer,
};
use crate::rules::Recent;

/// How long, and for how many bytes, a closed connection is read on, so that what was sent last is not lost to a
/// reset (RFC 9112 section 9.6).
pub(super) const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1_024;

/// How long a client that let its body rest gets to take the answer to that.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// Bytes of its last request that a connection may keep while it has nothing to do.
const RESTING_BYTES: usize = 4 * 1_024;

/// How long a connection may still take for a request once the proxy drains.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(1);

type Served = Connection<TokioIo<Inbound<Stream>>, ClientService>;

/// How serving ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    /// Nothing is left to say.
    Closed,
    /// Something went wrong within a response, which the client must not take for its end.
    Broken,
    /// The rest of a head did not come in time.
    HeadLate,
    /// There was nothing to do for too long.
    Idle,
    /// There was nothing to do for a moment: it goes on, but needs no memory until it does.
    Resting,
}

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
    let mut inbound = Inbound::new(
        stream,
        link.clone(),
        limits.head,
        client.terms.refusals.fragment,
        timeouts(limits),
    )
    .with_early(early);
    let (ending, early) = loop {
        let mut connection = Box::new(library(&client, inbound));
        let ending = run(&client, &mut connection).await;
        let parts = connection.into_parts();
        inbound = parts.io.into_inner();
        if ending != Ending::Resting {
            break (ending, parts.read_buf);
        }
        inbound.take_back(&parts.read_buf);
        drop(parts.read_buf);
        client.recent.borrow_mut().forget();
        if let Some(ending) = rest(&client, &mut inbound).await {
            break (ending, Bytes::new());
        }
    };
    let (fault, ended) = (inbound.unread_fault(), inbound.has_ended());
    let (stream, pending) = inbound.into_parts();
    let tunnel = client.tunnel.take();
    if let Some(tunnel) = tunnel {
        let early = [early.as_ref(), &pending].concat();
        let silence = limits.long_poll_timeout;
        // However a tunnel ends, both its sockets are closed with it.
        let _ = upgrade::carry(tunnel, stream, &early, deadlines, silence).await;
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

/// The HTTP library at work on a connection.
fn library(client: &Rc<Client>, inbound: Inbound<Stream>) -> Served {
    let head = client.core.shared.config.limits.head;
    Builder::new()
        .auto_date_header(false)
        .max_headers(head.fields)
        .max_buf_size(head.bytes.max(MIN_BUFFER) + 8_192)
        .serve_connection(
            TokioIo::new(inbound),
            ClientService {
                client: Rc::clone(client),
            },
        )
}

/// Waits on an idle connection without the HTTP library, whose buffers are most of what a connection takes. How it
/// ended, or nothing when there is something to do.
async fn rest(client: &Client, inbound: &mut Inbound<Stream>) -> Option<Ending> {
    let (core, link) = (&client.core, &client.link);
    let _counted = core.shared.meters.resting();
    core.rested.set(core.rested.get() + 1);
    poll_fn(|context| {
        link.deadlines().watch(context);
        if let Poll::Ready(arrival) = inbound.poll_arrival(context) {
            return Poll::Ready(arrival.is_err().then_some(Ending::Closed));
        }
        if core.draining.get() {
            return Poll::Ready(None);
        }
        if client.bonds.poll_ended(context) {
            return Poll::Ready(Some(Ending::Closed));
        }
        overdue(link, &mut false).map(Some)
    })
    .await
}

const fn timeouts(limits: &Limits) -> InboundTimeouts {
    InboundTimeouts {
        body: limits.body_timeout,
        half_close: limits.half_close_timeout,
        head: limits.head_timeout,
        idle: limits.idle_timeout,
        least: limits.body_minimum,
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

/// The least buffer that the HTTP library works with.
const MIN_BUFFER: usize = 8_192;

async fn run(client: &Client, connection: &mut Served) -> Ending {
    let (core, link) = (&client.core, &client.link);
    let mut farewell = Farewell::None;
    let mut last_answer = false;
    poll_fn(|context| {
        link.deadlines().watch(context);
        if core.draining.get() {
            farewell = farewell.go_on(link, connection);
        }
        if let Poll::Ready(result) = connection.poll_without_shutdown(context) {
            return Poll::Ready(match result {
                Ok(()) => Ending::Closed,
                Err(error) if error.is_user() || link.is_responding() => Ending::Broken,
                Err(_) => Ending::Closed,
            });
        }
        // What belongs to one client does not outlive it, nor the client that.
        if client.bonds.poll_ended(context) && !link.is_busy() {
            return Poll::Ready(Ending::Closed);
        }
        overdue(link, &mut last_answer)
    })
    .await
}

/// How far a connection of a proxy that drains has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Farewell {
    None,
    /// It has a moment for one more request.
    Hurried,
    /// It ends after the exchange in progress.
    Told,
}

impl Farewell {
    /// A head that may be on its way is still served: the library would close the connection under it.
    fn go_on(self, link: &Link, connection: &mut Served) -> Self {
        let served = link.is_busy() || link.awaited() == Awaited::Body;
        match self {
            Self::None | Self::Hurried if served => {
                Pin::new(connection).graceful_shutdown();
                Self::Told
            }
            // A request may be on its way on a connection that rests, too.
            Self::None if matches!(link.awaited(), Awaited::First | Awaited::Request) => {
                link.deadlines().set(Slot::Read, LAST_REQUEST);
                Self::Hurried
            }
            _ => self,
        }
    }
}

/// Looks at the deadlines after the connection had its turn.
fn overdue(link: &Link, last_answer: &mut bool) -> Poll<Ending> {
    let deadlines = link.deadlines();
    if deadlines.has_passed(Slot::Write)
        || (deadlines.has_passed(Slot::Upstream) && !link.is_busy())
    {
        return Poll::Ready(Ending::Broken);
    }
    if !deadlines.has_passed(Slot::Read) {
        if deadlines.has_passed(Slot::Rest) {
            deadlines.clear(Slot::Rest);
            if matches!(link.awaited(), Awaited::First | Awaited::Request) && !link.is_busy() {
                return Poll::Ready(Ending::Resting);
            }
        }
        return Poll::Pending;
    }
    match link.awaited() {
        Awaited::First | Awaited::Request if !link.is_busy() => Poll::Ready(Ending::Idle),
        Awaited::Head if !link.is_busy() => Poll::Ready(Ending::HeadLate),
        Awaited::Body if std::mem::replace(last_answer, true) => Poll::Ready(Ending::Broken),
        Awaited::Body => {
            // The service saw the same deadline; what it answered has this long to leave.
            deadlines.set(Slot::Read, LAST_ANSWER);
            Poll::Pending
        }
        // A half-closed client: the HTTP library learns of it when it reads next.
        Awaited::First | Awaited::Head | Awaited::Request => Poll::Pending,
    }
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

/// Answers a request that the HTTP library never saw.
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
            bytes: answer.body().len() as u64,
            verdict: Outcome::Refused.name(),
            party: Some(Party::Downstream),
        };
        let entry = AccessEntry::unread(id, client.caller.address, pending, core.time.get());
        recorder.access(&entry, answered);
    }
    respond::in_bytes(&answer)
}
