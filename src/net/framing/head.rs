//! The head of a request, line by line, as strictly as RFC 9112 allows.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Uri};
use memchr::memchr;

use super::Malformed;
use super::request::{Places, RequestHead};
use crate::net::plain::{Field, NAME_LIMIT, Span, has_control};

/// Bounds on a request head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// Bytes from the first of the request line to the last of the empty line.
    pub bytes: usize,
    /// Bytes of one field, name and value.
    pub field: usize,
    /// Fields, in a head as in a trailer section.
    pub fields: usize,
    /// Bytes of the target. No more than the default can be had: no [`http::Uri`] is longer.
    pub target: usize,
    /// Bytes of a trailer section.
    pub trailers: usize,
}

impl HeadLimits {
    /// The limits of the contract, which leave room for a Kerberos ticket.
    pub const DEFAULT: Self = Self {
        bytes: 128 * 1_024,
        field: 64 * 1_024,
        fields: 256,
        target: 65_534,
        trailers: 16 * 1_024 - 1,
    };

    /// The largest head that can be asked for.
    pub const MOST_BYTES: usize = 16 * 1_024 * 1_024;

    /// The most fields that can be asked for: a head that is taken apart has them in a map, which holds no more than half
    /// as many again.
    pub const MOST_FIELDS: usize = 16 * 1_024;
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Bytes of a method. The longest in the registry of RFC 9110 section 16.1 has 17.
const METHOD_LIMIT: usize = 64;

/// Empty lines before a request line that are forgiven (RFC 9112 section 2.2).
const EMPTY_LINES: usize = 4;

/// Fields that most heads have at most.
const FIELDS: usize = 16;

/// How a body is framed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestFraming {
    /// In chunks.
    Chunked,
    /// It has so many bytes.
    Length(u64),
}

/// A head in the course of being read. Positions count from its first byte.
#[derive(Debug, Default)]
pub(in crate::net) struct HeadScan {
    /// How far it was looked at.
    cursor: usize,
    /// Where the line begins that is looked at.
    line: usize,
    empty_lines: usize,
    /// Whether the request line was read.
    begun: bool,
    /// The field of the head before that may come again now.
    repeat: usize,
    places: Places,
    /// Whether the target holds `#`.
    fragment: bool,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects: bool,
    trailers: bool,
}

/// Bytes of a head that is remembered.
const REMEMBERED: usize = 4 * 1_024;

/// Fields of the head before that are looked through for the one that was just read.
const AHEAD: usize = 4;

/// The head that came last on a connection: most of its lines come again in the next, and need not be read again.
#[derive(Debug, Default)]
pub(in crate::net) struct LastHead {
    text: Vec<u8>,
    fields: Vec<Field>,
}

impl LastHead {
    /// The line of a field, with its end, and the field; `None` if there is none that may be taken as it was.
    fn line(&self, number: usize) -> Option<(&[u8], Field)> {
        let field = self.fields.get(number)?;
        let (start, name) = (field.name.range().start, &self.text[field.name.range()]);
        let end = match self.fields.get(number + 1) {
            Some(next) => next.name.range().start,
            // Behind the last one is an empty line.
            None => self.text.len() - 2,
        };
        let heard = Telling::named(name).is_some();
        (!heard).then(|| (&self.text[start..end], *field))
    }

    /// The field that may come again behind this one, which was just read.
    fn behind(&self, number: usize, read: Option<&Field>, bytes: &[u8]) -> usize {
        let Some(read) = read else {
            return number;
        };
        let name = &bytes[read.name.range()];
        let mut ahead = self.fields.iter().skip(number).take(AHEAD);
        let found = ahead.position(|field| self.text[field.name.range()] == *name);
        found.map_or(number, |found| number + found + 1)
    }
}

/// A field that says something of the message or its connection, so that each has to be heard.
#[derive(Clone, Copy, Debug)]
enum Telling {
    Connection,
    ContentLength,
    Expect,
    Te,
    TransferEncoding,
}

