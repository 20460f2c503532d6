//! An operator's own programs: a fixed list of arguments for each step.

use super::process::{Ended, Process, refused};
use super::{Answer, Driver, DriverError, Found};
use crate::sidecar::target::{Startup, Target, TargetState};

/// Stands for the target's name where it is a whole argument.
pub const NAME_PLACEHOLDER: &str = "{name}";

/// Stands for `service` or `pool` where it is a whole argument.
pub const KIND_PLACEHOLDER: &str = "{kind}";

/// The exit code of `state` for a target that runs, as the Linux Standard Base has it for init scripts.
const RUNNING: i32 = 0;

/// The same for one that does not run.
const STOPPED: i32 = 3;

/// The same for one that there is not, as `systemctl status` has it.
const ABSENT: i32 = 4;

/// The first word of the output of `state` for a target that nothing can start.
const DISABLED_WORD: &str = "disabled";

/// Programs with their arguments, one for each step.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CommandConfig {
    /// Tells the state: code 0 running, 3 stopped, 4 no such target; the output begins with `disabled` if it is.
    pub state: Vec<String>,
    /// Starts a target; code 0 is success.
    pub start: Vec<String>,
    /// Stops a target; code 0 is success.
    pub stop: Vec<String>,
    /// Bars a target from being started, and the way back; code 0 is success.
    pub bar: Option<Bar>,
}

/// Programs that bar a target from being started, and let it be started again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bar {
    /// Bars.
    pub disable: Vec<String>,
    /// Undoes that.
    pub enable: Vec<String>,
}

/// Runs what an operator wrote down.
pub struct CommandDriver {
    config: CommandConfig,
    process: Box<dyn Process>,
}

impl CommandDriver {
    /// A driver that runs these programs.
    pub fn new(config: CommandConfig, process: Box<dyn Process>) -> Self {
        Self { config, process }
    }

    async fn run(&self, step: &[String], target: &Target) -> Result<(), DriverError> {
        let arguments = arguments(step, target);
        let ended = self.process.run(&arguments).await?;
        match ended.code {
            Some(0) => Ok(()),
            _ => Err(refused(&arguments, &ended)),
        }
    }
}

/// The arguments of a step, with the placeholders that are whole arguments filled in.
fn arguments(step: &[String], target: &Target) -> Vec<String> {
    let kind = match target {
        Target::Pool(_) => "pool",
        Target::Service(_) => "service",
    };
    let fill = |argument: &String| match argument.as_str() {
        NAME_PLACEHOLDER => target.name().to_string(),
        KIND_PLACEHOLDER => kind.to_owned(),
        _ => argument.clone(),
    };
    step.iter().map(fill).collect()
}

fn read(ended: &Ended) -> Option<Option<TargetState>> {
    let startup = match ended.output.split_whitespace().next() {
        Some(DISABLED_WORD) => Startup::Disabled,
        _ => Startup::Allowed,
    };
    let state = |running| Some(Some(TargetState { running, startup }));
    match ended.code? {
        RUNNING => state(true),
        STOPPED => state(false),
        ABSENT => Some(None),
        _ => None,
    }
}

impl Driver for CommandDriver {
    fn name(&self) -> &'static str {
        "command"
    }

    fn health(&self) -> Answer<'_, ()> {
        // Without a target there is nothing to ask the programs.
        Box::pin(async { Ok(()) })
    }

    fn inspect<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<Found>> {
        Box::pin(async move {
            let arguments = arguments(&self.config.state, target);
            let ended = self.process.read(&arguments).await?;
            let state = read(&ended).ok_or_else(|| refused(&arguments, &ended))?;
            Ok(state.map(|state| Found {
                names: vec![target.name().to_string()],
                state,
            }))
        })
    }

    fn set_startup<'a>(&'a self, target: &'a Target, startup: Startup) -> Answer<'a, ()> {
        Box::pin(async move {
            match (&self.config.bar, startup) {
                (Some(bar), Startup::Disabled) => self.run(&bar.disable, target).await,
                (Some(bar), _) => self.run(&bar.enable, target).await,
                (None, _) => Err(DriverError::new(
                    "`disable` and `enable` are not in the settings",
                )),
            }
        })
    }

    fn start<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        Box::pin(self.run(&self.config.start, target))
    }

    fn stop<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        Box::pin(self.run(&self.config.stop, target))
    }

    fn barred(&self, _: &Target, original: Startup) -> Startup {
        match self.config.bar {
            Some(_) => Startup::Disabled,
            None => original,
        }
    }

    fn startable(&self, _: &Target) -> Startup {
        Startup::Allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::target::Name;

    #[test]
    fn placeholders_are_whole_arguments() {
        let step = ["/bin/x", "{name}", "--n={name}", "{kind}", "a b"].map(String::from);
        let target = Target::Pool(Name::new("My Pool").unwrap());
        assert_eq!(
            arguments(&step, &target),
            ["/bin/x", "My Pool", "--n={name}", "pool", "a b"]
        );
    }

    #[test]
    fn codes_and_words_tell_the_state() {
        let state = |running, startup| Some(Some(TargetState { running, startup }));
        for (code, output, expected) in [
            (Some(0), "", state(true, Startup::Allowed)),
            (Some(0), "running\n", state(true, Startup::Allowed)),
            (Some(3), "disabled\n", state(false, Startup::Disabled)),
            (Some(3), " not disabled", state(false, Startup::Allowed)),
            (Some(4), "", Some(None)),
            (Some(1), "", None),
            (Some(127), "", None),
            (None, "", None),
        ] {
            let ended = Ended {
                code,
                output: output.to_owned(),
            };
            assert_eq!(read(&ended), expected, "{ended:?}");
        }
    }
}
