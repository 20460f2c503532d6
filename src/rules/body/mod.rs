//! Rewrites response bodies as they stream through: attributes of HTML elements, and patterns over a whole text.
//!
//! Layer 1, inside `rules`. Called by filter and lab through `rules`; calls plan, pattern and template.
//! Holds: a body that is not rewritten comes out as it went in, octet by octet;
//!        memory is bounded by the limits below, whatever comes in.
//! See `guide::dialect` for which bodies are rewritten, and how.

mod judge;
mod notes;
mod scope;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use lol_html::send::{ElementContentHandlers, HtmlRewriter, Settings};
use lol_html::{AsciiCompatibleEncoding, MemorySettings, Selector};

use super::RuleId;
use super::plan::Plan;
use judge::BodyJudge;
pub(super) use notes::{Note, SharedNotes, TestNote};
pub(super) use scope::scope;

/// The longest body that patterns without `filterByTags` are searched in, in octets: such a body is held whole.
///
/// # Examples
///
/// ```
/// // A body of this length is searched; one octet more passes as it is, and is counted.
/// assert_eq!(stopgap::rules::MAX_PATTERN_BODY, 1024 * 1024);
/// ```
pub const MAX_PATTERN_BODY: usize = 1 << 20;

/// The longest body that those patterns may make of it, in octets.
const MAX_REWRITTEN_BODY: usize = 8 << 20;

/// How much of a page may be held to see one tag whole, in octets.
const MAX_TAG_MEMORY: usize = 1 << 20;

/// The rules that a response's body is rewritten by, with what they read of its head and of the request.
///
/// Made by [`RuleSet::judge_response`](super::RuleSet::judge_response) when a rule wants the body; either
/// [`rewrite`](Self::rewrite) it whole, or hand this to a [`BodyRewriter`] that takes it piece by piece.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RequestView, ResponseView, RuleSet, Scratch, SourceOrigin};
///
/// let text = r#"<outboundRules><rule name="links">
///   <match filterByTags="A" pattern="^http://internal/" />
///   <action type="Rewrite" value="https://mail.example/" />
/// </rule></outboundRules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let request = RequestView::new("GET", b"/", &[("Host", "mail.example")]);
/// let mut scratch = Scratch::default();
/// rules.judge(&request, &mut scratch);
/// let memory = rules.remember(&request, &mut scratch);
///
/// let response = ResponseView { status: 200, reason: "", fields: &[("Content-Type", "text/html")] };
/// let decision = rules.judge_response(&memory, &response, &mut scratch);
/// let body = decision.body.expect("the rule wants pages");
/// let (page, acted, skipped) = body.rewrite(b"<a href='http://internal/x'>x</a>");
/// assert_eq!(page, b"<a href=\"https://mail.example/x\">x</a>");
/// assert_eq!((acted.len(), skipped), (1, None));
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone)]
pub struct BodyRules {
    pub(super) plan: Arc<Plan>,
    /// Numbers of group and rule, in the order of evaluation.
    pub(super) rules: Vec<(usize, usize)>,
    /// Values of the plan's body variables.
    pub(super) values: Vec<Vec<u8>>,
    /// What the page's text is encoded in, and whether the response said so.
    pub(super) encoding: (AsciiCompatibleEncoding, bool),
    /// Where tests are written down, if somebody wants to know.
    pub(super) notes: Option<SharedNotes>,
}

