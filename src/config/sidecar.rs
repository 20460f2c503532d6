//! The settings file of the sidecar: a file of its own, since what may be stopped is not the proxy's to say.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use super::document::position;
use super::error::ConfigError;
use super::file::{FileDigest, Parsed};
use super::quantity::FileDuration;
use crate::net::{CertificateFiles, PeerTrust};
use crate::sidecar::{
    AgentConfig, AllowList, Bar, CommandConfig, DriverConfig, EXCHANGE_POOLS, EXCHANGE_SERVICES,
    Name, NamePattern, SETTLE_TIMEOUT, STEP_TIMEOUT, WindowsConfig,
};

/// Where the socket is by default.
pub const DEFAULT_SIDECAR_SOCKET: &str = "/run/stopgap-sidecar/sidecar.sock";

/// Where the journal is by default.
pub const DEFAULT_SIDECAR_STATE: &str = "/var/lib/stopgap-sidecar";

/// What Exchange starts stopped services again with; held by default with the Windows driver.
const HEALTH_MANAGERS: [&str; 2] = ["MSExchangeHM", "MSExchangeHMRecovery"];

/// Everything that one sidecar is told before it starts.
#[derive(Clone, Debug)]
pub struct SidecarConfig {
    /// Its Unix socket, and the ids of the users that may ask there.
    pub socket: Option<(PathBuf, Vec<u32>)>,
    /// Its address, for proxies on other hosts.
    pub remote: Option<RemoteConfig>,
    /// The folder of its journal.
    pub state_dir: PathBuf,
    /// What may be stopped, and within which times.
    pub agent: AgentConfig,
    /// How it is stopped.
    pub driver: DriverConfig,
}

/// An address of the sidecar, where both sides show certificates.
#[derive(Clone, Debug)]
pub struct RemoteConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate that it shows.
    pub files: CertificateFiles,
    /// Which proxies may ask.
    pub trust: PeerTrust,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSidecar {
    socket: Option<Spanned<PathBuf>>,
    users: Option<Spanned<Vec<Spanned<FileUser>>>>,
    tls: Option<Spanned<FileTls>>,
    state_dir: Option<PathBuf>,
    driver: Spanned<String>,
    #[serde(default)]
    allow: FileAllow,
    #[serde(default)]
    deny: Vec<Parsed<FilePattern>>,
    health_managers: Option<Vec<Parsed<FileName>>>,
    step_timeout: Option<Parsed<FileDuration>>,
    settle_timeout: Option<Parsed<FileDuration>>,
    #[serde(default)]
    service: BTreeMap<Spanned<String>, FileUnit>,
    #[serde(default)]
    pool: BTreeMap<Spanned<String>, FileUnit>,
    command: Option<Spanned<FileCommand>>,
    systemd: Option<FileSystemd>,
    windows: Option<FileWindows>,
}

/// `[tls]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTls {
    address: Parsed<SocketAddr>,
    certificate: PathBuf,
    key: PathBuf,
    ca: Option<PathBuf>,
    #[serde(default)]
    pins: Vec<Parsed<FileDigest>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileAllow {
    exchange: bool,
    services: Vec<Parsed<FilePattern>>,
    pools: Vec<Parsed<FilePattern>>,
}

/// `[service.NAME]` and `[pool.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileUnit {
    unit: Spanned<Parsed<FileName>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCommand {
    state: Spanned<Vec<String>>,
    start: Spanned<Vec<String>>,
    stop: Spanned<Vec<String>>,
    disable: Option<Spanned<Vec<String>>>,
    enable: Option<Spanned<Vec<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileSystemd {
    bus: Option<String>,
    drop_in_folder: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileWindows {
    sc: Option<String>,
    appcmd: Option<String>,
}

/// A user by name or id.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FileUser {
    Id(u32),
    Name(String),
}

#[derive(Clone, Debug)]
struct FileName(Name);

impl FromStr for FileName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Name::new(text).map(Self).map_err(|error| error.to_string())
    }
}

