//! How a command ends: its exit code, and the error it prints.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

/// The exit codes of both binaries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Something could not be started or reached.
    Unreachable = 1,
    /// The command line is wrong, or asks for what is not part of this version.
    Usage = 2,
    /// Settings or rules are invalid.
    Invalid = 3,
    /// A signature, a document's age or its freshness was refused.
    Untrusted = 4,
    /// Vectors or tests failed.
    Failed = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that did not succeed: the code it ends with, and what it tells on standard error.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    pub(super) fn new(exit: Exit, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    /// The error and its causes, a line each; a cause that says nothing new is left out.
    pub(super) fn text(&self) -> String {
        let mut said = self.error.to_string();
        let mut text = format!("error: {said}\n");
        let mut next = self.error.source();
        while let Some(cause) = next {
            let words = cause.to_string();
            if !said.contains(&words) {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "caused by: {words}");
                said = words;
            }
            next = cause.source();
        }
        text
    }
}

/// What a command comes to.
pub(super) type Ended = Result<Exit, Failure>;

/// Shorthand for giving an error its exit code.
pub(super) trait OrExit<T> {
    /// Ends the command with this code if there is an error.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Level(&'static str, Option<Box<Level>>);

    impl std::fmt::Display for Level {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Level {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|level| level as _)
        }
    }

    #[test]
    fn causes_follow_a_line_each_and_nothing_twice() {
        let deepest = Level("no such file", None);
        let middle = Level("a.xml cannot be read", Some(Box::new(deepest)));
        let echo = Level("a.xml cannot be read", Some(Box::new(middle)));
        let error = Level("rules are refused", Some(Box::new(echo)));
        assert_eq!(
            Failure::new(Exit::Invalid, error).text(),
            "error: rules are refused\ncaused by: a.xml cannot be read\ncaused by: no such file\n"
        );
    }
}
