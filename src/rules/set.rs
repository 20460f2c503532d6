//! A compiled set of rules, and what is known of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::compile::Compiler;
use super::error::Kind;
use super::matcher::indexed::Index;
use super::matcher::linear::Judge;
use super::matcher::{Unwatched, Watch};
use super::outbound::ResponseJudge;
use super::pattern::Pattern;
use super::plan::{FileTree, PatternTest, Plan, SubjectPlan};
use super::scratch::Parts;
use super::state::RequestSight;
use super::template::Sight;
use super::{
    Decision, RequestMemory, RequestView, ResponseDecision, ResponseView, RuleError, RuleId,
    RuleSource, Scratch, SourceOrigin,
};
use crate::canon::path_has_prefix;
use crate::model::MitigationId;

/// How much a set may hold.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin};
///
/// let text = r#"<rules><rule name="a" /><rule name="b" /></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut builder = RuleSet::builder(RuleLimits { rules: 1, ..RuleLimits::default() });
/// assert!(builder.add(&source, RuleOrigin::local("rules.xml")).is_err());
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RuleLimits {
    /// Rules of either kind.
    pub rules: usize,
    /// Bytes that the rules occupy, about. What each worker builds to search with is bounded beside it.
    pub memory: usize,
    /// Steps of the program that finds the rules of which no text must be in a request: one for each character of their
    /// patterns, where a count stands for as many. Every byte of an input is met with the steps that are under way.
    pub steps: usize,
    /// States of the automata of patterns that every request is searched for, one pattern after the other.
    pub states: usize,
}

impl Default for RuleLimits {
    fn default() -> Self {
        Self {
            rules: 20_000,
            memory: 256 * 1024 * 1024,
            steps: 32 * 1024,
            states: 128 * 1024,
        }
    }
}

/// Where the rules of one [`RuleSource`] came from.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use stopgap::rules::RuleOrigin;
///
/// let local = RuleOrigin::local("rules.xml");
/// let of_mitigation = RuleOrigin {
///     mitigation: Some("M1.1".parse()?),
///     source: "feed".to_owned(),
///     hits: Arc::clone(&local.hits),
/// };
/// assert_eq!(of_mitigation.mitigation.map(|id| id.to_string()).as_deref(), Some("M1.1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RuleKind, RuleSet, SourceOrigin};
///
/// let text = r#"<rewrite>
///   <rules><rule name="in" /></rules>
///   <outboundRules><rule name="out"><match serverVariable="RESPONSE_X" pattern=".*" /></rule></outboundRules>
/// </rewrite>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let kinds: Vec<_> = rules.rules().map(|(_, rule)| rule.kind).collect();
/// assert_eq!(kinds, [RuleKind::Request, RuleKind::Response]);
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RuleKind {
    /// An inbound rule.
    Request,
    /// An outbound rule.
    Response,
}

/// What is known of one rule besides how it judges.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RuleId, RuleSet, SourceOrigin};
///
/// let rules = RuleSet::parse(r#"<rules><rule name="a" /></rules>"#, &SourceOrigin::named("rules.xml"))?;
/// let info = rules.rule(RuleId(0));
/// assert_eq!((info.name.as_str(), info.origin.source.as_str()), ("a", "rules.xml"));
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RuleInfo {
    /// Its name, as written.
    pub name: String,
    /// Which message it judges.
    pub kind: RuleKind,
    /// Where it came from, with the other rules of its source.
    pub origin: Arc<RuleOrigin>,
}

/// A compiled set of rules, immutable; shared by all workers behind one pointer.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{
///     RequestView, RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch, SourceOrigin, Verdict,
/// };
///
/// let text = r#"<rules>
///   <rule name="old paths">
///     <match url="^old/(.*)" />
///     <action type="Redirect" url="/new/{R:1}" redirectType="Found" />
///   </rule>
/// </rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut builder = RuleSet::builder(RuleLimits::default());
/// builder.add(&source, RuleOrigin::local("rules.xml"))?;
/// let rules = builder.build();
///
/// let request = RequestView {
///     method: "GET",
///     target: b"/old/a?b=c",
///     version: "HTTP/1.1",
///     secure: true,
///     remote: None,
///     local: None,
///     fields: &[("Host", "mail.example")],
///     variables: &[],
/// };
/// let decision = rules.judge(&request, &mut Scratch::default());
/// assert_eq!(decision.verdict, Verdict::Redirect { status: 302, location: b"/new/a?b=c".to_vec() });
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Debug)]
pub struct RuleSet {
    /// Tells this set from every other of the process, for caches that outlive it.
    number: u64,
    plan: Arc<Plan>,
    index: Index,
    rules: Vec<RuleInfo>,
    headroom: RuleLimits,
}

impl RuleSet {
    /// Starts a set with these limits.
    pub fn builder(limits: RuleLimits) -> RuleSetBuilder {
        RuleSetBuilder {
            limits,
            compiler: Compiler::new(limits),
        }
    }

