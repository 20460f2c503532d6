//! A proxy from its sockets to its end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::core::Shared;
use super::metrics::Meters;
use super::worker::{Terms, Worker, WorkerListener};
use super::{Listener, ProxyConfig, ProxyError, ServerGroup, Upstream, UpstreamStatus, health};
use crate::filter::Handle;
use crate::net::{self, BoundSocket, Inherited, ListenAddress, SOCKET_MODE, TlsServer};
use crate::telemetry::Metrics;

/// A proxy whose sockets are bound and that serves nobody yet.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    addresses: Vec<ListenAddress>,
    /// The sockets of each worker, each with the index of its listener.
    listeners: Vec<Vec<(usize, BoundSocket)>>,
    kept: Vec<(ListenAddress, BoundSocket)>,
    tls: Vec<Option<TlsServer>>,
}

/// A proxy that serves. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    addresses: Vec<ListenAddress>,
    tls: Vec<Option<TlsServer>>,
    /// The sockets once more, to be handed on; gone once this drains.
    kept: Mutex<Vec<(ListenAddress, BoundSocket)>>,
    order: watch::Sender<Order>,
    alive: watch::Receiver<usize>,
    threads: Vec<JoinHandle<()>>,
}

/// What workers are told to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Accept nobody, finish what was begun, and end by then at the latest.
    Drain(Instant),
    /// Serve.
    Serve,
    /// End now.
    Stop,
}

impl Proxy {
    /// Checks the settings and binds every socket of every worker.
    ///
    /// Requests of the site with index `n` are judged by rule set `n` of what `handle` publishes.
    ///
    /// # Errors
    ///
    /// When there is nothing to serve, certificates cannot be used or an address cannot be bound; nothing is left
    /// behind then.
    pub fn bind(
        config: ProxyConfig,
        handle: Handle,
        metrics: &Metrics,
    ) -> Result<Self, ProxyError> {
        Self::inherit(config, handle, metrics, &mut Inherited::default())
    }

    /// The same, with sockets that somebody else has bound where there are any for a listener's address.
    ///
    /// # Errors
    ///
    /// As for [`bind`](Self::bind).
    pub fn inherit(
        config: ProxyConfig,
        handle: Handle,
        metrics: &Metrics,
        inherited: &mut Inherited,
    ) -> Result<Self, ProxyError> {
        Self::with(config, handle, Meters::register(metrics), inherited)
    }

    fn with(
        mut config: ProxyConfig,
        handle: Handle,
        meters: Meters,
        inherited: &mut Inherited,
    ) -> Result<Self, ProxyError> {
        if config.listeners.is_empty() {
            return Err(ProxyError::no_listener());
        }
        if config.sites.is_empty() {
            return Err(ProxyError::no_site());
        }
        for site in &config.sites {
            let routes = site.routes.iter().map(|route| &route.upstream);
            for upstream in routes.chain([&site.upstream]) {
                match upstream {
                    Upstream::Servers(group) if group.is_empty() => {
                        return Err(ProxyError::no_server(&site.name));
                    }
                    Upstream::Servers(group) if group.members.len() > ServerGroup::SERVERS => {
                        return Err(ProxyError::too_many_servers(&site.name));
                    }
                    _ => {}
                }
            }
        }
        if config.workers == 0 {
            config.workers = std::thread::available_parallelism().map_or(1, usize::from);
        }
        let tls = config.listeners.iter().map(tls_server);
        let tls = tls.collect::<Result<Vec<_>, _>>()?;
        let shared = Shared::new(config, handle, meters)?;
        let config = &shared.config;
        let (mut addresses, mut kept) = (Vec::new(), Vec::new());
        let mut listeners: Vec<Vec<(usize, BoundSocket)>> =
            (0..config.workers).map(|_| Vec::new()).collect();
        for (index, listener) in config.listeners.iter().enumerate() {
            let address = &listener.address;
            let failed = |source| ProxyError::bind(address.clone(), source);
            let mut sockets = inherited.take(address);
            if sockets.is_empty() {
                let mode = listener.mode.unwrap_or(SOCKET_MODE);
                sockets = net::bind(address, config.workers, mode).map_err(failed)?;
            } else if let Some(mode) = listener.mode {
                for socket in &sockets {
                    socket.set_mode(mode).map_err(failed)?;
                }
            }
            addresses.push(sockets[0].address().map_err(failed)?);
            for socket in &sockets {
                kept.push((address.clone(), socket.try_clone().map_err(failed)?));
            }
            let shares = net::share_out(sockets, config.workers).map_err(failed)?;
            for (worker, share) in listeners.iter_mut().zip(shares) {
                worker.extend(share.into_iter().map(|socket| (index, socket)));
            }
        }
        Ok(Self {
            shared: Arc::new(shared),
            addresses,
            listeners,
            kept,
            tls,
        })
    }

