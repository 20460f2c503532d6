//! Why a filtered service gave no response.

use std::fmt;

/// The error of a [`FilterService`](super::FilterService).
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
/// let error = service.oneshot(Request::get("/ecp/").body(())?).await.err().ok_or("it was aborted")?;
/// assert!(error.is_aborted());
/// assert!(error.into_service().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FilterError<E> {
    kind: Kind<E>,
}

#[derive(Debug)]
enum Kind<E> {
    Aborted,
    Service(E),
}

impl<E> FilterError<E> {
    pub(super) const fn aborted() -> Self {
        Self {
            kind: Kind::Aborted,
        }
    }

    pub(super) const fn service(error: E) -> Self {
        Self {
            kind: Kind::Service(error),
        }
    }

    /// Whether a rule aborted the request: the server must end the connection without a response. hyper does so
    /// when a service fails.
    pub const fn is_aborted(&self) -> bool {
        matches!(self.kind, Kind::Aborted)
    }

    /// The inner service's own error.
    pub fn into_service(self) -> Option<E> {
        match self.kind {
            Kind::Aborted => None,
            Kind::Service(error) => Some(error),
        }
    }
}

impl<E> fmt::Display for FilterError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Aborted => f.write_str("a rule aborted the request"),
            Kind::Service(_) => f.write_str("the filtered service failed"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for FilterError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Aborted => None,
            Kind::Service(error) => Some(error),
        }
    }
}