#[derive(Clone, Debug)]
struct FilePattern(NamePattern);

impl FromStr for FilePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NamePattern::new(text).map(Self).map_err(|_| {
            format!(
                "{text:?} is no pattern of names: write a name, with * for any characters of it"
            )
        })
    }
}

impl SidecarConfig {
    /// Reads the settings file at `path`. User names are looked up in `/etc/passwd`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is malformed, or holds a key or value that cannot be used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, error))?;
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::parse(&text, path, &users)
    }

    /// Reads the text of a settings file; `path` is where it came from, `users` the text of `/etc/passwd`.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn parse(text: &str, path: &Path, users: &str) -> Result<Self, ConfigError> {
        let place = Place { text, path };
        let file: FileSidecar = toml::from_str(text).map_err(|error| {
            place.fault(
                error.span().unwrap_or_default(),
                error.message().replace('\n', ", "),
            )
        })?;
        let beside = |written: PathBuf| {
            let folder = path.parent().unwrap_or(Path::new(""));
            folder.join(written)
        };
        let socket = socket(file.socket, file.users, file.tls.is_some(), users, &place)?;
        let remote = file
            .tls
            .map(|tls| remote(tls, beside, &place))
            .transpose()?;
        let allow = allow_list(file.allow, file.deny);
        let units = Units {
            services: units(file.service, &allow, &place)?,
            pools: units(file.pool, &allow, &place)?,
        };
        let parts = DriverParts {
            units,
            command: file.command,
            systemd: file.systemd.unwrap_or_default(),
            windows: file.windows.unwrap_or_default(),
        };
        let driver = driver(&file.driver, parts, &place)?;
        let health_managers = match (file.health_managers, &driver) {
            (Some(names), _) => names.into_iter().map(|name| name.0.0).collect(),
            (None, DriverConfig::Windows(_)) => {
                HEALTH_MANAGERS.iter().map(|name| known(name)).collect()
            }
            (None, _) => Vec::new(),
        };
        let time = |written: Option<Parsed<FileDuration>>, default| {
            written.map_or(default, |written| written.0.0)
        };
        Ok(Self {
            socket: socket.map(|(path, ids)| (beside(path), ids)),
            remote,
            state_dir: beside(
                file.state_dir
                    .unwrap_or_else(|| PathBuf::from(DEFAULT_SIDECAR_STATE)),
            ),
            agent: AgentConfig {
                allow,
                health_managers,
                step_timeout: time(file.step_timeout, STEP_TIMEOUT),
                settle_timeout: time(file.settle_timeout, SETTLE_TIMEOUT),
            },
            driver,
        })
    }
}

/// The text in which a fault is placed.
struct Place<'t> {
    text: &'t str,
    path: &'t Path,
}

impl Place<'_> {
    fn fault(&self, span: Range<usize>, problem: impl fmt::Display) -> ConfigError {
        let position = position(self.text, self.path, span.start);
        ConfigError::at(position, String::new(), problem.to_string())
    }
}

/// The socket and who may ask there; none when only remote proxies ask.
fn socket(
    path: Option<Spanned<PathBuf>>,
    written: Option<Spanned<Vec<Spanned<FileUser>>>>,
    has_tls: bool,
    users: &str,
    place: &Place<'_>,
) -> Result<Option<(PathBuf, Vec<u32>)>, ConfigError> {
    const REMEDY: &str = "name the user that the proxy runs as, as in users = [\"stopgap\"]";
    match (path, written) {
        (path, Some(written)) => {
            let ids = user_ids(&written, users, place)?;
            let path = path.map_or_else(|| DEFAULT_SIDECAR_SOCKET.into(), Spanned::into_inner);
            Ok(Some((path, ids)))
        }
        (Some(path), None) => {
            let problem = format!("nobody could ask at this socket: {REMEDY}");
            Err(place.fault(path.span(), problem))
        }
        (None, None) if has_tls => Ok(None),
        (None, None) => {
            let problem = format!("nobody could ask, since `users` is missing: {REMEDY}");
            Err(place.fault(0..0, problem))
        }
    }
}

