//! The way into a running control side.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::controller::Lift;
use super::error::ControlError;
use super::history::TransitionReport;
use super::order::{Order, Outcome};
use super::report::View;
use super::status::Status;
use crate::model::{Revision, UnixTime};
use crate::telemetry::Alarms;

/// What came of an order.
pub(super) type Obeyed = Result<Outcome, ControlError>;

/// Asks a running [`Controller`](super::Controller) and gives it orders. Clones reach the same one.
#[derive(Clone)]
pub struct ControlHandle {
    orders: mpsc::Sender<(Order, oneshot::Sender<Obeyed>)>,
    revision: watch::Receiver<Revision>,
    view: watch::Receiver<Arc<View>>,
    lift: Lift,
    alarms: Alarms,
    clock: fn() -> UnixTime,
}

impl ControlHandle {
    pub(super) fn new(
        orders: mpsc::Sender<(Order, oneshot::Sender<Obeyed>)>,
        revision: watch::Receiver<Revision>,
        view: watch::Receiver<Arc<View>>,
        lift: Lift,
        alarms: Alarms,
        clock: fn() -> UnixTime,
    ) -> Self {
        Self {
            orders,
            revision,
            view,
            lift,
            alarms,
            clock,
        }
    }

    /// The state of everything: as the last cycle left it, with ages, hits and alarms of this moment.
    pub fn status(&self) -> Arc<Status> {
        let view = Arc::clone(&self.view.borrow());
        Arc::new(view.status(&self.alarms, (self.clock)()))
    }

    /// What became of every mitigation, oldest first, restarts included; at most
    /// [`HISTORY_LIMIT`](super::HISTORY_LIMIT) transitions.
    pub fn history(&self) -> Arc<[TransitionReport]> {
        Arc::clone(&self.view.borrow().history)
    }

    /// Gives an order and waits for what it comes to. Feeds that it has fetched come in later cycles.
    ///
    /// The kill switch lifts rules before this waits for anything.
    ///
    /// # Errors
    ///
    /// When the control side has stopped, when it cannot follow the order ([`ControlError::is_refused_order`]), or when
    /// the kill switch was set and cannot be kept for the next start.
    pub async fn order(&self, order: Order) -> Result<Outcome, ControlError> {
        if let Order::KillSwitch(on) = order {
            self.lift.switch(on).map_err(ControlError::switch)?;
        }
        let (answer, outcome) = oneshot::channel();
        self.orders
            .send((order, answer))
            .await
            .map_err(|_| ControlError::stopped())?;
        outcome.await.map_err(|_| ControlError::stopped())?
    }

    /// The number of the published rule set, and a way to wait for the next.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revision.clone()
    }

    /// Waits until a cycle ends in a status for which `holds`, and returns it.
    ///
    /// # Errors
    ///
    /// When the control side has stopped.
    pub async fn wait_for(
        &self,
        mut holds: impl FnMut(&Status) -> bool,
    ) -> Result<Arc<Status>, ControlError> {
        let mut view = self.view.clone();
        loop {
            view.borrow_and_update();
            let status = self.status();
            if holds(&status) {
                return Ok(status);
            }
            view.changed().await.map_err(|_| ControlError::stopped())?;
        }
    }
}

impl fmt::Debug for ControlHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlHandle")
            .field("revision", &*self.revision.borrow())
            .finish_non_exhaustive()
    }
}
