//! The state of the control side, and one function that brings it up to date.
//!
//! Everything here is synchronous and runs on one thread at a time; tasks around it bring it events.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::approvals;
use super::bundled;
use super::config::ControlConfig;
use super::decided::Decided;
use super::error::ControlError;
use super::exceptions::KeptExceptions;
use super::feed_state::{Age, Condition, FeedNumber, FeedState, in_one_line};
use super::history::{History, TransitionReport};
use super::measures::Measures;
use super::notify::{Happening, Notifier};
use super::order::Outcome;
use super::plan::{Hits, Plan, Planned, Source, Unit, changed_owner, plan, watched_owner};
use super::polls::{Polled, Taken};
use super::prepare::{Cache, Gates};
use super::prove::{Extent, Proof};
use super::publisher::{Beside, Publisher};
use super::report::{FeedView, FileView, MitigationView, StopsView, View};
use super::retire::{self, Proposals};
use super::rule_files::RuleFiles;
use super::sidecars::{Sidecars, Wanted};
use super::sources;
use super::stops::{self, Pause};
use super::transitions::{StaleFeeds, Transitions, log_exceptions};
use super::versions::Versions;
use crate::feed::{FeedError, Fetched, Source as Place};
use crate::filter::{ActiveException, Audit, PoolTable, Samples};
use crate::mitigation::{Policy, SourceKind, State};
use crate::model::{Mitigation, MitigationId, Mode, Revision, UnixTime};
use crate::store::StateDir;
use crate::telemetry::{AlarmKind, Alarms, Metrics};

/// Everything that control decides with.
pub(super) struct Engine {
    pub(super) config: ControlConfig,
    pub(super) clock: fn() -> UnixTime,
    started: UnixTime,
    pub(super) state: StateDir,
    pub(super) gates: Gates,
    pub(super) bundled: Vec<Arc<Mitigation>>,
    pub(super) files: RuleFiles,
    pub(super) feeds: Vec<FeedState>,
    /// The number given last.
    pub(super) feed_number: FeedNumber,
    pub(super) cache: Cache,
    hits: Hits,
    pub(super) publisher: Publisher,
    published: Vec<Unit>,
    paused: Vec<Pause>,
    pub(super) pools: PoolTable,
    pub(super) sidecars: Sidecars,
    versions: Versions,
    /// What is only watched, as it was published last.
    watched: Vec<Unit>,
    samples: Samples,
    /// The revision of what this engine published last; the switch publishes too.
    pub(super) revision: Option<Revision>,
    /// The one of them that was told last.
    told: Option<Revision>,
    alarms: Alarms,
    raised: BTreeSet<(AlarmKind, String)>,
    /// The age of each feed at the last cycle.
    ages: Vec<Age>,
    pub(super) measures: Measures,
    transitions: Transitions,
    proposals: Proposals,
    stale: StaleFeeds,
    history: History,
    /// What the last cycle changed and nobody was told of yet.
    untold: Vec<TransitionReport>,
    /// What else happened in the last cycle.
    happened: Vec<Happening>,
    notifier: Notifier,
    pub(super) decided: Decided,
    pub(super) exceptions: KeptExceptions,
    /// Those of them that were published last.
    excepted: Vec<Arc<ActiveException>>,
    /// What the last round of probes came to, each with its time.
    proofs: Vec<(Proof, UnixTime)>,
    /// When time alone changes something next, as far as the last cycle saw.
    next_change: Option<UnixTime>,
}

