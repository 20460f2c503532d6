//! The tower layer.

use std::sync::Arc;

use http::request;
use tower_layer::Layer;

use super::{Filter, FilterService, Handle, Judged, Snapshot};
use crate::rules::RuleId;

/// Wraps services in a [`FilterService`].
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use stopgap::filter::{FilterLayer, Handle, Snapshot};
/// use stopgap::model::Revision;
/// use stopgap::rules::{RuleSet, SourceOrigin};
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let text = r#"<rules><rule name="r"><match url="^ecp/" /><action type="AbortRequest" /></rule></rules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let layer = FilterLayer::new(Handle::new(Snapshot::single(Revision(1), rules)));
/// let service = layer.layer(tower::service_fn(|_: Request<()>| async {
///     let response = Response::builder().header("content-type", "text/plain");
///     Ok::<_, std::io::Error>(response.body(Full::new(Bytes::from("a secret"))).unwrap_or_default())
/// }));
///
/// let response = service.oneshot(Request::get("/owa/").body(())?).await?;
/// assert_eq!(response.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FilterLayer {
    handle: Handle,
    observer: Arc<dyn Observe>,
}

/// Hears what the filter decided, to log or count it. Called on the request path: it must not wait.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use stopgap::filter::{FilterLayer, Handle, Judged, Observe, Snapshot};
/// use stopgap::model::Revision;
/// use stopgap::rules::RuleSet;
///
/// #[derive(Default)]
/// struct Stops(AtomicU64);
///
/// impl Observe for Stops {
///     fn request(&self, judged: &Judged, _: &http::request::Parts) {
///         if judged.decision.verdict.stops() {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let stops = Arc::new(Stops::default());
/// let handle = Handle::new(Snapshot::single(Revision(1), RuleSet::empty()));
/// let layer = FilterLayer::new(handle).observed_by(Arc::clone(&stops) as Arc<dyn Observe>);
/// # let _ = layer;
/// ```
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
