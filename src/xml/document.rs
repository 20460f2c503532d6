//! A parsed document: its text, and records that point into it.

use super::canonical::Canonical;
use super::error::XmlError;
use super::parser;
use super::position::{Lines, Position};
use super::scanner::{Name, Span};
use super::tree::Element;

/// What a document may cost. The defaults suit a feed; every limit is inclusive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Octets of the document.
    pub bytes: usize,
    /// Levels of elements; the root is level 1.
    pub depth: usize,
    /// Elements and runs of text together; also, apart from these, attributes of the whole document.
    pub nodes: usize,
    /// Attributes of one element, namespace declarations among them.
    pub attributes: usize,
}

impl Limits {
    /// The usual [`bytes`](Self::bytes): 4 MiB.
    pub const BYTES: usize = 4 << 20;
    /// The usual [`depth`](Self::depth).
    pub const DEPTH: usize = 32;
    /// The usual [`nodes`](Self::nodes).
    pub const NODES: usize = 200_000;
    /// The usual [`attributes`](Self::attributes).
    pub const ATTRIBUTES: usize = 64;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: Self::BYTES,
            depth: Self::DEPTH,
            nodes: Self::NODES,
            attributes: Self::ATTRIBUTES,
        }
    }
}

/// A well-formed document, read where its octets lie.
///
/// Costs a record of at most 40 octets per element, attribute and run of text, and the values of attributes that hold
/// references.
#[derive(Debug)]
pub struct Document<'s> {
    /// The document's text as it came, without a byte order mark.
    pub(super) source: &'s str,
    /// The attribute values that differ from what `source` says, one after the other.
    pub(super) decoded: String,
    /// Elements and runs of text in document order; the root is the first.
    pub(super) nodes: Vec<Node>,
    pub(super) attributes: Vec<AttributeRecord>,
    pub(super) lines: Lines,
}

impl<'s> Document<'s> {
    /// Reads a document: XML 1.0 and Namespaces in XML 1.0, UTF-8 with or without a byte order mark.
    ///
    /// Document types, processing instructions and entities other than the five predefined ones are refused.
    /// Comments are skipped.
    ///
    /// # Errors
    ///
    /// [`XmlError`], with the place, when the document is not well-formed, uses what is refused, or exceeds a limit.
    pub fn parse(bytes: &'s [u8], limits: &Limits) -> Result<Self, XmlError> {
        parser::parse(bytes, limits)
    }

    /// The root element.
    pub fn root(&self) -> Element<'_> {
        Element::new(self, 0)
    }

    /// The whole document's canonical form, which can leave out one element.
    pub fn canonical(&self) -> Canonical<'_> {
        Canonical::of_document(self)
    }

    pub(super) fn position(&self, offset: u32) -> Position {
        self.lines.position(self.source, offset as usize)
    }

    pub(super) fn value(&self, attribute: &AttributeRecord) -> &str {
        value(self.source, &self.decoded, attribute.value)
    }

    /// The URI that a namespace reference stands for; empty for no namespace.
    pub(super) fn namespace(&self, namespace: Namespace) -> &str {
        match namespace {
            Namespace::NONE => "",
            Namespace::XML => super::XML_NAMESPACE,
            Namespace(declaration) => self.value(&self.attributes[declaration as usize]),
        }
    }

    pub(super) fn element(&self, index: u32) -> &ElementRecord {
        self.nodes[index as usize]
            .as_element()
            .expect("an element's index is only taken from an element")
    }

    pub(super) fn attributes_of(&self, element: &ElementRecord) -> &[AttributeRecord] {
        let first = element.attributes as usize;
        &self.attributes[first..first + usize::from(element.attribute_count)]
    }
}

/// An attribute's value: offsets past the source are offsets into what was decoded.
pub(super) fn value<'t>(source: &'t str, decoded: &'t str, span: Span) -> &'t str {
    match span.start.checked_sub(source.len() as u32) {
        Some(start) => Span {
            start,
            end: start + (span.end - span.start),
        }
        .of(decoded),
        None => span.of(source),
    }
}

/// The index that stands for no node.
pub(super) const NO_NODE: u32 = u32::MAX;

/// Something in document order.
#[derive(Debug)]
pub(super) enum Node {
    Element(ElementRecord),
    Text(TextRecord),
}

impl Node {
    pub(super) fn as_element(&self) -> Option<&ElementRecord> {
        match self {
            Self::Element(record) => Some(record),
            Self::Text(_) => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct ElementRecord {
    /// From `<` of the start tag to `>` of the end tag.
    pub(super) span: Span,
    pub(super) name: Name,
    pub(super) namespace: Namespace,
    /// The parent's index, or [`NO_NODE`].
    pub(super) parent: u32,
    /// The index after everything inside the element.
    pub(super) after: u32,
    /// The index of its first attribute.
    pub(super) attributes: u32,
    pub(super) attribute_count: u16,
}

/// A run of text, or one CDATA section without its delimiters.
#[derive(Debug)]
pub(super) struct TextRecord {
    pub(super) span: Span,
    pub(super) cdata: bool,
}

#[derive(Debug)]
pub(super) struct AttributeRecord {
    pub(super) name: Name,
    /// In the source, or behind its end in what was decoded.
    pub(super) value: Span,
    pub(super) namespace: Namespace,
    pub(super) kind: AttributeKind,
}

/// What an attribute is to C14N.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AttributeKind {
    /// A namespace declaration that changes what is in scope.
    Declaration,
    /// An attribute proper.
    Plain,
    /// A namespace declaration that says what the parent said already.
    Superfluous,
}

/// The index of the declaration that an element or attribute got its namespace from, or one of two constants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Namespace(pub(super) u32);

impl Namespace {
    pub(super) const NONE: Self = Self(u32::MAX);
    pub(super) const XML: Self = Self(u32::MAX - 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_small() {
        assert!(size_of::<Node>() <= 40, "{}", size_of::<Node>());
        assert!(
            size_of::<AttributeRecord>() <= 24,
            "{}",
            size_of::<AttributeRecord>()
        );
    }
}
