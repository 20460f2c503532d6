//! TCP sockets whose small writes leave together.
//!
//! A write to a peer that waits makes the kernel wake it at once, which costs more than the bytes do. So what the
//! tasks of one thread write while they have their turn is kept, and leaves when they have had it, first to servers,
//! then to clients.
//!
//! A socket whose peer does not read gets a sender of its own, so that however many there are, no turn asks them all.
//!
//! What is kept is never forgotten, since this holds between any two turns of tasks: a socket that keeps bytes is in a
//! queue, and whoever sends for all is about to have a turn; or it has a sender of its own, which is about to have a
//! turn or was the last to ask that socket whether it can be written. So the first bytes that are kept wake its sender;
//! so does the socket's owner when it asks itself and has to wait, since a socket tells one task only, and the owner is
//! told by the sender; so does whoever lets go of a socket that has a sender, since that holds it open.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes of one socket that are kept; a copy of so many is cheaper than the kernel's gathering of several pieces.
pub(super) const SMALL: usize = 4_096;

/// Empty buffers that are kept for later.
const SPARE: usize = 64;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// A client.
    Client,
    /// A server.
    Server,
}

/// The small writes of one thread. Clones share them.
#[derive(Clone, Default)]
pub struct Batch {
    shared: Rc<Gathered>,
}

#[derive(Default)]
struct Gathered {
    queues: [RefCell<Vec<Rc<Shared>>>; 2],
    spare: RefCell<Vec<Vec<u8>>>,
    sender: RefCell<Option<Waker>>,
}

/// A TCP socket that belongs to a [`Batch`], and sends nothing small unless [`Batch::send`] runs on the same thread.
#[derive(Debug)]
pub struct Socket {
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tcp: RefCell<TcpStream>,
    kept: RefCell<Kept>,
    side: Side,
    batch: Batch,
}

/// What was written and not sent.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    sent: usize,
    /// Whether the socket is in a queue, or has a sender of its own.
    queued: bool,
    /// Its own sender.
    sender: Option<Waker>,
    /// Why sending failed, for whoever writes next.
    failure: Option<io::Error>,
    /// Whoever wants to write behind what is kept. The socket itself wakes one task only, which may be its sender.
    waiting: Option<Waker>,
}

impl Batch {
    /// Sends what the tasks of this thread write, whenever those that were ready have had their turn. Never ends.
    pub async fn send(self) {
        poll_fn(|context| {
            self.shared.listen(context);
            for queue in &self.shared.queues {
                for socket in queue.borrow_mut().drain(..) {
                    if socket.poll_queued(context).is_pending() {
                        tokio::task::spawn_local(socket.send());
                    }
                }
            }
            Poll::<()>::Pending
        })
        .await;
    }

    fn add(&self, socket: &Rc<Shared>) {
        self.shared.queues[match socket.side {
            Side::Server => 0,
            Side::Client => 1,
        }]
        .borrow_mut()
        .push(Rc::clone(socket));
    }

    fn wake(&self) {
        if let Some(sender) = &*self.shared.sender.borrow() {
            sender.wake_by_ref();
        }
    }

    fn buffer(&self) -> Vec<u8> {
        self.shared.spare.borrow_mut().pop().unwrap_or_default()
    }

