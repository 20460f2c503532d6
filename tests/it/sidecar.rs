//! The sidecar's agent: what it stops, what it restores, and what a crash at any step leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use proptest::test_runner::Config;
use stopgap::sidecar::{
    Action, Agent, AgentConfig, AllowList, Answer, Desired, Driver, DriverError, DryRun, Found,
    Holder, JournalStore, Name, NamePattern, Plan, Reply, Request, Startup, Target, TargetResult,
    TargetState, Undo,
};
use stopgap::store::{Slot, StateDir, StoreError};

/// Steps that may still be taken before the power goes, and whether the last one takes effect.
#[derive(Clone, Default)]
struct Power(Arc<Mutex<Option<(usize, bool)>>>);

enum Step {
    Dead,
    Last,
    Taken,
}

impl Power {
    fn goes_after(&self, steps: usize, last_takes_effect: bool) {
        *self.0.lock().unwrap() = Some((steps, last_takes_effect));
    }

    fn is_back(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn is_out(&self) -> bool {
        matches!(*self.0.lock().unwrap(), Some((0, _)))
    }

    fn step(&self) -> Step {
        match &mut *self.0.lock().unwrap() {
            None => Step::Taken,
            Some((0, _)) => Step::Dead,
            Some((steps, last)) => {
                *steps -= 1;
                match (*steps, *last) {
                    (0, true) => Step::Last,
                    (0, false) => Step::Dead,
                    _ => Step::Taken,
                }
            }
        }
    }

    /// Takes a step of the driver.
    async fn spend(&self, effect: Answer<'_, ()>) -> Result<(), DriverError> {
        match self.step() {
            Step::Taken => effect.await,
            Step::Last => {
                effect.await?;
                Err(DriverError::new("the power is out"))
            }
            Step::Dead => Err(DriverError::new("the power is out")),
        }
    }
}

/// A driver, and the disk beside it, that stop working from one step to the next.
#[derive(Clone)]
struct Mortal<T> {
    inner: T,
    power: Power,
}

impl Driver for Mortal<DryRun> {
    fn name(&self) -> &'static str {
        "mortal"
    }

    fn health(&self) -> Answer<'_, ()> {
        self.inner.health()
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<Found>> {
        match self.power.is_out() {
            true => Box::pin(async { Err(DriverError::new("the power is out")) }),
            false => self.inner.inspect(target),
        }
    }

    fn set_startup<'a>(&'a self, target: &'a Target, startup: Startup) -> Answer<'a, ()> {
        Box::pin(self.power.spend(self.inner.set_startup(target, startup)))
    }

    fn start<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        Box::pin(self.power.spend(self.inner.start(target)))
    }

    fn stop<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        Box::pin(self.power.spend(self.inner.stop(target)))
    }

    fn barred(&self, target: &Target, original: Startup) -> Startup {
        self.inner.barred(target, original)
    }

    fn startable(&self, target: &Target) -> Startup {
        self.inner.startable(target)
    }
}

impl JournalStore for Mortal<Slot> {
    fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.read()
    }

    fn replace(&self, content: &[u8]) -> Result<(), StoreError> {
        let power_is_out =
            || StateDir::open(Path::new("/dev/null/no folder")).expect_err("no folder there");
        match self.power.step() {
            Step::Taken => self.inner.replace(content),
            Step::Last => {
                self.inner.replace(content)?;
                Err(power_is_out())
            }
            Step::Dead => Err(power_is_out()),
        }
    }
}

const TARGETS: usize = 4;

pub(crate) fn service(name: &str) -> Target {
    Target::Service(Name::new(name).unwrap())
}

pub(crate) fn target(index: usize) -> Target {
    match index {
        0 => Target::Pool(Name::new("ECPAppPool").unwrap()),
        1 => service("POP"),
        2 => service("UM"),
        _ => service("IMAP"),
    }
}

/// Every combination of running and startup that differs in how it is restored.
pub(crate) fn originals() -> BTreeMap<Target, TargetState> {
    let state = |running, startup| TargetState { running, startup };
    BTreeMap::from([
        (target(0), state(true, Startup::AutomaticDelayed)),
        (target(1), state(false, Startup::Manual)),
        // Running although barred, as after somebody disabled it without stopping it.
        (target(2), state(true, Startup::Disabled)),
        (target(3), state(false, Startup::Disabled)),
        (service("HM"), state(true, Startup::Automatic)),
    ])
}

/// A server, the sidecar's disk, and the sidecar's configuration.
pub(crate) struct Host {
    driver: Mortal<DryRun>,
    store: Mortal<Slot>,
    power: Power,
}

impl Host {
    pub(crate) fn new() -> Self {
        let power = Power::default();
        Self {
            driver: Mortal {
                inner: DryRun::with(originals()),
                power: power.clone(),
            },
            store: Mortal {
                inner: StateDir::memory().slot("journal"),
                power: power.clone(),
            },
            power,
        }
    }

