//! Finds a pattern's leftmost match in a text.

use regex_automata::Match;

use super::Matched;
use super::Tree;
use super::backtrack::{Machine, OutOfSteps, Outcome, Program, Steps};
use super::engine::{Automaton, Engine};
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
    }
}

/// One pattern, one text, and the memory to search with.
pub(super) struct Search<'s> {
    pub(super) tree: &'s Tree,
    pub(super) text: Text<'s>,
    pub(super) built: &'s mut Built,
    pub(super) machine: &'s mut Machine,
    /// How many automata may still be built.
    pub(super) builds: &'s mut u32,
}

impl Search<'_> {
    /// Whether there is a match.
    pub(super) fn verdict(mut self) -> Matched {
        if let Shape::Regular = self.tree.plan.shape
            && self.may_build()
        {
            let engine = self.built.engine(self.tree, self.text);
            return yes_if(engine.base.is_match(self.text.bytes()));
        }
        match self.find(0, &mut Steps::new(limits::STEPS)) {
            Ok(found) => yes_if(found.is_some()),
            Err(OutOfSteps) => Matched::OutOfSteps,
        }
    }

    /// Finds the leftmost match from this place on, and its groups.
    pub(super) fn captures(mut self, from: usize, groups: &mut Groups) -> Matched {
        let mut steps = Steps::new(limits::STEPS);
        match self.captures_within(from, groups, &mut steps) {
            Ok(found) => yes_if(found),
            Err(OutOfSteps) => Matched::OutOfSteps,
        }
    }

    fn captures_within(
        &mut self,
        from: usize,
        groups: &mut Groups,
        steps: &mut Steps,
    ) -> Result<bool, OutOfSteps> {
        let Some((start, end)) = self.find(from, steps)? else {
            return Ok(false);
        };
        let text = self.text;
        let place = |(start, end)| (text.input_offset(start), text.input_offset(end));
        let decided = matches!(self.tree.plan.shape, Shape::Irregular);
        if !decided && self.tree.ast.groups() == 0 && self.tree.plan.ends_alike {
            groups.push(Some(place((start, end))));
            return Ok(true);
        }
        if !decided {
            let outcome = self.run(start, steps)?;
            debug_assert_eq!(
                outcome,
                Outcome::Matched,
                "the automaton found a match here"
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
        match self.builds.checked_sub(1) {
            Some(left) => {
                *self.builds = left;
                true
            }
            None => false,
        }
    }

    /// Where the leftmost match begins; where it ends only for a plan whose automaton knows.
    fn find(
        &mut self,
        from: usize,
        steps: &mut Steps,
    ) -> Result<Option<(usize, usize)>, OutOfSteps> {
        // Backtracking decides alike; only a text on which it gets lost is worth an automaton beyond those allowed.
        if !self.may_build()
            && let Ok(found) = self.crawl(from, &mut Steps::new(limits::CRAWL_STEPS))
        {
            return Ok(found);
        }
        let engine = self.built.engine(self.tree, self.text);
        let bytes = self.text.bytes();
        let found = match &self.tree.plan.shape {
            Shape::Conjunction(terms) => conjunction(engine, terms, bytes, from, steps)?,
            Shape::Irregular => return self.backtrack(from, steps),
            Shape::Regular => engine.base.find(bytes, from),
        };
        Ok(found.map(|found| (found.start(), found.end())))
    }

    /// Tries every place.
    fn crawl(
        &mut self,
        from: usize,
        steps: &mut Steps,
    ) -> Result<Option<(usize, usize)>, OutOfSteps> {
        let bytes = self.text.bytes();
        let mut at = from;
        loop {
            take_bytes(1, steps)?;
            if self.run(at, steps)? == Outcome::Matched {
                return Ok(self.machine.group(0));
            }
            match next_unit(bytes, at) {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
    }

    /// Tries every place at which a pattern that accepts more matches.
    fn backtrack(
        &mut self,
        from: usize,
        steps: &mut Steps,
    ) -> Result<Option<(usize, usize)>, OutOfSteps> {
        let bytes = self.text.bytes();
        let mut at = from;
        loop {
            let engine = self.built.engine(self.tree, self.text);
            let Some(found) = engine.base.find(bytes, at) else {
                return Ok(None);
            };
            take_bytes(found.end() - at, steps)?;
            if self.run(found.start(), steps)? == Outcome::Matched {
                return Ok(self.machine.group(0));
            }
            match next_unit(bytes, found.start()) {
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
