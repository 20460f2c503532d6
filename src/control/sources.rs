//! Other sources of mitigations and another policy while the process runs.
//!
//! Everything new is read first, and only then put in place of what was there: settings that cannot be used change
//! nothing. What stays as it was keeps all that is known of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::bundled;
use super::config::{ControlConfig, Policy};
use super::engine::Engine;
use super::error::ControlError;
use super::feed_state::FeedState;
use super::polls::Polled;
use super::prepare::{Cache, Gates};
use super::rule_files::{RuleFile, RuleFiles};
use crate::feed::FeedConfig;
use crate::model::{Mitigation, UnixTime};

/// What settings say of sources of mitigations, and of what is required of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceSettings {
    /// As [`ControlConfig::document_roots`].
    pub document_roots: Vec<Option<PathBuf>>,
    /// As [`ControlConfig::rules`].
    pub rules: Vec<PathBuf>,
    /// As [`ControlConfig::with_baseline`].
    pub with_baseline: bool,
    /// As [`ControlConfig::groups`].
    pub groups: Vec<String>,
    /// As [`ControlConfig::feeds`].
    pub feeds: Vec<FeedConfig>,
    /// As [`ControlConfig::policy`].
    pub policy: Policy,
    /// As [`ControlConfig::honest_paths`].
    pub honest_paths: Vec<String>,
    /// As [`ControlConfig::watch_interval`].
    pub watch_interval: Duration,
}

impl SourceSettings {
    /// Those of a whole.
    pub fn of(config: &ControlConfig) -> Self {
        Self {
            document_roots: config.document_roots.clone(),
            rules: config.rules.clone(),
            with_baseline: config.with_baseline,
            groups: config.groups.clone(),
            feeds: config.feeds.clone(),
            policy: config.policy.clone(),
            honest_paths: config.honest_paths.clone(),
            watch_interval: config.watch_interval,
        }
    }

    /// The whole with these in place of its own.
    pub fn within(self, config: &ControlConfig) -> ControlConfig {
        ControlConfig {
            document_roots: self.document_roots,
            rules: self.rules,
            with_baseline: self.with_baseline,
            groups: self.groups,
            feeds: self.feeds,
            policy: self.policy,
            honest_paths: self.honest_paths,
            watch_interval: self.watch_interval,
            ..config.clone()
        }
    }
}

impl Engine {
    /// Takes other sources and another policy, or nothing of them.
    pub(super) fn set_sources(&mut self, settings: &SourceSettings) -> Result<(), ControlError> {
        let now = (self.clock)();
        let config = settings.clone().within(&self.config);
        check(&config)?;
        let regated = gate_settings(&config) != gate_settings(&self.config);
        let gates = match regated {
            true => Gates::new(&config)?,
            false => self.gates.clone(),
        };
        let mut files = self.files.at(config.rules.clone());
        if regated {
            files.forget();
        }
        files.look(&gates, now);
        refuse_unusable(&files, |path| self.names(path))?;
        let bundled = match offers_bundled(&config) == offers_bundled(&self.config) {
            true => self.bundled.clone(),
            false => bundled(&config)?,
        };
        let new = self.new_feeds(&config, now)?;

        self.replace_feeds(&config.feeds, new);
        if regated {
            self.cache = Cache::default();
        }
        self.exceptions
            .set_lifetime(config.policy.exception_lifetime);
        (self.gates, self.files, self.bundled) = (gates, files, bundled);
        self.config = config;
        Ok(())
    }

    /// What tasks outside work by: the feeds, and the time between two looks at rule files.
    pub(super) fn watched(&self) -> (Vec<Polled>, Duration) {
        (self.polled(), self.config.watch_interval)
    }

    /// Whether settings before named this file or folder, or a folder with this file.
    fn names(&self, path: &Path) -> bool {
        let mut files = self.files.files().iter();
        self.config.rules.iter().any(|own| own == path) || files.any(|own| own.path == path)
    }

    /// Those that are not there yet, or not with these settings.
    fn new_feeds(
        &mut self,
        config: &ControlConfig,
        now: UnixTime,
    ) -> Result<Vec<FeedState>, ControlError> {
        let mut new = Vec::new();
        for feed in &config.feeds {
            if self.feeds.iter().all(|own| own.feed.config() != feed) {
                self.feed_number = self.feed_number.next();
                new.push(FeedState::new(self.feed_number, feed, &self.state, now)?);
            }
        }
        Ok(new)
    }

    /// Has the feeds of these settings, each from those that are there or from the new ones.
    fn replace_feeds(&mut self, settings: &[FeedConfig], new: Vec<FeedState>) {
        let mut known = std::mem::take(&mut self.feeds);
        known.extend(new);
        for config in settings {
            let own = known.iter().position(|own| own.feed.config() == config);
            self.feeds.extend(own.map(|own| known.remove(own)));
        }
        for gone in known {
            self.measures.feed_gone(&gone.feed.config().name);
        }
    }
}

/// Whether every source and site has a name of its own.
pub(super) fn check(config: &ControlConfig) -> Result<(), ControlError> {
    let mut names = BTreeSet::new();
    for feed in &config.feeds {
        if !names.insert(&feed.name) || feed.name == bundled::NAME {
            let reason = format!("two sources are named {}: rename one", feed.name);
            return Err(ControlError::config(reason));
        }
    }
    let mut sites = BTreeSet::new();
    for site in &config.sites {
        if !sites.insert(site.to_ascii_lowercase()) {
            let reason = format!("two sites are named {site}: rename one");
            return Err(ControlError::config(reason));
        }
    }
    Ok(())
}

/// What of the settings decides whether a mitigation or a file passes its gates.
fn gate_settings(config: &ControlConfig) -> impl PartialEq + '_ {
    let policy = &config.policy;
    (
        &config.document_roots,
        &config.honest_paths,
        policy.benign_limit,
        &policy.trust_despite_benign,
    )
}

fn offers_bundled(config: &ControlConfig) -> bool {
    config.rules.is_empty() || config.with_baseline
}

/// The bundled set, if it is to be offered.
pub(super) fn bundled(config: &ControlConfig) -> Result<Vec<Arc<Mitigation>>, ControlError> {
    match offers_bundled(config) {
        true => bundled::mitigations().map_err(|error| ControlError::config(error.explain())),
        false => Ok(Vec::new()),
    }
}

/// Whether there is a file or folder that was not named before and cannot be used: it has no last good content to fall
/// back on.
pub(super) fn refuse_unusable(
    files: &RuleFiles,
    was_named: impl Fn(&Path) -> bool,
) -> Result<(), ControlError> {
    let mut unlisted = files.unlisted().iter();
    if let Some((_, reason)) = unlisted.find(|(path, _)| !was_named(path)) {
        return Err(ControlError::rules(reason));
    }
    let unusable = |file: &&RuleFile| file.accepted.is_none() && !was_named(&file.path);
    let mut files = files.files().iter();
    match files.find(unusable).and_then(|file| file.refusal.as_ref()) {
        Some(refusal) => Err(ControlError::rules(&refusal.reason)),
        None => Ok(()),
    }
}
