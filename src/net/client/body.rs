//! The body of a response out of bytes (RFC 9112 sections 6 and 7).

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

use super::ResponseError;
use super::head::Framing;

/// Bytes of the line that begins a chunk, and of one trailer field.
const LINE_LIMIT: usize = 4 * 1_024;

/// Bytes of a trailer section.
const TRAILERS_LIMIT: usize = 16 * 1_024;

/// A body in the course of being read.
#[derive(Debug)]
pub(super) enum Decoder {
    Chunked(Chunked),
    /// So many bytes are left.
    Length(u64),
    UntilClose,
}

/// A chunked body in the course of being read.
#[derive(Debug)]
pub(super) enum Chunked {
    /// Before the line that begins a chunk.
    Size,
    /// So many bytes of the chunk are left.
    Data(u64),
    /// Before the line end behind a chunk.
    DataEnd,
    Trailers {
        fields: HeaderMap,
        bytes: usize,
    },
    Ended,
}

/// What comes next out of a body.
#[derive(Debug)]
pub(super) enum Next {
    Data(Bytes),
    End,
    /// More has to be read.
    More,
    Trailers(HeaderMap),
}

impl Decoder {
    pub(super) const fn new(framing: Framing) -> Self {
        match framing {
            Framing::Chunked => Self::Chunked(Chunked::Size),
            Framing::Length(length) => Self::Length(length),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Whether nothing more belongs to the body.
    pub(super) const fn is_ended(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::Ended))
    }

