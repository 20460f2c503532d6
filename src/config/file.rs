//! The settings file as written: shapes, but no meaning beyond single values.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use toml::Spanned;

use super::exceptions::FileException;
use super::links::{FilePool, FileSidecarLink};
use super::nearest;
use super::policy::FilePolicy;
use super::quantity::{FileDuration, FileSize};
use super::upstream::{FileRoute, FileUpstream, PresetWord};
use super::version::FileVersion;
use crate::feed::{ActionType, Source};
use crate::model::{Digest, Network};
use crate::net::ListenAddress;
use crate::proxy::{ClientField, ForwardingField, Server};

/// A whole file.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileConfig {
    pub(super) listen: Vec<Parsed<ListenAddress>>,
    pub(super) listener: Vec<FileListener>,
    pub(super) site: Vec<FileSite>,
    pub(super) upstream: Vec<FileUpstream>,
    pub(super) rules: Vec<PathBuf>,
    pub(super) with_baseline: bool,
    pub(super) workers: usize,
    pub(super) access_log: Option<PathBuf>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) health_paths: Vec<Parsed<PathPrefix>>,
    pub(super) drain_timeout: Option<Parsed<FileDuration>>,
    pub(super) watch_interval: Option<Parsed<FileDuration>>,
    pub(super) instance: Option<Spanned<String>>,
    pub(super) trusted_proxies: Vec<Parsed<ProxyWord>>,
    pub(super) feed: Vec<FileFeed>,
    pub(super) sidecar: Vec<FileSidecarLink>,
    pub(super) pool: Vec<FilePool>,
    pub(super) policy: FilePolicy,
    pub(super) exception: Vec<FileException>,
    pub(super) notify: FileNotify,
    pub(super) admin: FileAdmin,
    pub(super) limits: FileLimits,
    pub(super) forwarding: FileForwarding,
    pub(super) refusals: FileRefusals,
    pub(super) log: FileLog,
}

/// `[[listener]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileListener {
    pub(super) address: Spanned<Parsed<ListenAddress>>,
    pub(super) mode: Option<Spanned<Parsed<SocketMode>>>,
    pub(super) tls: Option<Spanned<Vec<FileCertificate>>>,
    pub(super) client_ca: Option<Spanned<PathBuf>>,
    pub(super) client_certificates: Option<Spanned<Parsed<ClientWord>>>,
    pub(super) http2: Option<bool>,
    pub(super) health_path: Option<Spanned<Parsed<PathPrefix>>>,
    #[serde(default)]
    pub(super) proxy_protocol: Vec<Parsed<ProxyWord>>,
    pub(super) trusted_proxies: Option<Vec<Parsed<ProxyWord>>>,
    #[serde(default)]
    pub(super) refusals: FileRefusals,
}

/// An entry of `tls` in `[[listener]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileCertificate {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// `[[site]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSite {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) hosts: Vec<Spanned<Parsed<HostName>>>,
    pub(super) preset: Option<Parsed<PresetWord>>,
    pub(super) upstream: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) upstreams: Vec<Parsed<Server>>,
    pub(super) upstream_ca: Option<Spanned<PathBuf>>,
    pub(super) upstream_name: Option<Spanned<Parsed<HostName>>>,
    pub(super) document_root: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) route: Vec<FileRoute>,
    pub(super) version: Option<Spanned<FileVersion>>,
}

/// `[[feed]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileFeed {
    pub(super) name: Spanned<String>,
    pub(super) url: Parsed<Source>,
    #[serde(default)]
    pub(super) mirrors: Vec<Spanned<Parsed<Source>>>,
    pub(super) trust: Spanned<Parsed<TrustWord>>,
    pub(super) root: Option<Spanned<PathBuf>>,
    pub(super) publishes: Option<Spanned<String>>,
    pub(super) roots: Option<Spanned<Vec<Spanned<PathBuf>>>>,
    pub(super) timestamp_roots: Option<Spanned<Vec<Spanned<PathBuf>>>>,
    pub(super) required_ekus: Option<Spanned<Vec<Parsed<ObjectIdentifier>>>>,
    pub(super) require_timestamp: Option<Spanned<bool>>,
    pub(super) signers: Option<Spanned<Vec<Parsed<FileDigest>>>>,
    pub(super) denied_signers: Option<Spanned<Vec<Parsed<FileDigest>>>>,
    pub(super) proxy: Option<Parsed<ProxyUrl>>,
    pub(super) ca: Option<PathBuf>,
    pub(super) interval: Option<Parsed<FileDuration>>,
    pub(super) deadline: Option<Parsed<FileDuration>>,
    pub(super) connect_deadline: Option<Parsed<FileDuration>>,
    pub(super) stale_after: Option<Parsed<FileDuration>>,
    pub(super) accept_former: Option<Spanned<bool>>,
    pub(super) size_limit: Option<Parsed<FileSize>>,
    #[serde(default)]
    pub(super) type_aliases: BTreeMap<String, Parsed<ActionWord>>,
}

