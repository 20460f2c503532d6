//! Says why a message is judged as it is: every rule, every test, every input, and what failed first.
//!
//! Layer 1, inside `rules`. Called by cli through `rules`; calls set, source and what the matcher shows of itself.
//! Holds: nothing is judged a second time; the linear matcher decides, and what it did is written down here.
//! See `guide::dialect` for what the parts of a rule mean.

mod record;
mod text;

use std::ops::Range;
use std::sync::PoisonError;

use super::body::SharedNotes;
use super::error::Place;
use super::{
    BodyRules, BodySkip, Decision, RequestView, ResponseDecision, ResponseView, RuleError, RuleId,
    RuleKind, RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch,
};
use crate::canon::Decoding;
use record::Recorder;

/// Rules with their texts, ready to explain how they judge.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{
///     Explainer, RequestView, RuleEnd, RuleOrigin, RuleSource, SourceOrigin,
/// };
///
/// let text = r#"<rules><rule name="r">
///   <match url="^a$" />
///   <conditions><add input="{QUERY_STRING}" pattern="b" /></conditions>
///   <action type="AbortRequest" />
/// </rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let explainer = Explainer::new([(source, RuleOrigin::local("rules.xml"))])?;
/// let request = RequestView {
///     method: "GET",
///     target: b"/a?c",
///     version: "HTTP/1.1",
///     secure: false,
///     remote: None,
///     local: None,
///     fields: &[("Host", "mail.example")],
///     variables: &[],
/// };
/// let explanation = explainer.explain(&request, None);
/// assert_eq!(explanation.rules[0].end, RuleEnd::Condition(0));
/// assert_eq!(explanation.rules[0].conditions[0].inputs[0].value.as_deref(), Some(&b"c"[..]));
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Debug)]
pub struct Explainer {
    rules: RuleSet,
    /// One for each rule, by its id.
    texts: Vec<ExplainedRule>,
}

/// How a request was judged, and its response if there was one.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{Explainer, RequestView, RuleOrigin, RuleSource, SourceOrigin};
///
/// let text = r#"<rules><rule name="r">
///   <match url="^a" />
///   <conditions><add input="{HTTP_COOKIE}" pattern="x" /></conditions>
///   <action type="AbortRequest" />
/// </rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let explainer = Explainer::new([(source, RuleOrigin::local("rules.xml"))])?;
/// let fields = [("Host", "mail.example"), ("Cookie", "ax=1")];
/// let explanation = explainer.explain(&RequestView::new("GET", b"/%61?b", &fields), None);
///
/// assert!(explanation.decision.verdict.stops());
/// assert_eq!(explanation.rules.len(), 1);
/// assert_eq!(explanation.views[0].path, b"/a");
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The views of the target that rules were judged over, IIS's own first.
    pub views: Vec<ExplainedView>,
    /// Every enabled rule, in the order of evaluation.
    pub rules: Vec<ExplainedRule>,
    /// What the rules decided about the request.
    pub decision: Decision,
    /// The URL that rules rewrote the request to, as they wrote it.
    pub rewritten: Option<Vec<u8>>,
    /// What the rules decided about the response; `None` without one, and when the request was stopped.
    pub response: Option<ResponseDecision>,
    /// What rules for bodies made of the body; `None` without one, and when no response was judged.
    pub body: Option<ExplainedBody>,
}

/// What became of a body.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{Explainer, RequestView, ResponseView, RuleEnd, RuleOrigin, RuleSource, SourceOrigin};
///
/// let text = r#"<outboundRules><rule name="r">
///   <match pattern="secret" /><action type="Rewrite" value="word" />
/// </rule></outboundRules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let explainer = Explainer::new([(source, RuleOrigin::local("rules.xml"))])?;
/// let request = RequestView::new("GET", b"/", &[("Host", "mail.example")]);
/// let response = ResponseView { status: 200, reason: "", fields: &[("Content-Type", "text/plain")] };
/// let explanation = explainer.explain_body(&request, &response, b"a secret");
/// assert_eq!(explanation.body.expect("it was given").text, b"a word");
/// assert_eq!(explanation.rules[0].end, RuleEnd::Applied);
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExplainedBody {
    /// The body as it would be sent.
    pub text: Vec<u8>,
    /// The rules that acted on it, each once.
    pub rules: Vec<RuleId>,
    /// Why it, or a part of it, passes as it was although a rule wants to rewrite it.
    pub skip: Option<BodySkip>,
    /// How many tests came after those that are told.
    pub untold: usize,
}

