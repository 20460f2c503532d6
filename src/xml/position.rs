//! Lines and columns of a text, found from an offset without remembering every line.

use std::fmt;

/// A place in a text.
///
/// A line ends at LF, CR or CR LF (XML 1.0 section 2.11). A column counts characters, not octets; a byte order mark
/// counts as none.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in that line, from 1.
    pub column: usize,
}

impl Position {
    /// The first character of a text.
    pub const START: Self = Self { line: 1, column: 1 };

    /// The place after `text`, when `text` begins at `self`.
    pub fn after(self, text: &str) -> Self {
        let mut position = self;
        let mut before = None;
        for character in text.chars() {
            match character {
                // Its CR has ended the line already.
                '\n' if before == Some('\r') => {}
                '\n' | '\r' => {
                    position.line += 1;
                    position.column = 1;
                }
                _ => position.column += 1,
            }
            before = Some(character);
        }
        position
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Octets of text between two remembered places: what one lookup may have to walk.
const STRIDE: usize = 2048;

/// Finds the position of any offset in a text by walking a bounded part of it.
#[derive(Debug)]
pub(super) struct Lines {
    /// An offset every [`STRIDE`] octets or a little more, and the position there; the first is the text's start.
    marks: Vec<(u32, u32, u32)>,
}

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        let mut marks = Vec::with_capacity(1 + text.len() / STRIDE);
        let (mut offset, mut position) = (0, Position::START);
        loop {
            // Offsets fit: the parser refuses longer texts before.
            marks.push((offset as u32, position.line as u32, position.column as u32));
            let Some(end) = boundary(text, offset + STRIDE) else {
                break;
            };
            position = position.after(&text[offset..end]);
            offset = end;
        }
        Self { marks }
    }

    /// The position of `offset`, which must lie on a character of `text` or at its end.
    pub(super) fn position(&self, text: &str, offset: usize) -> Position {
        let next = self.marks.partition_point(|mark| mark.0 as usize <= offset);
        let (start, line, column) = self.marks[next - 1];
        let mark = Position {
            line: line as usize,
            column: column as usize,
        };
        mark.after(&text[start as usize..offset])
    }
}

/// The first place at or after `offset` that splits neither a character nor a CR LF; `None` past the end.
fn boundary(text: &str, offset: usize) -> Option<usize> {
    let splits = |at: usize| {
        let octets = text.as_bytes();
        !text.is_char_boundary(at) || (octets[at] == b'\n' && octets[at - 1] == b'\r')
    };
    (offset..text.len()).find(|&at| !splits(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_any_line_end() {
        let text = "a\r\nb\rc\n\nd";
        let lines = Lines::new(text);
        let at = |offset| lines.position(text, offset).to_string();
        assert_eq!(at(0), "line 1, column 1");
        assert_eq!(at(1), "line 1, column 2");
        assert_eq!(at(3), "line 2, column 1");
        assert_eq!(at(5), "line 3, column 1");
        assert_eq!(at(7), "line 4, column 1");
        assert_eq!(at(8), "line 5, column 1");
        assert_eq!(at(9), "line 5, column 2");
    }

    #[test]
    fn marks_agree_with_walking_the_whole_text() {
        for unit in ["é", "a\r\n", "xyz\n", "\r", "€uro\r\r\n"] {
            let text = unit.repeat(3 * STRIDE);
            let lines = Lines::new(&text);
            for (offset, _) in text.char_indices().step_by(97) {
                let inside_line_end =
                    text.as_bytes()[offset] == b'\n' && text[..offset].ends_with('\r');
                if !inside_line_end {
                    assert_eq!(
                        lines.position(&text, offset),
                        Position::START.after(&text[..offset]),
                        "{unit:?} {offset}"
                    );
                }
            }
        }
    }
}