/// Why a body passes as it is although a rule wants to rewrite it.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{BodySkip, RequestView, ResponseView, RuleSet, Scratch, SourceOrigin};
///
/// let text = r#"<outboundRules><rule name="links">
///   <match filterByTags="A" pattern="^http://internal/" />
///   <action type="Rewrite" value="https://mail.example/" />
/// </rule></outboundRules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let request = RequestView::new("GET", b"/", &[("Host", "mail.example")]);
/// let mut scratch = Scratch::default();
/// rules.judge(&request, &mut scratch);
/// let memory = rules.remember(&request, &mut scratch);
///
/// let fields = [("Content-Type", "text/html"), ("Content-Encoding", "gzip")];
/// let response = ResponseView { status: 200, reason: "", fields: &fields };
/// let decision = rules.judge_response(&memory, &response, &mut scratch);
/// assert_eq!(decision.body_skip, Some(BodySkip::Encoded));
/// assert_eq!(BodySkip::Encoded.word(), "encoded");
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum BodySkip {
    /// Its text is in an encoding that is no superset of ASCII, such as UTF-16.
    Charset,
    /// It has a `Content-Encoding`.
    Encoded,
    /// A search in it ran out of steps, and counts as no match; other rules, and other values, are rewritten.
    OutOfSteps,
    /// It is longer than [`MAX_PATTERN_BODY`], or would become too long.
    TooLarge,
    /// One tag of the page is too long to be held.
    Unparsable,
}

impl BodySkip {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Charset,
        Self::Encoded,
        Self::OutOfSteps,
        Self::TooLarge,
        Self::Unparsable,
    ];

    /// One lower-case word for logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Charset => "charset",
            Self::Encoded => "encoded",
            Self::OutOfSteps => "out-of-steps",
            Self::TooLarge => "too-large",
            Self::Unparsable => "unparsable",
        }
    }
}

/// Rewrites one body, piece by piece.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{BodyRewriter, RequestView, ResponseView, RuleSet, Scratch, SourceOrigin};
///
/// let text = r#"<outboundRules><rule name="links">
///   <match filterByTags="A" pattern="^http://internal/" />
///   <action type="Rewrite" value="https://mail.example/" />
/// </rule></outboundRules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let request = RequestView::new("GET", b"/", &[("Host", "mail.example")]);
/// let mut scratch = Scratch::default();
/// rules.judge(&request, &mut scratch);
/// let memory = rules.remember(&request, &mut scratch);
///
/// let response = ResponseView { status: 200, reason: "", fields: &[("Content-Type", "text/html")] };
/// let decision = rules.judge_response(&memory, &response, &mut scratch);
/// let mut rewriter = BodyRewriter::new(decision.body.expect("the rule wants pages"));
/// let mut sent = Vec::new();
/// for piece in [&b"<p>text</p><a hr"[..], b"ef=http://internal/x>"] {
///     rewriter.write(piece, &mut sent);
/// }
/// rewriter.finish(&mut sent);
/// assert_eq!(sent, b"<p>text</p><a href=\"https://mail.example/x\">");
/// assert_eq!(rewriter.acted().len(), 1);
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
pub struct BodyRewriter {
    /// What the page's own parser calls wrote and did, taken after each call.
    written: Arc<Mutex<Written>>,
    html: Option<HtmlRewriter<'static, Sink>>,
    /// The body so far, when patterns are to be searched in all of it.
    whole: Option<Vec<u8>>,
    patterns: BodyJudge,
    acted: Vec<RuleId>,
    skipped: Option<BodySkip>,
}

/// What rewriting a page came to since it was looked at last.
#[derive(Debug, Default)]
struct Written {
    text: Vec<u8>,
    acted: Vec<RuleId>,
    /// Whether a search ran out of steps.
    out_of_steps: bool,
}

type Sink = Box<dyn FnMut(&[u8]) + Send>;

impl BodyRules {
    /// The rules, in the order of evaluation.
    pub(super) fn ids(&self) -> impl Iterator<Item = RuleId> {
        let rules = self.rules.iter();
        rules.map(|(_, number)| self.plan.response_rules[*number].id)
    }

    /// Rewrites a body that is there whole; also which rules acted, and why it is unchanged if it should not be.
    pub fn rewrite(self, body: &[u8]) -> (Vec<u8>, Vec<RuleId>, Option<BodySkip>) {
        let mut rewriter = BodyRewriter::new(self);
        let mut text = Vec::with_capacity(body.len());
        rewriter.write(body, &mut text);
        rewriter.finish(&mut text);
        (text, rewriter.acted, rewriter.skipped)
    }
}

