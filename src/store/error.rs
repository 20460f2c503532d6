//! What can go wrong with the state folder.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The state folder, or one file of it, cannot be used.
#[derive(Debug)]
pub struct StoreError {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// The file is there but its content is damaged, for the reason given.
    Corrupt(&'static str),
    /// The folder cannot be made, or its permissions cannot be set.
    Folder(io::Error),
    /// Another process holds the folder; its process id, when it could be read.
    Locked(Option<u32>),
    /// The file cannot be read.
    Read(io::Error),
    /// The content is longer than a slot takes.
    TooLarge(usize),
    /// The file cannot be written.
    Write(io::Error),
}

impl StoreError {
    pub(super) fn new(path: &Path, kind: Kind) -> Self {
        Self {
            path: path.to_owned(),
            kind,
        }
    }

    /// Whether another process holds the state folder.
    pub fn is_locked(&self) -> bool {
        matches!(self.kind, Kind::Locked(_))
    }

    /// The process that holds the state folder, when it is held and its id could be read.
    pub fn held_by(&self) -> Option<u32> {
        match self.kind {
            Kind::Locked(process) => process,
            _ => None,
        }
    }

    /// Whether a file was read and found damaged; its content is lost, the folder can still be used.
    pub fn is_corrupt(&self) -> bool {
        matches!(self.kind, Kind::Corrupt(_))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            Kind::Corrupt(reason) => write!(f, "{path} is damaged: {reason}; it is not used"),
            Kind::Folder(_) => write!(
                f,
                "the state folder {path} cannot be used: make it writable, or set STOPGAP_STATE_DIR to another"
            ),
            Kind::Locked(Some(process)) => write!(
                f,
                "the state folder {path} is in use by process {process}: stop that one, or set \
                 STOPGAP_STATE_DIR to another folder"
            ),
            Kind::Locked(None) => write!(
                f,
                "the state folder {path} is in use by another process: stop that one, or set \
                 STOPGAP_STATE_DIR to another folder"
            ),
            Kind::Read(_) => write!(f, "{path} cannot be read"),
            Kind::TooLarge(size) => write!(f, "{size} bytes are too many to keep in {path}"),
            Kind::Write(_) => write!(f, "{path} cannot be written"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Folder(error) | Kind::Read(error) | Kind::Write(error) => Some(error),
            Kind::Corrupt(_) | Kind::Locked(_) | Kind::TooLarge(_) => None,
        }
    }
}