impl Telling {
    /// The field of this name, if it is one.
    fn named(name: &[u8]) -> Option<Self> {
        let (known, field): (&[u8], _) = match name.len() {
            2 => (b"te", Self::Te),
            6 => (b"expect", Self::Expect),
            10 => (b"connection", Self::Connection),
            14 => (b"content-length", Self::ContentLength),
            17 => (b"transfer-encoding", Self::TransferEncoding),
            _ => return None,
        };
        name.eq_ignore_ascii_case(known).then_some(field)
    }
}

/// A head that was read to its end, and what it says of the message behind it.
#[derive(Debug)]
pub(in crate::net) struct ReadHead {
    pub(in crate::net) head: RequestHead,
    pub(in crate::net) framing: RequestFraming,
    /// Whether another request may follow (RFC 9112 section 9.3).
    pub(in crate::net) persistent: bool,
    /// Whether the client waits to be asked for its body (RFC 9110 section 10.1.1).
    pub(in crate::net) expects: bool,
    /// Whether the client takes fields behind a body (RFC 9110 section 10.1.4).
    pub(in crate::net) trailers: bool,
}

impl HeadScan {
    /// Reads on; how many bytes the head has, or `None` when it goes on beyond `bytes`. `last` is what is known of the head
    /// before it on the same connection.
    #[inline(never)]
    pub(in crate::net) fn scan(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
        last: &LastHead,
    ) -> Result<Option<usize>, Malformed> {
        loop {
            if self.begun && self.repeats(bytes, limits, last) {
                continue;
            }
            let Some(found) = memchr(b'\n', &bytes[self.cursor..]) else {
                break;
            };
            let end = self.cursor + found;
            self.cursor = end + 1;
            if self.cursor > limits.bytes {
                return Err(self.too_long(&bytes[self.line..end], limits));
            }
            let Some((b'\r', line)) = bytes[self.line..end].split_last() else {
                return Err(Malformed::BareLineFeed);
            };
            let start = std::mem::replace(&mut self.line, self.cursor);
            if self.line(line, start, limits)? {
                return Ok(Some(self.cursor));
            }
            self.repeat = last.behind(self.repeat, self.places.fields.last(), bytes);
        }
        self.cursor = bytes.len();
        self.unfinished(&bytes[self.line..], bytes.len(), limits)
            .map(|()| None)
    }

    /// Takes a field line that is the same as in the head before, where nothing was wrong with it; whether it is.
    fn repeats(&mut self, bytes: &[u8], limits: &HeadLimits, last: &LastHead) -> bool {
        let Some((line, field)) = last.line(self.repeat) else {
            return false;
        };
        let end = self.line + line.len();
        let fits = end <= limits.bytes && self.places.fields.len() < limits.fields;
        if !fits || !bytes[self.line..].starts_with(line) {
            return false;
        }
        self.places.fields.push(field.moved_to(self.line));
        self.repeat += 1;
        self.line = end;
        self.cursor = end;
        true
    }

    /// Has this head, which was read to its end and has these bytes, known when the next one is read.
    pub(in crate::net) fn remember(&self, text: &[u8], last: &mut LastHead) {
        last.text.clear();
        last.fields.clear();
        if text.len() <= REMEMBERED {
            last.text.extend_from_slice(text);
            last.fields.extend_from_slice(&self.places.fields);
        }
    }

