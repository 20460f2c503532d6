//! What is shown, to whoever asks: the read-only address, the control socket, and clients of the welcome page.

use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::about::{About, UpstreamReport};
use super::page;
use crate::control::{ControlHandle, Status, TransitionReport};
use crate::telemetry::Metrics;

/// Everything that can be shown. Clones share it.
#[derive(Clone)]
pub struct View {
    inner: Arc<Inner>,
}

struct Inner {
    control: ControlHandle,
    metrics: Metrics,
    about: RwLock<Option<About>>,
    reloads: OnceLock<mpsc::Sender<ReloadOrder>>,
    ready: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    upstreams: OnceLock<Box<dyn Fn() -> Vec<UpstreamReport> + Send + Sync>>,
}

/// An order to read settings again: where to say what of them was refused.
pub type ReloadOrder = oneshot::Sender<Vec<String>>;

/// The status document.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    status: &'a Status,
    process: Option<About>,
    upstreams: Vec<UpstreamReport>,
}

impl View {
    /// A view of a process that does not listen yet.
    pub fn new(control: ControlHandle, metrics: Metrics) -> Self {
        Self {
            inner: Arc::new(Inner {
                control,
                metrics,
                about: RwLock::default(),
                reloads: OnceLock::new(),
                ready: OnceLock::new(),
                upstreams: OnceLock::new(),
            }),
        }
    }

    /// Says where the process listens, and how to find out whether it can serve traffic; the way to find out once, later
    /// calls do not change it.
    pub fn started(&self, about: About, ready: impl Fn() -> bool + Send + Sync + 'static) {
        *self.write_about() = Some(about);
        // Set by an earlier call already: that one stays.
        let _ = self.inner.ready.set(Box::new(ready));
    }

    /// Changes what is said of the process.
    pub fn renew(&self, change: impl FnOnce(&mut About)) {
        if let Some(about) = &mut *self.write_about() {
            change(about);
        }
    }

    fn write_about(&self) -> RwLockWriteGuard<'_, Option<About>> {
        let about = &self.inner.about;
        about.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn about(&self) -> Option<About> {
        let about = &self.inner.about;
        about.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The orders to read settings again, each with where to say what of them was refused; once, later calls get none.
    pub fn reloads(&self) -> mpsc::Receiver<ReloadOrder> {
        let (give, orders) = mpsc::channel(1);
        // Set by an earlier call already: that one stays.
        let _ = self.inner.reloads.set(give);
        orders
    }

    /// Has settings read again, if somebody does that here; what of them was refused.
    pub(super) async fn reload_settings(&self) -> Vec<String> {
        let Some(orders) = self.inner.reloads.get() else {
            return Vec::new();
        };
        let (answer, refused) = oneshot::channel();
        match orders.send(answer).await {
            Ok(()) => refused.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Says how to find out what has become of the upstreams; once, later calls change nothing.
    pub fn watch_upstreams(
        &self,
        report: impl Fn() -> Vec<UpstreamReport> + Send + Sync + 'static,
    ) {
        // Set by an earlier call already: that one stays.
        let _ = self.inner.upstreams.set(Box::new(report));
    }

    /// Answers a client of a site that has no servers: the welcome page at `/`, and a short text elsewhere.
    pub fn welcome(&self, request: &request::Parts) -> Response<Bytes> {
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        match (reads, request.uri.path()) {
            (true, "/") => self.page_with(None),
            _ => text(
                StatusCode::NOT_FOUND,
                "stopgap let this request pass; there is no server behind it yet (--upstream http://HOST)\n",
            ),
        }
    }

    /// The page for people who run this.
    pub(super) fn page(&self) -> Response<Bytes> {
        self.page_with(Some(&self.inner.control.history()))
    }

    /// The page; without a history for anybody.
    fn page_with(&self, history: Option<&[TransitionReport]>) -> Response<Bytes> {
        let status = self.inner.control.status();
        let page = page::render(self.about().as_ref(), &status, history);
        let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", page);
        let fields = response.headers_mut();
        fields.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(page::CONTENT_SECURITY_POLICY),
        );
        fields.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        );
        response
    }

    /// The status document as JSON.
    pub(super) fn status(&self) -> Response<Bytes> {
        let status = self.inner.control.status();
        let document = Document {
            status: &status,
            process: self.about(),
            upstreams: self
                .inner
                .upstreams
                .get()
                .map(|report| report())
                .unwrap_or_default(),
        };
        match serde_json::to_vec(&document) {
            Ok(body) => answer(StatusCode::OK, "application/json", body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        }
    }

    /// What became of every mitigation, oldest first, as JSON.
    pub(super) fn history(&self) -> Response<Bytes> {
        match serde_json::to_vec(&self.inner.control.history()[..]) {
            Ok(body) => answer(StatusCode::OK, "application/json", body),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        }
    }

    /// Every metric.
    pub(super) fn metrics(&self) -> Response<Bytes> {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        answer(StatusCode::OK, kind, self.inner.metrics.render())
    }

    /// Whether traffic can be served.
    pub(super) fn ready(&self) -> Response<Bytes> {
        match self.inner.ready.get().is_some_and(|ready| ready()) {
            true => text(StatusCode::OK, "ready\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        }
    }

    pub(super) fn control(&self) -> &ControlHandle {
        &self.inner.control
    }
}

/// A plain text, such as an error.
pub(super) fn text(status: StatusCode, text: &str) -> Response<Bytes> {
    answer(status, "text/plain; charset=utf-8", text.to_owned())
}

/// A response that no cache keeps and no browser takes for something else.
pub(super) fn answer(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
