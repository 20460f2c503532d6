//! Turns a settings file and flags into checked settings, or into an error that names file, line, key and remedy.
//!
//! Layer 5. Called by app and cli; calls the parts whose settings it fills in.
//! Holds: a [`Config`] that exists can be used; every default that an operator meets is chosen here or named in the
//! schema; a flag wins over the file where both say something.
//! See `guide::operations` for every key.

mod check;
mod document;
mod error;
mod exceptions;
mod file;
mod links;
mod mitigation_keys;
mod nearest;
mod notify;
mod overrides;
mod policy;
mod print;
mod quantity;
mod roots;
mod schema;
mod sidecar;
mod site_keys;
mod state_folder;
mod trust;
mod upstream;
mod version;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::admin::AdminConfig;
use crate::control::{ControlConfig, VersionProbe};
use crate::net::{TlsClient, TlsError, TlsServer};
use crate::proxy::{AccessFormat, Forwarding, Limits, Listener, ServerGroup};

#[doc(no_inline)]
pub use crate::proxy::Server;

pub use error::ConfigError;
pub use nearest::nearest;
pub use overrides::Overrides;
pub use roots::{InvalidRoots, read_roots};
pub use schema::{KEYS, Key, Section, schema};
pub use sidecar::{DEFAULT_SIDECAR_SOCKET, DEFAULT_SIDECAR_STATE, RemoteConfig, SidecarConfig};
pub use state_folder::state_folder;

/// Where the only traffic listener is by default.
pub const DEFAULT_LISTEN: SocketAddr = loopback(8_080);

/// Where health, metrics and status are by default.
pub const DEFAULT_ADMIN: SocketAddr = loopback(9_180);

/// How long requests in flight get to end after a signal by default.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// Lines for decisions in a second by default.
pub const DEFAULT_DECISIONS: u32 = 1_000;

/// Path prefixes on which Exchange answers late on purpose, which have the long timeout by default.
pub const LONG_POLL_PATHS: [&str; 4] = ["/Microsoft-Server-ActiveSync", "/mapi", "/EWS", "/rpc"];

/// The name of the control socket in the state folder.
pub const CONTROL_SOCKET: &str = "control.sock";

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// Everything that one process is told before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Traffic listeners.
    pub listeners: Vec<Listener>,
    /// Sites, in the order in which the proxy numbers them.
    pub sites: Vec<SiteConfig>,
    /// Data-plane threads; 0 stands for one per core.
    pub workers: usize,
    /// Bounds of the data plane.
    pub limits: Limits,
    /// What is read of proxies in front, and what servers are told of clients.
    pub forwarding: Forwarding,
    /// Where access and decision lines go.
    pub log: LogConfig,
    /// The read-only address and the control socket.
    pub admin: AdminConfig,
    /// Sources of mitigations, and the policy.
    pub control: ControlConfig,
    /// The state folder; nothing when neither a setting nor the environment names one.
    pub state_dir: Option<PathBuf>,
    /// How long requests in flight get to end after SIGTERM.
    pub drain_timeout: Duration,
}

/// One site.
#[derive(Clone, Debug)]
pub struct SiteConfig {
    /// The name that mitigations target.
    pub name: String,
    /// Host names without port.
    pub hosts: Vec<String>,
    /// What it is known to stand in front of.
    pub preset: Option<Preset>,
    /// The servers behind it; none stands for the welcome page.
    pub upstreams: ServerGroup,
    /// Paths with servers of their own.
    pub routes: Vec<RouteConfig>,
    /// The folder that `IsFile` and `IsDirectory` ask about.
    pub document_root: Option<PathBuf>,
    /// How its servers are asked which build they run; they are not when this is `None`.
    pub version: Option<VersionProbe>,
}

impl SiteConfig {
    /// Its servers and those of its routes, in this order.
    pub fn groups(&self) -> impl Iterator<Item = &ServerGroup> {
        let routes = self.routes.iter().map(|route| &route.upstreams);
        std::iter::once(&self.upstreams).chain(routes)
    }

    /// Every server behind it.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.groups().flat_map(ServerGroup::servers)
    }
}

/// Paths of a site that have servers of their own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteConfig {
    /// Path prefixes, without a slash at the end.
    pub paths: Vec<String>,
    /// Their servers.
    pub upstreams: ServerGroup,
}

/// Software that a site is known to stand in front of, and what follows from that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Preset {
    /// Microsoft Exchange, 2013 and later.
    Exchange,
}