/// One view of a request target.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{Explainer, RequestView, RuleOrigin, RuleSource, SourceOrigin};
///
/// let text = r#"<rules><rule name="r">
///   <match url="^a" />
///   <conditions><add input="{HTTP_COOKIE}" pattern="x" /></conditions>
///   <action type="AbortRequest" />
/// </rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let explainer = Explainer::new([(source, RuleOrigin::local("rules.xml"))])?;
/// let fields = [("Host", "mail.example"), ("Cookie", "ax=1")];
/// let explanation = explainer.explain(&RequestView::new("GET", b"/%61?b", &fields), None);
///
/// let view = &explanation.views[0];
/// assert_eq!((&*view.path, view.query.as_deref()), (&b"/a"[..], Some(&b"b"[..])));
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExplainedView {
    /// How it was made.
    pub decoding: Decoding,
    /// The path, with its leading slash.
    pub path: Vec<u8>,
    /// The query, without its `?`.
    pub query: Option<Vec<u8>>,
}

/// One rule, and how far its judgement came.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{Explainer, RequestView, RuleOrigin, RuleSource, SourceOrigin, RuleEnd};
///
/// let text = r#"<rules><rule name="r">
///   <match url="^a" />
///   <conditions><add input="{HTTP_COOKIE}" pattern="x" /></conditions>
///   <action type="AbortRequest" />
/// </rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let explainer = Explainer::new([(source, RuleOrigin::local("rules.xml"))])?;
/// let fields = [("Host", "mail.example"), ("Cookie", "ax=1")];
/// let explanation = explainer.explain(&RequestView::new("GET", b"/%61?b", &fields), None);
///
/// let rule = &explanation.rules[0];
/// assert_eq!((rule.name.as_str(), rule.line, rule.end), ("r", 1, RuleEnd::Applied));
/// assert_eq!(rule.action, "AbortRequest");
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ExplainedRule {
    /// Its number.
    pub id: RuleId,
    /// Its name.
    pub name: String,
    /// Which message it judges.
    pub kind: RuleKind,
    /// The file or feed it stands in.
    pub file: String,
    /// Its line there, from 1.
    pub line: usize,
    /// The name of its precondition, and the tests of that; response rules only.
    pub pre_condition: Option<(String, ExplainedConditions)>,
    /// What `<match>` tests; `None` for a rule without one, which sees every URL.
    pub subject: ExplainedTest,
    /// Its conditions.
    pub conditions: ExplainedConditions,
    /// What it does, in a few words.
    pub action: String,
    /// How its judgement ended.
    pub end: RuleEnd,
}

/// Conditions, and how they are joined.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{Explainer, RequestView, RuleOrigin, RuleSource, SourceOrigin};
///
/// let text = r#"<rules><rule name="r">
///   <match url="^a" />
///   <conditions><add input="{HTTP_COOKIE}" pattern="x" /></conditions>
///   <action type="AbortRequest" />
/// </rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let explainer = Explainer::new([(source, RuleOrigin::local("rules.xml"))])?;
/// let fields = [("Host", "mail.example"), ("Cookie", "ax=1")];
/// let explanation = explainer.explain(&RequestView::new("GET", b"/%61?b", &fields), None);
///
/// let conditions = &explanation.rules[0].conditions;
/// assert!(!conditions.any);
/// assert_eq!(conditions[0].question, "matches \"x\"");
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExplainedConditions {
    /// Whether one of them is enough (`MatchAny`).
    pub any: bool,
    /// In the order in which they are tested.
    pub list: Vec<ExplainedTest>,
}

