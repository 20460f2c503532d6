//! The head of a request, line by line, as strictly as RFC 9112 allows.

use memchr::memchr;

use super::Malformed;

/// Bounds on a request head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// Bytes from the first of the request line to the last of the empty line.
    pub bytes: usize,
    /// Bytes of one field, name and value.
    pub field: usize,
    /// Fields, in a head as in a trailer section.
    pub fields: usize,
    /// Bytes of the target. No more than the default can be had: the HTTP library's own bound.
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

/// A head that was read to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) body: Body,
    /// Whether it asks for the websocket protocol.
    pub(super) upgrade: bool,
    /// Whether the target holds `#`.
    pub(super) fragment: bool,
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body {
    Chunked,
    Length(u64),
}

/// A head in the course of being read. Positions count from the first byte that was not released.
#[derive(Debug)]
pub(super) struct HeadScan {
    pub(super) start: usize,
    line: usize,
    empty_lines: usize,
    request_line: Option<RequestLine>,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

#[derive(Clone, Copy, Debug)]
struct RequestLine {
    minor: u8,
    fragment: bool,
}

impl HeadScan {
    pub(super) const fn new(start: usize) -> Self {
        Self {
            start,
            line: start,
            empty_lines: 0,
            request_line: None,
            fields: 0,
            length: None,
            chunked: false,
            upgrade: false,
        }
    }

    /// Follows the bytes that were released.
    pub(super) fn shift(&mut self, released: usize) {
        self.start -= released;
        self.line -= released;
    }

    /// Reads on from `cursor`; `None` when the head goes on beyond `bytes`.
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        cursor: &mut usize,
        limits: &HeadLimits,
    ) -> Result<Option<Head>, Malformed> {
        while let Some(found) = memchr(b'\n', &bytes[*cursor..]) {
            let end = *cursor + found;
            *cursor = end + 1;
            if *cursor - self.start > limits.bytes {
                return Err(self.too_long(&bytes[self.line..end], limits));
            }
            let Some((b'\r', line)) = bytes[self.line..end].split_last() else {
                return Err(Malformed::BareLineFeed);
            };
            self.line = *cursor;
            if let Some(head) = self.line(line, limits)? {
                return Ok(Some(head));
            }
        }
        *cursor = bytes.len();
        self.unfinished(&bytes[self.line..], bytes.len(), limits)
            .map(|()| None)
    }

    /// Refuses early what no further byte can mend.
    fn unfinished(&self, line: &[u8], end: usize, limits: &HeadLimits) -> Result<(), Malformed> {
        if self.request_line.is_none()
            && line
                .first()
                .is_some_and(|&byte| byte != b'\r' && !is_token(byte))
        {
            return Err(Malformed::Method);
        }
        // A carriage return may belong to the line end.
        let over = match self.request_line {
            None => line.len() > METHOD_LIMIT + limits.target + " HTTP/1.1\r ".len(),
            Some(_) => line.len() > limits.field + 1,
        };
        if over || end - self.start > limits.bytes {
            return Err(self.too_long(line, limits));
        }
        Ok(())
    }

    /// What to call it when `line` goes too far; it may still hold its carriage return.
    fn too_long(&self, line: &[u8], limits: &HeadLimits) -> Malformed {
        match self.request_line {
            None if !line.iter().take(METHOD_LIMIT + 1).any(|&byte| byte == b' ') => {
                Malformed::Method
            }
            None => Malformed::TargetTooLong,
            Some(_) if line.len() > limits.field + 1 => Malformed::FieldTooLarge,
            Some(_) => Malformed::HeadTooLarge,
        }
    }

    fn line(&mut self, line: &[u8], limits: &HeadLimits) -> Result<Option<Head>, Malformed> {
        match self.request_line {
            None if line.is_empty() => {
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES {
                    return Err(Malformed::RequestLine);
                }
                Ok(None)
            }
            None => {
                self.request_line = Some(request_line(line, limits)?);
                Ok(None)
            }
            Some(request_line) if line.is_empty() => self.end(request_line).map(Some),
            Some(request_line) => self.field(line, request_line, limits).map(|()| None),
        }
    }

