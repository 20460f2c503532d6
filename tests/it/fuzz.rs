//! Replays what fuzzing has kept: a small corpus of each target, and every input that once broke something.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::{Path, PathBuf};

/// The most octets of one kept input, so that a clone stays small and a replay quick.
const LONGEST: usize = 16 << 10;

/// Every kept input of a target, by its path.
fn kept(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let mut inputs = Vec::new();
    for kind in ["corpus", "regressions"] {
        let Ok(entries) = fs::read_dir(fuzz.join(kind).join(target)) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let octets = fs::read(&path).unwrap();
            assert!(octets.len() <= LONGEST, "{} is long", path.display());
            inputs.push((path, octets));
        }
    }
    assert!(!inputs.is_empty(), "{target} has no corpus");
    inputs
}

fn replay(target: &str, check: fn(&[u8])) {
    for (path, octets) in kept(target) {
        let outcome = std::panic::catch_unwind(|| check(&octets));
        assert!(outcome.is_ok(), "{} breaks {target}", path.display());
    }
}

#[test]
fn canonical_forms() {
    replay("canonical", checks::canonical);
}

#[test]
fn der_values() {
    replay("der", checks::der);
}

#[test]
fn envelopes() {
    replay("envelope", checks::envelope);
}

#[test]
fn rule_texts() {
    replay("rules", checks::rules);
}

#[test]
fn xml_documents() {
    replay("xml", checks::xml);
}