    fn recycle(&self, mut buffer: Vec<u8>) {
        let mut spare = self.shared.spare.borrow_mut();
        if spare.len() < SPARE && buffer.capacity() > 0 {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

impl Gathered {
    /// Names the task that sends for all.
    fn listen(&self, context: &Context<'_>) {
        let mut sender = self.sender.borrow_mut();
        match &mut *sender {
            Some(known) => known.clone_from(context.waker()),
            None => *sender = Some(context.waker().clone()),
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Batch")
    }
}

impl Socket {
    /// Takes over a socket that is connected.
    pub fn new(tcp: TcpStream, side: Side, batch: &Batch) -> Self {
        Self {
            shared: Rc::new(Shared {
                tcp: RefCell::new(tcp),
                kept: RefCell::default(),
                side,
                batch: batch.clone(),
            }),
        }
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.shared.tcp.borrow().local_addr()
    }

    /// Has the socket reset, rather than closed in order, when this is dropped. A client still gets what was written
    /// before, as far as that can be; a server gets no more of a request that will not be whole.
    pub fn reset_when_dropped(&self) {
        let kept = &mut *self.shared.kept.borrow_mut();
        let tcp = self.shared.tcp.borrow();
        if self.shared.side == Side::Client {
            let _ = tcp.try_write(&kept.bytes[kept.sent..]);
        }
        kept.bytes.clear();
        kept.sent = 0;
        // Fails only on a socket that is gone.
        let _ = tcp.set_zero_linger();
    }

    /// Sends what was kept, without waiting for others.
    ///
    /// # Errors
    ///
    /// When the connection failed.
    pub fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.poll_send(context)
    }

    /// Keeps bytes for later if they are few; whether it did.
    fn keep(&self, slices: &[io::IoSlice<'_>]) -> io::Result<Option<usize>> {
        let mut kept = self.shared.kept.borrow_mut();
        if let Some(failure) = kept.failure.take() {
            return Err(failure);
        }
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if kept.bytes.len() + length > SMALL {
            return Ok(None);
        }
        if kept.bytes.capacity() == 0 {
            kept.bytes = self.shared.batch.buffer();
        }
        // A socket in a queue whose owner has sent what was kept is nobody's business any more.
        let first = kept.bytes.is_empty();
        for slice in slices {
            kept.bytes.extend_from_slice(slice);
        }
        let queued = std::mem::replace(&mut kept.queued, true);
        drop(kept);
        if !queued {
            self.shared.batch.add(&self.shared);
        }
        if first {
            self.shared.wake_sender();
        }
        Ok(Some(length))
    }
}

impl Shared {
    /// Sends what is kept, for the socket's owner.
    fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = self.poll_write_kept(context);
        if poll.is_pending() {
            self.kept.borrow_mut().waiting = Some(context.waker().clone());
            // The socket knows this task now, which may lose interest, and not its sender.
            self.wake_sender();
        }
        poll
    }

    fn poll_write_kept(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let kept = &mut *self.kept.borrow_mut();
        if let Some(failure) = kept.failure.take() {
            return Poll::Ready(Err(failure));
        }
        if kept.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let tcp = &mut *self.tcp.borrow_mut();
        let result = loop {
            match ready!(Pin::new(&mut *tcp).poll_write(context, &kept.bytes[kept.sent..])) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => kept.sent += sent,
                Err(error) => break Err(error),
            }
            if kept.sent == kept.bytes.len() {
                break Ok(());
            }
        };
        kept.sent = 0;
        self.batch.recycle(std::mem::take(&mut kept.bytes));
        Poll::Ready(result)
    }

    /// Sends what is kept, once the peer takes it.
    async fn send(self: Rc<Self>) {
        poll_fn(|context| {
            self.kept.borrow_mut().sender = Some(context.waker().clone());
            self.poll_queued(context)
        })
        .await;
    }

    fn wake_sender(&self) {
        match &self.kept.borrow().sender {
            Some(sender) => sender.wake_by_ref(),
            None => self.batch.wake(),
        }
    }

    /// The socket's turn with its sender: ready when it needs none any longer.
    fn poll_queued(self: &Rc<Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.poll_write_kept(context) {
            // Whoever lets go of a socket sees to it before that nothing is left.
            Poll::Pending if Rc::strong_count(self) > 1 => return Poll::Pending,
            Poll::Ready(Err(failure)) => self.kept.borrow_mut().failure = Some(failure),
            Poll::Pending | Poll::Ready(Ok(())) => {}
        }
        let mut kept = self.kept.borrow_mut();
        kept.queued = false;
        kept.sender = None;
        if let Some(waiting) = kept.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.shared.kept.borrow().queued {
            self.shared.wake_sender();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.shared.tcp.borrow_mut()).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(length) = self.keep(&[io::IoSlice::new(bytes)])? {
            return Poll::Ready(Ok(length));
        }
        ready!(self.shared.poll_send(context))?;
        Pin::new(&mut *self.shared.tcp.borrow_mut()).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(length) = self.keep(slices)? {
            return Poll::Ready(Ok(length));
        }
        ready!(self.shared.poll_send(context))?;
        Pin::new(&mut *self.shared.tcp.borrow_mut()).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was kept leaves by itself.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.shared.kept.borrow_mut().failure.take() {
            Some(failure) => Poll::Ready(Err(failure)),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.shared.poll_send(context))?;
        Pin::new(&mut *self.shared.tcp.borrow_mut()).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    /// A socket of ours, the peer's, and what runs both.
    fn pair(test: impl AsyncFnOnce(Socket, std::net::TcpStream, Batch)) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let patience = std::time::Duration::from_secs(10);
        peer.set_read_timeout(Some(patience)).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let batch = Batch::default();
            let socket = Socket::new(TcpStream::from_std(ours).unwrap(), Side::Client, &batch);
            test(socket, peer, batch).await;
        });
    }

