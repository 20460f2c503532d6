//! Exceptions from mitigations: of the settings and of operators; kept on disk, counted, announced, and ended in time.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::ControlConfig;
use super::error::ControlError;
use super::history::TransitionReport;
use super::status::ExceptionReport;
use crate::filter::ActiveException;
use crate::model::{Exception, ExceptionDraft, InvalidException, UnixTime};
use crate::store::{Slot, StateDir};
use crate::telemetry::Event;

/// The most exceptions of operators that are kept.
pub const EXCEPTION_LIMIT: usize = 1_000;

/// How long an exception may last by default.
pub const EXCEPTION_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// How long before its end an exception is announced to end, each time.
pub const EXCEPTION_NOTICES: [Duration; 3] = [
    Duration::from_secs(7 * 86_400),
    Duration::from_secs(86_400),
    Duration::from_secs(3_600),
];

/// The states of exceptions.
pub(super) const EXCEPTION_STATES: [&str; 3] = ["Active", "Lapsing", "Lapsed"];

/// How often what was counted is kept, while exceptions are used.
const COUNT_INTERVAL: Duration = Duration::from_secs(3_600);

/// The name of the slot.
const SLOT: &str = "exceptions";

/// An exception as it is written on the control socket and on disk; [`read`](Self::read) checks it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExceptionText {
    /// What it is called; empty for a name that is not taken.
    #[serde(default)]
    pub name: String,
    /// The mitigation that does not stop the requests.
    pub mitigation: String,
    /// The only rule of it that does not.
    #[serde(default)]
    pub rule: Option<String>,
    /// The path prefix of the requests.
    pub path: String,
    /// The networks that the clients are in.
    pub clients: Vec<String>,
    /// Who answers for it.
    pub owner: String,
    /// Why it is there.
    pub reason: String,
    /// When it ends, as RFC 3339 in UTC.
    pub expires: String,
}

impl ExceptionText {
    /// Checks what is written.
    ///
    /// # Errors
    ///
    /// For the first key whose value cannot be used.
    pub fn read(&self) -> Result<Exception, InvalidException> {
        Exception::read(&ExceptionDraft {
            name: &self.name,
            mitigation: &self.mitigation,
            rule: self.rule.as_deref(),
            path: &self.path,
            clients: self.clients.iter().map(String::as_str).collect(),
            owner: &self.owner,
            reason: &self.reason,
            expires: &self.expires,
        })
    }

    fn of(exception: &Exception) -> Self {
        let clients = exception.clients().iter();
        Self {
            name: exception.name().to_owned(),
            mitigation: exception.mitigation().to_string(),
            rule: exception.rule().map(str::to_owned),
            path: exception.path().to_owned(),
            clients: clients.map(ToString::to_string).collect(),
            owner: exception.owner().to_owned(),
            reason: exception.reason().to_owned(),
            expires: exception.expires().to_string(),
        }
    }
}

/// An exception on disk.
#[derive(Debug, Deserialize, Serialize)]
struct Stored {
    exception: ExceptionText,
    of_settings: bool,
    /// Seconds since 1970.
    created: u64,
    hits: u64,
    /// Seconds since 1970; 0 for never.
    last_used: u64,
    announced: usize,
    lapsed: bool,
}

/// Everything on disk.
#[derive(Debug, Default, Deserialize, Serialize)]
struct File {
    /// The number of the next name.
    next: u64,
    exceptions: Vec<Stored>,
}

/// One exception, and what became of it so far.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    active: Arc<ActiveException>,
    used: Arc<LastUse>,
    of_settings: bool,
    created: UnixTime,
    /// How many of [`EXCEPTION_NOTICES`] are given.
    announced: usize,
    lapsed: bool,
}

/// When an exception was last seen to let a request pass: requests count, and whoever looks brings the clock.
#[derive(Debug, Default)]
struct LastUse {
    seen: AtomicU64,
    /// Seconds since 1970; 0 for never.
    time: AtomicU64,
}

/// All exceptions, and the place where they are kept.
#[derive(Debug)]
pub(super) struct KeptExceptions {
    slot: Slot,
    lifetime: Duration,
    next: u64,
    list: Vec<Kept>,
    /// What happened and was not taken down yet.
    events: Vec<TransitionReport>,
    /// When counts were kept last.
    counted: UnixTime,
    fault: Option<String>,
}

/// What became of an exception, as the state of a transition.
mod event {
    pub(super) const ADDED: &str = "ExceptionAdded";
    pub(super) const DELETED: &str = "ExceptionDeleted";
    pub(super) const LAPSED: &str = "ExceptionLapsed";
    pub(super) const LAPSING: &str = "ExceptionLapsing";
}

