//! The functions of the substitution grammar, each on the end of a buffer.

use crate::canon::{is_unreserved, percent_decode, percent_encode};

/// A function that a reference may apply to its argument.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Function {
    HtmlEncode,
    ToLower,
    UrlDecode,
    UrlEncode,
}

impl Function {
    /// The function of this name. IIS's documents write `ToLower` and its early notes `tolower`, so letter case is
    /// not looked at.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [
            Self::HtmlEncode,
            Self::ToLower,
            Self::UrlDecode,
            Self::UrlEncode,
        ]
        .into_iter()
        .find(|function| function.name().eq_ignore_ascii_case(name))
    }

    /// Its name, as Microsoft's documents write it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HtmlEncode => "HtmlEncode",
            Self::ToLower => "ToLower",
            Self::UrlDecode => "UrlDecode",
            Self::UrlEncode => "UrlEncode",
        }
    }

    /// Whether a text is sure to stay as it is.
    pub(crate) fn keeps(self, text: &[u8]) -> bool {
        self == Self::UrlDecode && memchr::memchr(b'%', text).is_none()
    }

    /// Applies the function to what stands in `buffer` from `start` on.
    pub(crate) fn apply(self, buffer: &mut Vec<u8>, start: usize) {
        let changed = match self {
            Self::HtmlEncode => html_encode(&buffer[start..]),
            Self::ToLower => {
                lower(buffer, start);
                return;
            }
            Self::UrlDecode => percent_decode(&buffer[start..]),
            // Measured on IIS: a space stays, a slash is encoded.
            Self::UrlEncode => {
                percent_encode(&buffer[start..], |byte| is_unreserved(byte) || byte == b' ')
            }
        };
        if let std::borrow::Cow::Owned(changed) = changed {
            buffer.truncate(start);
            buffer.extend_from_slice(&changed);
        }
    }
}

/// Lower-cases what stands in `buffer` from `start` on: ASCII in place, other letters where the bytes are UTF-8.
pub(crate) fn lower(buffer: &mut Vec<u8>, start: usize) {
    if buffer[start..].is_ascii() {
        buffer[start..].make_ascii_lowercase();
        return;
    }
    let mut lowered = Vec::with_capacity(buffer.len() - start);
    for chunk in buffer[start..].utf8_chunks() {
        for character in chunk.valid().chars().flat_map(char::to_lowercase) {
            lowered.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        lowered.extend_from_slice(chunk.invalid());
    }
    buffer.truncate(start);
    buffer.extend_from_slice(&lowered);
}

/// Text that HTML shows as these bytes, in content and in quoted attributes.
pub(crate) fn html_encode(bytes: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !bytes.iter().any(|byte| b"&<>\"'".contains(byte)) {
        return bytes.into();
    }
    let mut encoded = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        match byte {
            b'&' => encoded.extend_from_slice(b"&amp;"),
            b'<' => encoded.extend_from_slice(b"&lt;"),
            b'>' => encoded.extend_from_slice(b"&gt;"),
            b'"' => encoded.extend_from_slice(b"&quot;"),
            b'\'' => encoded.extend_from_slice(b"&#39;"),
            _ => encoded.push(*byte),
        }
    }
    encoded.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(name: &str, argument: &[u8]) -> Vec<u8> {
        let mut buffer = b"KEEP %41 <".to_vec();
        buffer.extend_from_slice(argument);
        Function::named(name).unwrap().apply(&mut buffer, 10);
        assert_eq!(&buffer[..10], b"KEEP %41 <");
        buffer.split_off(10)
    }

    #[test]
    fn functions_change_the_end_of_the_buffer() {
        for (name, argument, expected) in [
            ("ToLower", "HEY", "hey"),
            ("tolower", "É/Ä", "é/ä"),
            ("UrlDecode", "%70ower+%2Fa%zz%", "power+/a%zz%"),
            ("UrlEncode", "x y/z&é", "x y%2Fz%26%C3%A9"),
            (
                "HtmlEncode",
                "<a b=\"c'&\">",
                "&lt;a b=&quot;c&#39;&amp;&quot;&gt;",
            ),
            ("HtmlEncode", "plain", "plain"),
        ] {
            assert_eq!(
                applied(name, argument.as_bytes()),
                expected.as_bytes(),
                "{name}"
            );
        }
        assert_eq!(applied("ToLower", b"A\xff\xc3\x84Z"), b"a\xff\xc3\xa4z");
        assert_eq!(Function::named("ToUpper"), None);
    }
}
