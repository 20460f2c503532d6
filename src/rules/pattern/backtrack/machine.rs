//! Runs a program at one place of a text.

use super::program::{Address, Instruction, Program, Register, Round, Taken};
use super::subject::Subject;
use super::{OutOfSteps, Steps};
use crate::rules::pattern::ast::Ast;
use crate::rules::pattern::limits;

/// What running a program came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::rules::pattern) enum Outcome {
    Failed,
    Matched,
}

/// The memory of runs; it is kept between them.
#[derive(Debug, Default)]
pub(in crate::rules::pattern) struct Machine {
    registers: Vec<u32>,
    waiting: Vec<Waiting>,
    memo: Vec<u64>,
}

/// What failing goes back to, the last first.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    /// Goes on at an instruction and a place.
    Choice { address: u32, at: u32 },
    /// A run that can give back units down to a place.
    Longer { address: u32, least: u32, at: u32 },
    /// A look-ahead whose inside is running; failing down to it means that the inside failed.
    Look { next: u32, at: u32, negated: bool },
    /// A run that can take one more unit.
    Shorter { address: u32, at: u32 },
    /// Puts an older value back.
    Undo { register: Register, value: u32 },
}

/// The value of a register that holds no place.
const NOWHERE: u32 = u32::MAX;

impl Machine {
    /// Whether the pattern matches exactly here.
    pub(in crate::rules::pattern) fn run(
        &mut self,
        program: &Program,
        ast: &Ast,
        bytes: &[u8],
        at: usize,
        steps: &mut Steps,
    ) -> Result<Outcome, OutOfSteps> {
        // Places are 32 bits wide, and the last value stands for none.
        let at = u32::try_from(at).map_err(|_| OutOfSteps)?;
        if bytes.len() >= NOWHERE as usize {
            return Err(OutOfSteps);
        }
        let mut run = Subject {
            program,
            ast,
            bytes,
            memoize: false,
        };
        let cells = (bytes.len() + 1).saturating_mul(2 * program.code.len());
        if !program.memoizable || cells > limits::MEMO_CELLS {
            return self.execute(&run, at, steps);
        }
        let mut first = Steps::new(limits::STEPS_BEFORE_MEMO);
        if let Ok(outcome) = self.execute(&run, at, &mut first) {
            return Ok(outcome);
        }
        run.memoize = true;
        self.memo.clear();
        self.memo.resize(cells.div_ceil(64), 0);
        self.execute(&run, at, steps)
    }

    /// Where a group lay after a match.
    pub(in crate::rules::pattern) fn group(&self, number: u32) -> Option<(usize, usize)> {
        let register = 2 * number as usize;
        match self.registers.get(register..register + 2) {
            Some([start, end]) if *start != NOWHERE && *end != NOWHERE => {
                Some((*start as usize, *end as usize))
            }
            _ => None,
        }
    }

    /// About how many bytes it occupies.
    pub(in crate::rules::pattern) fn memory(&self) -> usize {
        self.waiting.capacity() * size_of::<Waiting>()
            + self.registers.capacity() * 4
            + self.memo.capacity() * 8
    }

    fn execute(
        &mut self,
        run: &Subject<'_>,
        at: u32,
        steps: &mut Steps,
    ) -> Result<Outcome, OutOfSteps> {
        self.waiting.clear();
        self.registers.clear();
        self.registers
            .resize(run.program.registers as usize, NOWHERE);
        let mut state = Some((0, at));
        loop {
            steps.take(1)?;
            if self.waiting.len() > limits::WAITING {
                return Err(OutOfSteps);
            }
            let Some((address, at)) = state else {
                state = match self.go_back(run, steps)? {
                    Some(state) => Some(state),
                    None => return Ok(Outcome::Failed),
                };
                continue;
            };
            let instruction = run.program.code[address as usize];
            if let Instruction::Accept = instruction {
                return Ok(Outcome::Matched);
            }
            state = self.step(run, instruction, address, at, steps)?;
        }
    }

