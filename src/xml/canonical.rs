//! Canonical XML 1.0, inclusive, without comments: the octets that signatures are made over.

use super::XML_NAMESPACE;
use super::document::{AttributeKind, AttributeRecord, Document, ElementRecord, NO_NODE, Node};
use super::text;
use super::tree::Element;

/// Writes the canonical form of a whole document (W3C REC-xml-c14n-20010315).
pub fn canonicalize(document: &Document<'_>) -> Vec<u8> {
    document.canonical().to_vec()
}

/// What to write canonically: a document or one of its elements, perhaps without one element inside.
#[derive(Clone, Copy, Debug)]
pub struct Canonical<'a> {
    apex: Element<'a>,
    omitted: Option<Element<'a>>,
}

impl<'a> Canonical<'a> {
    pub(super) fn of_document(document: &'a Document<'a>) -> Self {
        Self::of_element(document.root())
    }

    pub(super) fn of_element(apex: Element<'a>) -> Self {
        Self {
            apex,
            omitted: None,
        }
    }

    /// Leaves out this element with everything inside it, as the enveloped-signature transform does.
    pub fn without(self, element: Element<'a>) -> Self {
        Self {
            omitted: Some(element),
            ..self
        }
    }

    /// The canonical octets in one piece.
    pub fn to_vec(self) -> Vec<u8> {
        let mut length = 0;
        self.write(&mut |piece| length += piece.len());
        let mut octets = Vec::with_capacity(length);
        self.write(&mut |piece| octets.extend_from_slice(piece));
        octets
    }

    /// Gives the canonical octets piece by piece, so that they can be digested without being stored.
    pub fn write(self, sink: &mut dyn FnMut(&[u8])) {
        let document = self.apex.document();
        let omitted = self
            .omitted
            .filter(|element| std::ptr::eq(element.document(), document))
            .map(Element::index);
        let mut writer = Writer {
            document,
            sink,
            order: Vec::new(),
        };
        let apex = self.apex.index();
        let end = document.element(apex).after;
        let (mut index, mut open) = (apex, NO_NODE);
        loop {
            // An element ends where its last descendant does; several may end at one place.
            while open != NO_NODE && document.element(open).after <= index {
                writer.end_tag(document.element(open));
                if open == apex {
                    return;
                }
                open = document.element(open).parent;
            }
            if index >= end {
                return;
            }
            index = match &document.nodes[index as usize] {
                Node::Element(element) if Some(index) == omitted => element.after,
                Node::Element(element) => {
                    writer.start_tag(element, index == apex);
                    open = index;
                    index + 1
                }
                Node::Text(run) => {
                    writer.text(run.span.of(document.source), run.cdata);
                    index + 1
                }
            };
        }
    }
}

struct Writer<'a, 's> {
    document: &'a Document<'a>,
    sink: &'s mut dyn FnMut(&[u8]),
    /// One element's attributes while they are sorted; kept for its memory.
    order: Vec<&'a AttributeRecord>,
}

