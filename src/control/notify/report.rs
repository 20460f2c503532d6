//! What became of the documents for one receiver, as the status shows it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::End;
use crate::model::UnixTime;

/// Characters of a failure that are shown.
const REASON: usize = 500;

/// One receiver of notifications.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NotifyReport {
    /// `command` or `webhook`.
    pub receiver: &'static str,
    /// The program, or the address without what may be secret in it.
    pub target: String,
    /// Documents that were taken, since the process started or the settings changed.
    pub delivered: u64,
    /// Documents that were given up after their last attempt.
    pub failed: u64,
    /// Documents that were not even tried, since too many waited already.
    pub dropped: u64,
    /// Why the last attempt that failed did so; nothing while none has.
    pub last_failure: Option<String>,
    /// When that was.
    pub last_failure_time: Option<String>,
}

/// The same while it changes. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Deliveries {
    report: Arc<Mutex<NotifyReport>>,
}

impl Deliveries {
    pub(super) fn new(receiver: &'static str, target: String) -> Self {
        let report = NotifyReport {
            receiver,
            target,
            ..NotifyReport::default()
        };
        Self {
            report: Arc::new(Mutex::new(report)),
        }
    }

    pub(super) fn count(&self, end: End) {
        let mut report = self.lock();
        match end {
            End::Delivered => report.delivered += 1,
            End::Dropped => report.dropped += 1,
            End::Failed => report.failed += 1,
        }
    }

    pub(super) fn note(&self, reason: &str, now: UnixTime) {
        let mut report = self.lock();
        report.last_failure = Some(reason.chars().take(REASON).collect());
        report.last_failure_time = Some(now.to_string());
    }

    pub(super) fn report(&self) -> NotifyReport {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, NotifyReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
