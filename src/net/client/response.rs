//! The head of a response, as it came or in parts.

use http::header::{HeaderMap, HeaderName};
use http::{StatusCode, Version, response};
use hyper::ext::ReasonPhrase;

use super::own::OwnResponse;
use crate::net::plain::{PlainFields, Span, Values};

/// The head of a response.
///
/// Most go through as they came: what they are made of is only looked up. One that is to be changed is taken apart.
#[derive(Debug)]
pub enum ResponseHead {
    /// Made here.
    Own(OwnResponse),
    /// As it came.
    Plain(PlainResponse),
    /// In parts.
    Parts(response::Parts),
}

/// The head of a response as it came, and where in it everything stands.
#[derive(Debug)]
pub struct PlainResponse {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    /// A phrase of the server's own; empty if it is the usual one of the code.
    pub(super) reason: Span,
    pub(super) fields: PlainFields,
}

impl ResponseHead {
    /// The head of a response to GET.
    #[cfg(test)]
    pub(crate) fn of_text(text: &str) -> Self {
        let text = bytes::Bytes::copy_from_slice(text.as_bytes());
        let head = super::head::parse(&text, &http::Method::GET);
        head.unwrap().head
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Own(own) => own.status,
            Self::Plain(plain) => plain.status,
            Self::Parts(parts) => parts.status,
        }
    }

    /// The version of the protocol.
    pub fn version(&self) -> Version {
        match self {
            Self::Own(_) => Version::HTTP_11,
            Self::Plain(plain) => plain.version,
            Self::Parts(parts) => parts.version,
        }
    }

    /// The values of a field, in the order they came.
    pub fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
        match self {
            Self::Own(own) => Values::Own(own.values(name)),
            Self::Plain(plain) => Values::Plain(plain.fields.values(name)),
            Self::Parts(parts) => Values::Parts(parts.headers.get_all(name).iter()),
        }
    }

    /// The parts, which stay apart.
    pub fn parts(&mut self) -> &mut response::Parts {
        if !matches!(self, Self::Parts(_)) {
            *self = Self::Parts(self.to_parts());
        }
        match self {
            Self::Parts(parts) => parts,
            Self::Own(_) | Self::Plain(_) => unreachable!("it was just taken apart"),
        }
    }

    /// A copy of the parts.
    pub fn to_parts(&self) -> response::Parts {
        match self {
            Self::Own(own) => own.parts(),
            Self::Plain(plain) => plain.parts(),
            Self::Parts(parts) => parts.clone(),
        }
    }

    /// The parts.
    pub fn into_parts(self) -> response::Parts {
        match self {
            Self::Own(own) => own.parts(),
            Self::Plain(plain) => plain.parts(),
            Self::Parts(parts) => parts,
        }
    }
}

impl From<response::Parts> for ResponseHead {
    fn from(parts: response::Parts) -> Self {
        Self::Parts(parts)
    }
}

impl PlainResponse {
    /// The status code.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Bytes of the head.
    #[expect(clippy::len_without_is_empty, reason = "no head is empty")]
    pub fn len(&self) -> usize {
        self.fields.text().len()
    }

    /// The reason phrase: the server's own, or the usual one of the code.
    pub fn reason(&self) -> &[u8] {
        match self.reason.len() {
            0 => self.status.canonical_reason().unwrap_or("").as_bytes(),
            _ => &self.fields.text()[self.reason.range()],
        }
    }

    /// The fields in the order they came, with their names as they were written.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter()
    }

    fn parts(&self) -> response::Parts {
        let reason = Some(self.reason()).filter(|_| self.reason.len() > 0);
        parts(self.status, self.version, reason, self.fields.to_map())
    }
}

pub(super) fn parts(
    status: StatusCode,
    version: Version,
    reason: Option<&[u8]>,
    fields: HeaderMap,
) -> response::Parts {
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status;
    parts.version = version;
    if let Some(Ok(reason)) = reason.map(ReasonPhrase::try_from) {
        parts.extensions.insert(reason);
    }
    parts.headers = fields;
    parts
}

#[cfg(test)]
mod tests {
    use http::header::SET_COOKIE;

    use super::*;

    #[test]
    fn head_tells_the_same_as_it_came_and_in_parts() {
        let text = "HTTP/1.0 299 Own\r\nSET-Cookie: a\r\nX:\t1 \r\nset-cookie:\r\n\r\n";
        let mut head = ResponseHead::of_text(text);
        let told = |head: &ResponseHead| {
            let cookies: Vec<Vec<u8>> = head.values(&SET_COOKIE).map(<[u8]>::to_vec).collect();
            (head.status(), head.version(), cookies)
        };
        let plain = told(&head);
        assert_eq!(plain.2, [b"a".to_vec(), b"".to_vec()]);
        let ResponseHead::Plain(came) = &head else {
            panic!("it is as it came");
        };
        assert_eq!(came.reason(), b"Own");
        let parts = head.parts();
        assert_eq!(parts.headers["x"], "1");
        assert_eq!(
            parts.extensions.get::<ReasonPhrase>().unwrap().as_bytes(),
            b"Own"
        );
        assert_eq!(told(&head), plain);
    }
}
