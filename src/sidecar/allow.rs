//! Who may be stopped: an allow-list of patterns, and a deny-list that always wins.

use std::fmt;

use super::target::{InvalidName, Name, Target};

/// The services of Exchange, as patterns. Those that others cannot do without are on the deny-list.
pub const EXCHANGE_SERVICES: [&str; 6] = [
    "MSExchange*",
    "MSComplianceAudit",
    "HostControllerService",
    "SearchExchangeTracing",
    "FMS",
    "wsbexchange",
];

/// The application pools of Exchange, as patterns.
pub const EXCHANGE_POOLS: [&str; 1] = ["MSExchange*AppPool"];

/// What no configuration can allow: stopping it cuts off the server, its administrators, or the way back.
const ALWAYS_DENIED: [&str; 43] = [
    // Windows: everything of Exchange, or of IIS, hangs on these.
    "MSExchangeADTopology",
    "W3SVC",
    "WAS",
    "IISADMIN",
    "HTTP",
    // Windows: the system itself, and the ways in.
    "BFE",
    "CryptSvc",
    "DcomLaunch",
    "Dhcp",
    "Dnscache",
    "EventLog",
    "EventSystem",
    "gpsvc",
    "KDC",
    "LanmanServer",
    "LanmanWorkstation",
    "LSM",
    "mpssvc",
    "Netlogon",
    "NTDS",
    "PlugPlay",
    "Power",
    "ProfSvc",
    "RpcEptMapper",
    "RpcSs",
    "SamSs",
    "Schedule",
    "TermService",
    "UserManager",
    "W32Time",
    "WinDefend",
    "Winmgmt",
    "WinRM",
    // systemd: the system itself, and the ways in.
    "dbus*",
    "*getty@*",
    "emergency",
    "init*",
    "NetworkManager*",
    "polkit*",
    "rescue",
    "ssh*",
    "systemd*",
    "user*@*",
];

/// Ourselves, under whatever instance name.
const OURSELVES: &str = "stopgap*";

/// A pattern of names: `*` stands for any characters, letters match in either case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamePattern(String);

impl NamePattern {
    /// Takes `text` as a pattern.
    ///
    /// # Errors
    ///
    /// When it is no name with stars in it, or only stars: everything cannot be allowed.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        // A star may stand for a first letter; what is left must look like a name.
        Name::new(&text.replace('*', "x"))?;
        match text.chars().all(|c| c == '*') {
            true => Err(Name::new("").expect_err("an empty name is none")),
            false => Ok(Self(text.to_ascii_lowercase())),
        }
    }

    fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.to_ascii_lowercase().as_bytes())
    }
}

/// Matches by remembering the last star, so that no pattern costs more than pattern times name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while position < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, position));
                at += 1;
            }
            Some(byte) if *byte == name[position] => {
                at += 1;
                position += 1;
            }
            _ => match star {
                Some((star_at, from)) => {
                    at = star_at + 1;
                    position = from + 1;
                    star = Some((star_at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// The names that the sidecar may act on.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    /// Services that may be stopped.
    pub services: Vec<NamePattern>,
    /// Application pools that may be stopped.
    pub pools: Vec<NamePattern>,
    /// What may not, in addition to what never may.
    pub denied: Vec<NamePattern>,
}

/// Why a target is left alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refused {
    /// It is on the deny-list, under this name.
    Denied(String),
    /// It is on no allow-list.
    NotAllowed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(name) => write!(
                f,
                "{name} is on the sidecar's deny-list, which no setting overrules"
            ),
            Self::NotAllowed => f.write_str(
                "it is not on the sidecar's allow-list: add it to [allow] in the sidecar's settings",
            ),
        }
    }
}

impl AllowList {
    /// Whether `target` may be stopped.
    ///
    /// # Errors
    ///
    /// When it may not, with the reason.
    pub fn check(&self, target: &Target) -> Result<(), Refused> {
        self.check_name(target.name().as_str())?;
        let allowed = match target {
            Target::Pool(_) => &self.pools,
            Target::Service(_) => &self.services,
        };
        let found = allowed
            .iter()
            .any(|pattern| pattern.matches(target.name().as_str()));
        found.then_some(()).ok_or(Refused::NotAllowed)
    }