    /// Carries out one instruction; `None` when it fails.
    fn step(
        &mut self,
        run: &Subject<'_>,
        instruction: Instruction,
        address: u32,
        at: u32,
        steps: &mut Steps,
    ) -> Result<Option<(u32, u32)>, OutOfSteps> {
        let next = address + 1;
        let goes = |holds: bool| holds.then_some((next, at));
        Ok(match instruction {
            Instruction::Accept => Some((address, at)),
            Instruction::Backreference(group) => {
                let span = self.group(group);
                run.repeats(span, at, steps)?.map(|at| (next, at))
            }
            Instruction::Boundary { negated } => goes(run.is_boundary(at) != negated),
            Instruction::Class(number) => run.take(Taken::Class(number), at).map(|at| (next, at)),
            Instruction::End => goes(at as usize == run.bytes.len()),
            Instruction::Enter(round) => {
                self.enter(round, at, steps)?;
                Some((next, at))
            }
            Instruction::Jump(address) => Some((address, at)),
            Instruction::Leave { round, min } => goes(self.may_leave(round, min, at)),
            Instruction::Look {
                mark,
                negated,
                next: behind,
            } => {
                self.start_look(mark, behind, negated, at);
                Some((next, at))
            }
            Instruction::LookEnd { mark, negated } => self.end_look(mark, negated, next, steps)?,
            Instruction::Loop {
                counter,
                min,
                max,
                greedy,
                exit,
            } => {
                let rounds = self.registers[counter as usize];
                let round = (rounds < max).then_some(next);
                let exit = (rounds >= min).then_some(exit);
                let (first, second) = if greedy { (round, exit) } else { (exit, round) };
                self.choose(first, second, at)
            }
            Instruction::Run { unit, min, greedy } => {
                self.start_run(run, address, unit, min, greedy, at, steps)?
            }
            Instruction::Save(register) => {
                self.write(register, at);
                Some((next, at))
            }
            Instruction::Split { first, second } => {
                if run.memoize && self.was_here(run, address, false, at) {
                    return Ok(None);
                }
                self.choose(Some(first), Some(second), at)
            }
            Instruction::Start => goes(at == 0),
            Instruction::Unit(unit) => run.take(Taken::Unit(unit), at).map(|at| (next, at)),
            Instruction::Zero(register) => {
                self.write(register, 0);
                Some((next, at))
            }
        })
    }

    /// Undoes back to the last choice; `None` when there is none left.
    fn go_back(
        &mut self,
        run: &Subject<'_>,
        steps: &mut Steps,
    ) -> Result<Option<(u32, u32)>, OutOfSteps> {
        while let Some(waiting) = self.waiting.pop() {
            match waiting {
                Waiting::Choice { address, at } => return Ok(Some((address, at))),
                Waiting::Longer { address, least, at } => {
                    let at = run.before(at);
                    if at > least {
                        self.waiting.push(Waiting::Longer { address, least, at });
                    }
                    return Ok(Some((address, at)));
                }
                Waiting::Look {
                    next,
                    at,
                    negated: true,
                } => return Ok(Some((next, at))),
                Waiting::Look { .. } => {}
                Waiting::Shorter { address, at } => {
                    if let Instruction::Run { unit, .. } = run.program.code[address as usize]
                        && let Some(at) = run.take(unit, at)
                        && let Some(state) = self.offer_shorter(run, address, at)
                    {
                        return Ok(Some(state));
                    }
                }
                Waiting::Undo { register, value } => {
                    self.registers[register as usize] = value;
                }
            }
            steps.take(1)?;
        }
        Ok(None)
    }

    /// Goes on at the first way there is; a second one waits.
    fn choose(
        &mut self,
        first: Option<Address>,
        second: Option<Address>,
        at: u32,
    ) -> Option<(u32, u32)> {
        let Some(address) = first else {
            return second.map(|address| (address, at));
        };
        if let Some(address) = second {
            self.waiting.push(Waiting::Choice { address, at });
        }
        Some((address, at))
    }

    /// The mark tells the end of the look-ahead where the choices of its inside begin.
    fn start_look(&mut self, mark: Register, next: Address, negated: bool, at: u32) {
        let here = self.waiting.len() as u32;
        self.waiting.push(Waiting::Look { next, at, negated });
        self.write(mark, here);
    }

