//! When the next fetch is due.

use std::time::Duration;

/// The first wait after a failure; it doubles with each further one.
pub const BACKOFF: Duration = Duration::from_secs(10);

/// The part of the interval by which a poll may come early or late, so that not all instances come at once.
const JITTER: f64 = 0.1;

/// Plans the fetches of one feed. It reads no clock: the caller says how long things took.
///
/// A success waits for the interval, give or take a tenth. A failure waits for a growing time, but never beyond the
/// poll that was due anyway.
#[derive(Clone, Debug)]
pub struct Schedule {
    interval: Duration,
    /// Time until the poll that is due whatever happens before.
    until_poll: Duration,
    failures: u32,
}

impl Schedule {
    /// A schedule whose first fetch is due at once.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            until_poll: Duration::ZERO,
            failures: 0,
        }
    }

    /// The wait before the next fetch.
    ///
    /// `spent` is the time since the previous wait ended, and `chance` a number from 0 to 1 that nobody can guess.
    pub fn after(&mut self, succeeded: bool, spent: Duration, chance: f64) -> Duration {
        let chance = chance.clamp(0.0, 1.0);
        self.until_poll = self.until_poll.saturating_sub(spent);
        if succeeded {
            self.failures = 0;
            self.until_poll = Duration::ZERO;
            return self.interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance);
        }
        if self.until_poll.is_zero() {
            self.until_poll = self.interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance);
        }
        // Between half of the full wait and all of it, so that clients that failed together come back apart.
        let full = BACKOFF.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let wait = full.mul_f64(0.5 + 0.5 * chance).min(self.until_poll);
        self.until_poll -= wait;
        wait
    }
}

/// A number from 0 to 1 that nobody can guess, good enough to spread load.
pub fn chance() -> f64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // 53 bits are what a double holds exactly.
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn success_waits_for_the_interval_with_jitter() {
        for (chance, seconds) in [(0.0, 3_240), (0.5, 3_600), (1.0, 3_960)] {
            let mut schedule = Schedule::new(HOUR);
            let wait = schedule.after(true, Duration::ZERO, chance);
            assert_eq!(wait.as_secs_f64().round(), f64::from(seconds));
        }
    }

    #[test]
    fn failures_back_off_but_not_beyond_the_next_poll() {
        let mut schedule = Schedule::new(HOUR);
        let waits: Vec<u64> = (0..10)
            .map(|_| schedule.after(false, Duration::ZERO, 1.0).as_secs())
            .collect();
        assert_eq!(
            waits,
            [10, 20, 40, 80, 160, 320, 640, 1_280, 1_410, 3_960],
            "the ninth is cut to the hour with its jitter"
        );
        schedule.after(true, Duration::ZERO, 1.0);
        assert_eq!(schedule.after(false, Duration::ZERO, 1.0), BACKOFF);
    }

    #[test]
    fn time_spent_failing_counts_toward_the_poll() {
        let mut schedule = Schedule::new(HOUR);
        for _ in 0..8 {
            schedule.after(false, Duration::ZERO, 1.0);
        }
        let wait = schedule.after(false, Duration::from_secs(1_000), 1.0);
        assert_eq!(wait.as_secs(), 410);
    }

    #[test]
    fn waits_differ() {
        let some: std::collections::BTreeSet<u64> =
            (0..8).map(|_| (chance() * 1e9) as u64).collect();
        assert!(some.len() > 1);
    }
}
