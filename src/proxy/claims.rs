//! What proxies in front say about the way that a request came: `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! Both are read from their end, where the nearest proxy has written, and only as far as somebody asks. What stands
//! before the first thing that makes no sense is not looked at: whoever wrote that may have written all of it.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName};

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// One step of the way, as the proxy behind it has described it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hop<'f> {
    /// From where the request came; port 0 when that was not said.
    pub(super) address: SocketAddr,
    /// Which host was asked for.
    pub(super) host: Option<&'f [u8]>,
    /// Whether it came within TLS.
    pub(super) secure: Option<bool>,
}

/// The steps that `X-Forwarded-For` names, nearest first; `None` for one that makes no sense.
pub(super) fn x_forwarded_for(fields: &HeaderMap) -> impl Iterator<Item = Option<Hop<'_>>> {
    let lines = fields.get_all(X_FORWARDED_FOR).iter().rev();
    let elements = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
    elements.map(<[u8]>::trim_ascii).map(|element| {
        Some(Hop {
            address: node(element)?,
            host: None,
            secure: None,
        })
    })
}

/// The steps that `Forwarded` names, nearest first; `None` for one that makes no sense or hides its address.
pub(super) fn forwarded(fields: &HeaderMap) -> impl Iterator<Item = Option<Hop<'_>>> {
    let lines = fields.get_all(FORWARDED).iter().rev();
    lines
        .flat_map(|line| Elements::new(line.as_bytes(), b','))
        .map(hop)
}

/// The value of a field with one line, of its list the element with this number from the end, or else its first.
pub(super) fn aligned(fields: &HeaderMap, name: HeaderName, from_end: usize) -> Option<&[u8]> {
    let mut lines = fields.get_all(name).iter();
    let value = lines.next().filter(|_| lines.next().is_none())?;
    let mut elements = value.as_bytes().rsplit(|&byte| byte == b',');
    let first = value.as_bytes().split(|&byte| byte == b',').next();
    let element = elements.nth(from_end).or(first)?;
    Some(element.trim_ascii())
}

/// An address as proxies write it: alone, in brackets, or with a port (RFC 7239 section 6).
fn node(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address.to_canonical(), 0));
    }
    if let Some(inner) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let address: std::net::Ipv6Addr = inner.parse().ok()?;
        return Some(SocketAddr::new(IpAddr::V6(address).to_canonical(), 0));
    }
    let address: SocketAddr = text.parse().ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// One element of `Forwarded` (RFC 7239 section 4); a parameter that is there twice makes it senseless.
fn hop(element: &[u8]) -> Option<Hop<'_>> {
    let (mut address, mut host, mut secure) = (None, None, None);
    for pair in Elements::new(element, b';') {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (&pair[..equals], unquoted(&pair[equals + 1..])?);
        let before = if name.eq_ignore_ascii_case(b"for") {
            address.replace(node(value)?).is_some()
        } else if name.eq_ignore_ascii_case(b"host") {
            host.replace(value).is_some()
        } else if name.eq_ignore_ascii_case(b"proto") {
            secure.replace(is_secure(value)?).is_some()
        } else {
            false
        };
        if before {
            return None;
        }
    }
    Some(Hop {
        address: address?,
        host,
        secure,
    })
}

/// Whether a scheme stands for TLS; `None` when it is none of ours.
pub(super) fn is_secure(scheme: &[u8]) -> Option<bool> {
    if scheme.eq_ignore_ascii_case(b"https") {
        Some(true)
    } else if scheme.eq_ignore_ascii_case(b"http") {
        Some(false)
    } else {
        None
    }
}

/// A value without its quotes. None that is of use here needs a character to be escaped.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    match value {
        [b'"', inner @ .., b'"'] => {
            Some(inner).filter(|inner| !inner.iter().any(|byte| matches!(byte, b'"' | b'\\')))
        }
        token => Some(token).filter(|token| !token.contains(&b'"')),
    }
}

/// The parts of a text between separators that are not within quotes, the last first, without the space around them.
struct Elements<'t> {
    rest: Option<&'t [u8]>,
    separator: u8,
}

impl<'t> Elements<'t> {
    const fn new(text: &'t [u8], separator: u8) -> Self {
        Self {
            rest: Some(text),
            separator,
        }
    }
}

impl<'t> Iterator for Elements<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        let text = self.rest.take()?;
        let mut quoted = false;
        for at in (0..text.len()).rev() {
            if text[at] == b'"' {
                let before = text[..at].iter().rev();
                let escapes = before.take_while(|&&byte| byte == b'\\').count();
                quoted ^= escapes % 2 == 0;
            } else if text[at] == self.separator && !quoted {
                self.rest = Some(&text[..at]);
                return Some(text[at + 1..].trim_ascii());
            }
        }
        Some(text.trim_ascii())
    }
}

/// How an address is named in `Forwarded`: what has a colon is quoted, IPv6 in brackets (RFC 7239 section 6).
pub(super) fn forwarded_node(address: Option<IpAddr>) -> String {
    match address {
        Some(IpAddr::V4(address)) => format!("for={address}"),
        Some(IpAddr::V6(address)) => format!("for=\"[{address}]\""),
        None => "for=unknown".to_owned(),
    }
}

