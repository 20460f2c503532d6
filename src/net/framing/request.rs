//! The head of a request, as it came or in parts.

use bytes::Bytes;
use http::header::HeaderName;
use http::{Method, Request, Uri, Version, request};
use memchr::memchr;

use crate::net::plain::{Field, PlainFields, Span, Values};

/// The head of a request.
///
/// Most go through as they came: what they are made of is only looked up. One that is to be changed is taken apart.
#[derive(Debug)]
pub enum RequestHead {
    /// As it came, with a target in origin form (RFC 9112 section 3.2.1) of bytes that need no second look.
    Plain(PlainHead),
    /// In parts.
    Parts(Box<request::Parts>),
}

/// The head of a request as it came, and where in it everything stands.
#[derive(Debug)]
pub struct PlainHead {
    method: Method,
    target: Span,
    version: Version,
    fields: PlainFields,
}

/// The parts of a head as a scan has found them.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) method: Span,
    pub(super) target: Span,
    /// Whether the target holds no byte that needs a second look.
    pub(super) plain: bool,
    pub(super) minor: u8,
    pub(super) fields: Vec<Field>,
}

impl RequestHead {
    /// The head that a scan has found in `text`, and checked.
    pub(super) fn new(text: Bytes, places: Places) -> Self {
        let method = Method::from_bytes(&text[places.method.range()]);
        let plain = PlainHead {
            method: method.expect("methods are checked when they come"),
            target: places.target,
            version: match places.minor {
                0 => Version::HTTP_10,
                _ => Version::HTTP_11,
            },
            fields: PlainFields::checked(text, places.fields),
        };
        match places.plain && plain.target().starts_with(b"/") {
            true => Self::Plain(plain),
            false => Self::Parts(Box::new(plain.parts())),
        }
    }

    /// The head that begins a text.
    #[cfg(test)]
    pub(crate) fn of_text(text: &str) -> Self {
        let mut scan = super::HeadScan::default();
        let end = scan.scan(
            text.as_bytes(),
            &super::HeadLimits::DEFAULT,
            &super::LastHead::default(),
        );
        let head = Bytes::copy_from_slice(&text.as_bytes()[..end.unwrap().unwrap()]);
        scan.read(head).head
    }

    /// The method.
    pub fn method(&self) -> &Method {
        match self {
            Self::Plain(plain) => &plain.method,
            Self::Parts(parts) => &parts.method,
        }
    }

    /// The version of the protocol.
    pub fn version(&self) -> Version {
        match self {
            Self::Plain(plain) => plain.version,
            Self::Parts(parts) => parts.version,
        }
    }

    /// Path and query, or nothing if the target has neither.
    pub fn path_and_query(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(plain) => Some(plain.target()),
            Self::Parts(parts) => Some(parts.uri.path_and_query()?.as_str().as_bytes()),
        }
    }

    /// The path.
    pub fn path(&self) -> &[u8] {
        let target = self.path_and_query().unwrap_or_default();
        &target[..memchr(b'?', target).unwrap_or(target.len())]
    }

    /// The values of a field, in the order they came.
    pub fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
        match self {
            Self::Plain(plain) => Values::Plain(plain.fields.values(name)),
            Self::Parts(parts) => Values::Parts(parts.headers.get_all(name).iter()),
        }
    }

    /// The first value of a field.
    pub fn value(&self, name: &HeaderName) -> Option<&[u8]> {
        match self {
            Self::Plain(plain) => plain.fields.values(name).next(),
            Self::Parts(parts) => Some(parts.headers.get(name)?.as_bytes()),
        }
    }

    /// Whether a field is there.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.value(name).is_some()
    }

    /// The parts, which stay apart.
    pub fn parts(&mut self) -> &mut request::Parts {
        if let Self::Plain(plain) = self {
            *self = Self::Parts(Box::new(plain.parts()));
        }
        match self {
            Self::Parts(parts) => parts,
            Self::Plain(_) => unreachable!("it was just taken apart"),
        }
    }
}

impl From<request::Parts> for RequestHead {
    fn from(parts: request::Parts) -> Self {
        Self::Parts(Box::new(parts))
    }
}

impl PlainHead {
    /// Path and query.
    pub fn target(&self) -> &[u8] {
        &self.fields.text()[self.target.range()]
    }

    /// Bytes of the head.
    #[expect(clippy::len_without_is_empty, reason = "no head is empty")]
    pub fn len(&self) -> usize {
        self.fields.text().len()
    }

    /// The fields in the order they came, with their names as they were written.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter()
    }

    fn parts(&self) -> request::Parts {
        let mut parts = Request::new(()).into_parts().0;
        parts.method = self.method.clone();
        let target = Uri::from_maybe_shared(self.fields.text().slice(self.target.range()));
        parts.uri = target.expect("targets are checked when they come");
        parts.version = self.version;
        parts.headers = self.fields.to_map();
        parts
    }
}

#[cfg(test)]
mod tests {
    use http::header::HOST;

    use super::*;

