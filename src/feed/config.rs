//! The settings of one feed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::signature::XmlDsigPolicy;

/// The largest document taken by default, in bytes.
pub const SIZE_LIMIT: usize = 4 * 1024 * 1024;
/// Time between two fetches by default.
pub const INTERVAL: Duration = Duration::from_secs(3_600);
/// Time by default for a whole fetch: name, connection, TLS, redirections and the last byte of the body.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Time by default for a connection to be made, TLS included.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A feed is stale by default when it was not fetched for this long.
pub const STALE_AFTER: Duration = Duration::from_secs(3 * 3_600);

/// One feed: where it is, who signs it, and how it is fetched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FeedConfig {
    /// Its name in status, alarms and the state folder; no two feeds share one.
    pub name: String,
    /// Where its document is.
    pub source: Source,
    /// Further places with the same documents, tried in this order when one brings nothing that is accepted.
    pub mirrors: Vec<Source>,
    /// Who must have signed it. The setting decides; the document never does.
    pub trust: Trust,
    /// The HTTP proxy that every fetch goes through, as `http://host:port`.
    pub proxy: Option<Uri>,
    /// A PEM file of certificate authorities trusted for TLS besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Time between two fetches, of which a tenth more or less is chosen each time.
    pub interval: Duration,
    /// Time for a whole fetch.
    pub deadline: Duration,
    /// Time for a connection to be made.
    pub connect_deadline: Duration,
    /// The largest document taken, in bytes.
    pub size_limit: usize,
    /// When the last success is longer ago than this, the feed is stale.
    pub stale_after: Duration,
    /// Whether a document without a number or a timestamp may come back after another one was accepted.
    pub accept_former: bool,
    /// Further words for the types of actions, such as a vendor's own.
    pub type_aliases: TypeAliases,
}

impl FeedConfig {
    /// A feed with default settings.
    pub fn new(name: &str, source: Source, trust: Trust) -> Self {
        Self {
            name: name.to_owned(),
            source,
            mirrors: Vec::new(),
            trust,
            proxy: None,
            ca_file: None,
            interval: INTERVAL,
            deadline: DEADLINE,
            connect_deadline: CONNECT_DEADLINE,
            size_limit: SIZE_LIMIT,
            stale_after: STALE_AFTER,
            accept_former: false,
            type_aliases: TypeAliases::default(),
        }
    }

    /// The places to fetch from, in the order in which they are tried.
    pub fn places(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.source).chain(&self.mirrors)
    }

    /// The same feed with one place alone.
    pub fn only(&self, place: &Source) -> Self {
        Self {
            source: place.clone(),
            mirrors: Vec::new(),
            ..self.clone()
        }
    }
}

/// Where a feed's document is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A file, or a folder with the files that a host would serve, for machines without a way out.
    File(PathBuf),
    /// An `http` or `https` URL; what is fetched over `http` is as trusted as its signature.
    Http(Uri),
}

/// The document's name in a folder, of a `dsse` feed.
pub const ISSUE_FILE: &str = "feed.dsse.json";
/// The document's name in a folder, of a feed with XML signatures.
pub const DOCUMENT_FILE: &str = "feed.xml";

impl Source {
    /// Where the document itself is: of a folder, the file in it. Looked at each time, since a medium comes and goes.
    pub(super) fn document(&self, trust: &Trust) -> Self {
        match self {
            Self::File(path) if path.is_dir() => Self::File(path.join(match trust {
                Trust::Dsse { .. } => ISSUE_FILE,
                Trust::MicrosoftEocs | Trust::XmlDsigX509(_) => DOCUMENT_FILE,
            })),
            _ => self.clone(),
        }
    }

    /// The file of this name in the same folder. The query of a URL stays, since it may be what opens the folder.
    pub(super) fn beside(&self, name: &str) -> Self {
        match self {
            Self::File(path) => Self::File(path.with_file_name(name)),
            Self::Http(uri) => {
                let folder = uri.path().rfind('/').map_or("", |at| &uri.path()[..at]);
                let query = uri.query().map(|query| format!("?{query}"));
                let path = format!("{folder}/{name}{}", query.unwrap_or_default());
                let mut parts = uri.clone().into_parts();
                // A name that is no part of a path changes nothing, and is then no root.
                parts.path_and_query = path.parse().ok().or(parts.path_and_query);
                Self::Http(Uri::from_parts(parts).unwrap_or_else(|_| uri.clone()))
            }
        }
    }
}

/// The text is no source of a feed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidSource {
    text: String,
}

impl fmt::Display for InvalidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no place to fetch a feed from: write https://host/path, http://host/path or \
             file:///path, which may be a folder",
            self.text
        )
    }
}

impl std::error::Error for InvalidSource {}

