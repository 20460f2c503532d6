//! Carries out orders: journal first, then the change, then a look at whether it came about.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::allow::{AllowList, Refused};
use super::driver::{Answer, Driver, DriverError, Found};
use super::error::SidecarError;
use super::journal::{ENTRY_LIMIT, Entry, Journal, JournalStore};
use super::protocol::{
    Health, Holder, Outcome, Plan, Reply, Request, TargetReport, TargetResult, Undo,
};
use super::target::{Desired, Name, Target, TargetState};

/// How long one step of a driver may take by default: longer than the 90 s that systemd lets a unit take to stop.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a change may take to show, after the service manager said that it was done.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The time between two looks while a change is awaited; no service manager of all tells of it by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What the agent is told before it starts.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// What may be stopped.
    pub allow: AllowList,
    /// Services that would start again what was stopped: held with every target, released with the last.
    pub health_managers: Vec<Name>,
    /// How long one step of the driver may take.
    pub step_timeout: Duration,
    /// How long a change may take to show.
    pub settle_timeout: Duration,
}

impl Default for AgentConfig {
    /// Nothing may be stopped.
    fn default() -> Self {
        Self {
            allow: AllowList::default(),
            health_managers: Vec::new(),
            step_timeout: STEP_TIMEOUT,
            settle_timeout: SETTLE_TIMEOUT,
        }
    }
}

/// The part of the sidecar that decides and acts; one order at a time.
pub struct Agent {
    config: AgentConfig,
    driver: Box<dyn Driver>,
    journal: Mutex<Journal>,
}

impl Agent {
    /// An agent that goes on from what the journal says. Nothing is changed before [`converge`](Self::converge).
    ///
    /// # Errors
    ///
    /// When the journal cannot be read: without it, nothing could be restored.
    pub fn new(
        config: AgentConfig,
        driver: Box<dyn Driver>,
        store: Box<dyn JournalStore>,
    ) -> Result<Self, SidecarError> {
        let journal = Journal::open(store)?;
        Ok(Self {
            config,
            driver,
            journal: Mutex::new(journal),
        })
    }

    /// Answers one request. Dropped half-way it is as if the process had died there, which the journal covers; let
    /// it run to its end all the same.
    ///
    /// # Errors
    ///
    /// When the journal cannot be written; what of the order was done before stays journalled.
    pub async fn answer(&self, request: Request) -> Result<Reply, SidecarError> {
        Ok(match request {
            Request::Apply(plan) => Reply::Outcomes(self.apply(plan).await?),
            Request::Health => Reply::Health(self.health().await),
            Request::Plan(plan) => Reply::Outcomes(self.plan(&plan).await),
            Request::State => Reply::State(self.state().await),
            Request::Undo(undo) => Reply::Outcomes(self.undo(undo).await?),
        })
    }

    /// Brings everything that the journal names to where it should be: finishes what a crash cut off, undoes what
    /// somebody else changed. Returns what is still not there, with the reason.
    pub async fn converge(&self) -> Vec<(Target, String)> {
        let mut journal = self.journal.lock().await;
        let mut problems = Vec::new();
        for target in self.in_order(journal.entries()) {
            if let Err(problem) = self.settle(&mut journal, &target).await {
                problems.push((target, problem));
            }
        }
        problems
    }

    /// Waits until no order is being carried out.
    pub async fn rest(&self) {
        drop(self.journal.lock().await);
    }

    async fn apply(&self, plan: Plan) -> Result<Vec<Outcome>, SidecarError> {
        let mut journal = self.journal.lock().await;
        let mut results: BTreeMap<Target, TargetResult> = BTreeMap::new();
        let mut wanted: BTreeMap<Target, Desired> = BTreeMap::new();
        for action in plan.actions {
            let desired = wanted.entry(action.target).or_insert(action.desired);
            *desired = action.desired.max(*desired);
        }
        let mut originals = BTreeMap::new();
        for target in wanted.keys() {
            match self.admit(&journal, target).await {
                Ok(original) => {
                    originals.insert(target.clone(), original);
                }
                Err(result) => {
                    results.insert(target.clone(), result);
                }
            }
        }
        let holds =
            held_by(journal.entries(), &plan.mitigation).any(|held| wanted.contains_key(held));
        if holds || !originals.is_empty() {
            self.add_health_managers(&journal, &mut wanted, &mut originals, &mut results)
                .await;
        }
        let released: Vec<Target> = held_by(journal.entries(), &plan.mitigation)
            // What cannot be looked at now is no less wanted than before.
            .filter(|target| !wanted.contains_key(target) && !originals.contains_key(target))
            .cloned()
            .collect();
        journal.change(|entries| {
            for (target, original) in &originals {
                let entry = entries.entry(target.clone()).or_insert_with(|| Entry {
                    original: *original,
                    holders: BTreeMap::new(),
                });
                entry
                    .holders
                    .insert(plan.mitigation.clone(), wanted[target]);
            }
            for target in &released {
                release(entries, target, &plan.mitigation);
            }
        })?;
        for target in self.in_order(journal.entries()) {
            if originals.contains_key(&target) || released.contains(&target) {
                let result = self.outcome(&mut journal, &target, &plan.mitigation).await;
                results.insert(target, result);
            }
        }
        Ok(outcomes(results))
    }

