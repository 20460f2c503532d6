//! What can be wrong with a response.

use std::fmt;
use std::io;

/// Why there is no response, or no more of it.
#[derive(Debug)]
pub enum ResponseError {
    /// The server closed the connection where it must not.
    Ended,
    /// The connection failed.
    Io(io::Error),
    /// What came is no proper HTTP/1; the text says what is wrong.
    Malformed(&'static str),
    /// A stream or its connection by HTTP/2 ended too early.
    Http2(h2::Error),
}

impl ResponseError {
    /// Whether the server has said that it did nothing with the request (RFC 9113 section 8.7).
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Http2(error) => {
                (error.is_go_away() && error.is_remote())
                    || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
            }
            _ => false,
        }
    }

    /// Whether the server wants the request by HTTP/1.1 instead, with which it has done nothing.
    pub fn needs_http1(&self) -> bool {
        match self {
            Self::Http2(error) => {
                error.is_reset() && error.reason() == Some(h2::Reason::HTTP_1_1_REQUIRED)
            }
            _ => false,
        }
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the connection ended too early"),
            Self::Io(_) => f.write_str("the connection failed"),
            Self::Malformed(what) => f.write_str(what),
            Self::Http2(_) => f.write_str("the stream ended too early"),
        }
    }
}

impl std::error::Error for ResponseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Http2(error) => Some(error),
            Self::Ended | Self::Malformed(_) => None,
        }
    }
}

impl From<h2::Error> for ResponseError {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
    }
}

impl From<io::Error> for ResponseError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
