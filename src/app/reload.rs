//! Settings that take effect while the process runs, by a new generation of workers beside the old one.

use std::error::Error;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use super::build::{App, Logs, proof_targets, proxy_config};
use super::error::AppError;
use super::now;
use crate::config::{Config, Overrides};
use crate::control::{ControlConfig, ControlError, Order, ServerSettings, SourceSettings};

/// Where settings come from, each time they are read.
#[derive(Clone, Debug, Default)]
pub struct SettingsSource {
    /// The settings file.
    pub file: Option<PathBuf>,
    /// What flags say.
    pub overrides: Overrides,
}

impl App {
    /// Reads settings, certificates and rules again. What of them was refused, or has to wait, is the result.
    pub(super) async fn reload(&mut self, source: &SettingsSource) -> Vec<String> {
        self.reload_certificates().await;
        let mut notes = self.apply_settings(source).await;
        for note in &notes {
            tracing::error!(note, "not taken from the settings; what was in force stays");
        }
        match self.controller.handle().order(Order::Reload).await {
            Ok(outcome) => {
                for reason in &outcome.refused {
                    tracing::error!(reason, "refused at reload; what was in force stays");
                }
                tracing::info!(
                    revision = outcome.revision,
                    changed = outcome.changed,
                    "reloaded"
                );
                notes.extend(outcome.refused);
            }
            Err(error) => tracing::error!(%error, "not reloaded"),
        }
        notes
    }

    /// Puts in force what has changed in the settings; what of it could not be is the result.
    pub(super) async fn apply_settings(&mut self, source: &SettingsSource) -> Vec<String> {
        let loaded = Config::load(source.file.as_deref(), &source.overrides, |name| {
            std::env::var_os(name)
        });
        let mut new = match loaded {
            Ok(new) => new,
            Err(error) => {
                return vec![format!(
                    "the settings file cannot be used: {}",
                    explain(&error)
                )];
            }
        };
        let mut notes = self.waiting(&new);
        if new.control.sites != self.config.control.sites {
            // Rule sets are numbered by sites.
            new.sites.clone_from(&self.config.sites);
            new.control
                .versions
                .clone_from(&self.config.control.versions);
            new.control
                .document_roots
                .clone_from(&self.config.control.document_roots);
        }
        let replaced = data_plane(&new) != data_plane(&self.config);
        if replaced {
            match self.replace_proxy(&new).await {
                Ok(()) => tracing::info!("settings of listeners, sites and limits are in force"),
                Err(error) => {
                    notes.push(explain(&error));
                    return notes;
                }
            }
        }
        if new.control.sites == self.config.control.sites
            && let Err(error) = self.replace_servers(&new.control).await
        {
            notes.push(explain(&error));
        }
        // Before exceptions, since the policy says how long they may last.
        if let Err(error) = self.replace_sources(&new.control).await {
            notes.push(explain(&error));
        }
        if new.control.exceptions != self.config.control.exceptions {
            let order = Order::ExceptBySettings(new.control.exceptions.clone());
            match self.controller.handle().order(order).await {
                Ok(_) => self.config.control.exceptions = new.control.exceptions,
                Err(error) => notes.push(explain(&error)),
            }
        }
        if new.control.notify != self.config.control.notify {
            self.controller.notify(&new.control.notify);
            let notify = &mut self.config.control.notify;
            notify.clone_from(&new.control.notify);
        }
        // A server that comes may be of an older build than those that are.
        self.controller.ask_versions(new.control.versions.clone());
        self.config.control.versions = new.control.versions;
        self.config.listeners = new.listeners;
        self.config.sites = new.sites;
        self.config.workers = new.workers;
        self.config.limits = new.limits;
        self.config.forwarding = new.forwarding;
        self.config.log = new.log;
        self.config.drain_timeout = new.drain_timeout;
        if replaced {
            self.controller
                .prove(proof_targets(&self.config, &self.running));
            self.view.renew(|about| self.describe_traffic(about));
        }
        notes
    }