    async fn undo(&self, undo: Undo) -> Result<Vec<Outcome>, SidecarError> {
        let mut journal = self.journal.lock().await;
        let released: Vec<Target> = held_by(journal.entries(), &undo.mitigation)
            .cloned()
            .collect();
        journal.change(|entries| {
            for target in &released {
                release(entries, target, &undo.mitigation);
            }
        })?;
        let mut results = BTreeMap::new();
        for target in self.in_order(journal.entries()) {
            if released.contains(&target) {
                let result = self.outcome(&mut journal, &target, &undo.mitigation).await;
                results.insert(target, result);
            }
        }
        Ok(outcomes(results))
    }

    async fn plan(&self, plan: &Plan) -> Vec<Outcome> {
        let journal = self.journal.lock().await;
        let mut planned = Vec::new();
        for action in &plan.actions {
            let target = &action.target;
            let result = match self.admit(&journal, target).await {
                Err(result) => result,
                Ok(original) => match self.find(target).await {
                    Err(problem) => TargetResult::Failed(problem),
                    Ok(Found { state: from, .. }) => {
                        let held = journal.entries().get(target).and_then(Entry::desired);
                        let desired = held.max(Some(action.desired));
                        match self.goal(target, original, desired) {
                            to if to == from => TargetResult::Held(to),
                            to => TargetResult::Change { from, to },
                        }
                    }
                },
            };
            planned.push(Outcome {
                target: target.clone(),
                result,
            });
        }
        planned
    }

    async fn state(&self) -> Vec<TargetReport> {
        let journal = self.journal.lock().await;
        let mut reports = Vec::new();
        for (target, entry) in journal.entries() {
            let found = self.find(target).await;
            let goal = self.goal(target, entry.original, entry.desired());
            let problem = match &found {
                Err(problem) => Some(problem.clone()),
                Ok(found) if found.state == goal => None,
                Ok(found) => Some(format!("it is {} and should be {goal}", found.state)),
            };
            reports.push(TargetReport {
                target: target.clone(),
                original: entry.original,
                current: found.ok().map(|found| found.state),
                holders: entry.holders.keys().cloned().collect(),
                problem,
                health_manager: self.is_health_manager(target),
            });
        }
        reports
    }

    async fn health(&self) -> Health {
        let problem = self.step(self.driver.health()).await.err();
        Health {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            driver: self.driver.name().to_owned(),
            problem,
            notice: self.driver.notice().map(str::to_owned),
        }
    }

    /// The state to go back to, if a target may be stopped and is there.
    async fn admit(&self, journal: &Journal, target: &Target) -> Result<TargetState, TargetResult> {
        let allowed = self.config.allow.check(target);
        allowed.map_err(|refused| TargetResult::Refused(refused.to_string()))?;
        self.admit_allowed(journal, target).await
    }

    async fn admit_allowed(
        &self,
        journal: &Journal,
        target: &Target,
    ) -> Result<TargetState, TargetResult> {
        if let Some(entry) = journal.entries().get(target) {
            return Ok(entry.original);
        }
        if journal.entries().len() >= ENTRY_LIMIT {
            let reason = format!("{ENTRY_LIMIT} targets are held already, which is the most");
            return Err(TargetResult::Refused(reason));
        }
        let found = self.inspect(target).await.map_err(TargetResult::Failed)?;
        let found = found.ok_or(TargetResult::Missing)?;
        let allowed = self.check_names(&found);
        allowed.map_err(|refused| TargetResult::Refused(refused.to_string()))?;
        Ok(found.state)
    }

    /// Has the health managers held on behalf of the same mitigation. One that is not there needs no holding.
    async fn add_health_managers(
        &self,
        journal: &Journal,
        wanted: &mut BTreeMap<Target, Desired>,
        originals: &mut BTreeMap<Target, TargetState>,
        results: &mut BTreeMap<Target, TargetResult>,
    ) {
        for name in &self.config.health_managers {
            let target = Target::Service(name.clone());
            if originals.contains_key(&target) {
                wanted.insert(target, Desired::Disabled);
                continue;
            }
            match self.admit_allowed(journal, &target).await {
                Ok(original) => {
                    wanted.insert(target.clone(), Desired::Disabled);
                    originals.insert(target, original);
                }
                Err(TargetResult::Missing) => {}
                Err(result) => {
                    results.insert(target, result);
                }
            }
        }
    }

    /// Settles a target after the journal was changed on behalf of `holder`, and says what came of it.
    async fn outcome(
        &self,
        journal: &mut Journal,
        target: &Target,
        holder: &Holder,
    ) -> TargetResult {
        let holders =
            |entry: &Entry| (entry.holders.contains_key(holder), entry.holders.is_empty());
        let (holds, nobody) = journal.entries().get(target).map_or((false, true), holders);
        match self.settle(journal, target).await {
            Err(problem) => TargetResult::Failed(problem),
            Ok(state) if holds => TargetResult::Held(state),
            Ok(state) if nobody => TargetResult::Restored(state),
            Ok(state) => TargetResult::Released(state),
        }
    }