/// The event in the process log that a transition of an exception is; `None` for one of a mitigation.
pub(super) fn event_of(transition: &TransitionReport) -> Option<Event> {
    match transition.state.as_str() {
        event::ADDED | event::DELETED => Some(Event::ExceptionChanged),
        event::LAPSED => Some(Event::ExceptionLapsed),
        event::LAPSING => Some(Event::ExceptionLapsing),
        _ => None,
    }
}

/// Whether a transition is one of an exception.
pub(super) fn is_of_exception(transition: &TransitionReport) -> bool {
    event_of(transition).is_some()
}

impl KeptExceptions {
    /// Reads what was kept, and takes those of the settings beside it. What cannot be read counts as none, which is told
    /// as a fault.
    ///
    /// # Errors
    ///
    /// When one of the settings would last too long.
    pub(super) fn open(
        config: &ControlConfig,
        state: &StateDir,
        now: UnixTime,
    ) -> Result<Self, ControlError> {
        let slot = state.slot(SLOT);
        let (file, fault) = match read(&slot) {
            Ok(file) => (file, None),
            Err(error) => {
                let fault = format!("exceptions of operators are lost: {error}; add them again");
                (File::default(), Some(fault))
            }
        };
        let mut kept = Self {
            slot,
            lifetime: config.policy.exception_lifetime,
            next: file.next,
            list: Vec::new(),
            events: Vec::new(),
            counted: now,
            fault,
        };
        let stored = file.exceptions.into_iter();
        kept.list = stored.filter_map(Kept::restore).collect();
        config.check_exceptions(now)?;
        kept.settle(&config.exceptions, now);
        Ok(kept)
    }

    /// Takes what the settings say now in place of what they said before.
    ///
    /// # Errors
    ///
    /// When one would last too long; then nothing is changed.
    pub(super) fn take_settings(
        &mut self,
        settings: &[Exception],
        now: UnixTime,
    ) -> Result<(), ControlError> {
        for exception in settings {
            refuse_too_long(exception, self.lifetime, now)
                .map_err(|reason| ControlError::order(of_settings(exception, &reason)))?;
        }
        self.settle(settings, now);
        Ok(())
    }

    /// Lets exceptions end this far ahead from now on. Those that there are stay as they are.
    pub(super) fn set_lifetime(&mut self, lifetime: Duration) {
        self.lifetime = lifetime;
    }