    /// A sidecar that starts on this host.
    pub(crate) fn agent(&self) -> Agent {
        agent(Box::new(self.driver.clone()), Box::new(self.store.clone()))
    }
}

pub(crate) fn agent(driver: Box<dyn Driver>, store: Box<dyn JournalStore>) -> Agent {
    let patterns = |texts: &[&str]| {
        let patterns = texts.iter().map(|text| NamePattern::new(text).unwrap());
        patterns.collect()
    };
    let config = AgentConfig {
        allow: AllowList {
            services: patterns(&["UM", "POP", "IMAP", "W3SVC", "Gone"]),
            pools: patterns(&["*AppPool"]),
            denied: Vec::new(),
        },
        health_managers: vec![Name::new("HM").unwrap(), Name::new("HMRecovery").unwrap()],
        settle_timeout: Duration::ZERO,
        ..AgentConfig::default()
    };
    Agent::new(config, driver, store).unwrap()
}

pub(crate) fn holder(mitigation: usize) -> Holder {
    Holder::new(&format!("M{mitigation}")).unwrap()
}

pub(crate) fn apply(mitigation: usize, targets: &[(usize, Desired)]) -> Request {
    let actions = targets.iter().map(|(index, desired)| Action {
        target: target(*index),
        desired: *desired,
    });
    Request::Apply(Plan {
        mitigation: holder(mitigation),
        actions: actions.collect(),
    })
}

pub(crate) fn undo(mitigation: usize) -> Request {
    Request::Undo(Undo {
        mitigation: holder(mitigation),
    })
}

/// What each mitigation should hold.
pub(crate) type Held = BTreeMap<usize, BTreeMap<usize, Desired>>;

/// The state that every target of the host must be in.
fn expected(held: &Held) -> BTreeMap<Target, TargetState> {
    let mut states = originals();
    let mut stop = |target: Target, desired| {
        let original = originals()[&target];
        let startup = match desired {
            Desired::Disabled => Startup::Disabled,
            Desired::Stopped => original.startup,
        };
        let stopped = TargetState {
            running: false,
            startup,
        };
        states.insert(target, stopped);
    };
    for index in 0..TARGETS {
        let strictest = held.values().filter_map(|of| of.get(&index)).max();
        if let Some(desired) = strictest {
            stop(target(index), *desired);
        }
    }
    if held.values().any(|of| !of.is_empty()) {
        stop(service("HM"), Desired::Disabled);
    }
    states
}

