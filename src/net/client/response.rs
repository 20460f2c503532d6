//! The head of a response, as it came or in parts.

use http::header::HeaderName;
use http::{StatusCode, Version, response};
use hyper::ext::ReasonPhrase;

use crate::net::plain::{Field, PlainFields, Span, Values, has_control};

/// Fields that most heads of our own have at most.
const OWN_FIELDS: usize = 4;

/// The head of a response.
///
/// Most go through as they came: what they are made of is only looked up. One that is to be changed is taken apart.
#[derive(Debug)]
pub enum ResponseHead {
    /// As it came, or as it was made here.
    Plain(PlainResponse),
    /// In parts.
    Parts(response::Parts),
}

/// The head of a response as it came or was made here, and where in it everything stands.
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
            Self::Plain(plain) => plain.status,
            Self::Parts(parts) => parts.status,
        }
    }

    /// The version of the protocol.
    pub fn version(&self) -> Version {
        match self {
            Self::Plain(plain) => plain.version,
            Self::Parts(parts) => parts.version,
        }
    }

    /// The values of a field, in the order they came.
    pub fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
        match self {
            Self::Plain(plain) => Values::Plain(plain.fields.values(name)),
            Self::Parts(parts) => Values::Parts(parts.headers.get_all(name).iter()),
        }
    }

    /// The parts, which stay apart.
    pub fn parts(&mut self) -> &mut response::Parts {
        if let Self::Plain(plain) = self {
            *self = Self::Parts(plain.parts());
        }
        match self {
            Self::Parts(parts) => parts,
            Self::Plain(_) => unreachable!("it was just taken apart"),
        }
    }

    /// A copy of the parts.
    pub fn to_parts(&self) -> response::Parts {
        match self {
            Self::Plain(plain) => plain.parts(),
            Self::Parts(parts) => parts.clone(),
        }
    }

    /// The parts.
    pub fn into_parts(self) -> response::Parts {
        match self {
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
    /// A head of our own: the phrase if it is not to be the usual one of the code, and fields. What holds a control
    /// character, which neither may, is left out.
    pub fn own<'f>(
        status: StatusCode,
        reason: &[u8],
        fields: impl Iterator<Item = (&'f HeaderName, &'f [u8])> + Clone,
    ) -> Self {
        let size = |(name, value): (&HeaderName, &[u8])| name.as_str().len() + value.len();
        let size = fields.clone().map(size).sum::<usize>();
        let mut text = Vec::with_capacity(reason.len() + size);
        let mut put = |part: &[u8]| {
            let start = text.len();
            text.extend_from_slice(part);
            Span::new(start..text.len())
        };
        let reason = match has_control(reason) {
            true => Span::default(),
            false => put(reason),
        };
        let mut places = Vec::with_capacity(OWN_FIELDS);
        for (name, value) in fields.filter(|(_, value)| !has_control(value)) {
            places.push(Field {
                name: put(name.as_str().as_bytes()),
                value: put(value),
            });
        }
        Self {
            status,
            version: Version::HTTP_11,
            reason,
            fields: PlainFields::checked(text.into(), places),
        }
    }

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
        let mut parts = http::Response::new(()).into_parts().0;
        parts.status = self.status;
        parts.version = self.version;
        if self.reason.len() > 0
            && let Ok(reason) = ReasonPhrase::try_from(self.reason())
        {
            parts.extensions.insert(reason);
        }
        parts.headers = self.fields.to_map();
        parts
    }
}

#[cfg(test)]
mod tests {
    use http::header::SET_COOKIE;

    use super::*;

    #[test]
    fn head_of_our_own_holds_nothing_that_would_end_a_line() {
        let name = HeaderName::from_static("x-a");
        let fields = [(&name, &b"1"[..]), (&name, b"2\r\nx: y"), (&name, b"")];
        for (reason, told) in [("Own", "Own"), ("a\nb", "Forbidden"), ("", "Forbidden")] {
            let own =
                PlainResponse::own(StatusCode::FORBIDDEN, reason.as_bytes(), fields.into_iter());
            assert_eq!(own.reason(), told.as_bytes());
            let written: Vec<_> = own.fields().collect();
            assert_eq!(written, [(&b"x-a"[..], &b"1"[..]), (b"x-a", b"")]);
            let mut head = ResponseHead::Plain(own);
            assert_eq!(head.parts().headers.get_all("x-a").iter().count(), 2);
        }
    }

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
