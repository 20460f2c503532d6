//! Builds a document from the tokenizer's events, which are taken for where they begin and end and nothing else.

use quick_xml::Reader;
use quick_xml::errors::{Error, IllFormedError, SyntaxError};
use quick_xml::events::Event;

use super::XML_NAMESPACE;
use super::document::{
    AttributeKind, AttributeRecord, Document, ElementRecord, Limits, NO_NODE, Namespace, Node,
    TextRecord,
};
use super::error::{Failure, Kind, Limit, XmlError};
use super::position::{Lines, Position};
use super::scanner::{Name, Scanner, Span};
use super::text::{self, excerpt, is_white};

/// The most namespace declarations in scope at once, so that looking one up stays cheap.
pub(super) const NAMESPACES_IN_SCOPE: usize = 128;

/// The longest document whatever the limits say: offsets are 32 bits wide, and decoded values lie behind the source.
const ADDRESSABLE_BYTES: usize = 1 << 30;

/// The namespace of namespace declarations, which nothing may be bound to (Namespaces in XML 1.0 section 3).
const XMLNS_NAMESPACE: &str = "http://www.w3.org/2000/xmlns/";

pub(super) fn parse<'s>(bytes: &'s [u8], limits: &Limits) -> Result<Document<'s>, XmlError> {
    let most = limits.bytes.min(ADDRESSABLE_BYTES);
    if bytes.len() > most {
        return Err(XmlError::new(Kind::Limit(Limit::Bytes(most)), None));
    }
    let source = match str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let position = Position::START.after(valid.trim_start_matches('\u{feff}'));
            return Err(XmlError::new(Kind::NotUtf8, Some(position)));
        }
    };
    let lines = Lines::new(source);
    let mut builder = Builder::new(source, limits);
    match builder.run() {
        Ok(()) => Ok(Document {
            decoded: builder.decoded,
            nodes: builder.nodes,
            attributes: builder.attributes,
            source,
            lines,
        }),
        Err(Failure { kind, offset }) => {
            let position = lines.position(source, offset);
            Err(XmlError::new(kind, Some(position)))
        }
    }
}

/// A prefix that is bound while its element is open.
struct Binding {
    prefix: Span,
    /// The index of the declaring attribute.
    declaration: u32,
    /// The element's level.
    depth: usize,
}

struct Builder<'s> {
    source: &'s str,
    limits: &'s Limits,
    nodes: Vec<Node>,
    attributes: Vec<AttributeRecord>,
    decoded: String,
    /// The innermost open element, or [`NO_NODE`].
    open: u32,
    depth: usize,
    bindings: Vec<Binding>,
    /// Whether the last node is a run of text that the next token continues.
    in_text: bool,
}

impl<'s> Builder<'s> {
    fn new(source: &'s str, limits: &'s Limits) -> Self {
        // Taken at once, since growing would hold the old and the new memory for a moment: each element, end tag and
        // comment has a '<', a run of text lies between two of them, and each attribute has a '='.
        let tags = memchr::memchr_iter(b'<', source.as_bytes()).count();
        let values = memchr::memchr_iter(b'=', source.as_bytes()).count();
        Self {
            source,
            limits,
            nodes: Vec::with_capacity(tags.min(limits.nodes)),
            attributes: Vec::with_capacity(values.min(limits.nodes)),
            decoded: String::new(),
            open: NO_NODE,
            depth: 0,
            bindings: Vec::new(),
            in_text: false,
        }
    }

    fn run(&mut self) -> Result<(), Failure> {
        if let Some((offset, character)) = self
            .source
            .char_indices()
            .find(|(_, character)| !text::is_allowed(*character))
        {
            return fail(Kind::CharacterForbidden(character), offset);
        }
        // The tokenizer would skip a second byte order mark and count wrong from there.
        if self.source.starts_with('\u{feff}') {
            return fail(Kind::OutsideRoot, 0);
        }
        let mut reader = Reader::from_str(self.source);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        loop {
            let start = reader.buffer_position() as usize;
            let event = reader
                .read_event()
                .map_err(|error| token_failure(&error, self.source, start))?;
            let end = reader.buffer_position() as usize;
            if matches!(event, Event::Eof) {
                return self.finish();
            }
            self.token(&event, start, end)?;
        }
    }

