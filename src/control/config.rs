//! The settings of the control side.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::approvals::ApprovalOf;
use super::exceptions::EXCEPTION_LIFETIME;
use super::notify::NotifyConfig;
use super::version_probe::SiteServers;
use crate::feed::FeedConfig;
use crate::mitigation::{DEFAULT_RING, Retirement};
use crate::model::{Exception, MitigationId};
use crate::net::{CertificateFiles, MutualClient, PeerTrust, TlsError};
use crate::sidecar::Client;

/// The name of the only site, and of the one that `--upstream` makes.
pub const DEFAULT_SITE: &str = "Default Web Site";

/// Time between two looks at rule files and at the kill switch by default.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Where mitigations come from, which sites they are for, and what is required of them.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// The names of the sites, in the order in which the proxy numbers them; no two alike.
    pub sites: Vec<String>,
    /// Folders of the sites, in the same order, that conditions of type `IsFile` and `IsDirectory` ask about; a site
    /// beyond the end has none.
    pub document_roots: Vec<Option<PathBuf>>,
    /// Local rule files, and folders of them (`*.xml`, in the order of their names).
    pub rules: Vec<PathBuf>,
    /// Whether the bundled set is enforced beside local rules; without local rules it always is.
    pub with_baseline: bool,
    /// Opt-in groups to enforce.
    pub groups: Vec<String>,
    /// Feeds, the one with the highest priority first.
    pub feeds: Vec<FeedConfig>,
    /// What is required before a swap, and what is switched off.
    pub policy: Policy,
    /// Requests that mitigations do not stop; no two of one name.
    pub exceptions: Vec<Exception>,
    /// Paths of health checks and long polls, which count as honest requests too.
    pub honest_paths: Vec<String>,
    /// The servers behind the proxy, by name; a service or pool action is for each of them that its site has.
    pub servers: Vec<String>,
    /// The sites that each server answers for; all of them for one that is not here.
    pub server_sites: BTreeMap<String, Vec<String>>,
    /// The servers of each site, and how they are asked which build they run.
    pub versions: Vec<SiteServers>,
    /// The sidecars of these servers, one for each at most.
    pub sidecars: Vec<SidecarLink>,
    /// Application pools whose paths are not those of Exchange.
    pub pools: Vec<PoolPaths>,
    /// The name under which sidecars know this proxy, beside others that ask them; empty when it is the only one.
    pub instance: String,
    /// What is run when the state of a mitigation changes.
    pub notify: NotifyConfig,
    /// Time between two looks at rule files and at the kill switch.
    pub watch_interval: Duration,
}

/// The longest name of an instance.
pub const INSTANCE_LIMIT: usize = 32;

/// Time for one order to a sidecar by default: a service may take 90 s to stop.
pub const SIDECAR_DEADLINE: Duration = Duration::from_secs(120);

/// The sidecar of one server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SidecarLink {
    /// The name of the server.
    pub server: String,
    /// Where the sidecar is asked.
    pub place: SidecarPlace,
    /// Time for one order, until the sidecar is asked again.
    pub deadline: Duration,
}

/// Where a sidecar is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SidecarPlace {
    /// On another host, within TLS that both sides pin.
    Address {
        /// A host name or an IP address, IPv6 without brackets.
        host: String,
        /// The port.
        port: u16,
        /// The certificate that the proxy shows.
        files: CertificateFiles,
        /// Whom the proxy takes for the sidecar.
        trust: PeerTrust,
        /// The name in the sidecar's certificate; the host when this is `None`.
        name: Option<String>,
    },
    /// On this host.
    Socket(PathBuf),
}

impl SidecarLink {
    /// What asks the sidecar.
    ///
    /// # Errors
    ///
    /// When certificates, key or authorities cannot be read or used.
    pub fn client(&self) -> Result<Client, TlsError> {
        match &self.place {
            SidecarPlace::Socket(path) => Ok(Client::new(path, self.deadline)),
            SidecarPlace::Address {
                host,
                port,
                files,
                trust,
                name,
            } => {
                let name = name.as_deref().unwrap_or(host);
                let tls = MutualClient::load(files.clone(), trust, name)?;
                Ok(Client::remote(host, *port, tls, self.deadline))
            }
        }
    }
}

/// The paths that an application pool serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolPaths {
    /// The pool; its name has no letter case.
    pub pool: String,
    /// Path prefixes.
    pub paths: Vec<String>,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            sites: vec![DEFAULT_SITE.to_owned()],
            document_roots: Vec::new(),
            rules: Vec::new(),
            with_baseline: false,
            groups: Vec::new(),
            feeds: Vec::new(),
            policy: Policy::default(),
            exceptions: Vec::new(),
            honest_paths: Vec::new(),
            servers: Vec::new(),
            server_sites: BTreeMap::new(),
            versions: Vec::new(),
            sidecars: Vec::new(),
            pools: Vec::new(),
            instance: String::new(),
            notify: NotifyConfig::default(),
            watch_interval: WATCH_INTERVAL,
        }
    }
}

/// What an administrator decided about mitigations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Off: no mitigation of a feed or of the bundled set is enforced, in the whole organisation.
    pub organisation_enabled: bool,
    /// Off: the same for this server.
    pub server_enabled: bool,
    /// Mitigations never enforced; `M2` covers every `M2.x`.
    pub blocked: Vec<MitigationId>,
    /// Whether every mitigation of a feed waits for approval, even if its publisher does not ask for it.
    pub approval_required: bool,
    /// What an approval is for.
    pub approval_of: ApprovalOf,
    /// Mitigations that are only watched; `M2` covers every `M2.x`.
    pub audit: Vec<MitigationId>,
    /// The ring of this installation, 0 to 2.
    pub ring: u8,
    /// Products and their builds, an entry for each server. A product not listed counts as affected.
    pub builds: Vec<(String, [u32; 4])>,
    /// Whether a mitigation goes on its own once every server was seen to be fixed.
    pub retirement: Retirement,
    /// Honest requests that a mitigation may stop and still be taken.
    pub benign_limit: usize,
    /// Mitigations taken although they stop more than that, which is logged.
    pub trust_despite_benign: Vec<MitigationId>,
    /// How far ahead an exception may end.
    pub exception_lifetime: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            organisation_enabled: true,
            server_enabled: true,
            blocked: Vec::new(),
            approval_required: false,
            approval_of: ApprovalOf::default(),
            audit: Vec::new(),
            ring: DEFAULT_RING,
            builds: Vec::new(),
            retirement: Retirement::default(),
            benign_limit: 0,
            trust_despite_benign: Vec::new(),
            exception_lifetime: EXCEPTION_LIFETIME,
        }
    }
}