fn remote(
    written: Spanned<FileTls>,
    beside: impl Fn(PathBuf) -> PathBuf,
    place: &Place<'_>,
) -> Result<RemoteConfig, ConfigError> {
    let span = written.span();
    let written = written.into_inner();
    if written.ca.is_none() && written.pins.is_empty() {
        let problem =
            "a remote proxy must be known: write the SHA-256 of its certificate in `pins`, or `ca`";
        return Err(place.fault(span, problem));
    }
    Ok(RemoteConfig {
        address: written.address.0,
        files: CertificateFiles {
            certificate: beside(written.certificate),
            key: beside(written.key),
        },
        trust: PeerTrust {
            authorities: written.ca.map(&beside),
            pins: written.pins.iter().map(|pin| *pin.0.0.octets()).collect(),
        },
    })
}

fn user_ids(
    written: &Spanned<Vec<Spanned<FileUser>>>,
    users: &str,
    place: &Place<'_>,
) -> Result<Vec<u32>, ConfigError> {
    if written.get_ref().is_empty() {
        let problem =
            "nobody could ask: name the user that the proxy runs as, as in users = [\"stopgap\"]";
        return Err(place.fault(written.span(), problem));
    }
    let id = |user: &Spanned<FileUser>| match user.get_ref() {
        FileUser::Id(id) => Ok(*id),
        FileUser::Name(name) => user_id(name, users).ok_or_else(|| {
            let problem =
                format!("there is no user {name:?} in /etc/passwd; write its number instead");
            place.fault(user.span(), problem)
        }),
    };
    written.get_ref().iter().map(id).collect()
}

fn user_id(name: &str, users: &str) -> Option<u32> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

fn known(name: &str) -> Name {
    Name::new(name).expect("the names of this file are names")
}

fn allow_list(allow: FileAllow, deny: Vec<Parsed<FilePattern>>) -> AllowList {
    let patterns = |written: Vec<Parsed<FilePattern>>, preset: &[&str]| {
        let preset = preset.iter().filter(|_| allow.exchange);
        let preset = preset.map(|text| NamePattern::new(text).expect("presets are patterns"));
        preset
            .chain(written.into_iter().map(|written| written.0.0))
            .collect()
    };
    AllowList {
        services: patterns(allow.services, &EXCHANGE_SERVICES),
        pools: patterns(allow.pools, &EXCHANGE_POOLS),
        denied: deny.into_iter().map(|written| written.0.0).collect(),
    }
}

/// Which unit stands for which name.
#[derive(Default)]
struct Units {
    services: BTreeMap<Name, Name>,
    pools: BTreeMap<Name, Name>,
}

fn units(
    written: BTreeMap<Spanned<String>, FileUnit>,
    allow: &AllowList,
    place: &Place<'_>,
) -> Result<BTreeMap<Name, Name>, ConfigError> {
    let checked = |(name, unit): (Spanned<String>, FileUnit)| {
        let fault = |error: &dyn fmt::Display| place.fault(name.span(), error);
        let key = Name::new(name.get_ref()).map_err(|error| fault(&error))?;
        let Parsed(FileName(value)) = unit.unit.get_ref().clone();
        let denied = allow.check_name(value.as_str());
        denied.map_err(|error| place.fault(unit.unit.span(), error))?;
        if !value.as_str().ends_with(".service") {
            let problem =
                "only units of services are stopped: write the name with .service at its end";
            return Err(place.fault(unit.unit.span(), problem));
        }
        Ok((key, value))
    };
    written.into_iter().map(checked).collect()
}

