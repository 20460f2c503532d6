//! What searching builds and reuses.

use std::collections::HashMap;

use super::engine::Engines;
use super::text::{Text, TextBuffer};

/// Programs built on first use and the memory of searches; one for each worker, for any patterns.
#[derive(Debug, Default)]
pub struct PatternCache {
    engines: HashMap<u64, Engines>,
    text: TextBuffer,
}

impl PatternCache {
    pub(super) fn prepare<'t>(
        &'t mut self,
        pattern: u64,
        input: &'t [u8],
    ) -> (Text<'t>, &'t mut Engines) {
        let engines = self.engines.entry(pattern).or_default();
        (self.text.read(input), engines)
    }
}