    fn field(
        &mut self,
        line: &[u8],
        request_line: RequestLine,
        limits: &HeadLimits,
    ) -> Result<(), Malformed> {
        self.fields += 1;
        if self.fields > limits.fields {
            return Err(Malformed::TooManyFields);
        }
        if line.len() > limits.field {
            return Err(Malformed::FieldTooLarge);
        }
        let (name, value) = field(line)?;
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade |= value.eq_ignore_ascii_case(b"websocket") && request_line.minor == 1;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = number(value).ok_or(Malformed::ContentLength)?;
                if self.length.replace(length).is_some() {
                    return Err(Malformed::RepeatedFraming);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if request_line.minor == 0 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferEncoding);
                }
                if std::mem::replace(&mut self.chunked, true) {
                    return Err(Malformed::RepeatedFraming);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&self, request_line: RequestLine) -> Result<Head, Malformed> {
        let body = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Malformed::LengthAndCoding),
            (true, None) => Body::Chunked,
            (false, length) => Body::Length(length.unwrap_or(0)),
        };
        Ok(Head {
            body,
            upgrade: self.upgrade,
            fragment: request_line.fragment,
        })
    }
}

/// Cuts a field line into name and trimmed value (RFC 9112 section 5).
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Malformed::ObsoleteFold);
    }
    let (name, rest) = line.split_at(token_length(line));
    let Some((b':', value)) = rest.split_first() else {
        return Err(Malformed::FieldName);
    };
    if name.is_empty() {
        return Err(Malformed::FieldName);
    }
    if has_control(value) {
        return Err(Malformed::ControlCharacter);
    }
    Ok((name, trim(value)))
}

fn request_line(line: &[u8], limits: &HeadLimits) -> Result<RequestLine, Malformed> {
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
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Malformed::Version);
        }
        _ => return Err(Malformed::RequestLine),
    };
    if has_control(target) || target.contains(&b'\t') {
        return Err(Malformed::ControlCharacter);
    }
    let plain = target
        .iter()
        .fold(true, |plain, &byte| plain & PLAIN[usize::from(byte)]);
    if !plain && http::Uri::try_from(target).is_err() {
        return Err(Malformed::Target);
    }
    Ok(RequestLine {
        minor,
        fragment: target.contains(&b'#'),
    })
}

/// A number of digits only (RFC 9110 section 8.6).
fn number(value: &[u8]) -> Option<u64> {
    // The two highest values have a meaning of their own inside the HTTP library.
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

/// Whether a value holds a control character other than the tab.
pub(super) fn has_control(value: &[u8]) -> bool {
    // Without an early exit, so that the compiler can look at many bytes at once.
    value.iter().fold(false, |found, &byte| {
        found | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
    })
}

/// How many bytes a token has that `bytes` begin with.
fn token_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|&byte| !TOKEN[usize::from(byte)])
        .unwrap_or(bytes.len())
}

/// [`is_token`] and [`is_plain`] of every byte, since every byte of names and targets is looked up.
static TOKEN: [bool; 256] = of_every_byte(true);
static PLAIN: [bool; 256] = of_every_byte(false);

const fn of_every_byte(token: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        let this = byte as u8;
        table[byte] = if token {
            is_token(this)
        } else {
            is_plain(this)
        };
        byte += 1;
    }
    table
}

/// Whether a token may hold the byte (RFC 9110 section 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
        | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Whether any part of a target may hold the byte.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b'/' | b'?' | b'%' | b'!'
        | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b'@')
}

fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value
        .iter()
        .position(|byte| !is_space(byte))
        .unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|byte| !is_space(byte))
        .map_or(start, |last| last + 1);
    &value[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &[u8]) -> Result<Option<Head>, Malformed> {
        HeadScan::new(0).scan(text, &mut 0, &HeadLimits::DEFAULT)
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
        let length = |length| Ok(Body::Length(length));
        let cases: &[(&[u8], Result<Body, Malformed>)] = &[
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
            (b"Transfer-Encoding: Chunked\t", Ok(Body::Chunked)),
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
            let body = head(&text).map(|head| head.unwrap().body);
            assert_eq!(body, *expected, "{}", fields.escape_ascii());
        }
        assert_eq!(
            head(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Err(M::TransferEncoding)
        );
    }

    #[test]
    fn controls_are_found_wherever_they_stand() {
        for length in 0..50 {
            let mut value = vec![b'a'; length];
            assert!(!has_control(&value), "{length}");
            for place in 0..length {
                for (byte, expected) in [(0x1f, true), (0x7f, true), (b'\t', false), (0x80, false)]
                {
                    value[place] = byte;
                    assert_eq!(has_control(&value), expected, "{length} {place} {byte}");
                }
                value[place] = b'a';
            }
        }
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
            HeadScan::new(0)
                .scan(text.as_bytes(), &mut 0, &limits)
                .map(|head| head.is_some())
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
