//! Finds a pattern's leftmost match in a text.

use regex_automata::Match;

use super::Matched;
use super::Tree;
use super::backtrack::{Machine, OutOfSteps, Outcome, Program, Steps};
use super::cache::Left;
use super::engine::{Automaton, Engine};
use super::follow::{FollowMemory, Follower, Sought};
use super::groups::Groups;
use super::limits;
use super::lines;
use super::plan::{Reach, Shape, Term};
use super::text::Text;
use super::translate::Alphabet;

/// What was built for one pattern in one worker.
#[derive(Debug, Default)]
pub(super) struct Built {
    ascii: Option<Box<Engine>>,
    wide: Option<Box<Engine>>,
    program: Option<Program>,
    follower: Option<Follower>,
}

impl Built {
    fn engine(&mut self, tree: &Tree, text: Text<'_>) -> &mut Engine {
        let (engine, alphabet) = if text.is_ascii() {
            (&mut self.ascii, Alphabet::Ascii)
        } else {
            (&mut self.wide, Alphabet::Wide)
        };
        engine.get_or_insert_with(|| Box::new(Engine::new(&tree.ast, &tree.plan, alphabet)))
    }

    /// Whether searching this text needs an automaton that is not built.
    fn lacks_engine(&self, text: Text<'_>) -> bool {
        match text.is_ascii() {
            true => self.ascii.is_none(),
            false => self.wide.is_none(),
        }
    }

    /// About how many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        let engines = self.ascii.iter().chain(&self.wide);
        engines.map(|engine| engine.memory()).sum::<usize>()
            + self.program.as_ref().map_or(0, Program::memory)
            + self.follower.as_ref().map_or(0, Follower::memory)
    }

    /// Whether there is an automaton.
    #[cfg(test)]
    pub(super) fn has_engine(&self) -> bool {
        self.ascii.is_some() || self.wide.is_some()
    }
}

/// One pattern, one text, and the memory to search with.
pub(super) struct Search<'s> {
    pub(super) tree: &'s Tree,
    pub(super) text: Text<'s>,
    pub(super) built: &'s mut Built,
    pub(super) machine: &'s mut Machine,
    pub(super) follow: &'s mut FollowMemory,
    /// What the searches of the request may still cost.
    pub(super) left: &'s mut Left,
}

/// Where a match begins, and where it ends if that is known.
struct Found {
    start: usize,
    end: Option<usize>,
}

impl From<Match> for Found {
    fn from(found: Match) -> Self {
        Self {
            start: found.start(),
            end: Some(found.end()),
        }
    }
}