    /// Whether more than empty lines has come.
    pub(in crate::net) fn has_begun(&self, bytes: &[u8]) -> bool {
        bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Refuses early what no further byte can mend.
    fn unfinished(&self, line: &[u8], end: usize, limits: &HeadLimits) -> Result<(), Malformed> {
        if !self.begun
            && line
                .first()
                .is_some_and(|&byte| byte != b'\r' && !is_token(byte))
        {
            return Err(Malformed::Method);
        }
        // A carriage return may belong to the line end.
        let over = match self.begun {
            false => line.len() > METHOD_LIMIT + limits.target + " HTTP/1.1\r ".len(),
            true => line.len() > limits.field + 1,
        };
        if over || end > limits.bytes {
            return Err(self.too_long(line, limits));
        }
        Ok(())
    }

    /// What to call it when `line` goes too far; it may still hold its carriage return.
    fn too_long(&self, line: &[u8], limits: &HeadLimits) -> Malformed {
        match self.begun {
            false if !line.iter().take(METHOD_LIMIT + 1).any(|&byte| byte == b' ') => {
                Malformed::Method
            }
            false => Malformed::TargetTooLong,
            true if line.len() > limits.field + 1 => Malformed::FieldTooLarge,
            true => Malformed::HeadTooLarge,
        }
    }

    /// Looks at a line that begins at `start`; whether it ends the head.
    fn line(&mut self, line: &[u8], start: usize, limits: &HeadLimits) -> Result<bool, Malformed> {
        match self.begun {
            false if line.is_empty() => {
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES {
                    return Err(Malformed::RequestLine);
                }
            }
            false => {
                self.begun = true;
                self.request_line(line, start, limits)?;
            }
            true if line.is_empty() => {
                if self.chunked && self.length.is_some() {
                    return Err(Malformed::LengthAndCoding);
                }
                return Ok(true);
            }
            true => self.field(line, start, limits)?,
        }
        Ok(false)
    }

    fn field(&mut self, line: &[u8], start: usize, limits: &HeadLimits) -> Result<(), Malformed> {
        let minor = self.places.minor;
        if self.places.fields.len() == limits.fields {
            return Err(Malformed::TooManyFields);
        }
        if line.len() > limits.field {
            return Err(Malformed::FieldTooLarge);
        }
        let (name_place, value_place) = field(line)?;
        let (name, value) = (&line[name_place.clone()], &line[value_place.clone()]);
        if name.len() > NAME_LIMIT {
            return Err(Malformed::FieldName);
        }
        match Telling::named(name) {
            Some(Telling::Te) => {
                self.trailers |= options(value).any(|option| is(option, b"trailers"));
            }
            Some(Telling::Expect) => {
                self.expects |= minor == 1 && is(value, b"100-continue");
            }
            Some(Telling::Connection) => {
                self.close |= options(value).any(|option| is(option, b"close"));
                self.keep_alive |= options(value).any(|option| is(option, b"keep-alive"));
            }
            Some(Telling::ContentLength) => {
                let length = number(value).ok_or(Malformed::ContentLength)?;
                if self.length.replace(length).is_some() {
                    return Err(Malformed::RepeatedFraming);
                }
            }
            Some(Telling::TransferEncoding) => {
                if minor == 0 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferEncoding);
                }
                if std::mem::replace(&mut self.chunked, true) {
                    return Err(Malformed::RepeatedFraming);
                }
            }
            None => {}
        }
        let place = |range: Range<usize>| Span::new(start + range.start..start + range.end);
        self.places.fields.push(Field {
            name: place(name_place),
            value: place(value_place),
        });
        Ok(())
    }

    /// Whether the body comes in chunks, of a head that was read to its end.
    pub(in crate::net) const fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// Checks what no line tells by itself, of a head that was read to its end, which has these bytes.
    pub(in crate::net) fn check(
        &self,
        text: &[u8],
        refuse_fragment: bool,
    ) -> Result<(), Malformed> {
        if refuse_fragment && self.fragment {
            return Err(Malformed::Fragment);
        }
        if Method::from_bytes(&text[self.places.method.range()]).is_err() {
            return Err(Malformed::Method);
        }
        // One that is not plain was looked at before, and any plain path is good.
        let target = &text[self.places.target.range()];
        if self.places.plain && !target.starts_with(b"/") && Uri::try_from(target).is_err() {
            return Err(Malformed::Target);
        }
        Ok(())
    }

    /// The head, out of its bytes, which were [checked](Self::check).
    pub(in crate::net) fn read(self, text: Bytes) -> ReadHead {
        ReadHead {
            framing: match self.chunked {
                true => RequestFraming::Chunked,
                false => RequestFraming::Length(self.length.unwrap_or(0)),
            },
            persistent: !self.close && (self.places.minor == 1 || self.keep_alive),
            expects: self.expects,
            trailers: self.trailers,
            head: RequestHead::new(text, self.places),
        }
    }

    fn request_line(
        &mut self,
        line: &[u8],
        start: usize,
        limits: &HeadLimits,
    ) -> Result<(), Malformed> {
        let space = memchr(b' ', line).ok_or(Malformed::RequestLine)?;
        let (method, rest) = (&line[..space], &line[space + 1..]);
        if method.is_empty() || method.len() > METHOD_LIMIT || token_length(method) < method.len() {
            return Err(Malformed::Method);
        }
        let space = memchr(b' ', rest).ok_or(Malformed::RequestLine)?;
        let (target, version) = (&rest[..space], &rest[space + 1..]);
        if target.is_empty() {
            return Err(Malformed::RequestLine);
        }
        if target.len() > limits.target {
            return Err(Malformed::TargetTooLong);
        }
        self.places.minor = match version {
            b"HTTP/1.1" => 1,
            b"HTTP/1.0" => 0,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Malformed::Version);
            }
            _ => return Err(Malformed::RequestLine),
        };
        self.places.plain = is_plain_target(target)?;
        self.places.fields.reserve(FIELDS.min(limits.fields));
        self.fragment = !self.places.plain && target.contains(&b'#');
        let begin = start + method.len() + 1;
        self.places.method = Span::new(start..start + method.len());
        self.places.target = Span::new(begin..begin + target.len());
        Ok(())
    }
}