    /// Whether nothing speaks against a name that the service manager itself uses for a target.
    ///
    /// # Errors
    ///
    /// When the deny-list holds it.
    pub fn check_name(&self, name: &str) -> Result<(), Refused> {
        let bare = name
            .strip_suffix(".service")
            .or_else(|| name.strip_suffix(".SERVICE"))
            .unwrap_or(name)
            .to_ascii_lowercase();
        let built_in = ALWAYS_DENIED
            .iter()
            .chain(&[OURSELVES])
            .any(|denied| matches(denied.to_ascii_lowercase().as_bytes(), bare.as_bytes()));
        let configured = || {
            self.denied
                .iter()
                .any(|pattern| pattern.matches(&bare) || pattern.matches(name))
        };
        match built_in || configured() {
            true => Err(Refused::Denied(name.to_owned())),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(services: &[&str], pools: &[&str], denied: &[&str]) -> AllowList {
        let patterns = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| NamePattern::new(text).unwrap())
                .collect()
        };
        AllowList {
            services: patterns(services),
            pools: patterns(pools),
            denied: patterns(denied),
        }
    }

    fn service(name: &str) -> Target {
        Target::Service(Name::new(name).unwrap())
    }

    #[test]
    fn patterns_match_whole_names_in_either_case() {
        for (pattern, name, expected) in [
            ("MSExchangeUM", "msexchangeum", true),
            ("MSExchangeUM", "MSExchangeUMCR", false),
            ("MSExchange*", "MSExchange", true),
            ("MSExchange*", "XMSExchange", false),
            ("MSExchange*AppPool", "MSExchangeECPAppPool", true),
            ("MSExchange*AppPool", "MSExchangeECPAppPool2", false),
            ("*um*", "MSExchangeUMCR", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXcX", false),
            ("a**", "a", true),
        ] {
            let pattern = NamePattern::new(pattern).unwrap();
            assert_eq!(pattern.matches(name), expected, "{pattern:?} {name}");
        }
        for bad in ["", "*", "**", "a/b*", "-*"] {
            assert!(NamePattern::new(bad).is_err(), "{bad:?}");
        }
    }

    /// A pattern made to be slow is not.
    #[test]
    fn stars_do_not_multiply() {
        let pattern = NamePattern::new(&format!("{}b", "a*".repeat(100))).unwrap();
        assert!(!pattern.matches(&"a".repeat(256)));
    }

    #[test]
    fn deny_list_wins_over_every_allow_list() {
        let everything = list(&["a*", "*e*", "*s*", "*m*"], &["*e*"], &["MSExchangeIS"]);
        for denied in [
            "MSExchangeADTopology",
            "msexchangeadtopology",
            "W3SVC",
            "WAS",
            "sshd",
            "sshd.service",
            "ssh.service",
            "SSHD.SERVICE",
            "systemd-journald.service",
            "systemd-logind",
            "dbus.service",
            "serial-getty@ttyS0.service",
            "user@0.service",
            "stopgap-sidecar.service",
            "stopgap",
            "MSExchangeIS",
            "msexchangeis.service",
        ] {
            let refused = everything.check(&service(denied)).unwrap_err();
            assert_eq!(refused, Refused::Denied(denied.to_owned()), "{denied}");
            assert!(everything.check_name(denied).is_err(), "{denied}");
        }
        assert_eq!(everything.check(&service("MSExchangeUM")), Ok(()));
    }

    #[test]
    fn only_what_is_listed_is_allowed_and_pools_are_not_services() {
        let exchange = list(&EXCHANGE_SERVICES, &EXCHANGE_POOLS, &[]);
        let pool = |name| Target::Pool(Name::new(name).unwrap());
        for allowed in [
            service("MSExchangeUM"),
            service("FMS"),
            pool("MSExchangeECPAppPool"),
        ] {
            assert_eq!(exchange.check(&allowed), Ok(()), "{allowed}");
        }
        for other in [
            service("nginx"),
            pool("DefaultAppPool"),
            pool("MSExchangeUM"),
        ] {
            assert_eq!(exchange.check(&other), Err(Refused::NotAllowed), "{other}");
        }
        assert_eq!(
            AllowList::default().check(&service("MSExchangeUM")),
            Err(Refused::NotAllowed)
        );
    }
}
