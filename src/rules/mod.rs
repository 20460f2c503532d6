//! Turns IIS URL Rewrite text into a compiled set of rules that judges requests and responses.
//!
//! Layer 1. Called by filter, lab and control; calls canon, xml and model.
//! Holds: pure, without clock, files, threads, or locks that are ever waited for; budgets are counted in steps and bytes;
//!        a rule set is accepted whole or refused whole; nothing in the text is silently ignored;
//!        messages are bytes throughout.
//! See `guide::dialect` for what each construct means, and for the choices where IIS is not documented.

mod body;
mod compile;
mod cost;
mod error;
mod explain;
mod matcher;
mod outbound;
mod parse;
pub mod pattern;
mod plan;
mod recent;
mod scratch;
mod set;
mod source;
mod state;
mod target;
mod template;
mod verdict;
mod view;

pub use body::{BodyRewriter, BodyRules, BodySkip, MAX_PATTERN_BODY};
pub use cost::RuleCost;
pub use error::RuleError;
pub use explain::{
    ExplainedBody, ExplainedConditions, ExplainedInput, ExplainedRule, ExplainedTest,
    ExplainedView, Explainer, Explanation, RuleEnd,
};
pub use plan::FileTree;
pub use recent::Recent;
pub use scratch::{RequestMemory, Scratch};
pub use set::{RuleInfo, RuleKind, RuleLimits, RuleOrigin, RuleSet, RuleSetBuilder};
pub use source::{Dialect, RuleSource, SourceOrigin};
pub use verdict::{Decision, FieldChange, ResponseDecision, RuleId, Verdict};
pub(crate) use view::is_same_name;
pub use view::{Fields, RequestView, ResponseView};
