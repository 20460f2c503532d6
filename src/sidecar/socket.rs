//! The agent's Unix socket: for the users that may ask.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::error::{Kind, SidecarError};
use crate::net::{PrivateSocket, SocketFault};

/// For one user alone.
const PRIVATE: u32 = 0o600;

/// For several: whoever connects is asked for credentials before a byte is read.
const SHARED: u32 = 0o666;

/// A bound socket, with the users that may speak on it.
#[derive(Debug)]
pub struct AgentSocket {
    pub(super) socket: PrivateSocket,
    pub(super) users: Vec<u32>,
}

impl AgentSocket {
    /// Makes the socket at `path`, in place of one that a dead process left behind, for these user ids. Needs a
    /// runtime.
    ///
    /// # Errors
    ///
    /// When somebody answers there, something else is there, or it cannot be made.
    pub fn bind(path: &Path, users: Vec<u32>) -> Result<Self, SidecarError> {
        let socket = PrivateSocket::bind(path, |path| open_to(path, &users)).map_err(|fault| {
            let error = match fault {
                SocketFault::InUse => io::ErrorKind::AddrInUse.into(),
                SocketFault::NoSocket => io::ErrorKind::AlreadyExists.into(),
                SocketFault::System(error) => error,
            };
            SidecarError::new(Kind::Socket(path.to_owned(), error))
        })?;
        Ok(Self { socket, users })
    }
}

fn open_to(path: &Path, users: &[u32]) -> io::Result<()> {
    let owner = fs::symlink_metadata(path)?.uid();
    let mode = match users {
        [user] if *user == owner => PRIVATE,
        [user] => {
            chown(path, Some(*user), None)?;
            PRIVATE
        }
        _ => SHARED,
    };
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn socket_is_private_when_it_is_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sidecar.sock");
        let user = fs::metadata(folder.path()).unwrap().uid();
        let socket = AgentSocket::bind(&path, vec![user]).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);
        assert!(AgentSocket::bind(&path, vec![user]).is_err());
        drop(socket);
        fs::write(&path, "mine").unwrap();
        assert!(AgentSocket::bind(&path, vec![user]).is_err());
    }
}
