//! Why rule text was refused.

use std::fmt;

/// Rule text that was refused, with its place and what to do about it.
#[derive(Clone, Debug)]
pub struct RuleError {
    file: String,
    line: usize,
    column: usize,
}

impl RuleError {
    /// The file or feed document that the text came from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line in that file, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in that line, in characters from 1.
    pub fn column(&self) -> usize {
        self.column
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, line {}, column {}",
            self.file, self.line, self.column
        )
    }
}

impl std::error::Error for RuleError {}
