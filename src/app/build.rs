//! From checked settings to parts that run.

use std::fs::OpenOptions;
use std::sync::Arc;

use super::error::AppError;
use super::now;
use crate::admin::View;
use crate::config::{Config, LogTarget, SiteConfig};
use crate::control::{Controller, ProofListener, ProofTargets};
use crate::proxy::{AccessLog, Proxy, ProxyConfig, Running, Site, Upstream};
use crate::store::StateDir;
use crate::telemetry::{AlarmKind, Alarms, LineWriter, Metrics, init};

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
    /// The writers of logs, which get to write what is left at the end.
    pub(super) writers: Vec<LineWriter>,
}

/// Builds every part: the state folder, then rules, and only then sockets.
///
/// # Errors
///
/// When another process has the state folder, settings or rules cannot be used, or an address cannot be bound.
pub fn build(config: Config) -> Result<App, AppError> {
    init();
    let metrics = Metrics::default();
    let alarms = Alarms::new(&metrics);
    let state = open_state(&config, &alarms)?;
    let mut controller = Controller::start(
        config.control.clone(),
        &state,
        &metrics,
        alarms.clone(),
        now,
    )?;
    let view = View::new(controller.handle(), metrics.clone());
    let mut proxy = ProxyConfig::new(
        config.listeners.clone(),
        config
            .sites
            .iter()
            .map(|site| proxy_site(site, &view))
            .collect(),
        now,
    );
    proxy.probes = controller.probes();
    proxy.workers = config.workers;
    proxy.limits = config.limits.clone();
    let dropped = metrics.counter(
        "stopgap_log_lines_dropped",
        "Batches of access and decision lines dropped because their writer was behind",
    );
    if let Some(target) = &config.log.access {
        proxy.access_log = Some(AccessLog {
            writer: writer("access-log", target, dropped.clone())?,
            format: config.log.access_format,
        });
    }
    if let Some(target) = &config.log.decisions {
        proxy.decision_log = Some(writer("decision-log", target, dropped)?);
    }
    let access = proxy.access_log.iter().map(|log| log.writer.clone());
    let writers = access.chain(proxy.decision_log.clone()).collect();
    let running = Proxy::bind(proxy, controller.filter(), &metrics)?.start()?;
    controller.prove(proof_targets(&config, &running));
    Ok(App {
        config,
        state,
        alarms,
        view,
        controller,
        running: Arc::new(running),
        writers,
    })
}

/// Every listener with the address it got, and a host of every site.
fn proof_targets(config: &Config, running: &Running) -> ProofTargets {
    let listeners = running.addresses().iter().zip(&config.listeners);
    let listeners = listeners.map(|(address, listener)| ProofListener {
        address: *address,
        tls: !listener.tls.is_empty(),
    });
    let hosts = config.sites.iter().map(|site| site.hosts.first().cloned());
    ProofTargets {
        listeners: listeners.collect(),
        hosts: hosts.collect(),
    }
}

/// Takes the state folder, or goes on in memory with an alarm; only a folder in use is an end.
fn open_state(config: &Config, alarms: &Alarms) -> Result<StateDir, AppError> {
    let Some(path) = &config.state_dir else {
        let reason = "neither a setting nor the environment names one: state is kept in memory; set STOPGAP_STATE_DIR";
        alarms.raise(AlarmKind::State, STATE, reason, now());
        return Ok(StateDir::memory());
    };
    match StateDir::open(path) {
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
    Site {
        name: site.name.clone(),
        hosts: site.hosts.clone(),
        upstream,
    }
}

fn writer(
    name: &str,
    target: &LogTarget,
    dropped: crate::telemetry::Counter,
) -> Result<LineWriter, AppError> {
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
