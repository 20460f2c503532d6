//! What one cycle left behind, and the status that it gives at any later moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::exceptions::Kept;
use super::history::TransitionReport;
use super::notify::Notifier;
use super::prepare::Prepared;
use super::rule_files::RuleFile;
use super::status::{
    ActionReport, AlarmReport, BuildReport, FeedReport, MitigationReport, RuleFileReport,
    ServerReport, ServerStanding, Status,
};
use crate::feed::{Accepted, Feed, Nameless};
use crate::filter::Samples;
use crate::mitigation::{KillSwitch, State};
use crate::model::{Mitigation, Revision, UnixTime};
use crate::telemetry::{Alarms, Label};

/// What one cycle left behind.
#[derive(Debug)]
pub(super) struct View {
    pub(super) started: UnixTime,
    pub(super) revision: Revision,
    pub(super) kill_switch: KillSwitch,
    pub(super) feeds: Vec<FeedView>,
    pub(super) files: Vec<FileView>,
    pub(super) servers: Vec<ServerReport>,
    pub(super) builds: Vec<BuildReport>,
    pub(super) notifier: Notifier,
    pub(super) mitigations: Vec<MitigationView>,
    /// Configs without an id, each with its feed.
    pub(super) nameless: Vec<(String, Nameless)>,
    pub(super) history: Arc<[TransitionReport]>,
    pub(super) exceptions: Vec<Kept>,
}

/// One feed.
#[derive(Debug)]
pub(super) struct FeedView {
    name: String,
    source: String,
    trust: &'static str,
    stale_after: std::time::Duration,
    last_success: Option<UnixTime>,
    accepted: Option<Accepted>,
    refusal: Option<String>,
    expires: Option<UnixTime>,
    root: Option<u64>,
}

/// One local file.
#[derive(Debug)]
pub(super) struct FileView {
    path: String,
    refusal: Option<String>,
    rules: Option<Arc<Prepared>>,
    warning: Option<String>,
    hits: Vec<Arc<AtomicU64>>,
}

/// One mitigation.
#[derive(Debug)]
pub(super) struct MitigationView {
    pub(super) source: String,
    pub(super) mitigation: Arc<Mitigation>,
    pub(super) state: State,
    /// Why it is not proven although it is in force and behaves where it can be tried.
    pub(super) unproven: Option<String>,
    /// The servers that are all fixed, when an operator may retire it for that.
    pub(super) retirable: Option<String>,
    pub(super) prepared: Option<Arc<Prepared>>,
    pub(super) hits: Vec<Arc<AtomicU64>>,
    pub(super) stops: StopsView,
    /// What it would have stopped while it was only watched.
    pub(super) would_stop: Vec<Arc<AtomicU64>>,
    /// Responses that it would have changed meanwhile.
    pub(super) would_change: Vec<Arc<AtomicU64>>,
    pub(super) samples: Samples,
}

/// What is known of the services and pools that a mitigation stops.
#[derive(Debug, Default)]
pub(super) struct StopsView {
    pub(super) servers: Vec<ServerStanding>,
    pub(super) warning: Option<String>,
    /// What it has not given up although it is not in force.
    pub(super) residue: Option<String>,
}

impl View {
    /// The status at `now`: ages, hits and alarms as they are then.
    pub(super) fn status(&self, alarms: &Alarms, now: UnixTime) -> Status {
        let (mut enforced, mut others): (Vec<_>, Vec<_>) = self
            .mitigations
            .iter()
            .partition(|view| view.state.is_enforced());
        enforced.append(&mut others);
        let nameless = self.nameless.iter().map(|(source, nameless)| {
            let state = State::Failed(nameless.reason.clone());
            MitigationReport {
                state: state.name(),
                reason: state.reason(),
                ..blank(nameless.id.clone(), source.clone())
            }
        });
        Status {
            version: env!("CARGO_PKG_VERSION"),
            started: self.started.to_string(),
            revision: self.revision.0,
            kill_switch: self.kill_switch == KillSwitch::All,
            feeds: self.feeds.iter().map(|feed| feed.report(now)).collect(),
            rule_files: self.files.iter().map(FileView::report).collect(),
            servers: self.servers.clone(),
            builds: self.builds.clone(),
            notify: self.notifier.reports(),
            mitigations: enforced
                .into_iter()
                .map(MitigationView::report)
                .chain(nameless)
                .collect(),
            exceptions: self.exceptions.iter().map(|own| own.report(now)).collect(),
            alarms: alarms
                .active()
                .into_iter()
                .map(|alarm| AlarmReport {
                    kind: alarm.kind.value().to_owned(),
                    subject: alarm.subject,
                    reason: alarm.reason,
                    since: alarm.since.to_string(),
                })
                .collect(),
        }
    }
}

