//! Puts the parts together into one process, and takes them down again in order.
//!
//! Layer 6. Called by cli; calls config, control, proxy and admin.
//! Holds: rules are published before a socket is bound; a failing admin address or state folder is an alarm, never
//! an end; the first signal drains, the second ends at once.
//! See `guide::operations` for signals and the order of a stop.

mod build;
mod error;
mod greeting;
mod handover;
mod protection;
mod reload;
mod signals;

pub use build::{App, build};
pub use error::AppError;
pub use handover::Inheritance;
pub use protection::{Comparison, compare_certificates};
pub use reload::SettingsSource;

use crate::config::Config;
use crate::model::UnixTime;

/// The time of day.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the clock is read; every other part takes the time as an argument"
)]
pub fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock before 1970 is wrong, and as wrong as 1970 itself.
    UnixTime::new(since.map_or(0, |since| since.as_secs()))
}

/// Builds everything, says what runs, and serves until a signal ends it.
///
/// `source` is where the settings came from, which are read again at SIGHUP.
///
/// # Errors
///
/// When a part cannot be started.
pub fn run(config: Config, source: &SettingsSource) -> Result<(), AppError> {
    build(config, Inheritance::take()?)?.serve(source)
}
