//! Reads BER and DER one value at a time: what certificates and timestamp tokens are written in.

use std::fmt;

use crate::model::UnixTime;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The tag of a context-specific, constructed value such as `[0]`.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// The most values of indefinite length inside one another.
const DEPTH: usize = 16;

/// The octets are not what the standard puts in this place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DerError(&'static str);

impl DerError {
    pub(super) const fn new(words: &'static str) -> Self {
        Self(words)
    }
}

impl fmt::Display for DerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for DerError {}

pub(super) type Result<T> = std::result::Result<T, DerError>;

/// One value: its tag, its content, and both with the length between them as they were written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    pub(super) encoding: &'a [u8],
}

impl<'a> Value<'a> {
    /// Reads what is inside a constructed value.
    pub(super) fn inside(self) -> Reader<'a> {
        Reader::new(self.content)
    }
}

/// Reads values one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// What is not read yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails when anything is left.
    pub(super) fn end(&self) -> Result<()> {
        match self.rest {
            [] => Ok(()),
            _ => Err(DerError("more values than the standard allows here")),
        }
    }

    /// The next value, whatever its tag.
    pub(super) fn any(&mut self) -> Result<Value<'a>> {
        let octets = self.rest;
        let header = header(octets)?;
        let (content, length) = match header.content {
            Some(length) => {
                let end = header.length + length;
                let content = octets.get(header.length..end).ok_or(TRUNCATED)?;
                (content, end)
            }
            None => {
                let length = indefinite_content(&octets[header.length..])?;
                let end = header.length + length;
                (&octets[header.length..end], end + END_OF_CONTENTS.len())
            }
        };
        let (encoding, rest) = octets.split_at_checked(length).ok_or(TRUNCATED)?;
        self.rest = rest;
        Ok(Value {
            tag: header.tag,
            content,
            encoding,
        })
    }

    /// The next value, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Value<'a>> {
        match self.optional(tag)? {
            Some(value) => Ok(value),
            None => Err(DerError(
                "another kind of value than the standard puts here",
            )),
        }
    }

    /// The next value if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Value<'a>>> {
        match self.rest.first() {
            Some(next) if *next == tag => self.any().map(Some),
            _ => Ok(None),
        }
    }

    /// Opens the sequence that must come next.
    pub(super) fn sequence(&mut self) -> Result<Reader<'a>> {
        self.expect(SEQUENCE).map(Value::inside)
    }

    /// The algorithm of an AlgorithmIdentifier that must come next; its parameters are passed over.
    pub(super) fn algorithm(&mut self) -> Result<&'a [u8]> {
        Ok(self.sequence()?.expect(OBJECT_IDENTIFIER)?.content)
    }
}

const TRUNCATED: DerError = DerError("the octets end inside a value");
const END_OF_CONTENTS: [u8; 2] = [0, 0];

struct Header {
    tag: u8,
    /// Octets of tag and length.
    length: usize,
    /// Octets of content; `None` when they run to an end mark.
    content: Option<usize>,
}

/// Reads a tag and a length (X.690 sections 8.1.2 and 8.1.3).
fn header(octets: &[u8]) -> Result<Header> {
    let [tag, first, rest @ ..] = octets else {
        return Err(TRUNCATED);
    };
    if tag & 0x1f == 0x1f {
        return Err(DerError("a tag of more than one octet"));
    }
    let header = |more: usize, content| Header {
        tag: *tag,
        length: 2 + more,
        content,
    };
    match first {
        0..=0x7f => Ok(header(0, Some(usize::from(*first)))),
        0x80 if tag & 0x20 != 0 => Ok(header(0, None)),
        0x81..=0x84 => {
            let more = usize::from(first & 0x7f);
            let length = rest.get(..more).ok_or(TRUNCATED)?;
            let length = length
                .iter()
                .fold(0, |sum, octet| sum << 8 | u64::from(*octet));
            let length = usize::try_from(length).map_err(|_| TRUNCATED)?;
            // No value is longer than what is there, so sums of lengths cannot overflow.
            match length <= octets.len() {
                true => Ok(header(more, Some(length))),
                false => Err(TRUNCATED),
            }
        }
        _ => Err(DerError("a length that is not allowed")),
    }
}

/// Octets before the end mark that closes a content of indefinite length (X.690 section 8.1.3.6).
fn indefinite_content(octets: &[u8]) -> Result<usize> {
    let (mut at, mut depth) = (0, 1);
    loop {
        let rest = octets.get(at..).ok_or(TRUNCATED)?;
        if rest.starts_with(&END_OF_CONTENTS) {
            depth -= 1;
            if depth == 0 {
                return Ok(at);
            }
            at += END_OF_CONTENTS.len();
            continue;
        }
        let header = header(rest)?;
        at += header.length;
        match header.content {
            Some(length) => at += length,
            None if depth == DEPTH => return Err(DerError("values too deep in one another")),
            None => depth += 1,
        }
    }
}

