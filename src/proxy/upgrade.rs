//! A connection after a 101: bytes both ways, until an end or a long silence.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::net::{Deadlines, Slot, Stream};

/// The server's side of a tunnel.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) stream: Stream,
    /// What the server sent behind its response.
    pub(super) early: Bytes,
}

/// Copies bytes both ways until both sides have ended, one fails, or neither sends for `silence`.
pub(super) async fn carry(
    tunnel: Tunnel,
    client: Stream,
    client_early: &[u8],
    deadlines: Rc<Deadlines>,
    silence: Duration,
) -> io::Result<()> {
    let mut server = tunnel.stream;
    let mut client = Watched {
        stream: client,
        deadlines: Rc::clone(&deadlines),
        silence,
    };
    deadlines.set(Slot::Read, silence);
    let mut copy = pin!(async {
        client.write_all(&tunnel.early).await?;
        server.write_all(client_early).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server)
            .await
            .map(|_| ())
    });
    poll_fn(|context| {
        deadlines.watch(context);
        match copy.as_mut().poll(context) {
            Poll::Pending if deadlines.has_passed(Slot::Read) => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            poll => poll,
        }
    })
    .await
}

/// A stream that puts a deadline off whenever bytes pass.
struct Watched<S> {
    stream: S,
    deadlines: Rc<Deadlines>,
    silence: Duration,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.deadlines.set(Slot::Read, this.silence);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        this.deadlines.set(Slot::Read, this.silence);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
