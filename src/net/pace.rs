//! The least that has to move of a body while one side waits for the other.

use std::time::Duration;

use super::clock::{Deadlines, Slot};

/// A deadline that is put off only by enough bytes, and does not run while nobody waits.
///
/// Without it, a byte now and then would hold a connection for ever.
#[derive(Debug)]
pub(super) struct Pace {
    slot: Slot,
    least: usize,
    /// Bytes that have moved since the time began.
    moved: usize,
    /// What was left of the time when bytes moved last.
    rest: Option<Duration>,
}

impl Pace {
    /// Of `least` bytes for each deadline in `slot`.
    pub(super) const fn new(slot: Slot, least: usize) -> Self {
        Self {
            slot,
            least,
            moved: 0,
            rest: None,
        }
    }

    /// Waits: within `timeout`, or what is left of it.
    pub(super) fn wait(&mut self, deadlines: &Deadlines, timeout: Duration) {
        deadlines.set(
            self.slot,
            self.rest.take().map_or(timeout, |rest| rest.min(timeout)),
        );
    }

    /// Bytes have moved; the deadline stands still until the next wait.
    pub(super) fn moved(&mut self, deadlines: &Deadlines, count: usize) {
        self.moved = self.moved.saturating_add(count);
        if self.moved >= self.least {
            self.reset();
        } else if let Some(rest) = deadlines.rest(self.slot) {
            self.rest = Some(rest);
        }
        deadlines.clear(self.slot);
    }

    /// Begins anew: what was waited for is another body.
    pub(super) const fn reset(&mut self) {
        self.moved = 0;
        self.rest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Clock;

    #[test]
    fn time_is_given_back_by_enough_bytes_only() {
        let clock = Clock::default();
        let (deadlines, _registration) = clock.register();
        let timeout = Duration::from_secs(10);
        let mut pace = Pace::new(Slot::Read, 100);
        let waited = |pace: &mut Pace, count| {
            pace.wait(&deadlines, timeout);
            let time = deadlines.rest(Slot::Read).unwrap();
            // Half of what is there goes by.
            deadlines.set(Slot::Read, time / 2);
            pace.moved(&deadlines, count);
            assert!(!deadlines.is_set(Slot::Read));
            time
        };
        let first = waited(&mut pace, 99);
        let second = waited(&mut pace, 1);
        let third = waited(&mut pace, 100);
        assert!(second < first && third == first);
        waited(&mut pace, 1);
        pace.reset();
        assert_eq!(waited(&mut pace, 1), first);
    }
}