    /// Where the listeners are, in their order, with the ports they got.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Starts the workers, which serve at once.
    ///
    /// # Errors
    ///
    /// When a thread or its runtime cannot be made; the workers started so far are stopped.
    pub fn start(self) -> Result<Running, ProxyError> {
        let (order, orders) = watch::channel(Order::Serve);
        let (count, alive) = watch::channel(self.listeners.len());
        let count = Arc::new(AliveCount {
            alive: AtomicUsize::new(self.listeners.len()),
            told: count,
        });
        let mut running = Running {
            shared: Arc::clone(&self.shared),
            addresses: self.addresses,
            tls: self.tls,
            kept: Mutex::new(self.kept),
            order,
            alive,
            threads: Vec::new(),
        };
        for (index, sockets) in self.listeners.into_iter().enumerate() {
            let listeners = sockets
                .into_iter()
                .map(|(index, socket)| {
                    let listener = &self.shared.config.listeners[index];
                    let address = running.addresses[index].tcp();
                    WorkerListener {
                        socket,
                        terms: Terms {
                            address: address.filter(|address| !address.ip().is_unspecified()),
                            refusals: listener.refusals,
                            tls: running.tls[index].clone(),
                            http2: listener.http2,
                            health_path: listener.health_path.clone(),
                            proxies: listener.proxies.clone(),
                            trusted: listener.trusted.clone(),
                        },
                    }
                })
                .collect();
            let worker = Worker {
                index,
                shared: Arc::clone(&self.shared),
                listeners,
                orders: orders.clone(),
            };
            let alive = Alive(Arc::clone(&count));
            let (tell, told) = sync_channel(1);
            let thread = std::thread::Builder::new()
                .name(format!("proxy-{index}"))
                .spawn(move || {
                    let _alive = alive;
                    worker.run(&tell);
                })
                .map_err(ProxyError::worker)?;
            running.threads.push(thread);
            // Says nothing only when the thread has died.
            told.recv()
                .unwrap_or_else(|_| Err(std::io::Error::other("the thread ended")))
                .map_err(ProxyError::worker)?;
        }
        running.watch_health(orders)?;
        Ok(running)
    }
}

fn tls_server(listener: &Listener) -> Result<Option<TlsServer>, ProxyError> {
    if listener.tls.is_empty() {
        return Ok(None);
    }
    TlsServer::load(
        listener.tls.clone(),
        listener.http2,
        listener.clients.as_ref(),
    )
    .map(Some)
    .map_err(|error| ProxyError::certificate(listener.address.clone(), error))
}

/// Counts one worker until its thread ends, however it ends.
struct Alive(Arc<AliveCount>);

struct AliveCount {
    alive: AtomicUsize,
    told: watch::Sender<usize>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        let left = self.0.alive.fetch_sub(1, Ordering::AcqRel) - 1;
        self.0.told.send_replace(left);
    }
}

