//! What was there before the first change, and on whose behalf it was changed; written before anything is done.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::protocol::Holder;
use super::target::{Desired, Target, TargetState};
use crate::store::{Slot, StoreError};

/// The layout of the journal; another number is another layout.
const JOURNAL_VERSION: u32 = 1;

/// The most targets that a journal holds.
pub const ENTRY_LIMIT: usize = 256;

/// Where a journal is kept: read whole, replaced whole.
pub trait JournalStore: Send + Sync {
    /// The bytes last written; `None` when nothing was.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or are damaged.
    fn read(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// Replaces the bytes; they are on the disk when this returns. After an error the old ones are still there.
    ///
    /// # Errors
    ///
    /// When they cannot be brought to the disk.
    fn replace(&self, content: &[u8]) -> Result<(), StoreError>;
}

impl JournalStore for Slot {
    fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Self::read(self)
    }

    fn replace(&self, content: &[u8]) -> Result<(), StoreError> {
        Self::replace(self, content)
    }
}

/// The journal cannot be used.
#[derive(Debug)]
pub struct JournalError {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Its bytes are whole and hold something else than a journal.
    Content(serde_json::Error),
    /// It cannot be read or written.
    Store(StoreError),
    /// A newer program wrote it.
    Version(u32),
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Content(_) => f.write_str(
                "the journal holds something else than a journal: restore what it names by hand, then remove it",
            ),
            Kind::Store(_) => f.write_str("the journal cannot be read or written; nothing is changed without it"),
            Kind::Version(version) => write!(
                f,
                "the journal has layout {version}, this program knows {JOURNAL_VERSION}: use the program that wrote it"
            ),
        }
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Content(error) => Some(error),
            Kind::Store(error) => Some(error),
            Kind::Version(_) => None,
        }
    }
}

/// One target that was changed, or is about to be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Its state before the first change. Nothing overwrites it as long as the entry lives.
    pub(super) original: TargetState,
    /// Who wants it stopped, and how far. Nobody: it is to be restored, and the entry goes when it was.
    pub(super) holders: BTreeMap<Holder, Desired>,
}

impl Entry {
    /// How far it is to be stopped: as far as the strictest of its holders wants.
    pub(super) fn desired(&self) -> Option<Desired> {
        self.holders.values().max().copied()
    }
}

/// The entries in memory, always the same as the last ones written.
pub(super) struct Journal {
    store: Box<dyn JournalStore>,
    entries: BTreeMap<Target, Entry>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    entries: Vec<(Target, Entry)>,
}

#[derive(Serialize)]
struct Writing<'a> {
    version: u32,
    entries: Vec<(&'a Target, &'a Entry)>,
}

/// Only the layout, which is read first.
#[derive(Deserialize)]
struct Layout {
    version: u32,
}

impl Journal {
    /// Reads what was written last.
    pub(super) fn open(store: Box<dyn JournalStore>) -> Result<Self, JournalError> {
        let failed = |kind| JournalError { kind };
        let content = store.read().map_err(|error| failed(Kind::Store(error)))?;
        let mut entries = BTreeMap::new();
        if let Some(content) = content {
            let layout: Layout =
                serde_json::from_slice(&content).map_err(|error| failed(Kind::Content(error)))?;
            if layout.version != JOURNAL_VERSION {
                return Err(failed(Kind::Version(layout.version)));
            }
            let written: Written =
                serde_json::from_slice(&content).map_err(|error| failed(Kind::Content(error)))?;
            entries.extend(written.entries);
        }
        Ok(Self { store, entries })
    }

    pub(super) const fn entries(&self) -> &BTreeMap<Target, Entry> {
        &self.entries
    }

    /// Changes the entries, on disk first. After an error nothing has changed, on disk or in memory.
    pub(super) fn change(
        &mut self,
        change: impl FnOnce(&mut BTreeMap<Target, Entry>),
    ) -> Result<(), JournalError> {
        let mut entries = self.entries.clone();
        change(&mut entries);
        if entries == self.entries {
            return Ok(());
        }
        let writing = Writing {
            version: JOURNAL_VERSION,
            entries: entries.iter().collect(),
        };
        let content = serde_json::to_vec(&writing).map_err(|error| JournalError {
            kind: Kind::Content(error),
        })?;
        self.store.replace(&content).map_err(|error| JournalError {
            kind: Kind::Store(error),
        })?;
        self.entries = entries;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::{Name, Startup};
    use super::*;
    use crate::store::StateDir;

    fn entry() -> (Target, Entry) {
        let entry = Entry {
            original: TargetState {
                running: true,
                startup: Startup::Pool {
                    auto_start: true,
                    always_running: false,
                },
            },
            holders: [(Holder::new("M1").unwrap(), Desired::Disabled)].into(),
        };
        (Target::Pool(Name::new("A").unwrap()), entry)
    }

    #[test]
    fn entries_read_back() {
        let slot = StateDir::memory().slot("journal");
        let mut journal = Journal::open(Box::new(slot.clone())).unwrap();
        assert!(journal.entries().is_empty());
        let (target, entry) = entry();
        journal
            .change(|entries| {
                entries.insert(target.clone(), entry.clone());
            })
            .unwrap();
        let again = Journal::open(Box::new(slot)).unwrap();
        assert_eq!(again.entries(), &[(target, entry)].into());
    }

    #[test]
    fn other_layouts_and_other_content_are_refused() {
        for (content, reason) in [
            (r#"{"version":2,"entries":"new"}"#, "layout 2"),
            (r#"{"version":1,"entries":"new"}"#, "something else"),
            ("{}", "something else"),
            ("", "something else"),
        ] {
            let slot = StateDir::memory().slot("journal");
            slot.replace(content.as_bytes()).unwrap();
            let error = Journal::open(Box::new(slot)).err().unwrap();
            assert!(error.to_string().contains(reason), "{content}: {error}");
        }
    }

    /// The layout is a promise to later versions: what is on a disk today is read tomorrow.
    #[test]
    fn layout_stays() {
        let slot = StateDir::memory().slot("journal");
        let (target, entry) = entry();
        let mut journal = Journal::open(Box::new(slot.clone())).unwrap();
        journal
            .change(|entries| {
                entries.insert(target, entry);
            })
            .unwrap();
        assert_eq!(
            String::from_utf8(slot.read().unwrap().unwrap()).unwrap(),
            r#"{"version":1,"entries":[[{"pool":"A"},{"original":{"running":true,"startup":{"pool":{"auto_start":true,"always_running":false}}},"holders":{"M1":"disabled"}}]]}"#
        );
    }
}
