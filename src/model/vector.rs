//! A vector: a request that a mitigation must stop, or must let pass.

/// One request, and what must become of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vector {
    /// What must become of it.
    pub expectation: Expectation,
    /// The request method.
    pub method: String,
    /// The request target as sent: path and query, percent-encoded.
    pub target: String,
    /// Request fields in order. Without a `Host` among them, `localhost` is sent.
    pub fields: Vec<(String, String)>,
    /// What the upstream answers, for response rules.
    pub response: Option<CannedResponse>,
    /// What the response must carry, for response rules.
    pub expected: Vec<FieldExpectation>,
    /// Line of the vector in its document, from 1.
    pub line: usize,
}

/// What must become of a vector's request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expectation {
    /// The mitigation leaves request and response alone.
    Pass,
    /// The mitigation stops the request; with a canned response, it changes the response as expected.
    Stop,
}

/// A response that stands in for the upstream's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CannedResponse {
    /// The status code.
    pub status: u16,
    /// Response fields in order.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// What a response must carry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FieldExpectation {
    /// The body holds this text.
    BodyFragment(String),
    /// The field has exactly this value.
    Field {
        /// The field's name.
        name: String,
        /// Its whole value.
        value: String,
    },
}
