//! One file that is replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Kind, StoreError};

/// The most bytes a slot takes: several times the largest feed document.
pub const SLOT_LIMIT: usize = 64 * 1024 * 1024;

/// The first word of every slot's header line; another number is another layout.
const MAGIC: &str = "stopgap-state-1";

/// No header line is longer than this.
const HEADER_LIMIT: usize = 64;

/// The content of a slot in memory.
pub(super) type MemorySlot = Arc<Mutex<Option<Vec<u8>>>>;

/// One named piece of state: absent, or bytes that were written whole.
///
/// On disk it is a header line (magic, length, checksum) and the bytes. The checksum finds torn and damaged files;
/// it proves no origin, so what came signed is verified again by its reader.
#[derive(Clone, Debug)]
pub struct Slot {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    File(PathBuf),
    Memory(MemorySlot),
}

impl Slot {
    pub(super) fn file(path: PathBuf) -> Self {
        Self {
            place: Place::File(path),
        }
    }

    pub(super) fn memory(content: MemorySlot) -> Self {
        Self {
            place: Place::Memory(content),
        }
    }

    /// The bytes last written; `None` when nothing was.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or when it is damaged ([`StoreError::is_corrupt`]): cut short, changed, or
    /// no regular file.
    pub fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match &self.place {
            Place::File(path) => read(path),
            Place::Memory(content) => Ok(content
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()),
        }
    }

    /// Replaces the content. After an error, or a crash at any point, the old content is still there.
    ///
    /// # Errors
    ///
    /// When the bytes are more than [`SLOT_LIMIT`], or cannot be brought to the disk.
    pub fn replace(&self, content: &[u8]) -> Result<(), StoreError> {
        match &self.place {
            Place::File(path) => {
                if content.len() > SLOT_LIMIT {
                    return Err(StoreError::new(path, Kind::TooLarge(content.len())));
                }
                replace(path, content).map_err(|error| StoreError::new(path, Kind::Write(error)))
            }
            Place::Memory(kept) => {
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(content.to_vec());
                Ok(())
            }
        }
    }

    /// Forgets the content, damaged or not.
    ///
    /// # Errors
    ///
    /// When the file is there and cannot be removed.
    pub fn clear(&self) -> Result<(), StoreError> {
        match &self.place {
            Place::File(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(StoreError::new(path, Kind::Write(error)))
                }
                _ => Ok(()),
            },
            Place::Memory(kept) => {
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok(())
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |error| StoreError::new(path, Kind::Read(error));
    let corrupt = |reason| StoreError::new(path, Kind::Corrupt(reason));
    // Asked before opening: opening a pipe would wait for its other end.
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(corrupt("not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let mut bytes = Vec::new();
    let limit = (HEADER_LIMIT + SLOT_LIMIT + 1) as u64;
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(failed)?;
    let header = bytes
        .iter()
        .take(HEADER_LIMIT)
        .position(|byte| *byte == b'\n')
        .ok_or_else(|| corrupt("no header line"))?;
    let content = bytes.split_off(header + 1);
    // Written anew and compared whole, so that no two spellings of one header exist.
    if bytes != header_line(&content).as_bytes() {
        return Err(corrupt("length or checksum differs"));
    }
    Ok(Some(content))
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension("new");
    // A leftover of a crash; whatever it is, it must not be written through.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell; a leftover does no harm.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The rename itself lives in the folder.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(header_line(content).as_bytes())?;
    file.write_all(content)?;
    file.sync_all()
}

fn header_line(content: &[u8]) -> String {
    format!("{MAGIC} {} {:016x}\n", content.len(), checksum(content))
}

/// FNV-1a, 64 bits. Each step is a bijection of the sum, so a single changed byte always changes the result.
fn checksum(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(folder: &tempfile::TempDir) -> (Slot, PathBuf) {
        let path = folder.path().join("a.state");
        (Slot::file(path.clone()), path)
    }

    #[test]
    fn content_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Slot::memory(MemorySlot::default());
        for slot in [slot(&folder).0, memory] {
            assert_eq!(slot.read().unwrap(), None);
            for content in [&b""[..], b"one", b"two\nlines\n"] {
                slot.replace(content).unwrap();
                assert_eq!(slot.read().unwrap().as_deref(), Some(content));
            }
            slot.clear().unwrap();
            slot.clear().unwrap();
            assert_eq!(slot.read().unwrap(), None);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn damage_at_every_position_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (slot, path) = slot(&folder);
        slot.replace(b"the last good document\n").unwrap();
        let good = fs::read(&path).unwrap();
        for position in 0..good.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut damaged = good.clone();
                damaged[position] ^= flip;
                fs::write(&path, &damaged).unwrap();
                let error = slot.read().unwrap_err();
                assert!(error.is_corrupt(), "byte {position} ^ {flip:#x}: {error}");
            }
            fs::write(&path, &good[..position]).unwrap();
            assert!(slot.read().unwrap_err().is_corrupt(), "cut at {position}");
        }
        fs::write(&path, [&good[..], b"x"].concat()).unwrap();
        assert!(slot.read().unwrap_err().is_corrupt());
        fs::write(&path, &good).unwrap();
        assert!(slot.read().unwrap().is_some());
    }

    #[test]
    fn crash_before_the_rename_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let (slot, path) = slot(&folder);
        slot.replace(b"old").unwrap();
        fs::write(path.with_extension("new"), b"half of the n").unwrap();
        assert_eq!(slot.read().unwrap().unwrap(), b"old");
        slot.replace(b"new").unwrap();
        assert_eq!(slot.read().unwrap().unwrap(), b"new");
    }

    #[test]
    fn failed_write_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let (slot, path) = slot(&folder);
        slot.replace(b"old").unwrap();
        // A folder in the way of the temporary file refuses root too, which permissions do not.
        fs::create_dir(path.with_extension("new")).unwrap();
        let error = slot.replace(b"new").unwrap_err();
        assert!(!error.is_corrupt());
        assert!(std::error::Error::source(&error).is_some());
        assert_eq!(slot.read().unwrap().unwrap(), b"old");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (slot, path) = slot(&folder);
        let elsewhere = folder.path().join("elsewhere");
        Slot::file(elsewhere.clone()).replace(b"theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(slot.read().unwrap_err().is_corrupt());
        slot.replace(b"ours").unwrap();
        assert_eq!(slot.read().unwrap().unwrap(), b"ours");
        assert_eq!(
            Slot::file(elsewhere).read().unwrap().unwrap(),
            b"theirs",
            "what the link pointed to must stay"
        );
    }

    #[test]
    fn too_much_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (slot, _) = slot(&folder);
        assert!(slot.replace(&vec![0; SLOT_LIMIT + 1]).is_err());
        assert_eq!(slot.read().unwrap(), None);
    }
}
