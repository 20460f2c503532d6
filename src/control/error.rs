//! What can go wrong with the control side as a whole.

use std::fmt;

/// The control side cannot start, or no longer answers.
#[derive(Debug)]
pub struct ControlError {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// An order that cannot be followed.
    Order(String),
    /// Settings that no running control side can work with.
    Config(String),
    /// Local rules were refused, and no earlier content of theirs is known.
    Rules(String),
    /// It has stopped.
    Stopped,
    /// The kill switch is set and cannot be kept on disk.
    Switch(std::io::Error),
    /// Its thread or runtime could not be started.
    Thread(std::io::Error),
}

impl ControlError {
    pub(super) fn config(reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Config(reason.into()),
        }
    }

    pub(super) fn rules(reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Rules(reason.into()),
        }
    }

    pub(super) fn order(reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Order(reason.into()),
        }
    }

    pub(super) const fn stopped() -> Self {
        Self {
            kind: Kind::Stopped,
        }
    }

    pub(super) const fn switch(error: std::io::Error) -> Self {
        Self {
            kind: Kind::Switch(error),
        }
    }

    pub(super) const fn thread(error: std::io::Error) -> Self {
        Self {
            kind: Kind::Thread(error),
        }
    }

    /// Whether an order was refused, and nothing is wrong but the order.
    pub const fn is_refused_order(&self) -> bool {
        matches!(self.kind, Kind::Order(_))
    }

    /// Whether settings or rules have to be changed before a start can succeed.
    pub const fn is_invalid_input(&self) -> bool {
        matches!(self.kind, Kind::Config(_) | Kind::Rules(_))
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Config(reason) => write!(f, "settings cannot be used: {reason}"),
            Kind::Order(reason) => write!(f, "not done: {reason}"),
            Kind::Rules(reason) => write!(f, "rules are refused: {reason}"),
            Kind::Stopped => f.write_str("the control side has stopped; restart the process"),
            Kind::Switch(_) => f.write_str(
                "the kill switch is set, but its file in the state folder cannot be changed: a restart \
                 will not know of it",
            ),
            Kind::Thread(_) => f.write_str("the control thread cannot be started"),
        }
    }
}

impl std::error::Error for ControlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Switch(error) | Kind::Thread(error) => Some(error),
            Kind::Config(_) | Kind::Order(_) | Kind::Rules(_) | Kind::Stopped => None,
        }
    }
}
