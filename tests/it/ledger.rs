//! The ledger against simulated sidecars, under long random sequences of events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use stopgap::mitigation::{
    Answer, Command, Effect, Extent, LONGEST_KNOCK, LONGEST_RETRY, LOOK_INTERVAL, Ledger, Order,
    Record, Stops, Target,
};

const SERVERS: [&str; 2] = ["ex1", "ex2"];
const HOLDERS: [&str; 3] = ["M1.1", "M2.1", "M90.1"];

/// Sequences in a normal run. `STOPGAP_LEDGER_SEQUENCES` asks for another number, `STOPGAP_LEDGER_SEED` for the
/// sequences of another run.
const SEQUENCES: u64 = 4_000;

/// Events in one sequence, before everything is let come to rest.
const EVENTS: u32 = 24;

/// A server as it is, and what its sidecar's journal says: the smallest thing that behaves like one.
#[derive(Debug)]
struct Machine {
    /// The state of each target, and the number that stands for the state before anybody touched it.
    targets: BTreeMap<Target, Found>,
    journal: BTreeMap<Target, Entry>,
    /// Whether orders come about.
    works: bool,
    /// Whether it can be asked.
    reachable: bool,
    /// Orders whose asker has gone, and that may still be carried out.
    late: VecDeque<Order>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Found {
    Original(u32),
    Stopped(Extent),
}

#[derive(Debug)]
struct Entry {
    original: Found,
    holders: BTreeMap<String, Extent>,
}

fn targets() -> [Target; 3] {
    [
        Target::Service("MSExchangeUM".into()),
        Target::Pool("MSExchangeECPAppPool".into()),
        Target::Pool("MSExchangeOWAAppPool".into()),
    ]
}

impl Machine {
    fn new() -> Self {
        let originals = (0..).map(Found::Original);
        Self {
            targets: targets().into_iter().zip(originals).collect(),
            journal: BTreeMap::new(),
            works: true,
            reachable: true,
            late: VecDeque::new(),
        }
    }

    fn carry_out(&mut self, order: &Order) -> Answer {
        match order {
            Order::Look => Answer::Held(self.records()),
            Order::Apply { holder, stops } => {
                self.release(holder, |target| stops.contains_key(target));
                for (target, extent) in stops {
                    let original = self.targets[target];
                    let entry = self.journal.entry(target.clone());
                    let entry = entry.or_insert_with(|| Entry {
                        original,
                        holders: BTreeMap::new(),
                    });
                    entry.holders.insert(holder.clone(), *extent);
                }
                self.converge();
                Answer::Carried(self.effects())
            }
            Order::Undo { holder } => {
                self.release(holder, |_| false);
                let effects = self.effects();
                self.converge();
                Answer::Carried(effects)
            }
        }
    }

    fn release(&mut self, holder: &str, keeps: impl Fn(&Target) -> bool) {
        for (target, entry) in &mut self.journal {
            if !keeps(target) {
                entry.holders.remove(holder);
            }
        }
    }

    /// Does what the journal says, if the driver works.
    fn converge(&mut self) {
        if !self.works {
            return;
        }
        for (target, entry) in &self.journal {
            let goal = match entry.holders.values().max() {
                Some(extent) => Found::Stopped(*extent),
                None => entry.original,
            };
            self.targets.insert(target.clone(), goal);
        }
        self.journal.retain(|_, entry| !entry.holders.is_empty());
    }

    fn problem(&self, target: &Target, entry: &Entry) -> Option<String> {
        let goal = entry.holders.values().max().map(|e| Found::Stopped(*e));
        let goal = goal.unwrap_or(entry.original);
        (self.targets[target] != goal).then(|| "the driver is broken".to_owned())
    }

    fn effects(&self) -> BTreeMap<Target, Effect> {
        let journal = self.journal.iter();
        let effect = |(target, entry): (&Target, &Entry)| {
            let effect = match self.problem(target, entry) {
                Some(problem) => Effect::Failed(problem),
                None => Effect::Held,
            };
            (target.clone(), effect)
        };
        journal.map(effect).collect()
    }

    fn records(&self) -> Vec<Record> {
        let journal = self.journal.iter();
        let record = |(target, entry): (&Target, &Entry)| Record {
            target: target.clone(),
            holders: entry.holders.keys().cloned().collect(),
            problem: self.problem(target, entry),
        };
        journal.map(record).collect()
    }

