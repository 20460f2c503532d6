//! One data-plane thread: its runtime, its listeners, its clock.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::TrustedProxies;
use super::connection::{self, Ends};
use super::core::{Core, Shared};
use super::running::Order;
use crate::canon::Refusals;
use crate::net::{Acceptor, BoundSocket, Clock, Side, Socket, Stream, TlsServer};

/// How long accepting rests after the process ran out of something.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Connections taken over from the kernel's queue when a listener closes.
const QUEUE_LIMIT: usize = 8_192;

pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) listeners: Vec<WorkerListener>,
    pub(super) orders: watch::Receiver<Order>,
}

pub(super) struct WorkerListener {
    pub(super) socket: BoundSocket,
    pub(super) terms: Terms,
}

/// How connections of one listener are taken.
#[derive(Clone)]
pub(super) struct Terms {
    /// Where every connection of it comes to, if that is one address.
    pub(super) address: Option<SocketAddr>,
    pub(super) refusals: Refusals,
    pub(super) tls: Option<TlsServer>,
    /// Whether HTTP/2 is spoken with clients that begin with it, or agree to it within TLS.
    pub(super) http2: bool,
    /// The path of health checks that are answered here.
    pub(super) health_path: Option<String>,
    /// Proxies that say who their clients are.
    pub(super) proxies: TrustedProxies,
    /// Proxies that say for whom they make a request.
    pub(super) trusted: TrustedProxies,
}

impl Terms {
    /// Whether the client of a connection is a proxy that is believed about its own.
    pub(super) fn trusts(&self, ends: &Ends) -> bool {
        !self.trusted.is_empty() && self.trusted.contains(ends.remote.map(|remote| remote.ip()))
    }
}

impl Worker {
    /// Says whether it can serve, then serves until told to end.
    pub(super) fn run(self, tell: &SyncSender<io::Result<()>>) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        // Whoever started this thread waits for the word.
        match runtime {
            Ok(runtime) => {
                let _ = tell.send(Ok(()));
                // Dropping the runtime drops every connection that is left.
                runtime.block_on(self.serve());
            }
            Err(error) => {
                let _ = tell.send(Err(error));
            }
        }
    }

    async fn serve(mut self) {
        let core = Rc::new(Core::new(self.index, self.shared));
        tokio::task::spawn_local(tick(Rc::clone(&core)));
        tokio::task::spawn_local(core.batch.clone().send());
        let mut accepting = Vec::new();
        for listener in self.listeners {
            match listener.socket.into_acceptor() {
                Ok(socket) => {
                    let orders = self.orders.clone();
                    let accept = accept(Rc::clone(&core), socket, listener.terms, orders);
                    accepting.push(tokio::task::spawn_local(accept));
                }
                Err(error) => tracing::error!(%error, "worker {} cannot listen", self.index),
            }
        }
        if is_to_drain(&mut self.orders).await {
            let orders = self.orders.clone();
            tokio::select! {
                () = drain(&core, accepting, &orders) => {}
                _ = self.orders.wait_for(|order| *order == Order::Stop) => {}
            }
        }
        core.finish();
    }
}

/// Waits for an order to end; whether what was begun may be finished.
async fn is_to_drain(orders: &mut watch::Receiver<Order>) -> bool {
    let order = orders.wait_for(|order| *order != Order::Serve).await;
    // Whoever gave orders may be gone.
    order.is_ok_and(|order| matches!(*order, Order::Drain(_)))
}

async fn tick(core: Rc<Core>) {
    loop {
        tokio::time::sleep(Clock::TICK).await;
        core.tick();
    }
}

/// Ends when no connection is left.
async fn drain(core: &Rc<Core>, accepting: Vec<JoinHandle<()>>, orders: &watch::Receiver<Order>) {
    for task in accepting {
        // Ends by itself, since it got the same order.
        let _ = task.await;
    }
    core.draining.set(true);
    core.clock.wake_all();
    while !core.clock.is_empty() {
        // It may have been moved up since.
        let Order::Drain(deadline) = *orders.borrow() else {
            return;
        };
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return;
        }
        tokio::time::sleep(rest.min(Clock::TICK / 10)).await;
    }
}

/// Accepts until the order changes; then takes over what the kernel has queued, since closing would reset it.
async fn accept(
    core: Rc<Core>,
    listener: Acceptor,
    terms: Terms,
    mut orders: watch::Receiver<Order>,
) {
    let terms = Rc::new(terms);
    loop {
        tokio::select! {
            _ = orders.wait_for(|order| *order != Order::Serve) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => begin(&core, stream, remote, &terms),
                Err(error) => {
                    core.shared.meters.accept_errors.inc();
                    if is_exhaustion(&error) {
                        tokio::time::sleep(ACCEPT_REST).await;
                    }
                }
            },
        }
    }
    let Ok(queue) = listener.into_queue() else {
        return;
    };
    for _ in 0..QUEUE_LIMIT {
        let Ok((stream, remote)) = queue.accept() else {
            return;
        };
        begin(&core, stream, remote, &terms);
    }
}

fn begin(core: &Rc<Core>, stream: TcpStream, remote: Option<SocketAddr>, terms: &Rc<Terms>) {
    let ends = Ends {
        remote,
        // What was accepted on one address came to that.
        local: remote.and_then(|_| terms.address.or_else(|| stream.local_addr().ok())),
    };
    if !terms.proxies.contains(remote.map(|remote| remote.ip())) {
        return enter(core, stream, ends, terms);
    }
    let (core, terms) = (Rc::clone(core), Rc::clone(terms));
    tokio::task::spawn_local(async move {
        let mut stream = stream;
        if let Some(introduced) = connection::introduced(&core, &mut stream).await {
            let named = introduced.map(|named| Ends {
                remote: Some(named.source),
                local: Some(named.destination),
            });
            enter(&core, stream, named.unwrap_or(ends), &terms);
        }
    });
}

/// Serves a client, if there is room for it.
fn enter(core: &Rc<Core>, stream: TcpStream, ends: Ends, terms: &Rc<Terms>) {
    // A proxy that is believed has the connections of many clients, whose requests are counted for each.
    let client = ends.remote.filter(|_| !terms.trusts(&ends));
    let Some(admitted) = core
        .shared
        .admission
        .admit(client.map(|client| client.ip()))
    else {
        core.shared.meters.connections_refused.inc();
        return;
    };
    let (core, terms) = (Rc::clone(core), Rc::clone(terms));
    let socket = Socket::new(stream, Side::Client, &core.batch);
    if terms.tls.is_none() {
        let stream = Stream::Plain(socket);
        let serve = connection::serve(core, stream, ends, terms, admitted);
        tokio::task::spawn_local(serve);
        return;
    }
    // A task of its own shape, so that plain connections do not carry the size of a handshake.
    tokio::task::spawn_local(async move {
        if let Some(tls) = &terms.tls
            && let Some(stream) = connection::secure(&core, tls, socket).await
        {
            connection::serve(core, stream, ends, terms, admitted).await;
        }
    });
}

/// Whether the process ran out of file descriptors or the kernel of memory, and another try would spin; a single
/// connection that failed says nothing about the next.
fn is_exhaustion(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_rests_when_something_ran_out() {
        // EMFILE, ENFILE, ENOBUFS, ENOMEM on Linux.
        for code in [24, 23, 105, 12] {
            assert!(is_exhaustion(&io::Error::from_raw_os_error(code)), "{code}");
        }
        assert!(!is_exhaustion(&io::ErrorKind::ConnectionAborted.into()));
    }
}