async fn report(agent: &Agent) -> BTreeMap<Target, (TargetState, BTreeSet<Holder>)> {
    match agent.answer(Request::State).await.unwrap() {
        Reply::State(reports) => reports
            .into_iter()
            .map(|report| {
                let holders = report.holders.into_iter().collect();
                (report.target, (report.original, holders))
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn results(agent: &Agent, request: Request) -> BTreeMap<Target, TargetResult> {
    match agent.answer(request).await.unwrap() {
        Reply::Outcomes(outcomes) => outcomes
            .into_iter()
            .map(|outcome| (outcome.target, outcome.result))
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// Everything is where it should be, and the journal knows the true original of everything that is held.
pub(crate) async fn check(host: &Host, agent: &Agent, held: &Held) {
    assert_eq!(host.driver.inner.states(), expected(held), "{held:?}");
    let report = report(agent).await;
    for (target, (original, _)) in &report {
        assert_eq!(*original, originals()[target], "original of {target}");
    }
    let holders = |index: usize| -> BTreeSet<Holder> {
        let of = held
            .iter()
            .filter(|(_, targets)| targets.contains_key(&index));
        of.map(|(mitigation, _)| holder(*mitigation)).collect()
    };
    for index in 0..TARGETS {
        let known = report
            .get(&target(index))
            .map(|(_, holders)| holders.clone());
        assert_eq!(
            known.unwrap_or_default(),
            holders(index),
            "{}",
            target(index)
        );
    }
    let everyone: BTreeSet<Holder> = (0..TARGETS).flat_map(holders).collect();
    let known = report
        .get(&service("HM"))
        .map(|(_, holders)| holders.clone());
    assert_eq!(known.unwrap_or_default(), everyone, "the hold count");
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Apply(usize, BTreeMap<usize, Desired>),
    Interfere(usize),
    Undo(usize),
}

impl Event {
    fn request(&self) -> Option<Request> {
        match self {
            Self::Apply(mitigation, targets) => {
                let targets: Vec<_> = targets.iter().map(|(index, how)| (*index, *how)).collect();
                Some(apply(*mitigation, &targets))
            }
            Self::Interfere(_) => None,
            Self::Undo(mitigation) => Some(undo(*mitigation)),
        }
    }

    fn after(&self, held: &Held) -> Held {
        let mut after = held.clone();
        match self {
            Self::Apply(mitigation, targets) => {
                after.insert(*mitigation, targets.clone());
            }
            Self::Interfere(_) => {}
            Self::Undo(mitigation) => {
                after.remove(mitigation);
            }
        }
        after
    }
}

fn event() -> impl Strategy<Value = Event> {
    let desired = prop_oneof![Just(Desired::Stopped), Just(Desired::Disabled)];
    let targets = prop::collection::btree_map(0..TARGETS, desired, 0..TARGETS);
    prop_oneof![
        3 => (1..4_usize, targets).prop_map(|(mitigation, targets)| Event::Apply(mitigation, targets)),
        1 => (0..TARGETS).prop_map(Event::Interfere),
        2 => (1..4_usize).prop_map(Event::Undo),
    ]
}

/// Lets an event happen, with a power cut in it if one is given, and returns what is held afterwards.
async fn happen(
    host: &Host,
    agent: &mut Agent,
    held: &Held,
    event: &Event,
    cut: Option<(usize, bool)>,
) -> Held {
    let Some(request) = event.request() else {
        let Event::Interfere(index) = event else {
            unreachable!()
        };
        let is_held = held.values().any(|of| of.contains_key(index));
        if is_held {
            let started = TargetState {
                running: true,
                startup: Startup::Automatic,
            };
            host.driver.inner.interfere(target(*index), started);
            assert_eq!(agent.converge().await, []);
        }
        return held.clone();
    };
    if let Some((steps, last)) = cut {
        host.power.goes_after(steps + 1, last);
    }
    // With a power cut in it, an order may end in any way.
    let answer = agent.answer(request).await;
    let survived = !host.power.is_out();
    host.power.is_back();
    if survived {
        answer.unwrap();
        return event.after(held);
    }
    *agent = host.agent();
    assert_eq!(agent.converge().await, [], "after {event:?} cut at {cut:?}");
    // The order was taken whole or not at all.
    let report = report(agent).await;
    let taken: BTreeMap<usize, BTreeSet<usize>> = (1..4)
        .map(|mitigation| {
            let holds = |index: &usize| {
                let of = report.get(&target(*index));
                of.is_some_and(|(_, holders)| holders.contains(&holder(mitigation)))
            };
            (mitigation, (0..TARGETS).filter(holds).collect())
        })
        .collect();
    let same = |held: &Held| {
        (1..4).all(|mitigation| {
            let of = held.get(&mitigation).map(|of| of.keys().copied().collect());
            taken[&mitigation] == of.unwrap_or_default()
        })
    };
    let after = event.after(held);
    if same(&after) && host.driver.inner.states() == expected(&after) {
        return after;
    }
    assert!(same(held), "{taken:?} is neither {held:?} nor {after:?}");
    held.clone()
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Every step of four overlapping orders, each cut before and after it takes effect.
#[test]
fn power_cut_at_any_step_leaves_nothing_half_done() {
    use Desired::{Disabled, Stopped};
    let orders = [
        Event::Apply(1, [(0, Disabled), (2, Disabled)].into()),
        Event::Apply(2, [(2, Stopped), (3, Disabled), (1, Disabled)].into()),
        Event::Apply(1, [(0, Stopped)].into()),
        Event::Undo(1),
        Event::Undo(2),
    ];
    let mut cuts = 0;
    for at in 0..orders.len() {
        for last in [false, true] {
            for steps in 0.. {
                let (reached, done) = run(async {
                    let host = Host::new();
                    let mut agent = host.agent();
                    let mut held = Held::new();
                    let mut reached = true;
                    for (index, order) in orders.iter().enumerate() {
                        if index == at {
                            host.power.goes_after(steps + 1, last);
                            drop(agent.answer(order.request().unwrap()).await);
                            reached = host.power.is_out();
                            host.power.is_back();
                            agent = host.agent();
                            assert_eq!(agent.converge().await, []);
                            // Asked again, as the proxy does each cycle.
                            agent.answer(order.request().unwrap()).await.unwrap();
                        } else {
                            agent.answer(order.request().unwrap()).await.unwrap();
                        }
                        held = order.after(&held);
                        check(&host, &agent, &held).await;
                    }
                    (reached, report(&agent).await.is_empty())
                });
                assert!(done);
                if !reached {
                    break;
                }
                cuts += 1;
            }
        }
    }
    assert!(cuts > 40, "only {cuts} cuts were reached");
}

proptest! {
    #![proptest_config(Config { cases: 1_000, ..Config::default() })]

    #[test]
    fn random_orders_and_power_cuts_never_lose_an_original(
        events in prop::collection::vec((event(), prop::option::of((0..14_usize, any::<bool>()))), 1..12),
    ) {
        run(async {
            let host = Host::new();
            let mut agent = host.agent();
            let mut held = Held::new();
            for (event, cut) in &events {
                held = happen(&host, &mut agent, &held, event, *cut).await;
                check(&host, &agent, &held).await;
            }
            for mitigation in 1..4 {
                agent.answer(undo(mitigation)).await.unwrap();
            }
            assert_eq!(host.driver.inner.states(), originals());
            assert!(report(&agent).await.is_empty());
        });
    }
}
