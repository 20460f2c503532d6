//! A web server that speaks HTTP/2, records what it is asked, and answers as a test says.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// How long a test waits for a request before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a loopback port of its own. Its thread ends with the process.
pub(crate) struct Http2Origin {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Mutex<Receiver<Seen>>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The number of its connection, from 1.
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

/// One request, for the behaviour to answer.
pub(crate) struct Exchange {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
    pub(crate) connection: usize,
    tell: SyncSender<Seen>,
}

impl Exchange {
    pub(crate) fn path(&self) -> String {
        self.request.uri().path().to_owned()
    }

    /// Reads the body whole and records the request; nothing when it broke off.
    pub(crate) async fn take(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        let incoming = self.request.body_mut();
        while let Some(data) = incoming.data().await {
            let data = data.ok()?;
            incoming.flow_control().release_capacity(data.len()).ok()?;
            body.extend_from_slice(&data);
        }
        let trailers = incoming.trailers().await.ok()?;
        let seen = Seen {
            connection: self.connection,
            method: self.request.method().to_string(),
            uri: self.request.uri().to_string(),
            fields: self.request.headers().clone(),
            body: body.clone(),
            trailers,
        };
        self.tell.send(seen).unwrap();
        Some(body)
    }

    /// Sends a whole response, as fast as the peer takes it.
    pub(crate) async fn answer(&mut self, status: u16, body: &[u8], trailers: Option<HeaderMap>) {
        let response = http::Response::builder().status(status).body(()).unwrap();
        let Ok(mut stream) = self.respond.send_response(response, false) else {
            return;
        };
        let mut rest = Bytes::copy_from_slice(body);
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            if stream.capacity() == 0 {
                match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
                    Some(Ok(_)) => continue,
                    _ => return,
                }
            }
            let room = stream.capacity().min(rest.len());
            if stream.send_data(rest.split_to(room), false).is_err() {
                return;
            }
        }
        let _ = match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        };
    }
}

impl Http2Origin {
    /// Starts a server; `behave` runs for each request.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        behave: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::with(h2::server::Builder::new(), None, behave)
    }

    /// The same within TLS, or with other settings.
    pub(crate) fn with<F: Future<Output = ()> + Send + 'static>(
        builder: h2::server::Builder,
        tls: Option<Arc<rustls::ServerConfig>>,
        behave: impl Fn(Exchange) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let (tell, seen) = sync_channel(100_000);
        let behave = Arc::new(behave);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let tls = tls.map(tokio_rustls::TlsAcceptor::from);
                while let Ok((stream, _)) = listener.accept().await {
                    let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                    let (behave, tell, tls) = (Arc::clone(&behave), tell.clone(), tls.clone());
                    let builder = builder.clone();
                    tokio::spawn(async move {
                        match tls {
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    serve(stream, builder, number, tell, behave).await;
                                }
                            }
                            None => serve(stream, builder, number, tell, behave).await,
                        }
                    });
                }
            });
        });
        Self {
            address,
            connections,
            seen: Mutex::new(seen),
        }
    }

    /// A server that reads each request whole, records it, and answers 200 with its path.
    pub(crate) fn echo() -> Self {
        Self::start(|mut exchange| async move {
            if exchange.take().await.is_some() {
                let path = exchange.path();
                exchange.answer(200, path.as_bytes(), None).await;
            }
        })
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The next recorded request.
    pub(crate) fn next(&self) -> Seen {
        let seen = self.seen.lock().unwrap();
        seen.recv_timeout(PATIENCE).expect("no request came")
    }

    /// The recorded requests that nobody took.
    pub(crate) fn others(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().try_iter().collect()
    }
}

async fn serve<S, F>(
    stream: S,
    builder: h2::server::Builder,
    connection: usize,
    tell: SyncSender<Seen>,
    behave: Arc<impl Fn(Exchange) -> F>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(mut requests) = builder.handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = requests.accept().await {
        tokio::spawn(behave(Exchange {
            request,
            respond,
            connection,
            tell: tell.clone(),
        }));
    }
}