    /// Reads one text and compiles it, with the default limits and without a document root; [`builder`](Self::builder)
    /// makes sets of several texts.
    ///
    /// # Errors
    ///
    /// Refuses the whole text for the first construct that is malformed, unknown or unsupported.
    pub fn parse(text: &str, origin: &SourceOrigin) -> Result<Self, RuleError> {
        let source = RuleSource::parse(text, origin)?;
        let mut builder = Self::builder(RuleLimits::default());
        builder.add(&source, RuleOrigin::local(origin.name.as_str()))?;
        Ok(builder.build())
    }

    /// A set without rules: every request passes.
    pub fn empty() -> Self {
        Self::builder(RuleLimits::default()).build()
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
    pub fn judge(&self, request: &RequestView<'_>, scratch: &mut Scratch) -> Decision {
        self.begin(request, scratch, Unwatched)
            .map_or(Decision::PASS, |judge| self.index.judge(judge))
    }

    /// Judges a request as [`judge`](Self::judge) does, but asks `spares` of each rule that applies whether it is to let
    /// the request pass all the same: then the request is judged as if that rule did not apply.
    pub fn judge_sparing<'a>(
        &'a self,
        request: &'a RequestView<'a>,
        scratch: &'a mut Scratch,
        spares: &'a mut (dyn FnMut(RuleId) -> bool + 'a),
    ) -> Decision {
        let Some(mut judge) = self.begin(request, scratch, Unwatched) else {
            return Decision::PASS;
        };
        judge.spares = Some(spares);
        self.index.judge(judge)
    }

    /// Judges a request as [`judge`](Self::judge) does, trying every rule in its order: slow, and too simple to be
    /// wrong, it is what tests compare with.
    pub fn judge_linear(&self, request: &RequestView<'_>, scratch: &mut Scratch) -> Decision {
        self.judge_watched(request, scratch, Unwatched)
    }

    /// Judges a request linearly while `watch` looks on.
    pub(crate) fn judge_watched<W: Watch>(
        &self,
        request: &RequestView<'_>,
        scratch: &mut Scratch,
        watch: W,
    ) -> Decision {
        let judge = self.begin(request, scratch, watch);
        judge.map_or(Decision::PASS, |judge| {
            judge.state.see();
            // All rules together may cost what those that are found must not.
            judge.memory.patterns.begin_unbounded();
            judge.judge()
        })
    }

    /// A request under judgement, whose views are still to be made; `None` when there are no rules to judge by.
    fn begin<'a, W>(
        &'a self,
        request: &'a RequestView<'a>,
        scratch: &'a mut Scratch,
        watch: W,
    ) -> Option<Judge<'a, W>> {
        let Parts {
            state,
            work,
            memory,
            recent,
        } = scratch.parts(self.number);
        state.begin(self.number, request.target, self.plan.is_hardened);
        memory.patterns.begin();
        if self.plan.request_rules.is_empty() {
            return None;
        }
        Some(Judge {
            plan: &self.plan,
            request,
            state,
            work,
            memory,
            recent,
            spares: None,
            watch,
        })
    }

    /// What the limits of this set leave for another one by which the same requests are judged.
    pub const fn headroom(&self) -> RuleLimits {
        self.headroom
    }

    /// About how many bytes the index over the request rules occupies.
    pub fn index_memory(&self) -> usize {
        self.index.memory()
    }

    pub(super) const fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The pattern of a test.
    pub(crate) fn pattern(&self, test: PatternTest) -> &Pattern {
        test.of(&self.plan.patterns)
    }

    /// Whether any response rule exists.
    pub fn has_response_rules(&self) -> bool {
        !self.plan.response_rules.is_empty()
    }

    /// What a response rule changes: the name of a field, `status` or `body`; `None` for a request rule.
    pub fn subject(&self, id: RuleId) -> Option<&str> {
        let rules = &self.plan.response_rules;
        let at = rules.binary_search_by_key(&id, |rule| rule.id).ok()?;
        Some(match &rules[at].subject {
            SubjectPlan::Body(_) => "body",
            SubjectPlan::Field(name) => name,
            SubjectPlan::Status => "status",
        })
    }

    /// What the response rules will read of this request; call it after [`judge`](Self::judge), with the same
    /// scratch, since a rewritten URL is part of it.
    pub fn remember(&self, request: &RequestView<'_>, scratch: &mut Scratch) -> RequestMemory {
        let state = scratch.parts(self.number).state;
        if state.set != self.number || state.original.raw() != request.target {
            state.begin(self.number, request.target, self.plan.is_hardened);
        }
        state.see();
        let sight = RequestSight {
            request,
            state,
            view: 0,
            document_root: self.plan.document_root.as_deref().unwrap_or_default(),
        };
        let value = |variable| {
            let mut value = Vec::new();
            sight.read(variable, &mut value);
            value
        };
        let path = state.original.view(0).path();
        let groups = self.plan.groups.iter();
        RequestMemory {
            set: self.number,
            in_scope: groups
                .map(|group| path_has_prefix(path, &group.scope))
                .collect(),
            is_head: request.method == "HEAD",
            values: self.plan.remembered.iter().map(value).collect(),
        }
    }

    /// Whether a rule may want to rewrite the body of a response to this request.
    pub fn may_rewrite_body(&self, memory: &RequestMemory) -> bool {
        let mut groups = self.plan.groups.iter().zip(&memory.in_scope);
        memory.set == self.number
            && groups.any(|(group, in_scope)| {
                let mut rules = self.plan.response_rules[group.responses.clone()].iter();
                *in_scope && rules.any(|rule| matches!(rule.subject, SubjectPlan::Body(_)))
            })
    }

    /// Judges a response to a request that was remembered.
    ///
    /// A memory that another set made changes nothing.
    pub fn judge_response(
        &self,
        memory: &RequestMemory,
        response: &ResponseView<'_>,
        scratch: &mut Scratch,
    ) -> ResponseDecision {
        self.judge_response_watched(memory, response, scratch, Unwatched)
    }

    /// Judges a response as [`judge_response`](Self::judge_response) does, but asks `spares` of each rule that would
    /// change it, or wants its body, whether it is to leave it alone.
    pub fn judge_response_sparing(
        &self,
        memory: &RequestMemory,
        response: &ResponseView<'_>,
        scratch: &mut Scratch,
        spares: &mut dyn FnMut(RuleId) -> bool,
    ) -> ResponseDecision {
        self.respond(memory, response, scratch, Unwatched, Some(spares))
    }

    /// Judges a response while `watch` looks on.
    pub(crate) fn judge_response_watched<W: Watch>(
        &self,
        memory: &RequestMemory,
        response: &ResponseView<'_>,
        scratch: &mut Scratch,
        watch: W,
    ) -> ResponseDecision {
        self.respond(memory, response, scratch, watch, None)
    }

    fn respond<W: Watch>(
        &self,
        memory: &RequestMemory,
        response: &ResponseView<'_>,
        scratch: &mut Scratch,
        watch: W,
        spares: Option<&mut dyn FnMut(RuleId) -> bool>,
    ) -> ResponseDecision {
        if memory.set != self.number {
            return ResponseDecision::default();
        }
        let Parts {
            work,
            memory: set_memory,
            ..
        } = scratch.parts(self.number);
        set_memory.patterns.begin();
        let judge = ResponseJudge {
            plan: &self.plan,
            request: memory,
            response,
            work,
            memory: set_memory,
            watch,
            spares,
            decision: ResponseDecision::default(),
            status_line: None,
        };
        judge.judge()
    }
}

