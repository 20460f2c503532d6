//! The way to the sidecars: the ledger's orders go out, and what comes back is read twice before it is believed.
//!
//! Nothing here holds the engine: orders are given by tasks with deadlines, one for each server at most, and the ledger
//! is locked for as long as it takes to decide, never while somebody is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::config::{ControlConfig, SidecarLink, SidecarPlace};
use super::error::ControlError;
use super::sidecar_measures::Measures;
use super::status::{ServerReport, ServerStanding};
use crate::mitigation::{self, Answer, Command, Effect, Extent, Ledger, Order, Record, Stops};
use crate::model::{UnixTime, explain};
use crate::sidecar::{
    ACTION_LIMIT, Action, Client, Desired, Health, Holder, Name, Outcome, Plan, Reply, Request,
    Target, TargetReport, TargetResult, Undo,
};
use crate::telemetry::Metrics;

/// Between the name of an instance and the mitigation that it holds for.
const INSTANCE_END: char = ':';

/// Every server with its sidecar, if it has one. Clones share what is known.
#[derive(Clone, Debug)]
pub(super) struct Sidecars {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// How holders of ours begin.
    prefix: String,
    clock: fn() -> UnixTime,
    measures: Measures,
    known: Mutex<Known>,
    /// Something else is wanted.
    wake: Notify,
}

#[derive(Debug)]
struct Server {
    name: String,
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    settings: SidecarLink,
    client: Arc<Client>,
}

/// What is wanted and what is known to be.
#[derive(Debug)]
struct Known {
    /// In the order of the settings.
    servers: Vec<Server>,
    ledger: Ledger,
    /// What each mitigation is to stop, by server.
    wanted: BTreeMap<String, BTreeMap<String, Stops>>,
    /// The mitigations that may be given up while not every feed has spoken; nothing when all have.
    decided: Option<BTreeSet<String>>,
    /// What each sidecar said about itself last, and when any answer came from it.
    heard: BTreeMap<String, Heard>,
}

#[derive(Clone, Debug)]
struct Heard {
    health: Health,
    time: UnixTime,
}

/// What is wanted now.
pub(super) struct Wanted {
    /// What each mitigation in force stops, by server.
    pub(super) stops: BTreeMap<String, BTreeMap<String, Stops>>,
    /// Every mitigation that any source offers, in force or not.
    pub(super) offered: BTreeSet<String>,
    /// Whether every source has spoken, so that what is not offered is wanted no more.
    pub(super) complete: bool,
}

