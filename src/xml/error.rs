//! Why a document was refused, in words for the person who wrote it.

use std::fmt;

use super::Position;
use super::parser::NAMESPACES_IN_SCOPE;
use super::scanner::NAME_BYTES;

/// A document was refused: it is not well-formed, uses what is not allowed here, or exceeds a limit.
///
/// The text begins with the place when there is one: `line 3, column 7: the attribute 'url' is there twice`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct XmlError {
    kind: Kind,
    position: Option<Position>,
}

impl XmlError {
    pub(super) fn new(kind: Kind, position: Option<Position>) -> Self {
        Self { kind, position }
    }

    /// Where in the document; `None` when the document as a whole is at fault.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether the document exceeds a limit, and might be accepted with a higher one.
    pub fn is_limit(&self) -> bool {
        matches!(self.kind, Kind::Limit(_))
    }
}

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        self.kind.fmt(f)
    }
}

impl std::error::Error for XmlError {}

/// A failure before its offset was turned into a position.
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) offset: usize,
}

/// What is wrong. Names in it are cut to a length that can be shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    AttributeTwice(String),
    BadName(String),
    CdataEndInText,
    CharacterForbidden(char),
    CommentDashes,
    DeclarationForm,
    DeclarationPlace,
    DocumentType,
    EncodingUnsupported(String),
    EndMissing { name: String, opened: String },
    EndMismatch { found: String, open: String },
    EndUnopened(String),
    EqualsMissing(String),
    LessThanInValue(String),
    Limit(Limit),
    Markup(&'static str),
    NamespaceForbidden,
    NotUtf8,
    OutsideRoot,
    PrefixUndeclared(String),
    ProcessingInstruction,
    QuoteMissing(String),
    ReferenceForbidden(String),
    ReferenceUnclosed,
    RootMissing,
    SecondRoot,
    SpaceMissing,
    TagUnclosed,
    VersionUnsupported(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AttributeTwice(name) => write!(f, "the attribute '{name}' is there twice"),
            Self::BadName(name) => write!(f, "'{name}' is no XML name"),
            Self::CdataEndInText => f.write_str("']]>' may not stand in text: write ']]&gt;'"),
            Self::CharacterForbidden(character) => write!(
                f,
                "the character U+{:04X} is not allowed in XML",
                u32::from(*character)
            ),
            Self::CommentDashes => f.write_str("a comment may not contain '--'"),
            Self::DeclarationForm => f.write_str(
                "the XML declaration must read <?xml version=\"1.0\" encoding=\"utf-8\"?>",
            ),
            Self::DeclarationPlace => {
                f.write_str("the XML declaration may only stand at the very start")
            }
            Self::DocumentType => {
                f.write_str("a document type (<!DOCTYPE ...>) is not allowed here: remove it")
            }
            Self::EncodingUnsupported(name) => {
                write!(
                    f,
                    "the encoding '{name}' is not supported: save the document as UTF-8"
                )
            }
            Self::EndMissing { name, opened } => {
                write!(f, "the document ends before </{name}>, opened at {opened}")
            }
            Self::EndMismatch { found, open } => {
                write!(f, "</{found}> stands where </{open}> is expected")
            }
            Self::EndUnopened(name) => write!(f, "</{name}> closes nothing"),
            Self::EqualsMissing(name) => {
                write!(
                    f,
                    "the attribute '{name}' has no value: write {name}=\"...\""
                )
            }
            Self::LessThanInValue(name) => {
                write!(f, "the value of '{name}' contains '<': write '&lt;'")
            }
            Self::Limit(limit) => limit.fmt(f),
            Self::Markup(what) => f.write_str(what),
            Self::NamespaceForbidden => {
                f.write_str("this namespace declaration is not allowed by Namespaces in XML")
            }
            Self::NotUtf8 => f.write_str("the document is not UTF-8: save it as UTF-8"),
            Self::OutsideRoot => f.write_str("text outside the root element"),
            Self::PrefixUndeclared(prefix) => write!(
                f,
                "the prefix '{prefix}' is not declared: add xmlns:{prefix}=\"...\""
            ),
            Self::ProcessingInstruction => {
                f.write_str("processing instructions (<?...?>) are not allowed here: remove it")
            }
            Self::QuoteMissing(name) => write!(f, "the value of '{name}' must be in quotes"),
            Self::ReferenceForbidden(name) => write!(
                f,
                "'&{name};' is not allowed: only &amp; &lt; &gt; &quot; &apos; and character references are"
            ),
            Self::ReferenceUnclosed => f.write_str(
                "'&' begins a reference without ';': write '&amp;' for the character itself",
            ),
            Self::RootMissing => f.write_str("the document has no element"),
            Self::SecondRoot => f.write_str("the document has a second root element"),
            Self::SpaceMissing => f.write_str("a space is missing before this attribute"),
            Self::TagUnclosed => {
                f.write_str("the document ends inside this tag: a '>' or a quote is missing")
            }
            Self::VersionUnsupported(version) => {
                write!(f, "XML version '{version}' is not supported: only 1.0 is")
            }
        }
    }
}

/// A limit that was exceeded, with the most that was allowed where the caller chose it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Limit {
    Attributes(usize),
    Bytes(usize),
    Depth(usize),
    DocumentAttributes(usize),
    Name,
    Namespaces,
    Nodes(usize),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attributes(most) => write!(f, "an element may have at most {most} attributes"),
            Self::Bytes(most) => write!(f, "the document is longer than {most} bytes"),
            Self::Depth(most) => write!(f, "elements may be at most {most} levels deep"),
            Self::DocumentAttributes(most) => {
                write!(f, "the document may have at most {most} attributes")
            }
            Self::Name => write!(f, "a name may be at most {NAME_BYTES} bytes long"),
            Self::Namespaces => write!(
                f,
                "at most {NAMESPACES_IN_SCOPE} namespace declarations may be in scope"
            ),
            Self::Nodes(most) => write!(
                f,
                "the document may have at most {most} elements and runs of text"
            ),
        }
    }
}
