//! What can be wrong with settings, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// Settings that cannot be used.
#[derive(Debug)]
pub struct ConfigError {
    position: Option<Position>,
    key: String,
    problem: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A place in a settings file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Position {
    pub(super) file: PathBuf,
    pub(super) line: usize,
    pub(super) column: usize,
}

impl ConfigError {
    pub(super) fn at(position: Position, key: String, problem: impl Into<String>) -> Self {
        Self {
            position: Some(position),
            key,
            problem: problem.into(),
            source: None,
        }
    }

    /// A fault of a flag, or of flags and file together.
    pub(super) fn of_flag(flag: &str, problem: impl Into<String>) -> Self {
        Self {
            position: None,
            key: flag.to_owned(),
            problem: problem.into(),
            source: None,
        }
    }

    pub(super) fn unreadable(path: &Path, source: std::io::Error) -> Self {
        Self {
            position: None,
            key: String::new(),
            problem: format!("the settings file {} cannot be read", path.display()),
            source: Some(source.into()),
        }
    }

    pub(super) fn because(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The line in the settings file, from 1; `None` when the fault has no place there.
    pub fn line(&self) -> Option<usize> {
        self.position.as_ref().map(|position| position.line)
    }

    /// The column in that line, in characters from 1.
    pub fn column(&self) -> Option<usize> {
        self.position.as_ref().map(|position| position.column)
    }

    /// The key with its sections, such as `admin.address`, or the flag; empty when neither is known.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { file, line, column }) = &self.position {
            write!(f, "{}, line {line}, column {column}: ", file.display())?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
