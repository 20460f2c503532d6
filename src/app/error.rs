//! Why a process cannot start.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::control::ControlError;
use crate::proxy::ProxyError;
use crate::store::StoreError;

/// A part could not be started.
#[derive(Debug)]
pub struct AppError {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Control(ControlError),
    Inheritance(io::Error),
    Log(PathBuf, io::Error),
    Proxy(ProxyError),
    Runtime(io::Error),
    State(StoreError),
}

impl AppError {
    pub(super) const fn inheritance(error: io::Error) -> Self {
        Self {
            kind: Kind::Inheritance(error),
        }
    }

    pub(super) const fn log(path: PathBuf, error: io::Error) -> Self {
        Self {
            kind: Kind::Log(path, error),
        }
    }

    pub(super) const fn runtime(error: io::Error) -> Self {
        Self {
            kind: Kind::Runtime(error),
        }
    }

    pub(super) const fn state(error: StoreError) -> Self {
        Self {
            kind: Kind::State(error),
        }
    }

    /// Whether settings or rules have to be changed before a start can succeed.
    pub const fn is_invalid_input(&self) -> bool {
        match &self.kind {
            Kind::Control(error) => error.is_invalid_input(),
            Kind::Proxy(error) => error.is_invalid_input(),
            Kind::Inheritance(_) | Kind::Log(..) | Kind::Runtime(_) | Kind::State(_) => false,
        }
    }
}

impl From<ControlError> for AppError {
    fn from(error: ControlError) -> Self {
        Self {
            kind: Kind::Control(error),
        }
    }
}

impl From<ProxyError> for AppError {
    fn from(error: ProxyError) -> Self {
        Self {
            kind: Kind::Proxy(error),
        }
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Control(_) | Kind::Proxy(_) | Kind::State(_) => {
                f.write_str("stopgap cannot start")
            }
            Kind::Inheritance(_) => {
                f.write_str("the sockets that were passed to this process cannot be used")
            }
            Kind::Log(path, _) => write!(f, "the log {} cannot be written", path.display()),
            Kind::Runtime(_) => {
                f.write_str("the operating system grants no runtime for signals and the admin side")
            }
        }
    }
}

impl std::error::Error for AppError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Control(error) => Some(error),
            Kind::Inheritance(error) | Kind::Log(_, error) | Kind::Runtime(error) => Some(error),
            Kind::Proxy(error) => Some(error),
            Kind::State(error) => Some(error),
        }
    }
}
