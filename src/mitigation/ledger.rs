//! What each server's sidecar should hold and what it said it holds: answers in, orders out.
//!
//! Level-triggered: an order follows from the difference alone, never from a memory of orders, so a lost answer, a
//! restart of either side or a change behind our back heals by itself. The originals are the sidecar's to keep: here
//! is decided only who holds what, and every order can be given twice.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Time until a server that could not be asked is asked again; it doubles each time.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest time until a server is asked again that did not do or answer what it was asked.
pub const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// The longest time until a server that cannot be reached is asked again: to knock costs next to nothing, and when a
/// sidecar is back after hours, what it should stop is not to run for another minute.
pub const LONGEST_KNOCK: Duration = Duration::from_secs(2);

/// Time between two looks at what a server holds, and between two orders to hold the same, while all is well.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Something on a server that a mitigation stops.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Target {
    /// An application pool of this name.
    Pool(String),
    /// A service of this name.
    Service(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(name) => write!(f, "application pool {name}"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}

/// How far a target is to be stopped; the later of two is the stronger.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Extent {
    /// Stopped.
    Stopped,
    /// Stopped, and barred from being started.
    #[default]
    Disabled,
}

/// All that one mitigation wants stopped, with how far.
pub type Stops = BTreeMap<Target, Extent>;

/// One order to one server. Given twice it does no harm.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    /// Tells an answer to this order from one to an earlier.
    pub number: u64,
    /// The server whose sidecar it is for.
    pub server: String,
    /// What to do.
    pub order: Order,
}

/// What a sidecar is asked to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Stop all of this on behalf of a mitigation, and give up what it held beside it.
    Apply {
        /// The mitigation's id.
        holder: String,
        /// All that it wants stopped.
        stops: Stops,
    },
    /// Say what is held.
    Look,
    /// Give up all that a mitigation holds.
    Undo {
        /// The mitigation's id.
        holder: String,
    },
}

/// What came back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// To an `Apply` or `Undo`: what became of each target.
    Carried(BTreeMap<Target, Effect>),
    /// To a `Look`: everything that the sidecar keeps a record of.
    Held(Vec<Record>),
    /// None, for this reason. The order may have been carried out all the same.
    Unknown(String),
    /// None, for this reason: the server cannot be reached. It may have carried the order out before.
    Unreachable(String),
}

/// What became of a target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// It is not as ordered, for this reason.
    Failed(String),
    /// It was read back as ordered.
    Held,
    /// It was given up: read back as it was before, or still held for another mitigation.
    Released,
}

/// One target that a sidecar keeps a record of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// The target.
    pub target: Target,
    /// The mitigations that hold it; nobody while it is still to be restored.
    pub holders: Vec<String>,
    /// Why it is not as it should be; nothing when it is.
    pub problem: Option<String>,
}

/// What should be, what is, and how the one becomes the other, for every server.
#[derive(Debug)]
pub struct Ledger {
    servers: BTreeMap<String, Server>,
    last_number: u64,
}

/// What each mitigation is to stop, by its id.
type Wanted = BTreeMap<String, Stops>;

#[derive(Debug, Default)]
struct Server {
    /// What each mitigation is to stop here; nothing before it was said for the first time.
    wanted: Option<Wanted>,
    /// The order that was given and not answered.
    flight: Option<Command>,
    /// What is known of each mitigation that this server held when it was looked at, or was ordered to hold since.
    holds: BTreeMap<String, Hold>,
    /// Targets that nobody holds and that are not yet as they were, with the reason.
    unrestored: BTreeMap<Target, String>,
    /// Whether the server was looked at since its state was last unknown.
    is_known: bool,
    /// Why it could not be asked.
    fault: Option<String>,
    retry: Retry,
    next_look: Duration,
}

/// What one server is known to do for one mitigation.
#[derive(Debug, Default)]
struct Hold {
    /// What it was last ordered to hold, if it answered that order and nothing made that doubtful since.
    carried: Option<Stops>,
    /// Why a target is not as ordered.
    faults: BTreeMap<Target, String>,
    /// When the same is ordered again: a look does not tell how far a target is to be stopped, and an order that was
    /// thought lost may still arrive.
    renewal: Duration,
    retry: Retry,
}

/// When to try again.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    longest: Duration,
    not_before: Duration,
}

