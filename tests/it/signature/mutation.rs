//! Every bit of a signed document flipped, and many octets at once: refused, or without effect; never a panic.

use stopgap::signature::Verifier;

use super::{DOCUMENT, NOW, timestamped};
use crate::support::signer::{Options, Publisher, TokenForm};

#[test]
fn every_bit_of_the_signed_part_counts() {
    let publisher = Publisher::new();
    let signed = publisher.sign(DOCUMENT);
    let verifier = Verifier::xmldsig_x509(publisher.policy()).unwrap();
    let genuine = verifier.verify(&signed, NOW, None).unwrap();
    let end = signed
        .windows(10)
        .position(|window| window == b"<Signature")
        .unwrap();
    let mut same = 0;
    for at in 0..end {
        for bit in 0..8 {
            let mut changed = signed.clone();
            changed[at] ^= 1 << bit;
            if let Ok(verified) = verifier.verify(&changed, NOW, None) {
                assert_eq!(verified.value(), genuine.value(), "octet {at}, bit {bit}");
                same += 1;
            }
        }
    }
    // Letters of the comment, of the encoding's name, of line ends; nothing else.
    assert!(same < 100, "{same} changes went unnoticed");
}

#[test]
fn every_octet_of_the_signature_counts_or_changes_nothing() {
    let publisher = Publisher::with(timestamped(Options::default()));
    let signed = publisher.sign(DOCUMENT);
    let verifier = Verifier::xmldsig_x509(publisher.policy()).unwrap();
    let genuine = verifier.verify(&signed, NOW, None).unwrap();
    let start = signed
        .windows(10)
        .position(|window| window == b"<Signature")
        .unwrap();
    let mut refused = 0;
    for at in start..signed.len() {
        let mut changed = signed.clone();
        changed[at] ^= 1;
        match verifier.verify(&changed, NOW, None) {
            Err(_) => refused += 1,
            Ok(verified) => {
                assert_eq!(verified.value(), genuine.value(), "octet {at}");
                assert_eq!(verified.signed_at(), genuine.signed_at(), "octet {at}");
                assert_eq!(verified.signer(), genuine.signer(), "octet {at}");
            }
        }
    }
    assert!(
        refused > (signed.len() - start) / 2,
        "only {refused} changes were refused"
    );
}

#[test]
fn mutated_documents_never_panic() {
    let publisher = Publisher::with(timestamped(Options {
        token: TokenForm::Microsoft,
        ..Options::default()
    }));
    let signed = publisher.sign(DOCUMENT);
    let verifier = Verifier::xmldsig_x509(publisher.policy()).unwrap();
    let genuine = verifier.verify(&signed, NOW, None).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for _ in 0..3_000 {
        let mut changed = signed.clone();
        for _ in 0..=next(3) {
            let at = next(changed.len());
            changed[at] = match next(2) {
                // Base64 stays Base64, so that the values inside are what changes.
                0 => b"ABCDEFGHwxyz0123"[next(16)],
                _ => next(256) as u8,
            };
        }
        if next(4) == 0 {
            changed.truncate(next(signed.len()));
        }
        if let Ok(verified) = verifier.verify(&changed, NOW, None) {
            assert_eq!(verified.value(), genuine.value());
        }
    }
}
