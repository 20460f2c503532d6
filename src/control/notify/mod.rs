//! Tells others what became of mitigations and feeds: an operator's program, and a webhook.
//!
//! Layer 3, inside control. Called by the engine and the controller; calls net and signature.
//! Holds: whoever leaves a document waits for nothing; each receiver has a queue of its own, with a bound; what is lost is
//! counted and shown.
//! See `guide::operations` for the documents.

mod command;
mod report;
mod webhook;

pub use report::NotifyReport;
pub use webhook::{
    WEBHOOK_ATTEMPTS, WEBHOOK_DEADLINE, WEBHOOK_LONGEST_RETRY, WebhookConfig, WebhookSecret,
};

use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::history::TransitionReport;
use crate::model::UnixTime;
use crate::telemetry::{Counters, Label, Labelled, Metrics};
use report::Deliveries;

/// Documents that may wait for one receiver; more are dropped, which is logged, counted and shown.
pub const NOTIFICATIONS: usize = 64;

/// How long the program may take by default.
pub const NOTIFY_DEADLINE: Duration = Duration::from_secs(30);

/// Time until the second attempt by default; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// Who is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotifyConfig {
    /// The program and its arguments, given to no shell; empty for none.
    pub command: Vec<OsString>,
    /// How long it may take before it is killed.
    pub deadline: Duration,
    /// Time until a receiver is tried again after a failure; it doubles each time.
    pub retry: Duration,
    /// The webhook; nothing for none.
    pub webhook: Option<WebhookConfig>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            deadline: NOTIFY_DEADLINE,
            retry: FIRST_RETRY,
            webhook: None,
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Happening {
    /// Every server is fixed, and a mitigation may be retired.
    Retirable {
        time: String,
        id: String,
        source: String,
        reason: String,
    },
    /// A feed has become stale.
    Stale {
        time: String,
        feed: String,
        reason: String,
    },
    /// A mitigation is in another state.
    Transition(TransitionReport),
}

/// One thing that happened, and the word for it.
#[derive(Clone, Debug, Serialize)]
struct Notification<'a> {
    event: &'static str,
    #[serde(flatten)]
    happening: &'a Happening,
}

/// Everything that happened in one cycle.
#[derive(Clone, Debug, Serialize)]
struct Document<'a> {
    events: Vec<Notification<'a>>,
}

/// A receiver, by its kind.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Receiver {
    Command,
    Webhook,
}

impl Receiver {
    const fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Webhook => "webhook",
        }
    }
}

/// What became of a document.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum End {
    Delivered,
    Dropped,
    Failed,
}

/// A receiver and what became of a document, in one label.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Ended(Receiver, End);

impl Label for Ended {
    const NAME: &'static str = "outcome";

    fn value(&self) -> &str {
        match self {
            Self(Receiver::Command, End::Delivered) => "command_delivered",
            Self(Receiver::Command, End::Dropped) => "command_dropped",
            Self(Receiver::Command, End::Failed) => "command_failed",
            Self(Receiver::Webhook, End::Delivered) => "webhook_delivered",
            Self(Receiver::Webhook, End::Dropped) => "webhook_dropped",
            Self(Receiver::Webhook, End::Failed) => "webhook_failed",
        }
    }
}

/// Where the engine leaves what happened. It never waits there. Clones share the receivers.
#[derive(Clone, Debug)]
pub(super) struct Notifier {
    receivers: Arc<Mutex<Vec<Queue>>>,
    ended: Counters<Ended>,
    clock: fn() -> UnixTime,
}

/// The way to one receiver.
#[derive(Clone, Debug)]
struct Queue {
    documents: mpsc::Sender<Arc<[u8]>>,
    tally: Tally,
}

/// Counts what becomes of the documents for one receiver.
#[derive(Clone, Debug)]
struct Tally {
    receiver: Receiver,
    deliveries: Deliveries,
    ended: Counters<Ended>,
    clock: fn() -> UnixTime,
}

impl Tally {
    fn count(&self, end: End) {
        self.ended
            .get_or_create(&Labelled(Ended(self.receiver, end)))
            .inc();
        self.deliveries.count(end);
    }

