//! Carrying a decision out on HTTP types.

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Uri, request};

use super::Peer;
use crate::rules::{Decision, FieldChange, Verdict};

/// Changes the head of a request as its decision says: request fields, and the target of a rewrite.
///
/// A field value that is not legal is made so (RFC 9110 section 5.5: CR, LF and NUL become spaces); bytes of a
/// rewritten target that no URI may hold are percent-encoded (RFC 3986 section 2.1). An absolute target of a rewrite
/// becomes the whole URI, for the caller to allow or refuse.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use stopgap::filter::apply;
/// use stopgap::rules::{Decision, FieldChange, Verdict};
///
/// let (mut parts, ()) = Request::get("/old").body(())?.into_parts();
/// let decision = Decision {
///     verdict: Verdict::Rewrite { target: b"/new path".to_vec() },
///     fields: vec![FieldChange { name: "x-a".to_owned(), value: b"1\r\n2".to_vec() }],
///     ..Decision::PASS
/// };
/// apply(&decision, &mut parts);
/// assert_eq!(parts.uri, "/new%20path");
/// assert_eq!(parts.headers["x-a"], "1  2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn apply(decision: &Decision, parts: &mut request::Parts) {
    change_fields(&decision.fields, &mut parts.headers);
    if let Verdict::Rewrite { target } = &decision.verdict {
        // Cannot fail: every byte that a URI may not hold was encoded. If it did, the old target stays.
        if let Ok(uri) = Uri::try_from(uri_text(target)) {
            parts.uri = uri;
        }
    }
}

/// The `Location` to send for a redirection: absolute as it is, otherwise resolved against the request's scheme and
/// host, as IIS sends it (a request without a usable `Host` keeps the relative form).
///
/// # Examples
///
/// ```
/// use http::Request;
/// use stopgap::filter::{Peer, absolute_location};
///
/// let (parts, ()) = Request::get("/a").header("host", "mail.example").body(())?.into_parts();
/// let peer = Peer { secure: true, ..Peer::default() };
/// assert_eq!(absolute_location(b"/b?c", &parts, &peer), "https://mail.example/b?c");
/// assert_eq!(absolute_location(b"http://other/", &parts, &peer), "http://other/");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn absolute_location(location: &[u8], parts: &request::Parts, peer: &Peer) -> HeaderValue {
    let mut text = String::new();
    if !is_absolute(location)
        && let Some(host) = parts.headers.get(HOST).and_then(|host| host.to_str().ok())
    {
        text.push_str(if peer.secure { "https://" } else { "http://" });
        text.push_str(host);
        if !location.starts_with(b"/") {
            text.push('/');
        }
    }
    text.push_str(&uri_text(location));
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("/"))
}

pub(super) fn change_fields(changes: &[FieldChange], fields: &mut HeaderMap) {
    for (at, change) in changes.iter().enumerate() {
        // A name that is no token cannot be sent; the rule compiler refuses those it can see.
        let Ok(name) = HeaderName::from_bytes(change.name.as_bytes()) else {
            continue;
        };
        let value = legal_value(&change.value);
        // Of several changes to one field the first replaces and the others add, for fields that cannot be joined.
        if changes[..at]
            .iter()
            .any(|earlier| earlier.name == change.name)
        {
            fields.append(name, value);
        } else {
            fields.insert(name, value);
        }
    }
}

fn legal_value(value: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(value).unwrap_or_else(|_| {
        let legal: Vec<u8> = value
            .iter()
            .map(|byte| {
                if *byte == b'\t' || *byte >= b' ' && *byte != 0x7f {
                    *byte
                } else {
                    b' '
                }
            })
            .collect();
        HeaderValue::from_bytes(&legal).expect("a value without control characters is legal")
    })
}

/// Whether the text begins with a scheme (RFC 3986 section 3.1) and `://`, or with `//`.
fn is_absolute(text: &[u8]) -> bool {
    if text.starts_with(b"//") {
        return true;
    }
    let scheme = text
        .iter()
        .position(|byte| !(byte.is_ascii_alphanumeric() || b"+-.".contains(byte)));
    scheme.is_some_and(|end| {
        end > 0 && text[0].is_ascii_alphabetic() && text[end..].starts_with(b"://")
    })
}

fn uri_text(target: &[u8]) -> String {
    let mut text = String::with_capacity(target.len());
    for byte in target {
        if byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
    }
    if text.is_empty() {
        "/".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(host: &str) -> request::Parts {
        Request::get("/a")
            .header(HOST, host)
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    #[test]
    fn location_becomes_absolute() {
        let secure = Peer {
            secure: true,
            ..Peer::default()
        };
        for (location, expected) in [
            ("/b?c=d", "https://mail.example/b?c=d"),
            ("b", "https://mail.example/b"),
            ("http://other.example/x", "http://other.example/x"),
            ("//other.example/x", "//other.example/x"),
            (
                "/a b\r\nSet-Cookie: x",
                "https://mail.example/a%20b%0D%0ASet-Cookie:%20x",
            ),
        ] {
            assert_eq!(
                absolute_location(location.as_bytes(), &parts("mail.example"), &secure),
                expected
            );
        }
    }

    #[test]
    fn hostile_bytes_cannot_split_a_message() {
        let mut parts = parts("h");
        let decision = Decision {
            fields: vec![FieldChange {
                name: "x-a".into(),
                value: b"1\r\nX-Evil: 2\0".to_vec(),
            }],
            verdict: Verdict::Rewrite {
                target: b"/b\r\nX: y#\xff".to_vec(),
            },
            ..Decision::PASS
        };
        apply(&decision, &mut parts);
        assert_eq!(parts.headers["x-a"], "1  X-Evil: 2 ");
        assert_eq!(parts.uri, "/b%0D%0AX:%20y%23%FF");
    }
}
