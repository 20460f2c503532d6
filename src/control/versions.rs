//! What the servers behind the proxy run: asked for again and again, and kept across restarts.
//!
//! Servers are sent nothing unless their site has a [`VersionProbe`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::status::BuildReport;
use super::version_probe::{ServerPlace, SiteServers, VersionProbe};
use crate::feed::{Schedule, chance};
use crate::mitigation::{BuildRecord, Learned, ServerBuild, SiteBuilds};
use crate::model::UnixTime;
use crate::store::{Slot, StateDir};

/// The name of the slot.
const SLOT: &str = "builds";

/// The age up to which a build that was learned before a restart counts until the server is asked: long enough for a
/// reboot, and short enough that nobody set the server back meanwhile.
pub const BUILD_MEMORY: Duration = Duration::from_secs(3_600);

/// The site and the server.
type Key = (String, String);

/// What is known of every server. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    known: Mutex<Known>,
    /// Taken before what is known, and held while it is written: a slow disk holds up nobody who only asks.
    slot: Mutex<Slot>,
    clock: fn() -> UnixTime,
    /// Other servers are to be asked.
    changed: Notify,
}

#[derive(Debug)]
struct Known {
    sites: Vec<SiteServers>,
    records: BTreeMap<Key, BuildRecord>,
    fault: Option<String>,
}

/// A build as it is kept.
#[derive(Debug, Deserialize, Serialize)]
struct Kept {
    site: String,
    server: String,
    product: String,
    build: String,
    place: String,
    seconds: u64,
}

impl Versions {
    /// Reads what was kept, as far as it is not too old.
    pub(super) fn open(sites: Vec<SiteServers>, state: &StateDir, clock: fn() -> UnixTime) -> Self {
        let slot = state.slot(SLOT);
        let now = clock();
        let read = slot.read().map_err(|error| error.to_string());
        let kept = read.and_then(|bytes| match bytes {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            None => Ok(Vec::<Kept>::new()),
        });
        // What is lost is asked for again at once.
        let (kept, fault) = match kept {
            Ok(kept) => (kept, None),
            Err(error) => (Vec::new(), Some(format!("begun anew: {error}"))),
        };
        let mut records = BTreeMap::new();
        for one in kept {
            let time = UnixTime::new(one.seconds);
            let same = |site: &&SiteServers| {
                site.site == one.site
                    && site
                        .probe
                        .as_ref()
                        .is_some_and(|p| p.product == one.product)
            };
            let (Ok(build), Some(_)) = (one.build.parse(), sites.iter().find(same)) else {
                continue;
            };
            // A clock that was set back says nothing about the age.
            if time <= now && now.since(time) <= BUILD_MEMORY {
                let learned = Learned {
                    build,
                    place: one.place,
                    time,
                };
                records.insert((one.site, one.server), BuildRecord::remembered(learned));
            }
        }
        let mut known = Known {
            sites: Vec::new(),
            records,
            fault,
        };
        known.set(sites);
        Self {
            shared: Arc::new(Shared {
                known: Mutex::new(known),
                slot: Mutex::new(slot),
                clock,
                changed: Notify::new(),
            }),
        }
    }

    /// Has these servers asked from now on, instead of those before.
    pub(super) fn set(&self, sites: Vec<SiteServers>) {
        let mut known = self.shared.lock();
        if known.sites != sites {
            known.set(sites);
            self.shared.changed.notify_one();
        }
    }

    /// What the servers of each site are known to run.
    pub(super) fn builds(&self) -> Vec<SiteBuilds> {
        let known = self.shared.lock();
        let site = |site: &SiteServers| {
            let server = |server: &ServerPlace| {
                let record = known.records.get(&key(site, server));
                let learned = record.and_then(|record| record.learned.as_ref());
                let product = site.probe.as_ref().map(|probe| probe.product.clone());
                ServerBuild {
                    server: server.name.clone(),
                    build: product.zip(learned.map(|learned| learned.build)),
                }
            };
            SiteBuilds {
                site: site.site.clone(),
                servers: site.servers.iter().map(server).collect(),
            }
        };
        known.sites.iter().map(site).collect()
    }

    /// Every server that is asked, as it is known.
    pub(super) fn reports(&self) -> Vec<BuildReport> {
        let known = self.shared.lock();
        let reports = known.sites.iter().flat_map(|site| {
            let product = site.probe.as_ref().map(|probe| &probe.product);
            let servers = product.into_iter().flat_map(move |product| {
                let servers = site.servers.iter();
                servers.map(move |server| (product, server))
            });
            servers.map(|(product, server)| {
                let record = known.records.get(&key(site, server));
                let learned = record.and_then(|record| record.learned.as_ref());
                BuildReport {
                    site: site.site.clone(),
                    server: server.name.clone(),
                    product: product.clone(),
                    build: learned.map(|own| own.build.to_string()),
                    place: learned.map(|own| own.place.clone()),
                    learned: learned.map(|own| own.time.to_string()),
                    fault: record.and_then(|record| record.fault.clone()),
                }
            })
        });
        reports.collect()
    }

