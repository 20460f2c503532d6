//! A chunked body, byte by byte but for the data (RFC 9112 section 7.1).

use http::header::HeaderMap;

use super::Malformed;
use super::head::{HeadLimits, read_field};
use crate::net::plain::has_control;

/// Bytes of chunk extensions in one body.
const EXTENSIONS_LIMIT: usize = 16 * 1_024 - 2;

/// Hexadecimal digits of a chunk's size.
const SIZE_DIGITS: usize = 16;

/// A chunked body in the course of being read.
#[derive(Clone, Debug, Default)]
pub(in crate::net) struct Chunked {
    state: State,
    size: u64,
    digits: usize,
    extensions: usize,
    trailers: Trailers,
}

#[derive(Clone, Debug, Default)]
struct Trailers {
    line: Vec<u8>,
    bytes: usize,
    fields: HeaderMap,
}

/// What stands at the front of some bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::net) struct Step {
    /// Bytes that frame the body.
    pub(in crate::net) framing: usize,
    /// Bytes of data behind them.
    pub(in crate::net) data: usize,
    /// Whether the body ends with them.
    pub(in crate::net) ended: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Size,
    SizeSpace,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    Trailer,
    TrailerLineFeed,
}

impl Chunked {
    pub(in crate::net) fn is_in_trailers(&self) -> bool {
        matches!(self.state, State::Trailer | State::TrailerLineFeed)
    }

    /// Takes the fields that trailed the body.
    pub(in crate::net) fn take_trailers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.trailers.fields)
    }

    /// Reads on, to the end of what is there of one chunk's data at most.
    pub(in crate::net) fn step(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<Step, Malformed> {
        let mut framing = 0;
        while let Some(&byte) = bytes.get(framing) {
            if self.state == State::Data {
                let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                let data = left.min(bytes.len() - framing);
                self.size -= data as u64;
                if self.size == 0 {
                    self.state = State::DataReturn;
                }
                return Ok(Step {
                    framing,
                    data,
                    ended: false,
                });
            }
            framing += 1;
            if self.byte(byte, limits)? {
                return Ok(Step {
                    framing,
                    data: 0,
                    ended: true,
                });
            }
        }
        Ok(Step {
            framing,
            ..Step::default()
        })
    }

    /// Reads on; how many bytes belong to the body, and whether it ends with them.
    pub(in crate::net) fn scan(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<(usize, bool), Malformed> {
        let mut at = 0;
        loop {
            let step = self.step(&bytes[at..], limits)?;
            at += step.framing + step.data;
            if step.ended || at == bytes.len() {
                return Ok((at, step.ended));
            }
        }
    }

    fn byte(&mut self, byte: u8, limits: &HeadLimits) -> Result<bool, Malformed> {
        self.state = match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() => self.digit(byte)?,
            (State::Size, _) if self.digits == 0 => return Err(Malformed::ChunkSize),
            (State::Size | State::SizeSpace, b' ' | b'\t') => self.extension(State::SizeSpace)?,
            (State::Size | State::SizeSpace, b';') => State::Extension,
            (State::Size | State::SizeSpace | State::Extension, b'\r') => State::SizeLineFeed,
            (State::Size | State::SizeSpace | State::Extension, b'\n') => {
                return Err(Malformed::BareLineFeed);
            }
            (State::Size | State::SizeSpace, _) => return Err(Malformed::ChunkSize),
            (State::Extension, _) if has_control(&[byte]) => return Err(Malformed::ChunkExtension),
            (State::Extension, _) => self.extension(State::Extension)?,
            (State::SizeLineFeed, b'\n') => {
                self.digits = 0;
                if self.size == 0 {
                    State::Trailer
                } else {
                    State::Data
                }
            }
            (State::SizeLineFeed, _) => return Err(Malformed::ChunkSize),
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size,
            (State::Data | State::DataReturn | State::DataLineFeed, _) => {
                return Err(Malformed::ChunkData);
            }
            (State::TrailerLineFeed, b'\n') => {
                if self.trailers.line.is_empty() {
                    return Ok(true);
                }
                self.trailers.end_line(limits)?;
                State::Trailer
            }
            (State::TrailerLineFeed, _) => return Err(Malformed::ControlCharacter),
            (State::Trailer, b'\r') => State::TrailerLineFeed,
            (State::Trailer, b'\n') => return Err(Malformed::BareLineFeed),
            (State::Trailer, _) => {
                self.trailers.push(byte, limits)?;
                State::Trailer
            }
        };
        Ok(false)
    }

    fn digit(&mut self, byte: u8) -> Result<State, Malformed> {
        self.digits += 1;
        if self.digits > SIZE_DIGITS {
            return Err(Malformed::ChunkSize);
        }
        if self.digits == 1 {
            self.size = 0;
        }
        let digit = char::from(byte).to_digit(16).ok_or(Malformed::ChunkSize)?;
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn extension(&mut self, next: State) -> Result<State, Malformed> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS_LIMIT {
            return Err(Malformed::ChunkExtension);
        }
        Ok(next)
    }
}

