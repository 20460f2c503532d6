//! The head of a response in bytes (RFC 9112 sections 4 to 6).

use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{StatusCode, response};
use hyper::ext::ReasonPhrase;

use crate::net::ResponseHead;
use crate::net::output::field;

/// Bytes that a head may get beside its own.
const ADDED: usize = 128;

/// How the body of a response is framed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    Chunked,
    /// So many bytes are left.
    Length(u64),
    /// There is none, whatever the head says of one.
    Nothing,
    UntilClose,
}

/// What the request says of its response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// Nothing but the head.
    pub(super) head_only: bool,
    pub(super) http10: bool,
    /// Whether another request may follow.
    pub(super) persistent: bool,
    /// Whether the client takes fields behind a body (RFC 9110 section 10.1.4).
    pub(super) trailers: bool,
}

/// How a response with this status has to be framed when so many bytes of a body are known to come.
pub(super) fn framing(status: StatusCode, body: Option<u64>, asked: Asked) -> Framing {
    match body {
        _ if asked.head_only || !has_body(status) => Framing::Nothing,
        Some(length) => Framing::Length(length),
        None if asked.http10 => Framing::UntilClose,
        None => Framing::Chunked,
    }
}

/// Whether responses with this status have a body (RFC 9110 section 6.4.1).
fn has_body(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether a response says that its connection ends behind it (RFC 9112 section 9.6).
pub(super) fn closes(head: &ResponseHead) -> bool {
    match head {
        ResponseHead::Own(_) | ResponseHead::Plain(_) => false,
        ResponseHead::Parts(parts) => {
            let option = parts.headers.get(CONNECTION);
            option.is_some_and(|option| option.as_bytes().eq_ignore_ascii_case(b"close"))
        }
    }
}

/// Writes a head. Fields that frame the body or are about the connection are written as `framing` and `asked` say, not
/// as the head does; but for a change of protocol, which is as it says.
pub(super) fn encode(
    text: &mut Vec<u8>,
    head: &ResponseHead,
    framing: Framing,
    body: Option<u64>,
    asked: Asked,
) {
    let status = head.status();
    let told = match head {
        ResponseHead::Own(own) => {
            text.reserve(own.lines().len() + ADDED);
            status_line(text, status, own.reason(), asked);
            text.extend_from_slice(own.lines());
            false
        }
        ResponseHead::Plain(plain) => {
            text.reserve(plain.len() + ADDED);
            status_line(text, status, plain.reason(), asked);
            fields(text, status, plain.fields(), framing)
        }
        ResponseHead::Parts(parts) => {
            text.reserve(parts.headers.len() * 48 + ADDED);
            status_line(text, status, reason(parts), asked);
            let bytes = |(name, value): (_, _)| {
                let (name, value): (&HeaderName, &HeaderValue) = (name, value);
                (name.as_str().as_bytes(), value.as_bytes())
            };
            fields(text, status, parts.headers.iter().map(bytes), framing)
        }
    };
    let length = match (framing, body) {
        (Framing::Length(length), _) => Some(length),
        (Framing::Nothing, Some(length)) if length > 0 && has_body(status) && !told => Some(length),
        _ => None,
    };
    if let Some(length) = length {
        field(
            text,
            b"content-length",
            itoa::Buffer::new().format(length).as_bytes(),
        );
    }
    if framing == Framing::Chunked {
        text.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    match asked.persistent {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => {}
        false => text.extend_from_slice(b"connection: close\r\n"),
        true if asked.http10 => text.extend_from_slice(b"connection: keep-alive\r\n"),
        true => {}
    }
    text.extend_from_slice(b"\r\n");
}

/// A response in bytes that is the last of its connection.
pub fn last_response(head: &ResponseHead, body: &[u8]) -> Vec<u8> {
    let (mut text, length) = (Vec::new(), Some(body.len() as u64));
    let framing = framing(head.status(), length, Asked::default());
    encode(&mut text, head, framing, length, Asked::default());
    text.extend_from_slice(body);
    text
}

fn status_line(text: &mut Vec<u8>, status: StatusCode, reason: &[u8], asked: Asked) {
    let version: &[u8] = match asked.http10 {
        true => b"HTTP/1.0 ",
        false => b"HTTP/1.1 ",
    };
    for piece in [version, status.as_str().as_bytes(), b" ", reason, b"\r\n"] {
        text.extend_from_slice(piece);
    }
}

fn reason(parts: &response::Parts) -> &[u8] {
    let own = match parts.extensions.is_empty() {
        true => None,
        false => parts.extensions.get::<ReasonPhrase>(),
    };
    let usual = || parts.status.canonical_reason().unwrap_or("").as_bytes();
    own.map_or_else(usual, ReasonPhrase::as_bytes)
}

/// Writes the fields that pass; whether a length is among them.
fn fields<'f>(
    text: &mut Vec<u8>,
    status: StatusCode,
    fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
    framing: Framing,
) -> bool {
    // The length of what is not sent is for the client to know (RFC 9110 section 8.6).
    let tells =
        framing == Framing::Nothing && (has_body(status) || status == StatusCode::NOT_MODIFIED);
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let mut told = false;
    for (name, value) in fields {
        let passes = match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => switches,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                told |= tells;
                tells
            }
            17 => !name.eq_ignore_ascii_case(b"transfer-encoding"),
            _ => true,
        };
        if passes {
            field(text, name, value);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    const ASKED: Asked = Asked {
        head_only: false,
        http10: false,
        persistent: true,
        trailers: false,
    };

    fn written(status: u16, fields: &[(&str, &str)], body: Option<u64>, asked: Asked) -> String {
        let response = fields.iter().fold(
            Response::builder().status(status),
            |response, (name, value)| response.header(*name, *value),
        );
        let parts = response.body(()).unwrap().into_parts().0;
        let framing = framing(parts.status, body, asked);
        let mut text = Vec::new();
        encode(&mut text, &parts.into(), framing, body, asked);
        let text = String::from_utf8(text).unwrap();
        text.strip_suffix("\r\n\r\n").unwrap().replace("\r\n", "|")
    }

    #[test]
    fn one_framing_whatever_the_fields_say() {
        let fields = [
            ("x-a", "1"),
            ("content-length", "9"),
            ("transfer-encoding", "gzip"),
            ("connection", "x"),
        ];
        let head_only = Asked {
            head_only: true,
            ..ASKED
        };
        let http10 = Asked {
            http10: true,
            persistent: false,
            ..ASKED
        };
        let kept = Asked {
            http10: true,
            ..ASKED
        };
        let last = Asked {
            persistent: false,
            ..ASKED
        };
        for (status, body, asked, expected) in [
            (
                200,
                Some(5),
                ASKED,
                "HTTP/1.1 200 OK|x-a: 1|content-length: 5",
            ),
            (
                200,
                Some(0),
                ASKED,
                "HTTP/1.1 200 OK|x-a: 1|content-length: 0",
            ),
            (
                200,
                None,
                ASKED,
                "HTTP/1.1 200 OK|x-a: 1|transfer-encoding: chunked",
            ),
            (
                200,
                None,
                http10,
                "HTTP/1.0 200 OK|x-a: 1|connection: close",
            ),
            (
                200,
                Some(5),
                kept,
                "HTTP/1.0 200 OK|x-a: 1|content-length: 5|connection: keep-alive",
            ),
            (
                200,
                Some(5),
                last,
                "HTTP/1.1 200 OK|x-a: 1|content-length: 5|connection: close",
            ),
            (
                200,
                Some(0),
                head_only,
                "HTTP/1.1 200 OK|x-a: 1|content-length: 9",
            ),
            (
                304,
                Some(0),
                ASKED,
                "HTTP/1.1 304 Not Modified|x-a: 1|content-length: 9",
            ),
            (204, Some(0), ASKED, "HTTP/1.1 204 No Content|x-a: 1"),
            (
                101,
                Some(0),
                ASKED,
                "HTTP/1.1 101 Switching Protocols|x-a: 1|connection: x",
            ),
            (
                599,
                Some(0),
                ASKED,
                "HTTP/1.1 599 |x-a: 1|content-length: 0",
            ),
        ] {
            assert_eq!(
                written(status, &fields, body, asked),
                expected,
                "{status} {body:?}"
            );
        }
        assert_eq!(
            written(200, &[], Some(7), head_only),
            "HTTP/1.1 200 OK|content-length: 7"
        );
        assert_eq!(written(200, &[], Some(0), head_only), "HTTP/1.1 200 OK");
        assert_eq!(
            written(304, &[], Some(7), ASKED),
            "HTTP/1.1 304 Not Modified"
        );
    }

    #[test]
    fn the_same_is_written_of_a_head_as_it_came_and_in_parts() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: \t1 \r\nx-a:\r\n\r\n",
            "HTTP/1.1 200 Own\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            "HTTP/1.0 404 Not Found\r\nSet-Cookie: a\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nCONTENT-LENGTH: 5\r\n\r\n",
            "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n",
        ] {
            for (body, asked) in [
                (Some(5), ASKED),
                (None, ASKED),
                (
                    Some(0),
                    Asked {
                        head_only: true,
                        ..ASKED
                    },
                ),
                (
                    None,
                    Asked {
                        http10: true,
                        persistent: false,
                        ..ASKED
                    },
                ),
            ] {
                let mut head = ResponseHead::of_text(text);
                let framing = framing(head.status(), body, asked);
                let written = |head: &ResponseHead| {
                    let mut text = Vec::new();
                    encode(&mut text, head, framing, body, asked);
                    String::from_utf8(text).unwrap()
                };
                let came = written(&head);
                head.parts();
                // Names may be written in any case.
                let lower = |line: &str| match line.split_once(": ") {
                    Some((name, value)) => format!("{}: {value}", name.to_ascii_lowercase()),
                    None => line.to_owned(),
                };
                let came: Vec<String> = came.split("\r\n").map(lower).collect();
                assert_eq!(came.join("\r\n"), written(&head), "{text}");
            }
        }
    }
}
