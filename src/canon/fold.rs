//! Characters that some decoder behind us may take for ASCII.

use std::borrow::Cow;

/// Folds look-alikes of ASCII characters to them: overlong UTF-8, full-width forms, and the few characters whose
/// case folding or best fit in a Windows code page is ASCII. Everything else stays; borrows when nothing folds.
///
/// Never grows: every look-alike is longer than what it folds to.
pub(super) fn fold_lookalikes(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut folded: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest[0].is_ascii() {
            at += 1;
        } else if let Some((ascii, length)) = overlong(rest).or_else(|| lookalike(rest)) {
            let output = folded.get_or_insert_with(|| Vec::with_capacity(bytes.len()));
            output.extend_from_slice(&bytes[copied..at]);
            output.push(ascii);
            at += length;
            copied = at;
        } else {
            at += 1;
        }
    }
    match folded {
        Some(mut output) => {
            output.extend_from_slice(&bytes[copied..]);
            Cow::Owned(output)
        }
        None => Cow::Borrowed(bytes),
    }
}

/// An ASCII character written in two to four octets, which RFC 3629 section 3 forbids and old decoders read.
fn overlong(bytes: &[u8]) -> Option<(u8, usize)> {
    let tail = |high: u8, low: u8| {
        let pair = u16::from(high & 0x3f) << 6 | u16::from(low & 0x3f);
        u8::try_from(pair).ok().filter(u8::is_ascii)
    };
    let continues = |byte: &u8| byte & 0xc0 == 0x80;
    match bytes {
        [lead @ (0xc0 | 0xc1), low, ..] if continues(low) => Some((tail(lead & 1, *low)?, 2)),
        [0xe0, high, low, ..] if continues(high) && continues(low) => Some((tail(*high, *low)?, 3)),
        [0xf0, 0x80, high, low, ..] if continues(high) && continues(low) => {
            Some((tail(*high, *low)?, 4))
        }
        _ => None,
    }
}

/// Well-formed UTF-8 that folds to ASCII: Unicode's full-width block and the single characters named below.
fn lookalike(bytes: &[u8]) -> Option<(u8, usize)> {
    Some(match bytes {
        // U+FF01 to U+FF5E: full-width `!` to `~`.
        [0xef, 0xbc, low @ 0x81..=0xbf, ..] => (low - 0x60, 3),
        [0xef, 0xbd, low @ 0x80..=0x9e, ..] => (low - 0x20, 3),
        // Dotted capital I and dotless i; long s; the Kelvin sign.
        [0xc4, 0xb0 | 0xb1, ..] => (b'i', 2),
        [0xc5, 0xbf, ..] => (b's', 2),
        [0xe2, 0x84, 0xaa, ..] => (b'k', 3),
        // One-dot leader and the ideographic full stops.
        [0xe2, 0x80, 0xa4, ..] | [0xe3, 0x80, 0x82, ..] | [0xef, 0xbd, 0xa1, ..] => (b'.', 3),
        // Fraction slash, division slash; set minus.
        [0xe2, 0x81, 0x84, ..] | [0xe2, 0x88, 0x95, ..] => (b'/', 3),
        [0xe2, 0x88, 0x96, ..] => (b'\\', 3),
        // Ideographic space and no-break space.
        [0xe3, 0x80, 0x80, ..] => (b' ', 3),
        [0xc2, 0xa0, ..] => (b' ', 2),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lookalikes_fold_to_ascii() {
        for (text, folded) in [
            ("plain \u{e9}\u{4e2d}", "plain \u{e9}\u{4e2d}"),
            ("\u{ff01}\u{ff3f}\u{ff40}\u{ff5e}", "!_`~"),
            ("\u{ff50}owe\u{ff32}", "poweR"),
            ("d\u{130}r\u{131}", "diri"),
            ("\u{17f}\u{212a}", "sk"),
            ("\u{2024}\u{3002}\u{ff61}", "..."),
            ("\u{2044}\u{2215}\u{2216}", "//\\"),
        ] {
            assert_eq!(
                &*fold_lookalikes(text.as_bytes()),
                folded.as_bytes(),
                "{text}"
            );
        }
    }

    #[test]
    fn overlong_forms_fold_to_ascii() {
        for (bytes, folded) in [
            (&b"\xc0\xaf\xc1\xa1"[..], &b"/a"[..]),
            (b"\xe0\x80\xaf\xe0\x81\xa1", b"/a"),
            (b"\xf0\x80\x80\xaf", b"/"),
            (b"\xc0/\xe0\x80", b"\xc0/\xe0\x80"),
            // U+0800, the first that needs three octets.
            (b"\xe0\xa0\x80", b"\xe0\xa0\x80"),
        ] {
            assert_eq!(&*fold_lookalikes(bytes), folded, "{bytes:x?}");
        }
    }

    #[test]
    fn nothing_to_fold_borrows() {
        assert!(matches!(
            fold_lookalikes("/\u{e9}".as_bytes()),
            Cow::Borrowed(_)
        ));
    }

    proptest! {
        #[test]
        fn folding_keeps_well_formed_text_well_formed(text: String) {
            let folded = fold_lookalikes(text.as_bytes());
            prop_assert!(std::str::from_utf8(&folded).is_ok());
            prop_assert!(folded.len() <= text.len());
        }
    }
}
