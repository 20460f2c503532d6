//! From checked settings to parts that run.

use std::fs::{File, OpenOptions};
use std::sync::Arc;

use tokio::sync::watch;

use super::error::AppError;
use super::handover::Inheritance;
use super::now;
use crate::admin::View;
use crate::config::{Config, LogConfig, LogTarget, RouteConfig, SiteConfig};
use crate::control::{Controller, ProofListener, ProofTargets};
use crate::filter::Probes;
use crate::net::Handover;
use crate::proxy::{AccessLog, DecisionLog, Proxy, ProxyConfig, Route, Running, Site, Upstream};
use crate::store::StateDir;
use crate::telemetry::{AlarmKind, Alarms, Counter, LineWriter, Metrics, init};

/// The subject of alarms about the state folder.
const STATE: &str = "state folder";

/// A process whose traffic side serves and whose admin side has not begun.
pub struct App {
    pub(super) config: Config,
    pub(super) state: StateDir,
    pub(super) alarms: Alarms,
    pub(super) view: View,
    pub(super) controller: Controller,
    pub(super) running: Arc<Running>,
    /// The same, for whoever asks whether it runs.
    pub(super) current: watch::Sender<Arc<Running>>,
    /// Workers of earlier settings, until they have finished what they had.
    pub(super) retired: Vec<Arc<Running>>,
    pub(super) logs: Logs,
    pub(super) dropped: Counter,
    /// Where the process before this one waits, until it was told.
    pub(super) handover: Option<Handover>,
}

/// The writers of logs, which get to write what is left at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Logs {
    access: Option<AccessLog>,
    decisions: Option<DecisionLog>,
}

impl Logs {
    pub(super) fn open(config: &LogConfig, dropped: &Counter) -> Result<Self, AppError> {
        let mut logs = Self::default();
        if let Some(target) = &config.access {
            logs.access = Some(AccessLog {
                writer: writer("access-log", target, dropped.clone())?,
                format: config.access_format,
            });
        }
        if let Some(target) = &config.decisions {
            logs.decisions = Some(DecisionLog {
                writer: writer("decision-log", target, dropped.clone())?,
                lines_per_second: config.decisions_per_second,
            });
        }
        Ok(logs)
    }

    pub(super) fn writers(&self) -> impl Iterator<Item = &LineWriter> {
        let access = self.access.iter().map(|log| &log.writer);
        access.chain(self.decisions.iter().map(|log| &log.writer))
    }
}

/// Builds every part: the state folder, then rules, and only then sockets.
///
/// # Errors
///
/// When another process has the state folder, settings or rules cannot be used, or an address cannot be bound.
pub fn build(config: Config, inheritance: Inheritance) -> Result<App, AppError> {
    init();
    let metrics = Metrics::default();
    let alarms = Alarms::new(&metrics);
    let (mut received, handover) = inheritance.into_parts();
    let state = open_state(&config, &alarms, received.lock)?;
    let controller = Controller::start(
        config.control.clone(),
        &state,
        &metrics,
        alarms.clone(),
        now,
    )?;
    let view = View::new(controller.handle(), metrics.clone());
    let dropped = metrics.counter(
        "stopgap_log_lines_dropped",
        "Batches of access and decision lines dropped because their writer was behind",
    );
    let logs = Logs::open(&config.log, &dropped)?;
    let proxy = proxy_config(&config, &view, &logs, controller.probes());
    let filter = controller.filter();
    let proxy = Proxy::inherit(proxy, filter, &metrics, &mut received.sockets)?;
    Inheritance::report(&received.sockets);
    let running = Arc::new(proxy.start()?);
    controller.prove(proof_targets(&config, &running));
    Ok(App {
        config,
        state,
        alarms,
        view,
        controller,
        current: watch::Sender::new(Arc::clone(&running)),
        running,
        retired: Vec::new(),
        logs,
        dropped,
        handover,
    })
}

/// Every listener with the address it got, and a host of every site.
pub(super) fn proof_targets(config: &Config, running: &Running) -> ProofTargets {
    let listeners = running.addresses().iter().zip(&config.listeners);
    let listeners = listeners.map(|(address, listener)| ProofListener {
        address: address.clone(),
        tls: !listener.tls.is_empty(),
        demands_certificate: listener.clients.as_ref().is_some_and(|own| own.required),
    });
    let hosts = config.sites.iter().map(|site| site.hosts.first().cloned());
    ProofTargets {
        listeners: listeners.collect(),
        hosts: hosts.collect(),
    }
}

/// What the settings say of the data plane.
pub(super) fn proxy_config(
    config: &Config,
    view: &View,
    logs: &Logs,
    probes: Probes,
) -> ProxyConfig {
    let sites = config.sites.iter().map(|site| proxy_site(site, view));
    let mut proxy = ProxyConfig::new(config.listeners.clone(), sites.collect(), now);
    proxy.probes = probes;
    proxy.workers = config.workers;
    proxy.limits = config.limits.clone();
    proxy.forwarding = config.forwarding;
    proxy.access_log.clone_from(&logs.access);
    proxy.decision_log.clone_from(&logs.decisions);
    proxy
}

/// Takes the state folder, or goes on in memory with an alarm; only a folder in use is an end.
fn open_state(config: &Config, alarms: &Alarms, lock: Option<File>) -> Result<StateDir, AppError> {
    let Some(path) = &config.state_dir else {
        let reason = "neither a setting nor the environment names one: state is kept in memory; set STOPGAP_STATE_DIR";
        alarms.raise(AlarmKind::State, STATE, reason, now());
        return Ok(StateDir::memory());
    };
    let opened = match lock {
        Some(lock) => StateDir::adopt(path, lock),
        None => StateDir::open(path),
    };
    match opened {
        Ok(state) => Ok(state),
        Err(error) if error.is_locked() => Err(AppError::state(error)),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
            let reason = format!(
                "{error}{}; state is kept in memory",
                cause.unwrap_or_default()
            );
            alarms.raise(AlarmKind::State, STATE, &reason, now());
            Ok(StateDir::memory())
        }
    }
}

fn proxy_site(site: &SiteConfig, view: &View) -> Site {
    let upstream = match site.upstreams.is_empty() {
        true => {
            let view = view.clone();
            Upstream::BuiltIn(Arc::new(move |request| view.welcome(request)))
        }
        false => Upstream::Servers(site.upstreams.clone()),
    };
    let route = |route: &RouteConfig| Route {
        paths: route.paths.clone(),
        upstream: Upstream::Servers(route.upstreams.clone()),
    };
    Site {
        name: site.name.clone(),
        hosts: site.hosts.clone(),
        upstream,
        routes: site.routes.iter().map(route).collect(),
    }
}

fn writer(name: &str, target: &LogTarget, dropped: Counter) -> Result<LineWriter, AppError> {
    match target {
        LogTarget::Stderr => LineWriter::spawn(name, std::io::stderr(), dropped),
        LogTarget::Stdout => LineWriter::spawn(name, std::io::stdout(), dropped),
        LogTarget::File(path) => {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| AppError::log(path.clone(), error))?;
            LineWriter::spawn(name, std::io::BufWriter::new(file), dropped)
        }
    }
    .map_err(AppError::runtime)
}
