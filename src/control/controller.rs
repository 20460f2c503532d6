//! The tasks that bring events to the engine, on a thread of their own.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle as RuntimeHandle, Runtime};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};

use super::config::ControlConfig;
use super::engine::Engine;
use super::error::ControlError;
use super::handle::{ControlHandle, Obeyed};
use super::kill_switch::{self, KillSwitchFile};
use super::notify::{Notifier, NotifyConfig};
use super::order::{Order, Outcome};
use super::polls::{Arrival, Polled, Polls};
use super::priority;
use super::prove::{self, PROOF_INTERVAL, Proof, ProofTargets, Prover};
use super::publisher::Publisher;
use super::report::View;
use super::version_probe::SiteServers;
use super::versions::Versions;
use crate::filter::{Handle, Probes};
use crate::mitigation::KillSwitch;
use crate::model::{Revision, UnixTime};
use crate::signature::random_octets;
use crate::store::StateDir;
use crate::telemetry::{Alarms, Metrics};

/// Orders that may wait.
const ORDERS: usize = 16;

/// How long a stop waits for work that is under way.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// The name of the threads on which rules are compiled, and of whatever else blocks.
const WORK_THREAD: &str = "stopgap-compile";

/// A running control side. Dropping it stops it and releases the state folder; the published rule set stays.
#[derive(Debug)]
pub struct Controller {
    filter: Handle,
    handle: ControlHandle,
    probes: Probes,
    versions: Versions,
    notifier: Notifier,
    runtime: RuntimeHandle,
    targets: watch::Sender<Option<ProofTargets>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Controller {
    /// Publishes the first rule set, from everything that needs no network, and starts the tasks.
    ///
    /// When it returns, the bundled set, local rules and the last good document of each feed are in force. `clock`
    /// tells the time of day; intervals are measured by the monotonic clock.
    ///
    /// # Errors
    ///
    /// When settings cannot be used, when local rules are refused and no earlier content of them is known
    /// ([`ControlError::is_invalid_input`]), or when no thread can be started.
    pub fn start(
        config: ControlConfig,
        state: &StateDir,
        metrics: &Metrics,
        alarms: Alarms,
        clock: fn() -> UnixTime,
    ) -> Result<Self, ControlError> {
        let watch_interval = config.watch_interval;
        let notify = config.notify.clone();
        let mut engine = Engine::new(config, state, metrics, alarms.clone(), clock)?;
        let runtime = runtime()?;
        let notifier = engine.notifier();
        notifier.set(&notify, runtime.handle());
        let switch = KillSwitchFile::new(state);
        let publisher = engine.publisher();
        publisher.follow(publisher.orders(), switch.read().unwrap_or(KillSwitch::Off));
        let (_, first) = engine.cycle();
        engine.tell(&first);
        let filter = publisher.handle();

        let revision = watch::Sender::new(first.revision);
        let view = watch::Sender::new(Arc::new(first));
        let (orders, waiting) = mpsc::channel(ORDERS);
        let handle = ControlHandle::new(
            orders,
            revision.subscribe(),
            view.subscribe(),
            Lift {
                publisher: publisher.clone(),
                file: switch.clone(),
            },
            alarms,
            clock,
        );
        let versions = engine.versions();
        let (stop, stopped) = oneshot::channel();
        let (targets, told) = watch::channel(None);
        let probes = secret_probes()?;
        let proving = Proving {
            probes: probes.clone(),
            targets: told,
        };
        let handle_of_runtime = runtime.handle().clone();
        let feeds = engine.polled();
        let tasks = Tasks {
            engine: Arc::new(Mutex::new(engine)),
            publisher,
            switch,
            revision,
            view,
            reload: Arc::new(Notify::new()),
            watch_interval,
        };
        let thread = std::thread::Builder::new()
            .name("stopgap-control".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        () = tasks.run(feeds, waiting, proving) => {}
                        _ = stopped => {}
                    }
                });
                // Work on a blocking thread still holds the state folder; a hung disk must not hold the stop.
                runtime.shutdown_timeout(STOP_DEADLINE);
            })
            .map_err(ControlError::thread)?;
        Ok(Self {
            filter,
            handle,
            probes,
            versions,
            notifier,
            runtime: handle_of_runtime,
            targets,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where filters find the published rule set.
    pub fn filter(&self) -> Handle {
        self.filter.clone()
    }

    /// How it marks its probes: what serves traffic has to know them.
    pub fn probes(&self) -> Probes {
        self.probes.clone()
    }

    /// Has everything proven that is in force: now, after each swap, and each minute; through other listeners once they
    /// are told.
    pub fn prove(&self, targets: ProofTargets) {
        self.targets.send_replace(Some(targets));
    }

    /// Has these servers asked for their builds from now on. One that is new, or asked in another way, is of an unknown
    /// build until it answers.
    pub fn ask_versions(&self, sites: Vec<SiteServers>) {
        self.versions.set(sites);
    }

    /// Has these receivers told from now on. Those before get what waits for them already.
    pub fn notify(&self, config: &NotifyConfig) {
        self.notifier.set(config, &self.runtime);
    }

    /// The way to ask it and to give it orders.
    pub fn handle(&self) -> ControlHandle {
        self.handle.clone()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was told on standard error already.
            let _ = thread.join();
        }
    }
}

