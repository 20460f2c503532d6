//! The commands of both binaries: arguments in, an exit code and readable text out.
//!
//! Layer 7. Called by the binaries; calls app, config, control, feed, lab, sidecar and signature.
//! Holds: every end has one of the codes of [`Exit`]; an error is told once, with its causes; text from outside
//! cannot steer a terminal.
//! See `guide::operations` for commands and codes.

mod builds;
mod check;
mod command;
mod curl;
mod eval;
mod exception;
mod exit;
mod explain;
mod explanation;
mod feed;
mod feed_test;
mod generate;
mod inspect;
mod instance;
mod keygen;
mod mitigation;
mod notifications;
mod probe;
mod publishing;
mod run;
mod settings;
mod sidecar;
mod sign;
mod signing;
mod status;
mod table;
mod trust;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

pub use exit::Exit;

use command::{Arguments, Command, FeedCommand, MitigationCommand, SidecarArguments};
use exit::{Ended, OrExit};

/// Runs `stopgap` with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    end(dispatch(arguments.command))
}

/// Runs `stopgap-sidecar` with the arguments of this process.
pub fn sidecar_main() -> ExitCode {
    let arguments = match SidecarArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    end(sidecar::sidecar(&arguments.command))
}

fn dispatch(command: Command) -> Ended {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Eval(arguments) => eval::eval(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Feed(FeedCommand::Fetch(arguments)) => feed::fetch(arguments),
        Command::Feed(FeedCommand::Verify(arguments)) => feed::verify(&arguments),
        Command::Feed(FeedCommand::Test(arguments)) => feed_test::test(&arguments),
        Command::Feed(FeedCommand::Show(arguments)) => status::feeds(&arguments),
        Command::Mitigation(command) => match command {
            MitigationCommand::List(arguments) if arguments.exchange => {
                mitigation::exchange(&arguments.status)
            }
            MitigationCommand::List(arguments) => status::mitigations(&arguments.status),
            MitigationCommand::Show { id, instance } => status::mitigation(&id, &instance),
            MitigationCommand::History(arguments) => mitigation::history(&arguments),
            MitigationCommand::Block(arguments) => mitigation::decide("block", &arguments),
            MitigationCommand::Retire(arguments) => mitigation::decide("retire", &arguments),
            MitigationCommand::Keep(arguments) => mitigation::decide("keep", &arguments),
            MitigationCommand::Unblock(arguments) => mitigation::decide("unblock", &arguments),
            MitigationCommand::Approve(arguments) => mitigation::decide("approve", &arguments),
            MitigationCommand::Reapply(arguments) => mitigation::decide("reapply", &arguments),
            MitigationCommand::Mode { decision, mode } => mitigation::mode(mode, &decision),
        },
        Command::Exception(command) => exception::exception(command),
        Command::Status(arguments) => status::status(&arguments),
        Command::Reload(arguments) => status::reload(&arguments),
        Command::KillSwitch(arguments) => status::kill_switch(&arguments),
        Command::Keygen(arguments) => keygen::keygen(&arguments),
        Command::Sign(arguments) => sign::sign(&arguments),
        Command::Cosign(arguments) => sign::cosign(&arguments),
        Command::Verify(arguments) => inspect::verify(&arguments),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::Trust(command) => trust::trust(&command),
        Command::Config(command) => settings::config(&command),
        Command::Completions { shell } => generate::completions(shell),
        Command::Manpage => generate::manpage(),
    }
}

fn end(ended: Ended) -> ExitCode {
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // A closed standard error leaves the exit code to tell.
            let _ = std::io::stderr().write_all(failure.text().as_bytes());
            failure.exit.into()
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    // A closed stream leaves the exit code to tell.
    let _ = error.print();
    match error.use_stderr() {
        true => Exit::Usage.into(),
        false => Exit::Done.into(),
    }
}

/// Writes to standard output. A reader that went away, as `head` does, is no error.
fn print(text: &str) -> Ended {
    let mut output = std::io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).or_exit(Exit::Unreachable)
        }
        _ => Ok(Exit::Done),
    }
}
