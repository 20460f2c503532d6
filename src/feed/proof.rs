//! What a feed's document is proven by: certificates, or the keys of a chain of roots.

use std::sync::Arc;

use super::config::{FeedConfig, Trust};
use super::document::FeedDocument;
use super::error::{FeedError, Kind};
use super::source::{Accepted, Issue};
use crate::model::UnixTime;
use crate::signature::envelope::{FeedContent, FeedState, RootMetadata};
use crate::signature::{Fault, Verifier, sha256};
use crate::xml::Limits;

/// The judge of one feed's documents, with what it must remember for that.
#[derive(Debug)]
pub(super) enum Proof {
    /// Our own format. The settings' pinned root and name are in the state.
    Dsse(Box<FeedState>),
    /// An XML signature; the time of the accepted one is remembered with it.
    XmlDsig(Box<Verifier>),
}

impl Proof {
    pub(super) fn new(trust: &Trust, size_limit: usize) -> Result<Self, FeedError> {
        let verifier = match trust {
            Trust::Dsse { name, root } => {
                let state = FeedState::new(name, root)
                    .map_err(|error| FeedError::because(Kind::Trust, error))?;
                return Ok(Self::Dsse(Box::new(state)));
            }
            Trust::MicrosoftEocs => Verifier::microsoft_eocs(),
            Trust::XmlDsigX509(policy) => Verifier::xmldsig_x509(policy.clone()),
        };
        let verifier = verifier.map_err(|error| FeedError::because(Kind::Trust, error))?;
        let limits = Limits {
            bytes: size_limit,
            ..Limits::default()
        };
        Ok(Self::XmlDsig(Box::new(verifier.with_limits(limits))))
    }

    /// What the names of slots begin with, apart for each layout, so that a feed whose trust is set otherwise does not
    /// find what it cannot read.
    pub(super) const fn slot_prefix(&self) -> &'static str {
        match self {
            Self::Dsse(_) => "dsse",
            Self::XmlDsig(_) => "feed",
        }
    }

    /// The newest root, if there are roots.
    pub(super) fn root(&self) -> Option<&RootMetadata> {
        match self {
            Self::Dsse(state) => Some(state.root()),
            Self::XmlDsig(_) => None,
        }
    }

    /// Goes on to the next root.
    pub(super) fn advance(&mut self, root: &[u8]) -> Result<(), FeedError> {
        if let Self::Dsse(state) = self {
            **state = state.advance(root).map_err(FeedError::root)?;
        }
        Ok(())
    }

    /// Verifies and parses a document; it is remembered only if both succeed.
    pub(super) fn judge(
        &mut self,
        bytes: &[u8],
        now: UnixTime,
        floor: Option<UnixTime>,
        config: &FeedConfig,
    ) -> Result<Accepted, FeedError> {
        match self {
            Self::Dsse(state) => {
                let acceptance = state.accept(bytes, now).map_err(FeedError::envelope)?;
                let accepted = read(&acceptance.content, config)?;
                **state = acceptance.state;
                Ok(accepted)
            }
            Self::XmlDsig(verifier) => verify(verifier, bytes, now, floor, config),
        }
    }

    /// What is to be kept once a document was accepted.
    pub(super) fn kept(&self, bytes: &[u8], now: UnixTime) -> Result<Vec<u8>, FeedError> {
        match self {
            Self::Dsse(state) => state
                .to_bytes()
                .map_err(|error| FeedError::because(Kind::Unkept, error)),
            Self::XmlDsig(_) => {
                Ok([format!("{KEPT} {}\n", now.seconds()).as_bytes(), bytes].concat())
            }
        }
    }

    /// Takes up what was kept: the document with the time of its acceptance, if there was one.
    pub(super) fn restore(
        &mut self,
        kept: &[u8],
        config: &FeedConfig,
    ) -> Result<Option<(Accepted, UnixTime)>, FeedError> {
        match (self, &config.trust) {
            (Self::Dsse(state), Trust::Dsse { name, root }) => {
                let restored = FeedState::restore(name, root, kept).map_err(FeedError::envelope)?;
                **state = restored.state;
                if let Some(dropped) = restored.dropped {
                    return Err(FeedError::because(Kind::State, dropped));
                }
                let (Some(content), Some(time)) = (restored.content, state.fetched_at()) else {
                    return Ok(None);
                };
                Ok(Some((read(&content, config)?, time)))
            }
            (Self::XmlDsig(verifier), _) => {
                let (time, bytes) = split_kept(kept).ok_or_else(|| {
                    FeedError::because(Kind::State, "it does not begin with the time of acceptance")
                })?;
                Ok(Some((verify(verifier, bytes, time, None, config)?, time)))
            }
            // Made from the same settings, so that one never meets the other.
            (Self::Dsse(_), _) => Ok(None),
        }
    }
}

fn read(content: &FeedContent, config: &FeedConfig) -> Result<Accepted, FeedError> {
    let document = FeedDocument::parse(&content.rules, &config.type_aliases)?;
    Ok(Accepted {
        document: Arc::new(document),
        digest: content.digest,
        signed_at: Some(content.issued),
        signer: content.rules.signer(),
        issue: Some(Issue {
            version: content.version,
            expires: content.expires,
        }),
    })
}

fn verify(
    verifier: &Verifier,
    bytes: &[u8],
    now: UnixTime,
    floor: Option<UnixTime>,
    config: &FeedConfig,
) -> Result<Accepted, FeedError> {
    let verified = verifier.verify(bytes, now, floor).map_err(|error| {
        let kind = match error.fault() {
            Fault::Rollback => Kind::Rollback,
            Fault::Document => Kind::Document,
            _ => Kind::Signature,
        };
        FeedError::because(kind, error)
    })?;
    let document = FeedDocument::parse(&verified, &config.type_aliases)?;
    Ok(Accepted {
        document: Arc::new(document),
        digest: sha256(bytes),
        signed_at: verified.signed_at(),
        signer: verified.signer(),
        issue: None,
    })
}

/// The first word of what is kept of an XML feed; the time of acceptance follows, and after a line feed the document.
const KEPT: &str = "accepted";

fn split_kept(kept: &[u8]) -> Option<(UnixTime, &[u8])> {
    let end = kept.iter().take(64).position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&kept[..end]).ok()?;
    let seconds = line.strip_prefix(KEPT)?.strip_prefix(' ')?.parse().ok()?;
    Some((UnixTime::new(seconds), &kept[end + 1..]))
}
