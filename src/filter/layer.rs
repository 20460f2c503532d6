//! The tower layer.

use std::sync::Arc;

use http::request;
use tower_layer::Layer;

use super::{Filter, FilterService, Handle, Judged, Snapshot};
use crate::rules::RuleId;

/// Wraps services in a [`FilterService`].
#[derive(Clone)]
pub struct FilterLayer {
    handle: Handle,
    observer: Arc<dyn Observe>,
}

/// Hears what the filter decided, to log or count it. Called on the request path: it must not wait.
pub trait Observe: Send + Sync {
    /// A request was judged.
    fn request(&self, judged: &Judged, parts: &request::Parts) {
        let _ = (judged, parts);
    }

    /// Response rules of `snapshot` acted on a response.
    fn response(&self, snapshot: &Snapshot, rules: &[RuleId]) {
        let _ = (snapshot, rules);
    }
}

/// Hears everything and does nothing.
struct Deaf;

impl Observe for Deaf {}

impl FilterLayer {
    /// A layer that judges by what `handle` holds.
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            observer: Arc::new(Deaf),
        }
    }

    /// Tells `observer` every decision.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observe>) -> Self {
        self.observer = observer;
        self
    }
}

impl<S> Layer<S> for FilterLayer {
    type Service = FilterService<S>;

    fn layer(&self, inner: S) -> FilterService<S> {
        FilterService::new(
            inner,
            Filter::new(self.handle.clone()),
            Arc::clone(&self.observer),
        )
    }
}

impl std::fmt::Debug for FilterLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilterLayer")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