/// `[notify]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileNotify {
    pub(super) command: Vec<String>,
    pub(super) deadline: Option<Parsed<FileDuration>>,
    pub(super) webhook: Option<Spanned<FileWebhook>>,
}

/// `[notify.webhook]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileWebhook {
    pub(super) url: Spanned<String>,
    pub(super) secret: Option<Spanned<String>>,
    pub(super) secret_file: Option<Spanned<PathBuf>>,
    pub(super) ca: Option<Spanned<PathBuf>>,
    pub(super) proxy: Option<Parsed<ProxyUrl>>,
    pub(super) deadline: Option<Parsed<FileDuration>>,
}

/// `[admin]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileAdmin {
    pub(super) address: Option<Parsed<SocketAddr>>,
    pub(super) socket: Option<PathBuf>,
}

/// `[limits]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileLimits {
    pub(super) head: Option<Spanned<Parsed<FileSize>>>,
    pub(super) field: Option<Spanned<Parsed<FileSize>>>,
    pub(super) fields: Option<Spanned<usize>>,
    pub(super) target: Option<Spanned<Parsed<FileSize>>>,
    pub(super) trailers: Option<Spanned<Parsed<FileSize>>>,
    pub(super) head_timeout: Option<Parsed<FileDuration>>,
    pub(super) idle_timeout: Option<Parsed<FileDuration>>,
    pub(super) body_timeout: Option<Parsed<FileDuration>>,
    pub(super) body_minimum: Option<Parsed<FileSize>>,
    pub(super) response_timeout: Option<Parsed<FileDuration>>,
    pub(super) long_poll_timeout: Option<Parsed<FileDuration>>,
    pub(super) long_poll_paths: Option<Vec<Parsed<PathPrefix>>>,
    pub(super) connect_timeout: Option<Parsed<FileDuration>>,
    pub(super) half_close_timeout: Option<Parsed<FileDuration>>,
    pub(super) connections: Option<Spanned<usize>>,
    pub(super) connections_per_client: Option<Spanned<usize>>,
    pub(super) http2_streams: Option<NonZero<u32>>,
    pub(super) idle_upstream_connections: Option<Spanned<usize>>,
    pub(super) idle_upstream_timeout: Option<Parsed<FileDuration>>,
    pub(super) drained_body: Option<Parsed<FileSize>>,
}

/// `[forwarding]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileForwarding {
    pub(super) read: Option<Parsed<ClientFieldWord>>,
    pub(super) send: Option<Vec<Parsed<ForwardingField>>>,
}

/// `[refusals]`, for all listeners or for one.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct FileRefusals {
    pub(super) control_character: Option<bool>,
    pub(super) fragment: Option<bool>,
    pub(super) ill_formed_utf8: Option<bool>,
    pub(super) malformed_escape: Option<bool>,
    pub(super) nested_escape: Option<bool>,
    pub(super) stream_name: Option<bool>,
    pub(super) unicode_escape: Option<bool>,
    pub(super) override_fields: Option<bool>,
}

/// `[log]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileLog {
    pub(super) access_format: Option<Parsed<FormatWord>>,
    pub(super) decisions: Option<PathBuf>,
    pub(super) decisions_per_second: Option<u32>,
}

/// A string that was parsed where it stands, so that a fault is placed at it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parsed<T>(pub(super) T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(ParsedVisitor(PhantomData))
    }
}

struct ParsedVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for ParsedVisitor<T> {
    type Value = Parsed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map(Parsed).map_err(E::custom)
    }
}

/// The word for a kind of trust.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TrustWord {
    Dsse,
    MicrosoftEocs,
    XmlDsigX509,
}

