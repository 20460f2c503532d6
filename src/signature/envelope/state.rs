//! What a client remembers of one feed, and what it therefore accepts next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::chain::{ROOTS, RootChain};
use super::dsse::{ENVELOPE_BYTES, Envelope, FEED_TYPE, ROOT_BYTES};
use super::error::{EnvelopeError, JsonFault, Kind};
use super::feed::{FeedPayload, is_name};
use super::key::PublicKey;
use super::role::Role;
use super::root::RootMetadata;
use crate::model::{Digest, UnixTime};
use crate::signature::{Verified, sha256};

/// How far the time of issue may lie ahead of this clock.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The most keys whose versions are remembered: those that sign now, and those that did.
pub const FLOORS: usize = 256;

/// The longest kept state, in bytes: every root, the document, and their quotation.
pub const STATE_BYTES: usize = 2 * (ROOTS * ROOT_BYTES + ENVELOPE_BYTES);

/// One feed as a client knows it: whom it trusts, and what it has accepted.
///
/// A value: what would change it returns a new one, which the caller keeps when it has used what came with it, and
/// writes down with [`to_bytes`](Self::to_bytes) before a restart can forget it.
///
/// # The floor
///
/// For each key the state remembers the highest version that was accepted with that key's signature. A feed must have at
/// least the highest of these over the keys that the newest root still names. So a version never goes back while its
/// signers stay trusted, whatever keys are added and thresholds changed; and when every key that signed a version has
/// been replaced, that version no longer counts. A thief who published version 2⁶⁴−1 is undone by one rotation.
#[derive(Clone, Debug)]
pub struct FeedState {
    name: String,
    chain: RootChain,
    floors: BTreeMap<PublicKey, Floor>,
    document: Option<Arc<Document>>,
}

/// The highest version that one key signed, and which content had it.
#[derive(Clone, Copy, Debug)]
struct Floor {
    version: u64,
    digest: Digest,
}

/// The document that was accepted last.
#[derive(Debug)]
struct Document {
    envelope: Envelope,
    root: u64,
    fetched: UnixTime,
    version: u64,
    digest: Digest,
    expires: UnixTime,
}

/// A document that was accepted.
#[derive(Clone, Debug)]
pub struct FeedContent {
    /// The octets of its EOCS document. Its [`signer`](Verified::signer) is the [identity](Role::identity) of the role
    /// that it was accepted for, and [`signed_at`](Verified::signed_at) the time of issue.
    pub rules: Verified<Vec<u8>>,
    /// Its version.
    pub version: u64,
    /// The SHA-256 digest of its payload.
    pub digest: Digest,
    /// When it was issued, by the publisher's clock.
    pub issued: UnixTime,
    /// From when on it is stale.
    pub expires: UnixTime,
}

impl FeedContent {
    /// Whether it has expired: its rules stay in force, but the publisher, or somebody between, has fallen silent.
    pub fn is_stale(&self, now: UnixTime) -> bool {
        self.expires <= now
    }
}

/// What accepting a document came to.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// The document.
    pub content: FeedContent,
    /// Whether it differs from the one before.
    pub changed: bool,
    /// The state that remembers it.
    pub state: FeedState,
}

/// What was taken up after a restart.
#[derive(Debug)]
pub struct Restored {
    /// The state, under the root that is pinned now.
    pub state: FeedState,
    /// The document that was accepted last.
    pub content: Option<FeedContent>,
    /// Why the document that was kept is not trusted under the root that is pinned now.
    pub dropped: Option<EnvelopeError>,
}

impl FeedState {
    /// The state of a client that has seen nothing but its configuration: the feed's name as its publisher writes it,
    /// and the pinned root.
    ///
    /// # Errors
    ///
    /// When the name is none, or as [`RootChain::pinned`].
    pub fn new(name: &str, pinned_root: &[u8]) -> Result<Self, EnvelopeError> {
        if !is_name(name) {
            return Err(EnvelopeError::malformed("feed's name", "cannot be a name"));
        }
        Ok(Self {
            name: name.to_owned(),
            chain: RootChain::pinned(pinned_root)?,
            floors: BTreeMap::new(),
            document: None,
        })
    }

    /// The feed's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The newest root.
    pub fn root(&self) -> &RootMetadata {
        self.chain.newest()
    }

    /// The file that the next root would be served as; a publisher without one has not rotated.
    pub fn next_root(&self) -> Option<String> {
        let version = self.root().version().checked_add(1)?;
        Some(format!("{version}.root.json"))
    }

    /// The version that was accepted last.
    pub fn version(&self) -> Option<u64> {
        self.document.as_ref().map(|document| document.version)
    }

    /// The SHA-256 digest of the payload that was accepted last.
    pub fn digest(&self) -> Option<Digest> {
        self.document.as_ref().map(|document| document.digest)
    }

