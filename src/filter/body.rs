//! The body of a filtered response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::BodyTransform;

pin_project! {
    /// The inner service's body untouched or rewritten, or the text of an answer that a rule gave.
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
        Inner { #[pin] body: B },
        Rewritten { #[pin] body: B, transform: Option<Box<BodyTransform>> },
        Text { text: Bytes },
    }
}

impl<B> FilterBody<B> {
    pub(super) const fn inner(body: B) -> Self {
        Self {
            source: Source::Inner { body },
        }
    }

    pub(super) fn rewritten(body: B, transform: BodyTransform) -> Self {
        Self {
            source: Source::Rewritten {
                body,
                transform: Some(Box::new(transform)),
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
            ProjectedSource::Inner { body } => body
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(Data::Inner)))),
            ProjectedSource::Rewritten { body, transform } => {
                poll_rewritten(body, transform, context)
            }
            ProjectedSource::Text { text } if text.is_empty() => Poll::Ready(None),
            ProjectedSource::Text { text } => {
                Poll::Ready(Some(Ok(Frame::data(Data::Text(std::mem::take(text))))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Inner { body } => body.is_end_stream(),
            Source::Rewritten { transform, .. } => transform.is_none(),
            Source::Text { text } => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Inner { body } => body.size_hint(),
            Source::Rewritten { .. } => SizeHint::default(),
            Source::Text { text } => SizeHint::with_exact(text.len() as u64),
        }
    }
}

/// What polling a [`FilterBody`] over a body `B` gives.
type Polled<B> = Poll<Option<Result<Frame<Data<<B as Body>::Data>>, <B as Body>::Error>>>;

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
#[derive(Debug)]
pub enum Data<D> {
    /// A piece of the inner service's body.
    Inner(D),
    /// A piece of our own answer, or of a body that was rewritten.
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