struct DriverParts {
    units: Units,
    command: Option<Spanned<FileCommand>>,
    systemd: FileSystemd,
    windows: FileWindows,
}

fn driver(
    word: &Spanned<String>,
    parts: DriverParts,
    place: &Place<'_>,
) -> Result<DriverConfig, ConfigError> {
    let fault = |problem: String| place.fault(word.span(), problem);
    match word.get_ref().as_str() {
        "command" => {
            let missing = || fault("this driver needs a section [command]".to_owned());
            command(parts.command.ok_or_else(missing)?, place).map(DriverConfig::Command)
        }
        "dry-run" => Ok(DriverConfig::DryRun),
        "systemd" => systemd(parts.units, parts.systemd).ok_or_else(|| {
            fault("this build has no driver for systemd, which is a part of Linux".to_owned())
        }),
        "windows" => {
            let default = WindowsConfig::default();
            Ok(DriverConfig::Windows(WindowsConfig {
                sc: parts.windows.sc.unwrap_or(default.sc),
                appcmd: parts.windows.appcmd.unwrap_or(default.appcmd),
            }))
        }
        other => Err(fault(format!(
            "there is no driver {other:?}; `stopgap-sidecar drivers` lists them"
        ))),
    }
}

#[cfg(target_os = "linux")]
fn systemd(units: Units, written: FileSystemd) -> Option<DriverConfig> {
    let mut config = crate::sidecar::SystemdConfig {
        bus: written.bus,
        services: units.services,
        pools: units.pools,
        ..Default::default()
    };
    if let Some(folder) = written.drop_in_folder {
        config.drop_in_folder = folder;
    }
    Some(DriverConfig::Systemd(config))
}

#[cfg(not(target_os = "linux"))]
fn systemd(_: Units, _: FileSystemd) -> Option<DriverConfig> {
    None
}

