//! Follows all ways to match at once: what no automaton need be built for, at so many steps for each unit as there are
//! ways under way.

use super::ast::{Ast, NO_LIMIT, Node, NodeId};
use super::backtrack::{OutOfSteps, Steps};
use super::case;
use super::text::unit_at;

/// A pattern as states; unless it says otherwise, the next one follows.
///
/// Look-aheads match nothing at all and back-references anything, so it finds at least what the pattern does.
#[derive(Debug)]
pub(super) struct Follower {
    states: Vec<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The whole pattern has matched.
    Accept,
    /// Takes any unit.
    Any,
    /// Passes where a word begins or ends, or where none does.
    Boundary { negated: bool },
    /// Takes a unit of this class of the tree.
    Class(u32),
    /// Passes where the text ends.
    End,
    /// Goes on elsewhere.
    Jump(u32),
    /// Goes on at the next state and elsewhere.
    Split(u32),
    /// Passes where the text begins.
    Start,
    /// Takes this unit, canonical if case is ignored.
    Unit(u16),
}

/// What following works in.
#[derive(Debug, Default)]
pub(super) struct FollowMemory {
    now: Vec<Way>,
    next: Vec<Way>,
    waiting: Vec<u32>,
    /// For each state, the round in which it was reached last.
    reached: Vec<u32>,
    round: u32,
}

/// A way to match that waits for a unit, and where it began.
#[derive(Clone, Copy, Debug)]
struct Way {
    state: u32,
    start: usize,
}

impl FollowMemory {
    /// How many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        (self.now.capacity() + self.next.capacity()) * size_of::<Way>()
            + 4 * (self.waiting.capacity() + self.reached.capacity())
    }

    fn begin_round(&mut self, states: usize) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.reached.clear();
            self.round = 1;
        }
        if self.reached.len() < states {
            self.reached.resize(states, 0);
        }
    }
}

/// A text, and the tree of the pattern that is looked for in it.
#[derive(Clone, Copy)]
pub(super) struct Sought<'s> {
    pub(super) ast: &'s Ast,
    /// In the form of [`Text`](super::text::Text).
    pub(super) bytes: &'s [u8],
}

impl Follower {
    pub(super) fn new(ast: &Ast) -> Self {
        let mut compiler = Compiler {
            ast,
            states: Vec::new(),
        };
        compiler.node(ast.root());
        compiler.states.push(State::Accept);
        Self {
            states: compiler.states,
        }
    }

    /// How many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        self.states.capacity() * size_of::<State>()
    }

    /// Where the leftmost match begins, from a place on.
    pub(super) fn find(
        &self,
        sought: Sought<'_>,
        from: usize,
        memory: &mut FollowMemory,
        steps: &mut Steps,
    ) -> Result<Option<usize>, OutOfSteps> {
        let mut found = None;
        memory.now.clear();
        memory.begin_round(self.states.len());
        let mut at = from;
        loop {
            // Ways are in the order of their beginnings, so the first to reach a state is the one to keep.
            if found.is_none() && self.enter(0, at, sought, at, memory, steps)? {
                found = Some(at);
            }
            std::mem::swap(&mut memory.now, &mut memory.next);
            memory.next.clear();
            let Some((unit, length)) = unit_at(sought.bytes, at) else {
                return Ok(found);
            };
            if memory.now.is_empty() && found.is_some() {
                return Ok(found);
            }
            at += length as usize;
            memory.begin_round(self.states.len());
            for number in 0..memory.now.len() {
                let way = memory.now[number];
                if found.is_some_and(|found| found <= way.start) {
                    break;
                }
                steps.take(1)?;
                let takes = match self.states[way.state as usize] {
                    State::Any => true,
                    State::Class(class) => sought.ast.class(class).contains(unit),
                    State::Unit(wanted) => sought.canonical(unit) == wanted,
                    _ => false,
                };
                if takes && self.enter(way.state + 1, way.start, sought, at, memory, steps)? {
                    found = Some(way.start);
                }
            }
        }
    }

    /// Follows a way to the states that wait for a unit; whether it reaches the end of the pattern.
    fn enter(
        &self,
        state: u32,
        start: usize,
        sought: Sought<'_>,
        at: usize,
        memory: &mut FollowMemory,
        steps: &mut Steps,
    ) -> Result<bool, OutOfSteps> {
        let mut accepts = false;
        memory.waiting.clear();
        memory.waiting.push(state);
        while let Some(state) = memory.waiting.pop() {
            let reached = &mut memory.reached[state as usize];
            if *reached == memory.round {
                continue;
            }
            *reached = memory.round;
            steps.take(1)?;
            let passes = match self.states[state as usize] {
                State::Accept => {
                    accepts = true;
                    false
                }
                State::Boundary { negated } => sought.is_boundary(at) != negated,
                State::Any | State::Class(_) | State::Unit(_) => {
                    memory.next.push(Way { state, start });
                    false
                }
                State::End => at == sought.bytes.len(),
                State::Jump(to) => {
                    memory.waiting.push(to);
                    false
                }
                State::Split(to) => {
                    memory.waiting.push(to);
                    true
                }
                State::Start => at == 0,
            };
            if passes {
                memory.waiting.push(state + 1);
            }
        }
        Ok(accepts)
    }
}

