//! The tasks that fetch feeds, one for each, and what they bring.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::feed_state::{FeedNumber, FeedState};
use crate::feed::{FeedConfig, FeedError, Fetched, Fetcher, Schedule, Source, chance};

/// What was fetched and waits for the engine; a task waits for the answer before it fetches more.
const ARRIVALS: usize = 16;

/// A feed as its task knows it.
pub(super) struct Polled {
    number: FeedNumber,
    config: FeedConfig,
    /// The version of the root that the next fetch asks for first.
    next_root: Option<u64>,
}

impl Polled {
    pub(super) fn of(state: &FeedState) -> Self {
        Self {
            number: state.number,
            config: state.feed.config().clone(),
            next_root: state.feed.next_root(),
        }
    }
}

/// What was fetched on its way to the engine, and the way back for what it came to.
pub(super) struct Arrival {
    pub(super) feed: FeedNumber,
    pub(super) place: Source,
    pub(super) result: Result<Fetched, FeedError>,
    /// Whether no other place will be tried before the next poll.
    pub(super) last: bool,
    pub(super) answer: oneshot::Sender<Taken>,
}

/// What the engine made of a fetch.
pub(super) struct Taken {
    pub(super) succeeded: bool,
    /// As [`Polled::next_root`].
    pub(super) next_root: Option<u64>,
}

/// One task for each feed.
pub(super) struct Polls {
    arrivals: mpsc::Sender<Arrival>,
    reload: Arc<Notify>,
    tasks: BTreeMap<FeedNumber, AbortHandle>,
}

impl Polls {
    /// Those of no feed yet, and where they bring what they fetch; `reload` has all of them fetch at once.
    pub(super) fn new(reload: Arc<Notify>) -> (Self, mpsc::Receiver<Arrival>) {
        let (arrivals, arrived) = mpsc::channel(ARRIVALS);
        let polls = Self {
            arrivals,
            reload,
            tasks: BTreeMap::new(),
        };
        (polls, arrived)
    }

    /// Fetches these feeds from now on: one that is new at once, one that was there before on the schedule that it has.
    pub(super) fn follow(&mut self, feeds: Vec<Polled>) {
        let mut before = std::mem::take(&mut self.tasks);
        for feed in feeds {
            let number = feed.number;
            let task = before.remove(&number).unwrap_or_else(|| {
                let poll = poll(feed, self.arrivals.clone(), Arc::clone(&self.reload));
                tokio::spawn(poll).abort_handle()
            });
            self.tasks.insert(number, task);
        }
        for gone in before.values() {
            gone.abort();
        }
    }
}

/// Fetches one feed for ever: at once, then on its schedule, and whenever a reload asks for it.
async fn poll(feed: Polled, arrivals: mpsc::Sender<Arrival>, reload: Arc<Notify>) {
    let Polled {
        number,
        config,
        mut next_root,
    } = feed;
    let mut schedule = Schedule::new(config.interval);
    let places: Vec<Source> = config.places().cloned().collect();
    let mut fetcher = Fetcher::new(config);
    loop {
        let begun = Instant::now();
        // Asked for now, so that a reload during the fetch is not missed.
        let reloaded = reload.notified();
        let mut succeeded = false;
        for (tried, place) in places.iter().enumerate() {
            let result = fetcher.fetch(place, next_root).await;
            let brought = result.as_ref().ok().cloned();
            let (answer, taken) = oneshot::channel();
            let arrival = Arrival {
                feed: number,
                place: place.clone(),
                result,
                last: tried + 1 == places.len(),
                answer,
            };
            if arrivals.send(arrival).await.is_err() {
                return;
            }
            // When the engine could not answer, the next fetch may find it able to again.
            if let Ok(taken) = taken.await {
                next_root = taken.next_root;
                succeeded = taken.succeeded;
            }
            if let Some(brought) = brought.filter(|_| succeeded) {
                fetcher.accepted(place, brought);
                break;
            }
        }
        let wait = schedule.after(succeeded, begun.elapsed(), chance());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = reloaded => {}
        }
    }
}
