//! Reads the attributes and children of one element, and knows its place.

use std::cell::RefCell;
use std::sync::Arc;

use super::{DIALECT, NAMESPACE, Unknown};
use crate::rules::error::{Kind, Place, nearest};
use crate::rules::source::{NameText, Text};
use crate::rules::template::Template;
use crate::rules::{RuleError, SourceOrigin};
use crate::xml::{Attribute, Element, Position};

/// How long a name may be, in octets.
pub(super) const MAX_NAME: usize = 1024;

/// How long a text of the substitution grammar may be, in octets.
pub(super) const MAX_TEXT: usize = 16 * 1024;

/// What every element of one document shares.
pub(super) struct Document<'o> {
    pub(super) origin: &'o SourceOrigin,
    pub(super) file: Arc<str>,
    pub(super) unknown: Unknown,
    pub(super) notices: RefCell<Vec<RuleError>>,
}

impl Document<'_> {
    pub(super) fn place(&self, position: Position) -> Place {
        self.origin.place(&self.file, position)
    }

    /// Refuses what has an unknown name, or notes it.
    fn unknown(&self, error: RuleError) -> Result<(), RuleError> {
        match self.unknown {
            Unknown::Note => {
                self.notices.borrow_mut().push(error);
                Ok(())
            }
            Unknown::Refuse => Err(error),
        }
    }
}

/// An element, in the rule it belongs to.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) element: Element<'a>,
    document: &'a Document<'a>,
    rule: &'a str,
}

impl<'a> Node<'a> {
    pub(super) fn new(element: Element<'a>, document: &'a Document<'a>) -> Self {
        Self {
            element,
            document,
            rule: "",
        }
    }

    /// Another element of the same document.
    pub(super) fn at(self, element: Element<'a>) -> Self {
        Self { element, ..self }
    }

    /// The same element as part of a rule, which its errors name.
    pub(super) fn in_rule(self, rule: &'a str) -> Self {
        Self { rule, ..self }
    }