impl FeedView {
    pub(super) fn of(feed: &Feed) -> Self {
        let config = feed.config();
        Self {
            name: config.name.clone(),
            source: config.source.to_string(),
            trust: config.trust.name(),
            stale_after: config.stale_after,
            last_success: feed.last_success(),
            accepted: feed.accepted().cloned(),
            refusal: feed.refusal().map(|refusal| refusal.reason.clone()),
            expires: feed.expires(),
            root: feed.root(),
        }
    }

    fn report(&self, now: UnixTime) -> FeedReport {
        let age = self.last_success.map(|success| now.since(success));
        let accepted = self.accepted.as_ref();
        FeedReport {
            name: self.name.clone(),
            source: self.source.clone(),
            trust: self.trust,
            fresh: age.is_some_and(|age| age <= self.stale_after)
                && self.expires.is_none_or(|expires| now < expires),
            last_success: self.last_success.map(|time| time.to_string()),
            age_seconds: age.map(|age| age.as_secs()),
            signed_at: accepted.and_then(|held| Some(held.signed_at?.to_string())),
            signer: accepted.map(|held| held.signer.to_string()),
            digest: accepted.map(|held| held.digest.to_string()),
            version: accepted.and_then(|held| Some(held.issue?.version)),
            expires: self.expires.map(|time| time.to_string()),
            root: self.root,
            refusal: self.refusal.clone(),
            notices: accepted.map_or_else(Vec::new, |held| held.document.notices.clone()),
        }
    }
}

impl FileView {
    pub(super) fn of(file: &RuleFile, hits: Vec<Arc<AtomicU64>>) -> Self {
        let accepted = file.accepted.as_ref();
        Self {
            path: file.name(),
            refusal: file.refusal.as_ref().map(|refusal| refusal.reason.clone()),
            rules: accepted.and_then(|held| held.rules.clone()),
            warning: accepted.and_then(|held| held.warning()),
            hits,
        }
    }

    fn report(&self) -> RuleFileReport {
        RuleFileReport {
            path: self.path.clone(),
            refusal: self.refusal.clone(),
            warning: self.warning.clone(),
            hits: sum(&self.hits),
            rules: self
                .rules
                .as_ref()
                .map_or_else(Vec::new, |prepared| prepared.rules.clone()),
        }
    }
}

impl MitigationView {
    fn report(&self) -> MitigationReport {
        let mitigation = &*self.mitigation;
        MitigationReport {
            description: mitigation.description.clone(),
            cve: mitigation.cve.clone(),
            reference: mitigation.reference.clone(),
            side_effects: mitigation.side_effects.clone(),
            group: mitigation.group.clone(),
            actions: mitigation
                .actions
                .iter()
                .map(|action| ActionReport {
                    kind: action.kind.name(),
                    name: action.kind.target_name().to_owned(),
                    target: action.scope.to_string(),
                    description: action.description.clone(),
                })
                .collect(),
            state: self.state.name(),
            reason: joined([
                Some(self.state.reason()),
                self.unproven.clone(),
                self.stops.residue.clone(),
            ])
            .unwrap_or_default(),
            retirable: self.retirable.clone(),
            servers: self.stops.servers.clone(),
            warning: joined([
                self.prepared.as_ref().and_then(|own| own.warning.clone()),
                self.stops.warning.clone(),
            ]),
            hits: sum(&self.hits),
            would_stop: sum(&self.would_stop),
            would_change: sum(&self.would_change),
            samples: self.samples.of(&mitigation.id.to_string()),
            rules: self
                .prepared
                .as_ref()
                .map_or_else(Vec::new, |prepared| prepared.rules.clone()),
            ..blank(mitigation.id.to_string(), self.source.clone())
        }
    }
}

/// Texts that say something, in one line.
fn joined<const N: usize>(texts: [Option<String>; N]) -> Option<String> {
    let texts: Vec<String> = texts
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn sum(hits: &[Arc<AtomicU64>]) -> u64 {
    hits.iter().map(|hits| hits.load(Ordering::Relaxed)).sum()
}

fn blank(id: String, source: String) -> MitigationReport {
    MitigationReport {
        id,
        source,
        description: String::new(),
        cve: String::new(),
        reference: String::new(),
        side_effects: String::new(),
        group: String::new(),
        actions: Vec::new(),
        state: "",
        reason: String::new(),
        retirable: None,
        servers: Vec::new(),
        warning: None,
        hits: 0,
        would_stop: 0,
        would_change: 0,
        samples: Vec::new(),
        rules: Vec::new(),
    }
}
