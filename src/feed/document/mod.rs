//! A verified document as mitigations.
//!
//! The format is the one that Microsoft's Exchange service publishes (`EOCS`, `Config`, `ActionList`, `Action`,
//! `Value`), with extensions in a namespace of their own.

mod actions;
mod local;
mod mitigation;
mod notices;
mod vectors;

use crate::model::Mitigation;
use crate::signature::Verified;
use crate::xml::{Document, Element, Limits};

use super::config::TypeAliases;
use super::error::{FeedError, Kind};
use notices::Notices;

pub use local::{LocalContent, LocalDocument};

/// The namespace of everything that Microsoft's feed does not have.
pub const NAMESPACE: &str = "urn:stopgap:feed:1";
/// The most mitigations in one document.
pub const CONFIG_LIMIT: usize = 512;
/// The most actions in one mitigation.
pub const ACTION_LIMIT: usize = 64;
/// The most vectors in one mitigation.
pub const VECTOR_LIMIT: usize = 256;
/// The most fields in one vector's request, and in its response.
pub const FIELD_LIMIT: usize = 64;
/// The most notices kept of one document.
pub const NOTICE_LIMIT: usize = 64;

/// The namespace of signatures (XML Signature Syntax and Processing), which is no news in a local document.
const SIGNATURE_NAMESPACE: &str = "http://www.w3.org/2000/09/xmldsig#";

/// The extensions understood here, as `mustUnderstand` may list them.
const EXTENSIONS: &[&str] = &[
    "applies",
    "approval",
    "body",
    "builds",
    "cve",
    "dialect",
    "expect",
    "group",
    "header",
    "mode",
    "mustUnderstand",
    "pass",
    "ref",
    "response",
    "sideEffects",
    "stop",
    "target",
    "vectors",
    "withdrawn",
];

/// What one document offers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FeedDocument {
    /// Its version, `1.0` or `1.0.x`.
    pub version: String,
    /// Its mitigations in document order, those with a [`failure`](Mitigation::failure) among them.
    pub mitigations: Vec<Mitigation>,
    /// Configs whose id is none, so that they cannot be mitigations at all.
    pub nameless: Vec<Nameless>,
    /// What it holds that is not known here, each with its place; at most [`NOTICE_LIMIT`].
    pub notices: Vec<String>,
}

/// A `Config` without a usable id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Nameless {
    /// The id as written; empty when there is none.
    pub id: String,
    /// What is wrong with it, with its place.
    pub reason: String,
}

impl FeedDocument {
    /// Reads the octets that a signature was verified over, and nothing else.
    ///
    /// Places in its results count lines of these octets, which have no XML declaration and no comments.
    ///
    /// # Errors
    ///
    /// When the whole document is unusable: no XML, no `EOCS` root, another major version, too many mitigations. What
    /// is wrong inside one mitigation is that one's [`failure`](Mitigation::failure).
    pub fn parse(verified: &Verified<Vec<u8>>, aliases: &TypeAliases) -> Result<Self, FeedError> {
        let document = parse_xml(verified.value())?;
        read(document.root(), aliases)
    }
}

/// A reason, with its place.
type Fault = String;

fn fault(element: Element<'_>, reason: impl std::fmt::Display) -> Fault {
    format!("{}: {reason}", element.position())
}

fn parse_xml(bytes: &[u8]) -> Result<Document<'_>, FeedError> {
    let limits = Limits {
        // How long it may be was decided when it was fetched; canonical form can be longer than that.
        bytes: bytes.len(),
        ..Limits::default()
    };
    Document::parse(bytes, &limits).map_err(|error| FeedError::because(Kind::Document, error))
}

fn refused(reason: Fault) -> FeedError {
    FeedError::because(Kind::Document, reason)
}

fn read(root: Element<'_>, aliases: &TypeAliases) -> Result<FeedDocument, FeedError> {
    if !root.is("", "EOCS") {
        let reason = format!("the root is {}, not EOCS", root.qualified_name());
        return Err(refused(fault(root, reason)));
    }
    let version = root.attribute("version").map_or("", |found| found.value());
    if !is_known_version(version) {
        let reason = format!("version {version:?} is not known; this program reads 1.0 and 1.0.x");
        return Err(refused(fault(root, reason)));
    }
    if let Some(name) = not_understood(root) {
        let reason = format!("extension {name} must be understood and is not");
        return Err(refused(fault(root, reason)));
    }
    let mut notices = Notices::default();
    notices.attributes(root, &["version"], &["mustUnderstand", "dialect"]);
    let mut document = FeedDocument {
        version: version.to_owned(),
        ..FeedDocument::default()
    };
    for child in root.children() {
        if child.is("", "Config") {
            if document.mitigations.len() + document.nameless.len() == CONFIG_LIMIT {
                let reason = format!("more than {CONFIG_LIMIT} mitigations in one document");
                return Err(refused(fault(child, reason)));
            }
            match mitigation::read(child, aliases, &mut notices) {
                Ok(mitigation) => document.push(mitigation, child),
                Err(nameless) => document.nameless.push(nameless),
            }
        } else if child.namespace() != SIGNATURE_NAMESPACE {
            notices.element(child);
        }
    }
    document.notices = notices.into_list();
    Ok(document)
}

impl FeedDocument {
    fn push(&mut self, mut mitigation: Mitigation, element: Element<'_>) {
        let twin = self
            .mitigations
            .iter()
            .find(|other| other.id.same_mitigation(&mitigation.id));
        if let Some(twin) = twin {
            let reason = format!("the document has {} already: give it another id", twin.id);
            mitigation.failure = Some(fault(element, reason));
        }
        self.mitigations.push(mitigation);
    }
}

fn is_known_version(version: &str) -> bool {
    match version.strip_prefix("1.0") {
        Some("") => true,
        Some(rest) => rest
            .strip_prefix('.')
            .is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit())),
        None => false,
    }
}

/// The first extension that the element's `mustUnderstand` lists and that is not known here.
fn not_understood(element: Element<'_>) -> Option<&str> {
    element
        .attribute_ns(NAMESPACE, "mustUnderstand")?
        .value()
        .split_ascii_whitespace()
        .find(|name| !EXTENSIONS.contains(&name.strip_prefix("sg:").unwrap_or(name)))
}

#[cfg(test)]
mod tests;
