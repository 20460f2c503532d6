//! A Unix socket that nobody can connect to before it is ready for them, and that goes with its owner.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UnixListener;

/// A bound socket with its file.
#[derive(Debug)]
pub struct PrivateSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket, removed when this is dropped, if it is still the same one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    left: AtomicBool,
}

/// Why a socket cannot be made.
#[derive(Debug)]
pub enum SocketFault {
    /// Somebody answers there.
    InUse,
    /// Something else than a socket is there, and is left alone.
    NoSocket,
    /// The system refuses.
    System(io::Error),
}

impl PrivateSocket {
    /// Makes the socket at `path`, in place of one that a dead process left behind: bound under another name, opened
    /// by `open` to whom it is for, and only then given its name. Needs a runtime.
    ///
    /// # Errors
    ///
    /// When a live process answers there, when something else is there, or when it cannot be made.
    pub fn bind(
        path: &Path,
        open: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<Self, SocketFault> {
        let (listener, file) = bind_file(path, open)?;
        let listener = UnixListener::from_std(listener).map_err(SocketFault::System)?;
        Ok(Self { listener, file })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// What takes connections, and what has to live as long as it does.
    pub fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// The same, without a runtime.
///
/// # Errors
///
/// As for [`PrivateSocket::bind`].
pub(super) fn bind_file(
    path: &Path,
    open: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(StdListener, SocketFile), SocketFault> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketFault::NoSocket),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketFault::InUse),
        Ok(_) | Err(_) => {}
    }
    place(path, open).map_err(SocketFault::System)
}

fn place(
    path: &Path,
    open: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<(StdListener, SocketFile)> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&beside)?;
    let named = open(&beside).and_then(|()| fs::rename(&beside, path));
    named.inspect_err(|_| {
        // What is left behind does no harm; the error that is told matters more.
        let _ = fs::remove_file(&beside);
    })?;
    listener.set_nonblocking(true)?;
    Ok((listener, SocketFile::of(path)?))
}

impl SocketFile {
    /// The file that is there now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            inode: (metadata.dev(), metadata.ino()),
            left: AtomicBool::new(false),
        })
    }

    /// Whether it goes when this is dropped.
    pub(super) fn own(&self, own: bool) {
        self.left.store(!own, Ordering::Relaxed);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode);
        if ours && !*self.left.get_mut() {
            // It may have gone in between, which is what is wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> Result<PrivateSocket, SocketFault> {
        PrivateSocket::bind(path, |_| Ok(()))
    }

    #[tokio::test]
    async fn socket_goes_with_its_owner_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let socket = bind(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(matches!(bind(&path), Err(SocketFault::InUse)));
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let refused = PrivateSocket::bind(&path, |_| Err(io::ErrorKind::PermissionDenied.into()));
        assert!(matches!(refused, Err(SocketFault::System(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn socket_of_a_dead_process_is_replaced_and_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(socket);

        fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(&path), Err(SocketFault::NoSocket)));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn another_owners_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let first = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
