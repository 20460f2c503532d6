//! A TCP connection, plain or within TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use super::socket::{SMALL, Socket};

/// A byte stream over TCP, of either side.
#[derive(Debug)]
pub enum Stream<S = Socket> {
    /// The socket itself.
    Plain(S),
    /// TLS, as client or as server, after its handshake.
    Secure(Box<TlsStream<S>>),
}

impl<S> Stream<S> {
    /// Whether bytes are protected by TLS.
    pub const fn is_secure(&self) -> bool {
        matches!(self, Self::Secure(_))
    }

    /// Whether both sides agreed on HTTP/2 within TLS (RFC 7301).
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Secure(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }
}

impl Stream {
    /// The address of this end.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket().local_address()
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Secure(stream) => stream.get_ref().0,
        }
    }

    /// Has the socket reset, rather than closed in order, when this is dropped.
    pub fn reset_when_dropped(&self) {
        self.socket().reset_when_dropped();
    }

    /// Sends what was kept to leave together with the writes of others; to be done before this is dropped.
    ///
    /// # Errors
    ///
    /// When the connection failed.
    pub fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_send(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Secure(stream) => match flat(slices, &mut [0; SMALL]) {
                // One record for all.
                Some(bytes) => Pin::new(stream).poll_write(context, bytes),
                None => Pin::new(stream).poll_write_vectored(context, slices),
            },
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Copies slices into one piece of memory, if they fit.
fn flat<'b>(slices: &[io::IoSlice<'_>], buffer: &'b mut [u8; SMALL]) -> Option<&'b [u8]> {
    let mut length = 0;
    for slice in slices {
        buffer
            .get_mut(length..length + slice.len())?
            .copy_from_slice(slice);
        length += slice.len();
    }
    Some(&buffer[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_joined_and_large_ones_are_not() {
        let (small, large) = (vec![b'a'; 4_000], vec![b'b'; 97]);
        let slices = |last: usize| [io::IoSlice::new(&small), io::IoSlice::new(&large[..last])];
        let mut buffer = [0; SMALL];
        let joined = flat(&slices(96), &mut buffer).map(<[u8]>::to_vec);
        assert_eq!(joined, Some([&small[..], &large[..96]].concat()));
        assert_eq!(flat(&slices(97), &mut buffer), None);
    }
}
