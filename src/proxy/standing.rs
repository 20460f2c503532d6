//! What all workers know of the servers of one group: which are fit, and since when.
//!
//! Nothing here is locked. Workers look ten times a second, and write only when a request failed, or went well on a
//! server that had failed before.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::metrics::Meters;
use super::{ServerGroup, ServerStatus, UpstreamStatus};
use crate::net::TlsClient;
use crate::telemetry::Gauge;

/// The servers of one group, as all workers see them.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) settings: ServerGroup,
    /// How each server is spoken to within TLS, if it is.
    pub(super) tls: Vec<Option<TlsClient>>,
    standings: Vec<Standing>,
    meters: Meters,
    /// Requests that wait for a connection.
    waiting: AtomicUsize,
    /// Told when a connection is free again.
    pub(super) freed: Notify,
    started: Instant,
}

/// One server. Times are milliseconds since the group was made.
#[derive(Debug, Default)]
struct Standing {
    check: AtomicU8,
    /// Why the last verdict of the health checks is what it is; nobody reads it but an operator.
    reason: Mutex<String>,
    /// 1 while it is fit.
    fit: Gauge,
    /// In a row.
    failures: AtomicU32,
    /// That came soon after each other.
    ejections: AtomicU32,
    ejected_until: AtomicU64,
    /// When health checks brought it back; 0 if they never had to.
    recovered: AtomicU64,
    /// Counted only when there is a bound.
    in_use: AtomicUsize,
}

/// What the health checks of a server say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Check {
    /// It is not well.
    Down = 2,
    /// Nothing: it is not checked, or was not yet.
    Unknown = 0,
    /// It is well.
    Up = 1,
}

impl Group {
    pub(super) fn new(
        settings: ServerGroup,
        tls: Vec<Option<TlsClient>>,
        meters: &Meters,
    ) -> Arc<Self> {
        let standing = |server: String| {
            let fit = meters.upstream_fit(match settings.name.is_empty() {
                true => server,
                false => format!("{} {server}", settings.name),
            });
            fit.set(1);
            Standing {
                fit,
                ..Standing::default()
            }
        };
        let servers = settings.servers().map(ToString::to_string);
        Arc::new(Self {
            standings: servers.map(standing).collect(),
            meters: meters.clone(),
            settings,
            tls,
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            started: Instant::now(),
        })
    }

    /// The time that the other functions take.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What health checks say of a server.
    pub(super) fn check(&self, server: usize) -> Check {
        match self.standings[server].check.load(Ordering::Relaxed) {
            1 => Check::Up,
            2 => Check::Down,
            _ => Check::Unknown,
        }
    }

    /// A health check was made.
    pub(super) fn count_check(&self, good: bool) {
        self.meters.health_check(good);
    }

    /// Health checks have come to a verdict.
    pub(super) fn set_check(&self, server: usize, check: Check, reason: &str, now: u64) {
        let standing = &self.standings[server];
        let mut known = standing
            .reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        reason.clone_into(&mut known);
        drop(known);
        let before = standing.check.swap(check as u8, Ordering::Relaxed);
        if check == Check::Up && before == Check::Down as u8 {
            // What failed before says nothing about a server that has come back.
            standing.failures.store(0, Ordering::Relaxed);
            standing.ejected_until.store(0, Ordering::Relaxed);
            standing.recovered.store(now.max(1), Ordering::Relaxed);
        }
    }

    /// Whether a server is fit, for whoever looks at the metrics.
    pub(super) fn show_fit(&self, server: usize, fit: bool) {
        self.standings[server].fit.set(i64::from(fit));
    }

