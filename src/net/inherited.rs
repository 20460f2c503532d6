//! Listening sockets that somebody else has bound: an earlier generation of listeners, or the process before this one.

use std::io;

use super::{BoundSocket, ListenAddress};

/// Sockets, each with the address that it was asked for by.
///
/// Closing a listening socket resets what waits in its queue, so those that go on being used are handed on instead.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(ListenAddress, BoundSocket)>,
}

impl Inherited {
    /// Adds a socket for the listener with this address, which may have another port than it got.
    pub fn add(&mut self, address: ListenAddress, socket: BoundSocket) {
        self.sockets.push((address, socket));
    }

    /// Takes out what is there for an address.
    pub fn take(&mut self, address: &ListenAddress) -> Vec<BoundSocket> {
        let all = std::mem::take(&mut self.sockets);
        let (wanted, rest) = all.into_iter().partition(|(other, _)| other == address);
        self.sockets = rest;
        let wanted: Vec<(ListenAddress, BoundSocket)> = wanted;
        wanted.into_iter().map(|(_, socket)| socket).collect()
    }

    /// What is there.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(ListenAddress, BoundSocket)> {
        self.sockets.iter()
    }

    /// Whether the files of Unix sockets go with this process.
    pub fn own_files(&self, own: bool) {
        self.sockets
            .iter()
            .for_each(|(_, socket)| socket.own_file(own));
    }

    /// What nobody has taken.
    pub fn left(&self) -> impl Iterator<Item = &ListenAddress> {
        self.sockets.iter().map(|(address, _)| address)
    }
}

/// Gives each of `count` workers its share: every socket to one at least, and each worker one at least.
///
/// # Errors
///
/// When the kernel has no descriptor left for a copy.
pub fn share_out(sockets: Vec<BoundSocket>, count: usize) -> io::Result<Vec<Vec<BoundSocket>>> {
    let mut shares: Vec<Vec<BoundSocket>> = (0..count).map(|_| Vec::new()).collect();
    for (share, socket) in shares
        .iter_mut()
        .zip(sockets.iter().cycle())
        .skip(sockets.len())
    {
        share.push(socket.try_clone()?);
    }
    for (index, socket) in sockets.into_iter().enumerate() {
        shares[index % count].push(socket);
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_left_without_and_nothing_is_left_over() {
        let any: ListenAddress = "127.0.0.1:0".parse().unwrap();
        for (sockets, workers) in [(1, 1), (1, 3), (3, 1), (3, 2), (2, 5)] {
            let bound = crate::net::bind(&any, sockets, 0o600).unwrap();
            let address = bound[0].address().unwrap();
            let mut inherited = Inherited::default();
            for socket in bound {
                inherited.add(any.clone(), socket);
            }
            assert_eq!(inherited.left().count(), sockets);
            assert!(inherited.take(&address).is_empty());
            let shares = share_out(inherited.take(&any), workers).unwrap();
            assert_eq!(shares.len(), workers);
            assert!(shares.iter().all(|share| !share.is_empty()));
            let total: usize = shares.iter().map(Vec::len).sum();
            assert_eq!(total, sockets.max(workers));
            let mut all = shares.iter().flatten();
            assert!(all.all(|socket| socket.address().unwrap() == address));
            assert_eq!(inherited.left().count(), 0);
        }
    }
}
