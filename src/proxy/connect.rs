//! Opening connections to servers, and keeping them moving.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use hyper::client::conn::http1::{Builder, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::ProxyError;
use super::body::RequestBody;
use super::core::Core;
use super::metrics::Counted;
use super::pool::{Left, Sender, Server};
use crate::net::Stream;

/// Addresses of one host name that are tried.
const ADDRESSES: usize = 8;

/// Opens a connection; its own task moves it from then on.
pub(super) async fn connect(core: &Core, server: &Server) -> Result<Sender, ProxyError> {
    let stream = secure(server, open(server).await?).await?;
    let limits = &core.shared.config.limits;
    let (requests, connection) = Builder::new()
        .max_headers(limits.head.fields)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ProxyError::exchange)?;
    let (leave, left) = oneshot::channel();
    let busy = Rc::new(Cell::new(false));
    let counted = core.shared.meters.upstream_connection();
    tokio::task::spawn_local(drive(connection, leave, Rc::clone(&busy), counted));
    Ok(Sender {
        requests,
        busy,
        left,
    })
}

async fn open(server: &Server) -> Result<TcpStream, ProxyError> {
    let timeout = server.connect_timeout;
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
async fn secure(server: &Server, stream: TcpStream) -> Result<Stream, ProxyError> {
    stream.set_nodelay(true).map_err(ProxyError::connect)?;
    let Some(tls) = &server.tls else {
        return Ok(Stream::Plain(stream));
    };
    let timeout = server.connect_timeout;
    tokio::time::timeout(timeout, tls.connect(stream))
        .await
        .map_err(|_| ProxyError::connect_timeout())?
        .map_err(ProxyError::handshake)
}

/// Moves a connection until it ends.
async fn drive(
    mut connection: Connection<TokioIo<Stream>, RequestBody>,
    leave: oneshot::Sender<Left>,
    busy: Rc<Cell<bool>>,
    _counted: Counted,
) {
    let result = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let parts = connection.into_parts();
    let left = Left {
        stream: Some(parts.io.into_inner()),
        early: parts.read_buf,
        busy,
    };
    if result.is_ok() {
        // Whoever changed the protocol takes it over; to anybody else it means nothing.
        let _ = leave.send(left);
    }
}
