//! `stopgap config`, and how settings are loaded for every command.

use super::command::{ConfigCommand, InstanceArguments, SettingsArguments};
use super::exit::{Ended, Exit, Failure, OrExit};
use super::print;
use crate::app::now;
use crate::config::{Config, Overrides, schema};

pub(super) fn config(command: &ConfigCommand) -> Ended {
    match command {
        ConfigCommand::Check(arguments) => {
            let config = load(arguments)?;
            config.check_tls().or_exit(Exit::Invalid)?;
            let exceptions = config.control.check_exceptions(now());
            exceptions.or_exit(Exit::Invalid)?;
            print("settings can be used\n")
        }
        ConfigCommand::Print(arguments) => print(&load(arguments)?.to_toml()),
        ConfigCommand::Schema => print(&schema()),
    }
}

/// The settings of file and flags.
pub(super) fn load(arguments: &SettingsArguments) -> Result<Config, Failure> {
    let config = arguments.config.as_deref();
    Config::load(config, &overrides(arguments), |name| std::env::var_os(name))
        .or_exit(Exit::Invalid)
}

/// What the flags say.
pub(super) fn overrides(arguments: &SettingsArguments) -> Overrides {
    Overrides {
        http2_cleartext: arguments.http2_cleartext,
        listen: arguments.listen.clone(),
        tls_listen: arguments.tls_listen.clone(),
        tls_certificate: arguments.tls_certificate.clone(),
        tls_key: arguments.tls_key.clone(),
        upstreams: arguments.upstream.clone(),
        rules: arguments.rules.clone(),
        with_baseline: arguments.with_baseline,
        groups: arguments.group.clone(),
        workers: arguments.workers.map(usize::from),
        access_log: arguments.access_log.clone(),
        admin: arguments.admin,
    }
}

/// The settings of a running instance, by its file alone.
pub(super) fn of_instance(arguments: &InstanceArguments) -> Result<Config, Failure> {
    Config::load(arguments.config.as_deref(), &Overrides::default(), |name| {
        std::env::var_os(name)
    })
    .or_exit(Exit::Invalid)
}
