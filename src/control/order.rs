//! What an operator can tell the control side to do.

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::{PoolPaths, SidecarLink};
use super::exceptions::ExceptionText;
use super::sources::SourceSettings;
use crate::mitigation::Decision;
use crate::model::{Exception, MitigationId};

/// One order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Decides something about mitigations. Kept across restarts.
    Decide(Decision),
    /// Deletes an exception of an operator, by its name.
    DeleteException(String),
    /// Lets requests pass that a mitigation stops. Kept across restarts, until it ends.
    Except(ExceptionText),
    /// Takes these exceptions of the settings in place of those that they had before.
    ExceptBySettings(Vec<Exception>),
    /// Lifts every blocking and response rule, or puts them back. Kept across restarts.
    KillSwitch(bool),
    /// Brings a mitigation through its gates and publishes it again, as if it were new; `M2` covers every `M2.x`.
    Reapply(MitigationId),
    /// Reads rule files again now, and fetches every feed now.
    Reload,
    /// Has these servers, sidecars and pools instead of those before.
    Servers(Box<ServerSettings>),
    /// Has these sources of mitigations and this policy instead of those before.
    Sources(Box<SourceSettings>),
}

/// What settings say of servers and of what is stopped on them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerSettings {
    /// As [`ControlConfig::servers`](super::ControlConfig::servers).
    pub servers: Vec<String>,
    /// As [`ControlConfig::server_sites`](super::ControlConfig::server_sites).
    pub server_sites: BTreeMap<String, Vec<String>>,
    /// As [`ControlConfig::sidecars`](super::ControlConfig::sidecars).
    pub sidecars: Vec<SidecarLink>,
    /// As [`ControlConfig::pools`](super::ControlConfig::pools).
    pub pools: Vec<PoolPaths>,
}

/// What an order came to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// The number of the rule set that is published now.
    pub revision: u64,
    /// Whether the order led to a swap.
    pub changed: bool,
    /// What was refused, each with its source and reason.
    pub refused: Vec<String>,
    /// What whoever gave the order should know about it.
    pub notes: Vec<String>,
}
