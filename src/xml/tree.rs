//! Views of a document's elements and attributes, as cheap to copy as a reference.

use std::borrow::Cow;
use std::fmt;

use super::canonical::Canonical;
use super::document::{
    AttributeKind, AttributeRecord, Document, ElementRecord, NO_NODE, Node, TextRecord,
};
use super::position::Position;
use super::text;

/// An element of a [`Document`].
#[derive(Clone, Copy)]
pub struct Element<'a> {
    document: &'a Document<'a>,
    index: u32,
}

impl<'a> Element<'a> {
    pub(super) fn new(document: &'a Document<'a>, index: u32) -> Self {
        Self { document, index }
    }

    /// The name without its prefix.
    pub fn name(self) -> &'a str {
        self.record().name.local(self.document.source)
    }

    /// The name as written, with its prefix.
    pub fn qualified_name(self) -> &'a str {
        self.record().name.qualified(self.document.source)
    }

    /// The namespace's URI; empty for none.
    pub fn namespace(self) -> &'a str {
        self.document.namespace(self.record().namespace)
    }

    /// Whether the element has this namespace (empty for none) and this name.
    pub fn is(self, namespace: &str, name: &str) -> bool {
        self.name() == name && self.namespace() == namespace
    }

    /// Where its start tag begins.
    pub fn position(self) -> Position {
        self.document.position(self.record().span.start)
    }

    /// Its attributes in the order written, without namespace declarations.
    pub fn attributes(self) -> impl Iterator<Item = Attribute<'a>> {
        let document = self.document;
        document
            .attributes_of(self.record())
            .iter()
            .filter(|record| record.kind == AttributeKind::Plain)
            .map(move |record| Attribute { document, record })
    }

    /// The attribute of this name in no namespace.
    pub fn attribute(self, name: &str) -> Option<Attribute<'a>> {
        self.attribute_ns("", name)
    }

    /// The attribute of this name in this namespace.
    pub fn attribute_ns(self, namespace: &str, name: &str) -> Option<Attribute<'a>> {
        self.attributes()
            .find(|attribute| attribute.name() == name && attribute.namespace() == namespace)
    }

    /// Its child elements in document order.
    pub fn children(self) -> impl Iterator<Item = Element<'a>> {
        let document = self.document;
        self.child_nodes()
            .filter_map(move |index| match &document.nodes[index as usize] {
                Node::Element(_) => Some(Element { document, index }),
                Node::Text(_) => None,
            })
    }

    /// Itself and every element inside it, in document order.
    pub fn descendants(self) -> impl Iterator<Item = Element<'a>> {
        let document = self.document;
        (self.index..self.record().after).filter_map(move |index| {
            match &document.nodes[index as usize] {
                Node::Element(_) => Some(Element { document, index }),
                Node::Text(_) => None,
            }
        })
    }

    /// The element it stands in; `None` for the root.
    pub fn parent(self) -> Option<Element<'a>> {
        let index = self.record().parent;
        (index != NO_NODE).then_some(Self { index, ..self })
    }

    /// Its own text and CDATA, without that of its children: references resolved, line ends as LF.
    pub fn text(self) -> Cow<'a, str> {
        let mut runs = self.runs();
        let (first, second) = (runs.next(), runs.next());
        match (first, second) {
            (None, _) => Cow::Borrowed(""),
            (Some(run), None) if text::is_literal(self.raw(run), run.cdata) => {
                Cow::Borrowed(self.raw(run))
            }
            _ => {
                let mut text = String::new();
                self.each_piece(&mut |piece| text.push_str(piece));
                Cow::Owned(text)
            }
        }
    }

    /// Where the first character of [`text`](Self::text) stands: in a CDATA section, after its `<![CDATA[`.
    ///
    /// Where the start tag begins when there is no text.
    pub fn text_position(self) -> Position {
        self.text_position_at(0)
    }

    /// Where the character at octet `offset` of [`text`](Self::text) stands in the document.
    ///
    /// An offset inside what a reference gave is where the reference begins; one past the text's end is where its
    /// last character stands; where the start tag begins when there is no text.
    pub fn text_position_at(self, offset: usize) -> Position {
        let mut left = offset;
        let mut last = None;
        for run in self.runs() {
            let raw = self.raw(run);
            // Walks the pieces of one run, whose lengths before and after decoding tell where each began.
            let mut found = None;
            text::each_decoded(raw, run.cdata, &mut |at, piece, literal| {
                if found.is_none() && !piece.is_empty() {
                    let within = if literal {
                        character_at(piece, left)
                    } else {
                        0
                    };
                    last = Some(run.span.start + (at + within) as u32);
                    if left < piece.len() {
                        found = last;
                    } else {
                        left -= piece.len();
                    }
                }
            });
            if let Some(at) = found {
                return self.document.position(at);
            }
        }
        last.map_or_else(|| self.position(), |at| self.document.position(at))
    }

    /// Whether its own text holds anything but white space.
    pub fn has_text(self) -> bool {
        let mut any = false;
        self.each_piece(&mut |piece| any |= piece.bytes().any(|octet| !text::is_white(octet)));
        any
    }

    /// Its source, from `<` of the start tag to `>` of the end tag, exactly as written.
    pub fn source(self) -> &'a str {
        self.record().span.of(self.document.source)
    }

    /// Its canonical form as a part of the document, with every namespace that is in scope.
    pub fn canonical(self) -> Canonical<'a> {
        Canonical::of_element(self)
    }

    pub(super) fn document(self) -> &'a Document<'a> {
        self.document
    }

    pub(super) fn index(self) -> u32 {
        self.index
    }

    fn record(self) -> &'a ElementRecord {
        self.document.element(self.index)
    }

    fn child_nodes(self) -> impl Iterator<Item = u32> {
        let (document, after) = (self.document, self.record().after);
        let inside = move |index: &u32| *index < after;
        std::iter::successors(Some(self.index + 1).filter(inside), move |&index| {
            let next = match &document.nodes[index as usize] {
                Node::Element(element) => element.after,
                Node::Text(_) => index + 1,
            };
            Some(next).filter(inside)
        })
    }

    fn runs(self) -> impl Iterator<Item = &'a TextRecord> {
        let document = self.document;
        self.child_nodes()
            .filter_map(move |index| match &document.nodes[index as usize] {
                Node::Text(run) => Some(run),
                Node::Element(_) => None,
            })
    }

    fn raw(self, run: &TextRecord) -> &'a str {
        run.span.of(self.document.source)
    }

    fn each_piece(self, sink: &mut dyn FnMut(&str)) {
        for run in self.runs() {
            text::decode(self.raw(run), run.cdata, sink);
        }
    }
}

