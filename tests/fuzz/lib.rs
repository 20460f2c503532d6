//! What the fuzz targets share with the product's tests: the checks, and the signer of test documents.

#![allow(clippy::unwrap_used, dead_code)]

mod checks;

/// Runs the check of this name.
pub fn check(target: &str, octets: &[u8]) {
    match target {
        "canonical" => checks::canonical(octets),
        "der" => checks::der(octets),
        "envelope" => checks::envelope(octets),
        "rules" => checks::rules(octets),
        "xml" => checks::xml(octets),
        other => panic!("{other} is no target"),
    }
}

#[path = ".."]
mod support {
    #[path = "support/signer/mod.rs"]
    pub(crate) mod signer;
}
