//! Conditions that a person must see, each raised once for each distinct reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::events::Event;
use super::metrics::{Counters, Gauges, Label, Labelled, Metrics};
use crate::model::UnixTime;

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum AlarmKind {
    /// A listener other than the traffic ones could not be bound.
    AdminUnavailable,
    /// Certificates of a TLS listener could not be read again.
    Certificate,
    /// Two feeds carry one mitigation with different content.
    Conflict,
    /// Rules cannot be compiled.
    DoesNotCompile,
    /// A mitigation is in force and does not do what it should.
    Drifted,
    /// A feed carries two documents under one version, or signed in one second.
    Equivocation,
    /// A feed's document was issued ahead of this clock.
    Future,
    /// A document, a rule set, or one mitigation of it, was refused before the swap for another reason than the ones
    /// that have a kind of their own.
    Refused,
    /// A feed's document went back in time.
    Rollback,
    /// A feed's newest root has expired, so that nobody vouches for its keys.
    RootExpired,
    /// A feed's next root was refused.
    RootRefused,
    /// A sidecar cannot be asked, cannot work, or has not restored what it stopped.
    Sidecar,
    /// A feed's signature was refused.
    SignatureRefused,
    /// A feed's signer is not the one that signed before.
    SignerChanged,
    /// A feed has not been fetched for too long.
    Stale,
    /// State could not be read or written.
    State,
    /// A feed carries an element or attribute that is not known.
    UnknownContent,
    /// A feed could not be fetched.
    Unreachable,
    /// A mitigation's vectors did not behave as written.
    VectorsFailed,
    /// A feed's document is another feed's.
    WrongFeed,
}

impl Label for AlarmKind {
    const NAME: &'static str = "kind";

    fn value(&self) -> &str {
        match self {
            Self::AdminUnavailable => "admin_unavailable",
            Self::Certificate => "certificate",
            Self::Conflict => "conflict",
            Self::DoesNotCompile => "does_not_compile",
            Self::Drifted => "drifted",
            Self::Equivocation => "equivocation",
            Self::Future => "future",
            Self::Refused => "refused",
            Self::Rollback => "rollback",
            Self::RootExpired => "root_expired",
            Self::RootRefused => "root_refused",
            Self::Sidecar => "sidecar",
            Self::SignatureRefused => "signature_refused",
            Self::SignerChanged => "signer_changed",
            Self::Stale => "stale",
            Self::State => "state",
            Self::UnknownContent => "unknown_content",
            Self::Unreachable => "unreachable",
            Self::VectorsFailed => "vectors_failed",
            Self::WrongFeed => "wrong_feed",
        }
    }
}

/// A condition that holds now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alarm {
    /// What is wrong.
    pub kind: AlarmKind,
    /// What it is about: a feed, a mitigation, a file.
    pub subject: String,
    /// Why, for people.
    pub reason: String,
    /// When this reason was first seen.
    pub since: UnixTime,
}

/// An alarm and every reason it was raised with since it began.
#[derive(Debug)]
struct Active {
    alarm: Alarm,
    reasons: Vec<String>,
}

/// Reasons remembered for one alarm; a source that keeps finding new ones is logged again after that many.
const REASONS: usize = 32;

/// The alarms of one process. Clones share them.
///
/// An alarm is logged and counted once for each distinct reason from its beginning to its end, so that a source
/// which fails in the same two ways over and over is not told over and over.
#[derive(Clone, Debug)]
pub struct Alarms {
    active: Arc<Mutex<BTreeMap<(AlarmKind, String), Active>>>,
    raised: Counters<AlarmKind>,
    held: Gauges<AlarmKind>,
}

impl Alarms {
    /// An empty list that counts into `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        let raised = metrics.counters(
            "stopgap_alarms_raised",
            "Alarms raised, one for each distinct reason",
        );
        let held = metrics.gauges("stopgap_alarms_active", "Alarms that hold now");
        for kind in AlarmKind::ALL {
            // A monitor can tell a zero from a metric that is not there.
            held.get_or_create(&Labelled(kind)).set(0);
        }
        Self {
            active: Arc::default(),
            raised,
            held,
        }
    }

    /// Raises an alarm; `true` if its reason is new.
    pub fn raise(&self, kind: AlarmKind, subject: &str, reason: &str, now: UnixTime) -> bool {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let alarm = Alarm {
            kind,
            subject: subject.to_owned(),
            reason: reason.to_owned(),
            since: now,
        };
        let entry = active.entry((kind, subject.to_owned())).or_insert_with(|| {
            self.held.get_or_create(&Labelled(kind)).inc();
            Active {
                alarm: alarm.clone(),
                reasons: Vec::new(),
            }
        });
        if entry.alarm.reason != reason {
            entry.alarm = alarm;
        }
        if entry.reasons.iter().any(|known| known == reason) {
            return false;
        }
        if entry.reasons.len() == REASONS {
            entry.reasons.remove(0);
        }
        entry.reasons.push(reason.to_owned());
        drop(active);
        self.raised.get_or_create(&Labelled(kind)).inc();
        let event_id = kind.event();
        tracing::warn!(target: "stopgap::alarm", event_id, kind = kind.value(), subject, reason, "alarm");
        true
    }

    /// Ends an alarm, whatever its reason.
    pub fn clear(&self, kind: AlarmKind, subject: &str) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.remove(&(kind, subject.to_owned())).is_some() {
            drop(active);
            self.held.get_or_create(&Labelled(kind)).dec();
            let event_id = Event::AlarmEnded.number();
            tracing::info!(target: "stopgap::alarm", event_id, kind = kind.value(), subject, "alarm ended");
        }
    }

    /// The alarms that hold now, ordered by kind and subject.
    pub fn active(&self) -> Vec<Alarm> {
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(|active| active.alarm.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_counts_once() {
        let metrics = Metrics::default();
        let alarms = Alarms::new(&metrics);
        let now = UnixTime::new(0);
        assert!(alarms.raise(AlarmKind::Refused, "a.xml", "line 1", now));
        assert!(!alarms.raise(AlarmKind::Refused, "a.xml", "line 1", now));
        assert!(alarms.raise(AlarmKind::Refused, "a.xml", "line 2", now));
        assert!(!alarms.raise(AlarmKind::Refused, "a.xml", "line 1", now));
        assert!(
            metrics
                .render()
                .contains("stopgap_alarms_raised_total{kind=\"refused\"} 2")
        );
        assert_eq!(alarms.active().len(), 1);
        let held = |number| format!("stopgap_alarms_active{{kind=\"refused\"}} {number}\n");
        assert!(metrics.render().contains(&held(1)));
        alarms.clear(AlarmKind::Refused, "a.xml");
        alarms.clear(AlarmKind::Refused, "a.xml");
        assert!(alarms.active().is_empty());
        assert!(metrics.render().contains(&held(0)));
    }
}