    /// One attempt failed; another may follow.
    fn fail(&self, attempt: u32, reason: &str) {
        let receiver = self.receiver.word();
        tracing::warn!(receiver, attempt, reason, "notification failed");
        self.deliveries.note(reason, (self.clock)());
    }
}

impl Notifier {
    /// A notifier without receivers.
    pub(super) fn new(metrics: &Metrics, clock: fn() -> UnixTime) -> Self {
        let ended = metrics.counters(
            "stopgap_control_notifications",
            "Notifications by receiver and by what became of them",
        );
        Self {
            receivers: Arc::default(),
            ended,
            clock,
        }
    }

    /// Has these receivers told from now on, by tasks on `runtime`. Those before get what waits for them already.
    pub(super) fn set(&self, config: &NotifyConfig, runtime: &Handle) {
        let mut receivers = Vec::new();
        if let Some((program, arguments)) = config.command.split_first() {
            let target = program.to_string_lossy().into_owned();
            let (queue, waiting) = self.queue(Receiver::Command, target);
            let runner = command::Runner {
                program: program.clone(),
                arguments: arguments.to_vec(),
                deadline: config.deadline,
                retry: config.retry,
                tally: queue.tally.clone(),
            };
            runtime.spawn(runner.run(waiting));
            receivers.push(queue);
        }
        if let Some(webhook) = &config.webhook {
            let (queue, waiting) = self.queue(Receiver::Webhook, webhook.place());
            let sender = webhook::Sender {
                config: webhook.clone(),
                retry: config.retry,
                clock: self.clock,
                tally: queue.tally.clone(),
            };
            runtime.spawn(sender.run(waiting));
            receivers.push(queue);
        }
        *self.lock() = receivers;
    }

