//! The control socket: for the user of this process alone.

use std::fmt;
use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::net::{PrivateSocket, SocketFault, SocketFile};

/// Only the user of this process may connect.
const MODE: u32 = 0o600;

/// A control socket that is bound.
#[derive(Debug)]
pub struct ControlSocket(PrivateSocket);

/// The control socket cannot be made.
#[derive(Debug)]
pub struct SocketError {
    path: PathBuf,
    fault: SocketFault,
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.fault {
            SocketFault::InUse => {
                write!(f, "another process answers at the control socket {path}")
            }
            SocketFault::NoSocket => write!(
                f,
                "{path} is no socket and is left alone: name another place with [admin] socket"
            ),
            SocketFault::System(_) => write!(f, "the control socket {path} cannot be made"),
        }
    }
}

impl std::error::Error for SocketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            SocketFault::System(error) => Some(error),
            SocketFault::InUse | SocketFault::NoSocket => None,
        }
    }
}

impl ControlSocket {
    /// Makes the socket at `path`, in place of one that a dead process left behind. Needs a runtime.
    ///
    /// # Errors
    ///
    /// When a live process answers there, when something else is there, or when it cannot be made.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        PrivateSocket::bind(path, close_to_others)
            .map(Self)
            .map_err(|fault| SocketError {
                path: path.to_owned(),
                fault,
            })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        self.0.into_parts()
    }
}

fn close_to_others(path: &Path) -> io::Result<()> {
    set_permissions(path, Permissions::from_mode(MODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn socket_is_private_and_faults_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        let mode = std::fs::symlink_metadata(&path)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, MODE);
        let said = || ControlSocket::bind(&path).unwrap_err().to_string();
        assert!(said().contains("another process answers"), "{}", said());
        drop(socket);
        std::fs::write(&path, "mine").unwrap();
        assert!(said().contains("is no socket"), "{}", said());
    }
}
