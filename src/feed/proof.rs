//! What a feed's document is proven by: certificates, or the keys of a chain of roots.

use std::sync::Arc;

use super::config::{FeedConfig, Trust};
use super::document::FeedDocument;
use super::error::{FeedError, Kind};
use super::source::{Accepted, Issue};
use crate::model::{Digest, UnixTime};
use crate::signature::envelope::{FeedContent, FeedState, RootMetadata};
use crate::signature::{Fault, Verifier, sha256};
use crate::xml::Limits;

/// The most documents that are remembered so that none of them comes back.
pub const FORMER: usize = 1_024;

/// The judge of one feed's documents, with what it must remember for that.
#[derive(Debug)]
pub(super) enum Proof {
    /// Our own format. The settings' pinned root and name are in the state.
    Dsse(Box<FeedState>),
    /// An XML signature; the time of the accepted one is remembered with it.
    XmlDsig(Box<XmlDsig>),
}

/// A feed with XML signatures.
#[derive(Debug)]
pub(super) struct XmlDsig {
    verifier: Verifier,
    /// What was signed in each document that was accepted, in order, the one in force last. Where there is neither a
    /// number nor a timestamp, this is all that tells an old document from a new one.
    seen: Vec<Digest>,
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
        Ok(Self::XmlDsig(Box::new(XmlDsig {
            verifier: verifier.with_limits(limits),
            seen: Vec::new(),
        })))
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
        held: Option<&Accepted>,
        config: &FeedConfig,
    ) -> Result<Accepted, FeedError> {
        match self {
            Self::Dsse(state) => {
                let acceptance = state.accept(bytes, now).map_err(FeedError::envelope)?;
                let accepted = read(&acceptance.content, config)?;
                **state = acceptance.state;
                Ok(accepted)
            }
            Self::XmlDsig(own) => {
                let floor = held.and_then(|held| held.signed_at);
                let accepted = verify(&own.verifier, bytes, now, floor, config)?;
                own.check_order(&accepted, held, config)?;
                own.remember(accepted.content);
                Ok(accepted)
            }
        }
    }

    /// What is to be kept once a document was accepted.
    pub(super) fn kept(&self, bytes: &[u8], now: UnixTime) -> Result<Vec<u8>, FeedError> {
        match self {
            Self::Dsse(state) => state
                .to_bytes()
                .map_err(|error| FeedError::because(Kind::Unkept, error)),
            Self::XmlDsig(own) => {
                let mut head = format!("{KEPT} {}\n", now.seconds());
                for digest in &own.seen {
                    head += &format!("{SEEN} {digest}\n");
                }
                Ok([head.as_bytes(), bytes].concat())
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
            (Self::XmlDsig(own), _) => {
                let (time, seen, bytes) = split_kept(kept).ok_or_else(|| {
                    FeedError::because(Kind::State, "it does not begin with the time of acceptance")
                })?;
                let accepted = verify(&own.verifier, bytes, time, None, config)?;
                own.seen = seen;
                own.remember(accepted.content);
                Ok(Some((accepted, time)))
            }
            // Made from the same settings, so that one never meets the other.
            (Self::Dsse(_), _) => Ok(None),
        }
    }
}

impl XmlDsig {
    /// Refuses what came before the document in force, as far as that can be seen.
    fn check_order(
        &self,
        offered: &Accepted,
        held: Option<&Accepted>,
        config: &FeedConfig,
    ) -> Result<(), FeedError> {
        let Some(held) = held.filter(|held| held.content != offered.content) else {
            return Ok(());
        };
        // Of two documents from one second none is the newer one.
        if offered.signed_at.is_some() && offered.signed_at == held.signed_at {
            let words = "it was signed in the second of the accepted one, and says something else";
            return Err(FeedError::because(Kind::Equivocation, words));
        }
        let is_former = offered.signed_at.is_none() && self.seen.contains(&offered.content);
        if is_former && !config.accept_former {
            let words = "it was accepted before, and another one since; accept_former = true in the feed's settings \
                         takes it all the same";
            return Err(FeedError::because(Kind::Rollback, words));
        }
        Ok(())
    }

    fn remember(&mut self, content: Digest) {
        self.seen.retain(|seen| *seen != content);
        self.seen.push(content);
        let surplus = self.seen.len().saturating_sub(FORMER);
        self.seen.drain(..surplus);
    }
}

fn read(content: &FeedContent, config: &FeedConfig) -> Result<Accepted, FeedError> {
    let document = FeedDocument::parse(&content.rules, &config.type_aliases)?;
    Ok(Accepted {
        document: Arc::new(document),
        digest: content.digest,
        content: content.digest,
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
        content: sha256(verified.value()),
        signed_at: verified.signed_at(),
        signer: verified.signer(),
        issue: None,
    })
}

/// The first word of what is kept of an XML feed; the time of acceptance follows.
const KEPT: &str = "accepted";

/// The first word of the lines after it, one for each document of [`XmlDsig::seen`]. Then follows the one in force.
const SEEN: &str = "seen";

fn split_kept(kept: &[u8]) -> Option<(UnixTime, Vec<Digest>, &[u8])> {
    let (seconds, mut rest) = split_line(kept, KEPT)?;
    let time = UnixTime::new(seconds.parse().ok()?);
    let mut seen = Vec::new();
    while let Some((digest, after)) = split_line(rest, SEEN) {
        seen.push(Digest::from_hex(digest)?);
        rest = after;
    }
    (seen.len() <= FORMER).then_some((time, seen, rest))
}

/// What follows a word on the first line, and what follows that line.
fn split_line<'k>(kept: &'k [u8], word: &str) -> Option<(&'k str, &'k [u8])> {
    let rest = kept.strip_prefix(word.as_bytes())?.strip_prefix(b" ")?;
    // No line is longer than a digest in hexadecimal and its word.
    let end = rest.iter().take(80).position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]))
}