    /// When a document was accepted last, the same one as before included.
    pub fn fetched_at(&self) -> Option<UnixTime> {
        self.document.as_ref().map(|document| document.fetched)
    }

    /// Whether the document that was accepted last, or the root behind it, has expired.
    pub fn is_stale(&self, now: UnixTime) -> bool {
        let document = self.document.as_ref();
        document.is_some_and(|document| document.expires <= now)
            || self.chain.newest_at(now).is_err()
    }

    /// The lowest version that would be accepted now.
    pub fn floor(&self) -> u64 {
        self.floors_of(self.root().feed())
            .map(|floor| floor.version)
            .max()
            .unwrap_or_default()
    }

    /// The state with one more root.
    ///
    /// # Errors
    ///
    /// As [`RootChain::advance`].
    pub fn advance(&self, root: &[u8]) -> Result<Self, EnvelopeError> {
        Ok(Self {
            chain: self.chain.advance(root)?,
            ..self.clone()
        })
    }

    /// Decides on a document that was fetched.
    ///
    /// An expired one is accepted, and [stale](FeedContent::is_stale): protection is never dropped because nobody
    /// renewed it.
    ///
    /// # Errors
    ///
    /// By [`Fault`](super::Fault): `RootExpired`; `Malformed`, `Type` or `Threshold` when it is not what enough of the
    /// newest root's feed keys signed; `Name` when it is another feed's; `Future` when it was issued more than
    /// [`CLOCK_SKEW`] ahead of `now`; `Rollback` and `Equivocation`.
    pub fn accept(&self, envelope: &[u8], now: UnixTime) -> Result<Acceptance, EnvelopeError> {
        let root = self.chain.newest_at(now)?;
        let envelope = Envelope::parse(envelope)?;
        let (payload, signers) = envelope.open(FEED_TYPE, root.feed(), "feed")?;
        let digest = sha256(payload);
        let payload = FeedPayload::parse(payload)?;
        self.check_name(&payload)?;
        let issued = payload.issued();
        if issued.seconds() > now.seconds().saturating_add(CLOCK_SKEW.as_secs()) {
            return Err(EnvelopeError::new(Kind::Future { issued, now }));
        }
        self.check_floor(root.feed(), payload.version(), digest)?;
        let mut floors = self.floors.clone();
        let floor = Floor {
            version: payload.version(),
            digest,
        };
        // None of them has a higher one, or the document would have been refused.
        floors.extend(signers.into_iter().map(|key| (key, floor)));
        trim(&mut floors, root.feed());
        let document = Document {
            envelope,
            root: root.version(),
            fetched: now,
            version: payload.version(),
            digest,
            expires: payload.expires(),
        };
        Ok(Acceptance {
            content: content(payload, digest, root.feed()),
            changed: self.digest() != Some(digest),
            state: Self {
                name: self.name.clone(),
                chain: self.chain.clone(),
                floors,
                document: Some(Arc::new(document)),
            },
        })
    }

