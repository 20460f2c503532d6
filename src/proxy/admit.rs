//! Requests that contradict themselves, or ask for what this proxy does not do.

use http::header::{HOST, HeaderValue};
use http::{Method, Uri, Version, request};

use super::metrics::Reason;
use crate::canon::{self, Refusals};
use crate::net::RequestHead;

/// Why a well-formed request is not taken.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Inadmissible {
    /// A login that counts for a connection was begun on one that carries many requests at once.
    BoundLogin,
    /// A `Connection` option names a field that is not the client's to remove.
    ConnectionOption,
    /// Two hosts: `Host` is repeated, or is not a host and an optional port; or there is none.
    Host,
    /// `CONNECT` and `TRACE`.
    Method,
    /// Neither a path, nor an absolute `http` or `https` URL, nor `*` with `OPTIONS`.
    TargetForm,
}

impl Inadmissible {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::BoundLogin => "bound-login",
            Self::ConnectionOption => "connection-option",
            Self::Host => "host",
            Self::Method => "method-not-served",
            Self::TargetForm => "target-form",
        }
    }

    pub(super) const fn status(self) -> u16 {
        match self {
            Self::BoundLogin => 421,
            Self::Method => 501,
            Self::ConnectionOption | Self::Host | Self::TargetForm => 400,
        }
    }
}

/// Checks a head, and brings an absolute target to origin form with its authority as the only `Host`
/// (RFC 9112 section 3.2.2).
pub(super) fn admit(head: &mut RequestHead, refusals: &Refusals) -> Result<(), Reason> {
    if matches!(*head.method(), Method::CONNECT | Method::TRACE) {
        return Err(Reason::Inadmissible(Inadmissible::Method));
    }
    check_host(head)?;
    if let RequestHead::Parts(parts) = head
        && (parts.uri.scheme().is_some() || parts.uri.authority().is_some())
    {
        adopt_authority(parts)?;
    }
    let target = head.path_and_query().unwrap_or(b"/");
    let is_form = target.starts_with(b"/") || (target == b"*" && *head.method() == Method::OPTIONS);
    if !is_form {
        return Err(Reason::Inadmissible(Inadmissible::TargetForm));
    }
    match canon::refuse(target, refusals) {
        Some(refusal) => Err(Reason::Target(refusal)),
        None => Ok(()),
    }
}

/// Exactly one `Host` (RFC 9112 section 3.2); HTTP/1.0 knows none.
fn check_host(head: &RequestHead) -> Result<(), Reason> {
    let mut hosts = head.values(&HOST);
    let valid = match hosts.next() {
        None => head.version() == Version::HTTP_10,
        Some(host) => hosts.next().is_none() && is_host(host),
    };
    if valid {
        Ok(())
    } else {
        Err(Reason::Inadmissible(Inadmissible::Host))
    }
}

fn adopt_authority(parts: &mut request::Parts) -> Result<(), Reason> {
    let form = Reason::Inadmissible(Inadmissible::TargetForm);
    if !matches!(parts.uri.scheme_str(), Some("http" | "https")) {
        return Err(form);
    }
    let authority = parts.uri.authority().ok_or(form)?.as_str();
    if !is_host(authority.as_bytes()) {
        return Err(Reason::Inadmissible(Inadmissible::Host));
    }
    let host = HeaderValue::from_str(authority).map_err(|_| form)?;
    parts.headers.insert(HOST, host);
    let mut origin = http::uri::Parts::default();
    origin.path_and_query = parts.uri.path_and_query().cloned();
    parts.uri = Uri::from_parts(origin).map_err(|_| form)?;
    Ok(())
}

