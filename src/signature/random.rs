//! Random numbers that nobody can guess.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Octets from the system's source of random numbers; nothing if it gives none.
pub fn random_octets() -> Option<[u8; 32]> {
    let mut octets = [0; 32];
    SystemRandom::new().fill(&mut octets).ok()?;
    Some(octets)
}
