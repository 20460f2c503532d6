//! The body of a filtered response.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The inner service's body untouched, or the text of an answer that a rule gave.
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
        Text { text: Bytes },
    }
}

impl<B> FilterBody<B> {
    pub(super) const fn inner(body: B) -> Self {
        Self {
            source: Source::Inner { body },
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
            ProjectedSource::Text { text } if text.is_empty() => Poll::Ready(None),
            ProjectedSource::Text { text } => {
                Poll::Ready(Some(Ok(Frame::data(Data::Text(std::mem::take(text))))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Inner { body } => body.is_end_stream(),
            Source::Text { text } => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Inner { body } => body.size_hint(),
            Source::Text { text } => SizeHint::with_exact(text.len() as u64),
        }
    }
}

/// A piece of a [`FilterBody`].
#[derive(Debug)]
pub enum Data<D> {
    /// A piece of the inner service's body.
    Inner(D),
    /// A piece of our own answer.
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
