//! The roots from the pinned one to the newest, each vouched for by the one before.

use std::sync::Arc;

use super::dsse::{Envelope, FEED_TYPE, ROOT_TYPE};
use super::error::{EnvelopeError, Fault, Kind};
use super::feed::FeedPayload;
use super::root::RootMetadata;
use crate::model::{Digest, UnixTime};
use crate::signature::sha256;

/// The most roots of one chain.
pub const ROOTS: usize = 256;

/// What a client trusts: the root that its configuration pins, and those that were reached from it.
///
/// The chain is walked one version at a time. Each root is signed by the threshold of the root keys before it, so that
/// nobody else can replace them, and by the threshold of its own, so that nobody is locked out by a key that no one
/// holds.
#[derive(Clone, Debug)]
pub struct RootChain {
    pinned: Arc<Link>,
    later: Vec<Arc<Link>>,
}

#[derive(Clone, Debug)]
struct Link {
    root: RootMetadata,
    envelope: Envelope,
}

impl RootChain {
    /// A chain of the root that the configuration pins, trusted because it does. It need not be the first that the
    /// publisher ever made.
    ///
    /// # Errors
    ///
    /// When it is no root, or not signed by the threshold of its own root keys.
    pub fn pinned(envelope: &[u8]) -> Result<Self, EnvelopeError> {
        let envelope = Envelope::parse(envelope)?;
        // A root vouches for itself only with keys that it names, so it is read before they are tried.
        let root = match envelope.payload_type() {
            ROOT_TYPE => RootMetadata::parse(envelope.unverified_payload())?,
            found => {
                return Err(EnvelopeError::new(Kind::Type {
                    found: found.chars().take(128).collect(),
                    expected: ROOT_TYPE,
                }));
            }
        };
        envelope.open(ROOT_TYPE, root.root(), "root")?;
        Ok(Self {
            pinned: Arc::new(Link { root, envelope }),
            later: Vec::new(),
        })
    }

    /// The chain with one more root.
    ///
    /// Whether it has expired is not asked here: a client that was off for long walks over expired roots.
    ///
    /// # Errors
    ///
    /// When it is not signed by the thresholds of the newest root and of its own, or is not the very next version.
    pub fn advance(&self, envelope: &[u8]) -> Result<Self, EnvelopeError> {
        if self.later.len() >= ROOTS {
            return Err(EnvelopeError::new(Kind::ChainFull(ROOTS)));
        }
        let envelope = Envelope::parse(envelope)?;
        let (payload, _) = envelope.open(ROOT_TYPE, self.newest().root(), "present root")?;
        let root = RootMetadata::parse(payload)?;
        let (offered, trusted) = (root.version(), self.newest().version());
        if offered <= trusted {
            return Err(EnvelopeError::new(Kind::RootReplayed { offered, trusted }));
        }
        if offered - trusted > 1 {
            return Err(EnvelopeError::new(Kind::RootSkipped { offered, trusted }));
        }
        envelope.open(ROOT_TYPE, root.root(), "new root")?;
        let mut chain = self.clone();
        chain.later.push(Arc::new(Link { root, envelope }));
        Ok(chain)
    }

    /// The newest root.
    pub fn newest(&self) -> &RootMetadata {
        &self.later.last().unwrap_or(&self.pinned).root
    }

    /// The newest root, if it still vouches for its keys.
    ///
    /// # Errors
    ///
    /// [`Fault::RootExpired`](super::Fault::RootExpired).
    pub fn newest_at(&self, now: UnixTime) -> Result<&RootMetadata, EnvelopeError> {
        let root = self.newest();
        match now < root.expires() {
            true => Ok(root),
            false => Err(EnvelopeError::new(Kind::RootExpired {
                version: root.version(),
                expires: root.expires(),
            })),
        }
    }

    /// The root of this version.
    pub fn root(&self, version: u64) -> Option<&RootMetadata> {
        self.links()
            .map(|link| &link.root)
            .find(|root| root.version() == version)
    }

    /// The issue of a feed in this envelope, with the version of the root whose feed keys signed it: the newest, or the
    /// one before, so that the first issue after a rotation of keys has an issue to follow.
    ///
    /// This is a publisher's question. A client asks [`FeedState`](super::FeedState), which takes the newest root only.
    ///
    /// # Errors
    ///
    /// When it is no issue of a feed, or not enough keys of either root signed it.
    pub fn issue(&self, envelope: &Envelope) -> Result<(FeedPayload, u64), EnvelopeError> {
        let open = |root: &RootMetadata| -> Result<_, EnvelopeError> {
            let (payload, _) = envelope.open(FEED_TYPE, root.feed(), "feed")?;
            Ok((FeedPayload::parse(payload)?, root.version()))
        };
        let before = self.links().rev().nth(1);
        match (open(self.newest()), before) {
            (Err(error), Some(before)) if error.fault() == Fault::Threshold => {
                open(&before.root).map_err(|_| error)
            }
            (result, _) => result,
        }
    }

    /// The SHA-256 digest of the pinned root's payload: what the configuration chose to trust.
    pub fn pin(&self) -> Digest {
        sha256(self.pinned.envelope.unverified_payload())
    }

    /// The envelopes of the roots after the pinned one, in order.
    pub(super) fn later_envelopes(
        &self,
    ) -> impl Iterator<Item = Result<String, EnvelopeError>> + '_ {
        self.later.iter().map(|link| link.envelope.to_json())
    }

    fn links(&self) -> impl DoubleEndedIterator<Item = &Arc<Link>> {
        std::iter::once(&self.pinned).chain(&self.later)
    }
}
