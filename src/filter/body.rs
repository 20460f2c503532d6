//! The body of a filtered response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{BodyTransform, BodyWatch};

pin_project! {
    /// The inner service's body untouched or rewritten, or the text of an answer that a rule gave.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full};
    /// use stopgap::filter::{FilterLayer, Handle, Snapshot};
    /// use stopgap::model::Revision;
    /// use stopgap::rules::{RuleSet, SourceOrigin};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let text = r#"<outboundRules><rule name="r"><match pattern="secret" /><action type="Rewrite" value="word" /></rule></outboundRules>"#;
    /// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
    /// let layer = FilterLayer::new(Handle::new(Snapshot::single(Revision(1), rules)));
    /// let service = layer.layer(tower::service_fn(|_: Request<()>| async {
    ///     let response = Response::builder().header("content-type", "text/plain");
    ///     Ok::<_, std::io::Error>(response.body(Full::new(Bytes::from("a secret"))).unwrap_or_default())
    /// }));
    ///
    /// let body = service.oneshot(Request::get("/").body(())?).await?.into_body();
    /// assert_eq!(body.collect().await?.to_bytes(), "a word");
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Debug)]
    pub struct FilterBody<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = ProjectedSource]
    enum Source<B> {
        Inner { #[pin] body: B, watch: Option<Box<BodyWatch>> },
        Rewritten {
            #[pin]
            body: B,
            transform: Option<Box<BodyTransform>>,
            watch: Option<Box<BodyWatch>>,
        },
        Text { text: Bytes },
    }
}

impl<B> FilterBody<B> {
    pub(super) fn inner(body: B, watch: Option<BodyWatch>) -> Self {
        Self {
            source: Source::Inner {
                body,
                watch: watch.map(Box::new),
            },
        }
    }

    pub(super) fn rewritten(body: B, transform: BodyTransform, watch: Option<BodyWatch>) -> Self {
        Self {
            source: Source::Rewritten {
                body,
                transform: Some(Box::new(transform)),
                watch: watch.map(Box::new),
            },
        }
    }

    pub(super) const fn text(text: Bytes) -> Self {
        Self {
            source: Source::Text { text },
        }
    }
}

impl<B: Body> Body for FilterBody<B>
where
    B::Data: Buf,
{
    type Data = Data<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        match self.project().source.project() {
            ProjectedSource::Inner { body, watch } if watch.is_some() => {
                poll_watched(body, watch, context)
            }
            ProjectedSource::Inner { body, .. } => body
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(Data::Inner)))),
            ProjectedSource::Rewritten {
                body,
                transform,
                watch,
            } => {
                let polled = poll_rewritten(body, transform, context);
                if let Poll::Ready(Some(Ok(frame))) = &polled
                    && let (Some(watch), Some(Data::Text(text))) = (&mut *watch, frame.data_ref())
                {
                    watch.see(text);
                }
                if transform.is_none()
                    && let Some(watch) = watch.take()
                {
                    watch.finish();
                }
                polled
            }
            ProjectedSource::Text { text } if text.is_empty() => Poll::Ready(None),
            ProjectedSource::Text { text } => {
                Poll::Ready(Some(Ok(Frame::data(Data::Text(std::mem::take(text))))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Inner { body, .. } => body.is_end_stream(),
            Source::Rewritten { transform, .. } => transform.is_none(),
            Source::Text { text } => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Inner { body, .. } => body.size_hint(),
            Source::Rewritten { .. } => SizeHint::default(),
            Source::Text { text } => SizeHint::with_exact(text.len() as u64),
        }
    }
}

/// What polling a [`FilterBody`] over a body `B` gives.
type Polled<B> = Poll<Option<Result<Frame<Data<<B as Body>::Data>>, <B as Body>::Error>>>;

/// The next piece of a body that somebody looks on at.
fn poll_watched<B: Body>(
    mut body: Pin<&mut B>,
    watch: &mut Option<Box<BodyWatch>>,
    context: &mut Context<'_>,
) -> Polled<B> {
    let frame = ready!(body.as_mut().poll_frame(context));
    let frame = frame.map(|frame| {
        frame.map(|frame| {
            frame.map_data(|mut data| {
                let text = data.copy_to_bytes(data.remaining());
                if let Some(watch) = watch {
                    watch.see(&text);
                }
                Data::Text(text)
            })
        })
    });
    let ended = frame.is_none() || body.is_end_stream();
    if let Some(watch) = watch.take_if(|_| ended) {
        watch.finish();
    }
    Poll::Ready(frame)
}

/// The next piece of a rewritten body. Trailers are left behind: they speak of the body that was.
fn poll_rewritten<B: Body>(
    mut body: Pin<&mut B>,
    transform: &mut Option<Box<BodyTransform>>,
    context: &mut Context<'_>,
) -> Polled<B> {
    let piece = |text: Vec<u8>| Poll::Ready(Some(Ok(Frame::data(Data::Text(text.into())))));
    while let Some(rewriting) = transform {
        let mut text = Vec::new();
        match ready!(body.as_mut().poll_frame(context)) {
            Some(Ok(frame)) => {
                if let Ok(mut data) = frame.into_data() {
                    while data.has_remaining() {
                        let chunk = data.chunk();
                        let length = chunk.len();
                        rewriting.write(chunk, &mut text);
                        data.advance(length);
                    }
                }
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {
                if let Some(rewriting) = transform.take() {
                    rewriting.finish(&mut text);
                }
            }
        }
        if !text.is_empty() {
            return piece(text);
        }
    }
    Poll::Ready(None)
}

/// A piece of a [`FilterBody`].
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use stopgap::filter::{Data, FilterLayer, Handle, Snapshot};
/// use stopgap::model::Revision;
/// use stopgap::rules::{RuleSet, SourceOrigin};
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let text = r#"<outboundRules><rule name="r"><match pattern="secret" /><action type="Rewrite" value="word" /></rule></outboundRules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let layer = FilterLayer::new(Handle::new(Snapshot::single(Revision(1), rules)));
/// let service = layer.layer(tower::service_fn(|_: Request<()>| async {
///     let response = Response::builder().header("content-type", "text/plain");
///     Ok::<_, std::io::Error>(response.body(Full::new(Bytes::from("a secret"))).unwrap_or_default())
/// }));
///
/// let mut body = service.oneshot(Request::get("/").body(())?).await?.into_body();
/// let frame = body.frame().await.ok_or("a body has a frame")?.map_err(|_| "no body fails here")?;
/// // The rules wrote it anew, so it is our text and not the inner service's.
/// assert!(matches!(frame.into_data(), Ok(Data::Text(text)) if text == "a word"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum Data<D> {
    /// A piece of the inner service's body.
    Inner(D),
    /// A piece of our own answer, or of a body that was rewritten or looked on at.
    Text(Bytes),
}

impl<D: Buf> Buf for Data<D> {
    fn remaining(&self) -> usize {
        match self {
            Self::Inner(data) => data.remaining(),
            Self::Text(data) => data.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Inner(data) => data.chunk(),
            Self::Text(data) => data.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Inner(data) => data.advance(count),
            Self::Text(data) => data.advance(count),
        }
    }
}
