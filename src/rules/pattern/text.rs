//! An input as ECMAScript sees it: UTF-16 code units, each written as a byte sequence of its own.
//!
//! The form is UTF-8 in which a character beyond U+FFFF is its two surrogates, three bytes each, so that a byte
//! automaton over it is exact about code units. Ill-formed parts of the input are U+FFFD, one for each maximal part
//! as in the Encoding standard. ASCII, and all well-formed text below U+10000, is in that form already.

/// An input in that form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'t> {
    bytes: &'t [u8],
    ascii: bool,
    seams: &'t [Seam],
}

/// The memory for inputs that have to be rewritten.
#[derive(Debug, Default)]
pub(super) struct TextBuffer {
    bytes: Vec<u8>,
    seams: Vec<Seam>,
}

/// A place where both offsets are known, and from which on they run in step up to the next.
#[derive(Clone, Copy, Debug)]
struct Seam {
    text: usize,
    input: usize,
}

/// The least lead byte of a character beyond U+FFFF.
const ASTRAL_LEAD: u8 = 0xf0;

impl TextBuffer {
    /// Brings an input to the form, copying it only if it must.
    pub(super) fn read<'t>(&'t mut self, input: &'t [u8]) -> Text<'t> {
        self.seams.clear();
        let ascii = input.is_ascii();
        if ascii
            || (input.iter().all(|byte| *byte < ASTRAL_LEAD) && std::str::from_utf8(input).is_ok())
        {
            return Text {
                bytes: input,
                ascii,
                seams: &[],
            };
        }
        self.rewrite(input);
        Text {
            bytes: &self.bytes,
            ascii,
            seams: &self.seams,
        }
    }

    /// About how many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.seams.capacity() * size_of::<Seam>()
    }

    fn rewrite(&mut self, input: &[u8]) {
        self.bytes.clear();
        let mut at = 0;
        for chunk in input.utf8_chunks() {
            for character in chunk.valid().chars() {
                let mut code = [0; 4];
                if character.len_utf16() == 1 {
                    self.bytes
                        .extend_from_slice(character.encode_utf8(&mut code).as_bytes());
                } else {
                    let mut pair = [0; 2];
                    for half in character.encode_utf16(&mut pair) {
                        self.bytes.extend_from_slice(&encode_surrogate(*half));
                        at += 2;
                        self.seam(at);
                    }
                    continue;
                }
                at += character.len_utf8();
            }
            if !chunk.invalid().is_empty() {
                self.bytes.extend_from_slice("\u{fffd}".as_bytes());
                at += chunk.invalid().len();
                self.seam(at);
            }
        }
    }

    fn seam(&mut self, input: usize) {
        self.seams.push(Seam {
            text: self.bytes.len(),
            input,
        });
    }
}

impl<'t> Text<'t> {
    /// An input that is known to be of ASCII.
    pub(super) const fn of_ascii(input: &'t [u8]) -> Self {
        Self {
            bytes: input,
            ascii: true,
            seams: &[],
        }
    }

    pub(super) const fn bytes(&self) -> &'t [u8] {
        self.bytes
    }

    pub(super) const fn is_ascii(&self) -> bool {
        self.ascii
    }

    /// The offset in the input of an offset in the text that lies between two units.
    pub(super) fn input_offset(self, offset: usize) -> usize {
        let seam = self.seams.partition_point(|seam| seam.text <= offset);
        match seam.checked_sub(1).map(|seam| self.seams[seam]) {
            Some(seam) => seam.input + (offset - seam.text),
            None => offset,
        }
    }

    /// The offset in the text of an offset in the input, moved up to the next unit if it is within one.
    pub(super) fn place_of(self, offset: usize) -> usize {
        let seam = self.seams.partition_point(|seam| seam.input <= offset);
        let mut text = match seam.checked_sub(1).map(|seam| self.seams[seam]) {
            Some(seam) => seam.text + (offset - seam.input),
            None => offset,
        };
        while self.bytes.get(text).is_some_and(|byte| byte & 0xc0 == 0x80) {
            text += 1;
        }
        text
    }
}

/// The three bytes of half a surrogate pair, or of any other unit from U+0800.
pub(super) const fn encode_surrogate(unit: u16) -> [u8; 3] {
    [
        0xe0 | (unit >> 12) as u8,
        0x80 | (unit >> 6 & 0x3f) as u8,
        0x80 | (unit & 0x3f) as u8,
    ]
}

/// The unit that begins here, in a text of that form, and the length of its bytes.
pub(super) fn unit_at(bytes: &[u8], at: usize) -> Option<(u16, u32)> {
    let low = |byte: u8| u16::from(byte & 0x3f);
    Some(match *bytes.get(at..)? {
        [byte, ..] if byte < 0x80 => (byte.into(), 1),
        [lead, one, ..] if lead < 0xe0 => (u16::from(lead & 0x1f) << 6 | low(one), 2),
        [lead, one, two, ..] => (u16::from(lead & 0x0f) << 12 | low(one) << 6 | low(two), 3),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_change_is_copied() {
        let mut buffer = TextBuffer::default();
        for (input, ascii, bytes) in [
            (&b"plain"[..], true, &b"plain"[..]),
            (
                "\u{e9}\u{ffff}".as_bytes(),
                false,
                "\u{e9}\u{ffff}".as_bytes(),
            ),
            (b"a\xffb", false, b"a\xef\xbf\xbdb"),
            (b"\xe2\x82", false, b"\xef\xbf\xbd"),
            (b"\xf0\x9f\x98\x80", false, b"\xed\xa0\xbd\xed\xb8\x80"),
            // A surrogate in UTF-8 is ill-formed: three bytes, three replacements.
            (
                b"\xed\xa0\xbd",
                false,
                b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
            ),
        ] {
            let text = buffer.read(input);
            assert_eq!(text.is_ascii(), ascii);
            assert_eq!(text.bytes(), bytes, "{input:x?}");
            assert_eq!(text.input_offset(text.bytes().len()), input.len());
            assert_eq!(text.place_of(input.len()), text.bytes().len());
        }
    }

    #[test]
    fn offsets_go_both_ways() {
        let mut buffer = TextBuffer::default();
        // One byte, four bytes, one ill-formed byte, two bytes, one byte.
        let text = buffer.read(b"a\xf0\x9f\x98\x80\xff\xc3\xa9z");
        for (text_offset, input) in [(0, 0), (1, 1), (4, 3), (7, 5), (10, 6), (12, 8), (13, 9)] {
            assert_eq!(text.input_offset(text_offset), input);
            assert_eq!(text.place_of(input), text_offset);
        }
        for (input, text_offset) in [(2, 4), (4, 7), (7, 12)] {
            assert_eq!(text.place_of(input), text_offset);
        }
    }
}
