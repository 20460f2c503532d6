//! The name of one request, found again in logs, error pages and answers.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// Names a request: a prefix drawn for each process and worker, and a count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RequestId {
    prefix: u64,
    number: u64,
}

impl RequestId {
    /// The name as it is shown: 12 digits of the prefix, 10 of the count.
    pub(super) fn text(self) -> [u8; 22] {
        let mut text = [0; 22];
        let (prefix, number) = text.split_at_mut(12);
        hexadecimal(prefix, self.prefix);
        hexadecimal(number, self.number);
        text
    }
}

fn hexadecimal(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

/// Hands out the names of one worker.
#[derive(Debug)]
pub(super) struct RequestIds {
    prefix: u64,
    next: Cell<u64>,
}

impl RequestIds {
    /// A prefix that no other worker or process is likely to have: the seed of a hash map, which is random.
    pub(super) fn new(worker: usize) -> Self {
        Self {
            prefix: RandomState::new().hash_one(worker),
            next: Cell::new(0),
        }
    }

    pub(super) fn next(&self) -> RequestId {
        let number = self.next.get().wrapping_add(1);
        self.next.set(number);
        RequestId {
            prefix: self.prefix,
            number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_between_requests_and_workers() {
        let (one, other) = (RequestIds::new(0), RequestIds::new(0));
        let names = [one.next(), one.next(), other.next()].map(|id| id.to_string());
        assert!(names.iter().all(|name| name.len() == 22), "{names:?}");
        assert!(names[0] != names[1] && names[0] != names[2]);
        assert_eq!(names[0][..12], names[1][..12]);
    }
}
