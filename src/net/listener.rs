//! Listening sockets, one for each worker.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for one listener until they are accepted.
const BACKLOG: i32 = 4_096;

/// A socket that listens and belongs to no runtime yet.
#[derive(Debug)]
pub struct BoundSocket(TcpListener);

impl TryFrom<TcpListener> for BoundSocket {
    type Error = io::Error;

    /// Of a socket that somebody else has bound.
    fn try_from(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
        Ok(Self(listener))
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for BoundSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl BoundSocket {
    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Another descriptor of the same socket, with the same queue.
    ///
    /// # Errors
    ///
    /// When the kernel has none left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Hands it to the runtime of this thread.
    ///
    /// # Errors
    ///
    /// When the runtime cannot watch it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn into_listener(self) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.0)
    }
}

/// Binds `count` listening sockets to one address, over which the kernel spreads connections.
///
/// Port 0 takes a free port, the same for all. The sockets do not block, and what they accept sends without delay
/// (Linux hands `TCP_NODELAY` on).
///
/// # Errors
///
/// When the address is taken, also by a socket that would share it, or cannot be bound.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<BoundSocket>> {
    // A socket that does not share finds out whether another process listens there: sharing ones would not.
    let probe = socket(address)?;
    probe.bind(&address.into())?;
    let bound = probe
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    drop(probe);
    (0..count.max(1)).map(|_| listen(bound)).collect()
}

fn listen(address: SocketAddr) -> io::Result<BoundSocket> {
    let socket = socket(address)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(BoundSocket(socket.into()))
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_port_and_others_do_not() {
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = bind(any, 3).unwrap();
        let address = listeners[0].address().unwrap();
        assert!(address.port() != 0);
        assert!(
            listeners
                .iter()
                .all(|listener| listener.address().unwrap() == address)
        );
        assert_eq!(
            bind(address, 1).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(listeners);
        bind(address, 1).unwrap();
    }
}