    /// What is known of the servers at this moment.
    pub(super) fn status(&self) -> UpstreamStatus {
        let now = self.now();
        let server = |(index, member): (usize, &super::Member)| {
            let left_out = self.ejected_until(index).saturating_sub(now);
            let standing = &self.standings[index];
            let reason = standing
                .reason
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let (state, reason) = match self.check(index) {
                Check::Down => ("down", reason.clone()),
                _ if left_out > 0 => {
                    let seconds = left_out.div_ceil(1_000);
                    let reason = format!("requests failed on it; tried again in {seconds} s");
                    ("ejected", reason)
                }
                Check::Up => ("up", String::new()),
                Check::Unknown => ("not checked", String::new()),
            };
            ServerStatus {
                server: member.server.to_string(),
                weight: member.weight,
                backup: member.backup,
                state,
                reason,
                failures: standing.failures.load(Ordering::Relaxed),
                in_use: self
                    .settings
                    .connections
                    .map(|_| standing.in_use.load(Ordering::Relaxed)),
            }
        };
        let members = self.settings.members.iter().enumerate();
        UpstreamStatus {
            name: self.settings.name.clone(),
            balance: self.settings.balance.word(),
            waiting: self.waiting.load(Ordering::Relaxed),
            servers: members.map(server).collect(),
        }
    }

    /// Until when a server is left out; in the past when it is not.
    pub(super) fn ejected_until(&self, server: usize) -> u64 {
        self.standings[server].ejected_until.load(Ordering::Relaxed)
    }

    /// Whether requests should go to a server while there is a choice.
    pub(super) fn is_fit(&self, server: usize, now: u64) -> bool {
        self.check(server) != Check::Down && self.ejected_until(server) <= now
    }

    /// The share of its weight that a server gets, in percent: less than all while it starts slowly.
    pub(super) fn share(&self, server: usize, now: u64) -> u32 {
        let back = self.standings[server]
            .recovered
            .load(Ordering::Relaxed)
            .max(self.ejected_until(server));
        let whole = millis(self.settings.slow_start);
        match now.checked_sub(back) {
            Some(since) if back > 0 && since < whole => {
                u32::try_from(since * 100 / whole).unwrap_or(100).max(1)
            }
            _ => 100,
        }
    }

    /// A request went well on a server.
    pub(super) fn succeeded(&self, server: usize) {
        let failures = &self.standings[server].failures;
        // Reading is free, since nobody writes; writing is not.
        if failures.load(Ordering::Relaxed) != 0 {
            failures.store(0, Ordering::Relaxed);
        }
    }

    /// A request failed on a server, by the fault of nobody else; whether that took it out.
    pub(super) fn failed(&self, server: usize, now: u64) -> bool {
        let Ejection {
            after,
            time,
            longest,
        } = self.ejection();
        let standing = &self.standings[server];
        let failures = standing.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if after == 0 || failures < after || !self.is_fit(server, now) {
            return false;
        }
        let others =
            |now| (0..self.standings.len()).any(|other| other != server && self.is_fit(other, now));
        if !others(now) {
            return false;
        }
        let before = standing.ejections.load(Ordering::Relaxed);
        let last = backoff(time, before.saturating_sub(1)).min(longest);
        // Whoever was fit for as long as it was out begins anew.
        let is_again = before > 0 && now < self.ejected_until(server).saturating_add(last);
        let ejections = if is_again { before } else { 0 };
        let until = now.saturating_add(backoff(time, ejections).min(longest));
        standing.ejected_until.store(until, Ordering::Relaxed);
        if !others(now) {
            // Another worker took out the last other one at this moment: both stay.
            standing.ejected_until.store(0, Ordering::Relaxed);
            return false;
        }
        standing
            .ejections
            .store(ejections.saturating_add(1), Ordering::Relaxed);
        // One more failure is enough when it comes back; one success clears it.
        standing.failures.store(after - 1, Ordering::Relaxed);
        self.meters.ejections.inc();
        true
    }

    fn ejection(&self) -> Ejection {
        let settings = &self.settings.ejection;
        Ejection {
            after: settings.failures,
            time: millis(settings.time),
            longest: millis(settings.longest),
        }
    }

    /// Takes one of the connections that a server may have in use; `false` when there is none left.
    pub(super) fn take_place(&self, server: usize) -> bool {
        // Workers that share a bound share a counter, and the others nothing.
        let Some(limit) = self.settings.connections else {
            return true;
        };
        let more = |count| (count < limit).then_some(count + 1);
        self.standings[server]
            .in_use
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// Gives it back, and tells whoever has waited longest.
    pub(super) fn free_place(&self, server: usize) {
        if self.settings.connections.is_none() {
            return;
        }
        self.standings[server].in_use.fetch_sub(1, Ordering::AcqRel);
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.freed.notify_one();
        }
    }

