//! The fields of a message as it came, and where in its head everything stands.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, ValueIter};

use super::client::OwnValues;

/// Bytes of a field's name that [`http::HeaderName`] takes at most.
pub(super) const NAME_LIMIT: usize = 65_535;

/// Fields that are added to a head on its way.
const ADDED: usize = 4;

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

/// The text of a head, and where its fields stand in it.
#[derive(Debug)]
pub(super) struct PlainFields {
    text: Bytes,
    places: Vec<Field>,
    /// A bit for every length that a name has: most fields that are asked for are not there.
    lengths: u64,
}

/// The values of a field, in the order they came.
#[derive(Debug)]
pub(super) enum Values<'h, 'n> {
    /// Of a head that is made here.
    Own(OwnValues<'h, 'n>),
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

impl PlainFields {
    /// Fields whose names and values were checked; nothing if a name is longer than any may be.
    pub(super) fn new(text: Bytes, places: Vec<Field>) -> Option<Self> {
        let is_short = |field: &Field| field.name.len() <= NAME_LIMIT;
        places
            .iter()
            .all(is_short)
            .then(|| Self::checked(text, places))
    }

    /// Fields whose names and values no map refuses.
    pub(super) fn checked(text: Bytes, places: Vec<Field>) -> Self {
        let lengths = places
            .iter()
            .fold(0, |lengths, field| lengths | length_bit(field.name.len()));
        Self {
            text,
            places,
            lengths,
        }
    }

    /// The head in bytes.
    pub(super) const fn text(&self) -> &Bytes {
        &self.text
    }

    /// Names as they were written, and values, in the order they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let text = &self.text;
        self.places
            .iter()
            .map(|field| (&text[field.name.range()], &text[field.value.range()]))
    }

    /// The values of a field, in the order they came.
    pub(super) fn values<'h, 'n>(&'h self, name: &'n HeaderName) -> PlainValues<'h, 'n> {
        let name = name.as_str().as_bytes();
        let fields = match self.lengths & length_bit(name.len()) {
            0 => &[],
            _ => &self.places[..],
        };
        PlainValues {
            name,
            text: &self.text,
            fields: fields.iter(),
        }
    }

    /// The fields in a map, with room for a few more.
    pub(super) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.places.len() + ADDED);
        for field in &self.places {
            let name = HeaderName::from_bytes(&self.text[field.name.range()]);
            let value = HeaderValue::from_maybe_shared(self.text.slice(field.value.range()));
            let both = name.ok().zip(value.ok());
            let (name, value) = both.expect("names and values were checked when they came");
            map.append(name, value);
        }
        map
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
            Self::Own(values) => values.next(),
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
    /// The same field in another text, where its name begins at `start`.
    pub(super) fn moved_to(self, start: usize) -> Self {
        let from = self.name.start as usize;
        let moved = |span: Span| {
            let range = span.range();
            Span::new(range.start - from + start..range.end - from + start)
        };
        Self {
            name: moved(self.name),
            value: moved(self.value),
        }
    }

    /// Whether its name is this one, in any case.
    fn is_named(self, name: &[u8], text: &[u8]) -> bool {
        self.name.len() == name.len() && text[self.name.range()].eq_ignore_ascii_case(name)
    }
}

/// The bit of a name's length; all long names share one.
const fn length_bit(length: usize) -> u64 {
    match length {
        0..=62 => 1 << length,
        _ => 1 << 63,
    }
}

/// Whether a value holds a control character other than the tab.
pub(super) fn has_control(value: &[u8]) -> bool {
    // Without an early exit, so that the compiler can look at many bytes at once.
    value.iter().fold(false, |found, &byte| {
        found | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_length_are_found() {
        let names = [1, 2, 61, 62, 63, 64, 300].map(|length| "a".repeat(length));
        let mut text = Vec::new();
        for name in &names {
            text.extend_from_slice(name.as_bytes());
        }
        let mut start = 0;
        let places = names.iter().step_by(2).map(|name| {
            let field = Span::new(start..start + name.len());
            start += name.len();
            Field {
                name: field,
                value: field,
            }
        });
        let fields = PlainFields::checked(text.into(), places.collect());
        for (number, name) in names.iter().enumerate() {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let found = fields.values(&name).count();
            assert_eq!(found, 1 - number % 2, "{name}");
        }
    }

    #[test]
    fn controls_are_found_wherever_they_stand() {
        for length in 0..50 {
            let mut value = vec![b'a'; length];
            assert!(!has_control(&value), "{length}");
            for place in 0..length {
                for (byte, expected) in [(0x1f, true), (0x7f, true), (b'\t', false), (0x80, false)]
                {
                    value[place] = byte;
                    assert_eq!(has_control(&value), expected, "{length} {place} {byte}");
                }
                value[place] = b'a';
            }
        }
    }
}
