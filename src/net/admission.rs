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

/// One admitted connection or request, counted until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    shared: Arc<Shared>,
    client: Option<IpAddr>,
    /// Whether it is a connection, of which there is a bound for all clients together.
    in_all: bool,
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

    /// Counts a connection from `client`, or one that is counted against no client; `None` when there are too many.
    /// An IPv4 address counts as one however it is written (RFC 4291 section 2.5.5.2).
    pub fn admit(&self, client: Option<IpAddr>) -> Option<Admitted> {
        let client = client.map(|client| client.to_canonical());
        let before = self.shared.total.fetch_add(1, Ordering::Relaxed);
        let room = || client.is_none_or(|client| self.shared.add(client));
        if before >= self.shared.total_limit || !room() {
            self.shared.total.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Admitted {
            shared: Arc::clone(&self.shared),
            client,
            in_all: true,
        })
    }

    /// Counts a request for `client` that comes on the connection of somebody else, as if it were a connection of the
    /// client's own; `None` when the client has too many.
    pub fn admit_request(&self, client: IpAddr) -> Option<Admitted> {
        let client = client.to_canonical();
        self.shared.add(client).then(|| Admitted {
            shared: Arc::clone(&self.shared),
            client: Some(client),
            in_all: false,
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if self.in_all {
            self.shared.total.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(client) = self.client {
            self.shared.remove(client);
        }
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

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_bounds_hold_and_give_back() {
        let admission = Admission::new(3, 2);
        let admit = |text: &str| admission.admit(Some(address(text)));
        let (first, second) = (admit("10.0.0.1"), admit("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(admit("10.0.0.1").is_none());
        let third = admit("10.0.0.2");
        assert!(third.is_some());
        assert!(admit("10.0.0.3").is_none());
        assert!(admission.admit(None).is_none(), "the bound for all holds");
        drop((first, second, third));
        let shards = &admission.shared.clients;
        assert!(shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
        assert!(admit("10.0.0.1").is_some());
        assert!(
            Admission::new(1, 0)
                .admit(Some(address("10.0.0.1")))
                .is_none()
        );
    }

    #[test]
    fn requests_count_for_their_client_alone() {
        let admission = Admission::new(1, 2);
        let connection = admission.admit(None);
        assert!(connection.is_some());
        let client = address("192.0.2.1");
        let (first, second) = (
            admission.admit_request(client),
            admission.admit_request(client),
        );
        assert!(first.is_some() && second.is_some());
        assert!(admission.admit_request(client).is_none());
        assert!(admission.admit_request(address("192.0.2.2")).is_some());
        drop((first, second));
        assert!(admission.admit(None).is_none());
        drop(connection);
        assert!(admission.admit(None).is_some());
    }
}
