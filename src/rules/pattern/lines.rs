//! Where lines begin, for `.`, which stops at their ends.

/// The line separator and the paragraph separator, U+2028 and U+2029, begin with this byte.
const SEPARATOR_LEAD: u8 = 0xe2;

/// Where the line begins that `to` stands in, if that is behind `from`.
pub(super) fn start_after(bytes: &[u8], from: usize, to: usize) -> Option<usize> {
    let mut end = to;
    loop {
        let at = from + memchr::memrchr3(b'\n', b'\r', SEPARATOR_LEAD, bytes.get(from..end)?)?;
        match bytes.get(at..)? {
            [SEPARATOR_LEAD, 0x80, 0xa8 | 0xa9, ..] => return Some(at + 3),
            [SEPARATOR_LEAD, ..] => end = at,
            _ => return Some(at + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_terminator_begins_a_line() {
        for (text, from, to, start) in [
            ("abc", 0, 3, None),
            ("a\nbc", 0, 4, Some(2)),
            ("a\nbc", 1, 4, Some(2)),
            ("a\nbc", 2, 4, None),
            ("a\r\nbc", 0, 5, Some(3)),
            ("a\r\nbc", 0, 2, Some(2)),
            ("a\u{2028}b", 0, 5, Some(4)),
            ("a\n\u{2029}\u{2030}b", 0, 9, Some(5)),
            ("a\n\u{2030}b", 0, 6, Some(2)),
            ("a\n", 0, 1, None),
        ] {
            assert_eq!(start_after(text.as_bytes(), from, to), start, "{text:?}");
        }
    }
}