    /// Whether `holder` holds all of `stops`, and every target really is stopped.
    fn holds(&self, holder: &str, stops: &Stops) -> bool {
        stops.iter().all(|(target, extent)| {
            let own = self.journal.get(target);
            let own = own.and_then(|entry| entry.holders.get(holder));
            own == Some(extent) && matches!(self.targets[target], Found::Stopped(_))
        })
    }
}

/// SplitMix64: short, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(below)) as u32
    }

    fn index(&mut self, length: usize) -> usize {
        self.next(u32::try_from(length).unwrap()) as usize
    }
}

/// One sequence: the ledger, the servers, and orders on their way.
struct World {
    ledger: Ledger,
    machines: BTreeMap<&'static str, Machine>,
    /// What is wanted on each server.
    wanted: BTreeMap<&'static str, BTreeMap<String, Stops>>,
    flights: Vec<Command>,
    /// Servers that changed behind the ledger's back since they were last looked at.
    disturbed: BTreeSet<&'static str>,
    now: Duration,
    chance: Chance,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            ledger: new_ledger(),
            machines: SERVERS.map(|name| (name, Machine::new())).into(),
            wanted: SERVERS.map(|name| (name, BTreeMap::new())).into(),
            flights: Vec::new(),
            disturbed: BTreeSet::new(),
            now: Duration::ZERO,
            chance: Chance(seed),
        }
    }

    fn step(&mut self) {
        let name = SERVERS[self.chance.index(SERVERS.len())];
        match self.chance.next(12) {
            0..=2 => self.change_wish(),
            3..=4 => self.give_orders(),
            5..=7 => self.arrive(),
            8 => self.lose(),
            9 => {
                let machine = self.machines.get_mut(name).unwrap();
                match self.chance.next(3) {
                    0 => machine.works = !machine.works,
                    1 => machine.reachable = !machine.reachable,
                    _ => machine.converge(),
                }
            }
            10 => self.disturb(name),
            _ => match self.chance.next(4) {
                0 => self.restart(),
                _ => self.now += Duration::from_secs(self.chance.next(40).into()),
            },
        }
        self.check();
    }

    fn change_wish(&mut self) {
        let holder = HOLDERS[self.chance.index(HOLDERS.len())].to_owned();
        let mut stops = Stops::new();
        for target in targets() {
            match self.chance.next(4) {
                0 => stops.insert(target, Extent::Stopped),
                1 => stops.insert(target, Extent::Disabled),
                _ => None,
            };
        }
        for wanted in self.wanted.values_mut() {
            // Some servers answer for other sites than the mitigation is for.
            let left_out = self.chance.next(4) == 0;
            match stops.is_empty() || left_out {
                true => wanted.remove(&holder),
                false => wanted.insert(holder.clone(), stops.clone()),
            };
        }
        self.want();
    }

    fn want(&mut self) {
        let wanted = &self.wanted;
        self.ledger.want_on(|name| wanted[name].clone());
    }

    fn give_orders(&mut self) {
        let orders = self.ledger.due(self.now);
        for order in &orders {
            let same = self.flights.iter().filter(|own| own.server == order.server);
            assert_eq!(same.count(), 0, "two orders for one server");
        }
        self.flights.extend(orders);
    }

    /// One order arrives, is carried out and answered.
    fn arrive(&mut self) {
        let Some(command) = self.take_flight() else {
            return;
        };
        let name = known(&command.server);
        let machine = self.machines.get_mut(name).unwrap();
        let answer = match machine.reachable {
            false => Answer::Unreachable("cannot be reached".to_owned()),
            true => machine.carry_out(&command.order),
        };
        if matches!(answer, Answer::Held(_)) {
            self.disturbed.remove(name);
        }
        let taken = self.ledger.answered(name, command.number, answer, self.now);
        assert!(taken);
        // An answer is taken once, and only one to the order that was given.
        let late = Answer::Unknown("late".to_owned());
        assert!(!self.ledger.answered(name, command.number, late, self.now));
    }

    /// One order's answer is lost; the order may be carried out at once, later, or never.
    fn lose(&mut self) {
        let Some(command) = self.take_flight() else {
            return;
        };
        let name = known(&command.server);
        let machine = self.machines.get_mut(name).unwrap();
        match self.chance.next(3) {
            0 => drop(machine.carry_out(&command.order)),
            1 => machine.late.push_back(command.order),
            _ => {}
        }
        let answer = Answer::Unknown("no answer in time".to_owned());
        self.ledger.answered(name, command.number, answer, self.now);
    }

    /// A late order is carried out, or somebody starts what is stopped.
    fn disturb(&mut self, name: &'static str) {
        let machine = self.machines.get_mut(name).unwrap();
        if let Some(order) = machine.late.pop_front() {
            machine.carry_out(&order);
        } else if let Some((target, entry)) = machine.journal.first_key_value() {
            machine.targets.insert(target.clone(), entry.original);
        }
        self.disturbed.insert(name);
    }

    /// The process ends and another begins, which knows nothing.
    fn restart(&mut self) {
        self.ledger = new_ledger();
        for command in std::mem::take(&mut self.flights) {
            let machine = self.machines.get_mut(known(&command.server)).unwrap();
            machine.late.push_back(command.order);
        }
        // It looks before it knows what is wanted, and must give nothing up for that.
        for command in self.ledger.due(self.now) {
            assert_eq!(command.order, Order::Look);
            self.flights.push(command);
            self.arrive();
        }
        let early = self.ledger.due(self.now);
        assert!(early.iter().all(|command| command.order == Order::Look));
        self.flights.extend(early);
        self.want();
    }

    fn take_flight(&mut self) -> Option<Command> {
        match self.flights.len() {
            0 => None,
            length => Some(self.flights.swap_remove(self.chance.index(length))),
        }
    }

    /// What holds after every step: what the ledger calls whole is whole, and no original is lost.
    fn check(&self) {
        for (name, wanted) in &self.wanted {
            let machine = &self.machines[name];
            for (holder, stops) in wanted {
                let missing = self.ledger.missing(holder);
                let whole = missing.iter().all(|missing| missing.server != *name);
                // What changed after the last look cannot be known, nor that a driver broke.
                if whole && machine.works && !self.disturbed.contains(name) {
                    assert!(machine.holds(holder, stops), "{holder} on {name}");
                }
            }
        }
        for machine in self.machines.values() {
            for (index, target) in originals() {
                let original = Found::Original(index);
                let kept = machine.journal.get(&target);
                let kept = kept.map_or(machine.targets[&target], |entry| entry.original);
                assert_eq!(kept, original, "the original of {target} is lost");
            }
        }
    }

    /// Lets everything work, and time pass: each server must come to exactly what is wanted.
    fn settle(&mut self) {
        for machine in self.machines.values_mut() {
            (machine.works, machine.reachable) = (true, true);
            while let Some(order) = machine.late.pop_front() {
                machine.carry_out(&order);
            }
            machine.converge();
        }
        self.disturbed.extend(SERVERS);
        let end = self.now + LONGEST_RETRY + LOOK_INTERVAL + LONGEST_RETRY;
        loop {
            self.give_orders();
            while !self.flights.is_empty() {
                self.arrive();
            }
            let next = self.ledger.next_due().unwrap();
            if next > end {
                break;
            }
            self.now = self.now.max(next);
        }
        for (name, machine) in &self.machines {
            let mut holders: BTreeMap<&Target, BTreeMap<&str, Extent>> = BTreeMap::new();
            for (holder, stops) in &self.wanted[name] {
                assert!(self.ledger.missing(holder).is_empty());
                for (target, extent) in stops {
                    let own = holders.entry(target).or_default();
                    own.insert(holder, *extent);
                }
            }
            for (index, target) in originals() {
                let held = machine.journal.get(&target).map(|entry| {
                    let own = entry.holders.iter();
                    own.map(|(holder, extent)| (&**holder, *extent)).collect()
                });
                assert_eq!(held.as_ref(), holders.get(&target), "{target} on {name}");
                let expected = match held.and_then(|held| held.values().max().copied()) {
                    Some(extent) => Found::Stopped(extent),
                    None => Found::Original(index),
                };
                assert_eq!(machine.targets[&target], expected, "{target} on {name}");
            }
        }
        for holder in HOLDERS {
            assert!(self.ledger.residue(holder).is_empty());
        }
        assert_eq!(self.ledger.unrestored().count(), 0);
    }
}

