//! The head of a response that is made here rather than by a server.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version, response};

use super::response::parts;
use crate::net::output::field;
use crate::net::plain::has_control;

/// The head of a response as it will be written, but for its status line, what frames the body, and what is about the
/// connection.
#[derive(Debug)]
pub struct OwnResponse {
    pub(super) status: StatusCode,
    /// Empty for the usual phrase of the code.
    reason: Vec<u8>,
    /// The lines of fields, each with its end; no value holds a control character.
    lines: Vec<u8>,
}

/// The values of a field of a head that is made here.
#[derive(Debug)]
pub(in crate::net) struct OwnValues<'h, 'n> {
    name: &'n HeaderName,
    lines: &'h [u8],
}

/// Bytes of fields that most heads have at most.
const LINES: usize = 128;

impl OwnResponse {
    /// A head without fields, with this phrase if it is not to be the usual one of the code. One that holds a control
    /// character, which none may, is left out.
    pub fn new(status: StatusCode, reason: &[u8]) -> Self {
        let reason = match has_control(reason) {
            true => Vec::new(),
            false => reason.to_vec(),
        };
        Self {
            status,
            reason,
            lines: Vec::with_capacity(LINES),
        }
    }

    /// Adds a field, which neither frames the body nor is about the connection. One whose value holds a control
    /// character, which none may, is left out.
    pub fn add(&mut self, name: &HeaderName, value: &[u8]) {
        if !has_control(value) {
            field(&mut self.lines, name.as_str().as_bytes(), value);
        }
    }

    /// The reason phrase.
    pub fn reason(&self) -> &[u8] {
        match self.reason.is_empty() {
            true => self.status.canonical_reason().unwrap_or("").as_bytes(),
            false => &self.reason,
        }
    }

    /// The lines of fields, each with its end.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    pub(super) const fn values<'h, 'n>(&'h self, name: &'n HeaderName) -> OwnValues<'h, 'n> {
        OwnValues {
            name,
            lines: self.lines.as_slice(),
        }
    }

    pub(super) fn parts(&self) -> response::Parts {
        let mut lines = &self.lines[..];
        let mut fields = HeaderMap::new();
        while let Some((name, value)) = next(&mut lines) {
            let both = HeaderName::from_bytes(name)
                .ok()
                .zip(HeaderValue::from_bytes(value).ok());
            let (name, value) = both.expect("values without control characters are legal");
            fields.append(name, value);
        }
        let reason = Some(&self.reason[..]).filter(|reason| !reason.is_empty());
        parts(self.status, Version::HTTP_11, reason, fields)
    }
}

impl<'h> Iterator for OwnValues<'h, '_> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        loop {
            let (name, value) = next(&mut self.lines)?;
            if name == self.name.as_str().as_bytes() {
                return Some(value);
            }
        }
    }
}

/// Takes the first line: its name and its value.
fn next<'h>(lines: &mut &'h [u8]) -> Option<(&'h [u8], &'h [u8])> {
    let end = memchr::memchr(b'\n', lines)?;
    let (line, rest) = lines.split_at(end + 1);
    *lines = rest;
    let colon = memchr::memchr(b':', line)?;
    // The colon has a space behind it, and the line two bytes for its end.
    Some((&line[..colon], &line[colon + 2..line.len() - 2]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ResponseHead;

    #[test]
    fn nothing_ends_a_line_but_its_end() {
        let (name, other) = (
            HeaderName::from_static("x-a"),
            HeaderName::from_static("x-b"),
        );
        let fields = [
            (&name, &b"1: 2"[..]),
            (&other, b"2\r\nx: y"),
            (&name, b""),
            (&other, b"3\xff"),
        ];
        for (reason, told) in [("Own", "Own"), ("a\nb", "Forbidden"), ("", "Forbidden")] {
            let mut own = OwnResponse::new(StatusCode::FORBIDDEN, reason.as_bytes());
            for (name, value) in fields {
                own.add(name, value);
            }
            assert_eq!(own.reason(), told.as_bytes());
            assert_eq!(own.lines(), b"x-a: 1: 2\r\nx-a: \r\nx-b: 3\xff\r\n");
            let mut head = ResponseHead::Own(own);
            let values = |head: &ResponseHead| {
                let of = |name| head.values(name).map(<[u8]>::to_vec).collect::<Vec<_>>();
                [of(&name), of(&other)]
            };
            let before = values(&head);
            assert_eq!(
                before,
                [vec![b"1: 2".to_vec(), Vec::new()], vec![b"3\xff".to_vec()]]
            );
            head.parts();
            assert_eq!(values(&head), before);
            assert_eq!(head.status(), StatusCode::FORBIDDEN);
        }
    }
}