    pub(super) fn name(self) -> &'a str {
        self.element.name()
    }

    pub(super) fn place(self) -> Place {
        self.document.place(self.element.position())
    }

    /// An error at this element.
    pub(super) fn error(self, kind: Kind) -> RuleError {
        RuleError::new(&self.place(), kind).in_rule(self.rule)
    }

    /// An error at an attribute of this element, or at the element if the attribute is missing.
    pub(super) fn attribute_error(self, name: &str, kind: Kind) -> RuleError {
        let position = self
            .element
            .attribute(name)
            .map_or(self.element.position(), Attribute::position);
        RuleError::new(&self.document.place(position), kind)
            .in_rule(self.rule)
            .in_attribute(name)
    }

    /// Refuses text between the children, and attributes other than these.
    pub(super) fn check(self, attributes: &[&str]) -> Result<(), RuleError> {
        if self.element.has_text() {
            return Err(self.error(Kind::Unsupported(format!(
                "<{}> holds text, which means nothing here; remove it",
                self.name()
            ))));
        }
        for attribute in self.element.attributes() {
            let is_dialect = self.element.parent().is_none()
                && (attribute.namespace(), attribute.name()) == (NAMESPACE, DIALECT);
            let known = is_dialect
                || attribute.namespace().is_empty() && attributes.contains(&attribute.name());
            if !known {
                let name = attribute.qualified_name();
                let kind = Kind::Unknown {
                    what: "attribute",
                    name: name.to_owned(),
                    near: nearest(name, attributes.iter().copied()).map(str::to_owned),
                };
                let place = self.document.place(attribute.position());
                self.document
                    .unknown(RuleError::new(&place, kind).in_rule(self.rule))?;
            }
        }
        Ok(())
    }

    /// The children, which must have one of these names.
    pub(super) fn children(self, names: &[&str]) -> Result<Vec<Self>, RuleError> {
        let mut children = Vec::new();
        for element in self.element.children() {
            let child = self.at(element);
            if element.namespace() == self.element.namespace() && names.contains(&element.name()) {
                children.push(child);
                continue;
            }
            let name = element.qualified_name();
            self.document.unknown(child.error(Kind::Unknown {
                what: "element",
                name: name.to_owned(),
                near: nearest(name, names.iter().copied()).map(|near| format!("<{near}>")),
            }))?;
        }
        Ok(children)
    }

    /// Refuses children of any name.
    pub(super) fn no_children(self) -> Result<(), RuleError> {
        self.children(&[]).map(|_| ())
    }

    /// An attribute's value as written.
    pub(super) fn value(self, name: &str) -> Option<&'a str> {
        self.element
            .attribute(name)
            .map(|attribute| attribute.value())
    }

    pub(super) fn required(self, name: &'static str) -> Result<&'a str, RuleError> {
        self.value(name)
            .ok_or_else(|| self.attribute_error(name, Kind::Missing("the attribute")))
    }

    /// A name: required, trimmed, not empty and not too long.
    pub(super) fn required_name(self, attribute: &'static str) -> Result<&'a str, RuleError> {
        let name = self.required(attribute)?.trim();
        if name.is_empty() {
            return Err(self.attribute_error(attribute, Kind::Missing("the name")));
        }
        self.limit(attribute, name, "a name in octets", MAX_NAME)?;
        Ok(name)
    }

    pub(super) fn name_text(self, attribute: &'static str) -> Result<NameText, RuleError> {
        Ok(NameText {
            name: self.required_name(attribute)?.to_owned(),
            place: self.attribute_place(attribute),
        })
    }

    pub(super) fn attribute_place(self, name: &str) -> Place {
        let attribute = self.element.attribute(name);
        let position = attribute.map_or(self.element.position(), Attribute::position);
        self.document.place(position)
    }

    pub(super) fn limit(
        self,
        attribute: &str,
        value: &str,
        what: &'static str,
        limit: usize,
    ) -> Result<(), RuleError> {
        if value.len() > limit {
            return Err(self.attribute_error(attribute, Kind::Limit { what, limit }));
        }
        Ok(())
    }

    /// `true` or `false` in any letter case, as PowerShell writes `True`.
    pub(super) fn boolean(self, name: &str, default: bool) -> Result<bool, RuleError> {
        self.keyword(name, &[("true", true), ("false", false)], default)
    }

    /// One of several words, in any letter case. Only the first spelling of each value is offered in an error.
    pub(super) fn keyword<T: Copy + PartialEq>(
        self,
        name: &str,
        words: &[(&str, T)],
        default: T,
    ) -> Result<T, RuleError> {
        let Some(found) = self.value(name) else {
            return Ok(default);
        };
        let word = found.trim();
        if let Some((_, value)) = words
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(word))
        {
            return Ok(*value);
        }
        let first_of_value = |(at, (_, value)): &(usize, &(&str, T))| {
            words.iter().position(|(_, other)| other == value) == Some(*at)
        };
        let offered: Vec<&str> = words
            .iter()
            .enumerate()
            .filter(first_of_value)
            .map(|(_, (word, _))| *word)
            .collect();
        let expected = match nearest(word, offered.iter().copied()) {
            Some(near) => format!("{near}, or another of: {}", offered.join(", ")),
            None => format!("one of: {}", offered.join(", ")),
        };
        Err(self.value_error(name, &expected))
    }

    pub(super) fn number<T: std::str::FromStr>(
        self,
        name: &str,
        expected: &str,
        accept: impl Fn(&T) -> bool,
        default: T,
    ) -> Result<T, RuleError> {
        match self.value(name).map(str::trim) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| text.bytes().all(|b| b.is_ascii_digit()) && accept(number))
                .ok_or_else(|| self.value_error(name, expected)),
        }
    }

    pub(super) fn value_error(self, name: &str, expected: &str) -> RuleError {
        let found = self.value(name).unwrap_or_default();
        let kind = Kind::Value {
            found: found.chars().take(80).collect(),
            expected: expected.to_owned(),
        };
        self.attribute_error(name, kind)
    }

    /// A text of the substitution grammar; a missing attribute is the empty text.
    pub(super) fn text(self, attribute: &'static str) -> Result<Text, RuleError> {
        self.parsed(attribute, self.value(attribute).unwrap_or_default())
    }

    /// The same without white space at its ends, as IIS's schema wants URLs.
    pub(super) fn trimmed_text(self, attribute: &'static str) -> Result<Text, RuleError> {
        self.parsed(attribute, self.value(attribute).unwrap_or_default().trim())
    }

    fn parsed(self, attribute: &'static str, value: &str) -> Result<Text, RuleError> {
        self.limit(attribute, value, "a text in octets", MAX_TEXT)?;
        let template = Template::parse(value).map_err(|error| {
            self.attribute_error(attribute, Kind::Unsupported(error.to_string()))
        })?;
        Ok(Text {
            template,
            place: self.attribute_place(attribute),
            attribute,
        })
    }
}
