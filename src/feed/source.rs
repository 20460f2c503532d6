//! One feed as it stands: what was accepted last, and what became of the newest attempt.

use std::sync::Arc;

use super::config::{FeedConfig, Source};
use super::document::FeedDocument;
use super::error::{FeedError, Kind};
use super::fetch::Fetched;
use super::proof::Proof;
use crate::model::{Digest, UnixTime};
use crate::store::{Slot, StateDir};
use crate::telemetry::AlarmKind;

/// A feed: verifies and parses what was fetched, and keeps the last good document across restarts.
///
/// It reads no clock and waits for nothing; [`fetch`](super::fetch) brings the bytes.
#[derive(Debug)]
pub struct Feed {
    config: FeedConfig,
    proof: Proof,
    slot: Slot,
    accepted: Option<Accepted>,
    last_success: Option<UnixTime>,
    /// Of the newest round over the feed's places, in the order of the attempts.
    refusals: Vec<Refusal>,
    /// Whether the newest round ended with a document.
    succeeded: bool,
}

/// The document in force.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// What it offers.
    pub document: Arc<FeedDocument>,
    /// SHA-256 of the bytes that were fetched; of a `dsse` feed, of the payload.
    pub digest: Digest,
    /// SHA-256 of what was signed: the canonical octets; of a `dsse` feed, the payload.
    pub content: Digest,
    /// When it was signed, by its timestamp; when it was issued, of a `dsse` feed.
    pub signed_at: Option<UnixTime>,
    /// SHA-256 of the signer's certificate; of a `dsse` feed, of its threshold and keys.
    pub signer: Digest,
    /// What only our own format says.
    pub issue: Option<Issue>,
}

/// Which issue of a `dsse` feed a document is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Issue {
    /// Its number.
    pub version: u64,
    /// From when on it is stale.
    pub expires: UnixTime,
}

/// What taking a document came to.
#[derive(Clone, Debug, Default)]
pub struct Acceptance {
    /// Whether it differs from the one before.
    pub changed: bool,
    /// Whether another certificate signed it than the one before, or other keys may sign the feed.
    pub signer_changed: bool,
    /// Why it could not be kept for the next start, when it could not.
    pub unkept: Option<Arc<FeedError>>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Where it was made.
    pub place: Source,
    /// The kind of alarm that it is.
    pub alarm: AlarmKind,
    /// Why, from the outermost error to its last cause.
    pub reason: String,
}

impl Refusal {
    fn of(place: &Source, error: &FeedError) -> Self {
        Self {
            place: place.clone(),
            alarm: error.alarm(),
            reason: error.explain(),
        }
    }
}

impl Feed {
    /// A feed that has accepted nothing yet, and keeps its documents in `state`.
    ///
    /// # Errors
    ///
    /// When the certificates or the root that it is to trust cannot be used.
    pub fn new(config: FeedConfig, state: &StateDir) -> Result<Self, FeedError> {
        let proof = Proof::new(&config.trust, config.size_limit)?;
        if let Some(file) = &config.ca_file {
            // Read again at each fetch; read here, so that a mistake is told at the start.
            super::connect::client_config(Some(file))?;
        }
        let slot = state.slot(&format!("{}-{}", proof.slot_prefix(), config.name));
        Ok(Self {
            config,
            proof,
            slot,
            accepted: None,
            last_success: None,
            refusals: Vec::new(),
            succeeded: false,
        })
    }

    /// Its settings.
    pub const fn config(&self) -> &FeedConfig {
        &self.config
    }

    /// The document in force.
    pub const fn accepted(&self) -> Option<&Accepted> {
        self.accepted.as_ref()
    }

    /// When a document was last taken, the same one as before included.
    pub const fn last_success(&self) -> Option<UnixTime> {
        self.last_success
    }

