//! One request of a connection that has many, from its head to the last byte of its answer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use http_body::Body as _;

use crate::net::{Http2Answer, Http2Request, Http2Watch, Link, Slot};
use crate::proxy::body::{ClientBody, ResponseBody};
use crate::proxy::service::{Answered, Begun, Client, Errand};

/// Answers a request of this connection as if it had come alone: at once if that is possible, and otherwise in a task
/// of its own.
pub(super) fn serve(
    connection: &Client,
    watch: &Http2Watch,
    request: Http2Request,
    context: &mut Context<'_>,
) {
    let core = &connection.core;
    let (deadlines, registration) = core.clock.register();
    let least = core.shared.config.limits.body_minimum;
    let link = Link::of_stream(deadlines, registration, least);
    link.begin();
    let client = connection.of_stream(link);
    let Http2Request {
        parts,
        body,
        answer,
    } = request;
    let working = Working::begin(watch);
    match client.begin(parts.into(), ClientBody::Http2(body)) {
        Ok(Begun::Forward(errand)) => {
            // In a box, since a task moves what it runs several times before it begins.
            tokio::task::spawn_local(Box::pin(forward(client, errand, answer, working)));
        }
        Ok(Begun::Answered(reply)) => {
            let Some(mut sending) = Sending::begin(&client, Ok(reply), answer) else {
                return;
            };
            if sending.poll(context).is_pending() {
                tokio::task::spawn_local(send(client, sending, working));
            }
        }
        Err(reset) => drop(Sending::begin(&client, Err(reset), answer)),
    }
}

/// Has a server answer a request, and hands its answer over.
async fn forward(client: Client, errand: Errand, mut answer: Http2Answer, working: Working) {
    let answered = {
        let mut running = pin!(client.run(errand));
        poll_fn(|context| {
            client.link.deadlines().watch(context);
            if let Poll::Ready(answered) = running.as_mut().poll(context) {
                return Poll::Ready(Some(answered));
            }
            answer.go_on();
            match answer.poll_given_up(context).is_ready() || is_late(&client.link) {
                true => Poll::Ready(None),
                false => Poll::Pending,
            }
        })
        .await
    };
    let Some(answered) = answered else {
        return;
    };
    if let Some(sending) = Sending::begin(&client, answered, answer) {
        send(client, sending, working).await;
    }
}

/// Hands a response over, for as long as the client takes it.
async fn send(client: Client, mut sending: Sending, _working: Working) {
    poll_fn(|context| {
        client.link.deadlines().watch(context);
        match sending.poll(context) {
            Poll::Pending if !is_late(&client.link) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

/// Whether the client let its own stream rest for too long.
fn is_late(link: &Link) -> bool {
    link.deadlines().has_passed(Slot::Write) || (link.is_responding() && link.is_body_late())
}

/// A response that is handed over. What is dropped before its end is reset.
struct Sending {
    body: ResponseBody,
    answer: Http2Answer,
}

impl Sending {
    /// Begins with the head; `None` if nothing is to follow.
    fn begin(client: &Client, answered: Answered, mut answer: Http2Answer) -> Option<Self> {
        client.link.respond();
        client
            .link
            .await_taking(client.core.shared.config.limits.body_timeout);
        let reply = match answered {
            Ok(reply) => reply,
            Err(reset) => {
                answer.reset(reset.reset());
                return None;
            }
        };
        let (parts, body) = (reply.head.into_parts(), reply.body);
        let length = match body.is_end_stream() {
            true => Some(0),
            false => body.size_hint().exact(),
        };
        match answer.head(parts, length) {
            Ok(goes_on) => goes_on.then_some(Self { body, answer }),
            Err(_) => {
                answer.fail();
                None
            }
        }
    }

    /// Hands over what there is; ready when that was all of it, or the stream has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if ready!(self.answer.poll_send(context)).is_err() {
                return Poll::Ready(());
            }
            if self.answer.is_ended() {
                return Poll::Ready(());
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.answer.push(data, self.body.is_end_stream()),
                    Err(frame) => {
                        let trailers = frame.into_trailers().ok();
                        // A stream that has ended is told so when it is asked next.
                        let _ = self.answer.end(trailers);
                        return Poll::Ready(());
                    }
                },
                Poll::Ready(Some(Err(_))) => {
                    self.answer.fail();
                    return Poll::Ready(());
                }
                Poll::Ready(None) => {
                    let _ = self.answer.end(None);
                    return Poll::Ready(());
                }
                Poll::Pending => return self.answer.poll_given_up(context),
            }
        }
    }
}

/// Counts one stream until it is dropped.
struct Working(Http2Watch);

impl Working {
    fn begin(watch: &Http2Watch) -> Self {
        watch.begin();
        Self(watch.clone())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.finish();
    }
}