impl Sidecars {
    pub(super) fn new(
        config: &ControlConfig,
        metrics: &Metrics,
        clock: fn() -> UnixTime,
    ) -> Result<Self, ControlError> {
        let servers = servers(&config.servers, &config.sidecars)?;
        let known = Known {
            ledger: Ledger::new(linked(&servers)),
            servers,
            wanted: BTreeMap::new(),
            decided: None,
            heard: BTreeMap::new(),
        };
        let prefix = match config.instance.is_empty() {
            true => String::new(),
            false => format!("{}{INSTANCE_END}", config.instance),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                prefix,
                clock,
                measures: Measures::new(metrics),
                known: Mutex::new(known),
                wake: Notify::new(),
            }),
        })
    }

    /// Has these servers and sidecars from now on; what to tell whoever changed them.
    pub(super) fn set(
        &self,
        names: &[String],
        links: &[SidecarLink],
    ) -> Result<Vec<String>, ControlError> {
        let servers = servers(names, links)?;
        let mut known = self.shared.lock();
        let Known {
            ledger,
            servers: before,
            ..
        } = &mut *known;
        let settings = |servers: &[Server], name: &str| {
            let mut servers = servers.iter();
            let link = servers.find(|server| server.name == name)?.link.as_ref();
            link.map(|link| link.settings.clone())
        };
        let anew = |name: &str| settings(before, name) != settings(&servers, name);
        let gone = ledger.set_servers(linked(&servers), anew);
        known.heard.retain(|name, _| names.contains(name));
        known.servers = servers;
        drop(known);
        self.shared.wake.notify_one();
        let notes = gone.iter().map(|name| {
            format!(
                "the sidecar of {name} is asked no more, and keeps stopped what it holds: give it back to undo that, or \
                 undo it by hand"
            )
        });
        Ok(notes.collect())
    }

    /// Says what is wanted from now on.
    pub(super) fn want(&self, wanted: Wanted) {
        let mut known = self.shared.lock();
        let on = |server: &str| wanted.stops.get(server).cloned().unwrap_or_default();
        known.ledger.want_on(on);
        known.wanted = wanted.stops;
        known.decided = (!wanted.complete).then_some(wanted.offered);
        drop(known);
        self.shared.wake.notify_one();
    }

    /// How far each server is with a mitigation that stops something: wanted, or wanted no more.
    pub(super) fn standing(&self, holder: &str) -> Vec<ServerStanding> {
        let known = self.shared.lock();
        let (missing, residue) = (known.ledger.missing(holder), known.ledger.residue(holder));
        let standing = |server: &Server| {
            let wanted = known.wants(&server.name, holder);
            let lacking = if wanted { &missing } else { &residue };
            let fault = match &server.link {
                None if wanted => Some("no sidecar configured".to_owned()),
                None => None,
                Some(_) => lacking
                    .iter()
                    .find(|missing| missing.server == server.name)
                    .map(|missing| missing.reason.clone()),
            };
            // A server that has given everything up stands no differently from any other.
            (wanted || fault.is_some()).then(|| ServerStanding {
                server: server.name.clone(),
                state: if fault.is_some() {
                    "Partial"
                } else {
                    "Applied"
                },
                reason: fault.unwrap_or_default(),
            })
        };
        known.servers.iter().filter_map(standing).collect()
    }

    /// What is missing of a mitigation that is wanted, in one line.
    pub(super) fn missing(&self, holder: &str, stops: &Stops) -> Option<String> {
        let unlinked = {
            let known = self.shared.lock();
            let mut servers = known.servers.iter();
            servers.all(|server| server.link.is_none() || !known.wants(&server.name, holder))
        };
        if unlinked {
            let names: Vec<_> = stops.keys().map(ToString::to_string).collect();
            return Some(format!("no sidecar configured: {}", names.join(", ")));
        }
        in_one_line(&self.standing(holder))
    }

    /// What of a mitigation that is wanted no more is not given up yet, in one line.
    pub(super) fn residue(&self, holder: &str) -> Option<String> {
        in_one_line(&self.standing(holder))
    }

    /// The servers that something is wrong with, each with the reason.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let known = self.shared.lock();
        let mut faults = Vec::new();
        for server in &known.servers {
            if let Some(fault) = known.ledger.fault(&server.name) {
                faults.push((server.name.clone(), fault.to_owned()));
            } else if let Some(problem) = known
                .heard
                .get(&server.name)
                .and_then(|heard| heard.health.problem.clone())
            {
                faults.push((server.name.clone(), problem));
            }
        }
        for (server, target, reason) in known.ledger.unrestored() {
            let reason = format!("not yet as it was before: {reason}");
            faults.push((format!("{target} on {server}"), reason));
        }
        faults
    }

    /// Every server as it is known.
    pub(super) fn reports(&self) -> Vec<ServerReport> {
        let known = self.shared.lock();
        let report = |server: &Server| {
            let heard = known.heard.get(&server.name);
            let unrestored = known.ledger.unrestored();
            ServerReport {
                name: server.name.clone(),
                sidecar: server
                    .link
                    .as_ref()
                    .map(|link| link.settings.place.to_string()),
                driver: heard.map(|heard| heard.health.driver.clone()),
                version: heard.map(|heard| heard.health.version.clone()),
                notice: heard.and_then(|heard| heard.health.notice.clone()),
                last_answer: heard.map(|heard| heard.time.to_string()),
                fault: known
                    .ledger
                    .fault(&server.name)
                    .map(str::to_owned)
                    .or_else(|| heard?.health.problem.clone()),
                unrestored: unrestored
                    .filter(|(name, ..)| *name == server.name)
                    .map(|(_, target, reason)| format!("{target}: {reason}"))
                    .collect(),
            }
        };
        known.servers.iter().map(report).collect()
    }

    /// Gives orders for ever, and tells `changed` after each answer.
    pub(super) async fn run(self, changed: Arc<Notify>) {
        let begun = Instant::now();
        let mut asked = JoinSet::new();
        loop {
            let (commands, next) = {
                let mut known = self.shared.lock();
                (known.ledger.due(begun.elapsed()), known.ledger.next_due())
            };
            for command in commands {
                asked.spawn(Arc::clone(&self.shared).carry_out(command));
            }
            let mut timer = pin!(async {
                match next {
                    Some(time) => sleep_until(begun + time).await,
                    None => std::future::pending().await,
                }
            });
            tokio::select! {
                Some(done) = asked.join_next() => {
                    if let Ok((command, answer, heard)) = done
                        && self.take(command, answer, heard, begun.elapsed())
                    {
                        changed.notify_one();
                    }
                }
                () = self.shared.wake.notified() => {}
                () = &mut timer => {}
            }
        }
    }

    /// Takes an answer; `false` if it says what was known before.
    fn take(
        &self,
        command: Command,
        answer: Answer,
        heard: Option<Heard>,
        now: std::time::Duration,
    ) -> bool {
        let server = command.server;
        let fault = match &answer {
            Answer::Unknown(reason) | Answer::Unreachable(reason) => Some(reason.clone()),
            Answer::Carried(_) | Answer::Held(_) => None,
        };
        if let Some(reason) = &fault {
            tracing::debug!(server, reason, "a sidecar gave no answer");
        }
        self.shared.measures.take(&server, &answer);
        let mut known = self.shared.lock();
        // Whoever cannot be reached is asked often, and nobody needs to think about it each time.
        let same = fault.is_some() && known.ledger.fault(&server) == fault.as_deref();
        let taken = (known.ledger).answered(&server, command.number, answer, now);
        if let Some(heard) = heard.filter(|_| taken) {
            known.heard.insert(server, heard);
        }
        taken && !same
    }
}

