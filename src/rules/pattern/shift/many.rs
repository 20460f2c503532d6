//! Many patterns as one program, for those that no text stands for.

use super::layout::lay_out;
use super::row::{Row, Sets, rows};
use super::trie::{Trie, TrieMemory};
use crate::rules::pattern::Tree;
use crate::rules::pattern::plan::{Reach, Shape};
use crate::rules::pattern::text::TextBuffer;

/// Patterns to be searched together, each under a number.
#[derive(Debug)]
pub(in crate::rules) struct ManyBuilder {
    sets: Sets,
    /// Each with the number of its pattern.
    rows: Vec<(Row, u32)>,
    /// Whether the inputs may have more before them than patterns see.
    begins_anywhere: bool,
}

/// The patterns that were added, as one program.
#[derive(Debug)]
pub(in crate::rules) struct Many {
    trie: Option<Trie>,
    /// Numbers that are always met, since no program tells them apart.
    always: Box<[u32]>,
}

/// What searching them works in.
#[derive(Debug, Default)]
pub(in crate::rules) struct ManyMemory {
    trie: TrieMemory,
    text: TextBuffer,
}

impl ManyBuilder {
    /// No patterns, to be searched in inputs that are whole, or of which patterns see only what follows some beginning.
    pub(in crate::rules) fn new(inputs_are_whole: bool) -> Self {
        Self {
            sets: Sets::default(),
            rows: Vec::new(),
            begins_anywhere: !inputs_are_whole,
        }
    }

    /// Adds what an input must hold for the pattern to match; `false` if that is nothing, or if bits
    /// cannot say it.
    ///
    /// While the input lacks that, no search for the pattern can match, nor run out of steps.
    pub(in crate::rules) fn add(&mut self, tree: &Tree, number: u32) -> bool {
        let Some(mut rows) = rows_of(tree, &mut self.sets) else {
            return false;
        };
        if self.begins_anywhere {
            rows.iter_mut().for_each(|row| row.from_start = false);
        }
        if rows.iter().any(Row::is_trivial) {
            return false;
        }
        self.rows.extend(rows.into_iter().map(|row| (row, number)));
        true
    }

    pub(in crate::rules) fn build(self) -> Many {
        if self.rows.is_empty() {
            return Many {
                trie: None,
                always: Box::default(),
            };
        }
        let mut numbers: Vec<u32> = self.rows.iter().map(|(_, number)| *number).collect();
        numbers.dedup();
        let trie = lay_out(&self.sets, self.rows);
        Many {
            always: if trie.is_some() {
                Box::default()
            } else {
                numbers.into()
            },
            trie,
        }
    }
}

/// The rows of what an input must hold for the pattern to match.
fn rows_of(tree: &Tree, sets: &mut Sets) -> Option<Vec<Row>> {
    let root = match &tree.plan.shape {
        Shape::Irregular => return None,
        Shape::Regular => tree.ast.root(),
        Shape::Conjunction(terms) => match terms.first() {
            Some(term) if !term.negated && term.reach != Reach::Here => term.sub,
            _ => return None,
        },
    };
    rows(&tree.ast, root, false, sets)
}

/// Steps that a pattern takes in a program of many; `None` if it cannot be in one.
pub(in crate::rules::pattern) fn steps_together(tree: &Tree) -> Option<usize> {
    let rows = rows_of(tree, &mut Sets::default())?;
    let is_told_apart = !rows.iter().any(Row::is_trivial);
    is_told_apart.then(|| rows.iter().map(|row| row.steps.len()).sum())
}

impl Many {
    /// Appends the numbers of the patterns that the input may match, some perhaps more than once.
    pub(in crate::rules) fn scan(
        &self,
        input: &[u8],
        memory: &mut ManyMemory,
        found: &mut Vec<u32>,
    ) {
        found.extend_from_slice(&self.always);
        if let Some(trie) = &self.trie {
            let text = memory.text.read(input);
            trie.matches(text, &mut memory.trie, &mut |number| found.push(number));
        }
    }