    /// Brings one target to where its entry wants it, and forgets an entry that nobody holds once it is restored.
    async fn settle(&self, journal: &mut Journal, target: &Target) -> Result<TargetState, String> {
        let entry = journal.entries().get(target).ok_or("it is not held")?;
        let nobody = entry.holders.is_empty();
        let goal = self.goal(target, entry.original, entry.desired());
        let found = self.find(target).await?;
        if !nobody {
            // What came to be denied is restored when it is given up, and left alone until then.
            self.check_names(&found)
                .map_err(|refused| refused.to_string())?;
        }
        let state = found.state;
        if state != goal {
            self.change(target, state, goal).await?;
            self.look(target, goal).await?;
        }
        if nobody {
            let forgotten = journal.change(|entries| {
                entries.remove(target);
            });
            forgotten.map_err(|error| chain(&error))?;
        }
        Ok(goal)
    }

    /// Where a target should be.
    fn goal(
        &self,
        target: &Target,
        original: TargetState,
        desired: Option<Desired>,
    ) -> TargetState {
        match desired {
            None => original,
            Some(Desired::Stopped) => TargetState {
                running: false,
                startup: original.startup,
            },
            Some(Desired::Disabled) => TargetState {
                running: false,
                startup: self.driver.barred(target, original.startup),
            },
        }
    }

    async fn change(
        &self,
        target: &Target,
        state: TargetState,
        goal: TargetState,
    ) -> Result<(), String> {
        let starts = goal.running && !state.running;
        // Something that ran although it was barred cannot be started before the bar is lifted for a moment.
        let barred = goal.startup == self.driver.barred(target, goal.startup)
            && goal.startup != self.driver.startable(target);
        let first = match starts && barred {
            true => self.driver.startable(target),
            false => goal.startup,
        };
        if state.startup != first {
            self.step(self.driver.set_startup(target, first)).await?;
        }
        if starts {
            self.step(self.driver.start(target)).await?;
        } else if state.running && !goal.running {
            self.step(self.driver.stop(target)).await?;
        }
        if first != goal.startup {
            let set = self.driver.set_startup(target, goal.startup);
            self.step(set).await?;
        }
        Ok(())
    }

    /// Looks until the target is where it should be, since a service manager may say "done" and mean "later", or
    /// nothing at all.
    async fn look(&self, target: &Target, goal: TargetState) -> Result<(), String> {
        let deadline = Instant::now() + self.config.settle_timeout;
        loop {
            let state = self.find(target).await?.state;
            if state == goal {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "the service manager reports success, but it is {state} and should be {goal}"
                ));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// A target that was there before.
    async fn find(&self, target: &Target) -> Result<Found, String> {
        let found = self.inspect(target).await?;
        found.ok_or_else(|| "it is not there; its original state stays journalled".to_owned())
    }

    fn check_names(&self, found: &Found) -> Result<(), Refused> {
        let allow = &self.config.allow;
        found
            .names
            .iter()
            .try_for_each(|name| allow.check_name(name))
    }

    async fn inspect(&self, target: &Target) -> Result<Option<Found>, String> {
        self.step(self.driver.inspect(target)).await
    }

    async fn step<T>(&self, answer: Answer<'_, T>) -> Result<T, String> {
        match timeout(self.config.step_timeout, answer).await {
            Ok(result) => result.map_err(|error: DriverError| chain(&error)),
            Err(_) => Err("the service manager did not answer in time".to_owned()),
        }
    }

    fn is_health_manager(&self, target: &Target) -> bool {
        matches!(target, Target::Service(name) if self.config.health_managers.contains(name))
    }

    /// The order in which entries are settled: health managers are the first to be stopped, so that they start
    /// nothing again, and the last to be restored.
    fn in_order(&self, entries: &BTreeMap<Target, Entry>) -> Vec<Target> {
        let rank = |target: &Target, entry: &Entry| match (
            self.is_health_manager(target),
            entry.holders.is_empty(),
        ) {
            (true, false) => 0,
            (false, _) => 1,
            (true, true) => 2,
        };
        let mut ranked: Vec<_> = entries
            .iter()
            .map(|(target, entry)| (rank(target, entry), target.clone()))
            .collect();
        ranked.sort();
        ranked.into_iter().map(|(_, target)| target).collect()
    }
}

fn held_by<'a>(
    entries: &'a BTreeMap<Target, Entry>,
    holder: &'a Holder,
) -> impl Iterator<Item = &'a Target> {
    entries
        .iter()
        .filter(|(_, entry)| entry.holders.contains_key(holder))
        .map(|(target, _)| target)
}

fn release(entries: &mut BTreeMap<Target, Entry>, target: &Target, holder: &Holder) {
    if let Some(entry) = entries.get_mut(target) {
        entry.holders.remove(holder);
    }
}

fn outcomes(results: BTreeMap<Target, TargetResult>) -> Vec<Outcome> {
    results
        .into_iter()
        .map(|(target, result)| Outcome { target, result })
        .collect()
}

/// An error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
