//! The control side's own metrics.

use std::collections::BTreeMap;

use super::exceptions::EXCEPTION_STATES;
use super::plan::Hits;
use crate::mitigation::State;
use crate::model::UnixTime;
use crate::telemetry::{Counter, Counters, Gauges, Label, Labelled, Metrics};

/// Counters and gauges of the control side.
#[derive(Debug)]
pub(super) struct Measures {
    pub(super) swaps: Counter,
    mitigations: Gauges<StateName>,
    feeds: Gauges<FeedName>,
    exceptions: Gauges<ExceptionState>,
    watched: Counters<Watched>,
}

/// The name of a state.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct StateName(&'static str);

impl Label for StateName {
    const NAME: &'static str = "state";

    fn value(&self) -> &str {
        self.0
    }
}

/// The state of an exception.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct ExceptionState(&'static str);

impl Label for ExceptionState {
    const NAME: &'static str = "state";

    fn value(&self) -> &str {
        self.0
    }
}

/// What rules that are only watched would have done.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Watched {
    Change,
    Stop,
}

impl Label for Watched {
    const NAME: &'static str = "act";

    fn value(&self) -> &str {
        match self {
            Self::Change => "change",
            Self::Stop => "stop",
        }
    }
}

/// The name of a feed: as many values as the configuration has feeds.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct FeedName(String);

impl Label for FeedName {
    const NAME: &'static str = "feed";

    fn value(&self) -> &str {
        &self.0
    }
}

impl Measures {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            swaps: metrics.counter("stopgap_control_swaps", "Rule sets published"),
            mitigations: metrics.gauges(
                "stopgap_control_mitigations",
                "Mitigations by the state they are in",
            ),
            feeds: metrics.gauges(
                "stopgap_feed_last_success_timestamp_seconds",
                "When each feed was last fetched and accepted, in seconds since 1970",
            ),
            exceptions: metrics.gauges(
                "stopgap_control_exceptions",
                "Exceptions from mitigations by the state they are in",
            ),
            watched: metrics.counters(
                "stopgap_control_watched",
                "Requests that mitigations in audit mode would have stopped, and responses that they would have changed",
            ),
        }
    }

    /// Sets the count of every state of exceptions.
    pub(super) fn count_exceptions<'a>(&self, states: impl Iterator<Item = &'a str> + Clone) {
        for name in EXCEPTION_STATES {
            let count = states.clone().filter(|state| *state == name).count();
            let gauge = self
                .exceptions
                .get_or_create(&Labelled(ExceptionState(name)));
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Sets the count of every state; one that no mitigation is in any more falls to zero.
    pub(super) fn count_states<'a>(&self, states: impl Iterator<Item = &'a State>) {
        let mut counts: BTreeMap<StateName, i64> = State::NAMES
            .iter()
            .map(|name| (StateName(name), 0))
            .collect();
        for state in states {
            *counts.entry(StateName(state.name())).or_default() += 1;
        }
        for (name, count) in counts {
            self.mitigations.get_or_create(&Labelled(name)).set(count);
        }
    }

    /// Brings the counts of what is only watched up to date.
    pub(super) fn count_watched(&self, hits: &Hits) {
        let [stopped, changed] = hits.watched();
        for (act, count) in [(Watched::Stop, stopped), (Watched::Change, changed)] {
            let counter = self.watched.get_or_create(&Labelled(act));
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Shows nothing of a feed that went.
    pub(super) fn feed_gone(&self, name: &str) {
        self.feeds.remove(&Labelled(FeedName(name.to_owned())));
    }

    pub(super) fn feed_succeeded(&self, name: &str, time: UnixTime) {
        let seconds = i64::try_from(time.seconds()).unwrap_or(i64::MAX);
        let gauge = Labelled(FeedName(name.to_owned()));
        self.feeds.get_or_create(&gauge).set(seconds);
    }
}