impl Search<'_> {
    /// Whether there is a match.
    pub(super) fn verdict(mut self) -> Matched {
        let found = self.within(|search, steps| {
            if let Shape::Regular = search.tree.plan.shape
                && search.may_build()
            {
                let bytes = search.text.bytes();
                take_bytes(bytes.len(), steps)?;
                let engine = search.built.engine(search.tree, search.text);
                return Ok(engine.base.is_match(bytes));
            }
            Ok(search.find(0, steps)?.is_some())
        });
        found.map_or(Matched::OutOfSteps, yes_if)
    }

    /// Searches with the steps that a search has, as far as the request has them left.
    fn within<T>(
        &mut self,
        search: impl FnOnce(&mut Self, &mut Steps) -> Result<T, OutOfSteps>,
    ) -> Result<T, OutOfSteps> {
        // Without an automaton a search takes the steps that it takes, so that no verdict depends on there being one.
        let is_bare = self.left.builds == 0 && self.built.lacks_engine(self.text);
        let own = if is_bare || matches!(self.tree.plan.shape, Shape::Regular) {
            self.left.steps
        } else {
            self.left.steps.min(limits::STEPS)
        };
        let mut steps = Steps::new(own);
        let found = search(self, &mut steps);
        self.left.steps -= own - steps.left();
        found
    }

    /// Finds the leftmost match from this place on, and its groups.
    pub(super) fn captures(mut self, from: usize, groups: &mut Groups) -> Matched {
        let found = self.within(|search, steps| search.captures_within(from, groups, steps));
        found.map_or(Matched::OutOfSteps, yes_if)
    }

    fn captures_within(
        &mut self,
        from: usize,
        groups: &mut Groups,
        steps: &mut Steps,
    ) -> Result<bool, OutOfSteps> {
        let Some(Found { start, end }) = self.find(from, steps)? else {
            return Ok(false);
        };
        let text = self.text;
        let place = |(start, end)| (text.input_offset(start), text.input_offset(end));
        let decided = matches!(self.tree.plan.shape, Shape::Irregular);
        if let Some(end) = end
            && !decided
            && self.tree.ast.groups() == 0
            && self.tree.plan.ends_alike
        {
            groups.push(Some(place((start, end))));
            return Ok(true);
        }
        if !decided {
            let mut own = Steps::new(limits::STEPS.min(steps.left()));
            let outcome = self.run(start, &mut own);
            steps.take(limits::STEPS.min(steps.left()) - own.left())?;
            debug_assert_eq!(
                outcome?,
                Outcome::Matched,
                "a match was found to begin here"
            );
        }
        for number in 0..=self.tree.ast.groups() {
            groups.push(self.machine.group(number).map(place));
        }
        Ok(true)
    }

    /// Whether there is an automaton, or one may be built, which is counted.
    fn may_build(&mut self) -> bool {
        if !self.built.lacks_engine(self.text) {
            return true;
        }
        match self.left.builds.checked_sub(1) {
            Some(left) => {
                self.left.builds = left;
                true
            }
            None => false,
        }
    }

    /// Where the leftmost match begins.
    fn find(&mut self, from: usize, steps: &mut Steps) -> Result<Option<Found>, OutOfSteps> {
        let has_engine = self.may_build();
        match &self.tree.plan.shape {
            Shape::Conjunction(_) if !has_engine => return self.backtrack(from, has_engine, steps),
            Shape::Irregular => return self.backtrack(from, has_engine, steps),
            Shape::Regular if !has_engine => {
                let start = self.follow(from, steps)?;
                return Ok(start.map(|start| Found { start, end: None }));
            }
            Shape::Conjunction(_) | Shape::Regular => {}
        }
        let engine = self.built.engine(self.tree, self.text);
        let bytes = self.text.bytes();
        let found = match &self.tree.plan.shape {
            Shape::Conjunction(terms) => conjunction(engine, terms, bytes, from, steps)?,
            Shape::Irregular | Shape::Regular => {
                take_bytes(bytes.len() - from, steps)?;
                engine.base.find(bytes, from)
            }
        };
        Ok(found.map(Found::from))
    }

    /// Where the leftmost match of the pattern without its look-aheads begins, found by following all ways at once.
    fn follow(&mut self, from: usize, steps: &mut Steps) -> Result<Option<usize>, OutOfSteps> {
        let ast = &self.tree.ast;
        let follower = self
            .built
            .follower
            .get_or_insert_with(|| Follower::new(ast));
        let bytes = self.text.bytes();
        follower.find(Sought { ast, bytes }, from, self.follow, steps)
    }

    /// The match that the machine came to.
    fn found_by_running(&self) -> Option<Found> {
        let (start, end) = self.machine.group(0)?;
        Some(Found {
            start,
            end: Some(end),
        })
    }

    /// Tries every place at which a pattern that accepts more matches.
    fn backtrack(
        &mut self,
        from: usize,
        has_engine: bool,
        steps: &mut Steps,
    ) -> Result<Option<Found>, OutOfSteps> {
        let bytes = self.text.bytes();
        let mut at = from;
        loop {
            let start = if has_engine {
                let engine = self.built.engine(self.tree, self.text);
                let found = engine.base.find(bytes, at);
                take_bytes(found.map_or(0, |found| found.end() - at), steps)?;
                found.map(|found| found.start())
            } else {
                self.follow(at, steps)?
            };
            let Some(start) = start else {
                return Ok(None);
            };
            if self.run(start, steps)? == Outcome::Matched {
                return Ok(self.found_by_running());
            }
            match next_unit(bytes, start) {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
    }

    fn run(&mut self, at: usize, steps: &mut Steps) -> Result<Outcome, OutOfSteps> {
        let program = self
            .built
            .program
            .get_or_insert_with(|| Program::new(&self.tree.ast));
        self.machine
            .run(program, &self.tree.ast, self.text.bytes(), at, steps)
    }
}

fn yes_if(found: bool) -> Matched {
    if found { Matched::Yes } else { Matched::No }
}

/// What a look-ahead says about a place.
enum Says {
    Holds,
    /// It does not hold before this place.
    NotBefore(usize),
    /// It does not hold from here on.
    Never,
}

/// The leftmost match of the base at whose start every look-ahead holds.
///
/// A look-ahead that fails tells how far to go on, so each text is read about once by each automaton.
fn conjunction(
    engine: &mut Engine,
    terms: &[Term],
    bytes: &[u8],
    from: usize,
    steps: &mut Steps,
) -> Result<Option<Match>, OutOfSteps> {
    let mut at = from;
    'places: while let Some(found) = engine.base.find(bytes, at) {
        take_bytes(found.end() - at, steps)?;
        for (term, automaton) in terms.iter().zip(&mut engine.terms) {
            match ask(*term, automaton, bytes, found.start(), steps)? {
                Says::Holds => {}
                Says::NotBefore(next) => {
                    at = next;
                    continue 'places;
                }
                Says::Never => return Ok(None),
            }
        }
        return Ok(Some(found));
    }
    Ok(None)
}

fn ask(
    term: Term,
    automaton: &mut Automaton,
    bytes: &[u8],
    at: usize,
    steps: &mut Steps,
) -> Result<Says, OutOfSteps> {
    if term.negated && term.reach == Reach::Here {
        take_bytes(automaton.reads(bytes, at), steps)?;
        return Ok(match automaton.matches_at(bytes, at) {
            false => Says::Holds,
            true => not_before(next_unit(bytes, at)),
        });
    }
    let found = automaton.find(bytes, at);
    take_bytes(found.map_or(0, |found| found.end() - at), steps)?;
    let Some(found) = found.map(|found| found.start()) else {
        return Ok(if term.negated {
            Says::Holds
        } else {
            Says::Never
        });
    };
    // The first place at which what was found is within reach.
    let reached_from = match term.reach {
        Reach::Anywhere(_) => at,
        Reach::Here => found,
        Reach::Line(_) => lines::start_after(bytes, at, found).unwrap_or(at),
    };
    Ok(match (reached_from > at, term.negated) {
        (false, false) | (true, true) => Says::Holds,
        (true, false) => Says::NotBefore(reached_from),
        (false, true) => not_before(next_unit(bytes, found)),
    })
}

fn not_before(next: Option<usize>) -> Says {
    next.map_or(Says::Never, Says::NotBefore)
}

fn take_bytes(bytes: usize, steps: &mut Steps) -> Result<(), OutOfSteps> {
    let taken = bytes / limits::BYTES_PER_STEP + 1;
    steps.take(u32::try_from(taken).unwrap_or(u32::MAX))
}

/// The place behind the unit that begins here.
fn next_unit(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let length = match rest.first()? {
        0..0x80 => 1,
        0x80..0xe0 => 2,
        _ => 3,
    };
    Some(at + length)
}
