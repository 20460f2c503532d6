//! A feed's host on loopback that answers well, or in one of the ways that feeds fail.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long a test waits for a request before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests that are remembered; further ones are served and forgotten.
const REMEMBERED: usize = 1_024;

/// How the server answers.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// The document, whole.
    Answer(Vec<u8>),
    /// The document with a content encoding.
    Encoded(&'static str, Vec<u8>),
    /// A body without an end.
    Endless,
    /// A head without an end.
    EndlessHead,
    /// Files by their names; 404 for every other one.
    Files(BTreeMap<String, Vec<u8>>),
    /// These octets, whatever they are.
    Raw(Vec<u8>),
    /// A redirection to this place.
    RedirectTo(String),
    /// Accepts and says nothing.
    Silent,
    /// One octet of the document now and then.
    Slow(Vec<u8>),
    /// Another status than 200.
    Status(u16),
    /// Half of the document, and a length that promises all of it.
    Truncated(Vec<u8>),
    /// The document in chunks, without the last one.
    TruncatedChunks(Vec<u8>),
    /// The document with this tag and a time; 304 to whoever knows that tag.
    Versioned(String, Vec<u8>),
}

/// When [`Mode::Versioned`] says that its document was changed.
pub(crate) const LAST_MODIFIED: &str = "Wed, 25 Nov 2026 10:00:00 GMT";

/// A running server; it ends when dropped.
pub(crate) struct FeedServer {
    pub(crate) address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    requests: Receiver<String>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FeedServer {
    pub(crate) fn start(mode: Mode) -> Self {
        Self::listen(mode, None)
    }

    /// The same with TLS.
    pub(crate) fn start_secure(mode: Mode, tls: ServerConfig) -> Self {
        Self::listen(mode, Some(Arc::new(tls)))
    }

    fn listen(mode: Mode, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(Mutex::new(mode));
        let (remember, requests) = sync_channel(REMEMBERED);
        let stopped = Arc::new(AtomicBool::new(false));
        let served = Served {
            mode: Arc::clone(&mode),
            remember,
            stopped: Arc::clone(&stopped),
        };
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if served.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (served, tls) = (served.clone(), tls.clone());
                std::thread::spawn(move || served.connection(stream, tls));
            }
        });
        Self {
            address,
            mode,
            requests,
            stopped,
            thread: Some(thread),
        }
    }

    /// Answers otherwise from now on.
    pub(crate) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Where the document is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/feed.xml", self.address)
    }

    /// The heads of the requests that were not looked at.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.try_iter().collect()
    }

    /// The head of the next request, waited for.
    pub(crate) fn request(&self) -> String {
        self.requests.recv_timeout(PATIENCE).expect("a request")
    }
}

impl Drop for FeedServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the accepting thread; it may be gone already.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[derive(Clone)]
struct Served {
    mode: Arc<Mutex<Mode>>,
    remember: SyncSender<String>,
    stopped: Arc<AtomicBool>,
}

impl Served {
    fn connection(&self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
        // A client that goes away is no failure of the server's.
        let _ = match tls {
            None => self.answer(stream),
            Some(tls) => match ServerConnection::new(tls) {
                Ok(connection) => self.answer(StreamOwned::new(connection, stream)),
                Err(error) => Err(std::io::Error::other(error)),
            },
        };
    }

    fn answer(&self, stream: impl Read + Write) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let mode = self.mode.lock().unwrap().clone();
        let asked = head.clone();
        let _ = self.remember.try_send(head);
        let mut stream = stream.into_inner();
        match mode {
            Mode::Answer(document) => {
                write!(stream, "{}", head_of(document.len()))?;
                stream.write_all(&document)?;
            }
            Mode::Encoded(coding, document) => {
                let head = head_of(document.len());
                let head = head.trim_end();
                write!(stream, "{head}\r\nContent-Encoding: {coding}\r\n\r\n")?;
                stream.write_all(&document)?;
            }
            Mode::Endless => {
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                )?;
                let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
                while !self.stopped.load(Ordering::Relaxed) {
                    stream.write_all(chunk.as_bytes())?;
                }
            }
            Mode::EndlessHead => {
                write!(stream, "HTTP/1.1 200 OK\r\n")?;
                while !self.stopped.load(Ordering::Relaxed) {
                    stream.write_all(b"X-Field: some words of no interest to anybody\r\n")?;
                }
            }
            Mode::Files(files) => match files.get(&file_name(&asked)) {
                Some(file) => {
                    write!(stream, "{}", head_of(file.len()))?;
                    stream.write_all(file)?;
                }
                None => write!(
                    stream,
                    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
                )?,
            },
            Mode::Raw(octets) => stream.write_all(&octets)?,
            Mode::RedirectTo(place) => write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"
            )?,
            Mode::Silent => self.wait_for_the_end(&mut stream)?,
            Mode::Slow(document) => {
                write!(stream, "{}", head_of(document.len()))?;
                for octet in document {
                    stream.write_all(&[octet])?;
                    stream.flush()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            Mode::Status(status) => {
                write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n")?;
            }
            Mode::Truncated(document) => {
                write!(stream, "{}", head_of(document.len()))?;
                stream.write_all(&document[..document.len() / 2])?;
            }
            Mode::TruncatedChunks(document) => {
                let length = document.len();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n"
                )?;
                stream.write_all(&document)?;
                stream.write_all(b"\r\n")?;
            }
            Mode::Versioned(tag, document) => {
                let validators = format!("ETag: {tag}\r\nLast-Modified: {LAST_MODIFIED}");
                let known = format!("if-none-match: {tag}\r\n");
                if asked.to_ascii_lowercase().contains(&known) {
                    write!(stream, "HTTP/1.1 304 Not Modified\r\n{validators}\r\n\r\n")?;
                } else {
                    let head = head_of(document.len());
                    write!(stream, "{}\r\n{validators}\r\n\r\n", head.trim_end())?;
                    stream.write_all(&document)?;
                }
            }
        }
        stream.flush()
    }

    fn wait_for_the_end(&self, stream: &mut impl Read) -> std::io::Result<()> {
        stream.read(&mut [0]).map(drop)
    }
}

/// The last segment of the path that a request's head asks for.
fn file_name(head: &str) -> String {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn head_of(length: usize) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/xml; charset=utf-8\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// A proxy that makes tunnels, and remembers what it was asked for.
pub(crate) struct TunnelProxy {
    pub(crate) address: SocketAddr,
    asked: Receiver<String>,
}

impl TunnelProxy {
    /// Leads every tunnel to `target`, whatever host it names; answers `refusal` instead if there is one.
    pub(crate) fn start(target: SocketAddr, refusal: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (remember, asked) = sync_channel(REMEMBERED);
        // Serves one tunnel and ends: the test that needs another starts another.
        std::thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let mut client = BufReader::new(client);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if client.read_line(&mut head).unwrap() == 0 {
                    return;
                }
            }
            remember.send(head).unwrap();
            let mut client = client.into_inner();
            if let Some(status) = refusal {
                write!(client, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").unwrap();
                return;
            }
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let mut server = TcpStream::connect(target).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let _ = std::io::copy(&mut server, &mut client);
            let _ = client.shutdown(std::net::Shutdown::Both);
        });
        Self { address, asked }
    }

    /// The head of the next request for a tunnel, waited for.
    pub(crate) fn asked(&self) -> String {
        self.asked.recv_timeout(PATIENCE).expect("a request")
    }
}