/// Reads a UTCTime or GeneralizedTime in UTC, as RFC 5280 section 4.1.2.5 and RFC 3161 section 2.4.2 write them; a
/// fraction of a second is cut off.
pub(super) fn time(value: Value<'_>) -> Result<UnixTime> {
    const WRONG: DerError = DerError("a time that is not written as the standard wants");
    let text = str::from_utf8(value.content).map_err(|_| WRONG)?;
    let text = text.strip_suffix('Z').ok_or(WRONG)?;
    let is_number =
        |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let (century, digits) = match value.tag {
        // RFC 5280: 50 and later is of the twentieth century.
        UTC_TIME if text >= "50" => (1900, text),
        UTC_TIME => (2000, text),
        GENERALIZED_TIME => match text.split_once('.') {
            Some((_, fraction)) if !is_number(fraction) => return Err(WRONG),
            Some((digits, _)) => (0, digits),
            None => (0, text),
        },
        _ => return Err(WRONG),
    };
    let year_digits = if value.tag == UTC_TIME { 2 } else { 4 };
    if !is_number(digits) || digits.len() != year_digits + 10 {
        return Err(WRONG);
    }
    let number = |start: usize, length: usize| {
        digits.as_bytes()[start..start + length]
            .iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    };
    let year = century + number(0, year_digits);
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(year_digits + at, 2));
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return Err(WRONG),
    };
    // A leap second may stand in a time; it counts as the second after.
    if year < 1970 || !(1..=month_days).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return Err(WRONG);
    }
    // Days from years that begin on March 1st, so that a leap day is the last of its year.
    let (shifted_year, shifted_month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (shifted_month * 153 + 2) / 5
        + day
        - 1
        - 719_468;
    Ok(UnixTime::new(
        days * 86_400 + hour * 3_600 + minute * 60 + second,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(octets: &[u8]) -> Option<(Vec<u8>, usize)> {
        let mut reader = Reader::new(octets);
        let value = reader.any().ok()?;
        assert_eq!(value.encoding.len() + reader.rest().len(), octets.len());
        Some((value.content.to_vec(), reader.rest().len()))
    }

    #[test]
    fn lengths() {
        assert_eq!(content(&[4, 0]), Some((vec![], 0)));
        assert_eq!(content(&[4, 2, 7, 8, 9]), Some((vec![7, 8], 1)));
        assert_eq!(content(&[4, 0x81, 1, 7]), Some((vec![7], 0)));
        assert_eq!(content(&[4, 0x84, 0, 0, 0, 1, 7]), Some((vec![7], 0)));
        assert_eq!(
            content(&[0x30, 0x80, 4, 1, 0, 0, 0, 9]),
            Some((vec![4, 1, 0], 1))
        );
        assert_eq!(
            content(&[0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0]),
            Some((vec![0x30, 0x80, 0, 0], 0))
        );
        for octets in [
            &[][..],
            &[4],
            &[4, 1],
            &[4, 0x81],
            &[4, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[4, 0x85, 0, 0, 0, 0, 1, 7],
            &[4, 0x80, 0, 0],
            &[0x1f, 1, 0],
            &[0x30, 0x80, 4, 1, 0],
            &[0x30, 0x80, 4, 9, 0, 0, 0],
        ] {
            assert_eq!(content(octets), None, "{octets:?}");
        }
    }

    #[test]
    fn depth_has_two_sides() {
        let nested = |depth: usize| [[0x30, 0x80].repeat(depth), [0, 0].repeat(depth)].concat();
        assert!(content(&nested(DEPTH)).is_some());
        assert!(content(&nested(DEPTH + 1)).is_none());
        assert!(content(&nested(100_000)).is_none());
    }

    #[test]
    fn times() {
        let read = |tag, text: &str| {
            time(Value {
                tag,
                content: text.as_bytes(),
                encoding: &[],
            })
            .map(|time| time.to_string())
        };
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", "1970-01-01T00:00:00Z"),
            (UTC_TIME, "491231235959Z", "2049-12-31T23:59:59Z"),
            (
                GENERALIZED_TIME,
                "20210915164208.621Z",
                "2021-09-15T16:42:08Z",
            ),
            (GENERALIZED_TIME, "20000229120000Z", "2000-02-29T12:00:00Z"),
            (GENERALIZED_TIME, "20161231235960Z", "2017-01-01T00:00:00Z"),
            (GENERALIZED_TIME, "99991231235959Z", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(read(tag, text).as_deref(), Ok(expected), "{text}");
        }
        for (tag, text) in [
            (UTC_TIME, "700101000000"),
            (UTC_TIME, "7001010000Z"),
            (UTC_TIME, "20210915164208Z"),
            (UTC_TIME, "é70101000000Z"),
            (GENERALIZED_TIME, "20210229000000Z"),
            (GENERALIZED_TIME, "21000229000000Z"),
            (GENERALIZED_TIME, "20210431000000Z"),
            (GENERALIZED_TIME, "20211301000000Z"),
            (GENERALIZED_TIME, "20210100000000Z"),
            (GENERALIZED_TIME, "20210101240000Z"),
            (GENERALIZED_TIME, "20210101006000Z"),
            (GENERALIZED_TIME, "20210101000061Z"),
            (GENERALIZED_TIME, "19691231235959Z"),
            (GENERALIZED_TIME, "20210915164208.Z"),
            (GENERALIZED_TIME, "20210915164208.-1Z"),
            (GENERALIZED_TIME, "20210915164208+0100"),
            (GENERALIZED_TIME, ""),
            (INTEGER, "20210915164208Z"),
        ] {
            assert!(read(tag, text).is_err(), "{text}");
        }
    }
}
