//! What can be stopped, and the state it is in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name of a service or pool; the service control manager of Windows takes no longer one.
pub const NAME_LIMIT: usize = 256;

/// The name of a service or an application pool.
///
/// Begins with a letter or digit, so that no program takes it for an option, and holds only characters that mean
/// nothing to a path, a shell or a query: letters, digits, `-`, `_`, `.`, `@`, `$` and single spaces.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The text is no name of a service or pool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidName(String);

impl Name {
    /// Takes `text` as a name.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than [`NAME_LIMIT`] bytes, or holds a character that no name has.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let holds = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.@$ ".contains(&byte));
        let spaced = text.contains("  ") || text.ends_with(' ');
        match starts && holds && !spaced && text.len() <= NAME_LIMIT {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidName(text.chars().take(NAME_LIMIT).collect())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no name of a service or pool: it begins with a letter or digit, goes on with letters, digits, \
             single spaces and the characters - _ . @ $, and has at most {NAME_LIMIT} of them",
            self.0
        )
    }
}

impl std::error::Error for InvalidName {}

/// Something on the server that a mitigation stops.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An application pool.
    Pool(Name),
    /// A service.
    Service(Name),
}

impl Target {
    /// Its name.
    pub const fn name(&self) -> &Name {
        match self {
            Self::Pool(name) | Self::Service(name) => name,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(name) => write!(f, "application pool {name}"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}

/// How far a target is to be stopped; the later of two is the stronger.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Stopped; what starts it again finds nothing in the way until the sidecar looks again.
    Stopped,
    /// Stopped, and barred from being started.
    #[default]
    Disabled,
}

/// What may start a target. Which of these a target can have is its driver's to say.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Startup {
    /// Whatever its service manager is set to, which this driver leaves as it is.
    Allowed,
    /// The start of the system.
    Automatic,
    /// The start of the system, some minutes later.
    AutomaticDelayed,
    /// Nothing.
    Disabled,
    /// Whoever asks.
    Manual,
    /// The settings of an application pool of IIS.
    Pool {
        /// `autoStart`: whether it is started with IIS.
        auto_start: bool,
        /// `startMode`: whether it is always running, or only on demand.
        always_running: bool,
    },
}

/// Whether a target runs, and what may start it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TargetState {
    /// Whether it runs, or is on its way up or down.
    pub running: bool,
    /// What may start it.
    pub startup: Startup,
}

impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.running { "running" } else { "stopped" })?;
        match self.startup {
            Startup::Allowed => Ok(()),
            Startup::Automatic => f.write_str(", started automatically"),
            Startup::AutomaticDelayed => f.write_str(", started automatically with delay"),
            Startup::Disabled => f.write_str(", disabled"),
            Startup::Manual => f.write_str(", started by hand"),
            Startup::Pool {
                auto_start,
                always_running,
            } => write!(
                f,
                ", autoStart={auto_start}, startMode={}",
                if always_running {
                    "AlwaysRunning"
                } else {
                    "OnDemand"
                }
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_be_mistaken_for_anything_else() {
        let longest = "a".repeat(NAME_LIMIT);
        for good in [
            "MSExchangeUM",
            "php8.2-fpm",
            "getty@tty1",
            "MSSQL$A",
            ".NET v4.5".trim_start_matches('.'),
            "a b",
            &longest,
        ] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(NAME_LIMIT + 1);
        for bad in [
            "", " a", "a ", "a  b", "-a", "--all", "/x", "a/b", "..", "a\\b", "a;b", "a\"b", "a'b",
            "a\nb", "a\0b", "{a}", "a*", "ä", "a%b", &too_long,
        ] {
            let error = Name::new(bad).unwrap_err();
            assert!(error.to_string().contains("is no name"), "{bad:?}");
        }
    }

    #[test]
    fn names_are_checked_when_read() {
        let target: Target = serde_json::from_str(r#"{"service":"MSExchangeUM"}"#).unwrap();
        assert_eq!(target.to_string(), "service MSExchangeUM");
        assert!(serde_json::from_str::<Target>(r#"{"service":"a;b"}"#).is_err());
        assert!(serde_json::from_str::<Target>(r#"{"command":"reboot"}"#).is_err());
    }

    #[test]
    fn disabled_is_stronger_than_stopped() {
        assert!(Desired::Disabled > Desired::Stopped);
    }
}