    /// How many bytes it occupies.
    pub(in crate::rules) fn memory(&self) -> usize {
        self.trie.as_ref().map_or(0, Trie::memory) + size_of_val(&*self.always)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;
    use crate::rules::pattern::{Matched, Pattern, PatternCache, PatternOptions, PatternSyntax};

    /// Patterns by which texts are judged, together and each alone.
    struct Set {
        many: Many,
        alone: Vec<(u32, Pattern)>,
    }

    impl Set {
        fn new<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
            let mut builder = ManyBuilder::new(true);
            let mut alone = Vec::new();
            for (number, text) in (0..).zip(texts) {
                let options = PatternOptions::default();
                let syntax = PatternSyntax::EcmaScript;
                let pattern = Pattern::new(text, syntax, options).unwrap();
                let tree = pattern.tree();
                if builder.add(&tree, number) {
                    alone.push((number, pattern));
                }
            }
            Self {
                many: builder.build(),
                alone,
            }
        }

        /// How many match, if both ways find the same.
        fn check(&self, input: &[u8], memory: &mut ManyMemory) -> Result<usize, String> {
            let mut found = Vec::new();
            self.many.scan(input, memory, &mut found);
            found.sort_unstable();
            found.dedup();
            let mut cache = PatternCache::new();
            let is_met = |(_, pattern): &&(u32, Pattern)| {
                pattern.is_match(&mut cache, input) == Matched::Yes
            };
            let met = self.alone.iter().filter(is_met);
            let expected: Vec<u32> = met.map(|(number, _)| *number).collect();
            if found == expected {
                return Ok(found.len());
            }
            let input = String::from_utf8_lossy(input);
            Err(format!("{found:?} instead of {expected:?} on {input:?}"))
        }
    }

    #[test]
    fn patterns_that_begin_alike_are_told_apart() {
        let long = "b".repeat(150);
        let counted = (60..70).map(|count| format!("=[^&]{{{count}}}"));
        let branching = ('a'..='f').flat_map(|one| {
            ["", "$", "c", "[0-9]+x", "b*$"].map(|rest| format!("{one}{one}[xy]*z{rest}"))
        });
        let others = ["^", "$", "^$", "^a", "a$", "^ab*c$", "\\n", "\u{e9}+"].map(str::to_owned);
        let texts: Vec<String> = counted
            .chain(branching)
            .chain(others)
            .chain([long.clone(), format!("^{long}c$"), format!("{long}[0-9]")])
            .collect();
        let set = Set::new(texts.iter().map(String::as_str));
        let memory = &mut ManyMemory::default();
        for (input, count) in [
            ("".to_owned(), 1),
            ("a".to_owned(), 2),
            ("aaz".to_owned(), 4),
            ("aazbb".to_owned(), 3),
            ("aaxyxz00".to_owned(), 2),
            ("ffz0x aaz".to_owned(), 5),
            (format!("={}", "x".repeat(64)), 5),
            (format!("=&={}&", "x".repeat(200)), 10),
            (long.clone(), 1),
            (format!("{long}c"), 2),
            (format!("{long}0"), 2),
            ("\u{e9}\n".to_owned(), 2),
        ] {
            let found = set.check(input.as_bytes(), memory);
            assert_eq!(found, Ok(count), "{input}");
        }
    }

    fn patterns_are_told_apart(cases: u32) {
        let config = Config {
            failure_persistence: None,
            cases,
            ..Config::default()
        };
        let parts = &[
            "a", "a", "b", "c", "aa", "[ab]", "[^a]", ".", ".*", "a*", "[bc]+", "(?:a|bc)",
            "a{2,3}", "b{70}", "^", "$", "\u{e9}", "[0-9]+", "c?",
        ][..];
        let pattern = prop::collection::vec(prop::sample::select(parts), 1..7);
        let patterns = prop::collection::vec(pattern.prop_map(|parts| parts.concat()), 1..40);
        let inputs = prop::collection::vec("[abc0\u{e9}\n]{0,20}|[ab]{0,9}b{69,72}[ac]{0,9}", 1..8);
        let outcome = TestRunner::new(config).run(&(patterns, inputs), |(patterns, inputs)| {
            let set = Set::new(patterns.iter().map(String::as_str));
            let memory = &mut ManyMemory::default();
            for input in &inputs {
                if let Err(difference) = set.check(input.as_bytes(), memory) {
                    return Err(TestCaseError::fail(format!("{difference} by {patterns:?}")));
                }
            }
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    }

    #[test]
    fn a_few_random_patterns_are_told_apart() {
        patterns_are_told_apart(300);
    }

    #[test]
    #[ignore = "takes minutes: many random sets of patterns"]
    fn many_random_patterns_are_told_apart() {
        patterns_are_told_apart(100_000);
    }
}