impl std::ops::Deref for ExplainedConditions {
    type Target = [ExplainedTest];

    fn deref(&self) -> &[ExplainedTest] {
        &self.list
    }
}

/// One test of a rule.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{Explainer, RequestView, RuleOrigin, RuleSource, SourceOrigin};
///
/// let text = r#"<rules><rule name="r">
///   <match url="^a" />
///   <conditions><add input="{HTTP_COOKIE}" pattern="x" /></conditions>
///   <action type="AbortRequest" />
/// </rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let explainer = Explainer::new([(source, RuleOrigin::local("rules.xml"))])?;
/// let fields = [("Host", "mail.example"), ("Cookie", "ax=1")];
/// let explanation = explainer.explain(&RequestView::new("GET", b"/%61?b", &fields), None);
///
/// let test = &explanation.rules[0].subject;
/// assert_eq!((test.input.as_str(), test.question.as_str()), ("url", "matches \"^a\""));
/// assert!(test.inputs[0].holds);
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExplainedTest {
    /// What is read, as written: `url`, a text with references such as `{HTTP_HOST}`, or `RESPONSE_` and a name.
    pub input: String,
    /// What is asked of it, such as `matches "^a"`.
    pub question: String,
    /// Every input that was tested, in order; empty when the judgement ended before.
    pub inputs: Vec<ExplainedInput>,
}

/// One input of a test, and how the test ended.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{Explainer, RequestView, RuleOrigin, RuleSource, SourceOrigin};
///
/// let text = r#"<rules><rule name="r">
///   <match url="^a" />
///   <conditions><add input="{HTTP_COOKIE}" pattern="x" /></conditions>
///   <action type="AbortRequest" />
/// </rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let explainer = Explainer::new([(source, RuleOrigin::local("rules.xml"))])?;
/// let fields = [("Host", "mail.example"), ("Cookie", "ax=1")];
/// let explanation = explainer.explain(&RequestView::new("GET", b"/%61?b", &fields), None);
///
/// let input = &explanation.rules[0].conditions[0].inputs[0];
/// assert_eq!((input.value.as_deref(), input.span.clone()), (Some(&b"ax=1"[..]), Some(1..2)));
/// let url = &explanation.rules[0].subject.inputs[0];
/// assert_eq!((url.value.as_deref(), url.sent.as_deref()), (Some(&b"a"[..]), Some(&b"%61"[..])));
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExplainedInput {
    /// What of a body it is, such as `a href`; `None` for everything else.
    pub place: Option<String>,
    /// The view it is of; `None` for what has no views, and for a URL as a rule wrote it.
    pub decoding: Option<Decoding>,
    /// The same before decoding, where that differs.
    pub sent: Option<Vec<u8>>,
    /// What was tested; `None` for a text that grew too long.
    pub value: Option<Vec<u8>>,
    /// Where the pattern matched, in octets of the value.
    pub span: Option<Range<usize>>,
    /// Whether the budget of steps ran out before that was known.
    pub out_of_steps: bool,
    /// Whether the test held, `negate` included.
    pub holds: bool,
}

/// How the judgement of one rule ended.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{Explainer, RequestView, RuleOrigin, RuleSource, SourceOrigin, RuleEnd};
///
/// let text = r#"<rules><rule name="r">
///   <match url="^a" />
///   <conditions><add input="{HTTP_COOKIE}" pattern="x" /></conditions>
///   <action type="AbortRequest" />
/// </rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let explainer = Explainer::new([(source, RuleOrigin::local("rules.xml"))])?;
/// let fields = [("Host", "mail.example"), ("Cookie", "ax=1")];
/// let explanation = explainer.explain(&RequestView::new("GET", b"/%61?b", &fields), None);
///
/// assert_eq!(explanation.rules[0].end, RuleEnd::Applied);
/// let other = explainer.explain(&RequestView::new("GET", b"/a", &[("Host", "h")]), None);
/// assert_eq!(other.rules[0].end, RuleEnd::Condition(0));
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RuleEnd {
    /// It applied.
    Applied,
    /// It judges the body of the response as that comes, and none was given.
    AwaitsBody,
    /// The body is none that it judges: no text of its kind, or one that passes as it is.
    BodyPasses,
    /// This condition was the first that failed.
    Condition(usize),
    /// None of its conditions held, of which one would have been enough.
    Conditions,
    /// It applied and ended in an error 500 with this sub-status.
    Failed(u16),
    /// `<match>` failed.
    Match,
    /// The request does not lie in its scope.
    OutOfScope,
    /// Its precondition failed.
    PreCondition,
    /// It was not reached: judgement was over before, or a response was not in its scope.
    Unreached,
}

