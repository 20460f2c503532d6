//! Listening sockets: one for each worker on an address, one for all of them at a path.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use super::ListenAddress;
use super::private_socket::{SocketFault, SocketFile, bind_file};

/// Connections that the kernel keeps for one listener until they are accepted.
const BACKLOG: i32 = 4_096;

/// Who may connect to a Unix socket unless somebody says otherwise: its user and group.
pub const SOCKET_MODE: u32 = 0o660;

/// A socket that listens and belongs to no runtime yet.
#[derive(Debug)]
pub struct BoundSocket {
    kind: Kind<TcpListener, UnixListener>,
    /// Where a Unix socket is, and its file if that is to go with it.
    place: Option<(PathBuf, Option<Arc<SocketFile>>)>,
}

#[derive(Debug)]
enum Kind<T, U> {
    Tcp(T),
    Unix(U),
}

/// A listening socket of this thread's runtime.
#[derive(Debug)]
pub struct Acceptor(Kind<tokio::net::TcpListener, tokio::net::UnixListener>);

/// A listening socket that takes no new connections, with those that the kernel has queued.
#[derive(Debug)]
pub struct Queue(Kind<TcpListener, UnixListener>);

impl TryFrom<TcpListener> for BoundSocket {
    type Error = io::Error;

    /// Of a socket that somebody else has bound.
    fn try_from(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
        Ok(Self {
            kind: Kind::Tcp(listener),
            place: None,
        })
    }
}

impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(listener) => listener.as_fd(),
            Kind::Unix(listener) => listener.as_fd(),
        }
    }
}

impl BoundSocket {
    /// Of a Unix socket that somebody else has bound, at this path. Its file goes with it if `owned`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to have it not block.
    pub fn unix(listener: UnixListener, path: PathBuf, owned: bool) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let file = match owned {
            true => SocketFile::of(&path).ok().map(Arc::new),
            false => None,
        };
        Ok(Self {
            kind: Kind::Unix(listener),
            place: Some((path, file)),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match (&self.kind, &self.place) {
            (Kind::Tcp(listener), _) => listener.local_addr().map(ListenAddress::Tcp),
            // What the kernel knows is the name that it had when it was made.
            (Kind::Unix(_), Some((path, _))) => Ok(ListenAddress::Unix(path.clone())),
            (Kind::Unix(_), None) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Another descriptor of the same socket, with the same queue.
    ///
    /// # Errors
    ///
    /// When the kernel has none left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let kind = match &self.kind {
            Kind::Tcp(listener) => Kind::Tcp(listener.try_clone()?),
            Kind::Unix(listener) => Kind::Unix(listener.try_clone()?),
        };
        let place = self.place.clone();
        Ok(Self { kind, place })
    }

    /// Whether the file of a Unix socket goes with the last descriptor of this process, where it would: not while another
    /// process has the socket, too.
    pub fn own_file(&self, own: bool) {
        if let Some((_, Some(file))) = &self.place {
            file.own(own);
        }
    }

    /// Whether the file of a Unix socket goes with it.
    pub const fn owns_file(&self) -> bool {
        matches!(&self.place, Some((_, Some(_))))
    }

    /// Says who may connect to a Unix socket, by the mode of its file; nothing to say of others.
    ///
    /// # Errors
    ///
    /// When the file is not ours to change.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        match &self.place {
            Some((path, _)) => set_permissions(path, Permissions::from_mode(mode)),
            None => Ok(()),
        }
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
    pub fn into_acceptor(self) -> io::Result<Acceptor> {
        Ok(Acceptor(match self.kind {
            Kind::Tcp(listener) => Kind::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Kind::Unix(listener) => Kind::Unix(tokio::net::UnixListener::from_std(listener)?),
        }))
    }
}

impl Acceptor {
    /// The next connection, and where it comes from unless that is another process of this machine.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                Ok((stream, Some(remote)))
            }
            Kind::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((as_stream(stream.into_std()?)?, None))
            }
        }
    }

    /// Takes it from the runtime, for what is left in its queue.
    ///
    /// # Errors
    ///
    /// When the runtime does not give it back.
    pub fn into_queue(self) -> io::Result<Queue> {
        Ok(Queue(match self.0 {
            Kind::Tcp(listener) => Kind::Tcp(listener.into_std()?),
            Kind::Unix(listener) => Kind::Unix(listener.into_std()?),
        }))
    }
}

impl Queue {
    /// The next connection; an error also when there is none.
    ///
    /// # Errors
    ///
    /// As the kernel says.
    pub fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, remote) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((TcpStream::from_std(stream)?, Some(remote)))
            }
            Kind::Unix(listener) => Ok((as_stream(listener.accept()?.0)?, None)),
        }
    }
}

