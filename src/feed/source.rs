//! One feed as it stands: what was accepted last, and what became of the newest attempt.

use std::sync::Arc;

use super::config::{FeedConfig, Trust};
use super::document::FeedDocument;
use super::error::{FeedError, Kind};
use crate::model::{Digest, UnixTime};
use crate::signature::{Fault, Verifier, VerifyError, sha256};
use crate::store::{Slot, StateDir, StoreError};
use crate::telemetry::AlarmKind;
use crate::xml::Limits;

/// A feed: verifies and parses what was fetched, and keeps the last good document across restarts.
///
/// It reads no clock and waits for nothing; [`fetch`](super::fetch) brings the bytes.
#[derive(Debug)]
pub struct Feed {
    config: FeedConfig,
    verifier: Verifier,
    slot: Slot,
    accepted: Option<Accepted>,
    last_success: Option<UnixTime>,
    refusal: Option<Refusal>,
}

/// The document in force.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// What it offers.
    pub document: Arc<FeedDocument>,
    /// SHA-256 of the bytes that were fetched.
    pub digest: Digest,
    /// When it was signed, by its timestamp.
    pub signed_at: Option<UnixTime>,
    /// SHA-256 of the signer's certificate.
    pub signer: Digest,
}

/// What taking a document came to.
#[derive(Clone, Debug, Default)]
pub struct Acceptance {
    /// Whether it differs from the one before.
    pub changed: bool,
    /// Whether another certificate signed it than the one before.
    pub signer_changed: bool,
    /// Why it could not be kept for the next start, when it could not.
    pub unkept: Option<Arc<StoreError>>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The kind of alarm that it is.
    pub alarm: AlarmKind,
    /// Why, from the outermost error to its last cause.
    pub reason: String,
}

impl Refusal {
    fn of(error: &FeedError) -> Self {
        Self {
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
    /// When the certificates that it is to trust cannot be used.
    pub fn new(config: FeedConfig, state: &StateDir) -> Result<Self, FeedError> {
        let limits = Limits {
            bytes: config.size_limit,
            ..Limits::default()
        };
        let verifier = verifier(&config.trust)
            .map_err(|error| FeedError::because(Kind::Trust, error))?
            .with_limits(limits);
        if let Some(file) = &config.ca_file {
            // Read again at each fetch; read here, so that a mistake is told at the start.
            super::connect::client_config(Some(file))?;
        }
        let slot = state.slot(&format!("feed-{}", config.name));
        Ok(Self {
            config,
            verifier,
            slot,
            accepted: None,
            last_success: None,
            refusal: None,
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
    pub const fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Whether the last success is recent enough.
    pub fn is_fresh(&self, now: UnixTime) -> bool {
        self.last_success
            .is_some_and(|success| now.since(success) <= self.config.stale_after)
    }

    /// Takes up the document that was kept, if there is one; `true` if so.
    ///
    /// Its signature is verified again, as of the time at which it was accepted: a certificate that ended since, or
    /// a clock that was set back, does not take protection away.
    ///
    /// # Errors
    ///
    /// When it cannot be read, is damaged, or is refused. The feed is then empty until the next fetch.
    pub fn restore(&mut self) -> Result<bool, FeedError> {
        let kept = self
            .slot
            .read()
            .map_err(|error| FeedError::because(Kind::State, error))?;
        let Some(kept) = kept else {
            return Ok(false);
        };
        let (time, bytes) = split_kept(&kept).ok_or_else(|| {
            FeedError::because(Kind::State, "it does not begin with the time of acceptance")
        })?;
        self.accepted = Some(self.judge(bytes, time, None)?);
        self.last_success = Some(time);
        Ok(true)
    }

    /// Verifies and parses bytes that were fetched, and keeps them as the last good document.
    ///
    /// # Errors
    ///
    /// When they are refused; the document in force stays. [`refusal`](Self::refusal) then says why.
    pub fn accept(&mut self, bytes: &[u8], now: UnixTime) -> Result<Acceptance, FeedError> {
        let floor = self.accepted.as_ref().and_then(|held| held.signed_at);
        let accepted = match self.judge(bytes, now, floor) {
            Ok(accepted) => accepted,
            Err(error) => {
                self.fail(&error);
                return Err(error);
            }
        };
        self.refusal = None;
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
        let kept = [format!("{KEPT} {}\n", now.seconds()).as_bytes(), bytes].concat();
        acceptance.unkept = self.slot.replace(&kept).err().map(Arc::new);
        Ok(acceptance)
    }

    /// Notes that a fetch failed.
    pub fn fail(&mut self, error: &FeedError) {
        self.refusal = Some(Refusal::of(error));
    }

    fn judge(
        &self,
        bytes: &[u8],
        now: UnixTime,
        floor: Option<UnixTime>,
    ) -> Result<Accepted, FeedError> {
        let verified = self.verifier.verify(bytes, now, floor).map_err(|error| {
            let kind = match error.fault() {
                Fault::Rollback => Kind::Rollback,
                Fault::Document => Kind::Document,
                _ => Kind::Signature,
            };
            FeedError::because(kind, error)
        })?;
        let document = FeedDocument::parse(&verified, &self.config.type_aliases)?;
        Ok(Accepted {
            document: Arc::new(document),
            digest: sha256(bytes),
            signed_at: verified.signed_at(),
            signer: verified.signer(),
        })
    }
}

fn verifier(trust: &Trust) -> Result<Verifier, VerifyError> {
    match trust {
        Trust::MicrosoftEocs => Verifier::microsoft_eocs(),
        Trust::XmlDsigX509(policy) => Verifier::xmldsig_x509(policy.clone()),
    }
}

/// The first word of what is kept; the time of acceptance follows, and after a line feed the document.
const KEPT: &str = "accepted";

fn split_kept(kept: &[u8]) -> Option<(UnixTime, &[u8])> {
    let end = kept.iter().take(64).position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&kept[..end]).ok()?;
    let seconds = line.strip_prefix(KEPT)?.strip_prefix(' ')?.parse().ok()?;
    Some((UnixTime::new(seconds), &kept[end + 1..]))
}
