//! A blocking HTTP/2 client that sends exactly the frames it is given, with fields that are never compressed.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a test waits for a peer before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// A frame as it is on the wire.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals without indexing (RFC 7541 section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name.as_bytes());
        text(&mut block, value.as_bytes());
    }
    block
}

fn text(block: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() < 127 {
        block.push(bytes.len() as u8);
    } else {
        block.push(127);
        let mut rest = bytes.len() - 127;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend(bytes);
}

/// A request head in as many frames as it takes.
pub(crate) fn head(stream: u32, fields: &[(&str, &str)], end_stream: bool) -> Vec<u8> {
    let block = block(fields);
    let mut pieces = block.chunks(16_384).peekable();
    let mut bytes = Vec::new();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let mut flags = if pieces.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        if kind == HEADERS && end_stream {
            flags |= END_STREAM;
        }
        bytes.extend(frame(kind, flags, stream, piece));
        kind = CONTINUATION;
    }
    bytes
}

/// The fields of a request for a path, before others.
pub(crate) fn request<'a>(
    method: &'a str,
    path: &'a str,
    others: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "mail.example"),
        (":path", path),
    ];
    fields.extend(others);
    fields
}

/// What became of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Answered {
        status: u16,
        body: Vec<u8>,
    },
    /// Reset with this code.
    Reset(u32),
    /// The connection ended, with this code if it said one.
    Gone(Option<u32>),
}

/// A frame that was received.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

#[derive(Default)]
struct Answer {
    status: Option<u16>,
    body: Vec<u8>,
}

/// One connection.
pub(crate) struct Http2Client {
    pub(crate) stream: TcpStream,
    answers: HashMap<u32, Answer>,
    ends: HashMap<u32, End>,
    goaway: Option<u32>,
    /// Whether windows are opened again for what was received, and frames acknowledged that ask for it.
    pub(crate) takes: bool,
}

impl Http2Client {
    /// Connects, sends the preface with these settings, and nothing else.
    pub(crate) fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut payload = Vec::new();
        // Without a table, a status is never sent as a reference to an earlier one.
        for (name, value) in [(1, 0)].iter().chain(settings) {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut client = Self {
            stream,
            answers: HashMap::new(),
            ends: HashMap::new(),
            goaway: None,
            takes: true,
        };
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat());
        client
    }

    /// Sends bytes; a peer that has closed is found out by reading.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// A request without a body.
    pub(crate) fn get(&mut self, stream: u32, path: &str, fields: &[(&str, &str)]) -> End {
        self.send(&head(stream, &request("GET", path, fields), true));
        self.end(stream)
    }

    /// The next frame; nothing when the connection has ended.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        if !self.read(&mut header) {
            return None;
        }
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        if !self.read(&mut payload) {
            return None;
        }
        Some(Frame {
            kind: header[3],
            flags: header[4],
            stream: u32::from_be_bytes(header[5..].try_into().unwrap()),
            payload,
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> bool {
        match self.stream.read_exact(buffer) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the peer kept silent")
            }
            Err(_) => false,
        }
    }

    /// Reads until a stream has ended.
    pub(crate) fn end(&mut self, stream: u32) -> End {
        loop {
            if let Some(end) = self.ends.remove(&stream) {
                return end;
            }
            let Some(frame) = self.next() else {
                return End::Gone(self.goaway);
            };
            self.take(frame);
        }
    }

    /// Reads until the next head of a stream, that of an interim response included; its status.
    pub(crate) fn status(&mut self, stream: u32) -> u16 {
        loop {
            let frame = self.next().expect("a head");
            if frame.stream == stream && frame.kind == HEADERS {
                let status = status(&frame.payload).unwrap();
                if status >= 200 {
                    self.take(frame);
                }
                return status;
            }
            self.take(frame);
        }
    }

    /// Reads until the connection has ended; the code that it said.
    pub(crate) fn gone(&mut self) -> Option<u32> {
        while let Some(frame) = self.next() {
            self.take(frame);
        }
        self.goaway
    }

    fn take(&mut self, frame: Frame) {
        let code = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
        let answer = self.answers.entry(frame.stream).or_default();
        match frame.kind {
            HEADERS if answer.status.is_none() => answer.status = status(&frame.payload),
            DATA => answer.body.extend(&frame.payload),
            RST_STREAM => {
                self.ends.entry(frame.stream).or_insert(End::Reset(code(0)));
            }
            GOAWAY => self.goaway = Some(code(4)),
            SETTINGS if self.takes && frame.flags & 1 == 0 => {
                self.send(&self::frame(SETTINGS, 1, 0, b""))
            }
            PING if self.takes && frame.flags & 1 == 0 => {
                self.send(&self::frame(PING, 1, 0, &frame.payload))
            }
            _ => {}
        }
        if frame.kind == DATA && self.takes && !frame.payload.is_empty() {
            let count = (frame.payload.len() as u32).to_be_bytes();
            let update = |stream| self::frame(WINDOW_UPDATE, 0, stream, &count);
            self.send(&[update(0), update(frame.stream)].concat());
        }
        if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
            let answer = self.answers.remove(&frame.stream).unwrap_or_default();
            let end = End::Answered {
                status: answer.status.unwrap_or(0),
                body: answer.body,
            };
            self.ends.entry(frame.stream).or_insert(end);
        }
    }
}

/// The status in a block that begins with it, as every encoder has it: indexed, or a literal behind an index.
fn status(block: &[u8]) -> Option<u16> {
    let known = [200, 204, 206, 304, 400, 404, 500];
    // Updates of the table's size come first.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    let block = &block[start..];
    match block[0] {
        first @ 0x88..=0x8e => Some(known[usize::from(first - 0x88)]),
        first if first & 0x80 == 0 && matches!(first & 0x0f, 8..=14) => {
            let length = usize::from(block[1] & 0x7f);
            let text = &block[2..2 + length];
            match block[1] & 0x80 {
                0 => std::str::from_utf8(text).ok()?.parse().ok(),
                _ => digits(text),
            }
        }
        _ => None,
    }
}

/// Three digits in the code of Huffman (RFC 7541 appendix B).
fn digits(text: &[u8]) -> Option<u16> {
    let bits: Vec<u8> = text
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let (mut at, mut number) = (0, 0);
    let take = |at: usize, count: usize| {
        bits.get(at..at + count).map(|bits| {
            bits.iter()
                .fold(0_u16, |sum, bit| sum << 1 | u16::from(*bit))
        })
    };
    for _ in 0..3 {
        let five = take(at, 5)?;
        let (digit, width) = match five {
            0..=2 => (five, 5),
            _ => (take(at, 6)?.checked_sub(0x19)? + 3, 6),
        };
        number = number * 10 + digit;
        at += width;
    }
    Some(number)
}
