//! A compiled set as data: what the matchers walk.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::RuleId;
use super::pattern::Pattern;
use super::template::{Bound, RewriteMap, Variable};

/// Answers whether paths exist, for conditions of type `IsFile` and `IsDirectory`.
///
/// Asked while a request is judged, on the thread that judges it, once for each condition of that kind that the request
/// gets to. A path is whatever the condition's input came to, so an answer must not let it lead out of the root.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use stopgap::rules::{
///     FileTree, RequestView, RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch, SourceOrigin,
/// };
///
/// #[derive(Debug)]
/// struct Only;
///
/// impl FileTree for Only {
///     fn is_file(&self, path: &[u8]) -> bool {
///         path == b"/srv/www/a.txt"
///     }
///
///     fn is_directory(&self, path: &[u8]) -> bool {
///         path == b"/srv/www/"
///     }
/// }
///
/// let text = r#"<rules><rule name="front page">
///   <conditions><add input="{REQUEST_FILENAME}" matchType="IsFile" negate="true" /></conditions>
///   <action type="Redirect" url="/" />
/// </rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut builder = RuleSet::builder(RuleLimits::default())
///     .with_document_root("/srv/www", Some(Arc::new(Only)));
/// builder.add(&source, RuleOrigin::local("rules.xml"))?;
/// let rules = builder.build();
/// let mut stops = |target| {
///     let request = RequestView::new("GET", target, &[("Host", "h")]);
///     rules.judge(&request, &mut Scratch::default()).verdict.stops()
/// };
/// assert!(!stops(b"/a.txt"));
/// assert!(stops(b"/b.txt"));
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
pub trait FileTree: fmt::Debug + Send + Sync {
    /// Whether a file is at this path, below the document root or not.
    fn is_file(&self, path: &[u8]) -> bool;

    /// Whether a directory is at this path.
    fn is_directory(&self, path: &[u8]) -> bool;
}

/// Everything that judging reads.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) groups: Vec<Group>,
    pub(crate) request_rules: Vec<RequestPlan>,
    pub(crate) response_rules: Vec<ResponsePlan>,
    pub(crate) pre_conditions: Vec<ConditionsPlan>,
    pub(crate) patterns: Vec<Pattern>,
    /// Texts that read neither groups nor the response: each has one value while the URL stays.
    pub(crate) inputs: Vec<Bound>,
    pub(crate) maps: Vec<RewriteMap>,
    /// What response rules read of the request.
    pub(crate) remembered: Vec<Variable>,
    /// What rules for bodies read, of the request and of the response's head.
    pub(crate) body_variables: Vec<Variable>,
    /// Without a slash at its end.
    pub(crate) document_root: Option<Vec<u8>>,
    pub(crate) files: Option<Arc<dyn FileTree>>,
    /// Whether any rule wants more views than IIS's own.
    pub(crate) is_hardened: bool,
}

/// The rules of one source.
#[derive(Debug)]
pub(crate) struct Group {
    /// The path prefix below which they apply; empty for everywhere.
    pub(crate) scope: Vec<u8>,
    /// Global rules, then distributed ones: `stopProcessing` ends one list.
    pub(crate) lists: [Range<usize>; 2],
    pub(crate) responses: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct RequestPlan {
    pub(crate) id: RuleId,
    /// Whether it is judged over every view.
    pub(crate) hardened: bool,
    /// Whether it refuses requests: then a pattern that runs out of steps counts in its favour.
    pub(crate) refuses: bool,
    pub(crate) stop_processing: bool,
    pub(crate) keeps_escapes: bool,
    /// Without one, every URL matches.
    pub(crate) url: Option<PatternTest>,
    pub(crate) conditions: ConditionsPlan,
    pub(crate) set: Vec<SetPlan>,
    pub(crate) action: ActionPlan,
    /// Whether anything reads `{R:n}`.
    pub(crate) reads_rule_groups: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PatternTest {
    /// Its number in [`Plan::patterns`].
    pub(crate) pattern: u32,
    pub(crate) negate: bool,
}

impl PatternTest {
    /// The pattern that is tested, among those of the plan.
    pub(crate) fn of<'p>(&self, patterns: &'p [Pattern]) -> &'p Pattern {
        &patterns[self.pattern as usize]
    }
}

#[derive(Debug, Default)]
pub(crate) struct ConditionsPlan {
    pub(crate) list: Vec<ConditionPlan>,
    pub(crate) any: bool,
    pub(crate) track_all_captures: bool,
    /// Whether anything reads `{C:n}`.
    pub(crate) reads_groups: bool,
}

#[derive(Debug)]
pub(crate) struct ConditionPlan {
    pub(crate) input: Input,
    pub(crate) test: TestPlan,
    /// Whether each view has an input of its own.
    pub(crate) over_views: bool,
}

#[derive(Debug)]
pub(crate) enum Input {
    Own(Bound),
    /// Its number in [`Plan::inputs`].
    Shared(usize),
}

#[derive(Debug)]
pub(crate) enum TestPlan {
    IsDirectory { negate: bool },
    IsFile { negate: bool },
    Pattern(PatternTest),
}

impl TestPlan {
    /// The pattern that is tested, if one is.
    pub(crate) const fn pattern(&self) -> Option<PatternTest> {
        match self {
            Self::IsDirectory { .. } | Self::IsFile { .. } => None,
            Self::Pattern(test) => Some(*test),
        }
    }
}

#[derive(Debug)]
pub(crate) struct SetPlan {
    pub(crate) target: SetTarget,
    pub(crate) value: Bound,
    pub(crate) replace: bool,
    /// Whether the name is on the list of allowed ones, or the rule is global.
    pub(crate) allowed: bool,
}

#[derive(Debug)]
pub(crate) enum SetTarget {
    /// A request field; the name in lower case.
    Field(String),
    Variable {
        name: String,
        variable: Variable,
    },
}

#[derive(Debug)]
pub(crate) enum ActionPlan {
    Abort,
    None,
    Redirect {
        url: Bound,
        append_query: bool,
        status: u16,
    },
    /// Shared by all rules that answer alike.
    Respond(Arc<RespondPlan>),
    Rewrite {
        url: Bound,
        append_query: bool,
    },
}

#[derive(Debug, Eq, Hash, PartialEq)]
pub(crate) struct RespondPlan {
    pub(crate) status: u16,
    pub(crate) substatus: u16,
    pub(crate) reason: AnswerText,
    pub(crate) description: AnswerText,
}

/// A text of an answer.
#[derive(Debug, Eq, Hash, PartialEq)]
pub(crate) enum AnswerText {
    /// It reads nothing.
    Fixed(Arc<str>),
    /// It is expanded for each request.
    Read(Bound),
}

#[derive(Debug)]
pub(crate) struct ResponsePlan {
    pub(crate) id: RuleId,
    /// Its number in [`Plan::pre_conditions`].
    pub(crate) pre_condition: Option<usize>,
    pub(crate) subject: SubjectPlan,
    pub(crate) pattern: PatternTest,
    pub(crate) conditions: ConditionsPlan,
    /// The new value, and whether it replaces one that exists.
    pub(crate) value: Option<(Bound, bool)>,
    pub(crate) stop_processing: bool,
}

#[derive(Debug)]
pub(crate) enum SubjectPlan {
    Body(BodyPlan),
    Field(String),
    Status,
}

/// What of a body a rule judges.
#[derive(Debug)]
pub(crate) enum BodyPlan {
    /// Elements, each with an attribute; in lower case.
    Attributes(Vec<(String, String)>),
    /// The whole text, in which at most so many matches are replaced; 0 for all.
    Text { occurrences: u64 },
}
