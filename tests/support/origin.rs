//! A web server that records what it is asked, and answers as a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a test waits for a request before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a loopback port of its own. Its threads end with the process.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Mutex<Receiver<Seen>>,
}

/// A request as it arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    /// The number of its connection, from 1.
    pub(crate) connection: usize,
    /// The request line without its end.
    pub(crate) line: String,
    /// Names in the case received.
    pub(crate) fields: Vec<(String, String)>,
    /// The body, if it was read and arrived whole.
    pub(crate) body: Option<Vec<u8>>,
    /// The lines that trailed it.
    pub(crate) trailers: Vec<String>,
}

/// What a connection does after an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Then {
    Close,
    Keep,
    Reset,
}

/// One connection, for the behaviour to read and write.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    tell: SyncSender<Seen>,
    requests: usize,
    trailers: Vec<String>,
}

impl Seen {
    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    /// Every value of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let named = self
            .fields
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

impl Origin {
    /// Starts a server; `behave` runs for each request once its head was read.
    pub(crate) fn start(
        behave: impl Fn(&mut Connection, Seen) -> Then + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self::serve(address, move || Ok(listener.accept()?.0), behave)
    }

    /// The same at a Unix socket; its address means nothing.
    pub(crate) fn start_unix(
        path: &Path,
        behave: impl Fn(&mut Connection, Seen) -> Then + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        // A socket is read and written in one way, whatever its family.
        let accept = move || Ok(TcpStream::from(OwnedFd::from(listener.accept()?.0)));
        Self::serve(([0; 4], 0).into(), accept, behave)
    }

    fn serve(
        address: SocketAddr,
        accept: impl Fn() -> std::io::Result<TcpStream> + Send + 'static,
        behave: impl Fn(&mut Connection, Seen) -> Then + Send + Sync + 'static,
    ) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let (tell, seen) = sync_channel(100_000);
        let behave = Arc::new(behave);
        std::thread::spawn(move || {
            while let Ok(stream) = accept() {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let (behave, tell) = (Arc::clone(&behave), tell.clone());
                std::thread::spawn(move || {
                    let mut connection = Connection {
                        stream: BufReader::new(stream),
                        tell,
                        requests: 0,
                        trailers: Vec::new(),
                    };
                    while let Some(seen) = connection.head(number) {
                        match behave(&mut connection, seen) {
                            Then::Close => break,
                            Then::Keep => {}
                            Then::Reset => {
                                let socket = socket2::SockRef::from(connection.stream.get_ref());
                                socket.set_linger(Some(Duration::ZERO)).unwrap();
                                break;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            connections,
            seen: Mutex::new(seen),
        }
    }

    /// A server that reads each request whole, records it, and answers 200 with this body.
    pub(crate) fn answering(body: &'static str) -> Self {
        Self::start(move |connection, seen| {
            if connection.take(seen).is_none() {
                return Then::Close;
            }
            connection.answer("200 OK", "", body);
            Then::Keep
        })
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The next recorded request.
    pub(crate) fn next(&self) -> Seen {
        self.seen
            .lock()
            .unwrap()
            .recv_timeout(PATIENCE)
            .expect("no request came")
    }

    /// The recorded requests that nobody took.
    pub(crate) fn others(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().try_iter().collect()
    }
}

impl Connection {
    /// Requests on this connection so far.
    pub(crate) fn count(&self) -> usize {
        self.requests
    }

    fn head(&mut self, connection: usize) -> Option<Seen> {
        let line = self.line()?;
        self.requests += 1;
        let mut fields = Vec::new();
        loop {
            let field = self.line()?;
            match field.split_once(':') {
                Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
                None => {
                    return field.is_empty().then_some(Seen {
                        connection,
                        line,
                        fields,
                        body: None,
                        trailers: Vec::new(),
                    });
                }
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).ok()?;
        let text = line.strip_suffix(b"\r\n")?;
        Some(text.iter().map(|&byte| char::from(byte)).collect())
    }

    /// Reads the body and records the request; `None` when the body broke off.
    pub(crate) fn take(&mut self, mut seen: Seen) -> Option<Vec<u8>> {
        let body = self.body(&seen);
        seen.body.clone_from(&body);
        seen.trailers = std::mem::take(&mut self.trailers);
        self.record(seen);
        body
    }

    /// Records the request as it is.
    pub(crate) fn record(&self, seen: Seen) {
        self.tell.send(seen).unwrap();
    }

    /// Reads the body; `None` when it broke off.
    pub(crate) fn body(&mut self, seen: &Seen) -> Option<Vec<u8>> {
        if !seen.values("transfer-encoding").is_empty() {
            let mut body = Vec::new();
            loop {
                let line = self.line()?;
                let length = usize::from_str_radix(&line, 16).ok()?;
                if length == 0 {
                    self.trailers.clear();
                    loop {
                        let line = self.line()?;
                        if line.is_empty() {
                            return Some(body);
                        }
                        self.trailers.push(line);
                    }
                }
                let mut chunk = vec![0; length];
                self.stream.read_exact(&mut chunk).ok()?;
                body.extend_from_slice(&chunk);
                if !self.line()?.is_empty() {
                    return None;
                }
            }
        }
        let length = seen
            .values("content-length")
            .first()
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok().map(|()| body)
    }

    /// Reads some bytes; 0 at the end, an error when the connection was reset.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Ends this side of the connection.
    pub(crate) fn end(&self) {
        self.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a response with a `Content-Length`; `fields` end with a line end each.
    pub(crate) fn answer(&mut self, status: &str, fields: &str, body: &str) {
        let head = format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body.as_bytes()].concat());
    }
}
