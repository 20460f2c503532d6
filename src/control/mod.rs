//! Runs the lifecycle: sources of mitigations in, published rule sets out.
//!
//! Layer 3. Called by app, admin and cli; calls feed, mitigation, rules, lab, filter and store.
//! Holds: a rule set is published whole or not at all; what is refused never removes what was accepted; no rule is
//! compiled on a thread that serves traffic.
//! See `guide::lifecycle` for sources, gates and states.

mod approvals;
mod bundled;
mod config;
mod controller;
mod decided;
mod document_root;
mod engine;
mod error;
mod exceptions;
mod feed_state;
mod handle;
mod history;
mod kill_switch;
mod measures;
mod notify;
mod order;
mod orders;
mod plan;
mod polls;
mod prepare;
mod priority;
mod prove;
mod publisher;
mod report;
mod retire;
mod rule_files;
mod rule_folder;
mod sidecar_measures;
mod sidecars;
mod sources;
mod status;
mod stops;
mod transitions;
mod version_probe;
mod versions;

pub use crate::mitigation::{Decision, Retirement};
pub use approvals::ApprovalOf;
pub use config::{
    ControlConfig, DEFAULT_SITE, INSTANCE_LIMIT, Policy, PoolPaths, SIDECAR_DEADLINE, SidecarLink,
    SidecarPlace, WATCH_INTERVAL,
};
pub use controller::Controller;
pub use error::ControlError;
pub use exceptions::{EXCEPTION_LIFETIME, EXCEPTION_LIMIT, EXCEPTION_NOTICES, ExceptionText};
pub use handle::ControlHandle;
pub use history::{HISTORY_LIMIT, HISTORY_REASON_LIMIT, TransitionReport};
pub use notify::{
    NOTIFICATIONS, NOTIFY_DEADLINE, NotifyConfig, NotifyReport, WEBHOOK_ATTEMPTS, WEBHOOK_DEADLINE,
    WEBHOOK_LONGEST_RETRY, WebhookConfig, WebhookSecret,
};
pub use order::{Order, Outcome, ServerSettings};
pub use prove::{PROOF_INTERVAL, ProofListener, ProofTargets};
pub use rule_files::RULE_FILE_LIMIT;
pub use rule_folder::{RULE_FILES_LIMIT, rule_files};
pub use sources::SourceSettings;
pub use status::{
    ActionReport, AlarmReport, BuildReport, ExceptionReport, FeedReport, MitigationReport,
    RuleFileReport, RuleReport, ServerReport, ServerStanding, Status,
};
pub use version_probe::{
    EXCHANGE, ServerPlace, ServerTrust, SiteServers, VERSION_BODY, VERSION_INTERVAL,
    VERSION_TIMEOUT, VersionPattern, VersionProbe, VersionSource,
};
pub use versions::BUILD_MEMORY;