    /// The length that is left, if it was announced.
    pub(super) const fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Whether the end of the stream is the end of the body.
    pub(super) const fn ends_with_stream(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    /// Takes what belongs to the body from the front of `bytes`.
    pub(super) fn next(&mut self, bytes: &mut BytesMut) -> Result<Next, ResponseError> {
        match self {
            Self::Length(0) => Ok(Next::End),
            Self::Length(left) => Ok(take(bytes, left)),
            Self::UntilClose => Ok(take(bytes, &mut { u64::MAX })),
            Self::Chunked(chunked) => chunked.next(bytes),
        }
    }
}

/// At most `left` bytes, which it counts.
fn take(bytes: &mut BytesMut, left: &mut u64) -> Next {
    if bytes.is_empty() {
        return Next::More;
    }
    let length = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *left -= length as u64;
    Next::Data(bytes.split_to(length).freeze())
}

impl Chunked {
    fn next(&mut self, bytes: &mut BytesMut) -> Result<Next, ResponseError> {
        loop {
            match self {
                Self::Size => {
                    let Some(line) = line(bytes)? else {
                        return Ok(Next::More);
                    };
                    *self = match size(&line)? {
                        0 => Self::Trailers {
                            fields: HeaderMap::new(),
                            bytes: 0,
                        },
                        size => Self::Data(size),
                    };
                }
                Self::Data(left) => {
                    let next = take(bytes, left);
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(next);
                }
                Self::DataEnd => match bytes[..] {
                    [b'\r', b'\n', ..] => {
                        bytes.advance(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(Next::More),
                    _ => {
                        return Err(ResponseError::Malformed(
                            "a chunk has another size than it says",
                        ));
                    }
                },
                Self::Trailers {
                    fields,
                    bytes: seen,
                } => {
                    let Some(line) = line(bytes)? else {
                        return Ok(Next::More);
                    };
                    if !line.is_empty() {
                        *seen += line.len();
                        if *seen > TRAILERS_LIMIT {
                            return Err(ResponseError::Malformed("trailers are too large"));
                        }
                        let (name, value) = field(&line)
                            .ok_or(ResponseError::Malformed("a trailer field is malformed"))?;
                        fields.append(name, value);
                        continue;
                    }
                    let fields = std::mem::take(fields);
                    *self = Self::Ended;
                    if !fields.is_empty() {
                        return Ok(Next::Trailers(fields));
                    }
                }
                Self::Ended => return Ok(Next::End),
            }
        }
    }
}

/// Takes a line with its end; the line without it.
fn line(bytes: &mut BytesMut) -> Result<Option<Bytes>, ResponseError> {
    let Some(end) = memchr(b'\n', &bytes[..bytes.len().min(LINE_LIMIT)]) else {
        return if bytes.len() >= LINE_LIMIT {
            Err(ResponseError::Malformed(
                "a line of a chunked body is too long",
            ))
        } else {
            Ok(None)
        };
    };
    let line = bytes.split_to(end + 1).freeze();
    match line[..] {
        [.., b'\r', b'\n'] => Ok(Some(line.slice(..end - 1))),
        _ => Err(ResponseError::Malformed(
            "a line of a chunked body ends without a carriage return",
        )),
    }
}

fn size(line: &[u8]) -> Result<u64, ResponseError> {
    let wrong = ResponseError::Malformed("a chunk has no proper size");
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
    let digits = digits.trim_ascii_end();
    let valid = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| valid);
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or(wrong)
}

fn field(line: &Bytes) -> Option<(HeaderName, HeaderValue)> {
    let colon = memchr(b':', line)?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, whether the end was seen, the trailers and what stands behind, read in pieces of one size.
    fn read(
        framing: Framing,
        text: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, bool, usize, Vec<u8>), String> {
        let mut decoder = Decoder::new(framing);
        let (mut bytes, mut data, mut trailers) = (BytesMut::new(), Vec::new(), 0);
        let mut pieces = text.chunks(piece);
        loop {
            match decoder
                .next(&mut bytes)
                .map_err(|error| error.to_string())?
            {
                Next::Data(more) => data.extend_from_slice(&more),
                Next::Trailers(fields) => trailers = fields.len(),
                Next::End => break,
                Next::More => match pieces.next() {
                    Some(more) => bytes.extend_from_slice(more),
                    None => return Ok((data, false, trailers, bytes.to_vec())),
                },
            }
        }
        pieces.for_each(|more| bytes.extend_from_slice(more));
        Ok((data, true, trailers, bytes.to_vec()))
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        let chunked: &[u8] = b"5;a=b\r\nhello\r\n001 \r\n!\r\n0\r\nA: b\r\nC: d\r\n\r\nrest";
        for piece in 1..=chunked.len() {
            let expected = Ok((b"hello!".to_vec(), true, 2, b"rest".to_vec()));
            assert_eq!(read(Framing::Chunked, chunked, piece), expected, "{piece}");
            let expected = Ok((b"hello".to_vec(), true, 0, b"rest".to_vec()));
            assert_eq!(read(Framing::Length(5), b"hellorest", piece), expected);
            let expected = Ok((b"hello".to_vec(), false, 0, Vec::new()));
            assert_eq!(read(Framing::UntilClose, b"hello", piece), expected);
        }
        assert_eq!(
            read(Framing::Chunked, b"5\r\nhell", 3),
            Ok((b"hell".to_vec(), false, 0, Vec::new()))
        );
    }

    #[test]
    fn malformed_chunks_are_errors() {
        for wrong in [
            "\r\n",
            "x\r\n",
            "-5\r\n",
            "5\nhello\r\n",
            "5\r\nhelloX\r\n",
            "5\r\nhello\n",
            "12345678901234567\r\n",
            "0\r\nno colon\r\n",
            "0\r\nA : b\r\n",
            "0\r\nA: b\n",
        ] {
            assert!(
                read(Framing::Chunked, wrong.as_bytes(), 1).is_err(),
                "{wrong:?}"
            );
        }
        let line = |length| format!("5;{}\r\nhello\r\n", "x".repeat(length - 4));
        assert!(read(Framing::Chunked, line(LINE_LIMIT).as_bytes(), 7).is_ok());
        assert!(read(Framing::Chunked, line(LINE_LIMIT + 1).as_bytes(), 7).is_err());
        let trailers = |count| {
            format!(
                "0\r\n{}\r\n",
                format!("A: {}\r\n", "x".repeat(997)).repeat(count)
            )
        };
        assert!(read(Framing::Chunked, trailers(16).as_bytes(), 999).is_ok());
        assert!(read(Framing::Chunked, trailers(17).as_bytes(), 999).is_err());
    }
}
