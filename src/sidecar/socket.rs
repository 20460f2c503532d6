//! The agent's Unix socket: bound under another name, opened to whom it is for, and only then given its name.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::error::{Kind, SidecarError};

/// For one user alone.
const PRIVATE: u32 = 0o600;

/// For several: whoever connects is asked for credentials before a byte is read.
const SHARED: u32 = 0o666;

/// A bound socket, with the users that may speak on it.
#[derive(Debug)]
pub struct AgentSocket {
    pub(super) listener: UnixListener,
    pub(super) users: Vec<u32>,
    path: PathBuf,
    inode: (u64, u64),
}

impl AgentSocket {
    /// Makes the socket at `path`, in place of one that a dead process left behind, for these user ids. Needs a
    /// runtime.
    ///
    /// # Errors
    ///
    /// When somebody answers there, something else is there, or it cannot be made.
    pub fn bind(path: &Path, users: Vec<u32>) -> Result<Self, SidecarError> {
        let failed = |error| SidecarError::new(Kind::Socket(path.to_owned(), error));
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(failed(io::ErrorKind::AlreadyExists.into()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(failed(io::ErrorKind::AddrInUse.into()));
            }
            Ok(_) | Err(_) => {}
        }
        place(path, users).map_err(failed)
    }
}

fn place(path: &Path, users: Vec<u32>) -> io::Result<AgentSocket> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    let named = open_to(&beside, &users)
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| fs::symlink_metadata(path));
    let metadata = named.inspect_err(|_| {
        // What is left behind does no harm; the error that is told matters more.
        let _ = fs::remove_file(&beside);
    })?;
    Ok(AgentSocket {
        listener,
        users,
        path: path.to_owned(),
        inode: (metadata.dev(), metadata.ino()),
    })
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

impl Drop for AgentSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode);
        if ours {
            // It may have gone in between, which is what is wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn socket_is_private_when_it_is_for_its_owner_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sidecar.sock");
        let user = fs::metadata(folder.path()).unwrap().uid();
        let socket = AgentSocket::bind(&path, vec![user]).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);
        assert!(AgentSocket::bind(&path, vec![user]).is_err());
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sidecar.sock");
        fs::write(&path, "mine").unwrap();
        assert!(AgentSocket::bind(&path, vec![0]).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
