//! Reads rule text into the typed source, checking every name and value.
//!
//! Layer 1, inside `rules`. Called by source; calls xml.
//! Holds: what has an unknown name is refused, or noted where the caller asks for it; never passed over in silence;
//!        every error has the place in the document that people edit.
//! See `guide::dialect` for the vocabulary.

mod inbound;
mod outbound;
mod reader;

use std::cell::RefCell;
use std::sync::Arc;

use self::reader::Node;
use super::error::Kind;
use super::source::{Collection, Edit, MapText, VariableName};
use super::{Dialect, RuleError, RuleSource, SourceOrigin};
use crate::xml::{self, Attribute, Position};

/// How large one document of rules may be, in octets.
pub(crate) const MAX_DOCUMENT: usize = 32 << 20;

/// How many elements, texts and attributes it may hold: 20,000 rules with twenty conditions each.
pub(crate) const MAX_NODES: usize = 4_000_000;

/// The namespace of our own additions, the same as in feeds.
const NAMESPACE: &str = "urn:stopgap:feed:1";

/// The one addition that rule text knows, on its root element.
const DIALECT: &str = "dialect";

/// What to do with an element or attribute of unknown name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unknown {
    Note,
    Refuse,
}

const SECTIONS: &[&str] = &[
    "allowedServerVariables",
    "globalRules",
    "outboundRules",
    "providers",
    "rewriteMaps",
    "rules",
];

/// Reads a document whose root is `<configuration>`, `<system.webServer>`, `<rewrite>` or a section.
pub(crate) fn document(
    text: &str,
    origin: &SourceOrigin,
    unknown: Unknown,
) -> Result<RuleSource, RuleError> {
    let document = reader::Document {
        origin,
        file: Arc::from(origin.name.as_str()),
        unknown,
        notices: RefCell::default(),
    };
    let limits = xml::Limits {
        bytes: MAX_DOCUMENT,
        nodes: MAX_NODES,
        ..xml::Limits::default()
    };
    let tree = xml::Document::parse(text.as_bytes(), &limits).map_err(|error| {
        let place = document.place(error.position().unwrap_or(Position::START));
        RuleError::new(&place, Kind::Xml(error))
    })?;
    let mut source = RuleSource::empty();
    let root = Node::new(tree.root(), &document);
    match root.name() {
        "configuration" => configuration(root, &mut source)?,
        "system.webServer" => web_server(root, &mut source)?,
        "rewrite" => rewrite(root, &mut source)?,
        name if SECTIONS.contains(&name) => section(root, &mut source)?,
        name => {
            return Err(root.error(Kind::Value {
                found: name.chars().take(80).collect(),
                expected: "<rewrite>, or one of its sections such as <rules>, as the root element"
                    .to_owned(),
            }));
        }
    }
    source.dialect = dialect(root)?;
    source.check_names()?;
    source.notices = document.notices.take();
    Ok(source)
}

fn dialect(root: Node<'_>) -> Result<Dialect, RuleError> {
    let written = root.element.attribute_ns(NAMESPACE, DIALECT);
    match written.map(Attribute::value) {
        None | Some("iis") => Ok(Dialect::Iis),
        Some("hardened") => Ok(Dialect::Hardened),
        Some(word) => Err(root.error(Kind::Value {
            found: word.chars().take(80).collect(),
            expected: "hardened or iis as the dialect".to_owned(),
        })),
    }
}

/// A whole web.config: everything but the rewrite section is not ours to read.
fn configuration(node: Node<'_>, source: &mut RuleSource) -> Result<(), RuleError> {
    for element in node.element.children() {
        let child = node.at(element);
        match element.name() {
            "system.webServer" => web_server(child, source)?,
            "location" => location(child, source)?,
            _ => {}
        }
    }
    Ok(())
}

/// `<location>` for the whole file is common; for a path its rules would apply to too much here.
fn location(node: Node<'_>, source: &mut RuleSource) -> Result<(), RuleError> {
    let everywhere = matches!(node.value("path"), None | Some("" | "."));
    if everywhere {
        return configuration(node, source);
    }
    match node.element.descendants().find(|element| element.name() == "rewrite") {
        None => Ok(()),
        Some(_) => Err(node.error(Kind::Unsupported(
            "<location> with a path holds rewrite rules, which would apply to the whole site here; put them into a \
             file of their own and give it that path as its scope"
                .to_owned(),
        ))),
    }
}

