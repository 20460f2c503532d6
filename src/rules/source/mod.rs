//! Rule text as typed data, before it is compiled.
//!
//! Layer 1, inside `rules`. Called by control and lab through `rules`; filled by parse, read by compile.
//! Holds: every value has been checked by itself; names are unique in their collection;
//!        every part knows its place in the document that people edit.
//! See `guide::dialect` for what each part means.

mod collection;
mod rule;

use std::sync::Arc;

pub(crate) use collection::{Collection, Edit};
pub(crate) use rule::{
    Action, Condition, Conditions, MapText, NameText, PatternText, PreCondition, RequestRule,
    ResponseAction, ResponseRule, SetVariable, Subject, TagSet, Tags, Test, Text, VariableName,
};

use super::RuleError;
use super::error::{Kind, Place};
use super::parse;
use crate::xml::Position;

/// Where rule text came from, so that an error can name a line of the file that people edit.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RuleSource, SourceOrigin};
///
/// // Rules that stand in line 40 of a larger document: errors name its lines.
/// let origin = SourceOrigin { name: "feed.xml".to_owned(), line: 40, column: 9 };
/// let error = RuleSource::parse("<rules>\n  <rle name='a' />\n</rules>", &origin).unwrap_err();
/// assert_eq!((error.file(), error.line(), error.column()), ("feed.xml", 41, 3));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceOrigin {
    /// The file or feed document, as shown to people.
    pub name: String,
    /// Line of the text's first character in that document, from 1.
    pub line: usize,
    /// Column of the text's first character in that line, in characters from 1.
    pub column: usize,
}

impl SourceOrigin {
    /// Text that is the whole document `name`.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            line: 1,
            column: 1,
        }
    }

    pub(crate) fn place(&self, file: &Arc<str>, position: Position) -> Place {
        let first_line = position.line == 1;
        Place {
            file: Arc::clone(file),
            line: self.line.saturating_add(position.line - 1),
            column: if first_line {
                self.column.saturating_add(position.column - 1)
            } else {
                position.column
            },
        }
    }
}

/// How closely judging follows IIS.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{
///     Dialect, RequestView, RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch, SourceOrigin,
/// };
///
/// let text = r#"<rules><rule name="r"><match url="^ecp/" /><action type="AbortRequest" /></rule></rules>"#;
/// let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let stops = |dialect| {
///     let mut builder = RuleSet::builder(RuleLimits::default());
///     let added = builder.add(&source.clone().with_dialect(dialect), RuleOrigin::local("rules.xml"));
///     let request = RequestView::new("GET", b"/%2565cp/", &[("Host", "h")]);
///     added.map(|()| builder.build().judge(&request, &mut Scratch::default()).verdict.stops())
/// };
/// // IIS decodes once; a server behind it may decode again.
/// assert_eq!((stops(Dialect::Iis)?, stops(Dialect::Hardened)?), (false, true));
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Dialect {
    /// Rules that stop requests are judged over every view of the target, and `.` matches line breaks in them.
    Hardened,
    /// Exactly what IIS does.
    #[default]
    Iis,
}

/// One document's rules, typed: what [`RuleSetBuilder::add`](super::RuleSetBuilder::add) compiles.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RuleSource, SourceOrigin};
///
/// let text = r#"<rules>
///   <rule name="traces">
///     <match url="^trace\.axd$" />
///     <action type="AbortReqest" />
///   </rule>
/// </rules>"#;
/// let error = RuleSource::parse(text, &SourceOrigin::named("rules.xml")).unwrap_err();
/// assert_eq!((error.line(), error.rule(), error.attribute()), (4, Some("traces"), Some("type")));
/// ```
#[derive(Clone, Debug)]
pub struct RuleSource {
    pub(crate) dialect: Dialect,
    /// The path prefix with its leading slash and no trailing one; empty for the whole site.
    pub(crate) scope: String,
    pub(crate) global_rules: Collection<RequestRule>,
    pub(crate) rules: Collection<RequestRule>,
    pub(crate) response_rules: Collection<ResponseRule>,
    pub(crate) pre_conditions: Collection<PreCondition>,
    pub(crate) tag_sets: Collection<TagSet>,
    pub(crate) maps: Collection<MapText>,
    pub(crate) allowed_variables: Collection<VariableName>,
    pub(crate) notices: Vec<RuleError>,
}

impl RuleSource {
    /// Reads a `<rewrite>`, or one of the sections inside it, or a `<configuration>` that holds one.
    ///
    /// The root may choose its dialect with the attribute `dialect` of the namespace `urn:stopgap:feed:1`: `hardened`
    /// or `iis`, which is the default.
    ///
    /// # Errors
    ///
    /// Refuses the whole text for the first construct that is malformed, unknown or unsupported.
    pub fn parse(text: &str, origin: &SourceOrigin) -> Result<Self, RuleError> {
        parse::document(text, origin, parse::Unknown::Refuse)
    }