impl Explainer {
    /// Compiles these sources, a group of rules for each.
    ///
    /// # Errors
    ///
    /// Refuses everything for the first rule that cannot be compiled.
    pub fn new(
        sources: impl IntoIterator<Item = (RuleSource, RuleOrigin)>,
    ) -> Result<Self, RuleError> {
        let mut builder = RuleSet::builder(RuleLimits::default());
        let mut texts = Vec::new();
        for (source, origin) in sources {
            builder.add(&source, origin)?;
            text::describe(&source, &mut texts)?;
        }
        Ok(Self {
            rules: builder.build(),
            texts,
        })
    }

    /// What is known of the rules.
    pub const fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Judges a request, and the head of a response to it, and says how.
    pub fn explain(
        &self,
        request: &RequestView<'_>,
        response: Option<&ResponseView<'_>>,
    ) -> Explanation {
        self.explain_all(request, response, None)
    }

    /// Judges a request, and a response to it with its body, and says how.
    pub fn explain_body(
        &self,
        request: &RequestView<'_>,
        response: &ResponseView<'_>,
        body: &[u8],
    ) -> Explanation {
        self.explain_all(request, Some(response), Some(body))
    }

    fn explain_all(
        &self,
        request: &RequestView<'_>,
        response: Option<&ResponseView<'_>>,
        body: Option<&[u8]>,
    ) -> Explanation {
        let mut scratch = Scratch::default();
        let mut recorder = Recorder::new(&self.rules, self.texts.clone());
        let decision = self
            .rules
            .judge_watched(request, &mut scratch, &mut recorder);
        // Without request rules, nothing has asked for them yet.
        scratch.state.see();
        let views = scratch.state.original.views();
        let views = views.filter_map(|view| {
            Some(ExplainedView {
                decoding: view.decoding()?,
                path: view.path().to_vec(),
                query: view.query().map(<[u8]>::to_vec),
            })
        });
        let views = views.collect();
        let rewritten = scratch.rewritten_url().map(<[u8]>::to_vec);
        let goes_on = !decision.verdict.stops() && decision.failure.is_none();
        let response = response.filter(|_| goes_on).map(|response| {
            let memory = self.rules.remember(request, &mut scratch);
            self.rules
                .judge_response_watched(&memory, response, &mut scratch, &mut recorder)
        });
        let body = body.zip(response.as_ref()).map(|(body, response)| {
            let rules = response.body.clone();
            body_explained(rules, response.body_skip, body, &mut recorder)
        });
        Explanation {
            views,
            rules: recorder.finish(),
            decision,
            rewritten,
            response,
            body,
        }
    }
}

/// Rewrites the body and tells of it.
fn body_explained(
    rules: Option<BodyRules>,
    skip: Option<BodySkip>,
    body: &[u8],
    recorder: &mut Recorder<'_>,
) -> ExplainedBody {
    let Some(mut rules) = rules else {
        recorder.body_passes();
        return ExplainedBody {
            text: body.to_vec(),
            skip,
            ..ExplainedBody::default()
        };
    };
    let notes = SharedNotes::default();
    rules.notes = Some(SharedNotes::clone(&notes));
    recorder.body_judged(rules.ids());
    let (text, acted, skipped) = rules.rewrite(body);
    let notes = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
    recorder.body(notes.list);
    recorder.body_passes();
    ExplainedBody {
        text,
        rules: acted,
        skip: skipped.or(skip),
        untold: notes.untold,
    }
}