/// Whether a target holds no byte that needs a second look; an error if it holds one that none may.
fn is_plain_target(target: &[u8]) -> Result<bool, Malformed> {
    // Without an early exit, so that the compiler can look at many bytes at once.
    let plain = target
        .iter()
        .fold(true, |plain, &byte| plain & is_plain(byte));
    match plain {
        true => Ok(true),
        false if has_control(target) || target.contains(&b'\t') => Err(Malformed::ControlCharacter),
        false if Uri::try_from(target).is_err() => Err(Malformed::Target),
        false => Ok(false),
    }
}

/// Where name and trimmed value of a field line stand (RFC 9112 section 5).
fn field(line: &[u8]) -> Result<(Range<usize>, Range<usize>), Malformed> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Malformed::ObsoleteFold);
    }
    let colon = token_length(line);
    if colon == 0 || line.get(colon) != Some(&b':') {
        return Err(Malformed::FieldName);
    }
    if has_control(&line[colon + 1..]) {
        return Err(Malformed::ControlCharacter);
    }
    Ok((0..colon, trim(line, colon + 1)))
}

/// Reads a field line by itself.
pub(super) fn read_field(line: &[u8]) -> Result<(HeaderName, HeaderValue), Malformed> {
    let (name, value) = field(line)?;
    let name = HeaderName::from_bytes(&line[name]).map_err(|_| Malformed::FieldName)?;
    let value = HeaderValue::from_bytes(&line[value]).map_err(|_| Malformed::ControlCharacter)?;
    Ok((name, value))
}

/// A number of digits only (RFC 9110 section 8.6).
fn number(value: &[u8]) -> Option<u64> {
    // The two highest values have a meaning of their own in some readers.
    const LIMIT: u64 = u64::MAX - 2;
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value)
        .ok()?
        .parse()
        .ok()
        .filter(|&number| number <= LIMIT)
}

/// How many bytes a token has that `bytes` begin with. On its own, where the loop has the registers that it needs.
#[inline(never)]
fn token_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|&byte| !TOKEN[usize::from(byte)])
        .unwrap_or(bytes.len())
}

/// [`is_token`] of every byte, since every byte of names is looked up.
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_token(byte as u8);
        byte += 1;
    }
    table
};

/// Whether a token may hold the byte (RFC 9110 section 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
        | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Whether any part of a target may hold the byte: what RFC 3986 has in paths and queries, but for the colon.
///
/// In comparisons alone, which the compiler can make of many bytes at once.
const fn is_plain(byte: u8) -> bool {
    let is_seen = (byte > b' ') & (byte <= b'~');
    let is_quote_or_hash = byte | 1 == b'#';
    let is_angle = byte | 2 == b'>';
    let is_bracket_or_bar = (byte | 0x20 >= b'{') & (byte | 0x20 <= b'}');
    let is_other = (byte == b':') | (byte == b'^') | (byte == b'`');
    is_seen & !is_quote_or_hash & !is_angle & !is_bracket_or_bar & !is_other
}