impl Retry {
    fn fail(&mut self, now: Duration, longest: Duration) {
        if self.longest != longest {
            // It fails in another way than before, which has not happened so often.
            (self.failures, self.longest) = (0, longest);
        }
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + wait.min(longest);
    }
}

impl Ledger {
    /// A ledger of these servers, of which nothing is known yet and on which nothing is wanted.
    ///
    /// Until the first [`want`](Self::want) nothing is ordered but looks, so that a start does not release what the
    /// run before it held.
    pub fn new(servers: impl IntoIterator<Item = String>) -> Self {
        let servers = servers
            .into_iter()
            .map(|name| (name, Server::default()))
            .collect();
        Self {
            servers,
            last_number: 0,
        }
    }

    /// Replaces the servers. Of one that is new, or in `anew` since it is reached in another way, nothing is known yet;
    /// of the others all that was. Gives the servers that went although they may hold something still.
    pub fn set_servers(
        &mut self,
        servers: impl IntoIterator<Item = String>,
        anew: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut before = std::mem::take(&mut self.servers);
        for name in servers {
            let known = before.remove(&name).filter(|_| !anew(&name));
            self.servers.insert(name, known.unwrap_or_default());
        }
        let holding = before.into_iter();
        let holding = holding.filter(|(_, server)| !server.holds.is_empty() || !server.is_known);
        holding.map(|(name, _)| name).collect()
    }

    /// The servers in the order of their names.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }

    /// Replaces all that is wanted: what every server is to stop for each mitigation. What is not named any more is
    /// given up. A mitigation that wants nothing stopped is as good as not named.
    pub fn want(&mut self, wanted: &BTreeMap<String, Stops>) {
        self.want_on(|_| wanted.clone());
    }

    /// Replaces all that is wanted by what each server, known by its name, is to stop for each mitigation.
    pub fn want_on(&mut self, wanted: impl Fn(&str) -> BTreeMap<String, Stops>) {
        for (name, server) in &mut self.servers {
            server.want(wanted(name));
        }
    }

    /// The orders to give at `now`, at most one for each server, since a sidecar carries out one at a time. Each must
    /// be [`answered`](Self::answered) before its server gets another.
    ///
    /// `now` is the time since any fixed moment, and never goes back.
    pub fn due(&mut self, now: Duration) -> Vec<Command> {
        let mut commands = Vec::new();
        for (name, server) in &mut self.servers {
            if server.flight.is_some() {
                continue;
            }
            let Some((time, order)) = server.next() else {
                continue;
            };
            if time > now {
                continue;
            }
            self.last_number += 1;
            let command = Command {
                number: self.last_number,
                server: name.clone(),
                order,
            };
            server.flight = Some(command.clone());
            commands.push(command);
        }
        commands
    }

    /// When the next order falls due, if no answer comes before; `None` while every server has one to answer.
    pub fn next_due(&self) -> Option<Duration> {
        let idle = self.servers.values().filter(|s| s.flight.is_none());
        idle.filter_map(|server| Some(server.next()?.0)).min()
    }

    /// Takes the answer to an order; `false` if it is not the order that its server has to answer.
    pub fn answered(&mut self, server: &str, number: u64, answer: Answer, now: Duration) -> bool {
        let Some(server) = self.servers.get_mut(server) else {
            return false;
        };
        let Some(command) = server.flight.take_if(|flight| flight.number == number) else {
            return false;
        };
        match (command.order, answer) {
            (order, Answer::Unknown(reason)) => server.lose(&order, reason, now, LONGEST_RETRY),
            (order, Answer::Unreachable(reason)) => server.lose(&order, reason, now, LONGEST_KNOCK),
            (Order::Apply { holder, stops }, Answer::Carried(effects)) => {
                server.reached();
                server.applied(holder, stops, effects, now);
            }
            (Order::Undo { holder }, Answer::Carried(effects)) => {
                server.reached();
                server.undone(holder, effects, now);
            }
            (Order::Look, Answer::Held(records)) => {
                server.reached();
                server.looked(records, now);
            }
            (order, _) => {
                let reason = "its answer belongs to another order".to_owned();
                server.lose(&order, reason, now, LONGEST_RETRY);
            }
        }
        true
    }