    /// Has other servers, sidecars and pools.
    async fn replace_servers(&mut self, new: &ControlConfig) -> Result<(), ControlError> {
        let settings = servers(new);
        if settings == servers(&self.config.control) {
            return Ok(());
        }
        let order = Order::Servers(Box::new(settings.clone()));
        let outcome = self.controller.handle().order(order).await?;
        for note in outcome.notes {
            tracing::warn!(note, "settings of sidecars");
        }
        let control = &mut self.config.control;
        control.servers = settings.servers;
        control.server_sites = settings.server_sites;
        control.sidecars = settings.sidecars;
        control.pools = settings.pools;
        tracing::info!("settings of servers, sidecars and pools are in force");
        Ok(())
    }

    /// Has other sources of mitigations and another policy, or nothing of them.
    async fn replace_sources(&mut self, new: &ControlConfig) -> Result<(), ControlError> {
        let settings = SourceSettings::of(new);
        if settings == SourceSettings::of(&self.config.control) {
            return Ok(());
        }
        new.check_exceptions(now())?;
        let order = Order::Sources(Box::new(settings.clone()));
        self.controller.handle().order(order).await?;
        self.config.control = settings.within(&self.config.control);
        tracing::info!("settings of feeds, rules and policy are in force");
        Ok(())
    }

    /// What has changed and takes effect at the next start only.
    fn waiting(&self, new: &Config) -> Vec<String> {
        let (old, control) = (&self.config, &self.config.control);
        let differing = [
            (
                "the names and number of [[site]]",
                differ(&control.sites, &new.control.sites),
            ),
            (
                "[[sidecar]] and [[pool]], since [[site]] has to wait",
                control.sites != new.control.sites && servers(control) != servers(&new.control),
            ),
            (
                "document_root, since [[site]] has to wait",
                control.sites != new.control.sites
                    && control.document_roots != new.control.document_roots,
            ),
            ("instance", differ(&control.instance, &new.control.instance)),
            ("[admin]", differ(&old.admin, &new.admin)),
            ("state_dir", differ(&old.state_dir, &new.state_dir)),
        ];
        let waiting = differing.into_iter().filter(|(_, differs)| *differs);
        waiting
            .map(|(name, _)| format!("{name}: the change takes effect at the next start, which SIGUSR2 does without losing a connection"))
            .collect()
    }

    /// Starts workers with the new settings on the same sockets, then has the old ones finish what they have.
    async fn replace_proxy(&mut self, new: &Config) -> Result<(), AppError> {
        let logs = match differ(&self.config.log, &new.log) {
            true => Logs::open(&new.log, &self.dropped)?,
            false => self.logs.clone(),
        };
        let proxy = proxy_config(new, &self.view, &logs, self.controller.probes());
        let running = Arc::clone(&self.running);
        let start = tokio::task::spawn_blocking(move || running.successor(proxy)?.start());
        let started = start
            .await
            .map_err(|error| AppError::runtime(error.into()))??;
        let old = std::mem::replace(&mut self.running, Arc::new(started));
        self.current.send_replace(Arc::clone(&self.running));
        self.logs = logs;
        self.retired.retain(|retired| retired.workers() > 0);
        self.retired.push(Arc::clone(&old));
        // A long poll gets the time that it had.
        let deadline = new.drain_timeout.max(self.config.limits.long_poll_timeout);
        tokio::spawn(async move { old.drain(deadline).await });
        Ok(())
    }
}

fn servers(control: &ControlConfig) -> ServerSettings {
    ServerSettings {
        servers: control.servers.clone(),
        server_sites: control.server_sites.clone(),
        sidecars: control.sidecars.clone(),
        pools: control.pools.clone(),
    }
}

/// What the data plane is made from, in a form that shows every difference.
fn data_plane(config: &Config) -> String {
    let parts = (
        &config.listeners,
        &config.sites,
        config.workers,
        &config.limits,
        config.forwarding,
        &config.log,
    );
    format!("{parts:?}")
}

fn differ(old: &impl Debug, new: &impl Debug) -> bool {
    format!("{old:?}") != format!("{new:?}")
}

fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