    fn token(&mut self, event: &Event<'_>, start: usize, end: usize) -> Result<(), Failure> {
        let continues = matches!(event, Event::Text(_) | Event::GeneralRef(_));
        match event {
            Event::Text(_) | Event::GeneralRef(_) => self.text(start, end)?,
            Event::CData(_) => self.cdata(start, end)?,
            Event::Comment(_) => self.comment(start, end)?,
            Event::Decl(_) => self.declaration(start, end)?,
            Event::DocType(_) => return fail(Kind::DocumentType, start),
            Event::PI(_) => return fail(Kind::ProcessingInstruction, start),
            Event::Empty(_) => {
                self.start_tag(start, end - 2)?;
                self.close(end);
            }
            Event::Start(_) => self.start_tag(start, end - 1)?,
            Event::End(_) => self.end_tag(start, end)?,
            Event::Eof => {}
        }
        self.in_text = continues && self.open != NO_NODE;
        Ok(())
    }

    fn finish(&self) -> Result<(), Failure> {
        if self.open != NO_NODE
            && let Node::Element(element) = &self.nodes[self.open as usize]
        {
            let opened = Position::START.after(&self.source[..element.span.start as usize]);
            let kind = Kind::EndMissing {
                name: excerpt(element.name.qualified(self.source)),
                opened: opened.to_string(),
            };
            return fail(kind, self.source.len());
        }
        match self.nodes.is_empty() {
            true => fail(Kind::RootMissing, self.source.len()),
            false => Ok(()),
        }
    }

    /// The XML declaration (XML 1.0 section 2.8), strictly in its order.
    fn declaration(&self, start: usize, end: usize) -> Result<(), Failure> {
        if start != 0 {
            return fail(Kind::DeclarationPlace, start);
        }
        let mut scanner = Scanner::new(self.source, "<?xml".len(), end - "?>".len());
        let mut read = || -> Result<Option<(&str, &str)>, Failure> {
            let attribute = scanner.attribute()?;
            Ok(attribute.map(|(name, value)| (name.qualified(self.source), value.of(self.source))))
        };
        match read()? {
            Some(("version", "1.0")) => {}
            Some(("version", other)) => {
                return fail(Kind::VersionUnsupported(excerpt(other)), start);
            }
            _ => return fail(Kind::DeclarationForm, start),
        }
        let mut next = read()?;
        if let Some(("encoding", name)) = next {
            if !name.eq_ignore_ascii_case("utf-8") {
                return fail(Kind::EncodingUnsupported(excerpt(name)), start);
            }
            next = read()?;
        }
        if let Some(("standalone", "yes" | "no")) = next {
            next = read()?;
        }
        match next {
            Some(_) => fail(Kind::DeclarationForm, start),
            None => Ok(()),
        }
    }

    fn comment(&self, start: usize, end: usize) -> Result<(), Failure> {
        let inside = &self.source.as_bytes()[start + "<!--".len()..end - "-->".len()];
        match memchr::memmem::find(inside, b"--") {
            Some(at) => fail(Kind::CommentDashes, start + "<!--".len() + at),
            None if inside.ends_with(b"-") => fail(Kind::CommentDashes, end - "--->".len()),
            None => Ok(()),
        }
    }

    fn text(&mut self, start: usize, end: usize) -> Result<(), Failure> {
        let raw = &self.source[start..end];
        if self.open == NO_NODE {
            return match raw.bytes().position(|octet| !is_white(octet)) {
                Some(at) => fail(Kind::OutsideRoot, start + at),
                None => Ok(()),
            };
        }
        text::check(raw).map_err(|(at, kind)| Failure {
            kind,
            offset: start + at,
        })?;
        if self.in_text
            && let Some(Node::Text(run)) = self.nodes.last_mut()
        {
            run.span.end = end as u32;
            return Ok(());
        }
        let run = TextRecord {
            span: Span::new(start, end),
            cdata: false,
        };
        self.push(Node::Text(run), start)
    }

    fn cdata(&mut self, start: usize, end: usize) -> Result<(), Failure> {
        if self.open == NO_NODE {
            return fail(Kind::OutsideRoot, start);
        }
        let section = TextRecord {
            span: Span::new(start + "<![CDATA[".len(), end - "]]>".len()),
            cdata: true,
        };
        self.push(Node::Text(section), start)
    }

    /// Opens an element; `inside` is where its start tag's `>` or `/>` stands.
    fn start_tag(&mut self, start: usize, inside: usize) -> Result<(), Failure> {
        if self.open == NO_NODE && !self.nodes.is_empty() {
            return fail(Kind::SecondRoot, start);
        }
        if self.depth >= self.limits.depth {
            return fail(Kind::Limit(Limit::Depth(self.limits.depth)), start);
        }
        self.depth += 1;
        let mut scanner = Scanner::new(self.source, start + 1, inside);
        let name = scanner.name()?;
        let first = self.attributes.len();
        while let Some((name, value)) = scanner.attribute()? {
            self.attribute(first, name, value)?;
        }
        self.bind(first)?;
        self.resolve(first)?;
        let namespace = self.namespace(name, true)?;
        let element = ElementRecord {
            span: Span::new(start, start),
            name,
            namespace,
            parent: self.open,
            after: 0,
            attributes: first as u32,
            // Fits: no more than the limit, and that many were kept apart by comparing each with each.
            attribute_count: (self.attributes.len() - first) as u16,
        };
        let index = self.nodes.len() as u32;
        self.push(Node::Element(element), start)?;
        self.open = index;
        Ok(())
    }