/// How a host is named in `Forwarded`.
pub(super) fn forwarded_host(host: &[u8]) -> Vec<u8> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    match host {
        token if !token.is_empty() && token.iter().all(is_token) => [b"host=", token].concat(),
        // What may stand in a host needs no escape.
        other => [b"host=\"", other, b"\""].concat(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(name: HeaderName, lines: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(name.clone(), HeaderValue::from_str(line).unwrap());
        }
        fields
    }

    fn shown<'f>(hops: impl Iterator<Item = Option<Hop<'f>>>) -> Vec<String> {
        let hop = |hop: Option<Hop<'_>>| match hop {
            Some(hop) => {
                let host = hop
                    .host
                    .map(|host| String::from_utf8_lossy(host).into_owned());
                let secure = hop
                    .secure
                    .map(|secure| if secure { " tls" } else { " plain" });
                let address = hop.address;
                format!(
                    "{address} {}{}",
                    host.unwrap_or_default(),
                    secure.unwrap_or("")
                )
            }
            None => "-".to_owned(),
        };
        hops.map(hop).map(|text| text.trim().to_owned()).collect()
    }

    #[test]
    fn x_forwarded_for_is_read_from_its_end() {
        for (lines, expected) in [
            (&["192.0.2.1"][..], &["192.0.2.1:0"][..]),
            (
                &[
                    "192.0.2.1, 2001:db8::1",
                    "[2001:db8::2] ,[2001:db8::3]:80,192.0.2.4:5",
                ],
                &[
                    "192.0.2.4:5",
                    "[2001:db8::3]:80",
                    "[2001:db8::2]:0",
                    "[2001:db8::1]:0",
                    "192.0.2.1:0",
                ],
            ),
            (&["::ffff:192.0.2.1"], &["192.0.2.1:0"]),
            (&["unknown, 192.0.2.1"], &["192.0.2.1:0", "-"]),
            (&["192.0.2.1,"], &["-", "192.0.2.1:0"]),
            (&["192.0.2.1 192.0.2.2"], &["-"]),
            (&["192.0.2.1:99999"], &["-"]),
            (&["fe80::1%eth0"], &["-"]),
            (&[""], &["-"]),
            (&[], &[]),
        ] {
            let fields = fields(X_FORWARDED_FOR, lines);
            assert_eq!(shown(x_forwarded_for(&fields)), expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_from_its_end() {
        for (lines, expected) in [
            (
                &[
                    "for=192.0.2.43, For=\"[2001:db8:cafe::17]:4711\";PROTO=https;by=203.0.113.43;Host=\"m:80\"",
                ][..],
                &["[2001:db8:cafe::17]:4711 m:80 tls", "192.0.2.43:0"][..],
            ),
            (
                &["for=192.0.2.1;proto=http", "for=192.0.2.2;host=m"],
                &["192.0.2.2:0 m", "192.0.2.1:0  plain"],
            ),
            (&["secret=\"a,b;for=1\";for=192.0.2.1"], &["192.0.2.1:0"]),
            (&["for=\"never, for=192.0.2.1"], &["192.0.2.1:0", "-"]),
            (
                &["for=\"\\\", for=192.0.2.1\", for=192.0.2.2"],
                &["192.0.2.2:0", "-"],
            ),
            (&["for=unknown", "for=_hidden"], &["-", "-"]),
            (&["for=192.0.2.1;for=192.0.2.2"], &["-"]),
            (&["host=m"], &["-"]),
            (&["for=192.0.2.1;proto=ftp"], &["-"]),
            (&["for = 192.0.2.1"], &["-"]),
            (&["for=192.0.2.1;"], &["-"]),
            (&["for=2001:db8::1"], &["[2001:db8::1]:0"]),
        ] {
            let fields = fields(FORWARDED, lines);
            assert_eq!(shown(forwarded(&fields)), expected, "{lines:?}");
        }
    }

    #[test]
    fn other_fields_speak_of_the_same_step() {
        let name = || HeaderName::from_static("x-forwarded-proto");
        let of = |lines: &[&str], from_end| {
            let fields = fields(name(), lines);
            aligned(&fields, name(), from_end)
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(of(&["https"], 2).as_deref(), Some("https"));
        assert_eq!(of(&["https, http"], 0).as_deref(), Some("http"));
        assert_eq!(of(&["x, https ,http"], 1).as_deref(), Some("https"));
        assert_eq!(of(&["https", "http"], 0), None);
        assert_eq!(of(&[], 0), None);
    }

    #[test]
    fn addresses_and_hosts_are_quoted_where_they_have_to_be() {
        let node = |text: &str| forwarded_node(Some(text.parse().unwrap()));
        assert_eq!(node("192.0.2.1"), "for=192.0.2.1");
        assert_eq!(node("2001:db8::1"), "for=\"[2001:db8::1]\"");
        assert_eq!(forwarded_node(None), "for=unknown");
        let host = |text: &str| String::from_utf8(forwarded_host(text.as_bytes())).unwrap();
        assert_eq!(host("mail.example"), "host=mail.example");
        assert_eq!(host("mail.example:80"), "host=\"mail.example:80\"");
        assert_eq!(host("[::1]"), "host=\"[::1]\"");
        assert_eq!(host(""), "host=\"\"");
    }
}
