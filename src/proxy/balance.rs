//! Which server of a group gets a request: one worker's own choice, by what all workers know.

use std::cell::Cell;
use std::net::IpAddr;
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::pool::Server;
use super::standing::Group;
use super::{Balance, Limits, Member, ProxyError};
use crate::net::Clock;

/// The servers of one group, and one worker's connections to them.
pub(super) struct Servers {
    pub(super) group: Arc<Group>,
    servers: Vec<Rc<Server>>,
    http2: bool,
    /// Where a choice among equals begins.
    turn: Cell<usize>,
}

/// What a worker knows of a server's place in the group.
pub(super) struct Seat {
    /// The number of the server in its group.
    pub(super) index: usize,
    rank: Cell<Rank>,
    /// Its weight at the moment, in hundredths.
    weight: Cell<u32>,
    /// How far it is behind its share (smooth weighted round robin).
    credit: Cell<i64>,
    /// Connections of this worker that are in use.
    load: Cell<u32>,
    /// The beginning of its rendezvous scores.
    seed: u64,
}

/// In which order servers are asked; a later rank only when there is none of an earlier.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rank {
    Fit,
    Backup,
    /// It was taken out. When all were, it is still better to ask than to give up.
    Unfit,
}

/// The servers for one request that have a connection to spare, best first, each once.
pub(super) struct Candidates<'s> {
    servers: &'s Servers,
    /// The first, if it was looked for already.
    first: Option<Place>,
    client: Option<IpAddr>,
    tick: u64,
    tried: u64,
    left: usize,
}

/// A connection of a server that is in use, counted until this is dropped.
pub(super) struct Place {
    server: Rc<Server>,
    group: Arc<Group>,
}

impl Servers {
    /// Worker number `start` begins with another server than the one before it.
    pub(super) fn new(group: &Arc<Group>, start: usize, limits: &Limits) -> Self {
        let settings = &group.settings;
        let members = settings.members.iter().zip(&group.tls).enumerate();
        let server = |(index, (member, tls)): (usize, (&Member, _))| {
            let seat = Seat {
                index,
                rank: Cell::new(Rank::Fit),
                weight: Cell::new(u32::from(member.weight) * 100),
                credit: Cell::new(0),
                load: Cell::new(0),
                seed: seed(&member.server.to_string()),
            };
            Rc::new(Server::new(member, tls, seat, settings, limits))
        };
        let servers = Self {
            servers: members.map(server).collect(),
            http2: settings.servers().any(|server| server.http2),
            group: Arc::clone(group),
            turn: Cell::new(start),
        };
        servers.look();
        for _ in 0..start % servers.servers.len().max(1) {
            servers.all(None, 0).best();
        }
        servers
    }

    /// Whether any of them is spoken to by HTTP/2.
    pub(super) fn speak_http2(&self) -> bool {
        self.http2
    }

    /// The servers for a request of this client; waits for its turn when all have as many connections as they may.
    /// `tick` is the worker's own time.
    ///
    /// # Errors
    ///
    /// When too many wait already, or the wait was too long.
    pub(super) async fn candidates(
        &self,
        client: Option<IpAddr>,
        tick: u64,
    ) -> Result<Candidates<'_>, ProxyError> {
        let mut candidates = self.all(client, tick);
        candidates.first = match candidates.next() {
            Some(place) => Some(place),
            None => Some(self.wait(client, tick).await?),
        };
        Ok(candidates)
    }

    async fn wait(&self, client: Option<IpAddr>, tick: u64) -> Result<Place, ProxyError> {
        let settings = &self.group.settings;
        let _waiting = self.group.queue().ok_or_else(ProxyError::busy)?;
        let turn = async {
            loop {
                // Listens before it looks, so that nothing is freed in between without a word.
                let mut freed = pin!(self.group.freed.notified());
                freed.as_mut().enable();
                if let Some(place) = self.all(client, tick).next() {
                    return place;
                }
                freed.await;
            }
        };
        tokio::time::timeout(settings.queue_timeout, turn)
            .await
            .map_err(|_| ProxyError::busy())
    }

    fn all(&self, client: Option<IpAddr>, tick: u64) -> Candidates<'_> {
        Candidates {
            servers: self,
            first: None,
            client,
            tick,
            tried: 0,
            left: self.group.settings.attempts.max(1),
        }
    }

    /// Looks what has become of the servers, and closes connections that were idle for too long.
    pub(super) fn tick(&self, tick: u64, idle_timeout: Duration) {
        self.look();
        let oldest = tick.saturating_sub(Clock::ticks(idle_timeout));
        for server in &self.servers {
            server.close_idle(oldest, tick);
        }
    }

    fn look(&self) {
        let now = self.group.now();
        for (server, member) in self.servers.iter().zip(&self.group.settings.members) {
            let seat = &server.seat;
            let rank = match self.group.is_fit(seat.index, now) {
                false => Rank::Unfit,
                true if member.backup => Rank::Backup,
                true => Rank::Fit,
            };
            if seat.rank.replace(rank) != rank {
                self.group.show_fit(seat.index, rank != Rank::Unfit);
            }
            let share = self.group.share(seat.index, now);
            seat.weight.set(u32::from(member.weight) * share);
        }
    }

    /// Takes one of the connections that a server may have in use.
    fn place(&self, server: &Rc<Server>) -> Option<Place> {
        let index = server.seat.index;
        self.group.take_place(index).then(|| {
            server.seat.load.set(server.seat.load.get() + 1);
            Place {
                server: Rc::clone(server),
                group: Arc::clone(&self.group),
            }
        })
    }
}