    /// Why the newest attempt failed; nothing when it succeeded.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusals.last().filter(|_| !self.succeeded)
    }

    /// Why attempts of the newest round failed, one for each place that was passed over before the one that served.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// The version of the root that a fetch asks for first; only a `dsse` feed has any.
    pub fn next_root(&self) -> Option<u64> {
        self.proof.root()?.version().checked_add(1)
    }

    /// The version of the newest root; only a `dsse` feed has any.
    pub fn root(&self) -> Option<u64> {
        Some(self.proof.root()?.version())
    }

    /// When the document in force expires, or the root behind it if that is earlier; only a `dsse` feed does.
    pub fn expires(&self) -> Option<UnixTime> {
        let issue = self.accepted.as_ref()?.issue?;
        Some(issue.expires.min(self.proof.root()?.expires()))
    }

    /// Whether the last success is recent enough, and what it brought has not expired.
    pub fn is_fresh(&self, now: UnixTime) -> bool {
        let expired = self.expires().is_some_and(|expires| expires <= now);
        let recent = |success| now.since(success) <= self.config.stale_after;
        !expired && self.last_success.is_some_and(recent)
    }

    /// Takes up the document that was kept, if there is one; `true` if so.
    ///
    /// Its signature is verified again, as of the time at which it was accepted: a certificate that ended since, or
    /// a clock that was set back, does not take protection away.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is damaged, or is refused. The feed is then empty until the next fetch, and a `dsse` feed
    /// remembers what it still can: the roots and versions that were accepted.
    pub fn restore(&mut self) -> Result<bool, FeedError> {
        let kept = self
            .slot
            .read()
            .map_err(|error| FeedError::because(Kind::State, error))?;
        let Some(kept) = kept else {
            return Ok(false);
        };
        let Some((accepted, time)) = self.proof.restore(&kept, &self.config)? else {
            return Ok(false);
        };
        self.accepted = Some(accepted);
        self.last_success = Some(time);
        Ok(true)
    }

    /// Takes what was fetched: first the roots, then the document.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept), and when a root is refused. Roots before a refused one are kept.
    pub fn take(&mut self, fetched: &Fetched, now: UnixTime) -> Result<Acceptance, FeedError> {
        let place = self.config.source.clone();
        self.take_from(&place, fetched, now)
    }

    /// The same of what came from this place, which is one of several.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn take_from(
        &mut self,
        place: &Source,
        fetched: &Fetched,
        now: UnixTime,
    ) -> Result<Acceptance, FeedError> {
        let before = self.root();
        let mut roots = fetched.roots.iter();
        let taken = match roots.try_for_each(|root| self.proof.advance(root)) {
            Ok(()) => self.judge(&fetched.document, now),
            Err(error) => Err(error),
        };
        self.note(place, taken.as_ref().err());
        if taken.is_err() && self.root() != before {
            // The walk must not begin again after a restart; whether that could be written down is told with the next
            // document that is accepted.
            let _ = self.keep(&[], now);
        }
        taken
    }

    /// Verifies and parses bytes that were fetched, and keeps them as the last good document.
    ///
    /// # Errors
    ///
    /// When they are refused; the document in force stays. [`refusal`](Self::refusal) then says why.
    pub fn accept(&mut self, bytes: &[u8], now: UnixTime) -> Result<Acceptance, FeedError> {
        let taken = self.judge(bytes, now);
        let place = self.config.source.clone();
        self.note(&place, taken.as_ref().err());
        taken
    }

    fn judge(&mut self, bytes: &[u8], now: UnixTime) -> Result<Acceptance, FeedError> {
        let accepted = self
            .proof
            .judge(bytes, now, self.accepted.as_ref(), &self.config)?;
        self.last_success = Some(now);
        let mut acceptance = Acceptance {
            changed: true,
            ..Acceptance::default()
        };
        if let Some(held) = &self.accepted {
            acceptance.changed = held.digest != accepted.digest;
            acceptance.signer_changed = held.signer != accepted.signer;
        }
        self.accepted = Some(accepted);
        // Written each time: it is one small file an hour, and keeps the time of the last success too.
        acceptance.unkept = self.keep(bytes, now).err().map(Arc::new);
        Ok(acceptance)
    }

    /// Notes that a fetch from the feed's first place failed.
    pub fn fail(&mut self, error: &FeedError) {
        let place = self.config.source.clone();
        self.fail_at(&place, error);
    }

    /// Notes that a fetch from this place failed.
    pub fn fail_at(&mut self, place: &Source, error: &FeedError) {
        self.note(place, Some(error));
    }

    fn note(&mut self, place: &Source, error: Option<&FeedError>) {
        // Every round begins at the first place.
        if *place == self.config.source {
            self.refusals.clear();
        }
        self.succeeded = error.is_none();
        self.refusals
            .extend(error.map(|error| Refusal::of(place, error)));
    }

    fn keep(&self, bytes: &[u8], now: UnixTime) -> Result<(), FeedError> {
        let kept = self.proof.kept(bytes, now)?;
        self.slot
            .replace(&kept)
            .map_err(|error| FeedError::because(Kind::Unkept, error))
    }
}
