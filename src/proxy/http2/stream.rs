//! One request of a connection that has many, from its head to the last byte of its answer.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::Service;
use pin_project_lite::pin_project;

use crate::net::{Http2Watch, Link, Slot};
use crate::proxy::body::{ClientBody, ResponseBody};
use crate::proxy::service::{Client, NoAnswer};

/// Answers the requests of one client connection, each as if it had come alone.
pub(super) struct StreamService {
    /// The connection, which each stream copies.
    pub(super) client: Rc<Client>,
    /// The link of the stream that was begun last, for its task.
    pub(super) begun: Rc<Cell<Option<Link>>>,
}

impl Service<Request<Incoming>> for StreamService {
    type Response = Response<ResponseBody>;
    type Error = NoAnswer;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, NoAnswer>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let core = Rc::clone(&self.client.core);
        let (deadlines, registration) = core.clock.register();
        let least = core.shared.config.limits.body_minimum;
        let link = Link::of_stream(deadlines, registration, least);
        link.begin();
        self.begun.set(Some(link.clone()));
        let client = Rc::new(self.client.of_stream(link));
        let (parts, body) = request.into_parts();
        Box::pin(async move {
            let answer = client.answer(parts.into(), ClientBody::Http2(body)).await;
            client.link.respond();
            client
                .link
                .await_taking(core.shared.config.limits.body_timeout);
            answer.map(|reply| Response::from_parts(reply.head.into_parts(), reply.body))
        })
    }
}

/// Runs the streams of one connection, each in a task of its own.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) begun: Rc<Cell<Option<Link>>>,
    pub(super) watch: Http2Watch,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        self.watch.begin();
        tokio::task::spawn_local(Stream {
            future,
            link: self.begun.take(),
            _working: Working(self.watch.clone()),
        });
    }
}

pin_project! {
    /// A stream's task, which gives the stream up when its client lets it rest for too long.
    struct Stream<F> {
        #[pin]
        future: F,
        link: Option<Link>,
        _working: Working,
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if let Some(link) = this.link {
            link.deadlines().watch(context);
        }
        if this.future.poll(context).is_ready() {
            return Poll::Ready(());
        }
        let is_late = |link: &Link| {
            let deadlines = link.deadlines();
            deadlines.has_passed(Slot::Write) || (link.is_responding() && link.is_body_late())
        };
        match this.link {
            // The library resets a stream that is dropped.
            Some(link) if is_late(link) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

/// Counts one stream until it is dropped.
struct Working(Http2Watch);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.finish();
    }
}
