//! `stopgap run`

use super::command::RunArguments;
use super::exit::{Ended, Exit, Failure};
use super::settings;
use crate::app;

pub(super) fn run(arguments: &RunArguments) -> Ended {
    let later = [
        ("--http2-cleartext", arguments.http2_cleartext),
        ("--tls-listen", !arguments.tls_listen.is_empty()),
        ("--tls-certificate", arguments.tls_certificate.is_some()),
        ("--tls-key", arguments.tls_key.is_some()),
    ];
    if let Some((flag, _)) = later.iter().find(|(_, given)| *given) {
        return Err(Failure::not_in_this_version(flag));
    }
    let config = settings::load(&arguments.settings)?;
    match app::run(config, arguments.settings.config.as_deref()) {
        Ok(()) => Ok(Exit::Done),
        Err(error) if error.is_invalid_input() => Err(Failure::new(Exit::Invalid, error)),
        Err(error) => Err(Failure::new(Exit::Unreachable, error)),
    }
}
