//! The state folder and its lock.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{Kind, StoreError};
use super::slot::{MemorySlot, Slot};

/// The file whose lock stands for the folder; it holds the owner's process id.
const LOCK: &str = "lock";

/// How long the lock of an owner that has ended is waited for: a program that it was starting when it was killed has a
/// copy until it runs.
const RELEASE: Duration = Duration::from_secs(2);

/// Time between two looks at such a lock.
const RELEASE_LOOK: Duration = Duration::from_millis(10);

/// A folder that this process alone writes to, or a stand-in in memory. Clones share it.
///
/// The folder is released when the last clone goes; the operating system releases it when the process dies.
#[derive(Clone, Debug)]
pub struct StateDir {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Folder { path: PathBuf, lock: Arc<Lock> },
    Memory(Arc<Mutex<BTreeMap<String, MemorySlot>>>),
}

/// The lock of a folder.
#[derive(Debug)]
struct Lock {
    file: File,
    /// Whether another process may hold it too.
    is_shared: AtomicBool,
}

impl Lock {
    const fn new(file: File, is_shared: bool) -> Self {
        Self {
            file,
            is_shared: AtomicBool::new(is_shared),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough at once: a program that is being started has a copy of the descriptor until it runs.
        // Unlocking would be too much where another process is to keep it.
        if !*self.is_shared.get_mut() {
            // What cannot be unlocked is released when the last copy is closed.
            let _ = self.file.unlock();
        }
    }
}

impl StateDir {
    /// Takes the folder at `path`: makes it when it is missing, gives it mode 0700, and locks it.
    ///
    /// # Errors
    ///
    /// When another process has it ([`StoreError::is_locked`]), or when it cannot be made or written; the caller
    /// then raises an alarm and goes on with [`memory`](Self::memory). A lock whose owner has ended is waited for, two
    /// seconds at most.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unusable = |error| StoreError::new(path, Kind::Folder(error));
        make_private(path).map_err(unusable)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(unusable)?;
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let owner = owner(&mut lock);
            if began.elapsed() > RELEASE || owner.is_none_or(is_running) {
                return Err(StoreError::new(path, Kind::Locked(owner)));
            }
            std::thread::sleep(RELEASE_LOOK);
        }
        record_owner(&mut lock).map_err(unusable)?;
        Ok(Self {
            place: Place::Folder {
                path: path.to_owned(),
                lock: Arc::new(Lock::new(lock, false)),
            },
        })
    }

    /// Takes the folder at `path` over from a process whose lock this is: both have it until that one ends.
    ///
    /// # Errors
    ///
    /// When the lock is not that of this folder, or cannot be written.
    pub fn adopt(path: &Path, mut lock: File) -> Result<Self, StoreError> {
        let unusable = |error| StoreError::new(path, Kind::Folder(error));
        if !is_lock_of(&lock, path).map_err(unusable)? {
            return Err(unusable(io::Error::other(
                "the lock handed over is that of another folder",
            )));
        }
        record_owner(&mut lock).map_err(unusable)?;
        Ok(Self {
            place: Place::Folder {
                path: path.to_owned(),
                lock: Arc::new(Lock::new(lock, true)),
            },
        })
    }

    /// The file whose lock stands for the folder, to be handed over; `None` for a stand-in in memory.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub fn lock(&self) -> io::Result<Option<File>> {
        match &self.place {
            Place::Folder { lock, .. } => {
                let copy = lock.file.try_clone()?;
                lock.is_shared.store(true, Ordering::Relaxed);
                Ok(Some(copy))
            }
            Place::Memory(_) => Ok(None),
        }
    }

    /// A stand-in that forgets everything when the process ends.
    pub fn memory() -> Self {
        Self {
            place: Place::Memory(Arc::default()),
        }
    }

    /// Where the folder is; `None` for a stand-in in memory.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder { path, .. } => Some(path),
            Place::Memory(_) => None,
        }
    }

    /// The slot of this name; two calls with one name give the same slot.
    ///
    /// Characters other than letters, digits, `-`, `_` and `.` are escaped, so that any name stays one file in
    /// this folder, and no two names share one.
    pub fn slot(&self, name: &str) -> Slot {
        match &self.place {
            Place::Folder { path, .. } => Slot::file(path.join(file_name(name))),
            Place::Memory(slots) => {
                let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
                Slot::memory(slots.entry(name.to_owned()).or_default().clone())
            }
        }
    }
}

