//! What judging a message comes to.

use std::sync::Arc;

use super::{BodyRules, BodySkip};

/// The number of a rule in its [`RuleSet`](super::RuleSet), in the order of evaluation.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RequestView, RuleId, RuleSet, Scratch, SourceOrigin};
///
/// let text = r#"<rules><rule name="a" /><rule name="b"><action type="AbortRequest" /></rule></rules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let decision = rules.judge(&RequestView::new("GET", b"/", &[("Host", "h")]), &mut Scratch::default());
/// assert_eq!(decision.rule, Some(RuleId(1)));
/// assert_eq!(rules.rule(RuleId(1)).name, "b");
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RuleId(pub u32);

/// What becomes of a request.
///
/// # Examples
///
/// ```
/// use stopgap::rules::Verdict;
///
/// assert!(Verdict::Abort.stops());
/// assert!(!Verdict::Rewrite { target: b"/a".to_vec() }.stops());
/// assert_eq!(Verdict::Pass.name(), "pass");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// End the connection without a response (`AbortRequest`).
    Abort,
    /// Forward it as it came, but for [`Decision::fields`].
    Pass,
    /// Answer with a redirection (`Redirect`).
    Redirect {
        /// 301, 302, 303 or 307.
        status: u16,
        /// The `Location` as the rule wrote it: absolute, or a path on this host with its query.
        location: Vec<u8>,
    },
    /// Answer here (`CustomResponse`).
    Respond {
        /// The status code.
        status: u16,
        /// IIS's sub-status, which is logged and never sent.
        substatus: u16,
        /// The reason phrase; empty for the usual one. Shared with the rule, unless it reads something.
        reason: Arc<str>,
        /// The description, used as a plain-text body; shared likewise.
        description: Arc<str>,
    },
    /// Forward it with another target (`Rewrite`).
    Rewrite {
        /// Path and query, or an absolute URL.
        target: Vec<u8>,
    },
}

impl Verdict {
    /// Whether the request ends here instead of reaching an upstream.
    pub const fn stops(&self) -> bool {
        matches!(
            self,
            Self::Abort | Self::Redirect { .. } | Self::Respond { .. }
        )
    }

    /// One lower-case word for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Pass => "pass",
            Self::Redirect { .. } => "redirect",
            Self::Respond { .. } => "respond",
            Self::Rewrite { .. } => "rewrite",
        }
    }
}

/// A change to the fields of a message.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{FieldChange, RequestView, RuleSet, Scratch, SourceOrigin};
///
/// let text = r#"<rewrite>
///   <allowedServerVariables><add name="HTTP_X_PATH" /></allowedServerVariables>
///   <rules><rule name="r"><serverVariables><set name="HTTP_X_PATH" value="{URL}" /></serverVariables></rule></rules>
/// </rewrite>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let decision = rules.judge(&RequestView::new("GET", b"/a", &[("Host", "h")]), &mut Scratch::default());
/// assert_eq!(decision.fields, [FieldChange { name: "x-path".to_owned(), value: b"/a".to_vec() }]);
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldChange {
    /// The field's name in lower case.
    pub name: String,
    /// The value that replaces every value the field had.
    pub value: Vec<u8>,
}

/// The outcome of judging a request.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{Decision, RequestView, RuleSet, Scratch, SourceOrigin, Verdict};
///
/// let text = r#"<rules><rule name="r">
///   <match url="^a$" />
///   <serverVariables><set name="HTTP_X" value="1" /></serverVariables>
/// </rule></rules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let judge = |target| rules.judge(&RequestView::new("GET", target, &[("Host", "h")]), &mut Scratch::default());
/// assert_eq!(judge(b"/b"), Decision::PASS);
/// // The variable is not among the allowed ones: IIS answers with 500.50.
/// assert_eq!(judge(b"/a").failure, Some(50));
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// What becomes of the request.
    pub verdict: Verdict,
    /// The last rule whose action ran; `None` when no rule matched.
    pub rule: Option<RuleId>,
    /// Request fields to change before forwarding, in order.
    pub fields: Vec<FieldChange>,
    /// Server variables other than request fields that rules set, by name.
    pub variables: Vec<(String, String)>,
    /// A failure inside a rule at run time, which IIS answers with a 500 and this sub-status: setting a
    /// server variable that is not allowed is 500.50.
    pub failure: Option<u16>,
}

impl Decision {
    /// The decision of a set in which nothing matched.
    pub const PASS: Self = Self {
        verdict: Verdict::Pass,
        rule: None,
        fields: Vec::new(),
        variables: Vec::new(),
        failure: None,
    };
}

/// The outcome of judging a response.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RequestView, ResponseDecision, ResponseView, RuleSet, Scratch, SourceOrigin};
///
/// let text = r#"<outboundRules><rule name="r">
///   <match serverVariable="RESPONSE_Server" pattern=".+" /><action type="Rewrite" value="" />
/// </rule></outboundRules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut scratch = Scratch::default();
/// let request = RequestView::new("GET", b"/", &[("Host", "h")]);
/// let memory = rules.remember(&request, &mut scratch);
/// let response = ResponseView { status: 200, reason: "", fields: &[("Server", "IIS")] };
/// let decision = rules.judge_response(&memory, &response, &mut scratch);
/// assert_eq!((decision.fields[0].name.as_str(), &*decision.fields[0].value), ("server", &b""[..]));
/// assert_eq!(decision.status, None);
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ResponseDecision {
    /// Response fields to change, in order. Where a name stands several times, as `set-cookie` may, the first
    /// replaces every value the field had and each other adds one.
    pub fields: Vec<FieldChange>,
    /// The status code to send instead, if a rule changed it.
    pub status: Option<u16>,
    /// Every response rule whose action ran, in order; those that judge the body act as it comes.
    pub rules: Vec<RuleId>,
    /// The rules to rewrite the body by, if any apply.
    pub body: Option<BodyRules>,
    /// Why the body passes as it is although a rule wants to rewrite it.
    pub body_skip: Option<BodySkip>,
}