    fn queue(&self, receiver: Receiver, target: String) -> (Queue, mpsc::Receiver<Arc<[u8]>>) {
        let (documents, waiting) = mpsc::channel(NOTIFICATIONS);
        let tally = Tally {
            receiver,
            deliveries: Deliveries::new(receiver.word(), target),
            ended: self.ended.clone(),
            clock: self.clock,
        };
        (Queue { documents, tally }, waiting)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Queue>> {
        self.receivers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves what happened to be told.
    pub(super) fn tell(&self, happenings: &[Happening]) {
        if happenings.is_empty() {
            return;
        }
        let events = happenings.iter().map(|happening| Notification {
            event: event(happening),
            happening,
        });
        let document = Document {
            events: events.collect(),
        };
        let Ok(text) = serde_json::to_vec(&document) else {
            return;
        };
        let text: Arc<[u8]> = text.into();
        for queue in &*self.lock() {
            if queue.documents.try_send(Arc::clone(&text)).is_err() {
                queue.tally.count(End::Dropped);
                let receiver = queue.tally.receiver.word();
                tracing::warn!(receiver, "a notification is dropped: too many wait already");
            }
        }
    }

    /// What became of the documents of each receiver.
    pub(super) fn reports(&self) -> Vec<NotifyReport> {
        let receivers = self.lock();
        let reports = receivers.iter();
        reports
            .map(|queue| queue.tally.deliveries.report())
            .collect()
    }
}

/// The word for what happened.
fn event(happening: &Happening) -> &'static str {
    let transition = match happening {
        Happening::Retirable { .. } => return "retirable",
        Happening::Stale { .. } => return "stale",
        Happening::Transition(transition) => transition,
    };
    match transition.state.as_str() {
        "Applied" => "applied",
        "AwaitingApproval" => "awaiting_approval",
        "ExceptionAdded" => "exception_added",
        "ExceptionDeleted" => "exception_deleted",
        "ExceptionLapsed" => "exception_lapsed",
        "ExceptionLapsing" => "exception_lapsing",
        "Drifted" | "Failed" | "Partial" => "failed",
        "Blocked" | "Disabled" | "Expired" | "KillSwitch" | "NotOffered" | "Withdrawn" => {
            "withdrawn"
        }
        _ => "available",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(state: &str) -> Happening {
        Happening::Transition(TransitionReport {
            time: "2026-11-23T00:00:00Z".to_owned(),
            id: "M1.1".to_owned(),
            source: "bundled".to_owned(),
            before: String::new(),
            state: state.to_owned(),
            reason: String::new(),
            digest: None,
            revision: 1,
        })
    }

    fn stale() -> Happening {
        Happening::Stale {
            time: "2026-11-23T00:00:00Z".to_owned(),
            feed: "microsoft".to_owned(),
            reason: "no success since then".to_owned(),
        }
    }

    fn notifier() -> Notifier {
        Notifier::new(&Metrics::default(), || UnixTime::new(0))
    }

    fn config(script: &str, deadline: Duration) -> NotifyConfig {
        NotifyConfig {
            command: ["/bin/sh", "-c", script].map(OsString::from).to_vec(),
            deadline,
            retry: Duration::from_millis(1),
            webhook: None,
        }
    }

    /// Tells a command these things, and waits until it has dealt with them.
    async fn told(config: &NotifyConfig, happenings: &[Happening]) -> NotifyReport {
        let notifier = notifier();
        notifier.set(config, &Handle::current());
        notifier.tell(happenings);
        loop {
            let report = notifier.reports().remove(0);
            if report.delivered + report.failed > 0 {
                return report;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn program_gets_what_happened_on_its_standard_input() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("told");
        let script = format!("cat > {}", place.display());
        let happenings = [
            transition("Applied"),
            transition("AwaitingApproval"),
            stale(),
        ];
        let report = told(&config(&script, NOTIFY_DEADLINE), &happenings).await;
        let told: serde_json::Value =
            serde_json::from_slice(&std::fs::read(place).unwrap()).unwrap();
        assert_eq!(told["events"][0]["event"], "applied");
        assert_eq!(told["events"][0]["id"], "M1.1");
        assert_eq!(told["events"][1]["event"], "awaiting_approval");
        assert_eq!(told["events"][2]["event"], "stale");
        assert_eq!(told["events"][2]["feed"], "microsoft");
        assert_eq!((report.receiver, report.last_failure), ("command", None));
    }

    #[tokio::test]
    async fn failure_is_tried_again_and_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("runs");
        let script = format!("echo run >> {}; exit 3", place.display());
        let report = told(&config(&script, NOTIFY_DEADLINE), &[transition("Failed")]).await;
        let runs = std::fs::read_to_string(place).unwrap();
        assert_eq!(runs.lines().count(), command::ATTEMPTS as usize);
        assert_eq!((report.delivered, report.failed), (0, 1));
        assert!(report.last_failure.unwrap().contains('3'));
    }

    #[tokio::test]
    async fn program_that_hangs_is_killed_at_its_deadline() {
        let hangs = config("exec sleep 1000", Duration::from_millis(20));
        let report = told(&hangs, &[transition("Failed")]).await;
        assert!(report.last_failure.unwrap().starts_with("not done within"));
    }

    #[tokio::test]
    async fn queue_is_bounded_and_what_is_dropped_is_counted() {
        let notifier = notifier();
        let (queue, mut waiting) = notifier.queue(Receiver::Command, String::new());
        notifier.lock().push(queue);
        for _ in 0..=NOTIFICATIONS {
            notifier.tell(&[transition("Applied")]);
        }
        notifier.tell(&[]);
        let mut count = 0;
        while waiting.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, NOTIFICATIONS);
        assert_eq!(notifier.reports()[0].dropped, 1);
    }

    #[test]
    fn every_state_has_a_word() {
        for (state, word) in [
            ("Applied", "applied"),
            ("Audit", "available"),
            ("AwaitingApproval", "awaiting_approval"),
            ("Blocked", "withdrawn"),
            ("Drifted", "failed"),
            ("ExceptionLapsing", "exception_lapsing"),
            ("NotApplicable", "available"),
            ("NotOffered", "withdrawn"),
        ] {
            assert_eq!(event(&transition(state)), word, "{state}");
        }
        assert_eq!(event(&stale()), "stale");
    }
}
