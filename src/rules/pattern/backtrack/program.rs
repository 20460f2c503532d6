//! A pattern as instructions for the machine.

use crate::rules::pattern::ast::{Ast, NO_LIMIT, Node, NodeId};
use crate::rules::pattern::case;
use crate::rules::pattern::facts::{Facts, facts};

/// The place of an instruction in its program.
pub(super) type Address = u32;

/// The number of one of the machine's registers.
pub(super) type Register = u32;

/// One instruction; unless it says otherwise, the next one follows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instruction {
    /// The whole pattern has matched.
    Accept,
    /// Matches the text of a group again; nothing if the group took no part.
    Backreference(u32),
    /// Fails unless a word begins or ends here, or if one does.
    Boundary { negated: bool },
    /// Takes a unit of this class of the tree.
    Class(u32),
    /// Fails unless the input ends here.
    End,
    /// Begins a round of a repetition.
    Enter(Round),
    /// Goes on elsewhere.
    Jump(Address),
    /// Ends a round of a repetition: it fails if it took nothing and was not demanded.
    Leave { round: Round, min: u32 },
    /// Begins a look-ahead, behind which the pattern goes on at `next`.
    Look {
        mark: Register,
        negated: bool,
        next: Address,
    },
    /// The inside of a look-ahead has matched.
    LookEnd { mark: Register, negated: bool },
    /// Chooses between another round, which follows, and the end of a counted repetition.
    Loop {
        counter: Register,
        min: u32,
        max: u32,
        greedy: bool,
        exit: Address,
    },
    /// Takes units one by one, `min` (0 or 1) or more.
    Run { unit: Taken, min: u32, greedy: bool },
    /// Notes this place in a register.
    Save(Register),
    /// Tries `first`, then `second`.
    Split { first: Address, second: Address },
    /// Fails unless the input begins here.
    Start,
    /// Takes this unit, canonical if case is ignored.
    Unit(u16),
    /// Puts 0 in a register.
    Zero(Register),
}

/// What one unit must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken {
    Class(u32),
    Unit(u16),
}

/// What a round of a repetition keeps and clears.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    /// Counts the rounds.
    pub(super) counter: Option<Register>,
    /// Where the round began, if it could take nothing.
    pub(super) start: Option<Register>,
    /// The groups inside, which each round clears: from, and up to but not with.
    pub(super) groups: (u32, u32),
}

/// A pattern as instructions.
#[derive(Debug)]
pub(in crate::rules::pattern) struct Program {
    pub(super) code: Vec<Instruction>,
    pub(super) registers: u32,
    /// Whether what follows depends on instruction and place alone, so that a choice that failed once is not tried
    /// again.
    pub(super) memoizable: bool,
}

impl Program {
    pub(in crate::rules::pattern) fn new(ast: &Ast) -> Self {
        let facts = facts(ast);
        let mut compiler = Compiler {
            ast,
            facts: &facts,
            code: vec![Instruction::Save(0)],
            registers: 2 * (ast.groups() + 1),
            memoizable: true,
        };
        compiler.node(ast.root());
        compiler.code.push(Instruction::Save(1));
        compiler.code.push(Instruction::Accept);
        Self {
            code: compiler.code,
            registers: compiler.registers,
            memoizable: compiler.memoizable,
        }
    }

    /// About how many bytes it occupies.
    pub(in crate::rules::pattern) fn memory(&self) -> usize {
        self.code.capacity() * size_of::<Instruction>()
    }
}

struct Compiler<'a> {
    ast: &'a Ast,
    facts: &'a [Facts],
    code: Vec<Instruction>,
    registers: u32,
    memoizable: bool,
}

