//! stub
mod verdict;
mod view;

pub use verdict::{Decision, FieldChange, ResponseDecision, RuleId, Verdict};
pub use view::{Fields, RequestView, ResponseView};