/// The servers, each with its sidecar if it has one.
fn servers(names: &[String], links: &[SidecarLink]) -> Result<Vec<Server>, ControlError> {
    let server = |name: &String| {
        let link = links.iter().find(|link| link.server == *name);
        let link = link.map(|settings| {
            let client = settings.client().map_err(|error| {
                ControlError::config(format!("sidecar of {name}: {}", explain(&error)))
            })?;
            Ok(Link {
                settings: settings.clone(),
                client: Arc::new(client),
            })
        });
        Ok(Server {
            name: name.clone(),
            link: link.transpose()?,
        })
    };
    names.iter().map(server).collect()
}

fn linked(servers: &[Server]) -> impl Iterator<Item = String> + use<'_> {
    let linked = servers.iter().filter(|server| server.link.is_some());
    linked.map(|server| server.name.clone())
}

fn in_one_line(standing: &[ServerStanding]) -> Option<String> {
    let faults: Vec<String> = standing
        .iter()
        .filter(|server| !server.reason.is_empty())
        .map(|server| format!("{}: {}", server.server, server.reason))
        .collect();
    (!faults.is_empty()).then(|| faults.join("; "))
}

impl std::fmt::Display for SidecarPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Address { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

impl Known {
    /// Whether a server is to stop something for a mitigation, with a sidecar or without.
    fn wants(&self, server: &str, holder: &str) -> bool {
        let wanted = self.wanted.get(server);
        wanted.is_some_and(|wanted| wanted.contains_key(holder))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives one order. Whatever becomes of the work, there is an answer.
    async fn carry_out(self: Arc<Self>, command: Command) -> (Command, Answer, Option<Heard>) {
        let (order, server) = (command.order.clone(), command.server.clone());
        let work = tokio::spawn(async move {
            let client = {
                let known = self.lock();
                let mut servers = known.servers.iter();
                let link = servers.find(|one| one.name == server)?.link.as_ref()?;
                Arc::clone(&link.client)
            };
            let answered = self.ask(&server, &client, &order).await;
            Some(answered.unwrap_or_else(|fault| (fault.into_answer(), None)))
        });
        let (answer, heard) = match work.await {
            Ok(Some(answered)) => answered,
            Ok(None) => (Answer::Unknown("no sidecar configured".to_owned()), None),
            Err(error) => (
                Answer::Unknown(format!("the order was lost: {error}")),
                None,
            ),
        };
        (command, answer, heard)
    }

    async fn ask(
        &self,
        server: &str,
        client: &Client,
        order: &Order,
    ) -> Result<(Answer, Option<Heard>), Fault> {
        match order {
            Order::Look => {
                let Reply::Health(health) = ask(client, &Request::Health).await? else {
                    return Err(MIXED_UP.into());
                };
                let records = self.records(server, state(client).await?);
                let time = (self.clock)();
                Ok((Answer::Held(records), Some(Heard { health, time })))
            }
            Order::Apply { holder, stops } => {
                let effects = self.apply(client, &self.holder(holder)?, stops).await?;
                Ok((Answer::Carried(effects), None))
            }
            Order::Undo { holder } => {
                let mitigation = self.holder(holder)?;
                let effects = undo(client, &mitigation).await?;
                Ok((Answer::Carried(effects), None))
            }
        }
    }

    fn holder(&self, mitigation: &str) -> Result<Holder, String> {
        let text = format!("{}{mitigation}", self.prefix);
        Holder::new(&text).map_err(|error| error.to_string())
    }

    /// The mitigation of ours that a holder stands for.
    fn mitigation(&self, holder: &Holder) -> Option<String> {
        let text = holder.to_string();
        let own = text.strip_prefix(&self.prefix)?;
        (!own.contains(INSTANCE_END)).then(|| own.to_owned())
    }

    /// What the sidecar of a server holds for us.
    fn records(&self, server: &str, reports: Vec<TargetReport>) -> Vec<Record> {
        let known = self.lock();
        let wanted = known.wanted.get(server);
        let stops = |mitigation: &String| wanted.and_then(|wanted| wanted.get(mitigation));
        let is_decided = |mitigation: &String| {
            let decided = known.decided.as_ref();
            stops(mitigation).is_some()
                || decided.is_none_or(|decided| decided.contains(mitigation))
        };
        let managers: Vec<&TargetReport> =
            reports.iter().filter(|one| one.health_manager).collect();
        let mut records = Vec::new();
        for report in &reports {
            let target = ours(&report.target);
            let holders: Vec<String> = report
                .holders
                .iter()
                .filter_map(|holder| self.mitigation(holder))
                .filter(is_decided)
                // A health manager is held along with what it would start; nobody asked for it by name.
                .filter(|mitigation| {
                    let stops = stops(mitigation);
                    !report.health_manager || stops.is_none_or(|stops| stops.contains_key(&target))
                })
                .collect();
            if holders.is_empty() && !report.holders.is_empty() {
                continue;
            }
            let of_manager = || {
                let mut managers = managers.iter();
                managers.find_map(|manager| {
                    Some(of_manager(&manager.target, manager.problem.as_ref()?))
                })
            };
            records.push(Record {
                problem: problem(report).or_else(|| of_manager().filter(|_| !holders.is_empty())),
                target,
                holders,
            });
        }
        records
    }

    /// Has targets stopped, and sees for itself that they are.
    async fn apply(
        &self,
        client: &Client,
        mitigation: &Holder,
        stops: &Stops,
    ) -> Result<BTreeMap<mitigation::Target, Effect>, Fault> {
        let mut effects = BTreeMap::new();
        let mut actions = Vec::new();
        for (target, extent) in stops {
            match theirs(target) {
                Ok(target) => actions.push(Action {
                    target,
                    desired: match extent {
                        Extent::Disabled => Desired::Disabled,
                        Extent::Stopped => Desired::Stopped,
                    },
                }),
                Err(reason) => {
                    effects.insert(target.clone(), Effect::Failed(reason));
                }
            }
        }
        if actions.len() > ACTION_LIMIT {
            let reason = format!(
                "a sidecar stops {ACTION_LIMIT} services and pools for one mitigation at most"
            );
            let failed =
                |target: &mitigation::Target| (target.clone(), Effect::Failed(reason.clone()));
            return Ok(stops.keys().map(failed).collect());
        }
        let plan = Plan {
            mitigation: mitigation.clone(),
            actions,
        };
        let outcomes = outcomes(client, &Request::Apply(plan)).await?;
        let reports = state(client).await?;
        let mut manager = None;
        for Outcome { target, result } in outcomes {
            let named = ours(&target);
            let effect = effect(result, Some((mitigation, &target)), &reports);
            let given_up = || {
                let mut own = reports.iter().filter(|report| report.target == target);
                own.any(|report| !report.health_manager)
            };
            match &effect {
                Effect::Failed(reason) if !stops.contains_key(&named) && !given_up() => {
                    manager = Some(of_manager(&target, reason));
                }
                _ => {
                    effects.insert(named, effect);
                }
            }
        }
        if let Some(reason) = manager {
            for effect in effects
                .values_mut()
                .filter(|effect| **effect == Effect::Held)
            {
                *effect = Effect::Failed(reason.clone());
            }
        }
        Ok(effects)
    }
}

/// Gives up what a mitigation holds, and sees for itself that it is given up.
async fn undo(
    client: &Client,
    mitigation: &Holder,
) -> Result<BTreeMap<mitigation::Target, Effect>, Fault> {
    let request = Request::Undo(Undo {
        mitigation: mitigation.clone(),
    });
    let outcomes = outcomes(client, &request).await?;
    let reports = state(client).await?;
    if let Some(report) = reports
        .iter()
        .find(|report| report.holders.contains(mitigation))
    {
        return Err(format!(
            "the sidecar says that {} is given up, and still holds it",
            report.target
        )
        .into());
    }
    let effects = outcomes
        .into_iter()
        .map(|Outcome { target, result }| (ours(&target), effect(result, None, &reports)));
    Ok(effects.collect())
}

/// What became of a target, by what the sidecar says and by what it reads back when asked again.
fn effect(
    result: TargetResult,
    held: Option<(&Holder, &Target)>,
    reports: &[TargetReport],
) -> Effect {
    match result {
        TargetResult::Failed(reason) => Effect::Failed(reason),
        TargetResult::Refused(reason) => Effect::Failed(format!("refused: {reason}")),
        TargetResult::Missing => Effect::Failed("there is none on this server".to_owned()),
        TargetResult::Change { from, .. } => Effect::Failed(format!(
            "the sidecar says only what it would do: it is {from}"
        )),
        TargetResult::Released(_) | TargetResult::Restored(_) => Effect::Released,
        TargetResult::Held(_) => {
            let found = held.and_then(|(holder, target)| {
                let mut own = reports.iter().filter(|report| report.target == *target);
                own.find(|report| report.holders.contains(holder))
            });
            match found {
                None => Effect::Failed(
                    "the sidecar says that it is held, and has no record of it".to_owned(),
                ),
                Some(report) => match problem(report) {
                    Some(problem) => Effect::Failed(problem),
                    None => Effect::Held,
                },
            }
        }
    }
}

/// Why a target is not as it should be, by what was read back.
fn problem(report: &TargetReport) -> Option<String> {
    if report.problem.is_some() {
        return report.problem.clone();
    }
    match report.current {
        None => Some("its state cannot be read".to_owned()),
        Some(current) if current.running && !report.holders.is_empty() => Some(format!(
            "the sidecar says that it is held, and it is {current}"
        )),
        Some(_) => None,
    }
}

fn of_manager(target: &Target, reason: &str) -> String {
    format!("stopped, but {target} would start it again: {reason}")
}

/// Why there is no answer.
struct Fault {
    reason: String,
    unreachable: bool,
}

impl Fault {
    fn into_answer(self) -> Answer {
        match self.unreachable {
            true => Answer::Unreachable(self.reason),
            false => Answer::Unknown(self.reason),
        }
    }
}

impl<R: Into<String>> From<R> for Fault {
    fn from(reason: R) -> Self {
        Self {
            reason: reason.into(),
            unreachable: false,
        }
    }
}

const MIXED_UP: &str = "the sidecar answered another question";

async fn ask(client: &Client, request: &Request) -> Result<Reply, Fault> {
    client.ask(request).await.map_err(|error| Fault {
        reason: explain(&error),
        unreachable: error.is_unreachable(),
    })
}

async fn state(client: &Client) -> Result<Vec<TargetReport>, Fault> {
    match ask(client, &Request::State).await? {
        Reply::State(reports) => Ok(reports),
        Reply::Health(_) | Reply::Outcomes(_) => Err(MIXED_UP.into()),
    }
}

async fn outcomes(client: &Client, request: &Request) -> Result<Vec<Outcome>, Fault> {
    match ask(client, request).await? {
        Reply::Outcomes(outcomes) => Ok(outcomes),
        Reply::Health(_) | Reply::State(_) => Err(MIXED_UP.into()),
    }
}

fn ours(target: &Target) -> mitigation::Target {
    let name = target.name().to_string();
    match target {
        Target::Pool(_) => mitigation::Target::Pool(name),
        Target::Service(_) => mitigation::Target::Service(name),
    }
}

fn theirs(target: &mitigation::Target) -> Result<Target, String> {
    let name = |text: &str| Name::new(text).map_err(|error| error.to_string());
    match target {
        mitigation::Target::Pool(text) => name(text).map(Target::Pool),
        mitigation::Target::Service(text) => name(text).map(Target::Service),
    }
}
