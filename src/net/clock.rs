//! Deadlines to a tenth of a second, for many connections of one thread at the cost of a comparison each.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// How fine deadlines are.
const TICK: Duration = Duration::from_millis(100);

/// The time of one thread, moved on by its owner ten times a second. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    tick: Cell<u64>,
    entries: RefCell<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    slots: Vec<Option<Rc<Deadlines>>>,
    free: Vec<usize>,
}

/// What a connection can wait for; each has a deadline of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Slot {
    /// Bytes from the client.
    Read,
    /// The moment from which an idle connection is kept with as little memory as can be.
    Rest,
    /// The upstream server.
    Upstream,
    /// The client to take bytes.
    Write,
}

/// The deadlines of one task, which is woken when one has passed.
#[derive(Debug)]
pub struct Deadlines {
    clock: Rc<Shared>,
    /// Ticks; 0 stands for none.
    due: [Cell<u64>; 4],
    waker: RefCell<Option<Waker>>,
}

/// Keeps [`Deadlines`] known to their clock until it is dropped.
#[derive(Debug)]
pub struct Registration {
    clock: Rc<Shared>,
    index: usize,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            shared: Rc::new(Shared {
                started: Instant::now(),
                tick: Cell::new(1),
                entries: RefCell::default(),
            }),
        }
    }
}

impl Clock {
    /// How long the owner should wait between two calls of [`advance`](Self::advance).
    pub const TICK: Duration = TICK;

    /// A span in ticks, rounded up; one more, since the current tick has begun already.
    pub fn ticks(span: Duration) -> u64 {
        let ticks = span.as_millis().div_ceil(TICK.as_millis());
        u64::try_from(ticks)
            .unwrap_or(u64::MAX / 2)
            .min(u64::MAX / 2)
            + 1
    }

    /// Moves the time on, and wakes every task that has a passed deadline.
    pub fn advance(&self) {
        let elapsed = self.shared.started.elapsed().as_millis() / TICK.as_millis();
        self.shared
            .tick
            .set(u64::try_from(elapsed).unwrap_or(u64::MAX - 1) + 1);
        for deadlines in self.shared.entries.borrow().slots.iter().flatten() {
            if deadlines.has_any_passed() {
                deadlines.wake();
            }
        }
    }

    /// Wakes every registered task.
    pub fn wake_all(&self) {
        self.shared
            .entries
            .borrow()
            .slots
            .iter()
            .flatten()
            .for_each(|deadlines| deadlines.wake());
    }

    /// Registered tasks.
    pub fn len(&self) -> usize {
        let entries = self.shared.entries.borrow();
        entries.slots.len() - entries.free.len()
    }

    /// Whether no task is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the current tick, for ages that are compared to `ticks`.
    pub fn now(&self) -> u64 {
        self.shared.tick.get()
    }

    /// Adds the deadlines of a new task.
    pub fn register(&self) -> (Rc<Deadlines>, Registration) {
        let deadlines = Rc::new(Deadlines {
            clock: Rc::clone(&self.shared),
            due: Default::default(),
            waker: RefCell::new(None),
        });
        let mut entries = self.shared.entries.borrow_mut();
        let index = entries.free.pop().unwrap_or_else(|| {
            entries.slots.push(None);
            entries.slots.len() - 1
        });
        entries.slots[index] = Some(Rc::clone(&deadlines));
        let registration = Registration {
            clock: Rc::clone(&self.shared),
            index,
        };
        (deadlines, registration)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut entries = self.clock.entries.borrow_mut();
        entries.slots[self.index] = None;
        entries.free.push(self.index);
    }
}

impl Deadlines {
    /// Sets a deadline, which passes no earlier than `after` from now and at most two ticks later.
    pub fn set(&self, slot: Slot, after: Duration) {
        self.due[slot as usize].set(self.clock.tick.get() + Clock::ticks(after));
    }

    /// Removes a deadline.
    pub fn clear(&self, slot: Slot) {
        self.due[slot as usize].set(0);
    }

    /// The time until a deadline, if it is set and has not passed; without the tick that has begun, so that what is set
    /// to it again and again runs out.
    pub fn rest(&self, slot: Slot) -> Option<Duration> {
        let due = self.due[slot as usize].get();
        let ticks = due.checked_sub(self.clock.tick.get())?;
        Some(TICK * u32::try_from(ticks.saturating_sub(1)).unwrap_or(u32::MAX))
    }

    /// Whether a deadline is set, passed or not.
    pub fn is_set(&self, slot: Slot) -> bool {
        self.due[slot as usize].get() != 0
    }

    /// Whether a deadline is set and has passed.
    pub fn has_passed(&self, slot: Slot) -> bool {
        let due = self.due[slot as usize].get();
        due != 0 && due <= self.clock.tick.get()
    }

    fn has_any_passed(&self) -> bool {
        let now = self.clock.tick.get();
        self.due
            .iter()
            .any(|due| due.get() != 0 && due.get() <= now)
    }

    /// Names the task to wake.
    pub fn watch(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
    }

    /// Wakes the task.
    pub fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_passes_once_its_ticks_are_over() {
        let clock = Clock::default();
        let (deadlines, registration) = clock.register();
        deadlines.set(Slot::Read, Duration::from_millis(150));
        assert!(deadlines.is_set(Slot::Read) && !deadlines.has_passed(Slot::Read));
        assert_eq!(deadlines.rest(Slot::Read), Some(Duration::from_millis(200)));
        assert_eq!(deadlines.rest(Slot::Write), None);
        clock.shared.tick.set(3);
        assert!(!deadlines.has_passed(Slot::Read));
        clock.shared.tick.set(4);
        assert!(deadlines.has_passed(Slot::Read) && !deadlines.has_passed(Slot::Write));
        deadlines.clear(Slot::Read);
        assert!(!deadlines.has_passed(Slot::Read));
        assert_eq!(clock.len(), 1);
        drop(registration);
        assert!(clock.is_empty());
        let (_, again) = clock.register();
        assert_eq!(again.index, 0);
    }

    #[test]
    fn huge_spans_do_not_overflow() {
        let clock = Clock::default();
        let (deadlines, _registration) = clock.register();
        deadlines.set(Slot::Write, Duration::MAX);
        assert!(!deadlines.has_passed(Slot::Write));
    }
}