    /// Joins those who wait for a place, until the result is dropped; `None` when there are too many.
    pub(super) fn queue(&self) -> Option<Waiting<'_>> {
        let more = |count| (count < self.settings.queue).then_some(count + 1);
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()
            .map(|_| Waiting(&self.waiting))
    }
}

/// One who waits for a place.
pub(super) struct Waiting<'g>(&'g AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The settings of the same name, in milliseconds.
struct Ejection {
    after: u32,
    time: u64,
    longest: u64,
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Twice as long each time.
fn backoff(time: u64, before: u32) -> u64 {
    time.saturating_mul(1 << before.min(20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy;
    use crate::telemetry::Metrics;

    fn group(servers: usize, change: impl FnOnce(&mut ServerGroup)) -> Arc<Group> {
        let server = |n: usize| {
            format!("http://10.0.0.{n}")
                .parse::<proxy::Server>()
                .unwrap()
        };
        let mut settings: ServerGroup = (1..=servers).map(server).collect();
        change(&mut settings);
        Group::new(
            settings,
            vec![None; servers],
            &Meters::register(&Metrics::default()),
        )
    }

    #[test]
    fn failures_in_a_row_take_a_server_out_for_longer_each_time() {
        let group = group(2, |settings| {
            settings.ejection.failures = 3;
            settings.ejection.longest = Duration::from_secs(30);
        });
        assert!(!group.failed(0, 0) && !group.failed(0, 0));
        group.succeeded(0);
        assert!(!group.failed(0, 0) && !group.failed(0, 0), "not in a row");
        assert!(group.failed(0, 1_000) && !group.is_fit(0, 10_999));
        assert!(!group.failed(0, 1_000), "it is out already");
        assert!(group.is_fit(0, 11_000));
        assert!(group.failed(0, 11_000), "one more is enough");
        assert!(!group.is_fit(0, 30_999) && group.is_fit(0, 31_000));
        assert!(group.failed(0, 31_000));
        assert_eq!(group.ejected_until(0), 61_000, "no longer than the longest");
        assert!(group.failed(0, 100_000));
        assert_eq!(group.ejected_until(0), 110_000, "it was fit for long");
    }

    #[test]
    fn last_fit_server_stays() {
        let group = group(2, |settings| settings.ejection.failures = 1);
        assert!(group.failed(0, 0));
        assert!(!group.failed(1, 0) && group.is_fit(1, 0));
        group.set_check(0, Check::Down, "", 0);
        assert!(!group.failed(1, 60_000) && group.is_fit(1, 60_000));
    }

    #[test]
    fn nothing_is_taken_out_when_nobody_wants_that() {
        let group = group(2, |settings| settings.ejection.failures = 0);
        assert!((0..100).all(|_| !group.failed(0, 0)));
    }

    #[test]
    fn server_that_comes_back_starts_slowly() {
        let group = group(2, |settings| settings.slow_start = Duration::from_secs(10));
        assert_eq!(group.share(0, 0), 100);
        group.set_check(0, Check::Up, "", 0);
        assert_eq!(group.share(0, 1), 100, "it never was away");
        group.set_check(0, Check::Down, "answered with 503", 500);
        assert!(!group.is_fit(0, 500));
        let status = group.status();
        let told = (status.servers[0].state, status.servers[0].reason.as_str());
        assert_eq!(told, ("down", "answered with 503"));
        group.set_check(0, Check::Up, "", 1_000);
        let shares = [1_000, 2_000, 6_000, 11_000].map(|now| group.share(0, now));
        assert_eq!(shares, [1, 10, 50, 100]);
    }

    #[test]
    fn places_are_counted() {
        let group = group(1, |settings| settings.connections = Some(2));
        assert!(group.take_place(0) && group.take_place(0) && !group.take_place(0));
        group.free_place(0);
        assert!(group.take_place(0));
        assert_eq!(group.status().servers[0].in_use, Some(2));
    }
}
