//! The automata of a pattern, built when first needed.

use regex_automata::meta::{Cache, Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Anchored, Input, Match};
use regex_syntax::hir::Hir;

use super::ast::Ast;
use super::limits;
use super::plan::{Plan, Shape};
use super::translate::{Alphabet, translate};

/// What searches for one pattern in texts of one alphabet.
#[derive(Debug)]
pub(super) struct Engine {
    /// The pattern without its look-aheads; its matches are those of the pattern and perhaps more.
    pub(super) base: Automaton,
    /// What the look-aheads at the beginning look for, in their order.
    pub(super) terms: Vec<Automaton>,
}

/// One automaton and its memory.
#[derive(Debug)]
pub(super) struct Automaton {
    regex: Regex,
    cache: Cache,
    /// The longest match in bytes, if there is one.
    longest: Option<usize>,
}

impl Engine {
    pub(super) fn new(ast: &Ast, plan: &Plan, alphabet: Alphabet) -> Self {
        let terms = match &plan.shape {
            Shape::Conjunction(terms) => terms.as_slice(),
            Shape::Irregular | Shape::Regular => &[],
        };
        let left_out: Vec<_> = terms
            .iter()
            .filter_map(|term| term.reach.skipped())
            .collect();
        let expressions = translate(ast, alphabet, &left_out);
        // Many look-aheads share what one automaton has.
        let lazy = limits::LAZY_STATES / (1 + terms.len());
        let automaton = |id: u32| Automaton::new(&expressions[id as usize], alphabet, lazy);
        Self {
            base: automaton(ast.root()),
            terms: terms.iter().map(|term| automaton(term.sub)).collect(),
        }
    }

    /// About how many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        let terms: usize = self.terms.iter().map(Automaton::memory).sum();
        self.base.memory() + terms
    }
}

impl Automaton {
    fn new(expression: &Hir, alphabet: Alphabet, lazy: usize) -> Self {
        // Implicit captures, although only the whole match is asked for: without them a search that has to give up
        // the lazy automaton would silently find nothing.
        let config = Config::new()
            .utf8_empty(alphabet == Alphabet::Wide)
            .which_captures(WhichCaptures::Implicit)
            .nfa_size_limit(None)
            .hybrid_cache_capacity(lazy)
            .onepass(false)
            .backtrack(false)
            .dfa(false);
        let regex = Regex::builder()
            .configure(config)
            .build_from_hir(expression)
            .expect("the size was bounded when the pattern was checked");
        let cache = regex.create_cache();
        Self {
            regex,
            cache,
            longest: expression.properties().maximum_len(),
        }
    }

    /// Whether there is a match at all.
    pub(super) fn is_match(&mut self, bytes: &[u8]) -> bool {
        let input = Input::new(bytes).earliest(true);
        self.regex
            .search_half_with(&mut self.cache, &input)
            .is_some()
    }

    /// Whether a match begins exactly here.
    pub(super) fn matches_at(&mut self, bytes: &[u8], at: usize) -> bool {
        let input = Input::new(bytes)
            .range(at..)
            .anchored(Anchored::Yes)
            .earliest(true);
        self.regex
            .search_half_with(&mut self.cache, &input)
            .is_some()
    }

    /// The leftmost match that begins here or later.
    pub(super) fn find(&mut self, bytes: &[u8], from: usize) -> Option<Match> {
        let input = Input::new(bytes).range(from..);
        self.regex.search_with(&mut self.cache, &input)
    }

    /// The bytes that deciding about a match here may read.
    pub(super) fn reads(&self, bytes: &[u8], at: usize) -> usize {
        let rest = bytes.len() - at;
        self.longest.map_or(rest, |longest| rest.min(longest))
    }

    fn memory(&self) -> usize {
        // The library counts what its vectors hold, which is about half of what they occupy, and leaves small parts out.
        const LEFT_OUT: usize = 1536;
        let counted = self.regex.memory_usage() + self.cache.memory_usage();
        size_of::<Self>() + 2 * counted + LEFT_OUT
    }
}
