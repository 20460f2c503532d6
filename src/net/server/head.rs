//! The head of a response in bytes (RFC 9112 sections 4 to 6).

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{StatusCode, response};
use hyper::ext::ReasonPhrase;

use crate::net::output::{field, number};

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
pub(super) fn closes(parts: &response::Parts) -> bool {
    let option = parts.headers.get(CONNECTION);
    option.is_some_and(|option| option.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// Writes a head. Fields that frame the body or are about the connection are written as `framing` and `asked` say, not
/// as `parts` do; but for a change of protocol, which is as `parts` say.
pub(super) fn encode(
    head: &mut Vec<u8>,
    parts: &response::Parts,
    framing: Framing,
    body: Option<u64>,
    asked: Asked,
) {
    let status = parts.status;
    head.reserve(parts.headers.len() * 48 + 128);
    status_line(head, parts, asked.http10);
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    // The length of what is not sent is for the client to know (RFC 9110 section 8.6).
    let tells =
        framing == Framing::Nothing && (has_body(status) || status == StatusCode::NOT_MODIFIED);
    let mut told = false;
    for (name, value) in &parts.headers {
        let passes = match *name {
            CONTENT_LENGTH => {
                told |= tells;
                tells
            }
            CONNECTION => switches,
            TRANSFER_ENCODING => false,
            _ => true,
        };
        if passes {
            field(head, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let length = match (framing, body) {
        (Framing::Length(length), _) => Some(length),
        (Framing::Nothing, Some(length)) if length > 0 && has_body(status) && !told => Some(length),
        _ => None,
    };
    if let Some(length) = length {
        head.extend_from_slice(b"content-length: ");
        number(head, length, 10);
        head.extend_from_slice(b"\r\n");
    }
    if framing == Framing::Chunked {
        head.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    match asked.persistent {
        _ if switches => {}
        false => head.extend_from_slice(b"connection: close\r\n"),
        true if asked.http10 => head.extend_from_slice(b"connection: keep-alive\r\n"),
        true => {}
    }
    head.extend_from_slice(b"\r\n");
}

fn status_line(head: &mut Vec<u8>, parts: &response::Parts, http10: bool) {
    let version: &[u8] = match http10 {
        true => b"HTTP/1.0 ",
        false => b"HTTP/1.1 ",
    };
    head.extend_from_slice(version);
    head.extend_from_slice(parts.status.as_str().as_bytes());
    head.push(b' ');
    let own = match parts.extensions.is_empty() {
        true => None,
        false => parts.extensions.get::<ReasonPhrase>(),
    };
    let phrase = match own {
        Some(phrase) => phrase.as_bytes(),
        None => parts.status.canonical_reason().unwrap_or("").as_bytes(),
    };
    head.extend_from_slice(phrase);
    head.extend_from_slice(b"\r\n");
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
        let mut head = Vec::new();
        encode(&mut head, &parts, framing, body, asked);
        let text = String::from_utf8(head).unwrap();
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
}
