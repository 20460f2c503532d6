//! Tells an operator's program what became of mitigations: a fixed command, one JSON document on its standard input.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::history::TransitionReport;

/// Documents that may wait; more are dropped, which is logged.
pub const NOTIFICATIONS: usize = 64;

/// How long the program may take by default.
pub const NOTIFY_DEADLINE: Duration = Duration::from_secs(30);

/// How often it is run for one document, if it fails.
const ATTEMPTS: u32 = 4;

/// Time until the second run by default; it doubles each time.
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// What is run for each document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotifyConfig {
    /// The program and its arguments, given to no shell; empty for none.
    pub command: Vec<OsString>,
    /// How long it may take before it is killed.
    pub deadline: Duration,
    /// Time until it is run again after a failure; it doubles each time.
    pub retry: Duration,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            deadline: NOTIFY_DEADLINE,
            retry: FIRST_RETRY,
        }
    }
}

/// One thing that happened, beside the transition that it is.
#[derive(Clone, Debug, Serialize)]
struct Notification<'a> {
    event: &'static str,
    #[serde(flatten)]
    transition: &'a TransitionReport,
}

/// Everything that happened in one cycle.
#[derive(Clone, Debug, Serialize)]
struct Document<'a> {
    events: Vec<Notification<'a>>,
}

/// Where the engine leaves what happened. It never waits there.
#[derive(Clone, Debug)]
pub(super) struct Notifier {
    queue: mpsc::Sender<Vec<u8>>,
}

impl Notifier {
    /// A notifier, and the other end of its queue.
    pub(super) fn new() -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (queue, waiting) = mpsc::channel(NOTIFICATIONS);
        (Self { queue }, waiting)
    }

    /// Leaves what happened to be told.
    pub(super) fn tell(&self, transitions: &[TransitionReport]) {
        let events = transitions.iter().map(|transition| Notification {
            event: event(transition),
            transition,
        });
        let document = Document {
            events: events.collect(),
        };
        let Ok(text) = serde_json::to_vec(&document) else {
            return;
        };
        if self.queue.try_send(text).is_err() {
            tracing::warn!("a notification is dropped: too many wait already");
        }
    }
}

/// The word for what happened.
fn event(transition: &TransitionReport) -> &'static str {
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

/// Runs the command for each document for ever, one at a time.
pub(super) async fn notify(config: NotifyConfig, mut waiting: mpsc::Receiver<Vec<u8>>) {
    let Some((program, arguments)) = config.command.split_first() else {
        return;
    };
    while let Some(document) = waiting.recv().await {
        let mut wait = config.retry;
        for attempt in 1..=ATTEMPTS {
            let run = run(program, arguments, &document);
            let failure = match timeout(config.deadline, run).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("not done within {} s", config.deadline.as_secs()),
            };
            tracing::warn!(program = %program.display(), attempt, failure, "notification failed");
            if attempt < ATTEMPTS {
                sleep(wait).await;
                wait *= 2;
            }
        }
    }
}

/// Runs the program to its end. Dropped before that, it is killed.
async fn run(program: &OsString, arguments: &[OsString], document: &[u8]) -> io::Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(document).await {
            // It may need no more than it has read.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let status = child.wait().await?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(status.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(state: &str) -> TransitionReport {
        TransitionReport {
            time: "2026-11-23T00:00:00Z".to_owned(),
            id: "M1.1".to_owned(),
            source: "bundled".to_owned(),
            before: String::new(),
            state: state.to_owned(),
            reason: String::new(),
            digest: None,
            revision: 1,
        }
    }

    fn config(script: &str, deadline: Duration) -> NotifyConfig {
        NotifyConfig {
            command: ["/bin/sh", "-c", script].map(OsString::from).to_vec(),
            deadline,
            retry: Duration::from_millis(1),
        }
    }

    #[tokio::test]
    async fn program_gets_what_happened_on_its_standard_input() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("told");
        let (notifier, waiting) = Notifier::new();
        notifier.tell(&[transition("Applied"), transition("AwaitingApproval")]);
        drop(notifier);
        let script = format!("cat > {}", place.display());
        notify(config(&script, NOTIFY_DEADLINE), waiting).await;
        let told: serde_json::Value =
            serde_json::from_slice(&std::fs::read(place).unwrap()).unwrap();
        assert_eq!(told["events"][0]["event"], "applied");
        assert_eq!(told["events"][0]["id"], "M1.1");
        assert_eq!(told["events"][1]["event"], "awaiting_approval");
    }

    #[tokio::test]
    async fn failure_is_tried_again_and_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("runs");
        let (notifier, waiting) = Notifier::new();
        notifier.tell(&[transition("Failed")]);
        drop(notifier);
        let script = format!("echo run >> {}; exit 3", place.display());
        notify(config(&script, NOTIFY_DEADLINE), waiting).await;
        let runs = std::fs::read_to_string(place).unwrap();
        assert_eq!(runs.lines().count(), ATTEMPTS as usize);
    }

    #[tokio::test]
    async fn program_that_hangs_is_killed_at_its_deadline() {
        let (notifier, waiting) = Notifier::new();
        notifier.tell(&[transition("Failed")]);
        drop(notifier);
        let hangs = config("exec sleep 1000", Duration::from_millis(20));
        // It returns: that is the test.
        notify(hangs, waiting).await;
    }

    #[test]
    fn queue_is_bounded() {
        let (notifier, mut waiting) = Notifier::new();
        for _ in 0..=NOTIFICATIONS {
            notifier.tell(&[transition("Applied")]);
        }
        let mut count = 0;
        while waiting.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, NOTIFICATIONS);
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
    }
}