    /// What must be kept for the next start.
    ///
    /// # Errors
    ///
    /// When it cannot be written as JSON, which no accepted value leads to.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EnvelopeError> {
        let document = match &self.document {
            Some(document) => Some(FileDocument {
                envelope: document.envelope.to_json()?,
                root: document.root,
                fetched: document.fetched.seconds(),
            }),
            None => None,
        };
        let floor = |(key, floor): (&PublicKey, &Floor)| FileFloor {
            key: key.to_string(),
            version: floor.version,
            digest: floor.digest.to_string(),
        };
        let file = FileState {
            name: self.name.clone(),
            pin: self.chain.pin().to_string(),
            roots: self.chain.later_envelopes().collect::<Result<_, _>>()?,
            floors: self.floors.iter().map(floor).collect(),
            document,
        };
        serde_json::to_vec(&file).map_err(|error| EnvelopeError::new(Kind::State).caused_by(error))
    }

    /// Takes up what was kept, under the root that the configuration pins now.
    ///
    /// Every signature is verified again. When another root is pinned than before, the roots that were walked to are
    /// kept if it is one of them, and dropped otherwise; versions are remembered for every key that is still trusted.
    /// Times are not asked: what was in force stays in force over a restart.
    ///
    /// # Errors
    ///
    /// [`Fault::State`](super::Fault::State) when what was kept is damaged or another feed's; as [`new`](Self::new)
    /// otherwise.
    pub fn restore(name: &str, pinned_root: &[u8], kept: &[u8]) -> Result<Restored, EnvelopeError> {
        let mut state = Self::new(name, pinned_root)?;
        let refused = || EnvelopeError::new(Kind::State);
        if kept.len() > STATE_BYTES {
            return Err(refused());
        }
        let file: FileState = serde_json::from_slice(kept)
            .map_err(|error| refused().caused_by(JsonFault::of(&error)))?;
        if file.name != name {
            return Err(refused().caused_by(format!("it is the feed {:?}'s", file.name)));
        }
        state.chain = rewalk(state.chain, &file)?;
        for floor in &file.floors {
            let key =
                PublicKey::from_base64(&floor.key).map_err(|error| refused().caused_by(error))?;
            let digest = Digest::from_hex(&floor.digest).ok_or_else(refused)?;
            let version = floor.version;
            state.floors.insert(key, Floor { version, digest });
        }
        let mut restored = Restored {
            state,
            content: None,
            dropped: None,
        };
        if let Some(document) = &file.document {
            match restored.state.reopen(document) {
                Ok((document, content)) => {
                    restored.state.document = Some(Arc::new(document));
                    restored.content = Some(content);
                }
                Err(error) => restored.dropped = Some(error),
            }
        }
        Ok(restored)
    }

    /// A kept document, under the root that it was accepted for; under the newest one when that is not known any more.
    fn reopen(&self, file: &FileDocument) -> Result<(Document, FeedContent), EnvelopeError> {
        let root = self.chain.root(file.root).unwrap_or_else(|| self.root());
        let envelope = Envelope::parse(file.envelope.as_bytes())?;
        let (payload, _) = envelope.open(FEED_TYPE, root.feed(), "feed")?;
        let digest = sha256(payload);
        let payload = FeedPayload::parse(payload)?;
        self.check_name(&payload)?;
        let document = Document {
            root: root.version(),
            fetched: UnixTime::new(file.fetched),
            version: payload.version(),
            digest,
            expires: payload.expires(),
            envelope,
        };
        Ok((document, content(payload, digest, root.feed())))
    }

    fn check_name(&self, payload: &FeedPayload) -> Result<(), EnvelopeError> {
        match payload.name() == self.name {
            true => Ok(()),
            false => Err(EnvelopeError::new(Kind::Name {
                found: payload.name().to_owned(),
                expected: self.name.clone(),
            })),
        }
    }

    fn check_floor(&self, role: &Role, version: u64, digest: Digest) -> Result<(), EnvelopeError> {
        let floor = self.floors_of(role).map(|floor| floor.version).max();
        let floor = floor.unwrap_or_default();
        if version < floor {
            let offered = version;
            return Err(EnvelopeError::new(Kind::Rollback { offered, floor }));
        }
        let mut same_version = self
            .floors_of(role)
            .filter(|floor| floor.version == version)
            .peekable();
        if same_version.peek().is_some() && !same_version.any(|floor| floor.digest == digest) {
            return Err(EnvelopeError::new(Kind::Equivocation(version)));
        }
        Ok(())
    }

    fn floors_of<'a>(&'a self, role: &'a Role) -> impl Iterator<Item = Floor> + 'a {
        role.keys().filter_map(|key| self.floors.get(&key).copied())
    }
}

fn content(payload: FeedPayload, digest: Digest, role: &Role) -> FeedContent {
    let (version, issued, expires) = (payload.version(), payload.issued(), payload.expires());
    let rules = payload.into_rules().into_bytes();
    FeedContent {
        rules: Verified::new(rules, Some(issued), role.identity()),
        version,
        digest,
        issued,
        expires,
    }
}

/// Forgets the lowest versions of keys that sign no more, as far as there are too many.
fn trim(floors: &mut BTreeMap<PublicKey, Floor>, role: &Role) {
    while floors.len() > FLOORS {
        let former = floors.iter().filter(|(key, _)| !role.has(key));
        match former.min_by_key(|(_, floor)| floor.version) {
            Some((&key, _)) => floors.remove(&key),
            // There are fewer keys in a role than are remembered.
            None => return,
        };
    }
}

/// The kept roots that follow the pinned one, each verified again.
fn rewalk(pinned: RootChain, file: &FileState) -> Result<RootChain, EnvelopeError> {
    let refused = |error: EnvelopeError| EnvelopeError::new(Kind::State).caused_by(error);
    let pin = pinned.pin();
    let mut following = file.roots.as_slice();
    if file.pin != pin.to_string() {
        let is_pinned = |root: &String| {
            Envelope::parse(root.as_bytes())
                .is_ok_and(|envelope| sha256(envelope.unverified_payload()) == pin)
        };
        match file.roots.iter().position(is_pinned) {
            Some(at) => following = &following[at + 1..],
            None => return Ok(pinned),
        }
    }
    following.iter().try_fold(pinned, |chain, root| {
        chain.advance(root.as_bytes()).map_err(refused)
    })
}

/// A state as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileState {
    name: String,
    pin: String,
    roots: Vec<String>,
    floors: Vec<FileFloor>,
    document: Option<FileDocument>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileFloor {
    key: String,
    version: u64,
    digest: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileDocument {
    envelope: String,
    root: u64,
    fetched: u64,
}