    /// What is missing of a wanted mitigation, and where: one reason for each server that does not hold all of it.
    /// Empty when every server that should reads back that it does.
    pub fn missing(&self, holder: &str) -> Vec<Missing> {
        let missing = |(name, server): (&String, &Server)| {
            Some(Missing {
                server: name.clone(),
                reason: server.missing(holder, server.wants(holder)?)?,
            })
        };
        self.servers.iter().filter_map(missing).collect()
    }

    /// Where a mitigation that is wanted there no more may still hold something, and why.
    pub fn residue(&self, holder: &str) -> Vec<Missing> {
        let given_up = |server: &&Server| {
            let mut wanted = server.wanted.iter();
            wanted.any(|wanted| !wanted.contains_key(holder))
        };
        self.servers
            .iter()
            .filter(|(_, server)| given_up(server) && server.holds.contains_key(holder))
            .map(|(name, server)| Missing {
                server: name.clone(),
                reason: match &server.fault {
                    Some(fault) => format!("not given up yet: {fault}"),
                    None => "not given up yet".to_owned(),
                },
            })
            .collect()
    }

    /// What no mitigation holds and what is not yet as it was before, by server and target, with the reason.
    pub fn unrestored(&self) -> impl Iterator<Item = (&str, &Target, &str)> {
        self.servers.iter().flat_map(|(name, server)| {
            let targets = server.unrestored.iter();
            targets.map(move |(target, reason)| (name.as_str(), target, reason.as_str()))
        })
    }

    /// Why a server could not be asked; `None` when it answered last, or was not asked yet.
    pub fn fault(&self, server: &str) -> Option<&str> {
        self.servers.get(server)?.fault.as_deref()
    }
}

/// What one server lacks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Missing {
    /// The server.
    pub server: String,
    /// What, and why.
    pub reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.server, self.reason)
    }
}

impl Server {
    fn want(&mut self, mut wanted: Wanted) {
        wanted.retain(|_, stops| !stops.is_empty());
        let before = self.wanted.take().unwrap_or_default();
        for holder in wanted.keys() {
            self.holds.entry(holder.clone()).or_default();
        }
        for (holder, hold) in &mut self.holds {
            if before.get(holder) != wanted.get(holder) {
                // It will be another order, which has not failed yet.
                hold.retry = Retry::default();
            }
        }
        self.wanted = Some(wanted);
    }

    /// What is to be stopped here for a mitigation.
    fn wants(&self, holder: &str) -> Option<&Stops> {
        self.wanted.as_ref()?.get(holder)
    }

    /// The next order and when it falls due.
    fn next(&self) -> Option<(Duration, Order)> {
        let wanted = self.wanted.as_ref();
        if !self.is_known {
            return Some((self.retry.not_before, Order::Look));
        }
        let changes = self.holds.iter().filter_map(|(holder, hold)| {
            let holder = holder.clone();
            let Some(stops) = wanted?.get(&holder) else {
                return Some((hold.retry.not_before, Order::Undo { holder }));
            };
            let time = match hold.is_whole(stops) {
                true => hold.renewal,
                false => hold.retry.not_before,
            };
            let stops = stops.clone();
            Some((time, Order::Apply { holder, stops }))
        });
        changes
            .chain([(self.next_look, Order::Look)])
            .min_by_key(|(time, _)| *time)
    }

    fn reached(&mut self) {
        self.fault = None;
        self.retry = Retry::default();
    }

    /// Nobody knows what came of the last order, so nothing that was known counts any more.
    fn lose(&mut self, order: &Order, reason: String, now: Duration, longest: Duration) {
        if let Order::Apply { holder, .. } | Order::Undo { holder } = order
            && let Some(hold) = self.holds.get_mut(holder)
        {
            // A look could not show all that came of it.
            hold.carried = None;
        }
        self.is_known = false;
        self.fault = Some(reason);
        self.retry.fail(now, longest);
    }

    fn applied(
        &mut self,
        holder: String,
        stops: Stops,
        mut effects: BTreeMap<Target, Effect>,
        now: Duration,
    ) {
        let hold = self.holds.entry(holder).or_default();
        hold.faults.clear();
        for target in stops.keys() {
            let fault = match effects.remove(target) {
                Some(Effect::Held) => continue,
                Some(Effect::Failed(reason)) => reason,
                Some(Effect::Released) => "given up instead of held".to_owned(),
                None => "not mentioned in the answer".to_owned(),
            };
            hold.faults.insert(target.clone(), fault);
        }
        match hold.faults.is_empty() {
            true => hold.retry = Retry::default(),
            false => hold.retry.fail(now, LONGEST_RETRY),
        }
        hold.carried = Some(stops);
        hold.renewal = now + LOOK_INTERVAL;
        // What is left was held before and is wanted no more.
        self.restored(effects);
        self.look_soon(now);
    }

