//! Percent-encoding (RFC 3986 section 2.1), and the `%uXXXX` form that ASP.NET decodes beside it.

use std::borrow::Cow;

/// How often a path or a query is decoded before it counts as still encoded.
pub const MAX_DECODES: usize = 4;

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// Decodes every well-formed `%XX` once; anything else, malformed escapes too, stays as it is.
///
/// Borrows when there is nothing to decode.
pub fn percent_decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    decode(bytes, false)
}

/// Encodes every byte for which `keep` is false as `%XX` with upper-case digits.
///
/// Borrows when every byte is kept. Pass [`is_unreserved`] to encode a single path segment or query value.
pub fn percent_encode(bytes: &[u8], keep: impl Fn(u8) -> bool) -> Cow<'_, [u8]> {
    let Some(first) = bytes.iter().position(|&byte| !keep(byte)) else {
        return Cow::Borrowed(bytes);
    };
    let mut encoded = Vec::with_capacity(bytes.len() + 16);
    encoded.extend_from_slice(&bytes[..first]);
    for &byte in &bytes[first..] {
        if keep(byte) {
            encoded.push(byte);
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            encoded.extend_from_slice(&[b'%', HEX_UPPER[high], HEX_UPPER[low]]);
        }
    }
    Cow::Owned(encoded)
}

/// Whether RFC 3986 section 2.3 leaves this byte unencoded everywhere: ASCII letters, digits, `-`, `.`, `_`, `~`.
pub const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Writes the digits of every well-formed `%XX` in upper case, as IIS shows them in `UNENCODED_URL`.
///
/// Borrows when they already are.
pub fn uppercase_escapes(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut changed = Cow::Borrowed(bytes);
    let mut at = 0;
    while let Some(found) = find_percent(bytes, at) {
        at = found + 1;
        if octet(&bytes[found..]).is_none() {
            continue;
        }
        let digits = found + 1..found + 3;
        if bytes[digits.clone()].iter().any(u8::is_ascii_lowercase) {
            changed.to_mut()[digits].make_ascii_uppercase();
        }
        at = found + 3;
    }
    changed
}

/// Decodes as [`percent_decode`] does and `%uXXXX` too, written as UTF-8. Surrogate halves that make no pair stay
/// encoded.
pub(super) fn wide_decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    decode(bytes, true)
}

/// The octet that a `%XX` at the start of `bytes` stands for.
pub(super) fn octet(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// The UTF-16 unit that a `%uXXXX` at the start of `bytes` stands for.
pub(super) fn wide_unit(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [b'%', b'u' | b'U', digits @ ..] => digits
            .first_chunk::<4>()?
            .iter()
            .try_fold(0, |unit, &byte| Some(unit << 4 | u16::from(digit(byte)?))),
        _ => None,
    }
}

/// Where the next `%` is, from `from` on.
pub(super) fn find_percent(bytes: &[u8], from: usize) -> Option<usize> {
    let found = memchr::memchr(b'%', bytes.get(from..)?)?;
    Some(from + found)
}

fn decode(bytes: &[u8], wide: bool) -> Cow<'_, [u8]> {
    let mut decoded: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = find_percent(bytes, at) {
        let escape = &bytes[found..];
        let mut utf8 = [0; 4];
        let (replacement, length): (&[u8], usize) = if let Some(octet) = octet(escape) {
            utf8[0] = octet;
            (&utf8[..1], 3)
        } else if let Some((character, length)) = wide_character(escape).filter(|_| wide) {
            (character.encode_utf8(&mut utf8).as_bytes(), length)
        } else {
            at = found + 1;
            continue;
        };
        let output = decoded.get_or_insert_with(|| Vec::with_capacity(bytes.len()));
        output.extend_from_slice(&bytes[copied..found]);
        output.extend_from_slice(replacement);
        at = found + length;
        copied = at;
    }
    match decoded {
        Some(mut output) => {
            output.extend_from_slice(&bytes[copied..]);
            Cow::Owned(output)
        }
        None => Cow::Borrowed(bytes),
    }
}

/// The character of one `%uXXXX`, or of a surrogate pair of two, and the length of its text.
fn wide_character(escape: &[u8]) -> Option<(char, usize)> {
    let first = wide_unit(escape)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, 6));
    }
    let second = wide_unit(&escape[6..])?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, 12))
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn well_formed_escapes_decode_once() {
        for (encoded, decoded) in [
            ("plain", "plain"),
            ("%61%2F%2f", "a//"),
            ("%2561", "%61"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%%41", "%A"),
            ("%u0061", "%u0061"),
            ("a+b", "a+b"),
        ] {
            assert_eq!(&*percent_decode(encoded.as_bytes()), decoded.as_bytes());
        }
    }

    #[test]
    fn wide_escapes_decode_to_utf8() {
        for (encoded, decoded) in [
            ("%u0061%U0062%63", "abc"),
            ("%uFF54", "\u{ff54}"),
            ("%uD83D%uDE00", "\u{1f600}"),
            ("%uD83Dx", "%uD83Dx"),
            ("%uDE00%uD83D", "%uDE00%uD83D"),
            ("%u006", "%u006"),
        ] {
            assert_eq!(&*wide_decode(encoded.as_bytes()), decoded.as_bytes());
        }
    }

    #[test]
    fn nothing_to_do_borrows() {
        assert!(matches!(percent_decode(b"/%zz%"), Cow::Borrowed(_)));
        assert!(matches!(wide_decode(b"/%uzz%"), Cow::Borrowed(_)));
        assert!(matches!(
            percent_encode(b"a~", is_unreserved),
            Cow::Borrowed(_)
        ));
        assert!(matches!(uppercase_escapes(b"%2Fa%zz"), Cow::Borrowed(_)));
    }

    #[test]
    fn escapes_turn_to_upper_case() {
        assert_eq!(&*uppercase_escapes(b"/a%2fb%zz%aB"), b"/a%2Fb%zz%AB");
        assert_eq!(&*uppercase_escapes(b"%%2f%e"), b"%%2F%e");
    }

    proptest! {
        #[test]
        fn encoded_bytes_decode_to_themselves(bytes: Vec<u8>) {
            let encoded = percent_encode(&bytes, is_unreserved);
            prop_assert_eq!(&*percent_decode(&encoded), &bytes[..]);
            prop_assert_eq!(&*uppercase_escapes(&encoded), &*encoded);
        }

        #[test]
        fn decoding_never_grows(bytes in "(%|u|[0-9a-fA-F]|.){0,40}") {
            prop_assert!(percent_decode(bytes.as_bytes()).len() <= bytes.len());
            prop_assert!(wide_decode(bytes.as_bytes()).len() <= bytes.len());
        }
    }
}
