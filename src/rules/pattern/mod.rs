//! Patterns: one of URL Rewrite's three syntaxes to a program that searches bytes.
//!
//! Layer 1, inside rules. Called by the compiled rules and the literal gate; calls none.
//! Holds: a pattern that was accepted builds, whatever the input; no search recurses, and none passes its budget;
//!        verdict and groups are those of ECMAScript 5.1 over UTF-16 code units, or [`Matched::OutOfSteps`];
//!        searching ASCII decodes nothing, and searching with a warm cache allocates nothing.
//! See `guide::dialect` for the syntaxes, and for what is refused although browsers accept it.

mod ast;
mod backtrack;
mod cache;
mod case;
mod ecmascript;
mod engine;
mod error;
mod exact;
mod facts;
mod groups;
mod limits;
mod lines;
mod plan;
mod search;
mod size;
mod text;
mod translate;
mod unit_set;
mod wildcard;

pub use cache::PatternCache;
pub use error::PatternError;
pub use groups::Groups;

use std::sync::atomic::{AtomicU64, Ordering};

use ast::Ast;
use error::Kind;
use plan::Plan;
use search::Search;

/// How the text of a pattern is read. URL Rewrite's order.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum PatternSyntax {
    /// A regular expression of ECMAScript 5.1 with Annex B, found anywhere in the input.
    #[default]
    EcmaScript,
    /// The whole input, in which `*` is any run of characters and `?` any one.
    Wildcard,
    /// The text itself: the whole input, or a part of it with [`PatternOptions::substring`].
    ExactMatch,
}

/// What else decides the meaning of a pattern.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PatternOptions {
    /// Compares as ECMAScript's `i` flag does. True by default, as in URL Rewrite.
    pub ignore_case: bool,
    /// `.` also matches line terminators, so that a decoded line break cannot split `.*A.*B`. False by default.
    pub dot_matches_line_breaks: bool,
    /// [`PatternSyntax::ExactMatch`] finds its text anywhere, as in outbound rules. False by default.
    pub substring: bool,
}

impl Default for PatternOptions {
    fn default() -> Self {
        Self {
            ignore_case: true,
            dot_matches_line_breaks: false,
            substring: false,
        }
    }
}

/// What came of a search.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[must_use]
pub enum Matched {
    /// The pattern does not match.
    No,
    /// Whether it matches could not be found out within the budget of a search; the caller decides what that means.
    OutOfSteps,
    /// The pattern matches.
    Yes,
}

/// A pattern that was checked; what searches with it is built in a [`PatternCache`] on first use.
#[derive(Debug)]
pub struct Pattern {
    /// Tells this pattern's programs in a cache from all others'.
    id: u64,
    ast: Ast,
    plan: Plan,
}

impl Pattern {
    /// Checks a pattern. The text is taken literally; URL Rewrite substitutes nothing in patterns.
    ///
    /// # Errors
    ///
    /// When the text is not a pattern of that syntax, or passes a limit: 16 KiB of text, 200 groups inside each
    /// other, 1,000 capturing groups, counts of 5,000, and 32,768 automaton states.
    pub fn new(
        text: &str,
        syntax: PatternSyntax,
        options: PatternOptions,
    ) -> Result<Self, PatternError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let ignore_case = options.ignore_case;
        let ast = match syntax {
            PatternSyntax::EcmaScript => {
                ecmascript::parse(text, ignore_case, options.dot_matches_line_breaks)?
            }
            PatternSyntax::Wildcard => wildcard::parse(text, ignore_case)?,
            PatternSyntax::ExactMatch => exact::parse(text, ignore_case, options.substring)?,
        };
        if size::states(&ast) > limits::STATES {
            return Err(PatternError::new(0, Kind::TooLarge));
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let plan = Plan::new(&ast);
        Ok(Self { id, ast, plan })
    }

    /// Whether the pattern matches somewhere in the input.
    pub fn is_match(&self, cache: &mut PatternCache, input: &[u8]) -> Matched {
        self.search(cache, input).is_match()
    }

    /// Finds the leftmost match that begins at or after byte `start`, and where its groups lie.
    ///
    /// What stands before `start` is still part of the input: `^` does not match there, and `\b` sees it.
    pub fn captures(
        &self,
        cache: &mut PatternCache,
        input: &[u8],
        start: usize,
        groups: &mut Groups,
    ) -> Matched {
        groups.clear();
        if start > input.len() {
            return Matched::No;
        }
        let search = self.search(cache, input);
        let from = search.text.from_input(start);
        search.captures(from, groups)
    }

    /// How many groups capture, the whole match not counted.
    pub fn group_count(&self) -> usize {
        self.ast.groups() as usize
    }

    fn search<'s>(&'s self, cache: &'s mut PatternCache, input: &'s [u8]) -> Search<'s> {
        let (text, built, machine) = cache.prepare(self.id, input);
        Search {
            ast: &self.ast,
            plan: &self.plan,
            text,
            built,
            machine,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Patterns as rules have them, made distinct by a number.
    fn typical(number: usize) -> String {
        let shapes = [
            "(?=.*autodiscover#)(?=.*powershell)",
            "(.*)X-BEResource#=(.+)/(.+)~(.+)",
            "^/owa/auth/[^/]+#\\.(?:aspx|ashx)$",
            "^(?!www)(.*)#",
            "(>|%3C)([^s]*s)+cript#.*(<|%3E)",
            "/ecp/.*DDIService\\.svc#/(get|set)[a-z0-9_-]{1,20}$",
            "hssc#=1",
            "^([^.]+)\\.mysite#\\.com$",
            "base64_encode#[^(]*\\([^)]*\\)",
            "(?:^|&)id#=([0-9]+)(?:&|$)",
        ];
        shapes[number % shapes.len()].replace('#', &number.to_string())
    }

    #[test]
    #[ignore = "prints times, which mean something in a release build only"]
    fn figures() {
        let texts: Vec<_> = (0..500).map(typical).collect();
        let options = PatternOptions::default();
        let best = (0..20)
            .map(|_| {
                let begun = Instant::now();
                for text in &texts {
                    Pattern::new(text, PatternSyntax::EcmaScript, options).unwrap();
                }
                begun.elapsed()
            })
            .min();
        println!("500 patterns checked in {best:?}");
        let patterns: Vec<_> = texts
            .iter()
            .map(|text| Pattern::new(text, PatternSyntax::EcmaScript, options).unwrap())
            .collect();
        let input =
            "/owa/service.svc?action=GetFolder&ID=17&EP=1&UA=0&AC=1&id=12;a=1&b=x%20y".repeat(2);
        let mut cache = PatternCache::new();
        for round in ["first", "warm"] {
            let begun = Instant::now();
            let hits = patterns
                .iter()
                .filter(|pattern| pattern.is_match(&mut cache, input.as_bytes()) == Matched::Yes)
                .count();
            let each = begun.elapsed() / 500;
            println!(
                "{round}: {each:?} a pattern, {hits} hits, {} bytes a pattern",
                cache.memory() / 500
            );
        }
        for (number, pattern) in patterns.iter().enumerate().take(10) {
            let begun = Instant::now();
            for _ in 0..1000 {
                let _ = pattern.is_match(&mut cache, input.as_bytes());
            }
            println!("{}: {:?}", typical(number), begun.elapsed() / 1000);
        }
    }
}
