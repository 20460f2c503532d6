//! A process between its start and its end: admin side, signals, drain.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::build::App;
use super::error::AppError;
use super::greeting::{greet, stopped_example};
use super::now;
use crate::admin::{About, ControlSocket, SiteAbout, serve_address, serve_socket};
use crate::config::{Config, Overrides};
use crate::control::Order;
use crate::telemetry::AlarmKind;

/// The subject of alarms about certificates.
const CERTIFICATES: &str = "certificates";

/// The first of the real-time signals that a program may use: the C library keeps some for itself (signal(7)).
const SIGRTMIN: i32 = if cfg!(target_env = "musl") { 35 } else { 34 };

/// How long the writers of logs get at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

impl App {
    /// Starts the admin side, says what runs, and serves until a signal ends it.
    ///
    /// SIGHUP reads rules and certificates again, SIGRTMIN throws the kill switch. The first SIGTERM or SIGINT drains, the second ends at once.
    ///
    /// # Errors
    ///
    /// When the operating system grants no runtime or no signal handlers.
    pub fn serve(self, file: Option<&Path>) -> Result<(), AppError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AppError::runtime)?;
        let ended = runtime.block_on(self.until_stopped(file));
        // Connections to the admin side that still wait have nothing to wait for.
        runtime.shutdown_background();
        ended
    }

    async fn until_stopped(self, file: Option<&Path>) -> Result<(), AppError> {
        let mut signals = Signals::install()?;
        let (stop, stopped) = watch::channel(false);
        let draining = Arc::new(AtomicBool::new(false));
        let admin = self.start_admin(&stopped).await;
        let about = self.about(&admin);
        let (running, drains) = (Arc::clone(&self.running), Arc::clone(&draining));
        self.view.started(about.clone(), move || {
            running.workers() > 0 && !drains.load(Ordering::Relaxed)
        });
        greet(&about, &self.controller.handle().status());
        let mut watch = tokio::time::interval(self.config.control.watch_interval);
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::End => break,
                    Asked::KillSwitch => self.throw_kill_switch(),
                    Asked::Reload => self.reload(file).await,
                },
                _ = watch.tick() => self.reload_certificates().await,
            }
        }
        draining.store(true, Ordering::Relaxed);
        let deadline = self.config.drain_timeout;
        tracing::info!(
            deadline_seconds = deadline.as_secs(),
            "draining; a second signal ends at once"
        );
        tokio::select! {
            () = self.running.drain(deadline) => {}
            () = signals.end() => {
                tracing::warn!("ended at once; requests in progress were cut off");
                self.running.stop().await;
            }
        }
        if !self.writers.iter().all(|writer| writer.flush(LOG_PATIENCE)) {
            tracing::warn!("the last lines of a log could not be written");
        }
        stop.send_replace(true);
        if let Some(socket) = admin.socket {
            // Removes the control socket; its failure is told where it happened.
            let _ = socket.await;
        }
        tracing::info!("ended");
        Ok(())
    }

    /// Binds the read-only address and the control socket. Neither is a reason not to serve traffic.
    async fn start_admin(&self, stopped: &watch::Receiver<bool>) -> Admin {
        let mut admin = Admin::default();
        let address = self.config.admin.address;
        match TcpListener::bind(address).await {
            Ok(listener) => {
                admin.address = listener.local_addr().ok();
                let serve = serve_address(listener, self.view.clone(), ended(stopped.clone()));
                tokio::spawn(told(serve));
            }
            Err(error) => self.admin_alarm(&address.to_string(), &error.to_string()),
        }
        let place = self.config.admin.socket.clone().or_else(|| {
            // In memory, no other place is known to be private.
            Some(self.state.path()?.join(crate::config::CONTROL_SOCKET))
        });
        let Some(place) = place else {
            return admin;
        };
        match ControlSocket::bind(&place) {
            Ok(socket) => {
                let serve = serve_socket(socket, self.view.clone(), ended(stopped.clone()));
                admin.socket = Some(tokio::spawn(told(serve)));
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let reason = format!("{error}{}", cause.unwrap_or_default());
                self.admin_alarm(&place.display().to_string(), &reason);
            }
        }
        admin
    }

    fn admin_alarm(&self, subject: &str, reason: &str) {
        self.alarms
            .raise(AlarmKind::AdminUnavailable, subject, reason, now());
    }

    fn about(&self, admin: &Admin) -> About {
        let sites = self.config.sites.iter().map(|site| SiteAbout {
            name: site.name.clone(),
            hosts: site.hosts.clone(),
            upstreams: site.upstreams.iter().map(ToString::to_string).collect(),
        });
        let listeners = self.running.addresses();
        let secure = listeners
            .iter()
            .zip(&self.config.listeners)
            .filter(|(_, listener)| !listener.tls.is_empty());
        About {
            listeners: listeners.to_vec(),
            tls_listeners: secure.map(|(address, _)| *address).collect(),
            workers: self.running.workers(),
            sites: sites.collect(),
            admin: admin.address,
            state_dir: self.state.path().map(|path| path.display().to_string()),
            stopped_example: stopped_example(&self.controller.handle().status()),
        }
    }

    /// Looks whether the certificates of TLS listeners have changed.
    async fn reload_certificates(&self) {
        if self
            .config
            .listeners
            .iter()
            .all(|listener| listener.tls.is_empty())
        {
            return;
        }
        let running = Arc::clone(&self.running);
        let reload = tokio::task::spawn_blocking(move || running.reload_certificates());
        let Ok((changed, errors)) = reload.await else {
            return;
        };
        if changed > 0 {
            tracing::info!(
                listeners = changed,
                "new connections get the new certificates"
            );
        }
        if errors.is_empty() {
            self.alarms.clear(AlarmKind::Certificate, CERTIFICATES);
        }
        for error in errors {
            let mut reason = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                reason.push_str(&format!(": {error}"));
                cause = error.source();
            }
            reason.push_str("; those in use stay");
            self.alarms
                .raise(AlarmKind::Certificate, CERTIFICATES, &reason, now());
        }
    }

    /// Lifts everything. The rest of the control side may take its time to follow, or never do.
    fn throw_kill_switch(&self) {
        tracing::warn!(
            "kill switch thrown by a signal; `stopgap kill-switch off` puts everything back"
        );
        let control = self.controller.handle();
        tokio::spawn(async move {
            if let Err(error) = control.order(Order::KillSwitch(true)).await {
                tracing::error!(%error, "kill switch");
            }
        });
    }

    /// Reads certificates and rules again, and says what of the settings would take a restart.
    async fn reload(&self, file: Option<&Path>) {
        self.reload_certificates().await;
        if let Some(path) = file {
            match Config::load(Some(path), &Overrides::default(), |_| None) {
                Ok(_) => tracing::info!(
                    file = %path.display(),
                    "the settings file can be used; changes in it take effect at the next start, rules now"
                ),
                Err(error) => {
                    tracing::error!(%error, "the settings file cannot be used; what runs stays");
                }
            }
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
            }
            Err(error) => tracing::error!(%error, "not reloaded"),
        }
    }
}

/// What of the admin side could be started.
#[derive(Default)]
struct Admin {
    address: Option<std::net::SocketAddr>,
    socket: Option<JoinHandle<()>>,
}

/// What a signal asks for.
enum Asked {
    End,
    KillSwitch,
    Reload,
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    kill_switch: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> Result<Self, AppError> {
        let handler = |kind| signal(kind).map_err(AppError::runtime);
        Ok(Self {
            hangup: handler(SignalKind::hangup())?,
            interrupt: handler(SignalKind::interrupt())?,
            kill_switch: handler(SignalKind::from_raw(SIGRTMIN))?,
            terminate: handler(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.kill_switch.recv() => Asked::KillSwitch,
            _ = self.terminate.recv() => Asked::End,
        }
    }

    /// Waits for SIGTERM or SIGINT; there is nothing to reload any more.
    async fn end(&mut self) {
        while !matches!(self.next().await, Asked::End) {}
    }
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // The sender goes only at the end.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn told(serve: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = serve.await {
        tracing::error!(%error, "the admin side ended");
    }
}
