//! Counts the orders to sidecars by how they ended.

use crate::mitigation::{Answer, Effect};
use crate::telemetry::{Counters, Gauges, Label, Labelled, Metrics};

/// What is counted.
#[derive(Debug)]
pub(super) struct Measures {
    up: Gauges<ServerName>,
    orders: Counters<OrderEnd>,
}

/// The name of a server: as many values as the settings have servers.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct ServerName(String);

/// How an order ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum OrderEnd {
    Carried,
    Failed,
    Unknown,
}

impl Label for ServerName {
    const NAME: &'static str = "server";

    fn value(&self) -> &str {
        &self.0
    }
}

impl Label for OrderEnd {
    const NAME: &'static str = "outcome";

    fn value(&self) -> &str {
        match self {
            Self::Carried => "carried",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl Measures {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            up: metrics.gauges(
                "stopgap_control_sidecar_up",
                "Whether the sidecar of a server answered the last time it was asked",
            ),
            orders: metrics.counters(
                "stopgap_control_sidecar_orders",
                "Orders to sidecars, looks included, by how they ended",
            ),
        }
    }

    /// Counts an answer of a server.
    pub(super) fn take(&self, server: &str, answer: &Answer) {
        let end = match answer {
            Answer::Unknown(_) | Answer::Unreachable(_) => OrderEnd::Unknown,
            Answer::Carried(effects)
                if effects
                    .values()
                    .any(|effect| matches!(effect, Effect::Failed(_))) =>
            {
                OrderEnd::Failed
            }
            Answer::Carried(_) | Answer::Held(_) => OrderEnd::Carried,
        };
        self.orders.get_or_create(&Labelled(end)).inc();
        let name = Labelled(ServerName(server.to_owned()));
        let up = i64::from(end != OrderEnd::Unknown);
        self.up.get_or_create(&name).set(up);
    }
}