fn command(written: Spanned<FileCommand>, place: &Place<'_>) -> Result<CommandConfig, ConfigError> {
    let span = written.span();
    let written = written.into_inner();
    let step = |arguments: Spanned<Vec<String>>| {
        let absolute = arguments
            .get_ref()
            .first()
            .is_some_and(|program| Path::new(program).is_absolute());
        match absolute {
            true => Ok(arguments.into_inner()),
            false => Err(place.fault(
                arguments.span(),
                "a program and its arguments are a list, and the program has its whole path: \
                 [\"/usr/sbin/service\", \"{name}\", \"stop\"]",
            )),
        }
    };
    let bar = match (written.disable, written.enable) {
        (Some(disable), Some(enable)) => Some(Bar {
            disable: step(disable)?,
            enable: step(enable)?,
        }),
        (None, None) => None,
        _ => return Err(place.fault(span, "`disable` and `enable` need each other")),
    };
    Ok(CommandConfig {
        state: step(written.state)?,
        start: step(written.start)?,
        stop: step(written.stop)?,
        bar,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nstopgap:x:990:990::/:/bin/false\n";

    fn parse(text: &str) -> Result<SidecarConfig, ConfigError> {
        SidecarConfig::parse(text, Path::new("/etc/stopgap/sidecar.toml"), USERS)
    }

    #[test]
    fn defaults_allow_nothing_and_hold_exchange_on_windows_only() {
        let config = parse("users = ['stopgap', 7]\ndriver = 'dry-run'").unwrap();
        let socket = (PathBuf::from(DEFAULT_SIDECAR_SOCKET), vec![990, 7]);
        assert_eq!(config.socket, Some(socket));
        assert!(config.remote.is_none());
        assert_eq!(config.state_dir, Path::new(DEFAULT_SIDECAR_STATE));
        assert!(config.agent.allow.services.is_empty() && config.agent.allow.pools.is_empty());
        assert!(config.agent.health_managers.is_empty());
        let windows = parse("users = [0]\ndriver = 'windows'\nsocket = 's'").unwrap();
        assert_eq!(windows.agent.health_managers.len(), 2);
        assert_eq!(windows.socket.unwrap().0, Path::new("/etc/stopgap/s"));
    }

    #[test]
    fn remote_proxies_need_no_users() {
        let pin = "ab".repeat(32);
        let config = parse(&format!(
            "driver = 'dry-run'\n[tls]\naddress = '[::]:9443'\ncertificate = 'c'\nkey = '/k'\npins = ['{pin}']\nca = 'a'"
        ))
        .unwrap();
        assert!(config.socket.is_none());
        let remote = config.remote.unwrap();
        assert_eq!(remote.address, "[::]:9443".parse().unwrap());
        assert_eq!(remote.files.certificate, Path::new("/etc/stopgap/c"));
        assert_eq!(remote.trust.pins, [[0xab; 32]]);
        assert_eq!(
            remote.trust.authorities.unwrap(),
            Path::new("/etc/stopgap/a")
        );
    }

    #[test]
    fn faults_name_the_line() {
        let head = "users = [0]\ndriver = 'systemd'\n";
        for (text, line, problem) in [
            ("driver = 'dry-run'".to_owned(), 1, "`users` is missing"),
            (
                "driver = 'dry-run'\nsocket = 's'".to_owned(),
                2,
                "at this socket",
            ),
            (
                "driver = 'dry-run'\n[tls]\naddress = '[::]:1'\ncertificate = 'c'\nkey = 'k'"
                    .to_owned(),
                2,
                "in `pins`, or `ca`",
            ),
            (
                "users = []\ndriver = 'dry-run'".to_owned(),
                1,
                "nobody could ask",
            ),
            (
                "users = ['nobody1']\ndriver = 'dry-run'".to_owned(),
                1,
                "no user \"nobody1\"",
            ),
            (
                "users = [0]\ndriver = 'ssh'".to_owned(),
                2,
                "no driver \"ssh\"",
            ),
            ("users = [0]\ndriver = 'command'".to_owned(), 2, "[command]"),
            (format!("{head}shell = true"), 3, "unknown field `shell`"),
            (format!("{head}deny = ['a b*;']"), 3, "no pattern"),
            (format!("{head}[allow]\nservices = ['*']"), 4, "no pattern"),
            (
                format!("{head}[pool.A]\nunit = 'sshd.service'"),
                4,
                "deny-list",
            ),
            (
                format!("{head}[pool.A]\nunit = 'a.socket'"),
                4,
                ".service at its end",
            ),
            (
                format!("{head}[service.'a;b']\nunit = 'a.service'"),
                3,
                "is no name",
            ),
            (
                format!("{head}[command]\nstate = ['/s']\nstart = ['service']\nstop = ['/s']")
                    .replace("systemd", "command"),
                5,
                "whole path",
            ),
            (
                format!("{head}[command]\nstate=['/s']\nstart=['/s']\nstop=['/s']\nenable=['/s']")
                    .replace("systemd", "command"),
                3,
                "need each other",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert_eq!(error.line(), Some(line), "{text}: {error}");
            assert!(error.to_string().contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn exchange_is_one_word() {
        use crate::sidecar::Target;
        let config = parse(
            "users = [0]\ndriver = 'dry-run'\ndeny = ['MSExchangeIS']\n[allow]\nexchange = true\nservices = ['nginx']",
        )
        .unwrap();
        let service = |name: &str| Target::Service(known(name));
        for (target, allowed) in [
            (service("MSExchangeUM"), true),
            (service("nginx"), true),
            (service("apache2"), false),
            (service("MSExchangeIS"), false),
            (service("MSExchangeADTopology"), false),
            (Target::Pool(known("MSExchangeECPAppPool")), true),
            (Target::Pool(known("nginx")), false),
        ] {
            assert_eq!(
                config.agent.allow.check(&target).is_ok(),
                allowed,
                "{target}"
            );
        }
    }
}
