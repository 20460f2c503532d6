//! From one process to the next: the same sockets, the same state folder, no refused connection.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::build::App;
use super::error::AppError;
use crate::net::{Handover, Inherited, Received, activated};
use crate::proxy::Running;

/// Tells a process that its standard input leads to the one before it.
const VARIABLE: &str = "STOPGAP_HANDOVER";

/// Time for the next process to compile its rules and serve.
const START: Duration = Duration::from_secs(60);

/// Time for the process before this one to release its admin address and control socket.
const RELEASE: Duration = Duration::from_secs(10);

/// What a process was given before it began.
#[derive(Debug, Default)]
pub struct Inheritance {
    received: Received,
    handover: Option<Handover>,
}

impl Inheritance {
    /// Takes what a process before this one, or a service manager, passes on.
    ///
    /// # Errors
    ///
    /// When something was passed and cannot be used.
    pub fn take() -> Result<Self, AppError> {
        if std::env::var_os(VARIABLE).is_none() {
            let sockets = activated().map_err(AppError::inheritance)?;
            return Ok(Self {
                received: Received {
                    sockets,
                    lock: None,
                },
                handover: None,
            });
        }
        let handover = Handover::of_standard_input().map_err(AppError::inheritance)?;
        let received = handover.receive().map_err(AppError::inheritance)?;
        Ok(Self {
            received,
            handover: Some(handover),
        })
    }

    pub(super) fn into_parts(self) -> (Received, Option<Handover>) {
        (self.received, self.handover)
    }

    /// Says which sockets nobody asked for.
    pub(super) fn report(sockets: &Inherited) {
        for address in sockets.left() {
            tracing::warn!(%address, "a socket was passed to this process, and no listener has its address");
        }
    }
}

/// Tells the process before this one, if there is one, that this one serves; it has ended its admin side then.
pub(super) async fn relieve(handover: Option<Handover>, running: &Running) {
    let Some(handover) = handover else {
        return;
    };
    running.own_files();
    let told = tokio::task::spawn_blocking(move || handover.tell_ready(RELEASE)).await;
    if let Ok(Err(error)) = told {
        tracing::warn!(%error, "the process before this one said nothing of its end");
    }
}

impl App {
    /// Starts the program anew, as this process was started, and waits until it serves on the same sockets.
    ///
    /// `None` when it did not come that far: this process goes on then.
    pub(super) async fn start_next(&self) -> Option<Next> {
        let sockets = self.running.sockets();
        let lock = self.state.lock();
        let started = tokio::task::spawn_blocking(move || start(&sockets?, lock?)).await;
        let error = match started {
            Ok(Ok(next)) => return Some(next),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(error, "no next process serves; this one goes on");
        None
    }
}

/// The process that serves from now on.
pub(super) struct Next {
    handover: Handover,
    pub(super) process: u32,
}

impl Next {
    /// Tells it that its admin side can begin.
    pub(super) fn release(&self) {
        if let Err(error) = self.handover.tell_released() {
            tracing::warn!(%error, "the next process is gone");
        }
    }
}

fn start(sockets: &Inherited, lock: Option<std::fs::File>) -> std::io::Result<Next> {
    let mut arguments = std::env::args_os();
    let program = arguments
        .next()
        .ok_or_else(|| std::io::Error::other("this process does not know its program"))?;
    let (handover, theirs) = Handover::pair()?;
    let mut child = Command::new(program)
        .args(arguments)
        .env(VARIABLE, "1")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .stdin(Stdio::from(theirs))
        .spawn()?;
    let passed = handover
        .pass(sockets, lock.as_ref())
        .and_then(|()| handover.wait_ready(START));
    match passed {
        Ok(()) => {
            sockets.own_files(false);
            Ok(Next {
                process: child.id(),
                handover,
            })
        }
        Err(error) => {
            give_up(&mut child);
            Err(error)
        }
    }
}

fn give_up(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}