impl BodyRewriter {
    /// Starts with a body's first octet.
    pub fn new(rules: BodyRules) -> Self {
        let judge = BodyJudge::new(rules);
        let written = Arc::<Mutex<Written>>::default();
        Self {
            html: judge.wants_tags().then(|| html(&judge, &written)),
            whole: judge.wants_text().then(Vec::new),
            patterns: judge,
            acted: Vec::new(),
            skipped: None,
            written,
        }
    }

    /// Takes the next piece, and appends what can be sent by now.
    pub fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Some(html) = &mut self.html else {
            return self.pass(piece, out);
        };
        if html.write(piece).is_err() {
            // It wrote what it held before it gave up; the rest passes as it is.
            self.html = None;
            self.skipped = Some(BodySkip::Unparsable);
        }
        self.take(out);
    }

    /// Appends what is left once the body has ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(html) = self.html.take() {
            if html.end().is_err() {
                self.skipped = Some(BodySkip::Unparsable);
            }
            self.take(out);
        }
        let Some(whole) = self.whole.take() else {
            return;
        };
        match self.patterns.text(&whole, MAX_REWRITTEN_BODY) {
            Some((text, acted)) => {
                acted.into_iter().for_each(|rule| self.act(rule));
                out.extend_from_slice(&text);
            }
            None => {
                self.skipped = Some(BodySkip::TooLarge);
                out.extend_from_slice(&whole);
            }
        }
        let out_of_steps = self.patterns.out_of_steps();
        self.note_steps(out_of_steps);
    }

    /// The rules that have acted so far, each once.
    pub fn acted(&self) -> &[RuleId] {
        &self.acted
    }

    /// Why the body, or a part of it, passed as it was.
    pub const fn skipped(&self) -> Option<BodySkip> {
        self.skipped
    }

    /// Notes that a search ran out of steps, unless more than its rule was passed over.
    fn note_steps(&mut self, out_of_steps: bool) {
        if out_of_steps {
            self.skipped.get_or_insert(BodySkip::OutOfSteps);
        }
    }

    fn act(&mut self, rule: RuleId) {
        if !self.acted.contains(&rule) {
            self.acted.push(rule);
        }
    }

    /// Takes what the parser wrote.
    fn take(&mut self, out: &mut Vec<u8>) {
        let written = std::mem::take(&mut *lock(&self.written));
        written.acted.into_iter().for_each(|rule| self.act(rule));
        self.note_steps(written.out_of_steps);
        self.pass(&written.text, out);
    }

    /// Sends text on, or keeps it until all is there.
    fn pass(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match &mut self.whole {
            Some(whole) if whole.len() + text.len() <= MAX_PATTERN_BODY => {
                whole.extend_from_slice(text);
            }
            Some(whole) => {
                out.append(whole);
                out.extend_from_slice(text);
                self.whole = None;
                self.skipped = Some(BodySkip::TooLarge);
            }
            None => out.extend_from_slice(text),
        }
    }
}

/// A parser that runs every element of a page through the rules.
fn html(judge: &BodyJudge, written: &Arc<Mutex<Written>>) -> HtmlRewriter<'static, Sink> {
    let selector: Selector = judge
        .selector()
        .parse()
        .or_else(|_| "*".parse())
        .expect("the universal selector is a selector");
    let (encoding, is_declared) = judge.encoding();
    let mut judge = judge.clone();
    let acts = Arc::clone(written);
    let handlers = ElementContentHandlers::default().element(
        move |element: &mut lol_html::send::Element<'_, '_>| {
            let tag = element.tag_name();
            for attribute in judge.attributes(&tag) {
                let Some(value) = element.get_attribute(&attribute) else {
                    continue;
                };
                let changed = judge.attribute(&tag, &attribute, value.as_bytes());
                if judge.out_of_steps() {
                    lock(&acts).out_of_steps = true;
                }
                if let Some((value, acted)) = changed {
                    element.set_attribute(&attribute, &String::from_utf8_lossy(&value))?;
                    lock(&acts).acted.extend(acted);
                }
            }
            Ok(())
        },
    );
    let settings = Settings::new_send()
        .with_encoding(encoding)
        .with_adjust_charset_on_meta_tag(!is_declared)
        .with_strict(false)
        .with_graceful_bail_out_on_content_handler_error(true)
        .with_memory_settings(
            MemorySettings::new()
                .with_max_allowed_memory_usage(MAX_TAG_MEMORY)
                .with_graceful_bail_out_on_memory_limit_exceeded(true),
        )
        .append_element_content_handler((std::borrow::Cow::Owned(selector), handlers));
    let texts = Arc::clone(written);
    let sink: Sink = Box::new(move |text| lock(&texts).text.extend_from_slice(text));
    HtmlRewriter::new(settings, sink)
}

