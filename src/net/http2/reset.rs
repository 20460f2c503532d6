//! How one stream ends without an answer.

use std::fmt;

use h2::Reason;

/// A stream that is reset while the others of its connection live on (RFC 9113 section 5.4.2).
///
/// The HTTP library finds the code in the source of a service's error.
#[derive(Debug)]
pub struct StreamReset(h2::Error);

impl StreamReset {
    /// The request is not answered: `CANCEL`.
    pub fn unanswered() -> Self {
        Self(Reason::CANCEL.into())
    }

    /// The request needs a connection of its own: `HTTP_1_1_REQUIRED`. Clients send it again by HTTP/1.1.
    pub fn http1_required() -> Self {
        Self(Reason::HTTP_1_1_REQUIRED.into())
    }
}

impl fmt::Display for StreamReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream is reset")
    }
}

impl std::error::Error for StreamReset {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
