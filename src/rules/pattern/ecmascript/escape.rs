//! Escapes, inside classes and outside, as ES5.1 section 15.10.1 and Annex B read them.

use super::parser::{Parsed, Parser, ascii};
use crate::rules::pattern::error::Kind;
use crate::rules::pattern::unit_set::UnitSet;

/// What an escape stands for.
pub(super) enum Escape {
    Set(UnitSet),
    Unit(u16),
}

impl Parser {
    /// Reads the escape that begins here; back-references, `\b` and `\B` outside a class are not for this.
    pub(super) fn escape(&mut self, in_class: bool) -> Parsed<Escape> {
        let start = self.at;
        self.at += 1;
        let Some(unit) = self.peek() else {
            return Err(self.error(start, Kind::BackslashAtEnd));
        };
        self.at += 1;
        Ok(match ascii(unit) {
            b'd' => Escape::Set(UnitSet::digits()),
            b'D' => Escape::Set(UnitSet::digits().complement()),
            b's' => Escape::Set(UnitSet::white_space()),
            b'S' => Escape::Set(UnitSet::white_space().complement()),
            b'w' => Escape::Set(UnitSet::word()),
            b'W' => Escape::Set(UnitSet::word().complement()),
            b'b' if in_class => Escape::Unit(0x08),
            b'c' => Escape::Unit(self.control(in_class)),
            b'f' => Escape::Unit(0x0c),
            b'n' => Escape::Unit(0x0a),
            b'r' => Escape::Unit(0x0d),
            b't' => Escape::Unit(0x09),
            b'v' => Escape::Unit(0x0b),
            b'u' => Escape::Unit(self.hexadecimal(4).unwrap_or(unit)),
            b'x' => Escape::Unit(self.hexadecimal(2).unwrap_or(unit)),
            digit @ b'0'..=b'7' => Escape::Unit(self.octal(digit)),
            // Any other unit stands for itself, `8` and `9` included.
            _ => Escape::Unit(unit),
        })
    }

    /// `\cX`; a `\c` that no letter follows is a backslash and then a `c`. Classes also take digits and `_`.
    fn control(&mut self, in_class: bool) -> u16 {
        match ascii(self.unit_at(self.at)) {
            letter @ (b'a'..=b'z' | b'A'..=b'Z') => {
                self.at += 1;
                u16::from(letter & 0x1f)
            }
            other @ (b'0'..=b'9' | b'_') if in_class => {
                self.at += 1;
                u16::from(other & 0x1f)
            }
            _ => {
                self.at -= 1;
                u16::from(b'\\')
            }
        }
    }

    /// Exactly so many hexadecimal digits, or nothing is read.
    fn hexadecimal(&mut self, digits: usize) -> Option<u16> {
        let mut value = 0;
        for ahead in 0..digits {
            let digit = char::from(ascii(self.unit_at(self.at + ahead))).to_digit(16)?;
            value = value << 4 | digit as u16;
        }
        self.at += digits;
        Some(value)
    }

    /// An octal number of up to three digits below 256, its first digit read already.
    fn octal(&mut self, first: u8) -> u16 {
        let mut value = u16::from(first - b'0');
        for _ in 0..2 {
            match ascii(self.unit_at(self.at)) {
                digit @ b'0'..=b'7' if value < 32 => {
                    value = value << 3 | u16::from(digit - b'0');
                    self.at += 1;
                }
                _ => break,
            }
        }
        value
    }
}