    /// Reads the text of a verified feed: as [`parse`](Self::parse), but an element or attribute of unknown name is
    /// kept as a [notice](Self::notices) instead of refusing the text.
    ///
    /// # Errors
    ///
    /// Refuses the whole text for the first construct that is malformed or unsupported.
    pub fn parse_feed(text: &str, origin: &SourceOrigin) -> Result<Self, RuleError> {
        parse::document(text, origin, parse::Unknown::Note)
    }

    /// What was passed over because its name is unknown; empty after [`parse`](Self::parse).
    pub fn notices(&self) -> &[RuleError] {
        &self.notices
    }

    /// The first condition of an enabled rule that asks whether a file or folder exists, as a notice: it is false for
    /// every request where [`RuleSetBuilder::with_document_root`](super::RuleSetBuilder::with_document_root) gave no
    /// files. `None` if nothing asks.
    pub fn file_notice(&self) -> Option<RuleError> {
        let requests = [&self.global_rules, &self.rules].into_iter();
        let requests = requests.filter_map(|rules| rules.resolve().ok()).flatten();
        let requests = requests.filter(|rule| rule.enabled);
        let responses = self.response_rules.resolve().unwrap_or_default();
        let responses = responses.into_iter().filter(|rule| rule.enabled);
        let mut asking = requests
            .map(|rule| (&rule.name, &rule.conditions))
            .chain(responses.map(|rule| (&rule.name, &rule.conditions)));
        asking.find_map(|(name, conditions)| {
            let mut tests = conditions.list.iter();
            let found = tests.find(|condition| !matches!(condition.test, Test::Pattern(_)))?;
            let text = "asks for a file, and none exists".to_owned();
            let notice = RuleError::new(&found.input.place, Kind::Unsupported(text));
            Some(notice.in_attribute("matchType").in_rule(name))
        })
    }

    /// These rules as a level below `parent`: the parent's first, as far as `<clear/>` and `<remove>` leave them.
    ///
    /// # Errors
    ///
    /// Refuses a name that the parent uses already.
    pub fn below(mut self, parent: &Self) -> Result<Self, RuleError> {
        self.global_rules.inherit(&parent.global_rules);
        self.rules.inherit(&parent.rules);
        self.response_rules.inherit(&parent.response_rules);
        self.pre_conditions.inherit(&parent.pre_conditions);
        self.tag_sets.inherit(&parent.tag_sets);
        self.maps.inherit(&parent.maps);
        self.allowed_variables.inherit(&parent.allowed_variables);
        self.check_names()?;
        Ok(self)
    }

    /// The same rules, judged in another dialect.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// The same rules, applied only below a path prefix such as `/owa`; empty for the whole site.
    ///
    /// `<match url>` then sees the path relative to it, as below an IIS virtual directory.
    #[must_use]
    pub fn with_scope(mut self, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        self.scope = if prefix.is_empty() {
            String::new()
        } else {
            format!("/{prefix}")
        };
        self
    }

    /// How many rules of either kind are enabled.
    pub fn rule_count(&self) -> usize {
        self.enabled().len()
    }

    /// The enabled rules of either kind in the order in which they are compiled.
    pub(crate) fn enabled(&self) -> Vec<(&str, &Place)> {
        let requests = [&self.global_rules, &self.rules].into_iter();
        let requests = requests.filter_map(|rules| rules.resolve().ok()).flatten();
        let requests = requests.filter(|rule| rule.enabled);
        let responses = self.response_rules.resolve().unwrap_or_default();
        let responses = responses.into_iter().filter(|rule| rule.enabled);
        requests
            .map(|rule| (rule.name.as_str(), &rule.place))
            .chain(responses.map(|rule| (rule.name.as_str(), &rule.place)))
            .collect()
    }

    /// How many rules there are at most: some may be removed again or not enabled.
    pub(crate) fn most_rules(&self) -> usize {
        self.global_rules.edits.len() + self.rules.edits.len() + self.response_rules.edits.len()
    }

    pub(crate) fn empty() -> Self {
        Self {
            dialect: Dialect::Iis,
            scope: String::new(),
            global_rules: Collection::default(),
            rules: Collection::default(),
            response_rules: Collection::default(),
            pre_conditions: Collection::default(),
            tag_sets: Collection::default(),
            maps: Collection::default(),
            allowed_variables: Collection::default(),
            notices: Vec::new(),
        }
    }

    pub(crate) fn check_names(&self) -> Result<(), RuleError> {
        self.global_rules.resolve()?;
        self.rules.resolve()?;
        self.response_rules.resolve()?;
        self.pre_conditions.resolve()?;
        self.tag_sets.resolve()?;
        self.maps.resolve()?;
        self.allowed_variables.resolve()?;
        Ok(())
    }
}