impl Iterator for Candidates<'_> {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        self.left = self.left.checked_sub(1)?;
        loop {
            let server = self.best()?;
            if let Some(place) = self.servers.place(server) {
                return Some(place);
            }
        }
    }
}

impl<'s> Candidates<'s> {
    /// The best server that was not tried.
    fn best(&mut self) -> Option<&'s Rc<Server>> {
        let servers = &self.servers.servers;
        let rank = |server: &Server| match server.rests(self.tick) {
            true => Rank::Unfit,
            false => server.seat.rank.get(),
        };
        let untried = |server: &&Rc<Server>| self.tried & (1 << server.seat.index) == 0;
        let best = servers.iter().filter(untried).map(|one| rank(one)).min()?;
        let choice = || {
            let of_rank = move |server: &&Rc<Server>| rank(server) == best;
            servers.iter().filter(untried).filter(of_rank)
        };
        let chosen = match self.servers.group.settings.balance {
            Balance::ClientAddress => choice().max_by(|one, other| {
                let score = |server: &Server| score(&server.seat, self.client);
                score(one).total_cmp(&score(other))
            }),
            Balance::LeastConnections => self.servers.least_loaded(choice()),
            Balance::RoundRobin if self.tried == 0 => in_turn(choice),
            // Whoever stands in for another does not use up its own turn.
            Balance::RoundRobin => choice().rev().max_by_key(|server| server.seat.credit.get()),
        }?;
        self.tried |= 1 << chosen.seat.index;
        Some(chosen)
    }
}

impl Servers {
    /// The server with the fewest connections for its weight; in turn among equals.
    fn least_loaded<'s>(
        &self,
        choice: impl Iterator<Item = &'s Rc<Server>>,
    ) -> Option<&'s Rc<Server>> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let count = self.servers.len();
        choice.min_by(|one, other| {
            let load = |server: &Server| u64::from(server.seat.load.get() + 1);
            let weight = |server: &Server| u64::from(server.seat.weight.get().max(1));
            let offset = |server: &Server| (server.seat.index + count - turn % count) % count;
            (load(one) * weight(other))
                .cmp(&(load(other) * weight(one)))
                .then(offset(one).cmp(&offset(other)))
        })
    }
}

/// Smooth weighted round robin: every server gains its weight, and the one with the most pays for all.
fn in_turn<'s, I: Iterator<Item = &'s Rc<Server>>>(
    choice: impl Fn() -> I,
) -> Option<&'s Rc<Server>> {
    let mut total = 0;
    let mut best: Option<&Rc<Server>> = None;
    for server in choice() {
        let seat = &server.seat;
        let weight = i64::from(seat.weight.get());
        seat.credit.set(seat.credit.get() + weight);
        total += weight;
        if best.is_none_or(|best| seat.credit.get() > best.seat.credit.get()) {
            best = Some(server);
        }
    }
    let seat = &best?.seat;
    seat.credit.set(seat.credit.get() - total);
    best
}

