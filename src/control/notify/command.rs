//! An operator's program that is told: a fixed command, one JSON document on its standard input.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{End, Tally};

/// How often it is run for one document, if it fails.
pub(super) const ATTEMPTS: u32 = 4;

/// Runs the command for each document, one at a time.
pub(super) struct Runner {
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
    pub(super) deadline: Duration,
    pub(super) retry: Duration,
    pub(super) tally: Tally,
}

impl Runner {
    /// Runs it for each document until nobody leaves any more.
    pub(super) async fn run(self, mut waiting: mpsc::Receiver<Arc<[u8]>>) {
        while let Some(document) = waiting.recv().await {
            let end = match self.tell(&document).await {
                true => End::Delivered,
                false => End::Failed,
            };
            self.tally.count(end);
        }
    }

    async fn tell(&self, document: &[u8]) -> bool {
        let mut wait = self.retry;
        for attempt in 1..=ATTEMPTS {
            let failure = match timeout(self.deadline, self.once(document)).await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("not done within {} s", self.deadline.as_secs()),
            };
            self.tally.fail(attempt, &failure);
            if attempt < ATTEMPTS {
                sleep(wait).await;
                wait *= 2;
            }
        }
        false
    }

    /// Runs the program to its end. Dropped before that, it is killed.
    async fn once(&self, document: &[u8]) -> io::Result<()> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
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
}
