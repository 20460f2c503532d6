//! Builds of a product: what each server shows, and whether that settles a mitigation.

use std::fmt;
use std::str::FromStr;

use crate::model::{BuildRange, Mitigation, Scope, UnixTime};

/// Failed questions in a row after which a server's build counts as unknown. One that is lost under load must not stop
/// services again, and a server that came back with an older build must not stay unprotected.
pub const FORGET_AFTER: u32 = 3;

/// Servers that a reason names; there may be more.
const NAMED_SERVERS: usize = 4;

/// A build of a product, such as `15.2.1118.20`, as far as it is known: of `15.2.1118` it is not known which.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Build {
    numbers: [u32; 4],
    known: usize,
}

/// The text is no build.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidBuild;

impl fmt::Display for InvalidBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a build is one to four numbers, like 15.2.1118.20")
    }
}

impl std::error::Error for InvalidBuild {}

impl FromStr for Build {
    type Err = InvalidBuild;

    fn from_str(text: &str) -> Result<Self, InvalidBuild> {
        let mut build = Self {
            numbers: [0; 4],
            known: 0,
        };
        for part in text.split('.') {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let number = part.parse().ok().filter(|_| digits).ok_or(InvalidBuild)?;
            *build.numbers.get_mut(build.known).ok_or(InvalidBuild)? = number;
            build.known += 1;
        }
        Ok(build)
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.numbers[..self.known].iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{number}")?;
        }
        Ok(())
    }
}

impl Build {
    /// Whether all four numbers are known.
    pub const fn is_exact(&self) -> bool {
        self.known == self.numbers.len()
    }

    /// Whether `other` says the same as far as this goes, and perhaps more.
    pub fn covers(&self, other: &Self) -> bool {
        self.known <= other.known && self.numbers[..self.known] == other.numbers[..self.known]
    }

    /// The first build that this may be.
    pub const fn first(&self) -> [u32; 4] {
        self.numbers
    }

    /// Whether this may be one of the builds of a range, of its product.
    pub fn may_be_in(&self, range: &BuildRange) -> bool {
        let mut last = [u32::MAX; 4];
        last[..self.known].copy_from_slice(&self.numbers[..self.known]);
        self.numbers < range.below && range.min <= last
    }
}

/// What one server is known to run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerBuild {
    /// The server, as the settings write it.
    pub server: String,
    /// The product and its build; nothing while that is not known.
    pub build: Option<(String, Build)>,
}

/// What the servers of one site are known to run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SiteBuilds {
    /// The site.
    pub site: String,
    /// Every server that answers for it.
    pub servers: Vec<ServerBuild>,
}

/// Whether mitigations that every server is fixed against go on their own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Retirement {
    /// They are retired at once.
    Automatic,
    /// They stay in force until an operator retires them.
    #[default]
    Propose,
}

/// What the builds of servers say about one mitigation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Evidence {
    /// A server that it protects runs an affected build, which is named.
    Affected(String),
    /// Every server that it protects runs a build without the flaw; they are named.
    Fixed(String),
    /// Of one server at least it is not known, or no build is fixed at all.
    Unknown,
}

/// Judges a mitigation by what the servers of every site that it is for were learned to run.
///
/// A server that shows no build, or one of a product that the mitigation does not name, is unknown: somebody may have
/// misspelt the product.
pub fn evidence(mitigation: &Mitigation, sites: &[SiteBuilds]) -> Evidence {
    let ranges = &mitigation.applies;
    if ranges.is_empty() {
        return Evidence::Unknown;
    }
    let concerned = |site: &&SiteBuilds| {
        let mut scopes = mitigation.actions.iter().map(|action| &action.scope);
        scopes.any(|scope| match scope {
            Scope::Server => true,
            Scope::Site { site: own, .. } => own.eq_ignore_ascii_case(&site.site),
        })
    };
    let concerned = sites.iter().filter(concerned);
    let mut fixed = Vec::new();
    let mut unknown = false;
    for server in concerned.flat_map(|site| &site.servers) {
        let Some((product, build)) = &server.build else {
            unknown = true;
            continue;
        };
        let own = ranges.iter().filter(|range| range.product == *product);
        let own: Vec<_> = own.collect();
        let text = format!("{product} {build} on {}", server.server);
        if own.iter().any(|range| build.may_be_in(range)) {
            return Evidence::Affected(text);
        }
        unknown |= own.is_empty();
        if !fixed.contains(&text) {
            fixed.push(text);
        }
    }
    if unknown || fixed.is_empty() {
        return Evidence::Unknown;
    }
    let more = fixed.len().saturating_sub(NAMED_SERVERS);
    fixed.truncate(NAMED_SERVERS);
    if more > 0 {
        fixed.push(format!("{more} more"));
    }
    Evidence::Fixed(fixed.join(", "))
}