impl<'a> Writer<'a, '_> {
    fn start_tag(&mut self, element: &'a ElementRecord, is_apex: bool) {
        let document = self.document;
        (self.sink)(b"<");
        (self.sink)(element.name.qualified(document.source).as_bytes());

        // Namespaces by prefix, the default one first (section 2.2).
        let mut order = std::mem::take(&mut self.order);
        let own = document.attributes_of(element).iter();
        match is_apex {
            true => order.extend(self.in_scope(element)),
            false => order.extend(own.clone().filter(|a| a.kind == AttributeKind::Declaration)),
        }
        order.sort_unstable_by_key(|declaration| declared_prefix(document, declaration));
        order
            .iter()
            .for_each(|declaration| self.attribute(declaration));

        // Attributes by namespace, then by local name.
        order.clear();
        order.extend(own.filter(|attribute| attribute.kind == AttributeKind::Plain));
        if is_apex {
            self.inherit_xml_attributes(element, &mut order);
        }
        order.sort_unstable_by_key(|attribute| {
            let name = attribute.name.local(document.source);
            (document.namespace(attribute.namespace), name)
        });
        order.iter().for_each(|attribute| self.attribute(attribute));
        order.clear();
        self.order = order;
        (self.sink)(b">");
    }

    fn end_tag(&mut self, element: &ElementRecord) {
        (self.sink)(b"</");
        (self.sink)(element.name.qualified(self.document.source).as_bytes());
        (self.sink)(b">");
    }

    fn attribute(&mut self, attribute: &AttributeRecord) {
        (self.sink)(b" ");
        (self.sink)(attribute.name.qualified(self.document.source).as_bytes());
        (self.sink)(b"=\"");
        escape(self.document.value(attribute), in_value, self.sink);
        (self.sink)(b"\"");
    }

    fn text(&mut self, raw: &str, cdata: bool) {
        let sink = &mut *self.sink;
        text::decode(raw, cdata, &mut |piece| escape(piece, in_text, sink));
    }

    /// The declarations that an element sees, its own and its ancestors', without an empty default one.
    fn in_scope(&self, element: &'a ElementRecord) -> Vec<&'a AttributeRecord> {
        let document = self.document;
        let mut seen: Vec<&AttributeRecord> = Vec::new();
        for ancestor in ancestors_or_self(document, element) {
            for declaration in document.attributes_of(ancestor) {
                let prefix = declared_prefix(document, declaration);
                if declaration.kind == AttributeKind::Declaration
                    && !seen
                        .iter()
                        .any(|nearer| declared_prefix(document, nearer) == prefix)
                {
                    seen.push(declaration);
                }
            }
        }
        seen.retain(|declaration| !document.value(declaration).is_empty());
        seen
    }

    /// Adds the ancestors' attributes of the namespace `xml` that the element does not have itself (section 2.4).
    fn inherit_xml_attributes(
        &self,
        element: &'a ElementRecord,
        attributes: &mut Vec<&'a AttributeRecord>,
    ) {
        let document = self.document;
        let is_xml = |attribute: &AttributeRecord| {
            attribute.kind == AttributeKind::Plain
                && document.namespace(attribute.namespace) == XML_NAMESPACE
        };
        for ancestor in ancestors_or_self(document, element).skip(1) {
            for inherited in document.attributes_of(ancestor) {
                let name = inherited.name.local(document.source);
                if is_xml(inherited)
                    && !attributes
                        .iter()
                        .any(|nearer| is_xml(nearer) && nearer.name.local(document.source) == name)
                {
                    attributes.push(inherited);
                }
            }
        }
    }
}

fn ancestors_or_self<'a>(
    document: &'a Document<'a>,
    element: &'a ElementRecord,
) -> impl Iterator<Item = &'a ElementRecord> {
    std::iter::successors(Some(element), |element| {
        (element.parent != NO_NODE).then(|| document.element(element.parent))
    })
}

/// The prefix that a declaration binds; empty for the default namespace.
fn declared_prefix<'a>(document: &'a Document<'a>, declaration: &AttributeRecord) -> &'a str {
    match declaration.name.prefix {
        0 => "",
        _ => declaration.name.local(document.source),
    }
}

/// What stands for an octet of text, if not the octet itself (section 2.3).
fn in_text(octet: u8) -> Option<&'static [u8]> {
    match octet {
        b'&' => Some(b"&amp;"),
        b'<' => Some(b"&lt;"),
        b'>' => Some(b"&gt;"),
        b'\r' => Some(b"&#xD;"),
        _ => None,
    }
}

/// What stands for an octet of an attribute value, if not the octet itself (section 2.3).
fn in_value(octet: u8) -> Option<&'static [u8]> {
    match octet {
        b'&' => Some(b"&amp;"),
        b'<' => Some(b"&lt;"),
        b'"' => Some(b"&quot;"),
        b'\t' => Some(b"&#x9;"),
        b'\n' => Some(b"&#xA;"),
        b'\r' => Some(b"&#xD;"),
        _ => None,
    }
}

fn escape(text: &str, escaped: fn(u8) -> Option<&'static [u8]>, sink: &mut dyn FnMut(&[u8])) {
    let octets = text.as_bytes();
    let mut written = 0;
    for (at, &octet) in octets.iter().enumerate() {
        if let Some(instead) = escaped(octet) {
            if written < at {
                sink(&octets[written..at]);
            }
            sink(instead);
            written = at + 1;
        }
    }
    if written < octets.len() {
        sink(&octets[written..]);
    }
}
