//! The memory that judging works in.

/// Working memory of one worker: kept between requests so that judging allocates little.
///
/// It may serve any number of rule sets; it remembers those it served last.
#[derive(Debug, Default)]
pub struct Scratch {}

/// What response rules need to know of the request, kept until the response comes.
#[derive(Clone, Debug, Default)]
pub struct RequestMemory {}
