//! `stopgap check --probe-upstream`

use std::path::Path;

use super::exit::{Ended, Exit, Failure, OrExit};
use super::print;
use super::table::printable;
use crate::app::compare_certificates;
use crate::config::{Config, Overrides};

/// Compares certificates: a difference is a warning, a server that cannot be asked a failure.
pub(super) fn probe(file: Option<&Path>) -> Ended {
    let config = Config::load(file, &Overrides::default(), |name| std::env::var_os(name))
        .or_exit(Exit::Invalid)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::Unreachable)?;
    let compared = runtime.block_on(compare_certificates(&config));
    let mut text = String::new();
    for server in &compared.same {
        text.push_str(&format!("same: {server}\n"));
    }
    for different in &compared.different {
        text.push_str(&format!("warning: {}\n", printable(different)));
    }
    for unknown in &compared.unknown {
        text.push_str(&format!("unknown: {}\n", printable(unknown)));
    }
    if text.is_empty() {
        text.push_str("nothing to compare: TLS on a listener and to a server is needed\n");
    }
    print(&text)?;
    match compared.unknown.len() {
        0 => Ok(Exit::Done),
        count => Err(Failure::new(
            Exit::Unreachable,
            format!(
                "{count} {} could not be asked",
                if count == 1 { "server" } else { "servers" }
            ),
        )),
    }
}