fn originals() -> impl Iterator<Item = (u32, Target)> {
    (0..).zip(targets())
}

fn known(server: &str) -> &'static str {
    SERVERS.into_iter().find(|name| *name == server).unwrap()
}

fn new_ledger() -> Ledger {
    Ledger::new(SERVERS.map(str::to_owned))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn any_sequence_comes_to_what_is_wanted() {
    let sequences = number("STOPGAP_LEDGER_SEQUENCES").unwrap_or(SEQUENCES);
    let seed = number("STOPGAP_LEDGER_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("{sequences} sequences from STOPGAP_LEDGER_SEED={seed}");
    for sequence in 0..sequences {
        let own = seed.wrapping_mul(1_000_003).wrapping_add(sequence);
        let held = std::panic::catch_unwind(|| {
            let mut world = World::new(own);
            for _ in 0..EVENTS {
                world.step();
            }
            world.settle();
        });
        assert!(held.is_ok(), "sequence {sequence} of seed {seed} fails");
    }
}

fn stops(names: &[(&str, Extent)]) -> Stops {
    let service = |(name, extent): &(&str, Extent)| (Target::Service((*name).into()), *extent);
    names.iter().map(service).collect()
}

/// Answers the only order due, after checking that it is `expected`.
fn answer(ledger: &mut Ledger, expected: &Order, with: Answer, now: Duration) {
    let due = ledger.due(now);
    let [command] = &due[..] else {
        panic!("{due:?} instead of {expected:?}");
    };
    assert_eq!(command.order, *expected);
    assert!(ledger.answered(&command.server, command.number, with, now));
}

#[test]
fn what_is_missing_is_named_until_it_was_read_back() {
    let mut ledger = Ledger::new(["ex1".to_owned()]);
    let um = stops(&[("MSExchangeUM", Extent::Disabled)]);
    ledger.want(&[("M90.1".to_owned(), um.clone())].into());
    let reasons = |ledger: &Ledger| -> Vec<String> {
        let missing = ledger.missing("M90.1");
        missing.iter().map(ToString::to_string).collect()
    };
    assert_eq!(reasons(&ledger), ["ex1: not carried out yet"]);
    let now = Duration::ZERO;
    let gone = Answer::Unknown("no socket there".to_owned());
    answer(&mut ledger, &Order::Look, gone, now);
    assert_eq!(reasons(&ledger), ["ex1: no socket there"]);
    assert_eq!(ledger.fault("ex1"), Some("no socket there"));
    assert!(ledger.due(now).is_empty());
    let now = ledger.next_due().unwrap();
    answer(&mut ledger, &Order::Look, Answer::Held(Vec::new()), now);
    let apply = Order::Apply {
        holder: "M90.1".to_owned(),
        stops: um.clone(),
    };
    let target = Target::Service("MSExchangeUM".into());
    let refused = Effect::Failed("it is not on the list".to_owned());
    let effects = Answer::Carried([(target.clone(), refused)].into());
    answer(&mut ledger, &apply, effects, now);
    assert_eq!(
        reasons(&ledger),
        ["ex1: service MSExchangeUM: it is not on the list"]
    );
    let now = ledger.next_due().unwrap();
    let held = Answer::Carried([(target, Effect::Held)].into());
    answer(&mut ledger, &apply, held, now);
    assert!(reasons(&ledger).is_empty());

    ledger.want(&BTreeMap::new());
    assert_eq!(
        ledger.residue("M90.1")[0].to_string(),
        "ex1: not given up yet"
    );
    let undo = Order::Undo {
        holder: "M90.1".to_owned(),
    };
    answer(&mut ledger, &undo, Answer::Carried(BTreeMap::new()), now);
    assert!(ledger.residue("M90.1").is_empty());
}

#[test]
fn retries_wait_longer_each_time_up_to_a_limit() {
    let mut ledger = Ledger::new(["ex1".to_owned()]);
    ledger.want(&BTreeMap::new());
    let mut now = Duration::ZERO;
    let mut waits = Vec::new();
    for _ in 0..40 {
        let gone = Answer::Unknown("gone".to_owned());
        answer(&mut ledger, &Order::Look, gone, now);
        let next = ledger.next_due().unwrap();
        waits.push((next - now).as_secs());
        now = next;
    }
    assert_eq!(waits[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(waits[39], LONGEST_RETRY.as_secs());
    answer(&mut ledger, &Order::Look, Answer::Held(Vec::new()), now);
    assert_eq!(ledger.next_due(), Some(now + LOOK_INTERVAL));
}

#[test]
fn server_that_cannot_be_reached_is_asked_often_and_at_once_believed() {
    let mut ledger = Ledger::new(["ex1".to_owned()]);
    ledger.want(&BTreeMap::new());
    let (mut now, mut waits) = (Duration::ZERO, Vec::new());
    let gone = || Answer::Unreachable("no socket there".to_owned());
    let lost = || Answer::Unknown("no answer in time".to_owned());
    for answered in [
        gone(),
        gone(),
        gone(),
        gone(),
        lost(),
        lost(),
        lost(),
        gone(),
    ] {
        answer(&mut ledger, &Order::Look, answered, now);
        let next = ledger.next_due().unwrap();
        waits.push((next - now).as_secs());
        now = next;
    }
    // A server that is back and does not answer yet is not made to wait for what was before.
    assert_eq!(waits, [1, 2, 2, 2, 1, 2, 4, 1]);
    assert_eq!(LONGEST_KNOCK.as_secs(), 2);
}

#[test]
fn servers_hold_what_is_wanted_of_each() {
    let mut ledger = Ledger::new(["ex1".to_owned(), "ex2".to_owned()]);
    let um = stops(&[("MSExchangeUM", Extent::Disabled)]);
    let wanted: BTreeMap<_, _> = [("M90.1".to_owned(), um.clone())].into();
    ledger.want_on(|server| match server {
        "ex1" => wanted.clone(),
        _ => BTreeMap::new(),
    });
    let now = Duration::ZERO;
    for command in ledger.due(now) {
        assert_eq!(command.order, Order::Look);
        let held = Answer::Held(Vec::new());
        assert!(ledger.answered(&command.server, command.number, held, now));
    }
    let missing = ledger.missing("M90.1");
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].server, "ex1");
    let [command] = &ledger.due(now)[..] else {
        panic!("one order is due");
    };
    assert_eq!(command.server, "ex1");
    // It moves to the other server, and the first gives it up.
    let held = Answer::Carried([(Target::Service("MSExchangeUM".into()), Effect::Held)].into());
    assert!(ledger.answered("ex1", command.number, held, now));
    ledger.want_on(|server| match server {
        "ex2" => wanted.clone(),
        _ => BTreeMap::new(),
    });
    assert_eq!(ledger.residue("M90.1")[0].server, "ex1");
    assert_eq!(ledger.missing("M90.1")[0].server, "ex2");
    let mut orders: Vec<_> = ledger
        .due(now)
        .into_iter()
        .map(|own| (own.server, own.order))
        .collect();
    orders.sort_by(|one, other| one.0.cmp(&other.0));
    let undo = Order::Undo {
        holder: "M90.1".to_owned(),
    };
    let apply = Order::Apply {
        holder: "M90.1".to_owned(),
        stops: um,
    };
    assert_eq!(
        orders,
        [("ex1".to_owned(), undo), ("ex2".to_owned(), apply)]
    );
}

#[test]
fn servers_come_and_go_and_what_is_known_of_the_others_stays() {
    let mut ledger = Ledger::new(["ex1".to_owned(), "ex2".to_owned()]);
    ledger.want(&BTreeMap::new());
    let now = Duration::ZERO;
    for command in ledger.due(now) {
        let held = Answer::Held(Vec::new());
        assert!(ledger.answered(&command.server, command.number, held, now));
    }
    assert!(ledger.due(now).is_empty());
    // One goes that holds nothing, one stays, and one comes, which is looked at.
    let names = || ["ex1".to_owned(), "ex3".to_owned()];
    assert!(ledger.set_servers(names(), |_| false).is_empty());
    let [look] = &ledger.due(now)[..] else {
        panic!("one order is due");
    };
    assert_eq!((&*look.server, &look.order), ("ex3", &Order::Look));
    // It is reached in another way before it has answered: its answer is one to nobody's question.
    assert!(ledger.set_servers(names(), |name| name == "ex3").is_empty());
    let late = Answer::Held(Vec::new());
    assert!(!ledger.answered("ex3", look.number, late, now));
    assert_eq!(ledger.due(now).len(), 1);
    // What is not known, or holds something, is named when it goes.
    assert_eq!(ledger.set_servers(["ex1".to_owned()], |_| false), ["ex3"]);
}
