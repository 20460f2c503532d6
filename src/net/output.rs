//! What waits to be sent on a connection by HTTP/1.1, of either side.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::HeaderMap;
use tokio::io::AsyncWrite;

/// Bytes of body that are gathered with what waits to be sent; a larger piece is sent from where it lies.
const GATHER: usize = 4 * 1_024;

/// A head, then a body in pieces.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// A head first, then the frames of chunks.
    text: Vec<u8>,
    sent: usize,
    /// Sent behind the text.
    piece: Bytes,
    /// Sent behind the piece.
    tail: &'static [u8],
    waits: bool,
}

impl Output {
    /// Begins with a head in bytes, which is kept until a body follows that was sent whole.
    pub(super) fn of_head(head: Vec<u8>) -> Self {
        Self {
            text: head,
            waits: true,
            ..Self::default()
        }
    }

    /// Room to write text behind what waits. Text that was sent is not asked for again.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        self.waits = true;
        if self.sent == self.text.len() {
            self.text.clear();
            self.sent = 0;
        }
        &mut self.text
    }

    /// Gives a piece of the body to be sent next, within a chunk of its own if `chunked`. Only when the piece before it
    /// was sent.
    pub(super) fn push(&mut self, piece: Bytes, chunked: bool) {
        if piece.is_empty() {
            return;
        }
        let text = self.text();
        if chunked {
            hexadecimal(text, piece.len());
            text.extend_from_slice(b"\r\n");
            self.tail = b"\r\n";
        }
        self.piece = piece;
        if self.piece.len() <= GATHER {
            self.text.extend_from_slice(&self.piece);
            self.text.extend_from_slice(self.tail);
            self.piece = Bytes::new();
            self.tail = b"";
        }
    }

    /// Gives the end of a chunked body, and the fields that trail it (RFC 9112 section 7.1.2).
    pub(super) fn push_end(&mut self, trailers: Option<&HeaderMap>) {
        let text = self.text();
        text.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.into_iter().flatten() {
            field(text, name.as_str().as_bytes(), value.as_bytes());
        }
        text.extend_from_slice(b"\r\n");
    }

    /// Whether something waits to be sent.
    pub(super) const fn waits(&self) -> bool {
        self.waits
    }

    /// Takes the text, sent or not, for another connection.
    pub(super) fn take_text(&mut self) -> Vec<u8> {
        self.sent = 0;
        std::mem::take(&mut self.text)
    }

    /// Sends everything that waits; how many bytes that were, and whether they have left.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> (usize, Poll<io::Result<()>>) {
        let mut moved = 0;
        if !self.waits {
            return (moved, Poll::Ready(Ok(())));
        }
        let mut poll = self.poll_write(stream, context, &mut moved);
        if let Poll::Ready(Ok(())) = poll {
            poll = Pin::new(stream).poll_flush(context);
        }
        self.waits = !matches!(poll, Poll::Ready(Ok(())));
        (moved, poll)
    }

    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        moved: &mut usize,
    ) -> Poll<io::Result<()>> {
        loop {
            let text = &self.text[self.sent..];
            let stream = Pin::new(&mut *stream);
            let written = if !self.piece.is_empty() || !self.tail.is_empty() {
                let slices = [text, &self.piece[..], self.tail].map(io::IoSlice::new);
                ready!(stream.poll_write_vectored(context, &slices))?
            } else if text.is_empty() {
                return Poll::Ready(Ok(()));
            } else {
                ready!(stream.poll_write(context, text))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *moved += written;
            self.advance(written);
        }
    }

    fn advance(&mut self, written: usize) {
        let text = written.min(self.text.len() - self.sent);
        self.sent += text;
        let piece = (written - text).min(self.piece.len());
        bytes::Buf::advance(&mut self.piece, piece);
        self.tail = &self.tail[written - text - piece..];
    }
}

/// Writes one field.
pub(super) fn field(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.extend_from_slice(name);
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// Writes the size of a chunk, without formatting.
fn hexadecimal(text: &mut Vec<u8>, number: usize) {
    let mut digits = [0; 16];
    let (mut rest, mut at) = (number, digits.len());
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_formatting_would() {
        for value in [0, 1, 9, 10, 15, 16, 255, 4_096, 123_456_789, usize::MAX] {
            let mut text = Vec::new();
            hexadecimal(&mut text, value);
            assert_eq!(text, format!("{value:x}").into_bytes());
        }
    }
}