impl std::str::FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSource {
            text: text.chars().take(256).collect(),
        };
        if let Some(path) = text.strip_prefix("file:") {
            // RFC 8089 section 2: with an empty authority, or with none.
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Self::File(PathBuf::from(path))),
                false => Err(invalid()),
            };
        }
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let scheme = uri.scheme_str().unwrap_or_default();
        // A user name in a URL ends up in logs; there is no feed that needs one.
        let plain_host = uri
            .authority()
            .is_some_and(|authority| !authority.as_str().contains('@'));
        match matches!(scheme, "http" | "https") && plain_host {
            true => Ok(Self::Http(uri)),
            false => Err(invalid()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Http(uri) => uri.fmt(f),
        }
    }
}

/// Who must have signed a feed's document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trust {
    /// Our own format: the keys that a pinned root names, and the roots that were reached from it.
    Dsse {
        /// The name that the publisher gave the feed.
        name: String,
        /// The envelope of the pinned root.
        root: Vec<u8>,
    },
    /// Microsoft's Exchange service, by its own profile and roots.
    MicrosoftEocs,
    /// The same profile with roots of one's own.
    XmlDsigX509(XmlDsigPolicy),
}

impl Trust {
    /// The word used in settings and status.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Dsse { .. } => "dsse",
            Self::MicrosoftEocs => "microsoft-eocs",
            Self::XmlDsigX509(_) => "xmldsig-x509",
        }
    }
}

/// What an action of a document does, by the word in its `type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ActionType {
    /// Stops an application pool (`AppPool`).
    AppPool,
    /// Does nothing (`DoNothing`).
    DoNothing,
    /// Stops a service (`Service`).
    Service,
    /// Enforces rewrite rules (`UrlRewrite`).
    UrlRewrite,
}

impl ActionType {
    /// The type of this word, exactly as written.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "AppPool" => Some(Self::AppPool),
            "DoNothing" => Some(Self::DoNothing),
            "Service" => Some(Self::Service),
            "UrlRewrite" => Some(Self::UrlRewrite),
            _ => None,
        }
    }
}

/// Words for action types besides our own; no capture of a feed shows which words Microsoft uses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TypeAliases(Vec<(String, ActionType)>);

impl TypeAliases {
    /// Each word with the type that it means.
    pub fn new(aliases: impl IntoIterator<Item = (String, ActionType)>) -> Self {
        Self(aliases.into_iter().collect())
    }

    /// The type that a word means: an alias, or else one of our own words.
    pub fn action_type(&self, word: &str) -> Option<ActionType> {
        self.0
            .iter()
            .find(|(alias, _)| alias == word)
            .map(|(_, meaning)| *meaning)
            .or_else(|| ActionType::from_word(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_reads_back() {
        for text in [
            "https://officeclient.microsoft.com/GetExchangeMitigations",
            "http://127.0.0.1:8081/feed.xml?x=1",
            "file:///var/lib/feed.xml",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "feed.xml",
            "/feed.xml",
            "file://feed.xml",
            "file:feed.xml",
            "ftp://host/feed.xml",
            "https:///feed.xml",
            "https://user:secret@host/feed.xml",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }

    #[test]
    fn file_needs_no_authority() {
        let short: Source = "file:/media/usb/feed".parse().unwrap();
        assert_eq!(short, "file:///media/usb/feed".parse().unwrap());
    }

    #[test]
    fn folder_holds_the_document() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::File(folder.path().to_owned());
        let dsse = Trust::Dsse {
            name: "a".to_owned(),
            root: Vec::new(),
        };
        for (trust, name) in [(&dsse, ISSUE_FILE), (&Trust::MicrosoftEocs, DOCUMENT_FILE)] {
            let document = Source::File(folder.path().join(name));
            assert_eq!(source.document(trust), document);
            assert_eq!(document.document(trust), document);
        }
        let url: Source = "https://h/".parse().unwrap();
        assert_eq!(url.document(&dsse), url);
    }

    #[test]
    fn roots_lie_beside_the_document() {
        let cases = [
            ("https://h/", "https://h/2.root.json"),
            ("https://h/feed.dsse.json", "https://h/2.root.json"),
            (
                "http://h:81/a/b/feed?x=/y",
                "http://h:81/a/b/2.root.json?x=/y",
            ),
            ("file:///a/feed.dsse.json", "file:///a/2.root.json"),
        ];
        for (document, root) in cases {
            let source: Source = document.parse().unwrap();
            assert_eq!(source.beside("2.root.json").to_string(), root);
        }
    }

    #[test]
    fn aliases_add_to_our_words() {
        let aliases = TypeAliases::new([("Rewrite".to_owned(), ActionType::UrlRewrite)]);
        assert_eq!(aliases.action_type("Rewrite"), Some(ActionType::UrlRewrite));
        assert_eq!(
            aliases.action_type("DoNothing"),
            Some(ActionType::DoNothing)
        );
        assert_eq!(aliases.action_type("urlrewrite"), None);
    }
}
