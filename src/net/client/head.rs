//! The head of a request in bytes, and that of a response out of bytes (RFC 9112 sections 3 to 6).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version, request};
use httparse::{ParserConfig, Status};
use memchr::memchr;

use super::ResponseError;
use super::response::{PlainResponse, ResponseHead};
use crate::net::PlainHead;
use crate::net::output::field;
use crate::net::plain::{Field, PlainFields, Span};

/// Bytes of a response head.
pub(super) const HEAD_LIMIT: usize = 256 * 1_024;

/// Fields of a response head.
const FIELDS: usize = 256;

/// How a request body is framed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestLength {
    /// Its length is not known: it is sent in chunks.
    Chunked,
    /// It has so many bytes.
    Exact(u64),
    /// There is none, and nothing says so.
    None,
}

/// The head of a request in bytes. Fields that frame the body are written as `length` says, not as `parts` do. `add` is
/// called with what writes a field behind the others.
pub fn encode(
    parts: &request::Parts,
    length: RequestLength,
    add: impl FnOnce(&mut dyn FnMut(HeaderName, &[u8])),
) -> Vec<u8> {
    let target = parts
        .uri
        .path_and_query()
        .map_or("*", |target| target.as_str());
    let size = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum::<usize>();
    let mut head = Vec::with_capacity(size + target.len() + 192);
    for piece in [parts.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(piece.as_bytes());
    }
    for (name, value) in &parts.headers {
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING {
            continue;
        }
        field(&mut head, name.as_str().as_bytes(), value.as_bytes());
    }
    add(&mut |name, value| field(&mut head, name.as_str().as_bytes(), value));
    frame(&mut head, length);
    head
}

/// The head of a request in bytes, as it came but for `Connection` and what frames the body. `add` is called with what
/// writes a field behind the others.
pub fn encode_plain(
    method: &Method,
    plain: &PlainHead,
    length: RequestLength,
    add: impl FnOnce(&mut dyn FnMut(HeaderName, &[u8])),
) -> Vec<u8> {
    let mut head = Vec::with_capacity(plain.len() + 192);
    let method = method.as_str().as_bytes();
    for piece in [method, b" ", plain.target(), b" HTTP/1.1\r\n"] {
        head.extend_from_slice(piece);
    }
    for (name, value) in plain.fields() {
        let stays = match name.len() {
            10 => name.eq_ignore_ascii_case(b"connection"),
            14 => name.eq_ignore_ascii_case(b"content-length"),
            17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
            _ => false,
        };
        if !stays {
            field(&mut head, name, value);
        }
    }
    add(&mut |name, value| field(&mut head, name.as_str().as_bytes(), value));
    frame(&mut head, length);
    head
}

/// Writes how long the body is, and ends the head.
fn frame(head: &mut Vec<u8>, length: RequestLength) {
    match length {
        RequestLength::Chunked => field(head, b"transfer-encoding", b"chunked"),
        RequestLength::Exact(length) => {
            field(
                head,
                b"content-length",
                itoa::Buffer::new().format(length).as_bytes(),
            );
        }
        RequestLength::None => {}
    }
    head.extend_from_slice(b"\r\n");
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) head: ResponseHead,
    pub(super) framing: Framing,
    /// Whether another response may follow on the connection.
    pub(super) persistent: bool,
}

/// How the body of a response is framed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    Chunked,
    Length(u64),
    UntilClose,
}

/// Where the empty line that ends a head ends; `scanned` is how far it was looked for, for the next time.
pub(super) fn end(bytes: &[u8], scanned: &mut usize) -> Option<usize> {
    while let Some(found) = memchr(b'\n', &bytes[*scanned..]) {
        let next = *scanned + found + 1;
        match bytes[next..] {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            // More has to come to tell.
            [] | [b'\r'] => return None,
            _ => *scanned = next,
        }
    }
    *scanned = bytes.len();
    None
}

/// Reads a whole head, which ends with `bytes`.
pub(super) fn parse(bytes: &Bytes, method: &Method) -> Result<Head, ResponseError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields)
        .map_err(|_| ResponseError::Malformed("a response head is malformed"))?;
    if !matches!(status, Status::Complete(length) if length == bytes.len()) {
        return Err(ResponseError::Malformed("a response head is malformed"));
    }
    let code = parsed
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(ResponseError::Malformed("a response has no status code"))?;
    // A phrase that is not the usual one is the server's own, and passes.
    let reason = parsed
        .reason
        .filter(|reason| !reason.is_empty() && Some(*reason) != code.canonical_reason());
    let places = parsed.headers.iter().map(|header| Field {
        name: Span::of(header.name.as_bytes(), bytes),
        value: Span::of(header.value, bytes),
    });
    let fields = PlainFields::new(bytes.clone(), places.collect()).ok_or(
        ResponseError::Malformed("a response has a field whose name is too long"),
    )?;
    let plain = PlainResponse {
        status: code,
        version: match parsed.version {
            Some(0) => Version::HTTP_10,
            _ => Version::HTTP_11,
        },
        reason: reason.map_or_else(Span::default, |reason| Span::of(reason.as_bytes(), bytes)),
        fields,
    };
    let framing = framing(&plain, method)?;
    let persistent = framing != Framing::UntilClose && !closes(&plain);
    Ok(Head {
        head: ResponseHead::Plain(plain),
        framing,
        persistent,
    })
}