impl Running {
    /// Where the listeners are, in their order, with the ports they got.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// What is known of every upstream at this moment, in the order of the settings.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        let groups = self.shared.routes.groups();
        groups.map(|group| group.status()).collect()
    }

    /// Starts the thread that checks servers, if any is to be checked.
    fn watch_health(&mut self, orders: watch::Receiver<Order>) -> Result<(), ProxyError> {
        let groups: Vec<_> = self.shared.routes.groups().cloned().collect();
        if groups.iter().all(|group| group.settings.health.is_none()) {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ProxyError::worker)?;
        let thread = std::thread::Builder::new()
            .name("proxy-health".to_owned())
            .spawn(move || {
                runtime.block_on(health::watch(groups, orders));
                // A look-up of a name may still run, and nobody waits for it.
                runtime.shutdown_background();
            })
            .map_err(ProxyError::worker)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Reads the certificates of every TLS listener again, for connections to come; how many listeners got others.
    /// Reads files: not for a thread that must not wait.
    ///
    /// # Errors
    ///
    /// One for each listener whose files cannot be used; what it showed before stays.
    pub fn reload_certificates(&self) -> (usize, Vec<ProxyError>) {
        let (mut changed, mut errors) = (0, Vec::new());
        let listeners = self.tls.iter().zip(&self.addresses);
        for (tls, address) in listeners.filter_map(|(tls, address)| Some((tls.as_ref()?, address)))
        {
            match tls.reload() {
                Ok(true) => changed += 1,
                Ok(false) => {}
                Err(error) => errors.push(ProxyError::certificate(address.clone(), error)),
            }
        }
        (changed, errors)
    }

    /// Workers that have not ended. Fewer than were started while nothing was ordered means a fault of ours.
    pub fn workers(&self) -> usize {
        *self.alive.borrow()
    }

    /// Binds a proxy with other settings that can take over from this one: it counts with the same counters, judges by
    /// the same rule sets, and has the sockets of every listener whose address stays, so that no connection is lost
    /// between the two. This one goes on until it drains.
    ///
    /// # Errors
    ///
    /// As for [`Proxy::bind`]; this one is as it was then.
    pub fn successor(&self, config: ProxyConfig) -> Result<Proxy, ProxyError> {
        let mut inherited = self.sockets().map_err(ProxyError::worker)?;
        let (handle, meters) = (self.shared.handle.clone(), self.shared.meters.clone());
        Proxy::with(config, handle, meters, &mut inherited)
    }

    /// The listening sockets once more, each with the address that it was asked for by; none once this drains.
    ///
    /// # Errors
    ///
    /// When the kernel has no descriptors left.
    pub fn sockets(&self) -> std::io::Result<Inherited> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inherited = Inherited::default();
        for (address, socket) in kept.iter() {
            inherited.add(address.clone(), socket.try_clone()?);
        }
        Ok(inherited)
    }

    /// Has the files of Unix sockets that an earlier process made go with this one.
    pub fn own_files(&self) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().for_each(|(_, socket)| socket.own_file(true));
    }

    /// Takes no new connection, finishes requests in progress, and returns when all workers have ended: after
    /// `deadline` at the latest, when what is left is cut off.
    ///
    /// Connections that the kernel has queued are still accepted, and served one request. An earlier deadline stands.
    pub async fn drain(&self, deadline: Duration) {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let deadline = Instant::now() + deadline;
        self.order.send_if_modified(|order| {
            let sooner = match *order {
                Order::Serve => true,
                Order::Drain(other) => deadline < other,
                Order::Stop => false,
            };
            if sooner {
                *order = Order::Drain(deadline);
            }
            sooner
        });
        self.ended().await;
    }

    /// Ends at once; requests in progress are cut off. Also cuts a [`drain`](Self::drain) short.
    pub async fn stop(&self) {
        self.order.send_replace(Order::Stop);
        self.ended().await;
    }

    async fn ended(&self) {
        // Fails only when every worker is gone, which is what is waited for.
        let _ = self.alive.clone().wait_for(|alive| *alive == 0).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.order.send_replace(Order::Stop);
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so itself.
            let _ = thread.join();
        }
    }
}