    /// Why what was learned is not kept.
    pub(super) fn fault(&self) -> Option<String> {
        self.shared.lock().fault.clone()
    }

    /// Asks for ever, and tells `learned` when something is different.
    pub(super) async fn run(self, learned: Arc<Notify>) {
        loop {
            let changed = self.shared.changed.notified();
            let mut asking = JoinSet::new();
            for (site, server, probe) in self.questions() {
                let key = (site, server.name.clone());
                asking.spawn(attend(
                    self.clone(),
                    key,
                    server,
                    probe,
                    Arc::clone(&learned),
                ));
            }
            changed.await;
            // The servers may be others, and what is known of them is so already.
            learned.notify_one();
        }
    }

    fn questions(&self) -> Vec<(String, ServerPlace, VersionProbe)> {
        let known = self.shared.lock();
        let questions = known.sites.iter().flat_map(|site| {
            let probe = site.probe.iter();
            probe.flat_map(move |probe| {
                let servers = site.servers.iter();
                servers.map(move |server| (site.site.clone(), server.clone(), probe.clone()))
            })
        });
        questions.collect()
    }

    /// Takes what a question came to, and keeps it.
    fn take(&self, key: &Key, result: Result<Learned, String>, told: &Notify) {
        let slot = self.shared.slot.lock();
        let slot = slot.unwrap_or_else(PoisonError::into_inner);
        let mut known = self.shared.lock();
        let Some(record) = known.records.get_mut(key) else {
            // It is asked no more.
            return;
        };
        let changed = record.take(result);
        if changed {
            let (site, server) = key;
            match (&record.learned, &record.fault) {
                (Some(learned), None) => {
                    let build = learned.build.to_string();
                    tracing::info!(
                        site,
                        server,
                        build,
                        place = learned.place,
                        "version learned"
                    );
                }
                (_, fault) => {
                    let reason = fault.as_deref().unwrap_or_default();
                    tracing::warn!(site, server, reason, "version not learned");
                }
            }
        }
        let kept = known.kept();
        drop(known);
        if changed {
            told.notify_one();
        }
        let written = serde_json::to_vec(&kept).map_err(|error| error.to_string());
        let written = written.and_then(|bytes| {
            let replaced = slot.replace(&bytes);
            replaced.map_err(|error| error.to_string())
        });
        self.shared.lock().fault = written.err();
    }
}

/// Asks one server for ever.
async fn attend(
    versions: Versions,
    key: Key,
    server: ServerPlace,
    probe: VersionProbe,
    told: Arc<Notify>,
) {
    let mut schedule = Schedule::new(probe.interval);
    loop {
        let begun = Instant::now();
        let found = probe.ask(&server).await;
        let succeeded = found.is_ok();
        let time = (versions.shared.clock)();
        let learned = found.map(|(build, place)| Learned { build, place, time });
        let (own, key, told) = (versions.clone(), key.clone(), Arc::clone(&told));
        // It writes to the disk. What is lost with a panic there is asked for again.
        let _ = tokio::task::spawn_blocking(move || own.take(&key, learned, &told)).await;
        tokio::time::sleep(schedule.after(succeeded, begun.elapsed(), chance())).await;
    }
}

fn key(site: &SiteServers, server: &ServerPlace) -> Key {
    (site.site.clone(), server.name.clone())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Sets who is asked. What is known of a server stays unless it is asked in another way.
    fn set(&mut self, sites: Vec<SiteServers>) {
        let mut records = BTreeMap::new();
        for site in sites.iter().filter(|site| site.probe.is_some()) {
            let mut before = self.sites.iter();
            let before = before.find(|before| before.site == site.site);
            let same_way = before.is_none_or(|before| before.probe == site.probe);
            for server in &site.servers {
                let key = key(site, server);
                let known = self.records.remove(&key).filter(|_| same_way);
                records.insert(key, known.unwrap_or_default());
            }
        }
        (self.sites, self.records) = (sites, records);
    }

    /// What a restart should know.
    fn kept(&self) -> Vec<Kept> {
        let product = |site: &str| {
            let mut sites = self.sites.iter();
            let probe = sites.find(|one| one.site == site)?.probe.as_ref()?;
            Some(probe.product.clone())
        };
        let kept = self.records.iter().filter_map(|((site, server), record)| {
            let learned = record.learned.as_ref()?;
            Some(Kept {
                site: site.clone(),
                server: server.clone(),
                product: product(site)?,
                build: learned.build.to_string(),
                place: learned.place.clone(),
                seconds: learned.time.seconds(),
            })
        });
        kept.collect()
    }
}
