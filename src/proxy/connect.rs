//! Opening connections to servers.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::ProxyError;
use super::core::Core;
use super::pool::{Connection, Server};
use crate::net::{ClientConnection, Side, Socket, Stream, TlsClient, connect_unix};

/// Addresses of one host name that are tried.
const ADDRESSES: usize = 8;

/// Opens a connection.
pub(super) async fn connect(core: &Core, server: &Server) -> Result<Connection, ProxyError> {
    let stream = secure(core, server, server.tls.as_ref(), open(server).await?).await?;
    Ok(counted(core, ClientConnection::new(stream)))
}

/// A connection that is counted while it exists.
pub(super) fn counted(core: &Core, wire: ClientConnection) -> Connection {
    Connection {
        wire: Box::new(wire),
        _counted: core.shared.meters.upstream_connection(),
    }
}

/// Opens a connection, without TLS so far.
pub(super) async fn open(server: &Server) -> Result<TcpStream, ProxyError> {
    let timeout = server.connect_timeout;
    if let Some(path) = &server.socket {
        return match tokio::time::timeout(timeout, connect_unix(path)).await {
            Ok(stream) => stream.map_err(ProxyError::connect),
            Err(_) => Err(ProxyError::connect_timeout()),
        };
    }
    let addresses: Vec<SocketAddr> = match server.address {
        Some(address) => vec![address],
        None => match tokio::time::timeout(
            timeout,
            tokio::net::lookup_host((server.host.as_str(), server.port)),
        )
        .await
        {
            Ok(found) => found
                .map_err(ProxyError::connect)?
                .take(ADDRESSES)
                .collect(),
            Err(_) => return Err(ProxyError::connect_timeout()),
        },
    };
    let mut last = ProxyError::connect(io::Error::new(
        io::ErrorKind::NotFound,
        "the name has no address",
    ));
    for address in addresses {
        match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = ProxyError::connect(error),
            Err(_) => last = ProxyError::connect_timeout(),
        }
    }
    Err(last)
}

/// Shakes hands, if the server is spoken to within TLS.
pub(super) async fn secure(
    core: &Core,
    server: &Server,
    tls: Option<&TlsClient>,
    stream: TcpStream,
) -> Result<Stream, ProxyError> {
    if server.socket.is_none() {
        stream.set_nodelay(true).map_err(ProxyError::connect)?;
    }
    let socket = Socket::new(stream, Side::Server, &core.batch);
    let Some(tls) = tls else {
        return Ok(Stream::Plain(socket));
    };
    let timeout = server.connect_timeout;
    tokio::time::timeout(timeout, tls.connect(socket))
        .await
        .map_err(|_| ProxyError::connect_timeout())?
        .map_err(ProxyError::handshake)
}
