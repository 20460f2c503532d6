//! An error with its causes, for a place that holds one line.

use std::error::Error;

/// The whole chain in one line, from the error itself to its last cause.
pub fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_in_order() {
        let inner = "x".parse::<u8>().unwrap_err();
        let error = std::io::Error::other(inner);
        // An I/O error shows its cause as its own text and has that cause's source.
        assert_eq!(explain(&error), "invalid digit found in string");
        let id = "bad".parse::<crate::model::MitigationId>().unwrap_err();
        assert!(explain(&id).starts_with("\"bad\" is no mitigation id"));
    }
}
