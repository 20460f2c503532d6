//! Local rule files: looked at by content, refused whole, the last good content kept.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::prepare::{Gates, Prepared, Refusal, Standing};
use super::rule_folder::rule_files;
use crate::feed::{LocalContent, LocalDocument, TypeAliases};
use crate::model::{Mitigation, UnixTime};
use crate::rules::Dialect;
use crate::store::{Slot, StateDir};

/// The largest rule file, in bytes.
pub const RULE_FILE_LIMIT: usize = 4 * 1024 * 1024;

/// Accepted contents remembered of one file.
const REMEMBERED: usize = 4;

/// Every local rule file, in the order of its priority.
#[derive(Clone, Debug)]
pub(super) struct RuleFiles {
    paths: Vec<PathBuf>,
    state: StateDir,
    files: Vec<RuleFile>,
    /// Folders that cannot be listed; their files stay as they were.
    unlisted: Vec<(PathBuf, String)>,
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct RuleFile {
    /// The setting that named it, or the folder it lies in.
    root: PathBuf,
    pub(super) path: PathBuf,
    slot: Slot,
    seen: Option<Result<Vec<u8>, String>>,
    /// Contents that were accepted before, the newest last: going back to one needs no new judgement.
    remembered: VecDeque<(Vec<u8>, Arc<AcceptedFile>)>,
    /// What is in force.
    pub(super) accepted: Option<Arc<AcceptedFile>>,
    /// Why the present content is not in force.
    pub(super) refusal: Option<Refusal>,
    /// Why the content could not be kept for the next start.
    pub(super) unkept: Option<String>,
}

/// The content of a file that is in force.
#[derive(Debug, Default)]
pub(super) struct AcceptedFile {
    /// Mitigations, each with its rules.
    pub(super) mitigations: Vec<Arc<Mitigation>>,
    prepared: Vec<Arc<Prepared>>,
    /// Rules without a mitigation around them.
    pub(super) rules: Option<Arc<Prepared>>,
    /// What is not known in it.
    pub(super) notices: Vec<String>,
}

impl AcceptedFile {
    /// The rules of one of its mitigations.
    pub(super) fn prepared(&self, mitigation: &Arc<Mitigation>) -> Option<&Arc<Prepared>> {
        let mut pairs = self.mitigations.iter().zip(&self.prepared);
        pairs
            .find(|(own, _)| Arc::ptr_eq(own, mitigation))
            .map(|(_, prepared)| prepared)
    }

    /// Honest requests that its rules stop, if they do.
    pub(super) fn warning(&self) -> Option<String> {
        let mut prepared = self.prepared.iter().chain(&self.rules);
        prepared.find_map(|prepared| prepared.warning.clone())
    }
}

impl RuleFile {
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Takes up `read` if it differs from what was seen before; `true` if so.
    fn take(&mut self, read: io::Result<Vec<u8>>, gates: &Gates, now: UnixTime) -> bool {
        let read = read.map_err(|error| error.to_string());
        if self.seen.as_ref() == Some(&read) {
            return false;
        }
        let judged = match &read {
            Ok(bytes) => self.judge(bytes, gates, now),
            Err(error) => Err(Refusal::new(format!(
                "{} cannot be read: {error}",
                self.name()
            ))),
        };
        match (judged, &read) {
            (Ok(accepted), Ok(bytes)) => {
                self.accepted = Some(accepted);
                self.refusal = None;
                self.unkept = self.slot.replace(bytes).err().map(|e| e.to_string());
            }
            (Ok(_), Err(_)) => {}
            (Err(refusal), _) => {
                if self.accepted.is_none() {
                    self.restore(gates, now);
                }
                self.refusal = Some(refusal);
            }
        }
        self.seen = Some(read);
        true
    }

    fn judge(
        &mut self,
        bytes: &[u8],
        gates: &Gates,
        now: UnixTime,
    ) -> Result<Arc<AcceptedFile>, Refusal> {
        let mut remembered = self.remembered.iter();
        if let Some((_, accepted)) = remembered.find(|(known, _)| known == bytes) {
            return Ok(Arc::clone(accepted));
        }
        let accepted = Arc::new(judge(bytes, &self.name(), gates, now)?);
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        let entry = (bytes.to_vec(), Arc::clone(&accepted));
        self.remembered.push_back(entry);
        Ok(accepted)
    }

    /// Takes up the content that was in force when the process ran last.
    fn restore(&mut self, gates: &Gates, now: UnixTime) {
        match self.slot.read() {
            Ok(Some(bytes)) => {
                self.accepted = self.judge(&bytes, gates, now).ok();
            }
            Ok(None) => {}
            Err(error) => self.unkept = Some(error.to_string()),
        }
    }
}

impl RuleFiles {
    pub(super) fn new(paths: Vec<PathBuf>, state: StateDir) -> Self {
        Self {
            paths,
            state,
            files: Vec::new(),
            unlisted: Vec::new(),
        }
    }