fn web_server(node: Node<'_>, source: &mut RuleSource) -> Result<(), RuleError> {
    for element in node.element.children() {
        if element.name() == "rewrite" {
            rewrite(node.at(element), source)?;
        }
    }
    Ok(())
}

fn rewrite(node: Node<'_>, source: &mut RuleSource) -> Result<(), RuleError> {
    node.check(&[])?;
    let mut seen = Vec::new();
    for child in node.children(SECTIONS)? {
        if seen.contains(&child.name()) {
            let what = format!("section <{}>", child.name());
            return Err(child.error(Kind::Duplicate(what)));
        }
        seen.push(child.name());
        section(child, source)?;
    }
    Ok(())
}

fn section(node: Node<'_>, source: &mut RuleSource) -> Result<(), RuleError> {
    match node.name() {
        "allowedServerVariables" => {
            source.allowed_variables = collection(node, &[], "add", allowed_variable)?;
        }
        "globalRules" => source.global_rules = inbound::rules(node)?,
        "outboundRules" => outbound::section(node, source)?,
        "rewriteMaps" => source.maps = collection(node, &[], "rewriteMap", rewrite_map)?,
        "rules" => source.rules = inbound::rules(node)?,
        // Only the section `providers` is left: code in .NET, which cannot run here.
        _ => {
            if let Some(provider) = node
                .element
                .children()
                .find(|child| child.name() != "clear")
            {
                let node = node.at(provider);
                return Err(node.error(Kind::Unsupported(
                    "rewrite providers are .NET code and are not supported; use a rewrite map instead".to_owned(),
                )));
            }
        }
    }
    Ok(())
}

/// Reads the children of a collection element: items, `<clear/>` and `<remove name="..."/>`.
fn collection<'a, T>(
    node: Node<'a>,
    attributes: &[&str],
    item: &str,
    read: impl Fn(Node<'a>) -> Result<T, RuleError>,
) -> Result<Collection<T>, RuleError> {
    node.check(attributes)?;
    let edits = node.children(&[item, "clear", "remove"])?;
    let edits = edits.into_iter().map(|child| edit(child, &read));
    Ok(Collection {
        edits: edits.collect::<Result<_, _>>()?,
    })
}

fn edit<'a, T>(
    node: Node<'a>,
    read: impl Fn(Node<'a>) -> Result<T, RuleError>,
) -> Result<Edit<T>, RuleError> {
    match node.name() {
        "clear" => {
            node.check(&[])?;
            node.no_children()?;
            Ok(Edit::Clear)
        }
        "remove" => {
            node.check(&["name"])?;
            node.no_children()?;
            Ok(Edit::Remove(node.required_name("name")?.to_owned()))
        }
        _ => read(node).map(Edit::Add),
    }
}

fn allowed_variable(node: Node<'_>) -> Result<VariableName, RuleError> {
    node.check(&["name"])?;
    node.no_children()?;
    Ok(VariableName {
        name: node.required_name("name")?.to_owned(),
        place: node.place(),
    })
}

fn rewrite_map(node: Node<'_>) -> Result<MapText, RuleError> {
    node.check(&["name", "defaultValue", "ignoreCase"])?;
    let name = node.required_name("name")?;
    if name.contains([':', '{', '}']) {
        return Err(node.value_error("name", "a name without colon and braces"));
    }
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut keys = std::collections::HashSet::new();
    for child in node.children(&["add", "clear", "remove"])? {
        match child.name() {
            "clear" => {
                child.check(&[])?;
                entries.clear();
                keys.clear();
            }
            "remove" => {
                child.check(&["key"])?;
                let key = child.required("key")?;
                keys.remove(key);
                entries.retain(|(known, _)| known != key);
            }
            _ => {
                child.check(&["key", "value"])?;
                let key = child.required("key")?;
                if !keys.insert(key) {
                    let what = format!("key {key:?} of rewrite map {name:?}");
                    return Err(child.attribute_error("key", Kind::Duplicate(what)));
                }
                let value = child.value("value").unwrap_or_default();
                child.limit("value", value, "a value in octets", reader::MAX_TEXT)?;
                entries.push((key.to_owned(), value.to_owned()));
            }
        }
        child.no_children()?;
    }
    Ok(MapText {
        name: name.to_owned(),
        place: node.place(),
        default: node.value("defaultValue").unwrap_or_default().to_owned(),
        ignore_case: node.boolean("ignoreCase", true)?,
        entries,
    })
}
