//! `stopgap run`

use super::command::RunArguments;
use super::exit::{Ended, Exit, Failure};
use super::settings;
use crate::app;

pub(super) fn run(arguments: &RunArguments) -> Ended {
    let config = settings::load(&arguments.settings)?;
    let source = app::SettingsSource {
        file: arguments.settings.config.clone(),
        overrides: settings::overrides(&arguments.settings),
    };
    match app::run(config, &source) {
        Ok(()) => Ok(Exit::Done),
        Err(error) if error.is_invalid_input() => Err(Failure::new(Exit::Invalid, error)),
        Err(error) => Err(Failure::new(Exit::Unreachable, error)),
    }
}