    /// The files that these paths name, with what is known of those that were named before.
    pub(super) fn at(&self, paths: Vec<PathBuf>) -> Self {
        Self {
            paths,
            ..self.clone()
        }
    }

    /// Reads every file again; `true` if anything is different from the last time.
    pub(super) fn look(&mut self, gates: &Gates, now: UnixTime) -> bool {
        let Listing { listed, unlisted } = self.list();
        let mut changed = self.unlisted != unlisted;
        self.unlisted = unlisted;
        let mut old = std::mem::take(&mut self.files);
        for (root, path) in listed {
            let known = old.iter().position(|file| file.path == path);
            let mut file = match known {
                Some(index) => RuleFile {
                    root,
                    ..old.remove(index)
                },
                None => RuleFile {
                    slot: self.state.slot(&format!("rules-{}", path.display())),
                    root,
                    path,
                    seen: None,
                    remembered: VecDeque::new(),
                    accepted: None,
                    refusal: None,
                    unkept: None,
                },
            };
            changed |= file.take(read(&file.path), gates, now);
            self.files.push(file);
        }
        // What is left was removed from a folder on purpose.
        changed || !old.is_empty()
    }

    /// Forgets what became of every content, so that the next look judges all of it again.
    pub(super) fn forget(&mut self) {
        for file in &mut self.files {
            file.seen = None;
            file.remembered.clear();
        }
    }

    pub(super) fn files(&self) -> &[RuleFile] {
        &self.files
    }

    /// Folders that cannot be listed, each with the reason.
    pub(super) fn unlisted(&self) -> &[(PathBuf, String)] {
        &self.unlisted
    }

    fn list(&self) -> Listing {
        let mut listed: Vec<(PathBuf, PathBuf)> = Vec::new();
        let mut unlisted = Vec::new();
        for root in &self.paths {
            let paths = match root.is_dir() || self.was_folder(root) {
                false => vec![root.clone()],
                true => rule_files(root).unwrap_or_else(|error| {
                    unlisted.push((root.clone(), format!("{}: {error}", root.display())));
                    let kept = self.files.iter().filter(|file| file.root == *root);
                    kept.map(|file| file.path.clone()).collect()
                }),
            };
            for path in paths {
                if listed.iter().all(|(_, other)| *other != path) {
                    listed.push((root.clone(), path));
                }
            }
        }
        Listing { listed, unlisted }
    }

    fn was_folder(&self, root: &Path) -> bool {
        let mut files = self.files.iter();
        files.any(|file| file.root == root && file.path != root)
    }
}

/// What the settings name at this moment.
struct Listing {
    /// Each file, after the setting that it came from.
    listed: Vec<(PathBuf, PathBuf)>,
    /// Folders that cannot be listed, each with the reason.
    unlisted: Vec<(PathBuf, String)>,
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(RULE_FILE_LIMIT as u64 + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() > RULE_FILE_LIMIT {
        true => Err(io::Error::other(format!(
            "it is larger than {RULE_FILE_LIMIT} bytes"
        ))),
        false => Ok(bytes),
    }
}

/// Brings a whole file through its gates: one fault refuses it.
fn judge(bytes: &[u8], name: &str, gates: &Gates, now: UnixTime) -> Result<AcceptedFile, Refusal> {
    let document = LocalDocument::parse(bytes, &TypeAliases::default())
        .map_err(|error| Refusal::new(format!("{name}: {}", error.explain())))?;
    let standing = Standing {
        name,
        dialect: match document.hardened {
            true => Dialect::Hardened,
            false => Dialect::Iis,
        },
        local: true,
    };
    let mut accepted = AcceptedFile::default();
    let warn = |prepared: &Prepared| {
        if let Some(warning) = &prepared.warning {
            tracing::warn!(
                file = name,
                warning,
                "local rules are taken that need a look"
            );
        }
    };
    match document.content {
        LocalContent::Rules(text) => {
            let prepared = gates.rules(&text, standing)?;
            warn(&prepared);
            accepted.rules = Some(Arc::new(prepared));
        }
        LocalContent::Mitigations(offered) => {
            if let Some(nameless) = offered.nameless.first() {
                return Err(Refusal::new(format!("{name}: {}", nameless.reason)));
            }
            accepted.notices = offered.notices;
            for mitigation in offered.mitigations {
                let within = |refusal: Refusal| Refusal {
                    reason: format!("{name}: {}: {}", mitigation.id, refusal.reason),
                    ..refusal
                };
                if let Some(failure) = &mitigation.failure {
                    return Err(within(Refusal::new(failure)));
                }
                let prepared = gates
                    .mitigation(&mitigation, standing, now)
                    .map_err(within)?;
                warn(&prepared);
                accepted.prepared.push(Arc::new(prepared));
                accepted.mitigations.push(Arc::new(mitigation));
            }
        }
    }
    Ok(accepted)
}
