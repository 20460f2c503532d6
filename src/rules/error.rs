//! Why rule text was refused: the place, the rule and attribute concerned, and what to do about it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::pattern::PatternError;
use crate::xml::XmlError;

/// A place in the document that people edit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) file: Arc<str>,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Rule text that was refused, or a part of it that was noted, with its place and what to do about it.
///
/// Shown as `rules.xml, line 3, column 7, rule "a", attribute redirectType: "foo" is unknown; write one of ...`.
/// [`source`](Error::source) carries what the XML parser or the pattern compiler said.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RuleSet, SourceOrigin};
///
/// let text = r#"<rules><rule name="a"><match url="(" /><action type="AbortRequest" /></rule></rules>"#;
/// let error = RuleSet::parse(text, &SourceOrigin::named("rules.xml")).unwrap_err();
/// assert_eq!((error.file(), error.line()), ("rules.xml", 1));
/// assert_eq!((error.rule(), error.attribute()), (Some("a"), Some("url")));
/// ```
#[derive(Clone, Debug)]
pub struct RuleError(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    place: Place,
    rule: Option<String>,
    attribute: Option<String>,
    kind: Kind,
}

/// What is wrong; each is shown with what to do.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A second one of what may exist once.
    Duplicate(String),
    /// More than a limit allows.
    Limit { what: &'static str, limit: usize },
    /// An element or attribute that must be there.
    Missing(&'static str),
    /// A pattern that does not compile.
    Pattern(PatternError),
    /// A reference to something that this document does not define.
    Undefined {
        what: &'static str,
        name: String,
        near: Option<String>,
    },
    /// An element or attribute with a name that means nothing here.
    Unknown {
        what: &'static str,
        name: String,
        near: Option<String>,
    },
    /// Something that is understood and not supported, or contradicts itself: a sentence that says what to do.
    Unsupported(String),
    /// A value outside of those allowed.
    Value { found: String, expected: String },
    /// Not well-formed XML.
    Xml(XmlError),
}

impl RuleError {
    pub(crate) fn new(place: &Place, kind: Kind) -> Self {
        Self(Box::new(Inner {
            place: place.clone(),
            rule: None,
            attribute: None,
            kind,
        }))
    }

    pub(crate) fn in_rule(mut self, name: &str) -> Self {
        if !name.is_empty() {
            self.0.rule.get_or_insert_with(|| name.to_owned());
        }
        self
    }

    pub(crate) fn in_attribute(mut self, name: &str) -> Self {
        self.0.attribute.get_or_insert_with(|| name.to_owned());
        self
    }

    /// The file or feed document that the text came from.
    pub fn file(&self) -> &str {
        &self.0.place.file
    }

    /// The line in that file, from 1.
    pub fn line(&self) -> usize {
        self.0.place.line
    }

    /// The column in that line, in characters from 1.
    pub fn column(&self) -> usize {
        self.0.place.column
    }

    /// The name of the rule concerned, if it is known.
    pub fn rule(&self) -> Option<&str> {
        self.0.rule.as_deref()
    }

    /// The name of the attribute concerned, if it is one.
    pub fn attribute(&self) -> Option<&str> {
        self.0.attribute.as_deref()
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            place,
            rule,
            attribute,
            kind,
        } = &*self.0;
        write!(
            f,
            "{}, line {}, column {}",
            place.file, place.line, place.column
        )?;
        if let Some(rule) = rule {
            write!(f, ", rule {rule:?}")?;
        }
        if let Some(attribute) = attribute {
            write!(f, ", attribute {attribute}")?;
        }
        write!(f, ": {kind}")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suggest =
            |f: &mut fmt::Formatter<'_>, near: &Option<String>, otherwise: &str| match near {
                Some(near) => write!(f, "; did you mean {near}?"),
                None => write!(f, "; {otherwise}"),
            };
        match self {
            Self::Duplicate(what) => write!(f, "{what} exists already; rename or remove one"),
            Self::Limit { what, limit } => {
                write!(f, "{what} may be at most {limit}; shorten or split it")
            }
            Self::Missing(what) => write!(f, "{what} is missing; add it"),
            Self::Pattern(_) => f.write_str("the pattern cannot be compiled; correct it"),
            Self::Undefined { what, name, near } => {
                write!(f, "there is no {what} {name:?}")?;
                suggest(f, near, "define it or correct the name")
            }
            Self::Unknown { what, name, near } => {
                write!(f, "unknown {what} {name:?}")?;
                suggest(f, near, "remove it")
            }
            Self::Unsupported(advice) => f.write_str(advice),
            Self::Value { found, expected } => {
                write!(f, "{found:?} is not allowed; write {expected}")
            }
            Self::Xml(_) => f.write_str("the text is not acceptable XML; correct it"),
        }
    }
}

impl Error for RuleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.kind {
            Kind::Pattern(error) => Some(error),
            Kind::Xml(error) => Some(error),
            _ => None,
        }
    }
}

/// The known name that `found` was probably meant to be.
pub(crate) fn nearest<'k>(
    found: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    /// Names longer than this are not compared, to bound the work.
    const LONGEST: usize = 64;
    if found.len() > LONGEST {
        return None;
    }
    let found = found.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| (distance(&found, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many characters have to be inserted, removed or replaced (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_found() {
        let known = ["stopProcessing", "enabled", "name"];
        for (found, expected) in [
            ("stopProccessing", Some("stopProcessing")),
            ("StopProcessing", Some("stopProcessing")),
            ("nmae", None),
            ("nam", Some("name")),
            ("colour", None),
        ] {
            assert_eq!(nearest(found, known), expected, "{found}");
        }
    }
}