impl Trailers {
    fn push(&mut self, byte: u8, limits: &HeadLimits) -> Result<(), Malformed> {
        self.line.push(byte);
        self.bytes += 1;
        if self.bytes > limits.trailers {
            return Err(Malformed::TrailersTooLarge);
        }
        Ok(())
    }

    fn end_line(&mut self, limits: &HeadLimits) -> Result<(), Malformed> {
        let (name, value) = read_field(&self.line)?;
        self.line.clear();
        // The line end counts, too.
        self.bytes += 2;
        if self.fields.len() == limits.fields {
            return Err(Malformed::TooManyFields);
        }
        self.fields.append(name, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &[u8]) -> Result<(usize, bool), Malformed> {
        Chunked::default().scan(text, &HeadLimits::DEFAULT)
    }

    #[test]
    fn bodies() {
        use Malformed as M;
        let cases: &[(&[u8], Result<bool, Malformed>)] = &[
            (b"5\r\nhello\r\n0\r\n\r\n", Ok(true)),
            (b"5;name=value\r\nhello\r\n0;last=1\r\n\r\n", Ok(true)),
            (b"5 \t;x\r\nhello\r\n00\r\nA: b\r\n\r\n", Ok(true)),
            (b"A\r\nhello", Ok(false)),
            (b"-5\r\n", Err(M::ChunkSize)),
            (b"\r\n", Err(M::ChunkSize)),
            (b";x\r\n", Err(M::ChunkSize)),
            (b"5 6\r\n", Err(M::ChunkSize)),
            (b"12345678901234567\r\n", Err(M::ChunkSize)),
            (b"5;a\nhello\r\n", Err(M::BareLineFeed)),
            (b"5\nhello\r\n", Err(M::BareLineFeed)),
            (b"5;\x01\r\n", Err(M::ChunkExtension)),
            (b"5\r\nhelloW", Err(M::ChunkData)),
            (b"5\r\nhello\n", Err(M::ChunkData)),
            (b"0\r\nbad line\r\n", Err(M::FieldName)),
            (b"0\r\nX : y\r\n", Err(M::FieldName)),
            (b"0\r\nX: y\n", Err(M::BareLineFeed)),
            (b"0\r\nX: y\rz", Err(M::ControlCharacter)),
        ];
        for (text, expected) in cases {
            assert_eq!(
                scan(text).map(|(_, ended)| ended),
                *expected,
                "{}",
                text.escape_ascii()
            );
        }
        assert_eq!(scan(b"0\r\n\r\nGET"), Ok((5, true)));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let body = |length| format!("1;{}\r\n", "x".repeat(length)).into_bytes();
        assert!(scan(&body(EXTENSIONS_LIMIT)).is_ok());
        assert_eq!(
            scan(&body(EXTENSIONS_LIMIT + 1)),
            Err(Malformed::ChunkExtension)
        );
        let limits = HeadLimits {
            trailers: 20,
            fields: 2,
            ..HeadLimits::DEFAULT
        };
        let trailers =
            |text: &str| Chunked::default().scan(format!("0\r\n{text}\r\n").as_bytes(), &limits);
        assert!(trailers("A: 1\r\nB: 2\r\n").is_ok());
        assert_eq!(
            trailers("A: 1\r\nB: 2\r\nC: 3\r\n"),
            Err(Malformed::TooManyFields)
        );
        assert!(trailers("A: 78901234567890\r\n").is_ok());
        assert_eq!(
            trailers("A: 789012345678901234\r\n"),
            Err(Malformed::TrailersTooLarge)
        );
    }
}