impl FromStr for TrustWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "microsoft-eocs" => Ok(Self::MicrosoftEocs),
            "xmldsig-x509" => Ok(Self::XmlDsigX509),
            "dsse" => Ok(Self::Dsse),
            other => Err(unknown_word(
                other,
                &["dsse", "microsoft-eocs", "xmldsig-x509"],
            )),
        }
    }
}

/// The word for what is asked of clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClientWord {
    Optional,
    Required,
}

impl FromStr for ClientWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            other => Err(unknown_word(other, &["optional", "required"])),
        }
    }
}

/// Proxies in front: those of a range of addresses, or those on Unix sockets.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProxyWord {
    Network(Network),
    Unix,
}

impl FromStr for ProxyWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let network = text.parse::<Network>();
        network.map(Self::Network).map_err(|error| {
            format!("{error}; \"unix\" stands for whoever connects to a Unix socket")
        })
    }
}

/// The mode of the file of a Unix socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SocketMode(pub(super) u32);

impl FromStr for SocketMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Self(mode))
            }
            _ => Err("a mode is three octal digits, such as \"660\""),
        }
    }
}

/// The word for the field in which proxies name their clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientFieldWord(pub(super) ClientField);

impl FromStr for ClientFieldWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [ClientField::Forwarded, ClientField::XForwardedFor];
        let named = |field: &ClientField| field.word().eq_ignore_ascii_case(text);
        match known.into_iter().find(named) {
            Some(field) => Ok(Self(field)),
            None => Err(unknown_word(text, &known.map(ClientField::word))),
        }
    }
}

/// The word for a form of access lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FormatWord {
    Combined,
    Json,
}

impl FromStr for FormatWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "combined" => Ok(Self::Combined),
            "json" => Ok(Self::Json),
            other => Err(unknown_word(other, &["combined", "json"])),
        }
    }
}

/// The word for a type of action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ActionWord(pub(super) ActionType);

impl FromStr for ActionWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words = ["AppPool", "DoNothing", "Service", "UrlRewrite"];
        ActionType::from_word(text)
            .map(Self)
            .ok_or_else(|| unknown_word(text, &words))
    }
}

pub(super) fn unknown_word(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(other) => format!("{word:?} is not known; did you mean {other:?}?"),
        None => format!(
            "{word:?} is not known; it must be one of {}",
            known.join(", ")
        ),
    }
}

/// A digest in hexadecimal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FileDigest(pub(super) Digest);

impl FromStr for FileDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Tools print fingerprints with colons between the octets.
        Digest::from_hex(&text.replace(':', ""))
            .map(Self)
            .ok_or("this is no SHA-256 of a certificate, which has 64 hexadecimal digits")
    }
}

/// A dotted object identifier.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ObjectIdentifier(pub(super) String);

impl FromStr for ObjectIdentifier {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let arcs = text
            .split('.')
            .filter(|arc| arc.parse::<u64>().is_ok())
            .count();
        match arcs > 1 && arcs == text.split('.').count() {
            true => Ok(Self(text.to_owned())),
            false => Err("this is no object identifier, which is numbers with dots between them"),
        }
    }
}

/// An HTTP proxy that fetches go through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ProxyUrl(pub(super) http::Uri);

impl FromStr for ProxyUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "this is no address of an HTTP proxy";
        let uri: http::Uri = text.parse().map_err(|_| PROBLEM)?;
        let bare = matches!(
            uri.path_and_query().map(|rest| rest.as_str()),
            None | Some("" | "/")
        );
        match uri.scheme_str() == Some("http")
            && uri.host().is_some_and(|host| !host.is_empty())
            && bare
        {
            true => Ok(Self(uri)),
            false => Err(PROBLEM),
        }
    }
}

/// A host name, or an IP address as it stands in a `Host` field, without a port; in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HostName(pub(super) String);

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
        let name = !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        match address || name {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err("this is no host name: leave out scheme, port and path"),
        }
    }
}

/// A path prefix with its leading slash, and without a trailing one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PathPrefix(pub(super) String);

impl FromStr for PathPrefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.starts_with('/') && !text.contains(['?', '#', '%']) {
            true if text == "/" => Ok(Self(text.to_owned())),
            true => Ok(Self(text.trim_end_matches('/').to_owned())),
            false => Err(
                "this is no path: it begins with a slash, and has no escapes, query or fragment",
            ),
        }
    }
}
