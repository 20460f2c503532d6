//! What the requests of one worker share, and what the workers share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::admit::host_name;
use super::balance::Servers;
use super::metrics::Meters;
use super::record::Recorder;
use super::request_id::RequestIds;
use super::route::{Destination, Routes};
use super::{BuiltIn, ProxyConfig, ProxyError};
use crate::filter::{Filter, Handle};
use crate::model::UnixTime;
use crate::net::{self, Admission, Batch, Clock};

/// What workers share: settings that do not change, and counters.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: ProxyConfig,
    pub(super) handle: Handle,
    pub(super) meters: Meters,
    pub(super) admission: Admission,
    pub(super) routes: Routes,
    /// Sites by host name in lower case.
    hosts: HashMap<Vec<u8>, usize>,
}

impl Shared {
    pub(super) fn new(
        config: ProxyConfig,
        handle: Handle,
        meters: Meters,
    ) -> Result<Self, ProxyError> {
        let routes = Routes::new(&config.sites, &meters)?;
        let mut hosts = HashMap::new();
        for (index, site) in config.sites.iter().enumerate() {
            for host in &site.hosts {
                // Of two sites that name one host, the first has it.
                hosts
                    .entry(host.to_ascii_lowercase().into_bytes())
                    .or_insert(index);
            }
        }
        let admission = Admission::new(
            config.limits.connections,
            config.limits.connections_per_client,
        );
        Ok(Self {
            config,
            handle,
            meters,
            admission,
            routes,
            hosts,
        })
    }

    /// The index of the site that answers for a `Host` value.
    pub(super) fn site(&self, host: &[u8]) -> usize {
        if self.hosts.is_empty() {
            return 0;
        }
        let name = host_name(host).to_ascii_lowercase();
        self.hosts.get(&name).copied().unwrap_or(0)
    }
}

/// Connections that have to give their memory back at about one time before the system gets it.
const RESTED: usize = 16;

/// What the requests of one worker share. It never leaves its thread.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    /// The small writes of this thread.
    pub(super) batch: Batch,
    /// Connections that gave their memory back since the last tick.
    pub(super) rested: Cell<usize>,
    pub(super) filter: RefCell<Filter>,
    pub(super) recorder: RefCell<Recorder>,
    pub(super) request_ids: RequestIds,
    pub(super) time: Cell<UnixTime>,
    /// No request begins on a connection any more.
    pub(super) draining: Cell<bool>,
    upstreams: Vec<LocalUpstream>,
}

/// Who answers, with this worker's connections.
pub(super) enum LocalUpstream {
    BuiltIn(BuiltIn),
    Servers(Rc<Servers>),
}

impl Core {
    pub(super) fn new(worker: usize, shared: Arc<Shared>) -> Self {
        let clock = Clock::default();
        let limits = &shared.config.limits;
        let local = |upstream: &Destination| match upstream {
            Destination::BuiltIn(built_in) => LocalUpstream::BuiltIn(Arc::clone(built_in)),
            Destination::Servers(group) => {
                LocalUpstream::Servers(Rc::new(Servers::new(group, worker, limits)))
            }
        };
        let upstreams = shared.routes.upstreams().iter().map(local).collect();
        Self {
            upstreams,
            recorder: RefCell::new(Recorder::new(&shared, clock.now())),
            clock,
            batch: Batch::default(),
            rested: Cell::new(0),
            filter: RefCell::new(Filter::new(shared.handle.clone())),
            request_ids: RequestIds::new(worker),
            time: Cell::new((shared.config.clock)()),
            draining: Cell::new(false),
            shared,
        }
    }

    /// The upstream with this index.
    pub(super) fn upstream(&self, index: usize) -> &LocalUpstream {
        &self.upstreams[index]
    }

    /// Moves the time on, and ends what has rested for too long.
    pub(super) fn tick(&self) {
        self.clock.advance();
        self.time.set((self.shared.config.clock)());
        self.recorder
            .borrow_mut()
            .tick(self.clock.now(), self.time.get());
        for upstream in &self.upstreams {
            if let LocalUpstream::Servers(servers) = upstream {
                servers.tick(
                    self.clock.now(),
                    self.shared.config.limits.idle_upstream_timeout,
                );
            }
        }
        if self.rested.take() > RESTED {
            net::give_memory_back();
        }
    }

    /// Hands over the last lines.
    pub(super) fn finish(&self) {
        self.recorder.borrow_mut().finish(self.time.get());
    }
}