impl Engine {
    /// Reads every source that needs no network. Nothing is published yet.
    pub(super) fn new(
        config: ControlConfig,
        state: &StateDir,
        metrics: &Metrics,
        alarms: Alarms,
        clock: fn() -> UnixTime,
    ) -> Result<Self, ControlError> {
        sources::check(&config)?;
        let now = clock();
        let gates = Gates::new(&config)?;
        let mut files = RuleFiles::new(config.rules.clone(), state.clone());
        files.look(&gates, now);
        // A first start has no last good content to fall back on, so what is refused then ends it.
        sources::refuse_unusable(&files, |_| false)?;
        let bundled = sources::bundled(&config)?;
        let mut feed_number = FeedNumber::default();
        let mut feeds = Vec::new();
        for feed in &config.feeds {
            feed_number = feed_number.next();
            feeds.push(FeedState::new(feed_number, feed, state, now)?);
        }
        let exceptions = KeptExceptions::open(&config, state, now)?;
        Ok(Self {
            publisher: Publisher::new(config.sites.len()),
            pools: stops::table(&config),
            sidecars: Sidecars::new(&config, metrics, clock)?,
            versions: Versions::open(config.versions.clone(), state, clock),
            config,
            clock,
            started: now,
            state: state.clone(),
            gates,
            bundled,
            files,
            feeds,
            feed_number,
            cache: Cache::default(),
            hits: Hits::default(),
            published: Vec::new(),
            paused: Vec::new(),
            watched: Vec::new(),
            samples: Samples::default(),
            revision: None,
            told: None,
            alarms,
            raised: BTreeSet::new(),
            ages: Vec::new(),
            measures: Measures::new(metrics),
            transitions: Transitions::default(),
            proposals: Proposals::default(),
            stale: StaleFeeds::default(),
            history: History::open(state),
            untold: Vec::new(),
            happened: Vec::new(),
            notifier: Notifier::new(metrics, clock),
            decided: Decided::open(state),
            exceptions,
            excepted: Vec::new(),
            proofs: Vec::new(),
            next_change: None,
        })
    }

    pub(super) fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    pub(super) fn sidecars(&self) -> Sidecars {
        self.sidecars.clone()
    }

    pub(super) fn versions(&self) -> Versions {
        self.versions.clone()
    }

    /// Reads rule files again; `true` if anything is different.
    pub(super) fn look_at_files(&mut self) -> bool {
        self.files.look(&self.gates, (self.clock)())
    }

    /// Takes the result of fetching one feed; what is to be known for the next, or nothing of a feed that went.
    pub(super) fn take_fetched(
        &mut self,
        number: FeedNumber,
        place: &Place,
        fetched: Result<Fetched, FeedError>,
    ) -> Option<Taken> {
        let now = (self.clock)();
        let mut feeds = self.feeds.iter_mut();
        let own = feeds.find(|own| own.number == number)?;
        Some(Taken {
            succeeded: own.take(place, fetched, now),
            next_root: own.feed.next_root(),
        })
    }

    /// The feeds as those who fetch them know them.
    pub(super) fn polled(&self) -> Vec<Polled> {
        let feeds = self.feeds.iter();
        feeds.map(Polled::of).collect()
    }

    /// Whether time alone has changed something since the last cycle: a feed went stale, or a mitigation begins or
    /// expires.
    pub(super) fn is_outdated(&mut self) -> bool {
        let now = (self.clock)();
        self.exceptions.look(now);
        self.measures.count_watched(&self.hits);
        self.next_change.is_some_and(|next| next <= now) || self.ages != self.ages(now)
    }

    /// Takes what a round of probes came to that began while `revision` was published; `false` if that says nothing
    /// about what is published now.
    pub(super) fn take_proofs(&mut self, revision: Revision, proofs: Vec<Proof>) -> bool {
        let now = (self.clock)();
        if self.publisher.revision() != revision {
            return false;
        }
        for proof in proofs {
            let own = |(known, _): &&mut (Proof, UnixTime)| {
                Arc::ptr_eq(&known.mitigation, &proof.mitigation)
            };
            match self.proofs.iter_mut().find(own) {
                Some(known) => *known = (proof, now),
                None => self.proofs.push((proof, now)),
            }
        }
        true
    }

