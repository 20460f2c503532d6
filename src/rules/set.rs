//! A compiled set of rules, and what is known of each.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{
    Decision, RequestMemory, RequestView, ResponseDecision, ResponseView, RuleError, RuleId,
    RuleSource, Scratch,
};
use crate::model::MitigationId;

/// How much a set may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RuleLimits {
    /// Rules of either kind.
    pub rules: usize,
}

impl Default for RuleLimits {
    fn default() -> Self {
        Self { rules: 20_000 }
    }
}

/// Where the rules of one [`RuleSource`] came from.
#[derive(Clone, Debug)]
pub struct RuleOrigin {
    /// The mitigation they belong to, if they do.
    pub mitigation: Option<MitigationId>,
    /// The file or feed, for people.
    pub source: String,
    /// Counts how often the rules acted; the judge's caller adds to it.
    pub hits: Arc<AtomicU64>,
}

impl RuleOrigin {
    /// Rules of a local file, in no mitigation, with a counter of their own.
    pub fn local(source: impl Into<String>) -> Self {
        Self {
            mitigation: None,
            source: source.into(),
            hits: Arc::default(),
        }
    }
}

/// Which message a rule judges.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RuleKind {
    /// An inbound rule.
    Request,
    /// An outbound rule.
    Response,
}

/// What is known of one rule besides how it judges.
#[derive(Clone, Debug)]
pub struct RuleInfo {
    /// Its name, as written.
    pub name: String,
    /// Which message it judges.
    pub kind: RuleKind,
    /// The mitigation it belongs to.
    pub mitigation: Option<MitigationId>,
    /// The file or feed it came from.
    pub source: String,
    /// Counts how often the rules of its source acted.
    pub hits: Arc<AtomicU64>,
}

/// A compiled set of rules, immutable; shared by all workers behind one pointer.
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<RuleInfo>,
}

impl RuleSet {
    /// Starts a set with these limits.
    pub fn builder(_limits: RuleLimits) -> RuleSetBuilder {
        RuleSetBuilder { rules: Vec::new() }
    }

    /// A set without rules: every request passes.
    pub fn empty() -> Self {
        Self { rules: Vec::new() }
    }

    /// What is known of a rule.
    ///
    /// # Panics
    ///
    /// When `id` comes from another set and this one has fewer rules.
    pub fn rule(&self, id: RuleId) -> &RuleInfo {
        &self.rules[id.0 as usize]
    }

    /// Every rule with its id, in the order of evaluation.
    pub fn rules(&self) -> impl Iterator<Item = (RuleId, &RuleInfo)> {
        (0..).map(RuleId).zip(&self.rules)
    }

    /// Judges a request.
    pub fn judge(&self, _request: &RequestView<'_>, _scratch: &mut Scratch) -> Decision {
        Decision::PASS
    }

    /// Whether any response rule exists.
    pub fn has_response_rules(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.kind == RuleKind::Response)
    }

    /// What the response rules will read of this request; call it after [`judge`](Self::judge), with the same
    /// scratch, since a rewritten URL is part of it.
    pub fn remember(&self, _request: &RequestView<'_>, _scratch: &mut Scratch) -> RequestMemory {
        RequestMemory::default()
    }

    /// Judges a response to a request that was remembered.
    pub fn judge_response(
        &self,
        _memory: &RequestMemory,
        _response: &ResponseView<'_>,
        _scratch: &mut Scratch,
    ) -> ResponseDecision {
        ResponseDecision::default()
    }
}

/// Compiles sources into a [`RuleSet`], one group of rules for each.
#[derive(Debug)]
pub struct RuleSetBuilder {
    rules: Vec<RuleInfo>,
}

impl RuleSetBuilder {
    /// Compiles a source and appends its rules as a group of their own.
    ///
    /// `stopProcessing` ends its own group only; the current URL carries over to the next group.
    ///
    /// # Errors
    ///
    /// Refuses the whole source; what was added before stays.
    pub fn add(&mut self, _source: &RuleSource, _origin: RuleOrigin) -> Result<(), RuleError> {
        Ok(())
    }

    /// The set of everything that was added.
    pub fn build(self) -> RuleSet {
        RuleSet { rules: self.rules }
    }
}