/// Whether this is a host and an optional port (RFC 3986 section 3.2), and nothing that two readers could take
/// for two hosts.
pub(super) fn is_host(text: &[u8]) -> bool {
    let (host, port) = match memchr::memrchr(b':', text) {
        Some(colon) if text.last() != Some(&b']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let is_port = |port: &[u8]| {
        std::str::from_utf8(port).is_ok_and(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && (port.is_empty() || port.parse::<u16>().is_ok())
        })
    };
    let is_address = |host: &[u8]| {
        std::str::from_utf8(host).is_ok_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let is_name = |host: &[u8]| {
        // Without an early exit, so that the compiler can look at many bytes at once.
        (1..=255).contains(&host.len())
            && host.iter().fold(true, |valid, &byte| {
                let letter = byte | 0x20;
                let is_sign = (byte == b'-') | (byte == b'.') | (byte == b'_') | (byte == b'~');
                valid & (byte.is_ascii_digit() | letter.is_ascii_lowercase() | is_sign)
            })
    };
    let valid = match host {
        [b'[', inner @ .., b']'] => is_address(inner),
        name => is_name(name),
    };
    valid && port.is_none_or(is_port)
}

/// The host name in a `Host` value, without its port.
pub(super) fn host_name(value: &[u8]) -> &[u8] {
    match value.iter().rposition(|&byte| byte == b':') {
        Some(colon) if value.last() != Some(&b']') => &value[..colon],
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn hosts() {
        for host in [
            "mail.example",
            "mail.example:8080",
            "mail.example:",
            "10.0.0.1",
            "[::1]:81",
            "[::1]",
            "a_b",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "", ":80", "a:99999", "a:80x", "a/b", "a?x", "a, b", "a b", "u@a", "[::1", "::1",
            "a:1:2", "[x]", "a%41", "a\u{e9}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert_eq!(host_name(b"mail.example:80"), b"mail.example");
        assert_eq!(host_name(b"[::1]:80"), b"[::1]");
        assert_eq!(host_name(b"[::1]"), b"[::1]");
    }

    fn admitted(
        method: &str,
        target: &str,
        version: Version,
        hosts: &[&str],
    ) -> Result<(String, String), &'static str> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let mut head = RequestHead::from(request.body(()).unwrap().into_parts().0);
        admit(&mut head, &Refusals::default()).map_err(Reason::word)?;
        let parts = head.parts();
        let host = parts
            .headers
            .get(HOST)
            .map_or("", |host| host.to_str().unwrap());
        Ok((parts.uri.to_string(), host.to_owned()))
    }

    #[test]
    fn heads() {
        let v11 =
            |method, target, hosts: &[&str]| admitted(method, target, Version::HTTP_11, hosts);
        let ok = |target: &str, host: &str| Ok((target.to_owned(), host.to_owned()));
        assert_eq!(v11("GET", "/owa/?a=b", &["m"]), ok("/owa/?a=b", "m"));
        assert_eq!(v11("RPC_IN_DATA", "/rpc", &["m"]), ok("/rpc", "m"));
        assert_eq!(
            v11("GET", "http://m:80/owa?x", &["other"]),
            ok("/owa?x", "m:80")
        );
        assert_eq!(v11("GET", "http://m", &["m"]), ok("/", "m"));
        assert_eq!(v11("OPTIONS", "*", &["m"]), ok("*", "m"));
        assert_eq!(admitted("GET", "/", Version::HTTP_10, &[]), ok("/", ""));
        assert_eq!(v11("GET", "/", &[]), Err("host"));
        assert_eq!(v11("GET", "/", &["m", "m"]), Err("host"));
        assert_eq!(
            admitted("GET", "/", Version::HTTP_10, &["m", "m"]),
            Err("host")
        );
        assert_eq!(v11("GET", "http://u@m/", &["m"]), Err("host"));
        assert_eq!(v11("GET", "ftp://m/", &["m"]), Err("target-form"));
        assert_eq!(v11("GET", "m:80", &["m"]), Err("target-form"));
        assert_eq!(v11("GET", "*", &["m"]), Err("target-form"));
        assert_eq!(v11("CONNECT", "m:80", &["m"]), Err("method-not-served"));
        assert_eq!(v11("TRACE", "/", &["m"]), Err("method-not-served"));
        assert_eq!(v11("GET", "/%00", &["m"]), Err("control-character"));
    }
}
