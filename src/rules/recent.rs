//! What the last request of a connection came to, so that the next is spared what it repeats.
//!
//! Layer 1, inside `rules`. Called by the indexed matcher; calls none.
//! Holds: what is recalled was found by the same set for the same bytes, whoever asks;
//!        it occupies no more than it was allowed to.
//! See `guide::architecture` for how a request is judged.

/// Bytes of texts and findings that are kept, unless other is said.
const MAX_BYTES: usize = 16 * 1024;

/// The rules that the last request made a set try, by the parts of the request that decide it.
///
/// Connections repeat their fields: who keeps one for each and hands it in by
/// [`Scratch::exchange_recent`](super::Scratch::exchange_recent) has what is repeated compared and not searched.
/// Handing in one of another connection, or of rules that were replaced, changes no verdict.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{Recent, RequestView, RuleSet, Scratch, SourceOrigin};
///
/// let text = r#"<rules><rule name="r"><match url="^ecp/" /><action type="AbortRequest" /></rule></rules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let mut scratch = Scratch::default();
/// let mut of_connection = Recent::within(4_096);
/// for _ in 0..2 {
///     scratch.exchange_recent(&mut of_connection);
///     let decision = rules.judge(&RequestView::new("GET", b"/owa/", &[("Host", "h")]), &mut scratch);
///     scratch.exchange_recent(&mut of_connection);
///     assert!(!decision.verdict.stops());
/// }
/// assert!(of_connection.bytes() > 0);
/// of_connection.forget();
/// assert_eq!(of_connection.bytes(), 0);
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Debug)]
pub struct Recent {
    limit: usize,
    /// The set that found it; 0 for none.
    set: u64,
    inputs: Vec<Input>,
    /// How many bytes are kept.
    bytes: usize,
}

/// What one input was made of, and the rules found by it.
#[derive(Debug, Default)]
struct Input {
    is_set: bool,
    key: Vec<u8>,
    found: Vec<u32>,
}

impl Default for Recent {
    fn default() -> Self {
        Self::within(MAX_BYTES)
    }
}

impl Recent {
    /// Nothing yet, and never more than about so many bytes of texts and findings.
    pub const fn within(bytes: usize) -> Self {
        Self {
            limit: bytes,
            set: 0,
            inputs: Vec::new(),
            bytes: 0,
        }
    }

    /// Forgets everything and gives the memory back, as for a connection at rest.
    pub fn forget(&mut self) {
        *self = Self::within(self.limit);
    }

    /// How many bytes of texts and findings are kept.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets what another set found.
    pub(super) fn begin(&mut self, set: u64, inputs: usize) {
        if self.set != set || self.inputs.len() != inputs {
            self.set = set;
            self.inputs.truncate(inputs);
            for input in &mut self.inputs {
                input.is_set = false;
            }
            self.inputs.resize_with(inputs, Input::default);
            self.bytes = self.inputs.iter().map(Input::bytes).sum();
        }
    }

    /// Appends the rules that an input was found to ask for when it was made of this, or that `find` finds.
    pub(super) fn recall(
        &mut self,
        input: usize,
        key: &[u8],
        found: &mut Vec<u32>,
        find: impl FnOnce(&mut Vec<u32>),
    ) {
        let known = &self.inputs[input];
        if known.is_set && known.key == key {
            found.extend_from_slice(&known.found);
            return;
        }
        let start = found.len();
        find(found);
        self.note(input, key, &found[start..]);
    }

    fn note(&mut self, input: usize, key: &[u8], found: &[u32]) {
        let known = &mut self.inputs[input];
        let others = self.bytes - known.bytes();
        known.is_set = others + key.len() + size_of_val(found) <= self.limit;
        if known.is_set {
            known.key.clear();
            known.key.reserve_exact(key.len());
            known.key.extend_from_slice(key);
            known.found.clear();
            // Most are empty, and to copy nothing is a call all the same.
            if !found.is_empty() {
                known.found.extend_from_slice(found);
            }
        } else {
            *known = Input::default();
        }
        self.bytes = others + known.bytes();
    }
}

impl Input {
    fn bytes(&self) -> usize {
        self.key.len() + size_of_val(self.found.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recall(recent: &mut Recent, input: usize, key: &[u8], finds: &[u32]) -> (Vec<u32>, bool) {
        let (mut found, mut searched) = (vec![7], false);
        recent.recall(input, key, &mut found, |found| {
            searched = true;
            found.extend_from_slice(finds);
        });
        (found, searched)
    }

    #[test]
    fn only_the_same_bytes_and_set_are_recalled() {
        let mut recent = Recent::default();
        recent.begin(1, 2);
        assert_eq!(
            recall(&mut recent, 0, b"key", &[1, 2]),
            (vec![7, 1, 2], true)
        );
        assert_eq!(recall(&mut recent, 0, b"key", &[3]), (vec![7, 1, 2], false));
        assert_eq!(recall(&mut recent, 1, b"key", &[3]), (vec![7, 3], true));
        assert_eq!(recall(&mut recent, 0, b"kez", &[4]), (vec![7, 4], true));
        recent.begin(1, 2);
        assert_eq!(recall(&mut recent, 1, b"key", &[5]), (vec![7, 3], false));
        recent.begin(2, 2);
        assert_eq!(recall(&mut recent, 1, b"key", &[6]), (vec![7, 6], true));
        recent.begin(2, 3);
        assert_eq!(recall(&mut recent, 1, b"key", &[8]), (vec![7, 8], true));
    }

    #[test]
    fn no_more_than_the_limit_is_kept() {
        let mut recent = Recent::within(20);
        recent.begin(1, 2);
        recall(&mut recent, 0, &[0; 12], &[1]);
        assert_eq!(recent.bytes(), 16);
        recall(&mut recent, 1, &[0; 4], &[]);
        assert_eq!(recent.bytes(), 20);
        assert!(!recall(&mut recent, 1, &[0; 4], &[]).1);
        recall(&mut recent, 1, &[0; 5], &[]);
        assert_eq!(recent.bytes(), 16);
        assert!(recall(&mut recent, 1, &[0; 5], &[]).1);
        assert!(recall(&mut recent, 1, &[0; 4], &[1]).1);
        assert!(
            recall(&mut recent, 1, &[0; 4], &[1]).1,
            "findings count too"
        );
    }
}
