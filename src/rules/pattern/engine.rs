//! The automata of a pattern, built when first needed.

use regex_automata::meta::{Cache, Config, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Input, Match};

use super::Matched;
use super::ast::Ast;
use super::groups::Groups;
use super::text::Text;
use super::translate::{Alphabet, translate};

/// What searches for one pattern in one worker.
#[derive(Debug, Default)]
pub(super) struct Engines {
    ascii: Option<Engine>,
    wide: Option<Engine>,
}

#[derive(Debug)]
struct Engine {
    regex: Regex,
    cache: Cache,
}

impl Engines {
    pub(super) fn is_match(&mut self, ast: &Ast, text: Text<'_>) -> Matched {
        let engine = self.engine(ast, text);
        let input = Input::new(text.bytes()).earliest(true);
        match engine.regex.search_half_with(&mut engine.cache, &input) {
            Some(_) => Matched::Yes,
            None => Matched::No,
        }
    }

    pub(super) fn captures(
        &mut self,
        ast: &Ast,
        text: Text<'_>,
        start: usize,
        groups: &mut Groups,
    ) -> Matched {
        let engine = self.engine(ast, text);
        let input = Input::new(text.bytes()).range(text.from_input(start)..);
        let Some(found) = engine.find(&input) else {
            return Matched::No;
        };
        groups.push(Some((
            text.to_input(found.start()),
            text.to_input(found.end()),
        )));
        Matched::Yes
    }

    fn engine(&mut self, ast: &Ast, text: Text<'_>) -> &mut Engine {
        let (engine, alphabet) = if text.is_ascii() {
            (&mut self.ascii, Alphabet::Ascii)
        } else {
            (&mut self.wide, Alphabet::Wide)
        };
        engine.get_or_insert_with(|| Engine::new(ast, alphabet))
    }
}

impl Engine {
    fn new(ast: &Ast, alphabet: Alphabet) -> Self {
        let mut expressions = translate(ast, alphabet, &[]);
        let expression = expressions.swap_remove(ast.root() as usize);
        let config = Config::new()
            .utf8_empty(alphabet == Alphabet::Wide)
            .which_captures(WhichCaptures::Implicit)
            .nfa_size_limit(None)
            .onepass(false)
            .backtrack(false)
            .dfa(false);
        let regex = Regex::builder()
            .configure(config)
            .build_from_hir(&expression)
            .expect("the size was bounded when the pattern was checked");
        let cache = regex.create_cache();
        Self { regex, cache }
    }

    fn find(&mut self, input: &Input<'_>) -> Option<Match> {
        self.regex.search_with(&mut self.cache, input)
    }
}
