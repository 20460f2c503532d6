//! Frame headers in a stream of bytes, and what each frame costs (RFC 9113 sections 4.1 and 6).

/// Bytes of a frame header.
const HEADER: usize = 9;

/// Types of frames that mean something here.
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// Error codes with which a stream is reset here on purpose, not for something that the client did wrong:
/// `NO_ERROR`, `INTERNAL_ERROR`, `CANCEL` and `HTTP_1_1_REQUIRED` (RFC 9113 section 7).
const OWN_RESETS: [u32; 4] = [0x0, 0x2, 0x8, 0xd];

/// What frames may cost beyond what they get done. A frame that moves nothing costs one.
const CREDIT: i64 = 4_000;

/// The cost of a stream that is given up: it was judged, and may have reached a server.
const RESET_COST: i64 = 20;

/// The cost of a frame with which a head continues: each makes the library look at all of the head again.
const CONTINUATION_COST: i64 = 8;

/// What an answer that was sent whole, and a frame of a body, give back.
const ANSWER_GAIN: i64 = 20;
const DATA_GAIN: i64 = 4;

/// Bytes of a body in one frame from which on it is no longer a frame that moves nothing.
const SMALL_DATA: usize = 16;

/// The frame header at hand, or the rest of its payload.
#[derive(Debug, Default)]
struct Cursor {
    header: [u8; HEADER],
    filled: usize,
    /// Bytes of the payload that have not come, once the header is whole.
    left: usize,
    /// The first bytes of the payload, of frames that are looked into.
    start: [u8; 4],
    started: usize,
}

/// A frame that was read to its end.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    length: usize,
    start: [u8; 4],
}

impl Cursor {
    /// The next frame in `bytes` that is whole, if there is one; what was read is cut off.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        while self.filled < HEADER {
            let (&byte, rest) = bytes.split_first()?;
            self.header[self.filled] = byte;
            self.filled += 1;
            *bytes = rest;
            if self.filled == HEADER {
                self.left = self.length();
                self.started = 0;
            }
        }
        let count = self.left.min(bytes.len());
        let (payload, rest) = bytes.split_at(count);
        for &byte in payload.iter().take(4 - self.started) {
            self.start[self.started] = byte;
            self.started += 1;
        }
        *bytes = rest;
        self.left -= count;
        if self.left > 0 {
            return None;
        }
        self.filled = 0;
        Some(Frame {
            kind: self.header[3],
            flags: self.header[4],
            stream: u32::from_be_bytes([
                self.header[5] & 0x7f,
                self.header[6],
                self.header[7],
                self.header[8],
            ]),
            length: self.length(),
            start: self.start,
        })
    }

    fn length(&self) -> usize {
        usize::from(self.header[0]) << 16
            | usize::from(self.header[1]) << 8
            | usize::from(self.header[2])
    }

    /// Whether the bytes so far end within a frame.
    const fn is_within(&self) -> bool {
        self.filled > 0
    }

    /// Whether the bytes so far end within a frame of a body, header and all.
    const fn is_within_data(&self) -> bool {
        self.filled == HEADER && self.header[3] == DATA
    }
}

/// What the frames so far, of both directions, come to.
#[derive(Debug)]
pub(super) struct Frames {
    received: Cursor,
    sent: Cursor,
    /// Bytes of the preface that have not come.
    preface: usize,
    /// Streams that the client began and that were not answered whole.
    open: Vec<u32>,
    last: u32,
    within_head: bool,
    begun: bool,
    credit: i64,
    answered_bytes: u64,
}

impl Frames {
    pub(super) const fn new(preface: usize) -> Self {
        Self {
            received: Cursor {
                header: [0; HEADER],
                filled: 0,
                left: 0,
                start: [0; 4],
                started: 0,
            },
            sent: Cursor {
                header: [0; HEADER],
                filled: 0,
                left: 0,
                start: [0; 4],
                started: 0,
            },
            preface,
            open: Vec::new(),
            last: 0,
            within_head: false,
            begun: false,
            credit: CREDIT,
            answered_bytes: 0,
        }
    }

