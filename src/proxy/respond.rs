//! Every answer that is made here rather than by a server.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};

use super::ProxyError;
use super::metrics::Reason;
use super::request_id::RequestId;
use crate::filter;
use crate::net::{self, OwnResponse, ResponseHead};

/// A field of an answer.
type Field<'f> = (&'f HeaderName, &'f [u8]);

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static PLAIN_TEXT: Field<'_> = (&CONTENT_TYPE, b"text/plain; charset=utf-8");
static NO_STORE: Field<'_> = (&CACHE_CONTROL, b"no-store");

/// An answer of ours, without the connection it goes to.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: ResponseHead,
    pub(super) body: Bytes,
    /// Whether its connection ends behind it.
    pub(super) last: bool,
}

impl From<Response<Bytes>> for Answer {
    fn from(response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            head: parts.into(),
            body,
            last: false,
        }
    }
}

/// Refuses a request without asking the rules.
pub(super) fn refused(reason: Reason, id: RequestId) -> Answer {
    error(reason.status(), reason.word(), id)
}

/// Says that no server answered.
pub(super) fn failed(cause: &ProxyError, id: RequestId) -> Answer {
    let (status, word) = match cause {
        cause if cause.is_busy() => (503, "upstream-busy"),
        cause if cause.is_timeout() => (504, "upstream-timeout"),
        _ => (502, "upstream"),
    };
    error(status, word, id)
}

/// Says whether this proxy takes requests.
pub(super) fn health(serves: bool, id: RequestId) -> Answer {
    match serves {
        true => answer(
            StatusCode::OK,
            "",
            &[NO_STORE],
            Bytes::from_static(b"ok\n"),
            id,
        ),
        false => error(503, "draining", id),
    }
}

/// Says that the pool that serves the path is stopped.
pub(super) fn paused(id: RequestId) -> Answer {
    let seconds = filter::RETRY_AFTER.as_secs().to_string();
    let retry = (&RETRY_AFTER, seconds.as_bytes());
    error_with(503, "pool-stopped", &[NO_STORE, retry], id)
}

/// Says that a rule failed at run time. Its sub-status is for logs only.
pub(super) fn rule_failed(id: RequestId) -> Answer {
    error(500, "rule", id)
}

/// Says that a rule rewrote the target to another server, which this proxy does not reach.
pub(super) fn foreign_target(id: RequestId) -> Answer {
    error(404, "foreign-target", id)
}

/// Answers as a rule says.
pub(super) fn custom(status: u16, reason: &str, description: &str, id: RequestId) -> Answer {
    let code = StatusCode::from_u16(status)
        .ok()
        .filter(|code| code.as_u16() >= 200);
    let Some(code) = code else {
        return rule_failed(id);
    };
    let body = match code {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Bytes::new(),
        _ => Bytes::copy_from_slice(description.as_bytes()),
    };
    // The usual phrase needs no saying.
    let reason = match Some(reason) == code.canonical_reason() {
        true => "",
        false => reason,
    };
    answer(code, reason, &[NO_STORE], body, id)
}

/// Sends the client elsewhere.
pub(super) fn redirect(status: u16, location: &[u8], id: RequestId) -> Answer {
    let Ok(code) = StatusCode::from_u16(status) else {
        return rule_failed(id);
    };
    let body = Bytes::from_static(b"The resource has moved.\n");
    answer(code, "", &[(&LOCATION, location)], body, id)
}

/// An answer in bytes, for a connection that ends without a request; closes it.
pub(super) fn in_bytes(answer: &Answer) -> Vec<u8> {
    net::last_response(&answer.head, &answer.body)
}

fn error(status: u16, word: &str, id: RequestId) -> Answer {
    error_with(status, word, &[NO_STORE], id)
}

fn error_with(status: u16, word: &str, fields: &[Field<'_>], id: RequestId) -> Answer {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = format!(
        "{} {}\nreason: {word}\nrequest: {id}\n",
        code.as_str(),
        code.canonical_reason().unwrap_or("")
    );
    answer(code, "", fields, text.into(), id)
}

fn answer(
    code: StatusCode,
    reason: &str,
    fields: &[Field<'_>],
    body: Bytes,
    id: RequestId,
) -> Answer {
    let mut head = OwnResponse::new(code, reason.as_bytes());
    let has_content = !matches!(code, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let content = has_content.then_some(&PLAIN_TEXT).into_iter();
    for (name, value) in content.chain(fields) {
        head.add(name, value);
    }
    head.add(&X_REQUEST_ID, &id.text());
    Answer {
        head: ResponseHead::Own(head),
        body,
        last: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Malformed;
    use crate::proxy::request_id::RequestIds;

    #[test]
    fn answers_name_the_request_and_the_reason() {
        let id = RequestIds::new(0).next();
        let answer = refused(Reason::Malformed(Malformed::HeadTooLarge), id);
        assert_eq!(answer.head.status(), 431);
        let told: Vec<&[u8]> = answer.head.values(&X_REQUEST_ID).collect();
        assert_eq!(told, [id.to_string().as_bytes()]);
        let text = String::from_utf8(in_bytes(&answer)).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nconnection: close\r\n\r\n431"), "{text}");
        assert!(
            text.ends_with(&format!("reason: head-too-large\nrequest: {id}\n")),
            "{text}"
        );
        for (error, status) in [
            (ProxyError::connect_timeout(), 504),
            (
                ProxyError::connect(std::io::ErrorKind::TimedOut.into()),
                502,
            ),
        ] {
            assert_eq!(failed(&error, id).head.status(), status);
        }
    }

    #[test]
    fn custom_answers_carry_phrase_and_description() {
        let id = RequestIds::new(0).next();
        for (status, reason, description, line, body) in [
            (403, "Own: blocked", "No.", "403 Own: blocked", "No."),
            (403, "Forbidden", "No.", "403 Forbidden", "No."),
            (403, "a\r\nb", "", "403 Forbidden", ""),
            (204, "", "text", "204 No Content", ""),
            (101, "", "", "500 Internal Server Error", "500"),
            (99, "", "", "500 Internal Server Error", "500"),
        ] {
            let text = in_bytes(&custom(status, reason, description, id));
            let text = String::from_utf8(text).unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{text}");
            assert!(text.contains(&format!("\r\n\r\n{body}")), "{text}");
            assert_eq!(text.contains("content-type"), status != 204, "{text}");
        }
    }
}