/// The members of a list (RFC 9110 section 5.6.1).
fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

const fn is(option: &[u8], word: &[u8]) -> bool {
    option.eq_ignore_ascii_case(word)
}

/// Where the value stands that begins at `start`, without the space around it.
fn trim(line: &[u8], mut start: usize) -> Range<usize> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let mut end = line.len();
    while start < end && is_space(line.get(start)) {
        start += 1;
    }
    while start < end && is_space(line.get(end - 1)) {
        end -= 1;
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &[u8]) -> Result<Option<ReadHead>, Malformed> {
        let mut scan = HeadScan::default();
        let end = scan.scan(text, &HeadLimits::DEFAULT, &LastHead::default())?;
        end.map(|end| {
            scan.check(&text[..end], true)
                .map(|()| scan.read(Bytes::copy_from_slice(&text[..end])))
        })
        .transpose()
    }

    #[test]
    fn first_lines() {
        use Malformed as M;
        let cases: &[(&[u8], Option<Malformed>)] = &[
            (b"GET / HTTP/1.1", None),
            (b"GET /a?b=%20|{}^<\\ HTTP/1.0", Some(M::Target)),
            (b"GET /a?b=%20|{}^ HTTP/1.0", None),
            (b"GET /caf\xc3\xa9 HTTP/1.1", None),
            (b"GET /caf\xe9 HTTP/1.1", Some(M::Target)),
            (b"\r\nGET / HTTP/1.1", None),
            (b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1", Some(M::RequestLine)),
            (b"GET  / HTTP/1.1", Some(M::RequestLine)),
            (b"GET / x HTTP/1.1", Some(M::RequestLine)),
            (b"GET /", Some(M::RequestLine)),
            (b"GET / HTTP/2.0", Some(M::Version)),
            (b"GET / HTTP/1.32", Some(M::RequestLine)),
            (b"GET / http/1.1", Some(M::RequestLine)),
            (b"GET /\x00 HTTP/1.1", Some(M::ControlCharacter)),
            (b"GET\x0c/ HTTP/1.1", Some(M::Method)),
            (b"\x16\x03\x01", Some(M::RequestLine)),
            (b"\rGET / HTTP/1.1", Some(M::Method)),
        ];
        for (line, expected) in cases {
            let text = [*line, b"\r\nHost: a\r\n\r\n"].concat();
            assert_eq!(head(&text).err(), *expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn fields_and_framing() {
        use Malformed as M;
        let length = |length| Ok(RequestFraming::Length(length));
        let cases: &[(&[u8], Result<RequestFraming, Malformed>)] = &[
            (b"Content-Length: 5", length(5)),
            (b"content-length:\t007 ", length(7)),
            (b"Content-Length: +5", Err(M::ContentLength)),
            (b"Content-Length: 5, 5", Err(M::ContentLength)),
            (
                b"Content-Length: 18446744073709551614",
                Err(M::ContentLength),
            ),
            (b"Content-Length:", Err(M::ContentLength)),
            (
                b"Content-Length: 5\r\nContent-Length: 5",
                Err(M::RepeatedFraming),
            ),
            (b"Transfer-Encoding: Chunked\t", Ok(RequestFraming::Chunked)),
            (
                b"Transfer-Encoding: gzip, chunked",
                Err(M::TransferEncoding),
            ),
            (
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                Err(M::RepeatedFraming),
            ),
            (
                b"Transfer-Encoding: chunked\r\nContent-Length: 5",
                Err(M::LengthAndCoding),
            ),
            (b"X: caf\xe9", length(0)),
            (b"X: a\x7f", Err(M::ControlCharacter)),
            (b"X: a\rb", Err(M::ControlCharacter)),
            (b"X : a", Err(M::FieldName)),
            (b": a", Err(M::FieldName)),
            (b"X", Err(M::FieldName)),
            (b"X: a\r\n b", Err(M::ObsoleteFold)),
            (b"X: a\nY: b", Err(M::BareLineFeed)),
        ];
        for (fields, expected) in cases {
            let text = [b"POST / HTTP/1.1\r\n", *fields, b"\r\n\r\n"].concat();
            let body = head(&text).map(|head| head.unwrap().framing);
            assert_eq!(body, *expected, "{}", fields.escape_ascii());
        }
        assert_eq!(
            head(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").err(),
            Some(M::TransferEncoding)
        );
    }

    #[test]
    fn head_in_parts_is_what_was_sent() {
        let text = b"\r\nPROPFIND /a?b=c HTTP/1.0\r\nHost: m\r\nX-A: \t b c \r\nx-a:\r\n\r\nrest";
        let mut read = head(text).unwrap().unwrap();
        let parts = read.head.parts();
        assert_eq!(
            (parts.method.as_str(), parts.uri.to_string().as_str()),
            ("PROPFIND", "/a?b=c")
        );
        assert_eq!(parts.version, http::Version::HTTP_10);
        let fields: Vec<_> = parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(fields, [("host", &b"m"[..]), ("x-a", b"b c"), ("x-a", b"")]);
    }

    #[test]
    fn connections_go_on_as_the_head_says() {
        let persistent = |version: &str, options: &str| {
            let text = format!("GET / {version}\r\nConnection: {options}\r\n\r\n");
            head(text.as_bytes()).unwrap().unwrap().persistent
        };
        for (version, options, expected) in [
            ("HTTP/1.1", "x", true),
            ("HTTP/1.1", "x, Close", false),
            ("HTTP/1.1", "keep-alive, close", false),
            ("HTTP/1.0", "x", false),
            ("HTTP/1.0", "Keep-Alive", true),
            ("HTTP/1.0", "keep-alive,close", false),
        ] {
            assert_eq!(
                persistent(version, options),
                expected,
                "{version} {options}"
            );
        }
    }

    #[test]
    fn plain_bytes_are_those_of_paths_and_queries() {
        for byte in 0..=u8::MAX {
            // RFC 3986 sections 2.1, 2.3 and 3.3 to 3.4.
            let expected = byte.is_ascii_alphanumeric() || b"-._~/?%!$&'()*+,;=@".contains(&byte);
            assert_eq!(is_plain(byte), expected, "{byte}");
        }
    }

    fn remembered(text: &[u8]) -> LastHead {
        let (mut scan, mut last) = (HeadScan::default(), LastHead::default());
        let read = scan.scan(text, &HeadLimits::DEFAULT, &LastHead::default());
        assert_eq!(read, Ok(Some(text.len())));
        scan.remember(text, &mut last);
        last
    }

    #[test]
    fn controls_are_refused_wherever_they_stand_and_however_the_head_comes() {
        let limits = HeadLimits::DEFAULT;
        let scanned = |text: &[u8], end: usize, last: &LastHead| {
            let mut scan = HeadScan::default();
            match scan.scan(&text[..end], &limits, last) {
                Ok(None) => scan.scan(text, &limits, last),
                begun => begun,
            }
        };
        let head = b"GET /a HTTP/1.1\r\nHost: a\r\nX-Long: b b b b b b b b b b b b b b b\r\n\r\n";
        for last in [LastHead::default(), remembered(head)] {
            for place in 0..head.len() {
                for byte in [0, 8, 0x0b, 0x1f, 0x7f, b'\r', b'\n', b'\t', 0x80] {
                    let mut text = head.to_vec();
                    text[place] = byte;
                    let whole = scanned(&text, head.len(), &LastHead::default()).ok();
                    for end in 1..=text.len() {
                        // Bytes behind a fault may bring another one to light first.
                        let cut = scanned(&text, end, &last).ok();
                        assert_eq!(cut, whole, "{place} {byte} {end}");
                    }
                }
            }
        }
    }

    #[test]
    fn lines_that_come_again_are_known_wherever_they_come() {
        let head = |fields: &str| format!("GET /a HTTP/1.1\r\n{fields}\r\n");
        let last =
            remembered(head("Host: a\r\nTE: trailers\r\nX: 1\r\nY: 2\r\nZ: 3\r\n").as_bytes());
        for (fields, known) in [
            ("Host: a\r\nTE: trailers\r\nX: 1\r\nY: 2\r\nZ: 3\r\n", 4),
            ("Host: a\r\nX: 1\r\nY: 2\r\n", 2),
            ("Host: a\r\nTE: x\r\nX: 4\r\nY: 2\r\nZ: 3\r\n", 3),
            ("Host: a\r\nW: 0\r\nTE: x\r\nX: 1\r\nY: 2\r\n", 3),
            ("Host: ab\r\nTE: x\r\nX: 12\r\n y\r\n", 0),
            ("x: 1\r\nY: 2\r\n", 0),
        ] {
            let text = head(fields);
            let (mut scan, bytes) = (HeadScan::default(), text.as_bytes());
            let (mut line, mut found) = (0, 0);
            // As it is told apart from what is read anew: by looking at it in the middle.
            while let Some(end) = text[line..].find("\n").map(|end| line + end + 1) {
                let lines = scan.places.fields.len();
                if scan.begun && scan.repeats(bytes, &HeadLimits::DEFAULT, &last) {
                    assert_eq!((scan.line, scan.places.fields.len()), (end, lines + 1));
                    found += 1;
                } else if scan
                    .scan(&bytes[..end], &HeadLimits::DEFAULT, &last)
                    .is_err()
                {
                    break;
                }
                line = end;
            }
            assert_eq!(found, known, "{fields}");
        }
    }

    #[test]
    fn long_heads_are_not_remembered() {
        for (length, fields) in [(REMEMBERED, 1), (REMEMBERED + 1, 0)] {
            let empty = "GET /a HTTP/1.1\r\nX: \r\n\r\n".len();
            let value = "b".repeat(length - empty);
            let last = remembered(format!("GET /a HTTP/1.1\r\nX: {value}\r\n\r\n").as_bytes());
            assert_eq!(
                (last.fields.len(), last.text.is_empty()),
                (fields, fields == 0)
            );
        }
    }

    #[test]
    fn fragment_is_refused_only_where_asked() {
        let text = b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n";
        let read = |refuse| {
            let mut scan = HeadScan::default();
            scan.scan(text, &HeadLimits::DEFAULT, &LastHead::default())
                .unwrap()
                .unwrap();
            scan.check(text, refuse).err()
        };
        assert_eq!((read(true), read(false)), (Some(Malformed::Fragment), None));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let limits = HeadLimits {
            bytes: 200,
            field: 60,
            fields: 3,
            target: 20,
            trailers: 50,
        };
        let scan = |text: &str| {
            HeadScan::default()
                .scan(text.as_bytes(), &limits, &LastHead::default())
                .map(|end| end.is_some())
        };
        let get = |target: usize, fields: &str| {
            format!("GET /{} HTTP/1.1\r\n{fields}\r\n", "a".repeat(target - 1))
        };
        assert_eq!(scan(&get(20, "")), Ok(true));
        assert_eq!(scan(&get(21, "")), Err(Malformed::TargetTooLong));
        assert_eq!(scan(&"a".repeat(200)), Err(Malformed::Method));
        assert_eq!(
            scan(&format!("GET /{}", "a".repeat(190))),
            Err(Malformed::TargetTooLong)
        );
        assert_eq!(scan(&get(2, "A: 1\r\nB: 2\r\nC: 3\r\n")), Ok(true));
        assert_eq!(
            scan(&get(2, "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n")),
            Err(Malformed::TooManyFields)
        );
        let field = |length: usize| format!("A: {}\r\n", "x".repeat(length - 3));
        assert_eq!(scan(&get(2, &field(60))), Ok(true));
        assert_eq!(scan(&get(2, &field(61))), Err(Malformed::FieldTooLarge));
        assert_eq!(
            scan(get(2, &field(70)).trim_end()),
            Err(Malformed::FieldTooLarge)
        );
        // 16 + 2 of the request line, 180 of fields, 2 of the empty line.
        let fields = [field(60), field(60), field(54)].concat();
        assert_eq!(
            scan(&get(2, &fields)),
            Ok(true),
            "{}",
            get(2, &fields).len()
        );
        let fields = [field(60), field(60), field(60)].concat();
        assert_eq!(scan(&get(2, &fields)), Err(Malformed::HeadTooLarge));
    }
}