    fn end_tag(&mut self, start: usize, end: usize) -> Result<(), Failure> {
        let mut scanner = Scanner::new(self.source, start + "</".len(), end - ">".len());
        let name = scanner.name()?;
        let found = name.qualified(self.source);
        scanner.skip_white();
        if !scanner.is_at_end() {
            return fail(Kind::Markup("an end tag holds nothing but its name"), start);
        }
        let Some(Node::Element(element)) = self.nodes.get(self.open as usize) else {
            return fail(Kind::EndUnopened(excerpt(found)), start);
        };
        let open = element.name.qualified(self.source);
        if open != found {
            let kind = Kind::EndMismatch {
                found: excerpt(found),
                open: excerpt(open),
            };
            return fail(kind, start);
        }
        self.close(end);
        Ok(())
    }

    /// Closes the innermost open element, whose source ends at `end`.
    fn close(&mut self, end: usize) {
        let after = self.nodes.len() as u32;
        if let Some(Node::Element(element)) = self.nodes.get_mut(self.open as usize) {
            element.span.end = end as u32;
            element.after = after;
            self.open = element.parent;
        }
        let depth = self.depth;
        while self
            .bindings
            .last()
            .is_some_and(|binding| binding.depth >= depth)
        {
            self.bindings.pop();
        }
        self.depth -= 1;
    }

    fn push(&mut self, node: Node, offset: usize) -> Result<(), Failure> {
        if self.nodes.len() >= self.limits.nodes {
            return fail(Kind::Limit(Limit::Nodes(self.limits.nodes)), offset);
        }
        self.nodes.push(node);
        Ok(())
    }

    /// Takes an attribute of the tag whose attributes begin at `first`; its namespace is not known yet.
    fn attribute(&mut self, first: usize, name: Name, value: Span) -> Result<(), Failure> {
        let offset = name.start as usize;
        let of_element = &self.attributes[first..];
        if of_element.len() >= self.limits.attributes.min(usize::from(u16::MAX)) {
            return fail(
                Kind::Limit(Limit::Attributes(self.limits.attributes)),
                offset,
            );
        }
        if self.attributes.len() >= self.limits.nodes {
            return fail(
                Kind::Limit(Limit::DocumentAttributes(self.limits.nodes)),
                offset,
            );
        }
        let qualified = name.qualified(self.source);
        if of_element
            .iter()
            .any(|other| other.name.qualified(self.source) == qualified)
        {
            return fail(Kind::AttributeTwice(excerpt(qualified)), offset);
        }
        let is_declaration = qualified == "xmlns" || name.prefix(self.source) == "xmlns";
        let value = self.value(value)?;
        self.attributes.push(AttributeRecord {
            name,
            value,
            namespace: Namespace::NONE,
            kind: match is_declaration {
                true => AttributeKind::Declaration,
                false => AttributeKind::Plain,
            },
        });
        Ok(())
    }

    /// Where an attribute's meaning stands: in the source when it says just that, else in `decoded`.
    fn value(&mut self, raw: Span) -> Result<Span, Failure> {
        let text = raw.of(self.source);
        if text::is_plain_value(text) {
            return Ok(raw);
        }
        if self.decoded.capacity() == 0 {
            // No meaning is longer than what was written, so this is all that will ever be needed.
            self.decoded
                .reserve_exact(self.source.len() - raw.start as usize);
        }
        let start = self.source.len() + self.decoded.len();
        text::normalize(text, &mut self.decoded).map_err(|(at, kind)| Failure {
            kind,
            offset: raw.start as usize + at,
        })?;
        Ok(Span::new(start, self.source.len() + self.decoded.len()))
    }