    /// What probes found, added to what was judged before the rules were published.
    fn prove(&mut self, entries: &mut [Planned]) {
        // What is not in force any more, or in another form, has to be proven anew.
        self.proofs.retain(|(proof, _)| {
            let mut enforced = entries.iter().filter(|entry| entry.state.is_enforced());
            enforced.any(|entry| Arc::ptr_eq(&entry.mitigation, &proof.mitigation))
        });
        for (proof, time) in &self.proofs {
            let own = |entry: &&mut Planned| {
                matches!(entry.state, State::Applied(_))
                    && Arc::ptr_eq(&entry.mitigation, &proof.mitigation)
            };
            if let Some(entry) = entries.iter_mut().find(own) {
                entry.state = match &proof.result {
                    Ok(Extent::Everywhere) => {
                        State::Applied(crate::mitigation::Proof::Proven(*time))
                    }
                    Ok(Extent::Partly(reason)) => {
                        entry.unproven = Some(reason.clone());
                        continue;
                    }
                    Err(reason) => State::Drifted(reason.clone()),
                };
            }
        }
    }

    /// Has the exceptions in force that are; whether that needed a publication. Rules are not compiled for it, so that
    /// an exception ends even while everything new is refused.
    fn publish_exceptions(&mut self) -> bool {
        let active = self.exceptions.active();
        let same = |(one, other): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(one, other);
        if active.len() == self.excepted.len() && active.iter().zip(&self.excepted).all(same) {
            return false;
        }
        self.excepted.clone_from(&active);
        let (before, after) = self.publisher.except(active);
        // If the switch has published meanwhile, its cycle is still to come.
        if self.revision == Some(before) {
            self.revision = Some(after);
        }
        self.measures.swaps.inc();
        true
    }

    fn ages(&self, now: UnixTime) -> Vec<Age> {
        let feeds = self.feeds.iter();
        feeds.map(|state| state.age(now)).collect()
    }

    /// Plans, publishes if anything changed, raises and ends alarms. What is new goes to the process log by
    /// [`tell`](Self::tell).
    pub(super) fn cycle(&mut self) -> (Outcome, View) {
        let now = (self.clock)();
        self.ages = self.ages(now);
        let sources = self.sources(now);
        let policy = self.policy(&sources);
        let mut plan = plan(&sources, &policy, &self.gates, &mut self.cache, now);
        let outdated = retire::outdated(self.decided.decisions(), &plan.entries, &policy.learned);
        for id in &outdated {
            tracing::warn!(mitigation = %id, "retired no more: a server shows an affected build");
        }
        self.decided.unretire(&outdated);
        let held = plan.refuses_all(&self.published);
        let mut changed = false;
        let current = Some(self.publisher.revision()) == self.revision;
        let paused = stops::pauses(&sources, &plan.entries, &self.gates);
        let same = is_same(&plan.units, &self.published)
            && is_same(&plan.watched, &self.watched)
            && paused == self.paused;
        if !current || (!held && !same) {
            let count = self.gates.site_count();
            let sites = plan.compile(&self.gates, &mut self.hits);
            let paused = stops::pauses(&sources, &plan.entries, &self.gates);
            let unserved = stops::compile(&paused, count, &self.pools, &mut self.hits);
            // The switch may have been set since; whoever set it asks for another cycle.
            let watched = plan.compile_watched(&sites, &self.gates, &mut self.hits);
            let changes = |id: &MitigationId| self.hits.of(&changed_owner(&id.to_string()), 0);
            let audit = Audit::new(watched, self.samples.clone(), changes);
            let beside = Beside {
                audit,
                paused: unserved,
            };
            changed = self.publisher.publish(sites, beside, &policy.kill_switch);
            if changed {
                self.measures.swaps.inc();
                self.published = plan.units.clone();
                self.watched = plan.watched.clone();
                self.paused = paused;
                self.revision = Some(self.publisher.revision());
            }
        }
        self.exceptions.advance(now);
        changed |= self.publish_exceptions();
        self.next_change = (next_change(&sources, now).into_iter())
            .chain(self.exceptions.next_change())
            .min();
        if !held {
            self.want(&plan.entries);
        }
        self.settle(&mut plan.entries);
        self.prove(&mut plan.entries);
        let mut conditions = self.conditions(&sources, &plan, now);
        if held {
            let reason = "everything in force was refused; the set before it stays in force";
            let condition = (AlarmKind::Refused, "rule set".to_owned(), reason.to_owned());
            conditions.push(condition);
        }
        self.happened = self.stale.follow(&conditions, now);
        let refused = self.raise(conditions, now);
        self.measure(&plan.entries);
        let outcome = Outcome {
            revision: self.publisher.revision().0,
            changed,
            refused,
            notes: Vec::new(),
        };
        let revision = self.publisher.revision().0;
        let changes = self.history.follow(&sources, &plan.entries, revision, now);
        self.untold.extend(changes);
        let of_exceptions = self.exceptions.take_events(revision);
        self.history.take(&of_exceptions);
        self.untold.extend(of_exceptions);
        (outcome, self.view(&sources, plan.entries))
    }

