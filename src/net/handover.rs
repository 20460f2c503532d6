//! Descriptors passed from one process to the next, over a socket between the two (`SCM_RIGHTS`, unix(7)).

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::{BoundSocket, Inherited, ListenAddress};

/// Bytes of one record: a word, and an address for a listener.
const RECORD: usize = 160;

const LISTENER: &str = "listener ";
/// A socket whose file goes with the last process that has it.
const OWNER: &str = "owner ";
const LOCK: &str = "lock";
const END: &str = "end";
const READY: &str = "ready";
const RELEASED: &str = "released";

/// One end of the socket between two processes.
#[derive(Debug)]
pub struct Handover {
    socket: OwnedFd,
}

/// What the earlier process has passed on.
#[derive(Debug, Default)]
pub struct Received {
    /// Listening sockets, each with the address that it was asked for by.
    pub sockets: Inherited,
    /// The file whose lock the earlier process had, and now both have.
    pub lock: Option<File>,
}

impl Handover {
    /// Two ends: one for this process, one to give to the next as its standard input.
    ///
    /// # Errors
    ///
    /// When the kernel grants none.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self { socket: ours }, theirs))
    }

    /// The end that this process was given as its standard input.
    ///
    /// # Errors
    ///
    /// When the kernel has no descriptor left.
    pub fn of_standard_input() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self { socket })
    }

    /// Passes everything on.
    ///
    /// # Errors
    ///
    /// When the other process is gone.
    pub fn pass(&self, sockets: &Inherited, lock: Option<&File>) -> io::Result<()> {
        for (address, socket) in sockets.iter() {
            let word = if socket.owns_file() { OWNER } else { LISTENER };
            self.send(&format!("{word}{address}"), Some(socket.as_fd()))?;
        }
        if let Some(lock) = lock {
            self.send(LOCK, Some(lock.as_fd()))?;
        }
        self.send(END, None)
    }

    /// Takes everything that was passed on.
    ///
    /// # Errors
    ///
    /// When the other process is gone, or is no stopgap.
    pub fn receive(&self) -> io::Result<Received> {
        let mut received = Received::default();
        loop {
            let (text, descriptor) = self.next()?;
            match (text.as_str(), descriptor) {
                (END, None) => return Ok(received),
                (LOCK, Some(lock)) => received.lock = Some(File::from(lock)),
                (text, Some(socket)) => {
                    let (owned, address) = match text.strip_prefix(OWNER) {
                        Some(address) => (true, Some(address)),
                        None => (false, text.strip_prefix(LISTENER)),
                    };
                    let address = address.and_then(|text| text.parse().ok());
                    let address = address.ok_or_else(unknown)?;
                    let socket = match &address {
                        ListenAddress::Tcp(_) => BoundSocket::try_from(TcpListener::from(socket)),
                        ListenAddress::Unix(path) => {
                            BoundSocket::unix(socket.into(), path.clone(), owned)
                        }
                    };
                    let socket = socket?;
                    // It is the earlier process's until this one serves.
                    socket.own_file(false);
                    received.sockets.add(address, socket);
                }
                _ => return Err(unknown()),
            }
        }
    }

    /// Tells the earlier process that this one serves, and waits until that one has released what cannot be shared.
    ///
    /// # Errors
    ///
    /// When the other process is gone or takes longer than `patience`; this one can go on all the same.
    pub fn tell_ready(&self, patience: Duration) -> io::Result<()> {
        self.send(READY, None)?;
        self.expect(RELEASED, patience)
    }

    /// Waits until the next process serves.
    ///
    /// # Errors
    ///
    /// When it is gone or takes longer than `patience`.
    pub fn wait_ready(&self, patience: Duration) -> io::Result<()> {
        self.expect(READY, patience)
    }

    /// Tells the next process that this one has released what cannot be shared.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn tell_released(&self) -> io::Result<()> {
        self.send(RELEASED, None)
    }

    fn expect(&self, word: &str, patience: Duration) -> io::Result<()> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(patience))?;
        match self.next()? {
            (text, None) if text == word => Ok(()),
            _ => Err(unknown()),
        }
    }

    fn send(&self, text: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let text = [IoSlice::new(text.as_bytes())];
        sendmsg(&self.socket, &text, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    fn next(&self) -> io::Result<(String, Option<OwnedFd>)> {
        let mut record = [0; RECORD];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut record)],
            &mut control,
            flags,
        )?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let text = String::from_utf8_lossy(&record[..received.bytes]).into_owned();
        Ok((text, descriptor))
    }
}

fn unknown() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the other process does not speak the language of a handover",
    )
}

fn nameless() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "a Unix socket that was passed has no path",
    )
}

/// The listening sockets that a service manager has bound and passed (sd_listen_fds(3)), by where they listen.
///
/// # Errors
///
/// When one of them cannot be used.
pub fn activated() -> io::Result<Inherited> {
    let mut found = Inherited::default();
    let mut passed = listenfd::ListenFd::from_env();
    for index in 0..passed.len() {
        // One that is not of this kind stays, to be asked for by the other.
        if let Ok(Some(listener)) = passed.take_unix_listener(index) {
            let address = listener.local_addr()?;
            let path = address.as_pathname().ok_or_else(nameless)?.to_owned();
            let socket = BoundSocket::unix(listener, path.clone(), false)?;
            found.add(ListenAddress::Unix(path), socket);
        } else if let Some(listener) = passed.take_tcp_listener(index)? {
            let address = listener.local_addr()?;
            found.add(address.into(), BoundSocket::try_from(listener)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_lock_arrive_and_are_the_same() {
        let (earlier, next) = Handover::pair().unwrap();
        let next = Handover { socket: next };
        let any: ListenAddress = "127.0.0.1:0".parse().unwrap();
        let mut sockets = Inherited::default();
        let bound = crate::net::bind(&any, 2, 0o600).unwrap();
        let address = bound[0].address().unwrap();
        for socket in bound {
            sockets.add(any.clone(), socket);
        }
        let lock = tempfile::tempfile().unwrap();
        lock.lock().unwrap();
        earlier.pass(&sockets, Some(&lock)).unwrap();
        let mut received = next.receive().unwrap();
        drop((sockets, lock));
        let taken = received.sockets.take(&any);
        assert_eq!(taken.len(), 2);
        assert!(
            taken
                .iter()
                .all(|socket| socket.address().unwrap() == address)
        );
        assert!(received.lock.is_some());
        let patience = Duration::from_secs(10);
        let waiting = std::thread::spawn(move || {
            earlier.wait_ready(patience).unwrap();
            earlier.tell_released().unwrap();
        });
        next.tell_ready(patience).unwrap();
        waiting.join().unwrap();
        assert_eq!(
            next.wait_ready(patience).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }
}
