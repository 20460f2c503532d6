//! Counters, gauges and histograms, and the page that Prometheus reads.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter as PrometheusCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as PrometheusGauge;
use prometheus_client::metrics::histogram::Histogram as PrometheusHistogram;
use prometheus_client::registry::Registry;

/// A count that only grows.
pub type Counter = PrometheusCounter<u64, AtomicU64>;
/// A value that goes up and down.
pub type Gauge = PrometheusGauge<i64, AtomicI64>;
/// Durations in seconds, in buckets.
pub type Histogram = PrometheusHistogram;
/// One [`Counter`] for each value of a label.
pub type Counters<L> = Family<Labelled<L>, Counter>;
/// One [`Gauge`] for each value of a label.
pub type Gauges<L> = Family<Labelled<L>, Gauge>;

/// A closed enum used as a label.
pub trait Label: Clone + fmt::Debug + Eq + std::hash::Hash + Send + Sync + 'static {
    /// The label's name, such as `reason`.
    const NAME: &'static str;

    /// The label's value for this variant.
    fn value(&self) -> &str;
}

/// A [`Label`] as a label set of one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Labelled<L>(pub L);

impl<L: Label> EncodeLabelSet for Labelled<L> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        use prometheus_client::encoding::EncodeLabel;
        (L::NAME, self.0.value()).encode(encoder.encode_label())
    }
}

/// Every metric of one process. Clones share it.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// Registers a counter. The page adds `_total` to its name.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let metric = Counter::default();
        self.with(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    /// Registers a counter for each value of a label. The page adds `_total` to its name.
    pub fn counters<L: Label>(&self, name: &str, help: &str) -> Counters<L> {
        let metric = Counters::<L>::default();
        self.with(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let metric = Gauge::default();
        self.with(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    /// Registers a gauge for each value of a label.
    pub fn gauges<L: Label>(&self, name: &str, help: &str) -> Gauges<L> {
        let metric = Gauges::<L>::default();
        self.with(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    /// Registers a histogram of seconds with these upper bounds.
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let metric = Histogram::new(bounds.iter().copied());
        self.with(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    /// The page in OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut page = String::new();
        self.with(|registry| encode(&mut page, registry))
            .expect("writing to a string cannot fail");
        page
    }

    fn with<T>(&self, act: impl FnOnce(&mut Registry) -> T) -> T {
        act(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Eq, Hash, PartialEq)]
    enum Colour {
        Red,
    }

    impl Label for Colour {
        const NAME: &'static str = "colour";
        fn value(&self) -> &str {
            match self {
                Self::Red => "red",
            }
        }
    }

    #[test]
    fn page_shows_what_was_counted() {
        let metrics = Metrics::default();
        metrics.counter("stopgap_test_things", "Things").inc_by(2);
        metrics
            .counters("stopgap_test_colours", "Colours")
            .get_or_create(&Labelled(Colour::Red))
            .inc();
        let page = metrics.render();
        assert!(page.contains("stopgap_test_things_total 2\n"), "{page}");
        assert!(
            page.contains("stopgap_test_colours_total{colour=\"red\"} 1\n"),
            "{page}"
        );
    }
}
