//! The tower service: judge, then answer here or call the inner service.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Request, Response, StatusCode, request};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    Filter, FilterBody, FilterError, Observe, Peer, ResponseFilter, absolute_location, apply,
};
use crate::rules::{Decision, Scratch, Verdict};

/// A service with the filter in front of it.
///
/// A [`Peer`] among the request's extensions tells the filter about the connection; without one, rules that read
/// addresses or the scheme see none. A rule that aborts makes the call fail with [`FilterError::is_aborted`].
/// A `Rewrite` to another host is answered with 404, so that a rule cannot make an open proxy of the service.
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
/// // It is a service like any other: clone it for each worker.
/// let error = service.clone().oneshot(Request::get("/ecp/").body(())?).await.err();
/// assert!(error.is_some_and(|error| error.is_aborted()));
/// assert!(service.oneshot(Request::get("/").body(())?).await.is_ok());
/// # Ok(())
/// # }
/// ```
pub struct FilterService<S> {
    inner: S,
    filter: Filter,
    observer: Arc<dyn Observe>,
}

impl<S> FilterService<S> {
    pub(super) fn new(inner: S, filter: Filter, observer: Arc<dyn Observe>) -> Self {
        Self {
            inner,
            filter,
            observer,
        }
    }
}

impl<S: Clone> Clone for FilterService<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            filter: self.filter.clone(),
            observer: Arc::clone(&self.observer),
        }
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for FilterService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilterService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, Q, B> Service<Request<Q>> for FilterService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
{
    type Response = Response<FilterBody<B>>;
    type Error = FilterError<S::Error>;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(FilterError::service)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let peer = parts.extensions.get::<Peer>().copied().unwrap_or_default();
        let judged = self.filter.judge(0, &parts, &peer);
        self.observer.request(&judged, &parts);
        let answered = match &judged.paused {
            Some(_) => Some(Answer::Respond(unserved())),
            None => answer(&judged.decision, &parts, &peer),
        };
        match answered {
            Some(Answer::Abort) => ResponseFuture {
                state: State::Aborted,
            },
            Some(Answer::Respond(response)) => ResponseFuture {
                state: State::Answered {
                    response: Some(response),
                },
            },
            None => {
                apply(&judged.decision, &mut parts);
                if parts.uri.authority().is_some()
                    && matches!(judged.decision.verdict, Verdict::Rewrite { .. })
                {
                    let response = text(StatusCode::NOT_FOUND, "");
                    return ResponseFuture {
                        state: State::Answered {
                            response: Some(response),
                        },
                    };
                }
                let response = judged
                    .response
                    .map(|response| (response, Arc::clone(&self.observer)));
                if let Some((response, _)) = &response {
                    response.prepare(&mut parts);
                }
                let future = self.inner.call(Request::from_parts(parts, body));
                ResponseFuture {
                    state: State::Inner { future, response },
                }
            }
        }
    }
}

/// A stopped pool would have to serve the request.
fn unserved() -> Response<Bytes> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "");
    let seconds = HeaderValue::from(super::RETRY_AFTER.as_secs());
    response.headers_mut().insert(RETRY_AFTER, seconds);
    response
}

enum Answer {
    Abort,
    Respond(Response<Bytes>),
}

fn answer(decision: &Decision, parts: &request::Parts, peer: &Peer) -> Option<Answer> {
    if decision.failure.is_some() {
        return Some(Answer::Respond(text(StatusCode::INTERNAL_SERVER_ERROR, "")));
    }
    match &decision.verdict {
        Verdict::Abort => Some(Answer::Abort),
        Verdict::Pass | Verdict::Rewrite { .. } => None,
        Verdict::Redirect { status, location } => {
            let mut response = text(
                StatusCode::from_u16(*status).unwrap_or(StatusCode::FOUND),
                "",
            );
            response
                .headers_mut()
                .insert(LOCATION, absolute_location(location, parts, peer));
            Some(Answer::Respond(response))
        }
        Verdict::Respond {
            status,
            description,
            ..
        } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN);
            Some(Answer::Respond(text(status, description)))
        }
    }
}

fn text(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(text.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

thread_local! {
    /// A response may come back on another thread than its request left, so its memory belongs to the thread.
    /// The second one is for rules that are only watched.
    static RESPONSE_SCRATCH: RefCell<(Scratch, Scratch)> = RefCell::default();
}

pin_project! {
    /// The future of a [`FilterService`].
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
    /// use tower::{Layer, Service};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let text = r#"<rules><rule name="r"><match url="^ecp/" /><action type="AbortRequest" /></rule></rules>"#;
    /// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
    /// let layer = FilterLayer::new(Handle::new(Snapshot::single(Revision(1), rules)));
    /// let mut service = layer.layer(tower::service_fn(|_: Request<()>| async {
    ///     let response = Response::builder().header("content-type", "text/plain");
    ///     Ok::<_, std::io::Error>(response.body(Full::new(Bytes::from("a secret"))).unwrap_or_default())
    /// }));
    ///
    /// let future = service.call(Request::get("/").body(())?);
    /// assert_eq!(future.await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = ProjectedState]
    enum State<F> {
        Aborted,
        Answered { response: Option<Response<Bytes>> },
        Inner {
            #[pin]
            future: F,
            response: Option<(ResponseFilter, Arc<dyn Observe>)>,
        },
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<FilterBody<B>>, FilterError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            ProjectedState::Aborted => Poll::Ready(Err(FilterError::aborted())),
            ProjectedState::Answered { response } => {
                let response = response
                    .take()
                    .expect("a future is not polled after it was ready");
                Poll::Ready(Ok(response.map(FilterBody::text)))
            }
            ProjectedState::Inner {
                future,
                response: filter,
            } => {
                let response = ready!(future.poll(context)).map_err(FilterError::service)?;
                let (mut parts, body) = response.into_parts();
                if let Some((filter, observer)) = filter.take() {
                    let filtered = RESPONSE_SCRATCH.with_borrow_mut(|(scratch, watched)| {
                        filter.judge(&mut parts, scratch, watched)
                    });
                    observer.response(filter.snapshot(), &filtered.rules);
                    let body = match filtered.body {
                        Some(transform) => FilterBody::rewritten(body, transform, filtered.watch),
                        None => FilterBody::inner(body, filtered.watch),
                    };
                    return Poll::Ready(Ok(Response::from_parts(parts, body)));
                }
                let body = FilterBody::inner(body, None);
                Poll::Ready(Ok(Response::from_parts(parts, body)))
            }
        }
    }
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture")
    }
}
