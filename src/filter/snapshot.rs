//! The published rule sets, and the handle that replaces them.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::{Audit, Exceptions, Paused};
use crate::model::Revision;
use crate::rules::RuleSet;

/// The rule sets of every site, as published together.
///
/// # Examples
///
/// ```
/// use stopgap::filter::Snapshot;
/// use stopgap::model::Revision;
/// use stopgap::rules::RuleSet;
///
/// let snapshot = Snapshot::new(Revision(7), vec![RuleSet::empty(), RuleSet::empty()]);
/// assert_eq!((snapshot.revision(), snapshot.sites().len()), (Revision(7), 2));
/// // A site that does not exist has no rules.
/// assert_eq!(snapshot.site(9).rules().count(), 0);
/// ```
#[derive(Debug)]
pub struct Snapshot {
    revision: Revision,
    sites: Arc<[RuleSet]>,
    empty: Arc<RuleSet>,
    paused: Arc<[Paused]>,
    audit: Arc<Audit>,
    exceptions: Arc<Exceptions>,
}

impl Snapshot {
    /// One rule set for each site, in the order of the sites.
    pub fn new(revision: Revision, sites: Vec<RuleSet>) -> Self {
        Self {
            revision,
            sites: sites.into(),
            empty: Arc::new(RuleSet::empty()),
            paused: Arc::default(),
            audit: Arc::default(),
            exceptions: Arc::default(),
        }
    }

    /// The same with paths that nobody serves, in the order of the sites.
    #[must_use]
    pub fn with_paused(mut self, paused: Vec<Paused>) -> Self {
        self.paused = paused.into();
        self
    }

    /// The same, and rules that are only watched beside it.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self {
            audit: Arc::new(audit),
            ..self
        }
    }

    /// The same, and requests that its rules let pass although they apply.
    #[must_use]
    pub fn with_exceptions(self, exceptions: impl Into<Arc<Exceptions>>) -> Self {
        Self {
            exceptions: exceptions.into(),
            ..self
        }
    }

    /// The same rules under another number, with other exceptions: nothing is compiled for that.
    #[must_use]
    pub fn renewed(&self, revision: Revision, exceptions: impl Into<Arc<Exceptions>>) -> Self {
        Self {
            revision,
            sites: Arc::clone(&self.sites),
            empty: Arc::clone(&self.empty),
            paused: Arc::clone(&self.paused),
            audit: Arc::clone(&self.audit),
            exceptions: exceptions.into(),
        }
    }

    /// The rule set of an only site.
    pub fn single(revision: Revision, rules: RuleSet) -> Self {
        Self::new(revision, vec![rules])
    }

    /// The number of this publication.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The rule set of a site; an empty one when there is no such site.
    pub fn site(&self, index: usize) -> &RuleSet {
        self.sites.get(index).unwrap_or(&self.empty)
    }

    /// The paths of a site that nobody serves, if there are any.
    pub fn paused(&self, site: usize) -> Option<&Paused> {
        self.paused.get(site).filter(|paused| !paused.is_empty())
    }

    /// The exceptions from its rules, if there are any.
    pub(super) fn exceptions(&self) -> Option<&Exceptions> {
        Some(&*self.exceptions).filter(|exceptions| !exceptions.is_empty())
    }

    pub(super) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The rule sets in the order of the sites.
    pub fn sites(&self) -> &[RuleSet] {
        &self.sites
    }
}

/// Where the current [`Snapshot`] is found and replaced. Clones share it.
///
/// Publishing stores one pointer. A request that has begun finishes on the snapshot it loaded.
///
/// # Examples
///
/// ```
/// use stopgap::filter::{Handle, Snapshot};
/// use stopgap::model::Revision;
/// use stopgap::rules::RuleSet;
///
/// let handle = Handle::new(Snapshot::single(Revision(1), RuleSet::empty()));
/// let of_worker = handle.clone();
/// handle.publish(Snapshot::single(Revision(2), RuleSet::empty()));
/// assert_eq!(of_worker.load().revision(), Revision(2));
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    current: Arc<ArcSwap<Snapshot>>,
}

impl Handle {
    /// A handle that holds `snapshot`.
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            current: Arc::new(ArcSwap::from_pointee(snapshot)),
        }
    }

    /// The current snapshot.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Replaces the current snapshot.
    pub fn publish(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
    }

    /// A reader that one worker keeps: it touches shared memory only when the snapshot changed.
    pub(super) fn reader(&self) -> Reader {
        Reader {
            cache: Cache::new(Arc::clone(&self.current)),
        }
    }
}

/// One worker's view of a [`Handle`].
#[derive(Debug)]
pub(super) struct Reader {
    cache: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
}

impl Reader {
    /// The current snapshot.
    pub(super) fn load(&mut self) -> &Arc<Snapshot> {
        self.cache.load()
    }
}
