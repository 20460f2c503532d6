//! Which keys may sign one kind of document, and how many of them must.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::error::{EnvelopeError, Kind, RoleFault};
use super::key::PublicKey;
use crate::model::Digest;
use crate::signature::sha256;

/// The most keys of one role.
pub const KEYS: usize = 32;

/// At least one key, no key twice, and a threshold from one to their number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Role {
    threshold: usize,
    keys: BTreeSet<PublicKey>,
}

impl Role {
    /// Says that `threshold` of these keys must sign.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`](super::Fault::Malformed) when the threshold is 0 or above the number of keys, a key is
    /// there twice, or there are more than [`KEYS`].
    pub fn new(
        threshold: usize,
        keys: impl IntoIterator<Item = PublicKey>,
    ) -> Result<Self, EnvelopeError> {
        let refused = |fault| Err(EnvelopeError::new(Kind::Role(fault)));
        let mut distinct = BTreeSet::new();
        for key in keys {
            if !distinct.insert(key) {
                return refused(RoleFault::KeyTwice(key.id()));
            }
        }
        let keys = distinct.len();
        if keys > KEYS {
            return refused(RoleFault::TooManyKeys(keys));
        }
        if threshold == 0 {
            return refused(RoleFault::ThresholdZero);
        }
        if threshold > keys {
            return refused(RoleFault::ThresholdAboveKeys { threshold, keys });
        }
        Ok(Self {
            threshold,
            keys: distinct,
        })
    }

    /// How many of the keys must sign.
    pub const fn threshold(&self) -> usize {
        self.threshold
    }

    /// The keys, in the order of their octets.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = PublicKey> + '_ {
        self.keys.iter().copied()
    }

    /// Whether this is one of the keys.
    pub fn has(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }

    /// The SHA-256 digest of threshold and keys: two roles are one and the same if it is.
    pub fn identity(&self) -> Digest {
        let mut octets = format!("{} ", self.threshold).into_bytes();
        octets.extend(self.keys.iter().flat_map(|key| key.octets()));
        sha256(&octets)
    }
}

/// A role as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRole {
    threshold: usize,
    keys: Vec<String>,
}

impl FileRole {
    pub(super) fn of(role: &Role) -> Self {
        Self {
            threshold: role.threshold,
            keys: role.keys.iter().map(ToString::to_string).collect(),
        }
    }

    pub(super) fn check(&self) -> Result<Role, EnvelopeError> {
        // Before any key is read, so that a long list costs nothing.
        if self.keys.len() > KEYS {
            let fault = RoleFault::TooManyKeys(self.keys.len());
            return Err(EnvelopeError::new(Kind::Role(fault)));
        }
        let keys = self.keys.iter().map(|key| PublicKey::from_base64(key));
        Role::new(self.threshold, keys.collect::<Result<Vec<_>, _>>()?)
    }
}