/// Where the character begins that octet `offset` of `piece`, or its last octet, belongs to.
fn character_at(piece: &str, offset: usize) -> usize {
    let mut at = offset.min(piece.len() - 1);
    while !piece.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl PartialEq for Element<'_> {
    /// Whether both are the same element of the same document.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.document, other.document) && self.index == other.index
    }
}

impl Eq for Element<'_> {}

impl fmt::Debug for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}> at {}", self.qualified_name(), self.position())
    }
}

/// An attribute of an [`Element`].
#[derive(Clone, Copy)]
pub struct Attribute<'a> {
    document: &'a Document<'a>,
    record: &'a AttributeRecord,
}

impl<'a> Attribute<'a> {
    /// The name without its prefix.
    pub fn name(self) -> &'a str {
        self.record.name.local(self.document.source)
    }

    /// The name as written, with its prefix.
    pub fn qualified_name(self) -> &'a str {
        self.record.name.qualified(self.document.source)
    }

    /// The namespace's URI; empty for none, which is usual.
    pub fn namespace(self) -> &'a str {
        self.document.namespace(self.record.namespace)
    }

    /// The value: references resolved, white space as spaces.
    pub fn value(self) -> &'a str {
        self.document.value(self.record)
    }

    /// Where its name begins.
    pub fn position(self) -> Position {
        self.document.position(self.record.name.start)
    }
}

impl fmt::Debug for Attribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}", self.qualified_name(), self.value())
    }
}