    #[test]
    fn head_tells_the_same_as_it_came_and_in_parts() {
        let mut head =
            RequestHead::of_text("GET /a?b HTTP/1.0\r\nHOST: m\r\nX-A: \t1 2 \r\nhost:\r\n\r\n");
        let told = |head: &RequestHead| {
            let hosts: Vec<Vec<u8>> = head.values(&HOST).map(<[u8]>::to_vec).collect();
            let target = head.path_and_query().map(<[u8]>::to_vec);
            let path = head.path().to_vec();
            (head.method().clone(), head.version(), target, path, hosts)
        };
        let plain = told(&head);
        assert!(matches!(head, RequestHead::Plain(_)));
        assert_eq!(plain.4, [b"m".to_vec(), b"".to_vec()]);
        assert_eq!(head.parts().headers["x-a"], "1 2");
        assert!(matches!(head, RequestHead::Parts(_)));
        assert_eq!(told(&head), plain);
    }

    #[test]
    fn what_needs_a_second_look_is_taken_apart_at_once() {
        for (target, plain) in [
            ("/", true),
            ("//a/%2e?b=c&d", true),
            ("*", false),
            ("http://m/", false),
            ("m:80", false),
            ("/caf\u{e9}", false),
            ("/a|b", false),
            ("/a#b", false),
        ] {
            let head = RequestHead::of_text(&format!("GET {target} HTTP/1.1\r\n\r\n"));
            assert_eq!(matches!(head, RequestHead::Plain(_)), plain, "{target}");
        }
    }

    /// Heads with pieces of others in them, always the same ones.
    fn random_heads(mut state: u64) -> impl Iterator<Item = Vec<u8>> {
        const PIECES: [&[u8]; 24] = [
            b"GET ",
            b"/",
            b" HTTP/1.1\r\n",
            b" HTTP/1.0\r\n",
            b"Host: m\r\n",
            b"\r\n",
            b"\r",
            b"\n",
            b":",
            b" ",
            b"\t",
            b"X-A: 1\r\n",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"*",
            b"http://m",
            b"%2f",
            b"#",
            b"\x00",
            b"\x7f",
            b"\xff",
            b"\xc3\xa9",
            b"?a=b",
            b"_-!",
        ];
        std::iter::repeat_with(move || {
            let mut next = |limit: usize| {
                // xorshift64 (Marsaglia, 2003).
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                usize::try_from(state % limit as u64).unwrap()
            };
            let mut text = b"GET /a HTTP/1.1\r\nHost: m\r\nX: y\r\n\r\n".to_vec();
            for _ in 0..next(4) {
                let (place, piece) = (next(text.len()), PIECES[next(PIECES.len())]);
                text.splice(place..place + next(2), piece.iter().copied());
            }
            text
        })
    }

    #[test]
    fn whatever_comes_is_read_alike_however_it_is_cut_and_can_be_taken_apart() {
        use crate::net::framing::{HeadLimits, HeadScan, LastHead, ReadHead};
        let (unknown, mut last) = (LastHead::default(), LastHead::default());
        let (limits, mut read, mut refused) = (HeadLimits::DEFAULT, 0, 0);
        for text in random_heads(0x5eed).take(20_000) {
            let shown = text.escape_ascii();
            let [mut anew, mut known, mut cut] = [(); 3].map(|()| HeadScan::default());
            let whole = anew.scan(&text, &limits, &unknown);
            assert_eq!(known.scan(&text, &limits, &last), whole, "{shown}");
            let in_parts = (1..=text.len())
                .map(|end| cut.scan(&text[..end], &limits, &last))
                .find(|result| !matches!(result, Ok(None)))
                .unwrap_or(Ok(None));
            // Bytes behind a fault may bring another one to light first, but never a head.
            assert_eq!(in_parts.is_ok(), whole.is_ok(), "{shown}");
            let Ok(Some(end)) = whole else {
                refused += 1;
                continue;
            };
            assert_eq!(in_parts, whole, "{shown}");
            let checks = [&anew, &known, &cut].map(|scan| scan.check(&text[..end], false));
            assert!(checks.iter().all(|check| *check == checks[0]), "{shown}");
            if checks[0].is_err() {
                continue;
            }
            known.remember(&text[..end], &mut last);
            let mut again = HeadScan::default();
            assert_eq!(again.scan(&text, &limits, &last), whole, "{shown}");
            let heads = [anew, known, cut, again]
                .map(|scan| scan.read(Bytes::copy_from_slice(&text[..end])));
            let told = heads.each_ref().map(|head| format!("{head:?}"));
            assert!(told.iter().all(|one| *one == told[0]), "{shown}");
            let [ReadHead { mut head, .. }, ..] = heads;
            let target = head.path_and_query().map(<[u8]>::to_vec);
            let hosts: Vec<Vec<u8>> = head.values(&HOST).map(<[u8]>::to_vec).collect();
            head.parts();
            assert_eq!(head.path_and_query(), target.as_deref(), "{shown}");
            assert!(head.values(&HOST).eq(hosts.iter()), "{shown}");
            read += 1;
        }
        assert!(read > 2_000 && refused > 2_000, "{read} and {refused}");
    }
}