    /// Brings the declarations of an element into scope and marks those that change nothing.
    fn bind(&mut self, first: usize) -> Result<(), Failure> {
        for index in first..self.attributes.len() {
            let AttributeRecord { name, kind, .. } = self.attributes[index];
            if kind != AttributeKind::Declaration {
                continue;
            }
            let offset = name.start as usize;
            let prefix = match name.prefix {
                0 => Span::new(offset, offset),
                _ => Span::new(
                    offset + "xmlns:".len(),
                    offset + "xmlns:".len() + usize::from(name.local),
                ),
            };
            let uri = self.uri(Namespace(index as u32));
            let superfluous = match prefix.of(self.source) {
                "xml" if uri == XML_NAMESPACE => true,
                "xml" | "xmlns" => return fail(Kind::NamespaceForbidden, offset),
                _ if uri == XML_NAMESPACE || uri == XMLNS_NAMESPACE => {
                    return fail(Kind::NamespaceForbidden, offset);
                }
                "" => uri == self.lookup("").map_or("", |bound| self.uri(bound)),
                _ if uri.is_empty() => return fail(Kind::NamespaceForbidden, offset),
                prefix => self
                    .lookup(prefix)
                    .is_some_and(|bound| self.uri(bound) == uri),
            };
            if superfluous {
                self.attributes[index].kind = AttributeKind::Superfluous;
                continue;
            }
            if self.bindings.len() >= NAMESPACES_IN_SCOPE {
                return fail(Kind::Limit(Limit::Namespaces), offset);
            }
            self.bindings.push(Binding {
                prefix,
                declaration: index as u32,
                depth: self.depth,
            });
        }
        Ok(())
    }

    /// Gives every attribute of an element its namespace; no two may agree in namespace and local name.
    fn resolve(&mut self, first: usize) -> Result<(), Failure> {
        for index in first..self.attributes.len() {
            let AttributeRecord { name, kind, .. } = self.attributes[index];
            if kind != AttributeKind::Plain {
                continue;
            }
            let namespace = self.namespace(name, false)?;
            self.attributes[index].namespace = namespace;
            let (uri, local) = (self.uri(namespace), name.local(self.source));
            let twice = namespace != Namespace::NONE
                && self.attributes[first..index].iter().any(|other| {
                    other.kind == AttributeKind::Plain
                        && other.namespace != Namespace::NONE
                        && other.name.local(self.source) == local
                        && self.uri(other.namespace) == uri
                });
            if twice {
                return fail(
                    Kind::AttributeTwice(excerpt(name.qualified(self.source))),
                    name.start as usize,
                );
            }
        }
        Ok(())
    }

    /// The namespace of a name. Without a prefix only elements have one.
    fn namespace(&self, name: Name, is_element: bool) -> Result<Namespace, Failure> {
        match name.prefix(self.source) {
            "" if !is_element => Ok(Namespace::NONE),
            "" => Ok(self
                .lookup("")
                .filter(|bound| !self.uri(*bound).is_empty())
                .unwrap_or(Namespace::NONE)),
            "xml" => Ok(Namespace::XML),
            prefix => self.lookup(prefix).ok_or_else(|| Failure {
                kind: Kind::PrefixUndeclared(excerpt(prefix)),
                offset: name.start as usize,
            }),
        }
    }

    fn lookup(&self, prefix: &str) -> Option<Namespace> {
        self.bindings
            .iter()
            .rev()
            .find(|binding| binding.prefix.of(self.source) == prefix)
            .map(|binding| Namespace(binding.declaration))
    }

    fn uri(&self, namespace: Namespace) -> &str {
        let value = match namespace {
            Namespace::NONE => return "",
            Namespace::XML => return XML_NAMESPACE,
            Namespace(declaration) => self.attributes[declaration as usize].value,
        };
        super::document::value(self.source, &self.decoded, value)
    }
}

fn fail<T>(kind: Kind, offset: usize) -> Result<T, Failure> {
    Err(Failure { kind, offset })
}

/// What the tokenizer could not split, in our words. `start` is where the token begins.
fn token_failure(error: &Error, source: &str, start: usize) -> Failure {
    let kind = match error {
        Error::IllFormed(IllFormedError::UnclosedReference) => Kind::ReferenceUnclosed,
        Error::IllFormed(IllFormedError::MissingDoctypeName)
        | Error::Syntax(SyntaxError::UnclosedDoctype) => Kind::DocumentType,
        Error::Syntax(SyntaxError::UnclosedComment) => {
            Kind::Markup("this comment does not end: '-->' is missing")
        }
        Error::Syntax(SyntaxError::UnclosedCData) => {
            Kind::Markup("this CDATA section does not end: ']]>' is missing")
        }
        Error::Syntax(SyntaxError::UnclosedPI) => Kind::ProcessingInstruction,
        Error::Syntax(SyntaxError::UnclosedXmlDecl) => Kind::DeclarationForm,
        Error::Syntax(SyntaxError::InvalidBangMarkup) => {
            Kind::Markup("'<!' begins neither a comment nor a CDATA section")
        }
        _ => Kind::TagUnclosed,
    };
    Failure {
        kind,
        offset: start.min(source.len()),
    }
}