/// The rendezvous score of a server for a client: the highest has it. Weights make it win in their proportion
/// (the logarithm method: `-weight / ln(uniform)`).
fn score(seat: &Seat, client: Option<IpAddr>) -> f64 {
    let client = match client.map(|client| client.to_canonical()) {
        // Clients without an address are one.
        None => 0,
        Some(IpAddr::V4(address)) => u64::from(address.to_bits()),
        Some(IpAddr::V6(address)) => {
            let bits = address.to_bits();
            // Truncation is meant: both halves count.
            mix((bits >> 64) as u64) ^ bits as u64
        }
    };
    // 53 bits are what a double holds exactly; the half keeps it off 0 and 1.
    let uniform = ((mix(seat.seed ^ mix(client)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(seat.weight.get().max(1)) / uniform.ln()
}

/// The same for the same server, in every process.
fn seed(server: &str) -> u64 {
    // FNV-1a; what it lacks in mixing, `mix` makes up for.
    server.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Place {
    /// A request was answered, with this status.
    pub(super) fn answered(&self, status: u16) {
        let failed = matches!(status, 500 | 502 | 503 | 504);
        if failed && self.group.settings.ejection.server_errors {
            self.failed();
        } else {
            self.group.succeeded(self.server.seat.index);
        }
    }

    /// A request failed, by the server's own fault.
    pub(super) fn failed(&self) {
        let seat = &self.server.seat;
        if self.group.failed(seat.index, self.group.now()) {
            seat.rank.set(Rank::Unfit);
            self.group.show_fit(seat.index, false);
            tracing::warn!(
                host = self.server.host,
                port = self.server.port,
                "server left out for a while, since requests fail on it"
            );
        }
    }
}

impl Deref for Place {
    type Target = Rc<Server>;

    fn deref(&self) -> &Rc<Server> {
        &self.server
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let seat = &self.server.seat;
        seat.load.set(seat.load.get().saturating_sub(1));
        self.group.free_place(seat.index);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::proxy::metrics::Meters;
    use crate::proxy::standing::Check;
    use crate::proxy::{ServerGroup, config};
    use crate::telemetry::Metrics;

    fn servers(weights: &[u16], change: impl FnOnce(&mut ServerGroup)) -> Servers {
        let member = |(n, weight): (usize, &u16)| Member {
            weight: *weight,
            ..Member::from(
                format!("http://server-{n}")
                    .parse::<config::Server>()
                    .unwrap(),
            )
        };
        let mut settings = ServerGroup {
            members: weights.iter().enumerate().map(member).collect(),
            attempts: weights.len(),
            ..ServerGroup::default()
        };
        change(&mut settings);
        let meters = Meters::register(&Metrics::default());
        let group = Group::new(settings, vec![None; weights.len()], &meters);
        Servers::new(&group, 0, &Limits::DEFAULT)
    }

    fn order(servers: &Servers, client: u32, tick: u64) -> Vec<usize> {
        let candidates = servers.all(Some(IpAddr::from(client.to_be_bytes())), tick);
        candidates.map(|place| place.seat.index).collect()
    }

    fn first(servers: &Servers, client: u32) -> usize {
        order(servers, client, 1)[0]
    }

    #[test]
    fn servers_take_turns_and_resting_ones_come_last() {
        let servers = servers(&[1, 1, 1], |_| {});
        assert_eq!(order(&servers, 0, 1), [0, 1, 2]);
        assert_eq!(order(&servers, 0, 1), [1, 2, 0]);
        assert_eq!(order(&servers, 0, 1), [2, 0, 1]);
        servers.servers[1].rest(1);
        assert_eq!(order(&servers, 0, 1).last(), Some(&1));
        servers.servers[0].rest(1);
        assert_eq!(order(&servers, 0, 1)[0], 2);
        let rested = 1 + Clock::ticks(Duration::from_secs(2));
        let firsts: Vec<usize> = (0..3).map(|_| order(&servers, 0, rested)[0]).collect();
        assert!((0..3).all(|n| firsts.contains(&n)), "{firsts:?}");
    }

    #[test]
    fn workers_begin_with_different_servers() {
        let servers = servers(&[1, 1, 1], |_| {});
        let begin = |start| first(&Servers::new(&servers.group, start, &Limits::DEFAULT), 0);
        assert_eq!([0, 1, 2, 3].map(begin), [0, 1, 2, 0]);
    }

    #[test]
    fn backups_stand_in_and_nobody_is_left_out_when_all_are_down() {
        let servers = servers(&[1, 1, 1], |settings| {
            settings.members[0].backup = true;
        });
        for _ in 0..4 {
            assert_eq!(*order(&servers, 0, 1).last().unwrap(), 0);
        }
        servers.group.set_check(1, Check::Down, "", 0);
        servers.group.set_check(2, Check::Down, "", 0);
        servers.tick(1, Duration::from_secs(1));
        assert_eq!(first(&servers, 0), 0);
        servers.group.set_check(0, Check::Down, "", 0);
        servers.tick(1, Duration::from_secs(1));
        assert_eq!(order(&servers, 0, 1).len(), 3);
    }

    #[test]
    fn fewest_connections_by_weight_come_first() {
        let servers = servers(&[1, 2], |settings| {
            settings.balance = Balance::LeastConnections;
        });
        let mut held = Vec::new();
        for _ in 0..30 {
            held.extend(servers.all(None, 1).next());
        }
        let loads: Vec<u32> = servers
            .servers
            .iter()
            .map(|server| server.seat.load.get())
            .collect();
        assert_eq!(loads, [10, 20]);
        held.retain(|place| place.seat.index == 0);
        assert_eq!(first(&servers, 0), 1, "the second is idle again");
    }

    #[test]
    fn full_servers_are_passed_over_and_do_not_count_as_tried() {
        let servers = servers(&[1, 1], |settings| {
            settings.connections = Some(1);
            settings.attempts = 1;
        });
        let mut held: Vec<Place> = Vec::new();
        for _ in 0..2 {
            held.extend(servers.all(None, 1).next());
        }
        assert_eq!(held.len(), 2);
        assert!(servers.all(None, 1).next().is_none());
    }

    proptest! {
        /// Over one round of all weights, each server has exactly its share, and never far from it in between.
        #[test]
        fn turns_are_fair(weights in proptest::collection::vec(1_u16..20, 1..8)) {
            let servers = servers(&weights, |_| {});
            let total: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
            let mut counts = vec![0_u32; weights.len()];
            for turn in 1..=2 * total {
                counts[first(&servers, 0)] += 1;
                for (count, weight) in counts.iter().zip(&weights) {
                    let due = f64::from(turn) * f64::from(*weight) / f64::from(total);
                    prop_assert!((f64::from(*count) - due).abs() < weights.len() as f64);
                }
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert_eq!(*count, 2 * u32::from(*weight));
            }
        }

        /// When a server goes, its own clients find another, and everybody else stays.
        #[test]
        fn rendezvous_moves_only_the_clients_of_a_server_that_goes(
            weights in proptest::collection::vec(1_u16..5, 2..8),
            gone in 0_usize..8,
            clients in proptest::collection::vec(any::<u32>(), 1..50),
        ) {
            let gone = gone % weights.len();
            let servers = servers(&weights, |settings| settings.balance = Balance::ClientAddress);
            let before: Vec<Vec<usize>> = clients
                .iter()
                .map(|client| order(&servers, *client, 1))
                .collect();
            servers.group.set_check(gone, Check::Down, "", 0);
            servers.tick(1, Duration::from_secs(1));
            for (client, before) in clients.iter().zip(before) {
                let expected = if before[0] == gone { before[1] } else { before[0] };
                prop_assert_eq!(first(&servers, *client), expected);
            }
        }
    }

    #[test]
    fn rendezvous_spreads_clients_by_weight() {
        let servers = servers(&[1, 1, 2], |settings| {
            settings.balance = Balance::ClientAddress;
        });
        let mut counts = BTreeMap::new();
        for client in 0..4_000_u32 {
            *counts.entry(first(&servers, client)).or_insert(0_u32) += 1;
        }
        // Addresses and scores are the same in every run.
        for (server, share) in [(0, 1_000), (1, 1_000), (2, 2_000)] {
            assert!(counts[&server].abs_diff(share) < 150, "{counts:?}");
        }
    }
}