    /// Tells the process log what a cycle changed. Whoever reads a line there and asks for the status must not get an
    /// older one, so its view is shown first.
    pub(super) fn tell(&mut self, view: &View) {
        if let Some(revision) = self.revision
            && self.told.replace(revision) != Some(revision)
        {
            tracing::info!(%revision, "rule set published");
        }
        self.transitions.follow(view);
        let untold = std::mem::take(&mut self.untold);
        log_exceptions(&untold);
        let untold = untold.into_iter().map(Happening::Transition);
        let mut happenings: Vec<_> = untold.chain(self.happened.drain(..)).collect();
        happenings.extend(self.proposals.follow(view, (self.clock)()));
        self.notifier.tell(&happenings);
    }

    /// Where every change is told; those of the start too, if they are changes.
    pub(super) fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// Tells the sidecars what is to be stopped from now on.
    fn want(&self, entries: &[Planned]) {
        let offered = entries
            .iter()
            .map(|entry| stops::holder(&entry.mitigation.id));
        self.sidecars.want(Wanted {
            stops: stops::wanted(entries, &self.config),
            offered: offered.collect(),
            complete: self.feeds.iter().all(|s| s.feed.accepted().is_some()),
        });
    }

    /// Adds to the states what sidecars have not done.
    fn settle(&self, entries: &mut [Planned]) {
        for entry in entries.iter_mut().filter(|e| e.state.is_enforced()) {
            let stops = stops::stops(&entry.mitigation);
            if !stops.is_empty() {
                let holder = stops::holder(&entry.mitigation.id);
                entry.facts.missing = self.sidecars.missing(&holder, &stops);
                entry.state = entry.facts.state();
            }
        }
    }

    pub(super) fn policy(&self, sources: &[Source]) -> Policy {
        let decided = &self.config.policy;
        let operators = self.decided.decisions();
        let watched = decided.audit.iter().map(|id| (id, Mode::Audit));
        Policy {
            kill_switch: self.publisher.kill_switch(),
            organisation_enabled: decided.organisation_enabled,
            server_enabled: decided.server_enabled,
            blocked: (decided.blocked.iter().chain(operators.blocked()))
                .cloned()
                .collect(),
            approved: operators.approved().cloned().collect(),
            approved_contents: approvals::approved(operators, sources),
            approval_required: decided.approval_required,
            modes: (watched.chain(operators.modes()))
                .map(|(id, mode)| (id.clone(), mode))
                .collect(),
            ring: decided.ring,
            builds: decided.builds.clone(),
            learned: self.versions.builds(),
            retirement: decided.retirement,
            retired: operators.retired().cloned().collect(),
            kept: operators.kept().cloned().collect(),
            groups: self.config.groups.clone(),
        }
    }

