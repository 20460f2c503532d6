//! Reads one tag: its name, then its attributes, each with its place.

use super::error::{Failure, Kind, Limit};
use super::text::{excerpt, is_name, is_white};

/// The longest name, in octets.
pub(super) const NAME_BYTES: usize = 1024;

/// A stretch of a text, as offsets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// The offsets fit: the parser refuses longer documents before.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    pub(super) fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }
}

/// A qualified name: an optional prefix with its colon, then the local part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) start: u32,
    /// Octets of the prefix; 0 when there is none.
    pub(super) prefix: u16,
    /// Octets of the local part.
    pub(super) local: u16,
}

impl Name {
    pub(super) fn prefix(self, text: &str) -> &str {
        let start = self.start as usize;
        &text[start..start + usize::from(self.prefix)]
    }

    pub(super) fn local(self, text: &str) -> &str {
        let start = self.start as usize + self.local_offset();
        &text[start..start + usize::from(self.local)]
    }

    /// Prefix, colon and local part, as written.
    pub(super) fn qualified(self, text: &str) -> &str {
        let start = self.start as usize;
        &text[start..start + self.local_offset() + usize::from(self.local)]
    }

    fn local_offset(self) -> usize {
        match self.prefix {
            0 => 0,
            prefix => usize::from(prefix) + 1,
        }
    }
}

/// Reads the inside of a tag, between its `<` and its `>` or `/>`.
pub(super) struct Scanner<'s> {
    text: &'s str,
    at: usize,
    end: usize,
}

impl<'s> Scanner<'s> {
    pub(super) fn new(text: &'s str, start: usize, end: usize) -> Self {
        Self {
            text,
            at: start,
            end,
        }
    }

    /// Reads the name that must stand here.
    pub(super) fn name(&mut self) -> Result<Name, Failure> {
        let start = self.at;
        let octets = &self.text.as_bytes()[start..self.end];
        let length = octets
            .iter()
            .position(|&octet| is_white(octet) || matches!(octet, b'=' | b'/' | b'"' | b'\''))
            .unwrap_or(octets.len());
        self.at += length;
        let text = &self.text[start..self.at];
        let failure = |kind| Failure {
            kind,
            offset: start,
        };
        if length > NAME_BYTES {
            return Err(failure(Kind::Limit(Limit::Name)));
        }
        let (prefix, local) = match text.split_once(':') {
            Some((prefix, local)) if is_name(prefix) => (prefix, local),
            Some(_) => return Err(failure(Kind::BadName(excerpt(text)))),
            None => ("", text),
        };
        if !is_name(local) {
            return Err(failure(Kind::BadName(excerpt(text))));
        }
        Ok(Name {
            start: start as u32,
            prefix: prefix.len() as u16,
            local: local.len() as u16,
        })
    }

    /// Reads white space, then the next attribute; `None` at the end of the tag.
    pub(super) fn attribute(&mut self) -> Result<Option<(Name, Span)>, Failure> {
        let spaced = self.skip_white();
        if self.at == self.end {
            return Ok(None);
        }
        if !spaced {
            return Err(self.failure(Kind::SpaceMissing));
        }
        let name = self.name()?;
        let shown = || excerpt(name.qualified(self.text));
        let failure = |kind| {
            Err(Failure {
                kind,
                offset: name.start as usize,
            })
        };
        self.skip_white();
        if self.octet() != Some(b'=') {
            return failure(Kind::EqualsMissing(shown()));
        }
        self.at += 1;
        self.skip_white();
        let Some(quote @ (b'"' | b'\'')) = self.octet() else {
            return failure(Kind::QuoteMissing(shown()));
        };
        let start = self.at + 1;
        let Some(length) = memchr::memchr(quote, &self.text.as_bytes()[start..self.end]) else {
            return failure(Kind::QuoteMissing(shown()));
        };
        self.at = start + length + 1;
        if memchr::memchr(b'<', &self.text.as_bytes()[start..start + length]).is_some() {
            return failure(Kind::LessThanInValue(shown()));
        }
        Ok(Some((name, Span::new(start, start + length))))
    }

    /// Skips white space and tells whether there was any.
    pub(super) fn skip_white(&mut self) -> bool {
        let start = self.at;
        while self.octet().is_some_and(is_white) {
            self.at += 1;
        }
        self.at > start
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.end
    }

    fn octet(&self) -> Option<u8> {
        self.text.as_bytes()[self.at..self.end].first().copied()
    }

    fn failure(&self, kind: Kind) -> Failure {
        Failure {
            kind,
            offset: self.at,
        }
    }
}
