//! Other programs, started from a list of arguments and never through a shell.

use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::{Answer, DriverError};

/// The most output of a program that is read.
const OUTPUT_LIMIT: u64 = 64 * 1024;

/// How a program ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// Its exit code; nothing when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output; empty when it was not asked for.
    pub output: String,
}

/// Something that runs programs.
pub trait Process: Send + Sync {
    /// Runs a program to its end. Its standard output is dropped: what it leaves running may keep it open.
    fn run<'a>(&'a self, arguments: &'a [String]) -> Answer<'a, Ended>;

    /// Runs a program to its end and reads what it says.
    fn read<'a>(&'a self, arguments: &'a [String]) -> Answer<'a, Ended>;
}

/// The programs of this system. One whose answer is not waited for any more is killed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Programs;

impl Process for Programs {
    fn run<'a>(&'a self, arguments: &'a [String]) -> Answer<'a, Ended> {
        Box::pin(async move {
            let mut child = command(arguments)?
                .stdout(Stdio::null())
                .spawn()
                .map_err(|error| failed(arguments, error))?;
            let status = child
                .wait()
                .await
                .map_err(|error| failed(arguments, error))?;
            Ok(Ended {
                code: status.code(),
                output: String::new(),
            })
        })
    }

    fn read<'a>(&'a self, arguments: &'a [String]) -> Answer<'a, Ended> {
        Box::pin(async move {
            let mut child = command(arguments)?
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| failed(arguments, error))?;
            let mut output = Vec::new();
            if let Some(stdout) = child.stdout.take() {
                let mut stdout = stdout.take(OUTPUT_LIMIT);
                let read = stdout.read_to_end(&mut output).await;
                read.map_err(|error| failed(arguments, error))?;
            }
            let status = child
                .wait()
                .await
                .map_err(|error| failed(arguments, error))?;
            Ok(Ended {
                code: status.code(),
                output: String::from_utf8_lossy(&output).into_owned(),
            })
        })
    }
}

/// Standard error stays ours, so that what a program complains about is in our log.
fn command(arguments: &[String]) -> Result<Command, DriverError> {
    let (program, rest) = arguments
        .split_first()
        .ok_or_else(|| DriverError::new("no program is configured for this"))?;
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

fn failed(arguments: &[String], error: std::io::Error) -> DriverError {
    let program = arguments.first().map_or("", String::as_str);
    DriverError::new(format!("{program} cannot be run")).because(error)
}

/// The error of a program that ended with a code that stands for no success.
pub(super) fn refused(arguments: &[String], ended: &Ended) -> DriverError {
    let how = match ended.code {
        Some(code) => format!("ended with code {code}"),
        None => "was ended by a signal".to_owned(),
    };
    DriverError::new(format!("`{}` {how}", arguments.join(" ")))
}
