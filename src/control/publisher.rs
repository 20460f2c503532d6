//! The only place that publishes rule sets, and the switch that empties them at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::filter::{ActiveException, Audit, Exceptions, Handle, Paused, Snapshot};
use crate::mitigation::KillSwitch;
use crate::model::Revision;
use crate::rules::RuleSet;

/// What stands in a snapshot beside the rules that act.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) audit: Audit,
    pub(super) paused: Vec<Paused>,
}

/// Publishes whole snapshots, one at a time. Clones share it.
///
/// Lifting everything does not wait for a plan that is being made, and such a plan cannot undo it.
#[derive(Clone, Debug)]
pub(super) struct Publisher {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    handle: Handle,
    sites: usize,
    revision: Revision,
    exceptions: Arc<Exceptions>,
    kill_switch: KillSwitch,
    /// Counts orders, so that a look at the file that began before one does not undo it.
    orders: u64,
    /// Whether an order is not kept in the file, so that the file has no say.
    pinned: bool,
}

impl Publisher {
    /// Publishes empty sets for this many sites, as revision 0.
    pub(super) fn new(sites: usize) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                handle: Handle::new(Snapshot::new(Revision(0), empty(sites))),
                sites,
                revision: Revision(0),
                exceptions: Arc::default(),
                kill_switch: KillSwitch::Off,
                orders: 0,
                pinned: false,
            })),
        }
    }

    pub(super) fn handle(&self) -> Handle {
        self.lock().handle.clone()
    }

    pub(super) fn revision(&self) -> Revision {
        self.lock().revision
    }

    pub(super) fn kill_switch(&self) -> KillSwitch {
        self.lock().kill_switch.clone()
    }

    /// Obeys an order: sets the switch, which the file then cannot change until [`unpin`](Self::unpin).
    pub(super) fn order(&self, kill_switch: KillSwitch) {
        let mut inner = self.lock();
        inner.orders += 1;
        inner.pinned = true;
        inner.switch(kill_switch);
    }

    /// Lets the file decide again, now that the order is kept in it.
    pub(super) fn unpin(&self) {
        let mut inner = self.lock();
        inner.orders += 1;
        inner.pinned = false;
    }

    /// How many orders there were: what [`follow`](Self::follow) wants from before the file was read.
    pub(super) fn orders(&self) -> u64 {
        self.lock().orders
    }

    /// Follows what the file said when there were this many orders; `true` if the switch was set otherwise.
    pub(super) fn follow(&self, orders: u64, kill_switch: KillSwitch) -> bool {
        let mut inner = self.lock();
        !inner.pinned && inner.orders == orders && inner.switch(kill_switch)
    }

    /// Publishes what was planned under `kill_switch`; nothing if the switch was set otherwise since.
    pub(super) fn publish(
        &self,
        sites: Vec<RuleSet>,
        beside: Beside,
        kill_switch: &KillSwitch,
    ) -> bool {
        let mut inner = self.lock();
        if inner.kill_switch != *kill_switch {
            return false;
        }
        inner.publish(sites, beside);
        true
    }

    /// Publishes the same rules with these exceptions; the revisions before and after.
    pub(super) fn except(&self, exceptions: Vec<Arc<ActiveException>>) -> (Revision, Revision) {
        let mut inner = self.lock();
        let before = inner.revision;
        inner.exceptions = Arc::new(Exceptions::new(exceptions));
        inner.revision = Revision(before.0 + 1);
        let current = inner.handle.load();
        let exceptions = Arc::clone(&inner.exceptions);
        inner
            .handle
            .publish(current.renewed(inner.revision, exceptions));
        (before, inner.revision)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Sets the switch, and empties every site at once if it lifts everything.
    fn switch(&mut self, kill_switch: KillSwitch) -> bool {
        if self.kill_switch == kill_switch {
            return false;
        }
        self.kill_switch = kill_switch;
        if self.kill_switch == KillSwitch::All {
            let sites = empty(self.sites);
            self.publish(sites, Beside::default());
        }
        true
    }

    fn publish(&mut self, sites: Vec<RuleSet>, beside: Beside) {
        self.revision = Revision(self.revision.0 + 1);
        let snapshot = Snapshot::new(self.revision, sites)
            .with_audit(beside.audit)
            .with_paused(beside.paused)
            .with_exceptions(Arc::clone(&self.exceptions));
        self.handle.publish(snapshot);
    }
}

fn empty(sites: usize) -> Vec<RuleSet> {
    (0..sites).map(|_| RuleSet::empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_made_before_the_switch_is_not_published_after_it() {
        let publisher = Publisher::new(2);
        assert!(publisher.publish(empty(2), Beside::default(), &KillSwitch::Off));
        assert_eq!(publisher.revision(), Revision(1));
        publisher.order(KillSwitch::All);
        assert_eq!(publisher.handle().load().revision(), Revision(2));
        assert!(!publisher.publish(empty(2), Beside::default(), &KillSwitch::Off));
        assert!(publisher.publish(empty(2), Beside::default(), &KillSwitch::All));
        publisher.order(KillSwitch::Off);
        assert_eq!(publisher.revision(), Revision(3));
        assert!(publisher.publish(empty(2), Beside::default(), &KillSwitch::Off));
    }

    #[test]
    fn look_that_began_before_an_order_does_not_undo_it() {
        let publisher = Publisher::new(1);
        let before = publisher.orders();
        assert!(publisher.follow(before, KillSwitch::All));
        assert!(!publisher.follow(before, KillSwitch::All));
        publisher.order(KillSwitch::Off);
        assert!(!publisher.follow(before, KillSwitch::All));
        let pinned = publisher.orders();
        assert!(!publisher.follow(pinned, KillSwitch::All));
        publisher.unpin();
        assert!(!publisher.follow(pinned, KillSwitch::All));
        assert!(publisher.follow(publisher.orders(), KillSwitch::All));
    }
}
