//! How one stream ends without an answer.

use h2::Reason;

/// A stream that is reset while the others of its connection live on (RFC 9113 section 5.4.2).
#[derive(Debug)]
pub struct StreamReset(Reason);

impl StreamReset {
    /// The request is not answered: `CANCEL`.
    pub const fn unanswered() -> Self {
        Self(Reason::CANCEL)
    }

    /// The request needs a connection of its own: `HTTP_1_1_REQUIRED`. Clients send it again by HTTP/1.1.
    pub const fn http1_required() -> Self {
        Self(Reason::HTTP_1_1_REQUIRED)
    }

    pub(super) const fn reason(&self) -> Reason {
        self.0
    }
}