/// Never waits: the parser and its owner take turns.
fn lock(written: &Mutex<Written>) -> std::sync::MutexGuard<'_, Written> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for BodyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyRules")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl PartialEq for BodyRules {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan)
            && self.rules == other.rules
            && self.values == other.values
    }
}

impl Eq for BodyRules {}

impl fmt::Debug for BodyRewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyRewriter")
            .field("acted", &self.acted)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{
        RequestView, ResponseView, RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch,
        SourceOrigin,
    };

    fn rewriter() -> BodyRewriter {
        let text = r#"<outboundRules><rule name="o">
            <match filterByTags="A" pattern="^x$" /><action type="Rewrite" value="y" />
        </rule></outboundRules>"#;
        let source = RuleSource::parse(text, &SourceOrigin::named("test.xml")).unwrap();
        let mut builder = RuleSet::builder(RuleLimits::default());
        builder.add(&source, RuleOrigin::local("test.xml")).unwrap();
        let (rules, mut scratch) = (builder.build(), Scratch::default());
        let request = RequestView {
            method: "GET",
            target: b"/",
            version: "HTTP/1.1",
            secure: false,
            remote: None,
            local: None,
            fields: &[("Host", "h")],
            variables: &[],
        };
        let memory = rules.remember(&request, &mut scratch);
        let response = ResponseView {
            status: 200,
            reason: "",
            fields: &[("Content-Type", "text/html")],
        };
        let decision = rules.judge_response(&memory, &response, &mut scratch);
        BodyRewriter::new(decision.body.unwrap())
    }

    #[test]
    fn tag_beyond_the_limit_and_all_after_it_pass_as_they_are() {
        for (length, skipped) in [
            (MAX_TAG_MEMORY / 4, None),
            (MAX_TAG_MEMORY + 1, Some(BodySkip::Unparsable)),
        ] {
            let long = format!("<a title='{}'>", "t".repeat(length));
            let page = format!("<a href=x>{long}<a href=x>");
            let mut rewriter = rewriter();
            let mut sent = Vec::new();
            for piece in page.as_bytes().chunks(1000) {
                rewriter.write(piece, &mut sent);
            }
            rewriter.finish(&mut sent);
            let last = match skipped {
                None => "<a href=\"y\">",
                Some(_) => "<a href=x>",
            };
            let expected = format!("<a href=\"y\">{long}{last}");
            assert_eq!(rewriter.skipped(), skipped);
            assert!(sent == expected.as_bytes(), "{} octets", sent.len());
            assert_eq!(rewriter.acted(), [RuleId(0)]);
        }
    }

    #[test]
    fn page_streams_through() {
        let mut rewriter = rewriter();
        let mut sent = Vec::new();
        rewriter.write(b"<p>text</p><a hr", &mut sent);
        assert!(sent.starts_with(b"<p>text</p>"), "{sent:?}");
        rewriter.write(b"ef=x>", &mut sent);
        assert_eq!(sent, b"<p>text</p><a href=\"y\">");
    }

    #[test]
    fn rewriter_may_change_threads() {
        const fn is_send<T: Send>(_: &T) {}
        is_send(&rewriter());
    }
}