    #[test]
    fn small_writes_leave_together_and_large_ones_behind_them() {
        pair(async |mut socket, mut peer, batch| {
            tokio::task::spawn_local(batch.send());
            // Once something has come, the runtime knows that the socket can be written.
            peer.write_all(b"ask").unwrap();
            socket.read_exact(&mut [0; 3]).await.unwrap();
            socket.write_all(b"one, ").await.unwrap();
            socket.write_all(b"two, ").await.unwrap();
            peer.set_nonblocking(true).unwrap();
            let mut buffer = [0; 16];
            assert_eq!(
                peer.read(&mut buffer).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
            tokio::task::yield_now().await;
            peer.set_nonblocking(false).unwrap();
            peer.read_exact(&mut buffer[..10]).unwrap();
            assert_eq!(&buffer[..10], b"one, two, ");
            socket.write_all(b"small, ").await.unwrap();
            socket.write_all(&[b'x'; SMALL]).await.unwrap();
            let mut all = vec![0; SMALL + 7];
            peer.read_exact(&mut all).unwrap();
            assert!(all.starts_with(b"small, xx"));
        });
    }

    #[test]
    fn peer_that_does_not_read_gets_all_in_the_end_and_in_order() {
        pair(async |mut socket, mut peer, batch| {
            tokio::task::spawn_local(batch.send());
            let reader = std::thread::spawn(move || {
                let mut all = Vec::new();
                peer.read_to_end(&mut all).unwrap();
                all
            });
            let mut sent = Vec::new();
            for round in 0..20_000_usize {
                let piece = vec![(round % 251) as u8; if round % 50 == 0 { 9_000 } else { 700 }];
                sent.extend_from_slice(&piece);
                socket.write_all(&piece).await.unwrap();
                socket.flush().await.unwrap();
                if round % 3 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            socket.shutdown().await.unwrap();
            assert!(reader.join().unwrap() == sent);
        });
    }

    /// Fills the socket until its peer has to read, with something kept behind; how much that is in all.
    async fn fill(socket: &mut Socket) -> usize {
        let mut sent = 0;
        let mut full = 0;
        // The kernel makes more room for a while.
        while full < 5 {
            let written = socket.shared.tcp.borrow().try_write(&[b'x'; 60_000]);
            match written {
                Ok(length) => (sent, full) = (sent + length, 0),
                Err(_) => full += 1,
            }
            if full > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        socket.write_all(b"small").await.unwrap();
        // Whoever sends for all has had its turn before the owner asks, and has another after that, if it was woken.
        tokio::task::yield_now().await;
        let asked = poll_fn(|context| Poll::Ready(socket.poll_send(context))).await;
        assert!(asked.is_pending());
        tokio::task::yield_now().await;
        // Whoever sends for all asks it no more.
        let queues = &socket.shared.batch.shared.queues;
        assert!(queues.iter().all(|queue| queue.borrow().is_empty()));
        assert!(socket.shared.kept.borrow().sender.is_some());
        sent + 5
    }

    #[test]
    fn what_the_owner_asked_about_and_gave_up_still_leaves() {
        pair(async |mut socket, mut peer, batch| {
            tokio::task::spawn_local(batch.send());
            let sent = fill(&mut socket).await;
            // Nobody but the task that sends for all is there to notice that the peer reads.
            let reader = std::thread::spawn(move || {
                let mut all = vec![0; sent];
                peer.read_exact(&mut all).map(|()| peer)
            });
            while !reader.is_finished() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            reader.join().unwrap().unwrap();
            assert!(socket.shared.kept.borrow().bytes.is_empty());
        });
    }

    #[test]
    fn reset_reaches_the_peer_although_nobody_else_writes() {
        pair(async |mut socket, mut peer, batch| {
            tokio::task::spawn_local(batch.send());
            fill(&mut socket).await;
            socket.reset_when_dropped();
            drop(socket);
            let reader = std::thread::spawn(move || {
                let mut waste = [0; 65_536];
                loop {
                    match peer.read(&mut waste) {
                        Ok(0) => return None,
                        Ok(_) => {}
                        Err(error) => return Some(error.kind()),
                    }
                }
            });
            while !reader.is_finished() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            assert_eq!(reader.join().unwrap(), Some(io::ErrorKind::ConnectionReset));
        });
    }

    #[test]
    fn what_a_dropped_socket_kept_still_leaves() {
        pair(async |mut socket, mut peer, batch| {
            tokio::task::spawn_local(batch.send());
            peer.write_all(b"ask").unwrap();
            socket.read_exact(&mut [0; 3]).await.unwrap();
            socket.write_all(b"last words").await.unwrap();
            drop(socket);
            tokio::task::yield_now().await;
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"last words");
        });
    }
}