    /// Those that stay the same keep what they have counted.
    fn settle(&mut self, settings: &[Exception], now: UnixTime) {
        let known = self.events.len();
        let mut before = std::mem::take(&mut self.list);
        for exception in settings {
            let same = |own: &Kept| own.of_settings && own.active.exception() == exception;
            match before.iter().position(same) {
                Some(at) => self.list.push(before.remove(at)),
                None => self.take(exception.clone(), true, now),
            }
        }
        let (gone, operators): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|own| own.of_settings);
        for own in gone {
            self.tell(event::DELETED, &own, "no longer in the settings", now);
        }
        self.list.extend(operators);
        if self.events.len() > known {
            self.keep();
        }
    }

    /// Why they are not known, or not kept.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Takes one of an operator, and keeps it; its name. One that cannot be kept counts until the process ends.
    pub(super) fn add(
        &mut self,
        text: &ExceptionText,
        now: UnixTime,
    ) -> Result<Exception, ControlError> {
        let mut text = text.clone();
        if text.name.is_empty() {
            text.name = self.free_name();
        }
        let exception = text
            .read()
            .map_err(|error| ControlError::order(error.to_string()))?;
        if self.named(exception.name()).is_some() {
            let reason = format!(
                "there is an exception {} already: delete it, or choose another name",
                exception.name()
            );
            return Err(ControlError::order(reason));
        }
        if exception.expires() <= now {
            let reason = format!("{} is over already", exception.expires());
            return Err(ControlError::order(reason));
        }
        refuse_too_long(&exception, self.lifetime, now).map_err(ControlError::order)?;
        let of_operators = self.list.iter().filter(|own| !own.of_settings);
        if of_operators.count() >= EXCEPTION_LIMIT {
            let reason = format!("{EXCEPTION_LIMIT} are kept already: delete one first");
            return Err(ControlError::order(reason));
        }
        self.take(exception.clone(), false, now);
        self.keep();
        Ok(exception)
    }

    /// Deletes one of an operator.
    pub(super) fn delete(&mut self, name: &str, now: UnixTime) -> Result<(), ControlError> {
        let of_operator = |own: &Kept| !own.of_settings && own.active.exception().name() == name;
        let of_operator = self.list.iter().position(of_operator);
        let Some(at) = of_operator.or_else(|| self.named(name)) else {
            let reason =
                format!("there is no exception {name}; `stopgap exception list` lists all");
            return Err(ControlError::order(reason));
        };
        if self.list[at].of_settings {
            let reason = format!("{name} stands in the settings: take it out there and reload");
            return Err(ControlError::order(reason));
        }
        let own = self.list.remove(at);
        self.tell(event::DELETED, &own, "deleted by an operator", now);
        self.keep();
        Ok(())
    }

    /// Ends what is over at `now`, and announces what soon will be.
    pub(super) fn advance(&mut self, now: UnixTime) {
        let known = self.events.len();
        for mut own in std::mem::take(&mut self.list) {
            let expires = own.active.exception().expires();
            if expires <= now {
                if !own.lapsed {
                    own.lapsed = true;
                    self.tell(event::LAPSED, &own, &format!("ended at {expires}"), now);
                }
                // One of the settings stays until it is taken out there, so that a person sees what it has become.
                if own.of_settings {
                    self.list.push(own);
                }
                continue;
            }
            let due = own.due(now);
            if due > own.announced {
                own.announced = due;
                self.tell(event::LAPSING, &own, &format!("ends at {expires}"), now);
            }
            self.list.push(own);
        }
        if self.events.len() > known {
            self.keep();
        }
    }

    /// When time alone changes something next.
    pub(super) fn next_change(&self) -> Option<UnixTime> {
        let alive = self.list.iter().filter(|own| !own.lapsed);
        alive.map(Kept::next_change).min()
    }

    /// Notes which were used since the last look.
    pub(super) fn look(&mut self, now: UnixTime) {
        let used = self.list.iter().map(|own| own.last_used(now));
        let used = used.flatten().any(|time| time > self.counted);
        if used && now.since(self.counted) >= COUNT_INTERVAL {
            self.counted = now;
            self.keep();
        }
    }

    /// Those that let requests pass, in no certain order.
    pub(super) fn active(&self) -> Vec<Arc<ActiveException>> {
        let alive = self.list.iter().filter(|own| !own.lapsed);
        alive.map(|own| Arc::clone(&own.active)).collect()
    }

    /// All of them, those of the settings first.
    pub(super) fn all(&self) -> &[Kept] {
        &self.list
    }

    /// What happened since the last call, with the number of the rule set that is published.
    pub(super) fn take_events(&mut self, revision: u64) -> Vec<TransitionReport> {
        let mut events = std::mem::take(&mut self.events);
        events
            .iter_mut()
            .for_each(|event| event.revision = revision);
        events
    }

    fn named(&self, name: &str) -> Option<usize> {
        let is_named = |own: &Kept| own.active.exception().name() == name;
        self.list.iter().position(is_named)
    }

    /// A name that was never given to another, unless somebody chose it.
    fn free_name(&mut self) -> String {
        loop {
            self.next += 1;
            let name = format!("e{}", self.next);
            if self.named(&name).is_none() {
                return name;
            }
        }
    }

    fn take(&mut self, exception: Exception, of_settings: bool, now: UnixTime) {
        let own = Kept {
            active: Arc::new(ActiveException::new(exception, 0)),
            used: Arc::default(),
            of_settings,
            created: now,
            announced: 0,
            lapsed: false,
        };
        // What is short-lived from the start needs no announcement of what its owner has just written.
        let announced = own.due(now);
        let own = Kept { announced, ..own };
        self.tell(event::ADDED, &own, &described(own.active.exception()), now);
        self.list.push(own);
    }

    fn tell(&mut self, state: &str, own: &Kept, what: &str, now: UnixTime) {
        let exception = own.active.exception();
        let mut reason = what.to_owned();
        if state != event::ADDED {
            // Writing to a string cannot fail.
            let _ = write!(
                reason,
                "; it let {} requests pass; {} answers for it",
                own.active.hits(),
                exception.owner()
            );
        }
        self.events.push(TransitionReport {
            time: now.to_string(),
            id: exception.mitigation().to_string(),
            source: format!("exception {}", exception.name()),
            before: String::new(),
            state: state.to_owned(),
            reason: TransitionReport::shortened(&reason),
            digest: None,
            revision: 0,
        });
    }

    fn keep(&mut self) {
        let file = File {
            next: self.next,
            exceptions: self.list.iter().map(Kept::store).collect(),
        };
        let written = serde_json::to_vec(&file).map_err(|error| error.to_string());
        let written = written.and_then(|bytes| {
            let replaced = self.slot.replace(&bytes);
            replaced.map_err(|error| error.to_string())
        });
        self.fault = written
            .err()
            .map(|error| format!("a restart will not know the exceptions: {error}"));
    }
}

