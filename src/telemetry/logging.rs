//! The process log: one line of text or JSON for each event, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Sets up the process log. A later call changes nothing.
///
/// Events go to standard error: as text when that is a terminal, as JSON lines otherwise. `STOPGAP_LOG` holds the
/// filter, in `tracing_subscriber`'s directives; the default is `info`.
pub fn init() {
    let filter = EnvFilter::try_from_env("STOPGAP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would tell of a log that cannot be written there, in the same place, and panic over that.
        .log_internal_errors(false);
    // Fails only when a log was set up before, which tests do.
    let _ = if std::io::stderr().is_terminal() {
        log.try_init()
    } else {
        log.json().try_init()
    };
}
