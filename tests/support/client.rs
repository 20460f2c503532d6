//! A blocking HTTP/1.1 client that sends exactly the bytes it is given and tells a reset from a close.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a test waits for a peer before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Client {
    stream: BufReader<Box<dyn Wire>>,
    socket: TcpStream,
}

/// A byte stream: a socket, or TLS over one.
trait Wire: Read + Write + Send {}

impl<W: Read + Write + Send> Wire for W {}

/// A response, read whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What came instead of a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Lost {
    /// The connection was closed in order before any byte.
    Closed,
    /// The connection was reset before any byte.
    Reset,
    /// The connection ended in the middle of a response.
    Truncated,
}

/// What client and server agreed on.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The server's own certificate, in DER.
    pub(crate) certificate: Vec<u8>,
    pub(crate) protocol: Option<Vec<u8>>,
    pub(crate) version: rustls::ProtocolVersion,
    pub(crate) resumed: bool,
}

impl Reply {
    /// The only value of a field, `None` when it is absent.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub(crate) fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let socket = open(address)?;
        Ok(Self {
            stream: BufReader::new(Box::new(socket.try_clone()?)),
            socket,
        })
    }

    /// Connects to a Unix socket. A socket is read and written in one way, whatever its family.
    pub(crate) fn connect_unix(path: &Path) -> std::io::Result<Self> {
        let socket = OwnedFd::from(UnixStream::connect(path)?);
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(Box::new(socket.try_clone()?)),
            socket,
        })
    }

    /// Connects by TLS to a server of this name, and shakes hands.
    pub(crate) fn connect_tls(
        address: SocketAddr,
        config: Arc<rustls::ClientConfig>,
        name: &str,
    ) -> std::io::Result<(Self, Handshake)> {
        let mut socket = open(address)?;
        let name = name.to_owned().try_into().unwrap();
        let mut tls = rustls::ClientConnection::new(config, name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        let handshake = Handshake {
            certificate: tls.peer_certificates().unwrap()[0].to_vec(),
            protocol: tls.alpn_protocol().map(<[u8]>::to_vec),
            version: tls.protocol_version().unwrap(),
            resumed: tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        };
        let wire = rustls::StreamOwned::new(tls, socket.try_clone()?);
        let client = Self {
            stream: BufReader::new(Box::new(wire)),
            socket,
        };
        Ok((client, handshake))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// A request without a body on this connection.
    pub(crate) fn get(&mut self, target: &str, fields: &[(&str, &str)]) -> Result<Reply, Lost> {
        self.request("GET", target, fields, b"")
    }

    /// A request with a `Host` unless `fields` has one, and a `Content-Length` when there is a body.
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, Lost> {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !fields
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head.push_str("Host: localhost\r\n");
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes).map_err(|error| lost(&error))?;
        self.reply(method)
    }

    /// Reads the next response to a request of this method.
    pub(crate) fn reply(&mut self, method: &str) -> Result<Reply, Lost> {
        loop {
            let reply = self.one_reply(method)?;
            if reply.status >= 200 || reply.status == 101 {
                return Ok(reply);
            }
        }
    }

    /// Ends this side; the other may go on.
    pub(crate) fn end(&mut self) -> std::io::Result<()> {
        self.socket.shutdown(std::net::Shutdown::Write)
    }

    /// The bytes up to and including the next empty line.
    pub(crate) fn read_until_blank_line(&mut self) -> std::io::Result<String> {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut text)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Exactly this many bytes.
    pub(crate) fn read_exactly(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Whatever still comes until the peer closes.
    pub(crate) fn rest(&mut self) -> Result<Vec<u8>, Lost> {
        let mut rest = Vec::new();
        self.stream
            .read_to_end(&mut rest)
            .map_err(|error| lost(&error))?;
        Ok(rest)
    }

    fn one_reply(&mut self, method: &str) -> Result<Reply, Lost> {
        let mut line = Vec::new();
        self.stream
            .read_until(b'\n', &mut line)
            .map_err(|error| lost(&error))?;
        if line.is_empty() {
            return Err(Lost::Closed);
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let mut words = text.splitn(3, ' ');
        assert!(
            words.next().unwrap().starts_with("HTTP/1."),
            "not a status line: {text:?}"
        );
        let status = words.next().unwrap().parse().unwrap();
        let reason = words.next().unwrap_or("").to_owned();
        let fields = self.fields()?;
        let mut reply = Reply {
            status,
            reason,
            fields,
            body: Vec::new(),
        };
        reply.body = self.body(method, &reply)?;
        Ok(reply)
    }

    fn fields(&mut self) -> Result<Vec<(String, String)>, Lost> {
        let mut fields = Vec::new();
        loop {
            let mut line = Vec::new();
            self.stream
                .read_until(b'\n', &mut line)
                .map_err(|_| Lost::Truncated)?;
            let line = String::from_utf8_lossy(&line).into_owned();
            match line.trim_end_matches(['\r', '\n']).split_once(':') {
                Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
                None if line == "\r\n" => return Ok(fields),
                None => return Err(Lost::Truncated),
            }
        }
    }

    fn body(&mut self, method: &str, reply: &Reply) -> Result<Vec<u8>, Lost> {
        let mut body = Vec::new();
        if method == "HEAD" || matches!(reply.status, 100..=199 | 204 | 304) {
            return Ok(body);
        }
        if reply.field("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                self.stream
                    .read_line(&mut line)
                    .map_err(|_| Lost::Truncated)?;
                let length = usize::from_str_radix(line.trim(), 16).map_err(|_| Lost::Truncated)?;
                if length == 0 {
                    self.fields()?;
                    return Ok(body);
                }
                let mut chunk = vec![0; length + 2];
                self.stream
                    .read_exact(&mut chunk)
                    .map_err(|_| Lost::Truncated)?;
                body.extend_from_slice(&chunk[..length]);
            }
        }
        match reply.field("content-length") {
            Some(length) => {
                body.resize(length.parse().unwrap(), 0);
                self.stream
                    .read_exact(&mut body)
                    .map_err(|_| Lost::Truncated)?;
            }
            None => {
                self.stream
                    .read_to_end(&mut body)
                    .map_err(|_| Lost::Truncated)?;
            }
        }
        Ok(body)
    }
}

fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn lost(error: &std::io::Error) -> Lost {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Lost::Reset,
        kind => panic!("the peer kept silent: {kind}"),
    }
}
