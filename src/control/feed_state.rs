//! What the control side remembers of one feed, and what of that is to be alarmed.

use std::sync::Arc;

use super::error::ControlError;
use crate::feed::{Feed, FeedConfig, FeedError, Fetched, Source as Place};
use crate::model::{Mitigation, UnixTime};
use crate::store::StateDir;
use crate::telemetry::{AlarmKind, Event};

/// What tells a feed from those that had its name or its place before. None is given twice.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct FeedNumber(u64);

impl FeedNumber {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A feed with what the engine remembers about it.
pub(super) struct FeedState {
    pub(super) number: FeedNumber,
    /// When it was first configured as it is.
    since: UnixTime,
    pub(super) feed: Feed,
    pub(super) mitigations: Vec<Arc<Mitigation>>,
    /// The kept document could not be used, or the accepted one not be kept.
    state_fault: Option<String>,
    signer_changed: bool,
}

/// What the age of a feed's last success means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Age {
    fresh: bool,
    /// Not the opposite of fresh: a feed that has only just been configured is neither.
    stale: bool,
}

/// A condition that holds now.
pub(super) type Condition = (AlarmKind, String, String);

impl FeedState {
    /// A feed that is configured from `since` on, with the document that was kept.
    pub(super) fn new(
        number: FeedNumber,
        config: &FeedConfig,
        state: &StateDir,
        since: UnixTime,
    ) -> Result<Self, ControlError> {
        let name = &config.name;
        let mut feed = Feed::new(config.clone(), state)
            .map_err(|error| ControlError::config(format!("feed {name}: {}", error.explain())))?;
        let state_fault = feed.restore().err().map(|error| error.explain());
        let mut state = Self {
            number,
            since,
            feed,
            mitigations: Vec::new(),
            state_fault,
            signer_changed: false,
        };
        state.adopt();
        Ok(state)
    }

    fn adopt(&mut self) {
        let offered = self.feed.accepted().map(|held| &held.document.mitigations);
        self.mitigations = offered
            .into_iter()
            .flatten()
            .cloned()
            .map(Arc::new)
            .collect();
    }

    pub(super) fn take(
        &mut self,
        place: &Place,
        fetched: Result<Fetched, FeedError>,
        now: UnixTime,
    ) -> bool {
        let accepted = fetched
            .inspect_err(|error| self.feed.fail_at(place, error))
            .and_then(|fetched| self.feed.take_from(place, &fetched, now));
        match accepted {
            Ok(acceptance) => {
                tracing::info!(
                    event_id = Event::FeedTaken.number(),
                    feed = self.feed.config().name,
                    %place,
                    changed = acceptance.changed,
                    "feed taken"
                );
                self.state_fault = acceptance.unkept.map(|error| error.explain());
                self.signer_changed = acceptance.signer_changed;
                if acceptance.changed {
                    self.adopt();
                }
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn age(&self, now: UnixTime) -> Age {
        let since = self.feed.last_success().unwrap_or(self.since);
        Age {
            fresh: self.feed.is_fresh(now),
            stale: self.has_expired(now) || now.since(since) > self.feed.config().stale_after,
        }
    }

    fn has_expired(&self, now: UnixTime) -> bool {
        self.feed.expires().is_some_and(|expires| expires <= now)
    }

    pub(super) fn conditions(&self, now: UnixTime, conditions: &mut Vec<Condition>) {
        let config = self.feed.config();
        for refusal in self.feed.refusals() {
            // Two places may fail in one way, and each is to be seen.
            let subject = match config.mirrors.is_empty() {
                true => config.name.clone(),
                false => format!("{} at {}", config.name, refusal.place),
            };
            conditions.push((refusal.alarm, subject, refusal.reason.clone()));
        }
        let mut add = |kind, reason: String| conditions.push((kind, config.name.clone(), reason));
        if let Some(reason) = &self.state_fault {
            add(AlarmKind::State, reason.clone());
        }
        if let Some(expires) = self.feed.expires().filter(|_| self.has_expired(now)) {
            let reason = format!(
                "expired at {expires}: its publisher has fallen silent, or somebody between holds new issues back; its \
                 rules stay in force"
            );
            add(AlarmKind::Stale, reason);
        } else if self.age(now).stale {
            let since = self.feed.last_success().unwrap_or(self.since);
            add(AlarmKind::Stale, format!("no success since {since}"));
        }
        let Some(accepted) = self.feed.accepted() else {
            return;
        };
        if self.signer_changed {
            let signer = accepted.signer;
            add(AlarmKind::SignerChanged, format!("now signed by {signer}"));
        }
        if let Some(reason) = in_one_line(&accepted.document.notices) {
            add(AlarmKind::UnknownContent, reason);
        }
        for nameless in &accepted.document.nameless {
            let subject = format!("{:?} of {}", nameless.id, config.name);
            conditions.push((AlarmKind::Refused, subject, nameless.reason.clone()));
        }
    }
}

/// The first of several notices and how many there are, since one subject has one alarm of a kind.
pub(super) fn in_one_line(notices: &[String]) -> Option<String> {
    match notices {
        [] => None,
        [only] => Some(only.clone()),
        [first, rest @ ..] => Some(format!("{first}, and {} more", rest.len())),
    }
}