/// Connects to a Unix socket.
///
/// # Errors
///
/// When nobody listens there, or this process may not connect.
pub async fn connect_unix(path: &Path) -> io::Result<TcpStream> {
    let stream = tokio::net::UnixStream::connect(path).await?;
    as_stream(stream.into_std()?)
}

/// A connection over a Unix socket as the rest of this crate knows connections: a socket is read, written and closed in
/// one way, whatever its family, and what only TCP has (an address, `TCP_NODELAY`) nobody asks of it.
fn as_stream(stream: UnixStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(stream)))
}

/// Binds listening sockets to an address: `count` of them, over which the kernel spreads connections, or one at a path.
///
/// Port 0 takes a free port, the same for all. The sockets do not block, and what they accept sends without delay
/// (Linux hands `TCP_NODELAY` on). A Unix socket has this mode before anybody can connect; a file that a dead process
/// left behind gives way, and anything else stays.
///
/// # Errors
///
/// When the address is taken, also by a socket that would share it, or cannot be bound.
pub fn bind(address: &ListenAddress, count: usize, mode: u32) -> io::Result<Vec<BoundSocket>> {
    match address {
        ListenAddress::Tcp(address) => bind_tcp(*address, count),
        ListenAddress::Unix(path) => bind_unix(path, mode).map(|socket| vec![socket]),
    }
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<BoundSocket> {
    let open = |path: &Path| set_permissions(path, Permissions::from_mode(mode));
    let (listener, file) = bind_file(path, open).map_err(|fault| match fault {
        SocketFault::InUse => io::ErrorKind::AddrInUse.into(),
        SocketFault::NoSocket => io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something else than a socket is there, and is left alone",
        ),
        SocketFault::System(error) => error,
    })?;
    Ok(BoundSocket {
        kind: Kind::Unix(listener),
        place: Some((path.to_owned(), Some(Arc::new(file)))),
    })
}

fn bind_tcp(address: SocketAddr, count: usize) -> io::Result<Vec<BoundSocket>> {
    // A socket that does not share finds out whether another process listens there: sharing ones would not.
    let probe = socket(address)?;
    probe.bind(&address.into())?;
    let bound = probe
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    drop(probe);
    let bound = (0..count.max(1)).map(|_| listening(bound));
    let socket = |listener: io::Result<TcpListener>| {
        Ok(BoundSocket {
            kind: Kind::Tcp(listener?),
            place: None,
        })
    };
    bound.map(socket).collect()
}

/// Listens at an address with one socket of this thread's runtime; port 0 takes a free port.
///
/// # Errors
///
/// When the address is taken or cannot be bound.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn listen(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let probe = socket(address)?;
    probe.bind(&address.into())?;
    drop(probe);
    tokio::net::TcpListener::from_std(listening(address)?)
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
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
        let any: ListenAddress = "127.0.0.1:0".parse().unwrap();
        let listeners = bind(&any, 3, SOCKET_MODE).unwrap();
        let address = listeners[0].address().unwrap();
        assert!(address.tcp().unwrap().port() != 0);
        let shared = |listener: &BoundSocket| listener.address().unwrap() == address;
        assert!(listeners.iter().all(shared));
        let taken = bind(&address, 1, SOCKET_MODE).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(listeners);
        bind(&address, 1, SOCKET_MODE).unwrap();
    }

    #[test]
    fn file_of_a_socket_goes_with_its_last_descriptor_unless_it_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http.sock");
        let address = ListenAddress::Unix(path.clone());
        let socket = bind(&address, 3, 0o600).unwrap().remove(0);
        let mode = || path.symlink_metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        socket.set_mode(0o666).unwrap();
        assert_eq!(mode(), 0o666);
        let taken = bind(&address, 1, 0o600).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let copy = socket.try_clone().unwrap();
        assert_eq!(copy.address().unwrap(), address);
        drop(socket);
        assert!(path.exists());
        drop(copy);
        assert!(!path.exists());

        let socket = bind(&address, 1, SOCKET_MODE).unwrap().remove(0);
        let descriptor = socket.as_fd().try_clone_to_owned().unwrap();
        socket.own_file(false);
        drop(socket);
        assert!(path.exists());
        let other = BoundSocket::unix(descriptor.into(), path.clone(), true).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(other);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        let found = bind(&address, 1, SOCKET_MODE).unwrap_err();
        assert_eq!(found.kind(), io::ErrorKind::AlreadyExists);
    }
}