#[cfg(unix)]
fn is_lock_of(lock: &File, folder: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (ours, theirs) = (lock.metadata()?, std::fs::metadata(folder.join(LOCK))?);
    Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
}

#[cfg(not(unix))]
fn is_lock_of(_lock: &File, _folder: &Path) -> io::Result<bool> {
    Ok(false)
}

fn file_name(name: &str) -> String {
    let mut file = String::with_capacity(name.len() + 6);
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => file.push(char::from(byte)),
            // Capital letters too: a file system may not tell them from small ones.
            _ => file.push_str(&format!("%{byte:02x}")),
        }
    }
    // The suffix keeps a slot apart from the lock, the control socket and the kill switch.
    file.push_str(".state");
    file
}

fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        const PRIVATE: u32 = 0o700;
        builder.mode(PRIVATE).create(path)?;
        // A folder that was there before, made by systemd for instance, may be wider.
        if std::fs::metadata(path)?.permissions().mode() & 0o777 != PRIVATE {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(PRIVATE))?;
        }
    }
    #[cfg(not(unix))]
    builder.create(path)?;
    Ok(())
}

fn record_owner(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())?;
    lock.flush()
}

/// Whether a process is there; where that cannot be told, it is.
fn is_running(process: u32) -> bool {
    !cfg!(target_os = "linux") || Path::new("/proc").join(process.to_string()).exists()
}

fn owner(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.rewind().ok()?;
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_owner_is_refused_and_told_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = StateDir::open(&path).unwrap();
        let error = StateDir::open(&path).unwrap_err();
        assert!(error.is_locked());
        assert_eq!(error.held_by(), Some(std::process::id()));
        assert!(
            error
                .to_string()
                .contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lock_of_an_owner_that_has_ended_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::open(folder.path()).unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        std::fs::write(folder.path().join(LOCK), ended.id().to_string()).unwrap();
        let error = StateDir::open(folder.path()).unwrap_err();
        assert_eq!(error.held_by(), Some(ended.id()), "not for ever");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| StateDir::open(folder.path()));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn copies_of_the_lock_hold_it_only_where_they_were_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::open(folder.path()).unwrap();
        let Place::Folder { lock, .. } = &first.place else {
            unreachable!("it was opened at a path")
        };
        // As a program that is being started has it.
        let _copy = lock.file.try_clone().unwrap();
        drop(first);
        let second = StateDir::open(folder.path()).unwrap();
        let handed_over = second.lock().unwrap();
        drop(second);
        assert!(StateDir::open(folder.path()).unwrap_err().is_locked());
        drop(handed_over);
        StateDir::open(folder.path()).unwrap();
    }

    #[test]
    fn owner_may_be_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let _first = StateDir::open(folder.path()).unwrap();
        std::fs::write(folder.path().join(LOCK), "what").unwrap();
        let error = StateDir::open(folder.path()).unwrap_err();
        assert!(error.is_locked());
        assert_eq!(error.held_by(), None);
    }

    #[cfg(unix)]
    #[test]
    fn folder_is_private_even_if_it_was_not() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let _state = StateDir::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn file_in_place_of_the_folder_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateDir::open(&file.path().join("state")).unwrap_err();
        assert!(!error.is_locked());
        assert!(error.to_string().contains("STOPGAP_STATE_DIR"), "{error}");
    }

    #[test]
    fn names_stay_apart_and_inside() {
        let names = ["feed", "Feed", "../feed", "feed/x", "feed%2fx", "féed", ""];
        let files: std::collections::BTreeSet<_> = names.iter().map(|n| file_name(n)).collect();
        assert_eq!(files.len(), names.len());
        assert!(files.iter().all(|file| !file.contains('/')));
    }
}