impl Sought<'_> {
    fn canonical(&self, unit: u16) -> u16 {
        if self.ast.ignore_case() {
            case::canonicalize(unit)
        } else {
            unit
        }
    }

    fn is_boundary(&self, at: usize) -> bool {
        let is_word = |byte: Option<&u8>| {
            byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        };
        let before = at.checked_sub(1).and_then(|before| self.bytes.get(before));
        is_word(before) != is_word(self.bytes.get(at))
    }
}

struct Compiler<'a> {
    ast: &'a Ast,
    states: Vec<State>,
}

impl Compiler<'_> {
    /// Recursion ends with the nesting limit of the parser, and repetition with the limit on a pattern's states.
    fn node(&mut self, id: NodeId) {
        match self.ast.node(id) {
            Node::Alternate(kids) => {
                let kids = self.ast.kids(kids);
                let mut ends = Vec::new();
                for (number, kid) in kids.iter().enumerate() {
                    let split = self.here();
                    let is_last = number + 1 == kids.len();
                    if !is_last {
                        self.states.push(State::Split(0));
                    }
                    self.node(*kid);
                    if !is_last {
                        ends.push(self.here());
                        self.states.push(State::Jump(0));
                        self.states[split as usize] = State::Split(self.here());
                    }
                }
                let end = self.here();
                for jump in ends {
                    self.states[jump as usize] = State::Jump(end);
                }
            }
            Node::Boundary { negated } => self.states.push(State::Boundary { negated }),
            Node::Class(number) => self.states.push(State::Class(number)),
            Node::Concat(kids) => {
                for kid in self.ast.kids(kids) {
                    self.node(*kid);
                }
            }
            Node::Backreference(_) => {
                let from = self.here();
                let others = [State::Split(from + 3), State::Any, State::Jump(from)];
                self.states.extend(others);
            }
            Node::Empty | Node::Look { .. } => {}
            Node::End => self.states.push(State::End),
            Node::Group { sub, .. } => self.node(sub),
            Node::Repeat { sub, min, max, .. } => self.repeat(sub, min, max),
            Node::Start => self.states.push(State::Start),
            Node::Unit(unit) if self.ast.ignore_case() => {
                self.states.push(State::Unit(case::canonicalize(unit)));
            }
            Node::Unit(unit) => self.states.push(State::Unit(unit)),
        }
    }

    fn repeat(&mut self, sub: NodeId, min: u32, max: u32) {
        for _ in 0..min {
            self.node(sub);
        }
        let from = self.here();
        let splits: Vec<u32> = match max {
            NO_LIMIT => {
                self.states.push(State::Split(0));
                self.node(sub);
                self.states.push(State::Jump(from));
                vec![from]
            }
            _ => (min..max)
                .map(|_| {
                    let split = self.here();
                    self.states.push(State::Split(0));
                    self.node(sub);
                    split
                })
                .collect(),
        };
        let end = self.here();
        for split in splits {
            self.states[split as usize] = State::Split(end);
        }
    }

    fn here(&self) -> u32 {
        self.states.len() as u32
    }
}
