//! How many connections there are, in all and from each client address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Parts the table of addresses is cut into, so that workers seldom meet.
const SHARDS: usize = 16;

/// Counts connections across workers and refuses those beyond a bound. Clones share the counts.
#[derive(Clone, Debug)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    total: AtomicUsize,
    total_limit: usize,
    client_limit: usize,
    clients: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
}

/// One admitted connection, counted until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    shared: Arc<Shared>,
    client: IpAddr,
}

impl Admission {
    /// Admits `total` connections at once, and `per_client` from one address.
    pub fn new(total: usize, per_client: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                total: AtomicUsize::new(0),
                total_limit: total,
                client_limit: per_client,
                clients: Default::default(),
            }),
        }
    }

    /// Counts a connection from `client`; `None` when there are too many. An IPv4 address counts as one however it
    /// is written (RFC 4291 section 2.5.5.2).
    pub fn admit(&self, client: IpAddr) -> Option<Admitted> {
        let client = client.to_canonical();
        let before = self.shared.total.fetch_add(1, Ordering::Relaxed);
        let admitted = before < self.shared.total_limit && self.shared.add(client);
        if !admitted {
            self.shared.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Admitted {
            shared: Arc::clone(&self.shared),
            client,
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.total.fetch_sub(1, Ordering::Relaxed);
        self.shared.remove(self.client);
    }
}

impl Shared {
    fn add(&self, client: IpAddr) -> bool {
        let mut clients = self
            .shard(client)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = clients.entry(client).or_insert(0);
        if *count >= self.client_limit {
            if *count == 0 {
                clients.remove(&client);
            }
            return false;
        }
        *count += 1;
        true
    }

    fn remove(&self, client: IpAddr) {
        let mut clients = self
            .shard(client)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = clients.entry(client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn shard(&self, client: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        let last = match client {
            IpAddr::V4(address) => address.octets()[3],
            // The subnet varies more than what follows it, where a client may choose.
            IpAddr::V6(address) => address.octets()[7],
        };
        &self.clients[usize::from(last) % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_give_back() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let admission = Admission::new(3, 2);
        let first = admission.admit(address("10.0.0.1"));
        let second = admission.admit(address("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(admission.admit(address("10.0.0.1")).is_none());
        let third = admission.admit(address("10.0.0.2"));
        assert!(third.is_some());
        assert!(admission.admit(address("10.0.0.3")).is_none());
        drop((first, second, third));
        assert!(
            admission
                .shared
                .clients
                .iter()
                .all(|shard| shard.lock().unwrap().is_empty())
        );
        assert!(admission.admit(address("10.0.0.1")).is_some());
        assert!(Admission::new(1, 0).admit(address("10.0.0.1")).is_none());
    }
}
