//! What was read from a connection by HTTP/1.1 and not yet understood, of either side.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Bytes that are read at once: as few as most messages have at first, more while all that is asked for comes. No more
/// than three segments of the loopback interface hold, whose MTU is 64 KiB, headers included: what is read at once is
/// written at once, and what is over would leave in a segment of its own, which costs about as much as a whole one.
const READ: usize = 8 * 1_024;
const READ_LIMIT: usize = 188 * 1_024;

/// Bytes in the order they came, and how many are read at once.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    read: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            bytes: BytesMut::new(),
            read: READ,
        }
    }
}

impl Input {
    /// Reads once, behind what is there; 0 at the end of the stream.
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let (room, count) = match self.read {
            // By way of the stack: nearly every message is much smaller, and memory of just its size costs less.
            READ => {
                let mut memory = [MaybeUninit::uninit(); READ];
                let mut buffer = ReadBuf::uninit(&mut memory);
                ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
                self.bytes.extend_from_slice(buffer.filled());
                (READ, buffer.filled().len())
            }
            _ => {
                self.bytes.reserve(self.read);
                let room = self.bytes.capacity() - self.bytes.len();
                // The future keeps nothing between two polls.
                let read = pin!(stream.read_buf(&mut self.bytes));
                (room, ready!(read.poll(context))?)
            }
        };
        if count == room {
            self.read = (self.read * 2).min(READ_LIMIT);
        } else if count < self.read / 4 {
            self.read = (self.read / 2).max(READ);
        }
        Poll::Ready(Ok(count))
    }

    /// Takes so many bytes from the front.
    pub(super) fn split_to(&mut self, count: usize) -> Bytes {
        match count == self.bytes.len() {
            // Memory that nothing is left in is given away, and need not be shared.
            true => std::mem::take(&mut self.bytes).freeze(),
            false => self.bytes.split_to(count).freeze(),
        }
    }

    /// Gives back the memory that a connection at rest does not need.
    pub(super) fn shrink(&mut self) {
        if self.bytes.is_empty() {
            *self = Self::default();
        }
    }
}
