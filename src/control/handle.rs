//! The way into a running control side.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::error::ControlError;
use super::order::{Order, Outcome};
use super::status::Status;
use crate::model::Revision;

/// Asks a running [`Controller`](super::Controller) and gives it orders. Clones reach the same one.
#[derive(Clone)]
pub struct ControlHandle {
    pub(super) orders: mpsc::Sender<(Order, oneshot::Sender<Outcome>)>,
    pub(super) revision: watch::Receiver<Revision>,
    pub(super) report: Arc<dyn Fn() -> Status + Send + Sync>,
}

impl ControlHandle {
    /// The state of everything, now.
    pub fn status(&self) -> Arc<Status> {
        Arc::new((self.report)())
    }

    /// Gives an order and waits for what it comes to.
    ///
    /// # Errors
    ///
    /// When the control side has stopped.
    pub async fn order(&self, order: Order) -> Result<Outcome, ControlError> {
        let (answer, outcome) = oneshot::channel();
        self.orders
            .send((order, answer))
            .await
            .map_err(|_| ControlError::stopped())?;
        outcome.await.map_err(|_| ControlError::stopped())
    }

    /// The number of the published rule set, and a way to wait for the next.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revision.clone()
    }
}

impl std::fmt::Debug for ControlHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlHandle")
            .field("revision", &*self.revision.borrow())
            .finish_non_exhaustive()
    }
}