/// The runtime of the tasks. Threads that it starts for what blocks, compiling above all, give way to traffic.
fn runtime() -> Result<Runtime, ControlError> {
    Builder::new_current_thread()
        .enable_all()
        .thread_name(WORK_THREAD)
        .on_thread_start(priority::give_way)
        .build()
        .map_err(ControlError::thread)
}

/// Probes with a secret of this process alone.
fn secret_probes() -> Result<Probes, ControlError> {
    let secret = random_octets().ok_or_else(|| {
        let reason = "the system gave no random numbers";
        ControlError::thread(std::io::Error::other(reason))
    })?;
    Ok(Probes::new(&secret))
}

/// The short way to lift everything, which waits for no plan.
#[derive(Clone, Debug)]
pub(super) struct Lift {
    publisher: Publisher,
    file: KillSwitchFile,
}

impl Lift {
    pub(super) fn switch(&self, on: bool) -> std::io::Result<()> {
        // The traffic first, then the disk.
        self.publisher.order(match on {
            true => KillSwitch::All,
            false => KillSwitch::Off,
        });
        self.file.write(on)?;
        self.publisher.unpin();
        Ok(())
    }
}

/// What proving begins with.
struct Proving {
    probes: Probes,
    targets: watch::Receiver<Option<ProofTargets>>,
}

struct Tasks {
    engine: Arc<Mutex<Engine>>,
    publisher: Publisher,
    switch: KillSwitchFile,
    revision: watch::Sender<Revision>,
    view: watch::Sender<Arc<View>>,
    reload: Arc<Notify>,
    watch_interval: Duration,
}

impl Tasks {
    async fn run(self, feeds: Vec<Polled>, mut orders: Orders, proving: Proving) {
        let (proved_in, mut proved) = mpsc::channel(1);
        tokio::spawn(prove(proving, self.view.subscribe(), proved_in));
        let (mut polls, mut fetched) = Polls::new(Arc::clone(&self.reload));
        polls.follow(feeds);
        let switched = Arc::new(Notify::new());
        tokio::spawn(watch_switch(
            self.switch.clone(),
            self.publisher.clone(),
            Arc::clone(&switched),
        ));
        // Sidecars and servers have said something.
        let answered = Arc::new(Notify::new());
        let (sidecars, versions) = {
            let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
            (engine.sidecars(), engine.versions())
        };
        tokio::spawn(sidecars.run(Arc::clone(&answered)));
        tokio::spawn(versions.run(Arc::clone(&answered)));
        let mut files = looks(self.watch_interval);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some((order, answer)) => {
                        self.obey(&order, answer).await;
                        if let Order::Sources(_) = order
                            && let Some((feeds, watch_interval)) = self.with(|engine| engine.watched()).await
                        {
                            polls.follow(feeds);
                            files = looks(watch_interval);
                        }
                    }
                    None => return,
                },
                () = switched.notified() => {
                    self.cycle().await;
                }
                () = answered.notified() => {
                    self.cycle().await;
                }
                Some(arrival) = fetched.recv() => {
                    let Arrival { feed, place, result, last, answer } = arrival;
                    let taken = self.with(move |engine| engine.take_fetched(feed, &place, result));
                    let taken = taken.await.flatten();
                    let ended = last || taken.as_ref().is_none_or(|taken| taken.succeeded);
                    if let Some(taken) = taken {
                        // The fetching task only wants to know how to go on; it may be gone at a stop.
                        let _ = answer.send(taken);
                    }
                    // A place that failed is told when it is known whether another one served.
                    if ended {
                        self.cycle().await;
                    }
                }
                Some((revision, proofs)) = proved.recv() => {
                    let taken = self.with(move |engine| engine.take_proofs(revision, proofs)).await;
                    if taken == Some(true) {
                        self.cycle().await;
                    }
                }
                _ = files.tick() => {
                    let changed = self.with(|engine| engine.look_at_files() || engine.is_outdated()).await;
                    if changed == Some(true) {
                        self.cycle().await;
                    }
                }
            }
        }
    }

    async fn obey(&self, order: &Order, answer: oneshot::Sender<Obeyed>) {
        let mut notes = Vec::new();
        match order {
            // The handle has set the switch; what is left is to bring the rest up to date.
            Order::KillSwitch(_) => {}
            Order::Reload => {
                self.with(Engine::look_at_files).await;
                self.reload.notify_waiters();
            }
            _ => {
                let order = order.clone();
                match self.with(move |engine| engine.obey(&order)).await {
                    Some(Ok(taken)) => notes = taken,
                    Some(Err(error)) => {
                        // Whoever asked may have given up.
                        let _ = answer.send(Err(error));
                        return;
                    }
                    None => return,
                }
            }
        }
        if let Some(outcome) = self.cycle().await {
            // As above.
            let _ = answer.send(Ok(Outcome { notes, ..outcome }));
        }
    }

    async fn cycle(&self) -> Option<Outcome> {
        let (shown, revision) = (self.view.clone(), self.revision.clone());
        self.with(move |engine| {
            let (outcome, view) = engine.cycle();
            let (published, view) = (view.revision, Arc::new(view));
            shown.send_replace(Arc::clone(&view));
            revision.send_if_modified(|revision| {
                let changed = *revision != published;
                *revision = published;
                changed
            });
            engine.tell(&view);
            outcome
        })
        .await
    }

    /// Works with the engine on a thread for blocking work; `None` if that panicked.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Option<T> {
        let engine = Arc::clone(&self.engine);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut engine.lock().unwrap_or_else(PoisonError::into_inner))
        });
        done.await
            .inspect_err(|error| tracing::error!(%error, "control work was lost"))
            .ok()
    }
}

