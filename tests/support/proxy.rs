//! A proxy in this process, on loopback ports of its own.

use std::net::SocketAddr;

use stopgap::filter::{Handle, Snapshot};
use stopgap::model::{Revision, UnixTime};
use stopgap::proxy::{Limits, Listener, Proxy, ProxyConfig, Running, Server, Site, Upstream};
use stopgap::rules::{RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin};
use stopgap::telemetry::Metrics;

use super::client::Client;
use super::origin::Origin;

/// What a proxy is built from.
pub(crate) struct Builder {
    pub(crate) config: ProxyConfig,
    rules: String,
}

/// A proxy that serves until it is dropped.
pub(crate) struct Fixture {
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) handle: Handle,
}

/// A proxy with one worker in front of these servers.
pub(crate) fn before(origins: &[&Origin]) -> Builder {
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    before_addresses(&addresses)
}

/// A proxy with one worker in front of whatever is at these addresses.
pub(crate) fn before_addresses(addresses: &[SocketAddr]) -> Builder {
    let server = |address: &SocketAddr| Server::plain(&address.ip().to_string(), address.port());
    serving(Upstream::Servers(addresses.iter().map(server).collect()))
}

/// A proxy with one worker and one site.
pub(crate) fn serving(upstream: Upstream) -> Builder {
    let listener = Listener::plain("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    let site = Site {
        name: "Default Web Site".to_owned(),
        hosts: Vec::new(),
        upstream,
        routes: Vec::new(),
    };
    let mut config = ProxyConfig::new(vec![listener], vec![site], || UnixTime::new(1_700_000_000));
    config.workers = 1;
    Builder {
        config,
        rules: String::new(),
    }
}

/// The compiled form of some `<rule>` elements.
pub(crate) fn rules(text: &str) -> RuleSet {
    let source = RuleSource::parse(
        &format!("<rules>{text}</rules>"),
        &SourceOrigin::named("test.xml"),
    )
    .unwrap();
    let mut builder = RuleSet::builder(RuleLimits::default());
    builder.add(&source, RuleOrigin::local("test.xml")).unwrap();
    builder.build()
}

impl Builder {
    /// Changes the limits.
    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.config.limits);
        self
    }

    /// Changes any setting.
    pub(crate) fn config(mut self, change: impl FnOnce(&mut ProxyConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Judges by these `<rule>` elements.
    pub(crate) fn rules(mut self, text: &str) -> Self {
        text.clone_into(&mut self.rules);
        self
    }

    pub(crate) fn start(self) -> Fixture {
        let set = if self.rules.is_empty() {
            RuleSet::empty()
        } else {
            rules(&self.rules)
        };
        let handle = Handle::new(Snapshot::single(Revision(1), set));
        let metrics = Metrics::default();
        let proxy = Proxy::bind(self.config, handle.clone(), &metrics).unwrap();
        let address = proxy.addresses()[0].tcp();
        Fixture {
            running: proxy.start().unwrap(),
            // Whoever listens elsewhere knows where.
            address: address.unwrap_or(([127, 0, 0, 1], 0).into()),
            metrics,
            handle,
        }
    }
}

impl Fixture {
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The value of one line of the metrics page; 0 when it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.metrics.render();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// Waits for something to become true, and fails with `what` when it does not.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(20),
            "{what}"
        );
        // Nothing tells when: counters are only looked at.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Runs a future of the proxy's to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
