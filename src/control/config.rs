//! The settings of the control side.

use std::path::PathBuf;
use std::time::Duration;

use crate::feed::FeedConfig;
use crate::mitigation::DEFAULT_RING;
use crate::model::MitigationId;

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
    /// Paths of health checks and long polls, which count as honest requests too.
    pub honest_paths: Vec<String>,
    /// Time between two looks at rule files and at the kill switch.
    pub watch_interval: Duration,
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
            honest_paths: Vec::new(),
            watch_interval: WATCH_INTERVAL,
        }
    }
}

/// What an administrator decided about mitigations.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Off: no mitigation of a feed or of the bundled set is enforced, in the whole organisation.
    pub organisation_enabled: bool,
    /// Off: the same for this server.
    pub server_enabled: bool,
    /// Mitigations never enforced; `M2` covers every `M2.x`.
    pub blocked: Vec<MitigationId>,
    /// Whether every mitigation of a feed waits for approval, even if its publisher does not ask for it.
    pub approval_required: bool,
    /// Mitigations that are only watched; `M2` covers every `M2.x`.
    pub audit: Vec<MitigationId>,
    /// The ring of this installation, 0 to 2.
    pub ring: u8,
    /// Products and their builds, an entry for each server. A product not listed counts as affected.
    pub builds: Vec<(String, [u32; 4])>,
    /// Honest requests that a mitigation may stop and still be taken.
    pub benign_limit: usize,
    /// Mitigations taken although they stop more than that, which is logged.
    pub trust_despite_benign: Vec<MitigationId>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            organisation_enabled: true,
            server_enabled: true,
            blocked: Vec::new(),
            approval_required: false,
            audit: Vec::new(),
            ring: DEFAULT_RING,
            builds: Vec::new(),
            benign_limit: 0,
            trust_despite_benign: Vec::new(),
        }
    }
}
