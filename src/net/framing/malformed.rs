//! What can be wrong with the bytes of a request.

use std::fmt;

/// Why the bytes of a request are refused before anybody reads a meaning into them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Malformed {
    /// A line of the head or of a chunk ends in a line feed without a carriage return.
    BareLineFeed,
    /// A chunk's data is not followed by a line end.
    ChunkData,
    /// Chunk extensions hold a control character, or too much of anything.
    ChunkExtension,
    /// A chunk's size is no hexadecimal number, or too large.
    ChunkSize,
    /// `Content-Length` is no plain number.
    ContentLength,
    /// A head holds a control character.
    ControlCharacter,
    /// A field's name is empty, holds what no name may, or has a space behind it.
    FieldName,
    /// A field is too long.
    FieldTooLarge,
    /// The target holds `#`.
    Fragment,
    /// A head is too long.
    HeadTooLarge,
    /// The connection ended within a head.
    Incomplete,
    /// `Content-Length` and `Transfer-Encoding` together.
    LengthAndCoding,
    /// The method is no token.
    Method,
    /// A field continues on a second line (RFC 9112 section 5.2).
    ObsoleteFold,
    /// `Content-Length` or `Transfer-Encoding` more than once.
    RepeatedFraming,
    /// The first line is not a method, a target and a version with one space between.
    RequestLine,
    /// The target holds a byte that no target may.
    Target,
    /// The target is too long.
    TargetTooLong,
    /// A head or a trailer section holds too many fields.
    TooManyFields,
    /// A trailer section is too long.
    TrailersTooLarge,
    /// `Transfer-Encoding` is anything but `chunked`, or stands in an HTTP/1.0 request.
    TransferEncoding,
    /// The version is not HTTP/1.0 or HTTP/1.1.
    Version,
}

impl Malformed {
    /// Every fault, in the order of their names.
    pub const ALL: [Self; 22] = [
        Self::BareLineFeed,
        Self::ChunkData,
        Self::ChunkExtension,
        Self::ChunkSize,
        Self::ContentLength,
        Self::ControlCharacter,
        Self::FieldName,
        Self::FieldTooLarge,
        Self::Fragment,
        Self::HeadTooLarge,
        Self::Incomplete,
        Self::LengthAndCoding,
        Self::Method,
        Self::ObsoleteFold,
        Self::RepeatedFraming,
        Self::RequestLine,
        Self::Target,
        Self::TargetTooLong,
        Self::TooManyFields,
        Self::TrailersTooLarge,
        Self::TransferEncoding,
        Self::Version,
    ];

    /// One lower-case word for logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::BareLineFeed => "bare-line-feed",
            Self::ChunkData => "chunk-data",
            Self::ChunkExtension => "chunk-extension",
            Self::ChunkSize => "chunk-size",
            Self::ContentLength => "content-length",
            Self::ControlCharacter => "control-character",
            Self::FieldName => "field-name",
            Self::FieldTooLarge => "field-too-large",
            Self::Fragment => "fragment",
            Self::HeadTooLarge => "head-too-large",
            Self::Incomplete => "incomplete",
            Self::LengthAndCoding => "length-and-coding",
            Self::Method => "method",
            Self::ObsoleteFold => "obsolete-fold",
            Self::RepeatedFraming => "repeated-framing",
            Self::RequestLine => "request-line",
            Self::Target => "target",
            Self::TargetTooLong => "target-too-long",
            Self::TooManyFields => "too-many-fields",
            Self::TrailersTooLarge => "trailers-too-large",
            Self::TransferEncoding => "transfer-encoding",
            Self::Version => "version",
        }
    }

    /// The status code that says so (RFC 9110 section 15.5, RFC 6585 section 5).
    pub const fn status(self) -> u16 {
        match self {
            Self::FieldTooLarge
            | Self::HeadTooLarge
            | Self::TooManyFields
            | Self::TrailersTooLarge => 431,
            Self::TargetTooLong => 414,
            Self::Version => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed request ({})", self.word())
    }
}

impl std::error::Error for Malformed {}
