//! A mitigation as its publisher wrote it, before anything was compiled.

use std::fmt;

use super::{MitigationId, UnixTime, Vector};

/// One mitigation: a `Config` of a feed, a bundled one, or one from a local file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mitigation {
    /// Its id, such as `M1.1`.
    pub id: MitigationId,
    /// What it does, for people.
    pub description: String,
    /// The vulnerability it holds back, such as `CVE-2022-41040`; empty when not stated.
    pub cve: String,
    /// Where to read more; empty when not stated.
    pub reference: String,
    /// What it is known to break; empty when nothing is.
    pub side_effects: String,
    /// The opt-in group it belongs to; enforced only when that group is chosen. Empty: always.
    pub group: String,
    /// What it does, in document order.
    pub actions: Vec<Action>,
    /// Requests and responses that prove it.
    pub vectors: Vec<Vector>,
    /// Product builds it applies to; empty means all.
    pub applies: Vec<BuildRange>,
    /// Whether its publisher wants it enforced or only watched.
    pub mode: Mode,
    /// Whether its publisher asks for a person's approval first.
    pub approval_required: bool,
    /// The outermost ring of installations that its publisher lets have it by now; nothing: all of them.
    pub ring: Option<u8>,
    /// When it begins to count; nothing: at once.
    pub not_before: Option<UnixTime>,
    /// When its time is over; nothing: never.
    pub not_after: Option<UnixTime>,
    /// Whether its publisher took it back.
    pub withdrawn: bool,
    /// Why nothing of it can be used, found while it was read: an action type that is not supported, an
    /// extension that must be understood and is not. The mitigation is then `Failed` with this reason.
    pub failure: Option<String>,
}

/// One action of a mitigation, with the level it works at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Action {
    /// What is done.
    pub kind: ActionKind,
    /// Where it is done.
    pub scope: Scope,
    /// What it does, for people.
    pub description: String,
}

/// What an action does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ActionKind {
    /// Stop an IIS application pool.
    AppPool(PoolStop),
    /// Nothing: a heartbeat, which proves that the feed arrives.
    DoNothing,
    /// Enforce rewrite rules.
    Rewrite(RewriteText),
    /// Stop a service.
    Service(ServiceStop),
}

/// An application pool that a mitigation stops.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolStop {
    /// Its name.
    pub name: String,
    /// How far it is to be stopped.
    pub extent: Extent,
    /// Whether the proxy answers 503 for the paths that it serves.
    pub proxy503: bool,
}

/// A service that a mitigation stops.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceStop {
    /// Its name.
    pub name: String,
    /// How far it is to be stopped.
    pub extent: Extent,
}

/// How far a service or pool is to be stopped; the later of two is the stronger.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Extent {
    /// Stopped.
    Stopped,
    /// Stopped, and barred from being started.
    #[default]
    Disabled,
}

impl ActionKind {
    /// The name of the service or pool; empty for the others.
    pub fn target_name(&self) -> &str {
        match self {
            Self::AppPool(pool) => &pool.name,
            Self::Service(service) => &service.name,
            Self::DoNothing | Self::Rewrite(_) => "",
        }
    }

    /// The name shown in lists, as the feed spells it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AppPool(_) => "AppPool",
            Self::DoNothing => "DoNothing",
            Self::Rewrite(_) => "UrlRewrite",
            Self::Service(_) => "Service",
        }
    }
}

/// Rewrite rules as XML text, with the place where the text starts, so that an error can name the line of the
/// document it came in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RewriteText {
    /// One `<rewrite>`, `<rules>` or `<outboundRules>` element.
    pub xml: String,
    /// Line of its first character in the document, from 1.
    pub line: usize,
    /// Column of its first character in that line, in characters from 1.
    pub column: usize,
}

/// The level an action works at.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Scope {
    /// Every site.
    Server,
    /// One site, below one path.
    Site {
        /// The site's name, such as `Default Web Site`.
        site: String,
        /// The path prefix with its leading slash and no trailing one; empty for the whole site.
        path: String,
    },
}

impl Scope {
    /// Parses a target such as `Default Web Site/owa`: the site's name, then the path.
    pub fn from_target(target: &str) -> Self {
        let (site, path) = target.split_once('/').unwrap_or((target, ""));
        let path = path.trim_matches('/');
        let path = if path.is_empty() {
            String::new()
        } else {
            format!("/{path}")
        };
        Self::Site {
            site: site.trim().to_owned(),
            path,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("Server"),
            Self::Site { site, path } => write!(f, "{site}{path}"),
        }
    }
}

/// Builds of a product that a mitigation applies to: `min <= build < below`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BuildRange {
    /// The product, such as `exchange`.
    pub product: String,
    /// The first build in the range.
    pub min: [u32; 4],
    /// The first build after the range.
    pub below: [u32; 4],
}

/// Whether a mitigation acts or only watches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Judged and counted, never acted on.
    Audit,
    /// Acted on.
    Enforce,
}

/// The number of a published rule set, counting from 1 since the process started.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_names_site_and_path() {
        let site = |site: &str, path: &str| Scope::Site {
            site: site.into(),
            path: path.into(),
        };
        assert_eq!(
            Scope::from_target("Default Web Site"),
            site("Default Web Site", "")
        );
        assert_eq!(
            Scope::from_target("Default Web Site/"),
            site("Default Web Site", "")
        );
        assert_eq!(
            Scope::from_target("Default Web Site/owa/"),
            site("Default Web Site", "/owa")
        );
        assert_eq!(Scope::from_target("A/owa/auth").to_string(), "A/owa/auth");
    }
}
