//! Where something stands in the head of a message.

use std::ops::Range;

use http::header::{HeaderName, HeaderValue, ValueIter};

/// Bytes of a field's name that [`http::HeaderName`] takes at most.
const NAME_LIMIT: usize = 65_535;

/// A place. No head is longer than 4 GiB.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

/// Where a field stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// The values of a field, in the order they came.
#[derive(Debug)]
pub(super) enum Values<'h, 'n> {
    /// Of a head as it came.
    Plain(PlainValues<'h, 'n>),
    /// Of a head in parts.
    Parts(ValueIter<'h, HeaderValue>),
}

/// The values of a field of a head as it came.
#[derive(Debug)]
pub(super) struct PlainValues<'h, 'n> {
    name: &'n [u8],
    text: &'h [u8],
    fields: std::slice::Iter<'h, Field>,
}

impl<'h, 'n> PlainValues<'h, 'n> {
    pub(super) fn new(name: &'n HeaderName, text: &'h [u8], fields: &'h [Field]) -> Self {
        Self {
            name: name.as_str().as_bytes(),
            text,
            fields: fields.iter(),
        }
    }
}

impl<'h> Iterator for PlainValues<'h, '_> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let (name, text) = (self.name, self.text);
        let field = self.fields.find(|field| field.is_named(name, text))?;
        Some(&text[field.value.range()])
    }
}

impl<'h> Iterator for Values<'h, '_> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        match self {
            Self::Plain(values) => values.next(),
            Self::Parts(values) => values.next().map(HeaderValue::as_bytes),
        }
    }
}

impl Span {
    pub(super) fn new(range: Range<usize>) -> Self {
        let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            start: place(range.start),
            end: place(range.end),
        }
    }

    /// Where `part`, which is a part of `text`, stands in it.
    pub(super) fn of(part: &[u8], text: &[u8]) -> Self {
        let start = part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
        Self::new(start..start + part.len())
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(super) const fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

impl Field {
    /// Name and value.
    pub(super) fn of(self, text: &[u8]) -> (&[u8], &[u8]) {
        (&text[self.name.range()], &text[self.value.range()])
    }

    /// Whether its name can be a [`http::HeaderName`], as far as its length goes.
    pub(super) const fn is_short(self) -> bool {
        self.name.len() <= NAME_LIMIT
    }

    /// Whether its name is this one, in any case.
    pub(super) fn is_named(self, name: &[u8], text: &[u8]) -> bool {
        self.name.len() == name.len() && text[self.name.range()].eq_ignore_ascii_case(name)
    }
}