/// Compiles sources into a [`RuleSet`], one group of rules for each.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin};
///
/// let mut builder = RuleSet::builder(RuleLimits::default());
/// for (name, text) in [("a.xml", r#"<rules><rule name="r" /></rules>"#), ("b.xml", r#"<rules><rule name="r" /></rules>"#)] {
///     let source = RuleSource::parse(text, &SourceOrigin::named(name))?;
///     // Names need to differ in one source only.
///     builder.add(&source, RuleOrigin::local(name))?;
/// }
/// assert_eq!(builder.build().rules().count(), 2);
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Debug)]
pub struct RuleSetBuilder {
    limits: RuleLimits,
    compiler: Compiler,
}

impl RuleSetBuilder {
    /// Names server variables that the caller will give in [`RequestView::variables`].
    #[must_use]
    pub fn with_variables(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let names = names
            .into_iter()
            .map(|name| name.as_ref().to_ascii_uppercase());
        self.compiler.given.extend(names);
        self
    }

    /// Says where on disk the site's root is: `{REQUEST_FILENAME}` and its like are refused without it.
    ///
    /// Without `files`, no file and no directory exists.
    #[must_use]
    pub fn with_document_root(
        mut self,
        root: impl Into<Vec<u8>>,
        files: Option<Arc<dyn FileTree>>,
    ) -> Self {
        let mut root = root.into();
        while root.last() == Some(&b'/') {
            root.pop();
        }
        self.compiler.plan.document_root = Some(root);
        self.compiler.plan.files = files;
        self
    }

    /// Compiles a source and appends its rules as a group of their own.
    ///
    /// `stopProcessing` ends its own group only, and in it either the global rules or the others; the current URL
    /// carries over to the next group.
    ///
    /// # Errors
    ///
    /// Refuses the whole source; what was added before stays.
    pub fn add(&mut self, source: &RuleSource, origin: RuleOrigin) -> Result<(), RuleError> {
        let count = self.compiler.infos.len();
        // To count them takes a while, so it is left out where it does not matter.
        if count + source.most_rules() > self.limits.rules {
            let fitting = self.limits.rules.saturating_sub(count);
            if let Some((name, place)) = source.enabled().get(fitting) {
                let what = "the rules of a set";
                let limit = self.limits.rules;
                return Err(RuleError::new(place, Kind::Limit { what, limit }).in_rule(name));
            }
        }
        self.compiler.add(source, origin)
    }

    /// The set of everything that was added.
    pub fn build(self) -> RuleSet {
        let headroom = self.compiler.headroom(self.limits);
        let (plan, requirements, rules) = self.compiler.finish();
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        RuleSet {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            index: Index::new(&plan, requirements),
            plan: Arc::new(plan),
            rules,
            headroom,
        }
    }
}
