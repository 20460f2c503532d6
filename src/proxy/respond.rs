//! Every answer that is made here rather than by a server.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::ProxyError;
use super::metrics::Reason;
use super::request_id::RequestId;
use crate::filter;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// An answer of ours, without the connection it goes to.
pub(super) type Answer = Response<Bytes>;

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
        true => answer(StatusCode::OK, Bytes::from_static(b"ok\n"), id),
        false => error(503, "draining", id),
    }
}

/// Says that the pool that serves the path is stopped.
pub(super) fn paused(id: RequestId) -> Answer {
    let mut answer = error(503, "pool-stopped", id);
    let seconds = HeaderValue::from(filter::RETRY_AFTER.as_secs());
    answer.headers_mut().insert(RETRY_AFTER, seconds);
    answer
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
    let mut answer = answer(code, body, id);
    // A phrase that cannot be sent gives way to the usual one, which needs no saying.
    if !reason.is_empty()
        && Some(reason) != code.canonical_reason()
        && let Ok(phrase) = ReasonPhrase::try_from(reason.as_bytes())
    {
        answer.extensions_mut().insert(phrase);
    }
    answer
}

/// Sends the client elsewhere.
pub(super) fn redirect(status: u16, location: HeaderValue, id: RequestId) -> Answer {
    let Ok(code) = StatusCode::from_u16(status) else {
        return rule_failed(id);
    };
    let mut answer = answer(code, Bytes::from_static(b"The resource has moved.\n"), id);
    answer.headers_mut().remove(CACHE_CONTROL);
    answer.headers_mut().insert(LOCATION, location);
    answer
}

/// Has the connection closed behind the answer.
pub(super) fn close<B>(response: &mut Response<B>) {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
}

/// An answer in bytes, for a connection that ends without a request; closes it.
pub(super) fn in_bytes(answer: &Answer) -> Vec<u8> {
    let status = answer.status();
    let mut head = format!(
        "HTTP/1.1 {} {}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or("")
    );
    let mut field = |name: &str, value: &str| {
        // Writing to memory does not fail.
        let _ = write!(head, "{name}: {value}\r\n");
    };
    for (name, value) in answer.headers() {
        field(name.as_str(), value.to_str().unwrap_or(""));
    }
    field("content-length", &answer.body().len().to_string());
    field("connection", "close");
    head.push_str("\r\n");
    [head.as_bytes(), answer.body()].concat()
}

fn error(status: u16, word: &str, id: RequestId) -> Answer {
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = format!(
        "{} {}\nreason: {word}\nrequest: {id}\n",
        code.as_str(),
        code.canonical_reason().unwrap_or("")
    );
    answer(code, text.into(), id)
}

fn answer(code: StatusCode, body: Bytes, id: RequestId) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    let fields = answer.headers_mut();
    if !matches!(code, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        fields.insert(CONTENT_TYPE, PLAIN_TEXT);
    }
    fields.insert(CACHE_CONTROL, NO_STORE);
    if let Ok(id) = HeaderValue::from_bytes(&id.text()) {
        fields.insert(X_REQUEST_ID, id);
    }
    answer
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
        assert_eq!(answer.status(), 431);
        assert_eq!(answer.headers()[X_REQUEST_ID], id.to_string());
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
        assert_eq!(failed(&ProxyError::connect_timeout(), id).status(), 504);
        assert_eq!(
            failed(
                &ProxyError::connect(std::io::ErrorKind::TimedOut.into()),
                id
            )
            .status(),
            502
        );
    }

    #[test]
    fn custom_answers_carry_phrase_and_description() {
        let id = RequestIds::new(0).next();
        let answer = custom(403, "Forbidden: blocked", "No.", id);
        assert_eq!(
            answer
                .extensions()
                .get::<ReasonPhrase>()
                .unwrap()
                .as_bytes(),
            b"Forbidden: blocked"
        );
        assert_eq!(answer.body(), "No.");
        assert!(
            custom(403, "a\r\nb", "", id)
                .extensions()
                .get::<ReasonPhrase>()
                .is_none()
        );
        assert_eq!(custom(204, "", "text", id).body(), "");
        assert_eq!(custom(101, "", "", id).status(), 500);
        assert_eq!(custom(99, "", "", id).status(), 500);
    }
}