impl Compiler<'_> {
    /// Recursion ends with the nesting limit of the parser.
    fn node(&mut self, id: NodeId) {
        match self.ast.node(id) {
            Node::Alternate(kids) => self.alternate(self.ast.kids(kids)),
            Node::Backreference(group) => {
                self.memoizable = false;
                self.code.push(Instruction::Backreference(group));
            }
            Node::Boundary { negated } => self.code.push(Instruction::Boundary { negated }),
            Node::Class(number) => self.code.push(Instruction::Class(number)),
            Node::Concat(kids) => {
                for kid in self.ast.kids(kids) {
                    self.node(*kid);
                }
            }
            Node::Empty => {}
            Node::End => self.code.push(Instruction::End),
            Node::Group { sub, index } => {
                self.code.push(Instruction::Save(2 * index));
                self.node(sub);
                self.code.push(Instruction::Save(2 * index + 1));
            }
            Node::Look { sub, negated } => self.look(sub, negated),
            Node::Repeat {
                sub,
                min,
                max,
                greedy,
            } => self.repeat(sub, min, max, greedy),
            Node::Start => self.code.push(Instruction::Start),
            Node::Unit(unit) => {
                let unit = self.canonical(unit);
                self.code.push(Instruction::Unit(unit));
            }
        }
    }

    fn alternate(&mut self, kids: &[NodeId]) {
        let mut ends = Vec::new();
        for (number, kid) in kids.iter().enumerate() {
            if number + 1 == kids.len() {
                self.node(*kid);
                break;
            }
            let split = self.reserve();
            let first = self.here();
            self.node(*kid);
            ends.push(self.reserve());
            let second = self.here();
            self.set(split, Instruction::Split { first, second });
        }
        let end = self.here();
        for jump in ends {
            self.set(jump, Instruction::Jump(end));
        }
    }

    fn look(&mut self, sub: NodeId, negated: bool) {
        self.memoizable = false;
        let mark = self.register();
        let look = self.reserve();
        self.node(sub);
        self.code.push(Instruction::LookEnd { mark, negated });
        let next = self.here();
        self.set(
            look,
            Instruction::Look {
                mark,
                negated,
                next,
            },
        );
    }

    fn repeat(&mut self, sub: NodeId, min: u32, max: u32, greedy: bool) {
        let nullable = self.facts[sub as usize].nullable;
        match (min, max) {
            (_, 0) => {}
            (1, 1) => self.node(sub),
            (0 | 1, NO_LIMIT) if self.single(sub).is_some() => {
                if let Some(unit) = self.single(sub) {
                    self.code.push(Instruction::Run { unit, min, greedy });
                }
            }
            (0, 1) => {
                let split = self.reserve();
                let round = self.round(sub, false);
                self.split(split, split + 1, self.here(), greedy);
                self.memoizable &= round.start.is_none();
            }
            (0, NO_LIMIT) => {
                let split = self.reserve();
                let round = self.round(sub, false);
                self.code.push(Instruction::Jump(split));
                self.split(split, split + 1, self.here(), greedy);
                self.memoizable &= round.start.is_none();
            }
            (1, NO_LIMIT) if !nullable => {
                let again = self.here();
                self.round(sub, false);
                let split = self.reserve();
                self.split(split, again, self.here(), greedy);
            }
            _ => self.counted(sub, min, max, greedy),
        }
    }

    fn counted(&mut self, sub: NodeId, min: u32, max: u32, greedy: bool) {
        self.memoizable = false;
        let zero = self.reserve();
        let again = self.reserve();
        let round = self.round_from(sub, true, min);
        self.code.push(Instruction::Jump(again));
        let exit = self.here();
        let counter = round.counter.unwrap_or_default();
        self.set(zero, Instruction::Zero(counter));
        self.set(
            again,
            Instruction::Loop {
                counter,
                min,
                max,
                greedy,
                exit,
            },
        );
    }

    fn round(&mut self, sub: NodeId, counted: bool) -> Round {
        self.round_from(sub, counted, 0)
    }

    /// One round of a repetition with what surrounds it.
    fn round_from(&mut self, sub: NodeId, counted: bool, min: u32) -> Round {
        let facts = &self.facts[sub as usize];
        let (nullable, groups) = (facts.nullable, facts.groups.clone());
        let round = Round {
            counter: counted.then(|| self.register()),
            start: nullable.then(|| self.register()),
            groups: (groups.start, groups.end),
        };
        if round.counter.is_some() || round.start.is_some() || !groups.is_empty() {
            self.code.push(Instruction::Enter(round));
        }
        self.node(sub);
        if round.start.is_some() {
            self.code.push(Instruction::Leave { round, min });
        }
        round
    }

    fn split(&mut self, at: Address, more: Address, exit: Address, greedy: bool) {
        let (first, second) = if greedy { (more, exit) } else { (exit, more) };
        self.set(at, Instruction::Split { first, second });
    }

    fn single(&self, id: NodeId) -> Option<Taken> {
        match self.ast.node(id) {
            Node::Class(number) => Some(Taken::Class(number)),
            Node::Unit(unit) => Some(Taken::Unit(self.canonical(unit))),
            _ => None,
        }
    }

    fn canonical(&self, unit: u16) -> u16 {
        if self.ast.ignore_case() {
            case::canonicalize(unit)
        } else {
            unit
        }
    }

    fn register(&mut self) -> Register {
        self.registers += 1;
        self.registers - 1
    }

    fn here(&self) -> Address {
        self.code.len() as Address
    }

    /// Makes room for an instruction whose addresses are not known yet.
    fn reserve(&mut self) -> Address {
        self.code.push(Instruction::Accept);
        self.here() - 1
    }

    fn set(&mut self, at: Address, instruction: Instruction) {
        self.code[at as usize] = instruction;
    }
}