impl Kept {
    /// `None` for what this version cannot use, which it did not write.
    fn restore(stored: Stored) -> Option<Self> {
        let exception = stored.exception.read().ok()?;
        Some(Self {
            active: Arc::new(ActiveException::new(exception, stored.hits)),
            used: Arc::new(LastUse {
                seen: AtomicU64::new(stored.hits),
                time: AtomicU64::new(stored.last_used),
            }),
            of_settings: stored.of_settings,
            created: UnixTime::new(stored.created),
            announced: stored.announced,
            lapsed: stored.lapsed,
        })
    }

    fn store(&self) -> Stored {
        Stored {
            exception: ExceptionText::of(self.active.exception()),
            of_settings: self.of_settings,
            created: self.created.seconds(),
            hits: self.active.hits(),
            last_used: self.used.time.load(Ordering::Relaxed),
            announced: self.announced,
            lapsed: self.lapsed,
        }
    }

    /// How many announcements are due.
    fn due(&self, now: UnixTime) -> usize {
        let left = self.active.exception().expires().since(now);
        let due = EXCEPTION_NOTICES.iter().filter(|notice| left <= **notice);
        due.count()
    }

    /// When it is announced next, or ends.
    fn next_change(&self) -> UnixTime {
        let expires = self.active.exception().expires().seconds();
        let before = EXCEPTION_NOTICES.get(self.announced);
        UnixTime::new(expires.saturating_sub(before.map_or(0, Duration::as_secs)))
    }

    /// When it was last seen to let a request pass, with `now` for what nobody has seen yet.
    fn last_used(&self, now: UnixTime) -> Option<UnixTime> {
        let hits = self.active.hits();
        if self.used.seen.swap(hits, Ordering::Relaxed) != hits {
            self.used.time.store(now.seconds(), Ordering::Relaxed);
        }
        match self.used.time.load(Ordering::Relaxed) {
            0 => None,
            seconds => Some(UnixTime::new(seconds)),
        }
    }

    /// The name of its state, one of [`EXCEPTION_STATES`].
    pub(super) fn state(&self, now: UnixTime) -> &'static str {
        let [active, lapsing, lapsed] = EXCEPTION_STATES;
        match self.lapsed {
            true => lapsed,
            false if self.due(now) > 0 => lapsing,
            false => active,
        }
    }

    pub(super) fn report(&self, now: UnixTime) -> ExceptionReport {
        let text = ExceptionText::of(self.active.exception());
        ExceptionReport {
            name: text.name,
            origin: match self.of_settings {
                true => "settings",
                false => "operator",
            },
            mitigation: text.mitigation,
            rule: text.rule,
            path: text.path,
            clients: text.clients,
            owner: text.owner,
            reason: text.reason,
            created: self.created.to_string(),
            expires: text.expires,
            state: self.state(now),
            hits: self.active.hits(),
            last_used: self.last_used(now).map(|time| time.to_string()),
        }
    }
}

impl ControlConfig {
    /// Whether every exception of the settings ends soon enough.
    ///
    /// # Errors
    ///
    /// For the first that does not.
    pub fn check_exceptions(&self, now: UnixTime) -> Result<(), ControlError> {
        self.exceptions.iter().try_for_each(|exception| {
            refuse_too_long(exception, self.policy.exception_lifetime, now)
                .map_err(|reason| ControlError::config(of_settings(exception, &reason)))
        })
    }
}

fn of_settings(exception: &Exception, reason: &str) -> String {
    format!("[[exception]] {}: {reason}", exception.name())
}

fn refuse_too_long(exception: &Exception, lifetime: Duration, now: UnixTime) -> Result<(), String> {
    match exception.expires().since(now) > lifetime {
        false => Ok(()),
        true => Err(format!(
            "{} is too far ahead: an exception lasts {} days at most ([policy] exception_lifetime)",
            exception.expires(),
            lifetime.as_secs() / 86_400
        )),
    }
}

/// Everything about an exception in one line.
fn described(exception: &Exception) -> String {
    let clients: Vec<String> = exception
        .clients()
        .iter()
        .map(ToString::to_string)
        .collect();
    let rule = exception.rule().map(|rule| format!("rule {rule}, "));
    format!(
        "{}{} from {} until {}; {} answers for it: {}",
        rule.unwrap_or_default(),
        exception.path(),
        clients.join(", "),
        exception.expires(),
        exception.owner(),
        exception.reason()
    )
}

fn read(slot: &Slot) -> Result<File, String> {
    let bytes = slot.read().map_err(|error| error.to_string())?;
    match bytes {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        None => Ok(File::default()),
    }
}