/// The virtual folders of Exchange in which managed availability answers health checks.
const EXCHANGE_HEALTH_PATHS: [&str; 9] = [
    "/owa/healthcheck.htm",
    "/ecp/healthcheck.htm",
    "/ews/healthcheck.htm",
    "/mapi/healthcheck.htm",
    "/rpc/healthcheck.htm",
    "/oab/healthcheck.htm",
    "/autodiscover/healthcheck.htm",
    "/powershell/healthcheck.htm",
    "/Microsoft-Server-ActiveSync/healthcheck.htm",
];

impl Preset {
    /// The word for it in settings.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
        }
    }

    /// What health checks ask its servers for.
    pub const fn health_target(self) -> &'static str {
        match self {
            Self::Exchange => EXCHANGE_HEALTH_PATHS[0],
        }
    }

    /// Paths of health checks, also of others', that no mitigation may stop.
    pub fn health_paths(self) -> impl Iterator<Item = &'static str> {
        match self {
            Self::Exchange => EXCHANGE_HEALTH_PATHS.into_iter(),
        }
    }

    /// Path prefixes on which it answers late on purpose.
    pub fn long_poll_paths(self) -> impl Iterator<Item = &'static str> {
        match self {
            Self::Exchange => LONG_POLL_PATHS.into_iter(),
        }
    }
}

/// Where lines about requests go.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// One line for each answered request.
    pub access: Option<LogTarget>,
    /// The form of these lines.
    pub access_format: AccessFormat,
    /// JSON lines for decisions other than "pass".
    pub decisions: Option<LogTarget>,
    /// How many of these lines a second; 0 stands for one for each decision.
    pub decisions_per_second: u32,
}

/// A place that lines are written to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogTarget {
    /// A file, appended to.
    File(PathBuf),
    /// Standard error, written as `stderr`.
    Stderr,
    /// Standard output, written as `-`.
    Stdout,
}

impl Default for LogConfig {
    /// No access lines; decisions on standard error, beside the process log.
    fn default() -> Self {
        Self {
            access: None,
            access_format: AccessFormat::default(),
            decisions: Some(LogTarget::Stderr),
            decisions_per_second: DEFAULT_DECISIONS,
        }
    }
}

impl From<PathBuf> for LogTarget {
    fn from(path: PathBuf) -> Self {
        match path.as_os_str() == "-" {
            true => Self::Stdout,
            false => Self::File(path),
        }
    }
}

impl Config {
    /// Reads the settings file, if there is one, and lets `overrides` win over it.
    ///
    /// `variable` looks up an environment variable, for the state folder only. Relative paths in the file start at
    /// the file's folder.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is malformed, holds a key or value that cannot be used, or when file and flags
    /// contradict each other.
    pub fn load(
        file: Option<&Path>,
        overrides: &Overrides,
        variable: impl Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Self, ConfigError> {
        let mut config = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ConfigError::unreadable(path, error))?;
                Self::parse(&text, path)?
            }
            None => Self::parse("", Path::new(""))?,
        };
        overrides.apply(&mut config)?;
        config.control.servers = links::servers(&config.sites, &config.control.sidecars);
        config.control.server_sites = links::server_sites(&config.sites, &config.control.sidecars);
        config.control.versions = version::site_servers(&config.sites);
        if config.state_dir.is_none() {
            config.state_dir = state_folder(variable);
        }
        Ok(config)
    }

    /// Where the control socket is: by its own setting, or in the state folder; nothing without either.
    pub fn control_socket(&self) -> Option<PathBuf> {
        let in_folder = || {
            let folder = self.state_dir.as_deref()?;
            Some(folder.join(CONTROL_SOCKET))
        };
        self.admin.socket.clone().or_else(in_folder)
    }

    /// Reads every certificate and key for TLS once, to see whether they can be used.
    ///
    /// # Errors
    ///
    /// For the first that cannot.
    pub fn check_tls(&self) -> Result<(), TlsError> {
        for listener in self
            .listeners
            .iter()
            .filter(|listener| !listener.tls.is_empty())
        {
            TlsServer::load(
                listener.tls.clone(),
                listener.http2,
                listener.clients.as_ref(),
            )?;
        }
        for link in &self.control.sidecars {
            link.client()?;
        }
        for server in self.sites.iter().flat_map(SiteConfig::servers) {
            if let Some(tls) = &server.tls {
                let name = tls.name.as_deref().unwrap_or(&server.host);
                TlsClient::load(tls.authorities.as_deref(), name)?;
            }
        }
        Ok(())
    }

    /// Reads the text of a settings file; `path` is where it came from.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let document = document::Document::parse(text, path)?;
        let file = document.read()?;
        check::check(file, &document)
    }
}