    /// Takes as many units as a run may, or as few.
    #[allow(
        clippy::too_many_arguments,
        reason = "a type for what one caller passes would say it twice"
    )]
    fn start_run(
        &mut self,
        run: &Subject<'_>,
        address: u32,
        unit: Taken,
        min: u32,
        greedy: bool,
        at: u32,
        steps: &mut Steps,
    ) -> Result<Option<(u32, u32)>, OutOfSteps> {
        let mut least = at;
        if min == 1 {
            match run.take(unit, at) {
                Some(at) => least = at,
                None => return Ok(None),
            }
        }
        if !greedy {
            return Ok(self.offer_shorter(run, address, least));
        }
        if run.memoize {
            // One choice at a time, so that each is tried once.
            let mut at = least;
            loop {
                steps.take(1)?;
                if self.was_here(run, address, true, at) {
                    return Ok(None);
                }
                match run.take(unit, at) {
                    Some(longer) => {
                        self.waiting.push(Waiting::Choice {
                            address: address + 1,
                            at,
                        });
                        at = longer;
                    }
                    None => return Ok(Some((address + 1, at))),
                }
            }
        }
        let most = run.take_all(unit, least);
        steps.take((most - least) / limits::UNITS_PER_STEP)?;
        if most > least {
            self.waiting.push(Waiting::Longer {
                address: address + 1,
                least,
                at: most,
            });
        }
        Ok(Some((address + 1, most)))
    }

    /// Goes on behind a lazy run that may take more later.
    fn offer_shorter(&mut self, run: &Subject<'_>, address: u32, at: u32) -> Option<(u32, u32)> {
        if run.memoize && self.was_here(run, address, true, at) {
            return None;
        }
        self.waiting.push(Waiting::Shorter { address, at });
        Some((address + 1, at))
    }

    fn enter(&mut self, round: Round, at: u32, steps: &mut Steps) -> Result<(), OutOfSteps> {
        if let Some(counter) = round.counter {
            let rounds = self.registers[counter as usize];
            self.write(counter, rounds.saturating_add(1));
        }
        if let Some(start) = round.start {
            self.write(start, at);
        }
        let (first, end) = round.groups;
        steps.take(end - first)?;
        for register in 2 * first..2 * end {
            if self.registers[register as usize] != NOWHERE {
                self.write(register, NOWHERE);
            }
        }
        Ok(())
    }

    /// ES5.1 section 15.10.2.5, `RepeatMatcher`: a round that was not demanded must take something.
    fn may_leave(&self, round: Round, min: u32, at: u32) -> bool {
        let value = |register: Option<Register>| register.map(|it| self.registers[it as usize]);
        let demanded = value(round.counter).is_some_and(|rounds| rounds <= min);
        demanded || value(round.start) != Some(at)
    }

    /// The inside of a look-ahead matched: its choices are forgotten, and if it is positive its groups stay.
    fn end_look(
        &mut self,
        mark: Register,
        negated: bool,
        next: u32,
        steps: &mut Steps,
    ) -> Result<Option<(u32, u32)>, OutOfSteps> {
        let mark = self.registers[mark as usize] as usize;
        let Some(Waiting::Look { at, .. }) = self.waiting.get(mark).copied() else {
            return Ok(None);
        };
        let inside = self.waiting.len() - mark;
        steps.take(inside as u32)?;
        if negated {
            while self.waiting.len() > mark {
                if let Some(Waiting::Undo { register, value }) = self.waiting.pop() {
                    self.registers[register as usize] = value;
                }
            }
            return Ok(None);
        }
        let mut kept = mark;
        for number in mark..self.waiting.len() {
            if let Waiting::Undo { .. } = self.waiting[number] {
                self.waiting[kept] = self.waiting[number];
                kept += 1;
            }
        }
        self.waiting.truncate(kept);
        Ok(Some((next, at)))
    }

    fn write(&mut self, register: Register, value: u32) {
        let old = std::mem::replace(&mut self.registers[register as usize], value);
        // Without a choice to go back to, nothing will ask for the old value.
        if !self.waiting.is_empty() {
            self.waiting.push(Waiting::Undo {
                register,
                value: old,
            });
        }
    }

    /// Whether this choice was tried before, which it is from now on.
    fn was_here(&mut self, run: &Subject<'_>, address: u32, within: bool, at: u32) -> bool {
        let row = 2 * address as usize + usize::from(within);
        let cell = row * (run.bytes.len() + 1) + at as usize;
        let word = &mut self.memo[cell / 64];
        let bit = 1 << (cell % 64);
        let seen = *word & bit != 0;
        *word |= bit;
        seen
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::pattern::ecmascript;

    /// The groups of a match of the pattern at the start of the text.
    fn run(text: &str, input: &str, memoize: bool) -> Option<Vec<Option<(usize, usize)>>> {
        let ast = ecmascript::parse(text, true, false).unwrap();
        let program = Program::new(&ast);
        let mut machine = Machine {
            memo: vec![0; (2 * program.code.len() * (input.len() + 1)).div_ceil(64)],
            ..Machine::default()
        };
        let run = Subject {
            program: &program,
            ast: &ast,
            bytes: input.as_bytes(),
            memoize,
        };
        let mut steps = Steps::new(limits::STEPS);
        match machine.execute(&run, 0, &mut steps).unwrap() {
            Outcome::Failed => None,
            Outcome::Matched => Some(
                (0..=ast.groups())
                    .map(|number| machine.group(number))
                    .collect(),
            ),
        }
    }

    proptest! {
        #[test]
        fn remembering_failures_changes_nothing(text in "[ab()|*+?.$]{1,16}", input in "[ab\u{e9}]{0,8}") {
            let Ok(ast) = ecmascript::parse(&text, true, false) else {
                return Ok(());
            };
            prop_assume!(Program::new(&ast).memoizable);
            prop_assert_eq!(run(&text, &input, true), run(&text, &input, false));
        }
    }

    #[test]
    fn what_was_tried_before_leaves_the_other_choices() {
        for (text, input) in [
            (".*a?.*?a|", "b"),
            (".*a?.*?a|", "\u{e9}"),
            ("(?:.*.*?c|a*?b)", "aab"),
            ("(.*).*?c|(a)", "aa"),
        ] {
            let found = run(text, input, true);
            assert_eq!(found, run(text, input, false), "{text} on {input}");
            assert!(found.is_some(), "{text} on {input}");
        }
    }

    #[test]
    fn only_plain_patterns_remember() {
        for (text, memoizable) in [
            ("(a+)+b", true),
            ("(?:a|b)*c?", true),
            ("(?:a*)*", false),
            ("(?:ab){2,3}", false),
            ("(a)\\1", false),
            ("(?=a)a", false),
        ] {
            let ast = ecmascript::parse(text, true, false).unwrap();
            assert_eq!(Program::new(&ast).memoizable, memoizable, "{text}");
        }
    }
}
