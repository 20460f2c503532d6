//! Bodies on their way through, both directions, never held whole.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::ProxyError;
use super::bond::Lease;
use super::exchange::Exchange;
use super::headers::forward_trailers;
use crate::filter::{BodyTransform, BodyWatch};
use crate::net::{Http2Body, IncomingBody};

/// A client's body as it comes, by whichever protocol.
pub(super) enum ClientBody {
    /// There is none, not even an empty one.
    None,
    Http1(IncomingBody),
    Http2(Http2Body),
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body)
                .poll_frame(context)
                .map(|next| next.map(|next| next.map_err(ProxyError::request_body))),
            Self::Http2(body) => Pin::new(body)
                .poll_frame(context)
                .map(|next| next.map(|next| next.map_err(ProxyError::request_body))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// A client's body on its way to a server, and what trails it.
///
/// A client that sent `Expect: 100-continue` gets its 100 when this is polled first, which is once a server is
/// connected and has been sent the head; the server's own 100 comes to nothing (RFC 9110 section 10.1.1).
pub(super) struct RequestBody {
    incoming: ClientBody,
    exchange: Rc<Exchange>,
}

impl RequestBody {
    pub(super) fn new(incoming: ClientBody, exchange: &Rc<Exchange>) -> Self {
        let incoming = match incoming.is_end_stream() {
            true => {
                exchange.end_request();
                ClientBody::None
            }
            false => {
                exchange.await_server(0);
                incoming
            }
        };
        Self {
            incoming,
            exchange: Rc::clone(exchange),
        }
    }

    /// Whether there is no body, not even an empty one.
    pub(super) const fn is_none(&self) -> bool {
        matches!(self.incoming, ClientBody::None)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        if this.is_none() {
            return Poll::Ready(None);
        }
        let incoming = &mut this.incoming;
        loop {
            return match Pin::new(&mut *incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    let count = frame.data_ref().map_or(0, Bytes::len);
                    this.exchange.await_server(count);
                    if incoming.is_end_stream() {
                        this.exchange.end_request();
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_trailers() {
                    Ok(mut fields) => {
                        forward_trailers(&mut fields);
                        this.exchange.end_request();
                        Poll::Ready(Some(Ok(Frame::trailers(fields))))
                    }
                    Err(_) => continue,
                },
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    this.exchange.end_request();
                    Poll::Ready(None)
                }
                Poll::Pending => {
                    this.exchange.await_client();
                    Poll::Pending
                }
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A body on its way to the client.
pub(super) struct ResponseBody {
    kind: Kind,
    exchange: Rc<Exchange>,
}

enum Kind {
    Full(Bytes),
    Server(ServerBody),
}

/// A server's body, with the connection it comes on.
struct ServerBody {
    /// What the body has to go through until its end was seen, if rules want to rewrite it.
    transform: Option<Box<BodyTransform>>,
    /// What looks on until the end was seen, if rules that are only watched want to.
    watch: Option<Box<BodyWatch>>,
    /// Whether the end was seen by the client's side; that of a body without an announced length has to be asked for.
    ended: bool,
    lease: Lease,
}

impl ResponseBody {
    /// A body of ours.
    pub(super) fn full(bytes: Bytes, exchange: Rc<Exchange>) -> Self {
        Self {
            kind: Kind::Full(bytes),
            exchange,
        }
    }

    /// A server's body, with the connection it comes on.
    pub(super) fn server(
        transform: Option<BodyTransform>,
        watch: Option<BodyWatch>,
        lease: Lease,
        exchange: Rc<Exchange>,
    ) -> Self {
        Self {
            kind: Kind::Server(ServerBody {
                transform: transform.map(Box::new),
                watch: watch.map(Box::new),
                ended: false,
                lease,
            }),
            exchange,
        }
    }
}

impl ServerBody {
    /// The next piece of a body that is rewritten. Trailers are left behind: they speak of the body that was.
    fn poll_rewritten(
        &mut self,
        exchange: &Exchange,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        while let Some(transform) = &mut self.transform {
            let mut text = Vec::new();
            match self.lease.poll_body(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    exchange.got_response();
                    if let Ok(data) = frame.into_data() {
                        transform.write(&data, &mut text);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    self.ended = true;
                    let skip = self.transform.take().and_then(|all| all.finish(&mut text));
                    if let Some(skip) = skip {
                        exchange.count_skip(skip);
                    }
                }
                Poll::Pending if exchange.is_server_late() => {
                    return Poll::Ready(Some(Err(ProxyError::response_timeout())));
                }
                Poll::Pending => {
                    exchange.await_response();
                    return Poll::Pending;
                }
            }
            if !text.is_empty() {
                exchange.add_bytes(text.len());
                self.look_on(&text);
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
        }
        self.end_watch();
        Poll::Ready(None)
    }

    /// Shows a piece to what looks on.
    fn look_on(&mut self, piece: &[u8]) {
        if let Some(watch) = &mut self.watch {
            watch.see(piece);
        }
    }

    /// Tells what looks on that the body has ended.
    fn end_watch(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.finish();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        let next = this.poll_next(context);
        if let Poll::Ready(Some(Err(error))) = &next {
            this.exchange.blame(error.party());
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Server(body) => body.transform.is_none() && body.lease.is_body_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Server(body) if body.transform.is_some() => SizeHint::default(),
            Kind::Server(body) => body.lease.size_hint(),
        }
    }
}

impl ResponseBody {
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self;
        let body = match &mut this.kind {
            Kind::Full(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Kind::Full(bytes) => {
                this.exchange.add_bytes(bytes.len());
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))));
            }
            Kind::Server(body) if body.transform.is_some() => {
                return body.poll_rewritten(&this.exchange, context);
            }
            Kind::Server(body) => body,
        };
        match body.lease.poll_body(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.exchange.got_response();
                let data = frame.data_ref().map_or(&[][..], Bytes::as_ref);
                this.exchange.add_bytes(data.len());
                body.look_on(data);
                body.ended = frame.is_trailers();
                if body.ended || body.watch.is_some() && body.lease.is_body_ended() {
                    body.end_watch();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => {
                body.ended = true;
                body.end_watch();
                Poll::Ready(None)
            }
            Poll::Pending if this.exchange.is_server_late() => {
                Poll::Ready(Some(Err(ProxyError::response_timeout())))
            }
            Poll::Pending => {
                this.exchange.await_response();
                Poll::Pending
            }
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Kind::Server(body) = &mut self.kind else {
            self.exchange.link().finish();
            return;
        };
        self.exchange.end_response();
        if body.ended || body.lease.is_body_ended() {
            body.lease.release();
        } else {
            body.lease.abandon();
        }
    }
}
