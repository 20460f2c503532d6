//! Why an envelope, a key or a stored state was refused, in words for the person who must act.

use std::error::Error;
use std::fmt;

use super::role::KEYS;
use crate::model::{Digest, UnixTime};

/// What kind of check failed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// Two documents carry one version: the publisher made a mistake, or somebody else has its keys.
    Equivocation,
    /// The document was issued in the future: this clock, or the publisher's, is wrong.
    Future,
    /// A key's text is no key.
    Key,
    /// The document does not have the form that is accepted, or exceeds a limit.
    Malformed,
    /// The document is another feed's.
    Name,
    /// A publisher's own call cannot be carried out.
    Publishing,
    /// The document is older than one that was accepted before.
    Rollback,
    /// The newest root that is known has expired, so that nobody vouches for the feed's keys.
    RootExpired,
    /// The root is not newer than the one that is trusted.
    RootReplayed,
    /// The root is newer than the next one: there must be others between.
    RootSkipped,
    /// What was kept for a restart cannot be used.
    State,
    /// Fewer keys than needed signed the document, or it was changed after they did.
    Threshold,
    /// The envelope carries another kind of document.
    Type,
}

/// An envelope, a key or a stored state was refused; nothing of it must be used.
#[derive(Debug)]
pub struct EnvelopeError {
    kind: Kind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl EnvelopeError {
    pub(super) const fn new(kind: Kind) -> Self {
        Self { kind, source: None }
    }

    /// What is wrong with the form of `what`.
    pub(super) const fn malformed(what: &'static str, words: &'static str) -> Self {
        Self::new(Kind::Malformed(what, words))
    }

    pub(super) fn caused_by(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }

    /// The kind of check that failed.
    pub const fn fault(&self) -> Fault {
        match &self.kind {
            Kind::AlreadySigned(_) | Kind::ForeignSignature(_) | Kind::KeyAbsent(_) => {
                Fault::Publishing
            }
            Kind::ChainFull(_) | Kind::Malformed(..) | Kind::Role(_) | Kind::TooLarge { .. } => {
                Fault::Malformed
            }
            Kind::Equivocation(_) => Fault::Equivocation,
            Kind::Future { .. } => Fault::Future,
            Kind::Key(_) => Fault::Key,
            Kind::Name { .. } => Fault::Name,
            Kind::Rollback { .. } => Fault::Rollback,
            Kind::RootExpired { .. } => Fault::RootExpired,
            Kind::RootReplayed { .. } => Fault::RootReplayed,
            Kind::RootSkipped { .. } => Fault::RootSkipped,
            Kind::State => Fault::State,
            Kind::Threshold { .. } => Fault::Threshold,
            Kind::Type { .. } => Fault::Type,
            Kind::VersionsUsedUp => Fault::Publishing,
        }
    }

    /// How many keys signed, and how many had to, when that is what failed.
    pub const fn signatures(&self) -> Option<(usize, usize)> {
        match self.kind {
            Kind::Threshold { found, needed, .. } => Some((found, needed)),
            _ => None,
        }
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Error for EnvelopeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Where and why JSON was refused. Cut to a length that can be logged, since it may quote what a stranger wrote.
#[derive(Debug)]
pub(super) struct JsonFault(String);

impl JsonFault {
    pub(super) fn of(error: &serde_json::Error) -> Self {
        const SHOWN: usize = 200;
        let place = format!("line {}, column {}", error.line(), error.column());
        let words = error.to_string();
        let words = words
            .rsplit_once(" at line ")
            .map_or(&*words, |(words, _)| words);
        let words: String = words
            .chars()
            .take(SHOWN)
            .flat_map(char::escape_debug)
            .collect();
        Self(format!("{place}: {words}"))
    }
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for JsonFault {}

/// What is wrong. Texts of a document that are shown were cut to a bounded length.
#[derive(Debug)]
pub(super) enum Kind {
    AlreadySigned(Digest),
    ChainFull(usize),
    Equivocation(u64),
    ForeignSignature(Digest),
    Future {
        issued: UnixTime,
        now: UnixTime,
    },
    Key(&'static str),
    KeyAbsent(Digest),
    Malformed(&'static str, &'static str),
    Name {
        found: String,
        expected: String,
    },
    Role(RoleFault),
    Rollback {
        offered: u64,
        floor: u64,
    },
    RootExpired {
        version: u64,
        expires: UnixTime,
    },
    RootReplayed {
        offered: u64,
        trusted: u64,
    },
    RootSkipped {
        offered: u64,
        trusted: u64,
    },
    State,
    Threshold {
        signers: &'static str,
        found: usize,
        needed: usize,
    },
    TooLarge {
        what: &'static str,
        most: usize,
    },
    Type {
        found: String,
        expected: &'static str,
    },
    VersionsUsedUp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadySigned(id) => {
                write!(f, "key {id} has signed this already: sign with another one")
            }
            Self::ChainFull(most) => write!(
                f,
                "more than {most} roots follow the first: pin a newer root in the configuration"
            ),
            Self::Equivocation(version) => write!(
                f,
                "version {version} was accepted before with other content: ask the publisher which is genuine and for \
                 a higher version; if neither is known there, its keys are stolen"
            ),
            Self::ForeignSignature(id) => write!(
                f,
                "the signature is not made by key {id} over these octets: the signer must sign all of its input with \
                 Ed25519 and write out the 64 octets"
            ),
            Self::Future { issued, now } => write!(
                f,
                "issued at {issued}, which lies ahead of this clock ({now}): correct the clock here or at the \
                 publisher's"
            ),
            Self::Key(words) => f.write_str(words),
            Self::KeyAbsent(id) => write!(f, "key {id} is not in the root: there is nothing to drop"),
            Self::Malformed(what, words) => write!(f, "the {what} {words}"),
            Self::Name { found, expected } => write!(
                f,
                "this is the feed {found:?}, not {expected:?}: correct the URL or the feed's name in the configuration"
            ),
            Self::Role(fault) => fault.fmt(f),
            Self::Rollback { offered, floor } => write!(
                f,
                "version {offered} is older than version {floor}, which was accepted before: the server or a cache \
                 gives out an old file, or somebody replays one"
            ),
            Self::RootExpired { version, expires } => write!(
                f,
                "root {version} expired at {expires}: the publisher must publish root {}, and this machine must be \
                 able to fetch it",
                version.saturating_add(1)
            ),
            Self::RootReplayed { offered, trusted } => write!(
                f,
                "root {offered} is not newer than root {trusted}, which is trusted: serve each root under its own \
                 number"
            ),
            Self::RootSkipped { offered, trusted } => write!(
                f,
                "root {offered} does not follow root {trusted}: serve every root between them too"
            ),
            Self::State => f.write_str(
                "the kept state cannot be used: the feed begins again at the pinned root, and the versions that were \
                 accepted are forgotten",
            ),
            Self::Threshold {
                signers,
                found,
                needed,
            } => write!(
                f,
                "signed by {found} of the {needed} {signers} keys that are needed: it was changed on the way, a \
                 signature is missing (stopgap cosign adds one), or the keys were replaced"
            ),
            Self::TooLarge { what, most } => write!(f, "the {what} is longer than {most} bytes"),
            Self::Type { found, expected } => write!(
                f,
                "the envelope carries {found:?}, not {expected:?}: this is another kind of file"
            ),
            Self::VersionsUsedUp => f.write_str(
                "there is no version after this one: replace the keys that signed it, then begin again at 1",
            ),
        }
    }
}

/// Why keys and a threshold are no role.
#[derive(Clone, Copy, Debug)]
pub(super) enum RoleFault {
    KeyTwice(Digest),
    ThresholdAboveKeys { threshold: usize, keys: usize },
    ThresholdZero,
    TooManyKeys(usize),
}

impl fmt::Display for RoleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyTwice(id) => write!(f, "key {id} is there twice, and would count once"),
            Self::ThresholdAboveKeys { threshold, keys } => {
                write!(
                    f,
                    "a threshold of {threshold} cannot be reached by {keys} keys"
                )
            }
            Self::ThresholdZero => {
                f.write_str("a threshold of 0 would take documents that nobody signed")
            }
            Self::TooManyKeys(keys) => write!(f, "{keys} keys are too many: at most {KEYS} are"),
        }
    }
}
