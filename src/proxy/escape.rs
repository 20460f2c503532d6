//! Bytes from strangers, made safe to stand in a log line.

/// Appends `bytes` so that no quote, backslash, control character or byte beyond ASCII is left as it is.
pub(super) fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..=31 | 127.. => {
                out.extend_from_slice(b"\\x");
                out.extend([byte >> 4, byte & 15].map(hexadecimal));
            }
            _ => out.push(byte),
        }
    }
}

/// Appends `bytes` as a JSON string in ASCII (RFC 8259 section 7). Bytes that are no UTF-8 are read as Latin-1, so
/// that none is lost.
pub(super) fn json_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\');
    // Without an early exit, so that the compiler can look at many bytes at once.
    if bytes
        .iter()
        .fold(true, |plain, &byte| plain & is_plain(byte))
    {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend([b'\\', character as u8]),
                ' '..='~' => out.push(character as u8),
                _ => character
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .for_each(|&unit| escape(out, unit)),
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|&byte| escape(out, u16::from(byte)));
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, unit: u16) {
    out.extend_from_slice(b"\\u");
    let [high, low] = unit.to_be_bytes();
    out.extend([high >> 4, high & 15, low >> 4, low & 15].map(hexadecimal));
}

const fn hexadecimal(nibble: u8) -> u8 {
    b"0123456789abcdef"[nibble as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_reads_back() {
        for text in [
            "",
            "plain",
            "a\"b\\c",
            "\u{0}\n\u{1b}\u{7f}\u{9b}",
            "caf\u{e9} \u{2028} \u{1f600}",
        ] {
            let mut out = Vec::new();
            json_string(&mut out, text.as_bytes());
            assert!(out.is_ascii() && !out.iter().any(u8::is_ascii_control));
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
        let mut out = Vec::new();
        json_string(&mut out, b"a\xffb\xc3");
        assert_eq!(out, br#""a\u00ffb\u00c3""#);
    }
}
