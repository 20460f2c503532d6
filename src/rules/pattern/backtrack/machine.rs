//! Runs a program at one place of a text.

use super::program::{Instruction, Program, Register, Round, Taken};
use super::{OutOfSteps, Steps};
use crate::rules::pattern::ast::Ast;
use crate::rules::pattern::case;
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

/// What runs where.
struct Run<'r> {
    program: &'r Program,
    ast: &'r Ast,
    bytes: &'r [u8],
    memoize: bool,
}

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
        let mut run = Run {
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
        run: &Run<'_>,
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
        run: &Run<'_>,
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
                let here = self.waiting.len() as u32;
                self.waiting.push(Waiting::Look {
                    next: behind,
                    at,
                    negated,
                });
                self.write(mark, here);
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
                let (first, second) = if greedy { (next, exit) } else { (exit, next) };
                if rounds < min {
                    Some((next, at))
                } else if rounds >= max {
                    Some((exit, at))
                } else {
                    self.waiting.push(Waiting::Choice {
                        address: second,
                        at,
                    });
                    Some((first, at))
                }
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
                self.waiting.push(Waiting::Choice {
                    address: second,
                    at,
                });
                Some((first, at))
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
        run: &Run<'_>,
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
                    {
                        return Ok(self.offer_shorter(run, address, at));
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

    /// Takes as many units as a run may, or as few.
    #[allow(clippy::too_many_arguments)]
    fn start_run(
        &mut self,
        run: &Run<'_>,
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
    fn offer_shorter(&mut self, run: &Run<'_>, address: u32, at: u32) -> Option<(u32, u32)> {
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
    fn was_here(&mut self, run: &Run<'_>, address: u32, within: bool, at: u32) -> bool {
        let row = 2 * address as usize + usize::from(within);
        let cell = row * (run.bytes.len() + 1) + at as usize;
        let word = &mut self.memo[cell / 64];
        let bit = 1 << (cell % 64);
        let seen = *word & bit != 0;
        *word |= bit;
        seen
    }
}

impl Run<'_> {
    /// The place behind one unit, if it is the right one.
    fn take(&self, taken: Taken, at: u32) -> Option<u32> {
        let (unit, length) = unit_at(self.bytes, at as usize)?;
        let right = match taken {
            Taken::Class(number) => self.ast.class(number).contains(unit),
            Taken::Unit(wanted) => self.canonical(unit) == wanted,
        };
        right.then_some(at + length)
    }

    fn take_all(&self, taken: Taken, mut at: u32) -> u32 {
        while let Some(next) = self.take(taken, at) {
            at = next;
        }
        at
    }

    /// The place before the last unit.
    fn before(&self, at: u32) -> u32 {
        let mut at = at.saturating_sub(1);
        while at > 0
            && self
                .bytes
                .get(at as usize)
                .is_some_and(|byte| byte & 0xc0 == 0x80)
        {
            at -= 1;
        }
        at
    }

    fn is_boundary(&self, at: u32) -> bool {
        let at = at as usize;
        let is_word = |byte: Option<&u8>| {
            byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        let before = at.checked_sub(1).and_then(|before| self.bytes.get(before));
        is_word(before) != is_word(self.bytes.get(at))
    }

    /// The place behind a repeated text.
    fn repeats(
        &self,
        span: Option<(usize, usize)>,
        at: u32,
        steps: &mut Steps,
    ) -> Result<Option<u32>, OutOfSteps> {
        let Some((mut from, end)) = span else {
            return Ok(Some(at));
        };
        steps.take((end - from) as u32 / limits::UNITS_PER_STEP)?;
        let mut at = at as usize;
        while from < end {
            let (Some((wanted, step)), Some((unit, length))) =
                (unit_at(self.bytes, from), unit_at(self.bytes, at))
            else {
                return Ok(None);
            };
            if self.canonical(unit) != self.canonical(wanted) {
                return Ok(None);
            }
            from += step as usize;
            at += length as usize;
        }
        Ok(Some(at as u32))
    }

    fn canonical(&self, unit: u16) -> u16 {
        if self.ast.ignore_case() {
            case::canonicalize(unit)
        } else {
            unit
        }
    }
}

/// The unit that begins here and the length of its bytes.
fn unit_at(bytes: &[u8], at: usize) -> Option<(u16, u32)> {
    let low = |byte: u8| u16::from(byte & 0x3f);
    Some(match *bytes.get(at..)? {
        [byte, ..] if byte < 0x80 => (byte.into(), 1),
        [lead, one, ..] if lead < 0xe0 => (u16::from(lead & 0x1f) << 6 | low(one), 2),
        [lead, one, two, ..] => (u16::from(lead & 0x0f) << 12 | low(one) << 6 | low(two), 3),
        _ => return None,
    })
}