    /// Looks at bytes from the client.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        bytes = &bytes[preface..];
        while let Some(frame) = self.received.next(&mut bytes) {
            self.received(frame);
        }
    }

    fn received(&mut self, frame: Frame) {
        match frame.kind {
            DATA if frame.length >= SMALL_DATA || frame.flags & END_STREAM != 0 => {}
            HEADERS => {
                self.begun = true;
                self.within_head = frame.flags & END_HEADERS == 0;
                self.open(frame.stream);
            }
            CONTINUATION => {
                self.within_head &= frame.flags & END_HEADERS == 0;
                self.credit -= CONTINUATION_COST;
                self.open(frame.stream);
            }
            RST_STREAM => {
                self.close(frame.stream);
                self.credit -= RESET_COST;
            }
            _ => self.credit -= 1,
        }
    }

    /// Looks at bytes to the client.
    pub(super) fn send(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.sent.next(&mut bytes) {
            match frame.kind {
                DATA => {
                    self.gain(DATA_GAIN);
                    self.answered_bytes += (HEADER + frame.length) as u64;
                }
                HEADERS => self.answered_bytes += (HEADER + frame.length) as u64,
                RST_STREAM => {
                    self.close(frame.stream);
                    if !OWN_RESETS.contains(&u32::from_be_bytes(frame.start)) {
                        self.credit -= RESET_COST;
                    }
                }
                _ => {}
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                self.close(frame.stream);
                self.gain(ANSWER_GAIN);
            }
        }
    }

    /// Counts a stream once its head is whole, and can be answered.
    fn open(&mut self, stream: u32) {
        if !self.within_head && stream > self.last {
            self.last = stream;
            self.open.push(stream);
        }
    }

    fn close(&mut self, stream: u32) {
        self.open.retain(|&other| other != stream);
    }

    /// Gives back what a frame got done, or what time allows.
    pub(super) fn gain(&mut self, count: i64) {
        self.credit = (self.credit + count).min(CREDIT);
    }

    /// Whether the client has used up what it may cost.
    pub(super) const fn is_flood(&self) -> bool {
        self.credit < 0
    }

    /// Streams that were not answered whole.
    pub(super) fn unanswered(&self) -> usize {
        self.open.len()
    }

    /// Bytes of frames that carried answers.
    pub(super) const fn answered_bytes(&self) -> u64 {
        self.answered_bytes
    }

    /// Whether a first request has come.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether the bytes so far end within the body of a request.
    pub(super) const fn is_within_data(&self) -> bool {
        self.received.is_within_data()
    }

    /// Whether the bytes so far end within a head, or a frame other than one of a body.
    pub(super) const fn is_within_head(&self) -> bool {
        self.within_head || (self.received.is_within() && !self.received.is_within_data())
    }

    /// Whether a frame can be put behind what was sent so far.
    pub(super) const fn can_send(&self) -> bool {
        !self.sent.is_within()
    }

    /// The last stream that the client began.
    pub(super) const fn last(&self) -> u32 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    #[test]
    fn frames_are_found_however_bytes_are_cut() {
        let bytes = [
            b"PRI".to_vec(),
            frame(4, 0, 0, b""),
            frame(HEADERS, 0, 1, b"abc"),
            frame(CONTINUATION, END_HEADERS, 1, b"d"),
            frame(HEADERS, END_HEADERS, 3, b"abc"),
        ]
        .concat();
        for size in [1, 2, 3, 7, 100] {
            let mut frames = Frames::new(3);
            let mut heads = 0;
            for piece in bytes.chunks(size) {
                frames.receive(piece);
                heads += usize::from(frames.is_within_head());
            }
            assert_eq!((frames.unanswered(), frames.last()), (2, 3));
            assert!(frames.has_begun() && !frames.is_within_head());
            assert_eq!(frames.credit, CREDIT - 1 - CONTINUATION_COST);
            assert_eq!(heads > 0, size < 100);
            frames.send(&frame(HEADERS, END_HEADERS, 1, b"abc"));
            assert_eq!(frames.unanswered(), 2);
            frames.send(&frame(DATA, END_STREAM, 1, b"abc")[..11]);
            assert!(!frames.can_send());
            frames.send(b"c");
            assert_eq!((frames.unanswered(), frames.can_send()), (1, true));
            frames.receive(&frame(RST_STREAM, 0, 3, &[0; 4]));
            assert_eq!(frames.unanswered(), 0);
        }
    }

    #[test]
    fn what_gets_nothing_done_is_a_flood_and_what_does_is_none() {
        let flood = |received: &[u8], sent: &[u8]| {
            let mut frames = Frames::new(0);
            (0..100_000).position(|_| {
                frames.receive(received);
                frames.send(sent);
                frames.is_flood()
            })
        };
        let ping = frame(6, 0, 0, &[0; 8]);
        assert_eq!(flood(&ping, &frame(6, 1, 0, &[0; 8])), Some(4_000));
        assert_eq!(flood(&frame(DATA, 0, 1, b""), b""), Some(4_000));
        let reset = [
            frame(HEADERS, END_HEADERS, 1, b"a"),
            frame(RST_STREAM, 0, 1, &[0; 4]),
        ]
        .concat();
        assert_eq!(flood(&reset, b""), Some(200));
        let protocol_error = frame(RST_STREAM, 0, 1, &[0, 0, 0, 1]);
        assert_eq!(flood(b"", &protocol_error), Some(200));
        assert_eq!(flood(b"", &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])), None);
        let window = frame(8, 0, 1, &[0, 0, 1, 0]);
        assert_eq!(flood(&window, &frame(DATA, 0, 1, &[0; 256])), None);
        assert_eq!(flood(&frame(DATA, 0, 1, &[0; 256]), b""), None);
    }
}
