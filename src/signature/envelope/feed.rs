//! What a feed's envelope carries: rules, and what tells one issue of them from another.

use serde::{Deserialize, Serialize};

use super::dsse::{Envelope, FEED_TYPE};
use super::error::{EnvelopeError, JsonFault, Kind};
use crate::model::UnixTime;

/// The longest name of a feed, in bytes.
pub const NAME_BYTES: usize = 128;

/// One issue of a feed. It is what a publisher says, and proven only by [`FeedState`](super::FeedState).
///
/// As JSON: `{"name": …, "version": …, "issued": …, "expires": …, "rules": …}` with times as `2026-11-23T09:00:00Z` and
/// the rules as the text of an EOCS document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FeedPayload {
    name: String,
    version: u64,
    issued: UnixTime,
    expires: UnixTime,
    rules: String,
}

impl FeedPayload {
    /// The first issue of a feed, version 1.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`](super::Fault::Malformed) when the name is empty, longer than [`NAME_BYTES`] or holds control
    /// characters, there are no rules, or it expires no later than it is issued.
    pub fn first(
        name: &str,
        rules: &str,
        issued: UnixTime,
        expires: UnixTime,
    ) -> Result<Self, EnvelopeError> {
        Self::checked(name.to_owned(), 1, rules.to_owned(), issued, expires)
    }

    /// The issue after this one, with other rules.
    ///
    /// # Errors
    ///
    /// As [`first`](Self::first), and [`Fault::Publishing`](super::Fault::Publishing) when no version is left.
    pub fn next(
        &self,
        rules: &str,
        issued: UnixTime,
        expires: UnixTime,
    ) -> Result<Self, EnvelopeError> {
        let version = self.version.checked_add(1);
        let version = version.ok_or_else(|| EnvelopeError::new(Kind::VersionsUsedUp))?;
        Self::checked(
            self.name.clone(),
            version,
            rules.to_owned(),
            issued,
            expires,
        )
    }

    /// The issue after this one, with the same rules: what a timer does to keep a feed from growing stale.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn refresh(&self, issued: UnixTime, expires: UnixTime) -> Result<Self, EnvelopeError> {
        self.next(&self.rules, issued, expires)
    }

    /// Gives it another version, for a feed that begins again after its keys were replaced.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`](super::Fault::Malformed) for version 0.
    pub fn with_version(self, version: u64) -> Result<Self, EnvelopeError> {
        Self::checked(self.name, version, self.rules, self.issued, self.expires)
    }

    /// Reads a payload. It proves nothing about who wrote it.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`](super::Fault::Malformed) when it has another form, or what [`first`](Self::first) refuses.
    pub fn parse(payload: &[u8]) -> Result<Self, EnvelopeError> {
        let file: FilePayload = serde_json::from_slice(payload).map_err(|error| {
            malformed("is not the JSON object {name, version, issued, expires, rules}")
                .caused_by(JsonFault::of(&error))
        })?;
        let time = |text: &str| {
            UnixTime::parse_rfc3339(text)
                .ok_or_else(|| malformed("has a time that is not written as 2026-11-23T09:00:00Z"))
        };
        let (issued, expires) = (time(&file.issued)?, time(&file.expires)?);
        Self::checked(file.name, file.version, file.rules, issued, expires)
    }

    /// An envelope for it, without signatures.
    ///
    /// # Errors
    ///
    /// [`Fault::Malformed`](super::Fault::Malformed) when it cannot be written.
    pub fn to_envelope(&self) -> Result<Envelope, EnvelopeError> {
        let file = FilePayload {
            name: self.name.clone(),
            version: self.version,
            issued: self.issued.to_string(),
            expires: self.expires.to_string(),
            rules: self.rules.clone(),
        };
        let payload = serde_json::to_vec(&file)
            .map_err(|error| malformed("cannot be written").caused_by(error))?;
        Envelope::unsigned(FEED_TYPE, &payload)
    }

    /// Which feed it is an issue of.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number; each issue has a higher one than the one before.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// When it was made, by the publisher's clock.
    pub const fn issued(&self) -> UnixTime {
        self.issued
    }

    /// When clients begin to say that it is stale.
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// The text of its EOCS document.
    pub fn rules(&self) -> &str {
        &self.rules
    }

    pub(super) fn into_rules(self) -> String {
        self.rules
    }

    fn checked(
        name: String,
        version: u64,
        rules: String,
        issued: UnixTime,
        expires: UnixTime,
    ) -> Result<Self, EnvelopeError> {
        if !is_name(&name) {
            return Err(malformed(
                "has a name that is empty, longer than 128 bytes, or holds control characters",
            ));
        }
        if version == 0 {
            return Err(malformed("has version 0: the first one is 1"));
        }
        if rules.is_empty() {
            return Err(malformed("has no rules: it needs an EOCS document"));
        }
        if expires <= issued {
            return Err(malformed("expires no later than it is issued"));
        }
        if !is_writable(expires) {
            return Err(malformed("expires after the year 9999"));
        }
        Ok(Self {
            name,
            version,
            issued,
            expires,
            rules,
        })
    }
}

/// Whether a time has a year of four digits, as RFC 3339 demands.
pub(super) fn is_writable(time: UnixTime) -> bool {
    UnixTime::parse_rfc3339(&time.to_string()).is_some()
}

pub(super) fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= NAME_BYTES && !name.contains(char::is_control)
}

const fn malformed(words: &'static str) -> EnvelopeError {
    EnvelopeError::malformed("feed", words)
}

/// A payload as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FilePayload {
    name: String,
    version: u64,
    issued: String,
    expires: String,
    rules: String,
}