/// What is remembered of one server: the build that it showed last, until it has failed to show one for too long.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BuildRecord {
    /// The build, how it was found, and when; nothing while it is unknown.
    pub learned: Option<Learned>,
    /// Why the last question brought none; nothing if it did.
    pub fault: Option<String>,
    failures: u32,
}

/// A build that a server showed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Learned {
    /// The build.
    pub build: Build,
    /// Where in its answer it was.
    pub place: String,
    /// When.
    pub time: UnixTime,
}

impl BuildRecord {
    /// A record of what was learned before a restart.
    pub fn remembered(learned: Learned) -> Self {
        Self {
            learned: Some(learned),
            ..Self::default()
        }
    }

    /// Takes what a question came to; whether that changes the build that counts, or why there is none.
    pub fn take(&mut self, result: Result<Learned, String>) -> bool {
        let before = (
            self.learned.as_ref().map(|own| own.build),
            self.fault.clone(),
        );
        match result {
            Ok(learned) => {
                *self = Self::remembered(learned);
            }
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                self.fault = Some(reason);
                if self.failures >= FORGET_AFTER {
                    self.learned = None;
                }
            }
        }
        before
            != (
                self.learned.as_ref().map(|own| own.build),
                self.fault.clone(),
            )
    }

    /// Whether the last question failed, so that the next one should not wait for its usual time.
    pub const fn is_in_doubt(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Action, ActionKind, Mode};

    fn build(text: &str) -> Build {
        text.parse().unwrap()
    }

    fn range(min: [u32; 4], below: [u32; 4]) -> BuildRange {
        BuildRange {
            product: "exchange".into(),
            min,
            below,
        }
    }

    fn mitigation(scopes: &[Scope]) -> Mitigation {
        Mitigation {
            id: "M1.1".parse().unwrap(),
            description: String::new(),
            cve: String::new(),
            reference: String::new(),
            side_effects: String::new(),
            group: String::new(),
            actions: scopes
                .iter()
                .map(|scope| Action {
                    kind: ActionKind::DoNothing,
                    scope: scope.clone(),
                    description: String::new(),
                })
                .collect(),
            vectors: Vec::new(),
            applies: vec![
                range([15, 1, 0, 0], [15, 1, 2_375, 37]),
                range([15, 2, 1_118, 0], [15, 2, 1_118, 20]),
            ],
            mode: Mode::Enforce,
            approval_required: false,
            ring: None,
            not_before: None,
            not_after: None,
            withdrawn: false,
            failure: None,
        }
    }

    fn site(name: &str, servers: &[(&str, &str, &str)]) -> SiteBuilds {
        let server = |(server, product, shown): &(&str, &str, &str)| ServerBuild {
            server: (*server).to_owned(),
            build: (!shown.is_empty()).then(|| ((*product).to_owned(), build(shown))),
        };
        SiteBuilds {
            site: name.to_owned(),
            servers: servers.iter().map(server).collect(),
        }
    }

    #[test]
    fn builds_are_read_and_written() {
        for text in ["15", "15.2", "15.2.1118", "15.2.1118.20", "0.0.0.0"] {
            assert_eq!(build(text).to_string(), text);
        }
        for text in [
            "",
            ".",
            "15.",
            "15.2.1118.20.1",
            "15.+2",
            "15.2a",
            "4294967296",
        ] {
            assert_eq!(text.parse::<Build>(), Err(InvalidBuild), "{text:?}");
        }
        assert!(build("15.2.1118").covers(&build("15.2.1118.20")));
        assert!(!build("15.2.1118.20").covers(&build("15.2.1118")));
        assert!(build("1.2.3.4").is_exact() && !build("1.2.3").is_exact());
    }

    #[test]
    fn what_is_not_known_of_a_build_counts_as_affected() {
        let range = range([15, 2, 1_118, 0], [15, 2, 1_118, 20]);
        for (text, may) in [
            ("15.2.1118.19", true),
            ("15.2.1118.20", false),
            ("15.2.1118", true),
            ("15.2.1117", false),
            ("15.2.1119", false),
            ("15.2", true),
            ("15.3", false),
            ("15", true),
        ] {
            assert_eq!(build(text).may_be_in(&range), may, "{text}");
        }
    }

    #[test]
    fn every_server_of_every_site_in_question_counts() {
        let fixed = ("a", "exchange", "15.2.1118.20");
        let old = ("b", "exchange", "15.2.1118.19");
        let short = ("c", "exchange", "15.2.1118");
        let silent = ("d", "exchange", "");
        let other = ("e", "exchang", "15.2.1118.20");
        let one = |servers: &[_]| evidence(&mitigation(&[Scope::Server]), &[site("S", servers)]);
        assert_eq!(
            one(&[fixed]),
            Evidence::Fixed("exchange 15.2.1118.20 on a".into())
        );
        let affected = |text: &str| Evidence::Affected(text.into());
        assert_eq!(
            one(&[silent, fixed, old]),
            affected("exchange 15.2.1118.19 on b")
        );
        assert_eq!(one(&[short]), affected("exchange 15.2.1118 on c"));
        for servers in [vec![fixed, silent], vec![fixed, other], vec![]] {
            assert_eq!(one(&servers), Evidence::Unknown, "{servers:?}");
        }
        let two = [site("S", &[fixed]), site("T", &[old])];
        let of = |name: &str| Scope::Site {
            site: name.to_owned(),
            path: String::new(),
        };
        let judged = |scopes: &[Scope]| evidence(&mitigation(scopes), &two);
        assert!(matches!(judged(&[of("s")]), Evidence::Fixed(_)));
        assert!(matches!(judged(&[of("T")]), Evidence::Affected(_)));
        assert!(matches!(judged(&[of("s"), of("t")]), Evidence::Affected(_)));
        assert!(matches!(judged(&[Scope::Server]), Evidence::Affected(_)));
        assert_eq!(judged(&[of("U")]), Evidence::Unknown);
        let mut without = mitigation(&[Scope::Server]);
        without.applies.clear();
        assert_eq!(
            evidence(&without, &[site("S", &[fixed])]),
            Evidence::Unknown
        );
    }

    #[test]
    fn reason_names_some_servers_and_counts_the_rest() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let servers: Vec<_> = names.map(|name| (name, "exchange", "15.2.1118.20")).into();
        let Evidence::Fixed(text) = evidence(&mitigation(&[Scope::Server]), &[site("S", &servers)])
        else {
            panic!("not fixed");
        };
        assert!(text.ends_with("15.2.1118.20 on d, 2 more"), "{text}");
    }

    #[test]
    fn build_is_forgotten_after_failures_in_a_row() {
        let learned = |text: &str| Learned {
            build: build(text),
            place: "X-OWA-Version".into(),
            time: UnixTime::new(0),
        };
        let mut record = BuildRecord::default();
        assert!(record.take(Err("refused".into())));
        assert!(!record.take(Err("refused".into())));
        assert!(record.take(Ok(learned("15.2.1118.20"))));
        assert!(!record.take(Ok(learned("15.2.1118.20"))));
        for failure in 1..FORGET_AFTER {
            assert_eq!(record.take(Err("refused".into())), failure == 1);
            assert!(record.learned.is_some() && record.is_in_doubt());
        }
        assert!(record.take(Err("refused".into())));
        assert_eq!(record.learned, None);
        assert!(record.take(Ok(learned("15.2.986.5"))));
        assert!(!record.is_in_doubt());
        assert_eq!(record.fault, None);
    }
}
