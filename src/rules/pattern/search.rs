//! Finds a pattern's leftmost match in a text.

use regex_automata::Match;

use super::Matched;
use super::ast::Ast;
use super::backtrack::{Machine, OutOfSteps, Outcome, Program, Steps};
use super::engine::{Automaton, Engine};
use super::groups::Groups;
use super::limits;
use super::lines;
use super::plan::{Plan, Reach, Shape, Term};
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
    fn engine(&mut self, ast: &Ast, plan: &Plan, text: Text<'_>) -> &mut Engine {
        let (engine, alphabet) = if text.is_ascii() {
            (&mut self.ascii, Alphabet::Ascii)
        } else {
            (&mut self.wide, Alphabet::Wide)
        };
        engine.get_or_insert_with(|| Box::new(Engine::new(ast, plan, alphabet)))
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
    pub(super) ast: &'s Ast,
    pub(super) plan: &'s Plan,
    pub(super) text: Text<'s>,
    pub(super) built: &'s mut Built,
    pub(super) machine: &'s mut Machine,
}

impl Search<'_> {
    /// Whether there is a match.
    pub(super) fn verdict(mut self) -> Matched {
        if !self.is_affordable() {
            return Matched::OutOfSteps;
        }
        if let Shape::Regular = self.plan.shape {
            let engine = self.built.engine(self.ast, self.plan, self.text);
            return yes_if(engine.base.is_match(self.text.bytes()));
        }
        match self.find(0, &mut Steps::new(limits::STEPS)) {
            Ok(found) => yes_if(found.is_some()),
            Err(OutOfSteps) => Matched::OutOfSteps,
        }
    }

    /// Finds the leftmost match from this place on, and its groups.
    pub(super) fn captures(mut self, from: usize, groups: &mut Groups) -> Matched {
        if !self.is_affordable() {
            return Matched::OutOfSteps;
        }
        let mut steps = Steps::new(limits::STEPS);
        match self.captures_within(from, groups, &mut steps) {
            Ok(found) => yes_if(found),
            Err(OutOfSteps) => Matched::OutOfSteps,
        }
    }

    /// Whether even an automaton that has to follow all its states at once is fast enough; as a rule it follows one.
    fn is_affordable(&self) -> bool {
        let bytes = self.text.bytes().len() as u64;
        u64::from(self.plan.states).saturating_mul(bytes) <= limits::WORK
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
        let decided = matches!(self.plan.shape, Shape::Irregular);
        if !decided && self.ast.groups() == 0 && self.plan.ends_alike {
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
        for number in 0..=self.ast.groups() {
            groups.push(self.machine.group(number).map(place));
        }
        Ok(true)
    }

    /// Where the leftmost match begins; where it ends only for a plan whose automaton knows.
    fn find(
        &mut self,
        from: usize,
        steps: &mut Steps,
    ) -> Result<Option<(usize, usize)>, OutOfSteps> {
        let engine = self.built.engine(self.ast, self.plan, self.text);
        let bytes = self.text.bytes();
        let found = match &self.plan.shape {
            Shape::Conjunction(terms) => conjunction(engine, terms, bytes, from, steps)?,
            Shape::Irregular => return self.backtrack(from, steps),
            Shape::Regular => engine.base.find(bytes, from),
        };
        Ok(found.map(|found| (found.start(), found.end())))
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
            let engine = self.built.engine(self.ast, self.plan, self.text);
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
            .get_or_insert_with(|| Program::new(self.ast));
        self.machine
            .run(program, self.ast, self.text.bytes(), at, steps)
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