    /// What every source offers, the one with the highest priority first.
    pub(super) fn sources(&self, now: UnixTime) -> Vec<Source> {
        let files = self.files.files().iter().filter_map(|file| {
            let accepted = file.accepted.as_ref()?;
            Some(Source {
                name: file.name(),
                kind: SourceKind::Local,
                mitigations: accepted.mitigations.clone(),
                digest: None,
                file: Some(Arc::clone(accepted)),
            })
        });
        let feeds = self.feeds.iter().map(|state| Source {
            name: state.feed.config().name.clone(),
            kind: SourceKind::Feed {
                fresh: state.feed.is_fresh(now),
            },
            mitigations: state.mitigations.clone(),
            digest: (state.feed.accepted()).map(|accepted| accepted.digest.to_string()),
            file: None,
        });
        let bundled = Source {
            name: bundled::NAME.to_owned(),
            kind: SourceKind::Bundled,
            mitigations: self.bundled.clone(),
            digest: None,
            file: None,
        };
        files.chain(feeds).chain([bundled]).collect()
    }

    fn conditions(&self, sources: &[Source], plan: &Plan, now: UnixTime) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for (path, reason) in self.files.unlisted() {
            let subject = path.display().to_string();
            conditions.push((AlarmKind::Refused, subject, reason.clone()));
        }
        for file in self.files.files() {
            if let Some(refusal) = &file.refusal {
                conditions.push((refusal.alarm, file.name(), refusal.reason.clone()));
            }
            if let Some(reason) = &file.unkept {
                conditions.push((AlarmKind::State, file.name(), reason.clone()));
            }
            let notices = file.accepted.as_ref().map(|accepted| &*accepted.notices);
            if let Some(reason) = in_one_line(notices.unwrap_or_default()) {
                conditions.push((AlarmKind::UnknownContent, file.name(), reason));
            }
        }
        let versions = self.versions.fault();
        for (name, fault) in [
            ("builds", versions.as_deref()),
            ("decisions", self.decided.fault()),
            ("exceptions", self.exceptions.fault()),
            ("history", self.history.fault()),
        ] {
            let condition = |fault: &str| (AlarmKind::State, name.to_owned(), fault.to_owned());
            conditions.extend(fault.map(condition));
        }
        for state in &self.feeds {
            state.conditions(now, &mut conditions);
        }
        for entry in &plan.entries {
            if let (Some(alarm), State::Failed(reason)) = (entry.alarm, &entry.state) {
                let (id, source) = (&entry.mitigation.id, &sources[entry.source].name);
                conditions.push((alarm, format!("{id} of {source}"), reason.clone()));
            }
        }
        for entry in &plan.entries {
            if let Some(reason) = &entry.unwatched {
                let (id, source) = (&entry.mitigation.id, &sources[entry.source].name);
                let reason = format!("cannot even be watched: {reason}");
                conditions.push((AlarmKind::Refused, format!("{id} of {source}"), reason));
            }
            if let State::Drifted(reason) = &entry.state {
                let (id, source) = (&entry.mitigation.id, &sources[entry.source].name);
                let subject = format!("{id} of {source}");
                conditions.push((AlarmKind::Drifted, subject, reason.clone()));
            }
        }
        for entry in &plan.entries {
            let prepared = entry.prepared.iter();
            for notice in prepared.flat_map(|prepared| in_one_line(&prepared.notices)) {
                let (id, source) = (&entry.mitigation.id, &sources[entry.source].name);
                let subject = format!("{id} of {source}");
                conditions.push((AlarmKind::UnknownContent, subject, notice));
            }
        }
        for (subject, reason) in self.sidecars.faults() {
            conditions.push((AlarmKind::Sidecar, subject, reason));
        }
        for conflict in &plan.conflicts {
            let (winner, loser) = (&sources[conflict.winner], &sources[conflict.loser]);
            let reason = format!(
                "feeds {} and {} differ; {} has priority",
                winner.name, loser.name, winner.name
            );
            conditions.push((AlarmKind::Conflict, conflict.id.to_string(), reason));
        }
        conditions
    }

    /// Raises what holds now and ends what no longer does; what was refused, for the outcome.
    fn raise(&mut self, conditions: Vec<Condition>, now: UnixTime) -> Vec<String> {
        let mut held = BTreeSet::new();
        let mut refused = Vec::new();
        for (kind, subject, reason) in conditions {
            self.alarms.raise(kind, &subject, &reason, now);
            if matches!(
                kind,
                AlarmKind::DoesNotCompile | AlarmKind::Refused | AlarmKind::VectorsFailed
            ) {
                refused.push(format!("{subject}: {reason}"));
            }
            held.insert((kind, subject));
        }
        for (kind, subject) in self.raised.difference(&held) {
            self.alarms.clear(*kind, subject);
        }
        self.raised = held;
        refused
    }

    fn measure(&self, entries: &[Planned]) {
        self.measures
            .count_states(entries.iter().map(|entry| &entry.state));
        let now = (self.clock)();
        let exceptions = self.exceptions.all().iter();
        self.measures
            .count_exceptions(exceptions.map(|own| own.state(now)));
        for state in &self.feeds {
            if let Some(success) = state.feed.last_success() {
                let name = &state.feed.config().name;
                self.measures.feed_succeeded(name, success);
            }
        }
    }

    fn stops_view(&self, entry: &Planned) -> StopsView {
        if stops::stops(&entry.mitigation).is_empty() {
            return StopsView::default();
        }
        let holder = stops::holder(&entry.mitigation.id);
        let enforced = entry.state.is_enforced();
        let unknown = || stops::unknown_paths(&entry.mitigation, &self.pools);
        StopsView {
            servers: self.sidecars.standing(&holder),
            warning: enforced.then(unknown).flatten(),
            residue: (!enforced)
                .then(|| self.sidecars.residue(&holder))
                .flatten(),
        }
    }

    fn view(&self, sources: &[Source], entries: Vec<Planned>) -> View {
        let mitigations = entries.into_iter().map(|entry| MitigationView {
            hits: self.hits.all(&entry.mitigation.id.to_string()),
            stops: self.stops_view(&entry),
            would_stop: (self.hits).all(&watched_owner(&entry.mitigation.id.to_string())),
            would_change: (self.hits).all(&changed_owner(&entry.mitigation.id.to_string())),
            samples: self.samples.clone(),
            source: sources[entry.source].name.clone(),
            mitigation: entry.mitigation,
            retirable: entry.facts.retirable.filter(|_| entry.state.is_open()),
            unproven: entry.unproven,
            state: entry.state,
            prepared: entry.prepared,
        });
        let nameless = self.feeds.iter().flat_map(|state| {
            let accepted = state.feed.accepted().into_iter();
            let source = state.feed.config().name.clone();
            accepted
                .flat_map(|accepted| accepted.document.nameless.clone())
                .map(move |nameless| (source.clone(), nameless))
        });
        let files = self.files.files().iter();
        let files = files.map(|file| FileView::of(file, self.hits.all(&file.name())));
        View {
            started: self.started,
            revision: self.publisher.revision(),
            kill_switch: self.publisher.kill_switch(),
            feeds: self.feeds.iter().map(|s| FeedView::of(&s.feed)).collect(),
            files: files.collect(),
            servers: self.sidecars.reports(),
            builds: self.versions.reports(),
            notifier: self.notifier(),
            mitigations: mitigations.collect(),
            nameless: nameless.collect(),
            history: self.history.shown(),
            exceptions: self.exceptions.all().to_vec(),
        }
    }
}

/// When the next mitigation begins or expires.
fn next_change(sources: &[Source], now: UnixTime) -> Option<UnixTime> {
    let offered = sources.iter().flat_map(|source| &source.mitigations);
    let times = offered.flat_map(|offered| [offered.not_before, offered.not_after]);
    times.flatten().filter(|time| now < *time).min()
}

fn is_same(one: &[Unit], other: &[Unit]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.is_same(b))
}