/// How long the body is (RFC 9112 section 6.3).
fn framing(plain: &PlainResponse, method: &Method) -> Result<Framing, ResponseError> {
    let status = plain.status;
    let bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || *method == Method::HEAD;
    if bodiless {
        return Ok(Framing::Length(0));
    }
    let length = length(plain)?;
    let mut codings = plain.fields.values(&TRANSFER_ENCODING);
    let Some(coding) = codings.next() else {
        return Ok(length.map_or(Framing::UntilClose, Framing::Length));
    };
    let only = codings.next().is_none() && plain.version == Version::HTTP_11;
    if !only || !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Err(ResponseError::Malformed(
            "a response has a transfer coding that was not asked for",
        ));
    }
    match length {
        Some(_) => Err(ResponseError::Malformed("a response has two lengths")),
        None => Ok(Framing::Chunked),
    }
}

/// The only length; several equal ones count as one (RFC 9110 section 8.6).
fn length(plain: &PlainResponse) -> Result<Option<u64>, ResponseError> {
    let wrong = ResponseError::Malformed("a response has a wrong length");
    let mut length = None;
    for value in plain.fields.values(&CONTENT_LENGTH) {
        for text in value.split(|&byte| byte == b',') {
            let text = text.trim_ascii();
            let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(text)
                .ok()
                .filter(|_| digits)
                .and_then(|text| text.parse::<u64>().ok());
            match number {
                Some(number) if length.is_none_or(|known| known == number) => length = Some(number),
                _ => return Err(wrong),
            }
        }
    }
    Ok(length)
}

/// Whether the server closes the connection behind this response (RFC 9112 section 9.3).
fn closes(plain: &PlainResponse) -> bool {
    let has = |word: &[u8]| {
        plain
            .fields
            .values(&CONNECTION)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(word))
    };
    has(b"close") || (plain.version == Version::HTTP_10 && !has(b"keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str, method: &Method) -> Result<(Framing, bool), String> {
        let bytes = Bytes::from(fields.replace('\n', "\r\n") + "\r\n\r\n");
        parse(&bytes, method)
            .map(|head| (head.framing, head.persistent))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn framing_is_certain_or_an_error() {
        let get = |text: &str| read(text, &Method::GET);
        let five = Ok((Framing::Length(5), true));
        assert_eq!(get("HTTP/1.1 200 OK\nContent-Length: 5"), five);
        assert_eq!(get("HTTP/1.1 200 OK\nContent-Length: 5, 5"), five);
        assert_eq!(
            get("HTTP/1.1 200\nContent-Length: 5\nConnection: x, Close"),
            Ok((Framing::Length(5), false))
        );
        assert_eq!(
            get("HTTP/1.0 200 OK\nContent-Length: 5"),
            Ok((Framing::Length(5), false))
        );
        assert_eq!(
            get("HTTP/1.0 200 OK\nContent-Length: 5\nConnection: keep-alive"),
            five
        );
        assert_eq!(get("HTTP/1.1 200 OK"), Ok((Framing::UntilClose, false)));
        assert_eq!(
            get("HTTP/1.1 200 OK\nTransfer-Encoding: Chunked"),
            Ok((Framing::Chunked, true))
        );
        let none = Ok((Framing::Length(0), true));
        assert_eq!(
            read("HTTP/1.1 200 OK\nContent-Length: 5", &Method::HEAD),
            none
        );
        assert_eq!(get("HTTP/1.1 304 Not Modified\nContent-Length: 5"), none);
        assert_eq!(get("HTTP/1.1 204 No Content"), none);
        for wrong in [
            "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 6",
            "HTTP/1.1 200 OK\nContent-Length: +5",
            "HTTP/1.1 200 OK\nContent-Length: ",
            "HTTP/1.1 200 OK\nContent-Length: 5\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked",
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked",
            "HTTP/1.0 200 OK\nTransfer-Encoding: chunked",
            "HTTP/1.1 200 OK\nX: a\n b",
            "HTTP/1.1 200 OK\nX : a",
            "HTTP/1.1 OK",
            "ICY 200 OK",
            "HTTP/2.0 200 OK",
        ] {
            assert!(get(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn end_of_a_head_is_found_however_it_is_cut() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\nrest", Some(25)),
            ("HTTP/1.1 200 OK\nA: b\n\nrest", Some(22)),
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r", None),
        ] {
            let mut scanned = 0;
            let found =
                (0..=text.len()).find_map(|length| end(&text.as_bytes()[..length], &mut scanned));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn request_says_its_own_length() {
        let parts = http::Request::post("/a?b")
            .header("host", "m")
            .header("content-length", "007")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let text = |length| String::from_utf8(encode(&parts, length, |_| {})).unwrap();
        let head = "POST /a?b HTTP/1.1\r\nhost: m\r\n";
        assert_eq!(
            text(RequestLength::Exact(7)),
            format!("{head}content-length: 7\r\n\r\n")
        );
        assert_eq!(
            text(RequestLength::Chunked),
            format!("{head}transfer-encoding: chunked\r\n\r\n")
        );
        assert_eq!(text(RequestLength::None), format!("{head}\r\n"));
    }
}