    fn undone(&mut self, holder: String, effects: BTreeMap<Target, Effect>, now: Duration) {
        match self.wants(&holder).is_some() {
            // Wanted again in the meantime.
            true => self.holds.insert(holder, Hold::default()),
            false => self.holds.remove(&holder),
        };
        self.restored(effects);
        self.look_soon(now);
    }

    fn restored(&mut self, effects: BTreeMap<Target, Effect>) {
        for (target, effect) in effects {
            match effect {
                Effect::Failed(reason) => {
                    self.unrestored.insert(target, reason);
                }
                Effect::Held | Effect::Released => {
                    self.unrestored.remove(&target);
                }
            }
        }
    }

    /// The sidecar goes on restoring by itself; whether it is done has to be looked at.
    fn look_soon(&mut self, now: Duration) {
        if !self.unrestored.is_empty() {
            self.next_look = self.next_look.min(now + FIRST_RETRY);
        }
    }

    fn looked(&mut self, records: Vec<Record>, now: Duration) {
        let none = Wanted::new();
        self.is_known = true;
        self.unrestored.clear();
        let mut held: BTreeMap<String, BTreeMap<Target, Option<String>>> = BTreeMap::new();
        for record in records {
            if record.holders.is_empty() {
                let reason = record
                    .problem
                    .unwrap_or_else(|| "being restored".to_owned());
                self.unrestored.insert(record.target, reason);
                continue;
            }
            for holder in record.holders {
                let targets = held.entry(holder).or_default();
                targets.insert(record.target.clone(), record.problem.clone());
            }
        }
        let wanted = self.wanted.as_ref().unwrap_or(&none);
        // What it holds nothing for and should hold nothing for is settled.
        self.holds
            .retain(|holder, _| held.contains_key(holder) || wanted.contains_key(holder));
        for holder in held.keys() {
            self.holds.entry(holder.clone()).or_default();
        }
        for (holder, hold) in &mut self.holds {
            let Some(stops) = wanted.get(holder) else {
                continue;
            };
            let found = held.get(holder);
            hold.look(stops, found, now);
        }
        let doubtful = !self.unrestored.is_empty();
        self.next_look = now + if doubtful { FIRST_RETRY } else { LOOK_INTERVAL };
    }

    /// What of `stops` this server does not hold for `holder`.
    fn missing(&self, holder: &str, stops: &Stops) -> Option<String> {
        if let Some(fault) = &self.fault {
            return Some(fault.clone());
        }
        let known = self.holds.get(holder).filter(|_| self.is_known);
        let Some(hold) = known.filter(|hold| hold.carried.as_ref() == Some(stops)) else {
            return Some("not carried out yet".to_owned());
        };
        let mut faults = hold.faults.iter();
        let (target, reason) = faults.next()?;
        Some(match faults.len() {
            0 => format!("{target}: {reason}"),
            more => format!("{target}: {reason}, and {more} more"),
        })
    }
}

impl Hold {
    fn is_whole(&self, stops: &Stops) -> bool {
        self.carried.as_ref() == Some(stops) && self.faults.is_empty()
    }

    /// Compares what is wanted with what was found, and lets what differs be ordered again.
    fn look(
        &mut self,
        stops: &Stops,
        found: Option<&BTreeMap<Target, Option<String>>>,
        now: Duration,
    ) {
        let was_whole = self.is_whole(stops);
        let same = found.is_some_and(|found| found.keys().all(|target| stops.contains_key(target)));
        if !same {
            // Somebody else gave orders in our name, or the record was lost.
            self.carried = None;
        }
        for target in stops.keys() {
            match found.and_then(|found| found.get(target)) {
                Some(None) => {
                    self.faults.remove(target);
                }
                Some(Some(problem)) => {
                    self.faults.insert(target.clone(), problem.clone());
                }
                None if self.faults.contains_key(target) => {}
                None => self.carried = None,
            }
        }
        if was_whole || self.is_whole(stops) {
            self.retry = Retry {
                not_before: now,
                ..Retry::default()
            };
        }
    }
}
