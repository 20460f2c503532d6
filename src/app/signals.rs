//! A process between its start and its end: admin side, signals, drain.

use std::error::Error;
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
use super::handover::relieve;
use super::now;
use super::protection::warn_of_certificates;
use super::reload::SettingsSource;
use crate::admin::{
    About, ControlSocket, ServerReport, SiteAbout, UpstreamReport, serve_address, serve_socket,
};
use crate::control::Order;
use crate::net::ServiceManager;
use crate::proxy::{Running, ServerStatus, UpstreamStatus};
use crate::telemetry::AlarmKind;

/// The subject of alarms about certificates.
const CERTIFICATES: &str = "certificates";

/// The first of the real-time signals that a program may use: the C library keeps some for itself (signal(7)).
const SIGRTMIN: i32 = if cfg!(target_env = "musl") { 35 } else { 34 };
/// Where a service manager says that it wants to be told.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// How long clients of the admin side get at the end.
const ADMIN_PATIENCE: Duration = Duration::from_secs(2);

/// How long the writers of logs get at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

impl App {
    /// Starts the admin side, says what runs, and serves until a signal ends it.
    ///
    /// SIGHUP reads settings, rules and certificates again, SIGUSR2 starts the next process, SIGRTMIN throws the kill
    /// switch. The first SIGTERM or SIGINT drains, the second ends at once.
    ///
    /// # Errors
    ///
    /// When the operating system grants no runtime or no signal handlers.
    pub fn serve(self, source: &SettingsSource) -> Result<(), AppError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AppError::runtime)?;
        let ended = runtime.block_on(self.until_stopped(source));
        // Connections to the admin side that still wait have nothing to wait for.
        runtime.shutdown_background();
        ended
    }

    async fn until_stopped(mut self, source: &SettingsSource) -> Result<(), AppError> {
        let mut signals = Signals::install()?;
        let (stop, stopped) = watch::channel(false);
        let draining = Arc::new(AtomicBool::new(false));
        relieve(self.handover.take(), &self.running).await;
        let mut admin = self.start_admin(&stopped).await;
        let about = self.about(&admin);
        let (running, drains) = (self.current.subscribe(), Arc::clone(&draining));
        let mut reloads = self.view.reloads();
        self.view.started(about.clone(), move || {
            running.borrow().workers() > 0 && !drains.load(Ordering::Relaxed)
        });
        let running = self.current.subscribe();
        self.view.watch_upstreams(move || {
            let upstreams = running.borrow().upstreams();
            upstreams.into_iter().map(report).collect()
        });
        greet(&about, &self.controller.handle().status());
        let mut manager = service_manager();
        manager.ready();
        tokio::spawn(warn_of_certificates(self.config.clone()));
        let mut watch = tokio::time::interval(self.config.control.watch_interval);
        let next = loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::End => break None,
                    Asked::HandOver => {
                        if let Some(next) = self.start_next().await {
                            break Some(next);
                        }
                    }
                    Asked::KillSwitch => self.throw_kill_switch(),
                    Asked::Reload => {
                        manager.reloading();
                        drop(self.reload(source).await);
                        manager.ready();
                    }
                },
                Some(answer) = reloads.recv() => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.apply_settings(source).await);
                }
                _ = watch.tick() => self.reload_certificates().await,
            }
            if watch.period() != self.config.control.watch_interval {
                watch = tokio::time::interval(self.config.control.watch_interval);
            }
        };
        draining.store(true, Ordering::Relaxed);
        if let Some(next) = &next {
            manager.succeeded_by(next.process);
            // What else this process says is of no interest any more.
            manager = ServiceManager::default();
            tracing::info!(process = next.process, "the next process serves");
            end_admin(&stop, &mut admin).await;
            next.release();
        }
        manager.stopping();
        let deadline = self.config.drain_timeout;
        tracing::info!(
            deadline_seconds = deadline.as_secs(),
            "draining; a second signal ends at once"
        );
        tokio::select! {
            () = self.drain(deadline) => {}
            () = signals.end() => {
                tracing::warn!("ended at once; requests in progress were cut off");
                for running in self.generations() {
                    running.stop().await;
                }
            }
        }
        if !self.logs.writers().all(|writer| writer.flush(LOG_PATIENCE)) {
            tracing::warn!("the last lines of a log could not be written");
        }
        end_admin(&stop, &mut admin).await;
        tracing::info!("ended");
        Ok(())
    }

    /// All workers: those that serve, and those of earlier settings.
    fn generations(&self) -> impl Iterator<Item = &Arc<Running>> {
        self.retired.iter().chain([&self.running])
    }

    async fn drain(&self, deadline: Duration) {
        let drains: Vec<_> = self
            .generations()
            .map(|running| {
                let running = Arc::clone(running);
                tokio::spawn(async move { running.drain(deadline).await })
            })
            .collect();
        for drain in drains {
            // It cannot fail but by a fault of ours, which ends nothing else.
            let _ = drain.await;
        }
    }

    /// Binds the read-only address and the control socket. Neither is a reason not to serve traffic.
    async fn start_admin(&self, stopped: &watch::Receiver<bool>) -> Admin {
        let mut admin = Admin::default();
        let address = self.config.admin.address;
        match TcpListener::bind(address).await {
            Ok(listener) => {
                admin.address = listener.local_addr().ok();
                let serve = serve_address(listener, self.view.clone(), ended(stopped.clone()));
                admin.read_only = Some(tokio::spawn(told(serve)));
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
        let mut about = About {
            listeners: Vec::new(),
            tls_listeners: Vec::new(),
            workers: 0,
            sites: Vec::new(),
            admin: admin.address,
            state_dir: self.state.path().map(|path| path.display().to_string()),
            stopped_example: stopped_example(&self.controller.handle().status()),
        };
        self.describe_traffic(&mut about);
        about
    }

    /// Says where traffic comes in now, and where it goes.
    pub(super) fn describe_traffic(&self, about: &mut About) {
        let sites = self.config.sites.iter().map(|site| SiteAbout {
            name: site.name.clone(),
            hosts: site.hosts.clone(),
            upstreams: site.servers().map(ToString::to_string).collect(),
        });
        let listeners = self.running.addresses();
        let secure = listeners
            .iter()
            .zip(&self.config.listeners)
            .filter(|(_, listener)| !listener.tls.is_empty());
        about.tls_listeners = secure.map(|(address, _)| address.clone()).collect();
        about.listeners = listeners.to_vec();
        about.workers = self.running.workers();
        about.sites = sites.collect();
    }

    /// Looks whether the certificates of TLS listeners have changed.
    pub(super) async fn reload_certificates(&self) {
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
}

/// Whoever started this process, and wants to be told of it.
fn service_manager() -> ServiceManager {
    let Some(name) = std::env::var_os(NOTIFY_SOCKET) else {
        return ServiceManager::default();
    };
    ServiceManager::at(&name).unwrap_or_else(|error| {
        tracing::warn!(%error, "the service manager cannot be told");
        ServiceManager::default()
    })
}

fn report(upstream: UpstreamStatus) -> UpstreamReport {
    let server = |server: ServerStatus| ServerReport {
        server: server.server,
        weight: server.weight,
        backup: server.backup,
        state: server.state,
        reason: server.reason,
        failures: server.failures,
        in_use: server.in_use,
    };
    UpstreamReport {
        name: upstream.name,
        balance: upstream.balance,
        waiting: upstream.waiting,
        servers: upstream.servers.into_iter().map(server).collect(),
    }
}

/// What of the admin side could be started.
#[derive(Default)]
struct Admin {
    address: Option<std::net::SocketAddr>,
    read_only: Option<JoinHandle<()>>,
    socket: Option<JoinHandle<()>>,
}

/// What a signal asks for.
enum Asked {
    End,
    HandOver,
    KillSwitch,
    Reload,
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    kill_switch: Signal,
    terminate: Signal,
    user: Signal,
}

impl Signals {
    fn install() -> Result<Self, AppError> {
        let handler = |kind| signal(kind).map_err(AppError::runtime);
        Ok(Self {
            hangup: handler(SignalKind::hangup())?,
            interrupt: handler(SignalKind::interrupt())?,
            kill_switch: handler(SignalKind::from_raw(SIGRTMIN))?,
            terminate: handler(SignalKind::terminate())?,
            user: handler(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.kill_switch.recv() => Asked::KillSwitch,
            _ = self.terminate.recv() => Asked::End,
            _ = self.user.recv() => Asked::HandOver,
        }
    }

    /// Waits for SIGTERM or SIGINT; there is nothing to reload any more.
    async fn end(&mut self) {
        while !matches!(self.next().await, Asked::End) {}
    }
}

/// Has the admin side end, and waits until its places are free.
async fn end_admin(stop: &watch::Sender<bool>, admin: &mut Admin) {
    stop.send_replace(true);
    for served in [admin.read_only.take(), admin.socket.take()]
        .into_iter()
        .flatten()
    {
        // A client that does not go has had its time; failures are told where they happened.
        let _ = tokio::time::timeout(ADMIN_PATIENCE, served).await;
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
