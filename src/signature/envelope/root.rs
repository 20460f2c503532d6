//! The document that says which keys sign roots and which sign feeds, and how a publisher makes the next one.

use serde::{Deserialize, Serialize};

use super::dsse::{Envelope, ROOT_TYPE};
use super::error::{EnvelopeError, JsonFault, Kind};
use super::feed::is_writable;
use super::key::PublicKey;
use super::role::{FileRole, Role};
use crate::model::UnixTime;

/// A root: who may sign the next root, and who may sign feeds. It is proven only by a [`RootChain`](super::RootChain).
///
/// As JSON: `{"version": …, "expires": …, "root": {"threshold": …, "keys": […]}, "feed": {"threshold": …, "keys": […]}}`
/// with keys as base64.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RootMetadata {
    version: u64,
    expires: UnixTime,
    root: Role,
    feed: Role,
}

impl RootMetadata {
    /// Reads a payload. It proves nothing about who wrote it.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`](super::Fault::Malformed) when it has another form, version 0, or a role that
    /// [`Role::new`] refuses; [`Fault::Key`](super::Fault::Key) when a key is none.
    pub fn parse(payload: &[u8]) -> Result<Self, EnvelopeError> {
        let file: FileRoot = serde_json::from_slice(payload).map_err(|error| {
            malformed("is not the JSON object {version, expires, root, feed}")
                .caused_by(JsonFault::of(&error))
        })?;
        if file.version == 0 {
            return Err(malformed("has version 0: the first one is 1"));
        }
        let expires = UnixTime::parse_rfc3339(&file.expires)
            .ok_or_else(|| malformed("has a time that is not written as 2026-11-23T09:00:00Z"))?;
        Ok(Self {
            version: file.version,
            expires,
            root: file.root.check()?,
            feed: file.feed.check()?,
        })
    }

    /// An envelope for it, without signatures. It needs those of the threshold of its own root keys and, unless it is
    /// the first, of the threshold of the root keys before it.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`](super::Fault::Malformed) when it cannot be written.
    pub fn to_envelope(&self) -> Result<Envelope, EnvelopeError> {
        let file = FileRoot {
            version: self.version,
            expires: self.expires.to_string(),
            root: FileRole::of(&self.root),
            feed: FileRole::of(&self.feed),
        };
        let payload = serde_json::to_vec(&file)
            .map_err(|error| malformed("cannot be written").caused_by(error))?;
        Envelope::unsigned(ROOT_TYPE, &payload)
    }

    /// The name of the file that it is served as: `N.root.json`.
    pub fn file_name(&self) -> String {
        format!("{}.root.json", self.version)
    }

    /// Its number; each root has the one after the root before it.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// From when on it no longer vouches for the feed's keys.
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Who signs roots.
    pub const fn root(&self) -> &Role {
        &self.root
    }

    /// Who signs feeds.
    pub const fn feed(&self) -> &Role {
        &self.feed
    }
}

const fn malformed(words: &'static str) -> EnvelopeError {
    EnvelopeError::malformed("root", words)
}

/// Makes a publisher's first root, or the next one from the one before.
#[derive(Clone, Debug)]
pub struct RootBuilder {
    before: u64,
    expires: UnixTime,
    root: Draft,
    feed: Draft,
}

#[derive(Clone, Debug)]
struct Draft {
    threshold: usize,
    keys: Vec<PublicKey>,
}

impl RootBuilder {
    /// Begins a first root, with thresholds of 1 and no keys yet.
    pub const fn init(expires: UnixTime) -> Self {
        const EMPTY: Draft = Draft {
            threshold: 1,
            keys: Vec::new(),
        };
        Self {
            before: 0,
            expires,
            root: EMPTY,
            feed: EMPTY,
        }
    }

    /// Begins the root after this one, with its keys and thresholds.
    pub fn rotate(before: &RootMetadata, expires: UnixTime) -> Self {
        Self {
            before: before.version,
            expires,
            root: Draft::of(&before.root),
            feed: Draft::of(&before.feed),
        }
    }

    /// Sets how many root keys must sign.
    pub const fn root_threshold(mut self, threshold: usize) -> Self {
        self.root.threshold = threshold;
        self
    }

    /// Sets how many feed keys must sign.
    pub const fn feed_threshold(mut self, threshold: usize) -> Self {
        self.feed.threshold = threshold;
        self
    }

    /// Adds a root key.
    pub fn add_root_key(mut self, key: PublicKey) -> Self {
        self.root.keys.push(key);
        self
    }

    /// Adds a feed key.
    pub fn add_feed_key(mut self, key: PublicKey) -> Self {
        self.feed.keys.push(key);
        self
    }

    /// Takes a root key away.
    ///
    /// # Errors
    ///
    /// [`Fault::Publishing`](super::Fault::Publishing) when it is not there.
    pub fn drop_root_key(mut self, key: &PublicKey) -> Result<Self, EnvelopeError> {
        self.root.drop_key(key)?;
        Ok(self)
    }

    /// Takes a feed key away, and with it what clients remember of the versions that it signed: a stolen key cannot
    /// block a feed with a version that no other one exceeds.
    ///
    /// # Errors
    ///
    /// [`Fault::Publishing`](super::Fault::Publishing) when it is not there.
    pub fn drop_feed_key(mut self, key: &PublicKey) -> Result<Self, EnvelopeError> {
        self.feed.drop_key(key)?;
        Ok(self)
    }

    /// The root.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`](super::Fault::Malformed) when keys and threshold are no [`Role`], or it expires after the
    /// year 9999;
    /// [`Fault::Publishing`](super::Fault::Publishing) when no version is left.
    pub fn build(self) -> Result<RootMetadata, EnvelopeError> {
        if !is_writable(self.expires) {
            return Err(malformed("expires after the year 9999"));
        }
        let version = self.before.checked_add(1);
        Ok(RootMetadata {
            version: version.ok_or_else(|| EnvelopeError::new(Kind::VersionsUsedUp))?,
            expires: self.expires,
            root: Role::new(self.root.threshold, self.root.keys)?,
            feed: Role::new(self.feed.threshold, self.feed.keys)?,
        })
    }
}

impl Draft {
    fn of(role: &Role) -> Self {
        Self {
            threshold: role.threshold(),
            keys: role.keys().collect(),
        }
    }

    fn drop_key(&mut self, key: &PublicKey) -> Result<(), EnvelopeError> {
        let at = self.keys.iter().position(|held| held == key);
        let at = at.ok_or_else(|| EnvelopeError::new(Kind::KeyAbsent(key.id())))?;
        self.keys.remove(at);
        Ok(())
    }
}

/// A root as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileRoot {
    version: u64,
    expires: String,
    root: FileRole,
    feed: FileRole,
}
