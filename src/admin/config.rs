//! The settings of the admin side.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the admin side is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminConfig {
    /// The read-only address.
    pub address: SocketAddr,
    /// The control socket; nothing stands for `control.sock` in the state folder.
    pub socket: Option<PathBuf>,
}
