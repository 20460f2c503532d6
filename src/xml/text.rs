//! Characters, names, references and line ends: what the octets between the tags mean.

use memchr::memchr2;

use super::error::Kind;

/// Whether XML allows the character at all (XML 1.0 section 2.2).
pub(super) fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// Whether the octet is white space (XML 1.0 section 2.3).
pub(super) fn is_white(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether the text is a name without a colon (Namespaces in XML 1.0 section 3).
pub(super) fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(is_name_start) && characters.all(is_name_part)
}

fn is_name_start(character: char) -> bool {
    matches!(character, 'A'..='Z' | '_' | 'a'..='z'
        | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}' | '\u{370}'..='\u{37D}'
        | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' | '\u{2070}'..='\u{218F}'
        | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}'
        | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}')
}

fn is_name_part(character: char) -> bool {
    is_name_start(character)
        || matches!(character, '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

/// The start of a text, short enough for an error message.
pub(super) fn excerpt(text: &str) -> String {
    const MOST: usize = 64;
    let mut excerpt: String = text.chars().take(MOST).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}

/// The character that the reference `&name;` stands for (XML 1.0 sections 4.1 and 4.6).
pub(super) fn reference(name: &str) -> Result<char, Kind> {
    let number = match name {
        "amp" => return Ok('&'),
        "apos" => return Ok('\''),
        "gt" => return Ok('>'),
        "lt" => return Ok('<'),
        "quot" => return Ok('"'),
        _ => name.strip_prefix('#').and_then(|digits| {
            let (digits, radix) = match digits.strip_prefix('x') {
                Some(digits) => (digits, 16),
                None => (digits, 10),
            };
            // A sign is no digit, though from_str_radix would take one.
            let plain = digits.bytes().all(|octet| octet.is_ascii_hexdigit());
            u32::from_str_radix(digits, radix).ok().filter(|_| plain)
        }),
    };
    number
        .and_then(char::from_u32)
        .filter(|character| is_allowed(*character))
        .ok_or_else(|| Kind::ReferenceForbidden(excerpt(name)))
}

/// Checks character data: every reference known, no `]]>`. Failures carry their offset in `raw`.
pub(super) fn check(raw: &str) -> Result<(), (usize, Kind)> {
    if let Some(at) = memchr::memmem::find(raw.as_bytes(), b"]]>") {
        return Err((at, Kind::CdataEndInText));
    }
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'&', &raw.as_bytes()[at..]) {
        at += found;
        let (_, length) = take_reference(&raw[at..]).map_err(|kind| (at, kind))?;
        at += length;
    }
    Ok(())
}

/// Whether [`decode`] would give anything but `raw` itself.
pub(super) fn is_literal(raw: &str, cdata: bool) -> bool {
    match cdata {
        true => memchr::memchr(b'\r', raw.as_bytes()).is_none(),
        false => memchr2(b'\r', b'&', raw.as_bytes()).is_none(),
    }
}

/// Gives the meaning of character data piece by piece: references resolved (not in CDATA), CR LF and CR as LF.
pub(super) fn decode(raw: &str, cdata: bool, sink: &mut dyn FnMut(&str)) {
    each_decoded(raw, cdata, &mut |_, piece, _| sink(piece));
}

/// As [`decode`], with each piece's offset in `raw` and whether it stands there literally.
///
/// The data has passed [`check`]; what that refuses is left as it stands.
pub(super) fn each_decoded(raw: &str, cdata: bool, sink: &mut dyn FnMut(usize, &str, bool)) {
    let mut at = 0;
    let find = |rest: &[u8]| match cdata {
        true => memchr::memchr(b'\r', rest),
        false => memchr2(b'\r', b'&', rest),
    };
    while let Some(length) = find(&raw.as_bytes()[at..]) {
        if length > 0 {
            sink(at, &raw[at..at + length], true);
        }
        at += length;
        let rest = &raw[at..];
        at += if let Some(rest) = rest.strip_prefix('\r') {
            sink(at, "\n", false);
            1 + usize::from(rest.starts_with('\n'))
        } else if let Ok((character, length)) = take_reference(rest) {
            sink(at, character.encode_utf8(&mut [0; 4]), false);
            length
        } else {
            sink(at, "&", true);
            1
        };
    }
    if at < raw.len() {
        sink(at, &raw[at..], true);
    }
}

/// Whether an attribute value is used as it stands, without [`normalize`].
pub(super) fn is_plain_value(raw: &str) -> bool {
    !raw.bytes()
        .any(|octet| matches!(octet, b'&' | b'\t' | b'\r' | b'\n'))
}

/// Appends an attribute value's meaning to `out`: references resolved, white space as spaces (XML 1.0 section 3.3.3,
/// for an attribute without a declared type). A failure carries its offset in `raw`.
pub(super) fn normalize(raw: &str, out: &mut String) -> Result<(), (usize, Kind)> {
    let mut at = 0;
    while let Some(character) = raw[at..].chars().next() {
        at += match character {
            '&' => {
                let (meaning, length) = take_reference(&raw[at..]).map_err(|kind| (at, kind))?;
                out.push(meaning);
                length
            }
            '\r' => {
                out.push(' ');
                1 + usize::from(raw[at + 1..].starts_with('\n'))
            }
            '\t' | '\n' => {
                out.push(' ');
                1
            }
            other => {
                out.push(other);
                other.len_utf8()
            }
        };
    }
    Ok(())
}

/// Reads the reference at the start of `raw`: its character, and its length with `&` and `;`.
fn take_reference(raw: &str) -> Result<(char, usize), Kind> {
    /// `&#x10FFFF;` and some leading zeros; a longer one is refused rather than searched for.
    const LONGEST: usize = 32;
    let window = &raw.as_bytes()[1..raw.len().min(LONGEST)];
    let end = memchr::memchr(b';', window).ok_or(Kind::ReferenceUnclosed)?;
    Ok((reference(&raw[1..1 + end])?, end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(raw: &str, cdata: bool) -> String {
        let mut out = String::new();
        decode(raw, cdata, &mut |piece| out.push_str(piece));
        out
    }

    #[test]
    fn references() {
        for (name, character) in [
            ("amp", '&'),
            ("lt", '<'),
            ("gt", '>'),
            ("quot", '"'),
            ("apos", '\''),
            ("#65", 'A'),
            ("#x41", 'A'),
            ("#x0041", 'A'),
            ("#x10FFFF", '\u{10FFFF}'),
            ("#13", '\r'),
        ] {
            assert_eq!(reference(name), Ok(character), "{name}");
        }
        for name in [
            "",
            "#",
            "#x",
            "#X41",
            "#+65",
            "#x+41",
            "#0",
            "#xD800",
            "#x110000",
            "#xFFFE",
            "nbsp",
            "AMP",
            "#4 1",
            "#99999999999",
        ] {
            assert!(reference(name).is_err(), "{name}");
        }
    }

    #[test]
    fn character_data() {
        for (raw, plain, cdata) in [
            ("", "", ""),
            ("a\r\nb\rc\n", "a\nb\nc\n", "a\nb\nc\n"),
            ("&lt;&#13;\r", "<\r\n", "&lt;&#13;\n"),
            ("é&amp;€", "é&€", "é&amp;€"),
        ] {
            assert_eq!(decoded(raw, false), plain, "{raw:?}");
            assert_eq!(decoded(raw, true), cdata, "{raw:?}");
            assert_eq!(is_literal(raw, false), raw == plain, "{raw:?}");
            assert_eq!(is_literal(raw, true), raw == cdata, "{raw:?}");
        }
    }

    #[test]
    fn values_get_spaces_for_white_space() {
        let mut out = String::new();
        assert!(normalize("a\r\nb\tc\nd\re&#10;&#9;", &mut out).is_ok());
        assert_eq!(out, "a b c d e\n\t");
        assert_eq!(
            normalize("ab&x;", &mut out).err().map(|(at, _)| at),
            Some(2)
        );
    }

    #[test]
    fn names() {
        for name in ["a", "_", "A-1.b", "é", "日本"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "1", "-a", "a b", "a:b", "a\u{d7}", "\u{b7}"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
