//! The kill switch's file: there, and the switch is on; what it holds says for what.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::mitigation::KillSwitch;
use crate::store::StateDir;

/// The file in the state folder.
const FILE: &str = "kill-switch";

/// Time between two looks at the file; rules are lifted within one second of its being made.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// The longest content that is read.
const LIMIT: u64 = 64 * 1024;

/// Where the switch is kept; nowhere when the state folder is in memory.
#[derive(Clone, Debug)]
pub(super) struct KillSwitchFile {
    path: Option<PathBuf>,
}

impl KillSwitchFile {
    pub(super) fn new(state: &StateDir) -> Self {
        Self {
            path: state.path().map(|folder| folder.join(FILE)),
        }
    }

    /// What the file says; `None` when there is no place for one.
    pub(super) fn read(&self) -> Option<KillSwitch> {
        self.path.as_deref().map(read)
    }

    /// Makes the file, so that everything is lifted, or removes it.
    pub(super) fn write(&self, on: bool) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        match on {
            true => fs::write(path, b""),
            false => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }
}

fn read(path: &Path) -> KillSwitch {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(LIMIT).read_to_string(&mut text)) {
        Ok(_) => KillSwitch::from_text(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => KillSwitch::Off,
        // It is there and cannot be read: whoever made it wants traffic to flow.
        Err(_) => KillSwitch::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_the_switch() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let file = KillSwitchFile::new(&state);
        assert_eq!(file.read(), Some(KillSwitch::Off));
        file.write(true).unwrap();
        assert_eq!(file.read(), Some(KillSwitch::All));
        fs::write(folder.path().join(FILE), "M1.1\n").unwrap();
        assert_ne!(file.read(), Some(KillSwitch::All));
        fs::write(folder.path().join(FILE), [0xff]).unwrap();
        assert_eq!(file.read(), Some(KillSwitch::All));
        file.write(false).unwrap();
        file.write(false).unwrap();
        assert_eq!(file.read(), Some(KillSwitch::Off));
        assert_eq!(KillSwitchFile::new(&StateDir::memory()).read(), None);
    }
}
