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
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the connection ended too early"),
            Self::Io(_) => f.write_str("the connection failed"),
            Self::Malformed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for ResponseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Ended | Self::Malformed(_) => None,
        }
    }
}

impl From<io::Error> for ResponseError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