/// Looks at rule files, the first after an interval: whoever asks has read every file already.
fn looks(interval: Duration) -> Interval {
    let first = tokio::time::Instant::now() + interval;
    let mut looks = tokio::time::interval_at(first, interval);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

type Orders = mpsc::Receiver<(Order, oneshot::Sender<Obeyed>)>;

/// Proves what is in force for ever: once it is known where, after each swap, and each minute.
async fn prove(
    proving: Proving,
    mut view: watch::Receiver<Arc<View>>,
    proved: mpsc::Sender<(Revision, Vec<Proof>)>,
) {
    let Proving {
        probes,
        mut targets,
    } = proving;
    loop {
        let known = targets.borrow_and_update().clone();
        let Some(known) = known else {
            match targets.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        let prover = Prover::new(known, probes.clone());
        loop {
            let current = Arc::clone(&view.borrow_and_update());
            let proofs = prover.round(&current).await;
            if proved.send((current.revision, proofs)).await.is_err() {
                return;
            }
            let swapped = view.wait_for(|view| view.revision != current.revision);
            // Whichever comes first; a control side that has gone ends this with the next send.
            let moved = tokio::select! {
                Ok(()) = targets.changed() => true,
                _ = tokio::time::timeout(PROOF_INTERVAL, swapped) => false,
            };
            tokio::time::sleep(prove::PAUSE).await;
            if moved {
                break;
            }
        }
    }
}

/// Looks at the switch's file for ever, and lifts everything without waiting for the engine.
async fn watch_switch(file: KillSwitchFile, publisher: Publisher, switched: Arc<Notify>) {
    let mut ticks = tokio::time::interval(kill_switch::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (file, orders) = (file.clone(), publisher.orders());
        let read = tokio::task::spawn_blocking(move || file.read()).await;
        if let Ok(Some(kill_switch)) = read
            && publisher.follow(orders, kill_switch)
        {
            switched.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(state: &StateDir) -> Tasks {
        let metrics = Metrics::default();
        let config = ControlConfig::default();
        let clock = || UnixTime::new(1_795_000_000);
        let mut engine =
            Engine::new(config, state, &metrics, Alarms::new(&metrics), clock).unwrap();
        let (_, first) = engine.cycle();
        Tasks {
            publisher: engine.publisher(),
            engine: Arc::new(Mutex::new(engine)),
            switch: KillSwitchFile::new(state),
            revision: watch::Sender::new(first.revision),
            view: watch::Sender::new(Arc::new(first)),
            reload: Arc::default(),
            watch_interval: Duration::from_secs(3_600),
        }
    }

    #[test]
    fn work_under_way_gives_way_to_traffic_and_holds_no_task_up() {
        let tasks = tasks(&StateDir::memory());
        let (begun, under_way) = oneshot::channel();
        let (finish, finished) = std::sync::mpsc::sync_channel(1);
        let work = tasks.with(move |engine| {
            begun.send(()).unwrap();
            // It is another task of the same thread that ends this.
            finished.recv().unwrap();
            engine.cycle();
            #[cfg(target_os = "linux")]
            {
                let (own, expected) = priority::niceness();
                assert_eq!(own, expected);
            }
        });
        let other = async {
            under_way.await.unwrap();
            finish.send(()).unwrap();
        };
        let (done, ()) = runtime()
            .unwrap()
            .block_on(async { tokio::join!(work, other) });
        assert_eq!(done, Some(()));
    }
}
