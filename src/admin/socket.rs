//! The control socket: private from its first moment, and removed only by its owner.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Only the user of this process may connect.
const MODE: u32 = 0o600;

/// A control socket that is bound.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    remover: Remover,
}

/// Removes the socket's file at the end, if it is still the same one.
#[derive(Debug)]
pub(super) struct Remover {
    path: PathBuf,
    inode: (u64, u64),
}

/// The control socket cannot be made.
#[derive(Debug)]
pub struct SocketError {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Somebody answers there.
    InUse,
    /// Something else than a socket is there.
    NoSocket,
    /// It cannot be bound.
    System(io::Error),
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            Kind::InUse => write!(f, "another process answers at the control socket {path}"),
            Kind::NoSocket => write!(
                f,
                "{path} is no socket and is left alone: name another place with [admin] socket"
            ),
            Kind::System(_) => write!(f, "the control socket {path} cannot be made"),
        }
    }
}

impl std::error::Error for SocketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::System(error) => Some(error),
            Kind::InUse | Kind::NoSocket => None,
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
        let failed = |kind| SocketError {
            path: path.to_owned(),
            kind,
        };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(failed(Kind::NoSocket)),
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(failed(Kind::InUse)),
            Ok(_) | Err(_) => {}
        }
        place(path).map_err(|error| failed(Kind::System(error)))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.remover.path
    }

    pub(super) fn into_parts(self) -> (UnixListener, Remover) {
        (self.listener, self.remover)
    }
}

/// Makes the socket under another name, closes it to others, and only then gives it its name.
fn place(path: &Path) -> io::Result<ControlSocket> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&beside)?;
    let named = fs::set_permissions(&beside, Permissions::from_mode(MODE))
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| fs::symlink_metadata(path));
    let metadata = named.inspect_err(|_| {
        // What is left behind does no harm; the error that is told matters more.
        let _ = fs::remove_file(&beside);
    })?;
    listener.set_nonblocking(true)?;
    Ok(ControlSocket {
        listener: UnixListener::from_std(listener)?,
        remover: Remover {
            path: path.to_owned(),
            inode: (metadata.dev(), metadata.ino()),
        },
    })
}

impl Drop for Remover {
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
    async fn socket_is_private_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = ControlSocket::bind(&path).unwrap_err();
        assert!(
            error.to_string().contains("another process answers"),
            "{error}"
        );
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn socket_of_a_dead_process_is_replaced_and_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = ControlSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(socket);

        fs::write(&path, "mine").unwrap();
        let error = ControlSocket::bind(&path).unwrap_err();
        assert!(error.to_string().contains("is no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn another_owners_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = ControlSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = ControlSocket::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
