//! Many patterns as one program, for those that no text stands for.

use super::program::{Builder, Program, Registers};
use crate::rules::pattern::Tree;
use crate::rules::pattern::plan::{Reach, Shape};
use crate::rules::pattern::text::TextBuffer;

/// Patterns to be searched together, each under a number.
#[derive(Debug)]
pub(in crate::rules) struct ManyBuilder {
    builder: Builder,
    numbers: Vec<u32>,
}

/// The patterns that were added, as one program.
#[derive(Debug)]
pub(in crate::rules) struct Many {
    program: Option<Program>,
    /// Numbers that are always met, since no program tells them apart.
    always: Box<[u32]>,
}

/// What searching them works in.
#[derive(Debug, Default)]
pub(in crate::rules) struct ManyMemory {
    registers: Registers,
    text: TextBuffer,
}

impl ManyBuilder {
    /// No patterns, to be searched in inputs that are whole, or of which patterns see only what follows some beginning.
    pub(in crate::rules) fn new(inputs_are_whole: bool) -> Self {
        Self {
            builder: Builder::selective(!inputs_are_whole),
            numbers: Vec::new(),
        }
    }

    /// Adds what an input must hold for the pattern to match; `false` if that is nothing, or if bits
    /// cannot say it.
    ///
    /// While the input lacks that, no search for the pattern can match, nor run out of steps.
    pub(in crate::rules) fn add(&mut self, tree: &Tree, number: u32) -> bool {
        let root = match &tree.plan.shape {
            Shape::Irregular => return false,
            Shape::Regular => tree.ast.root(),
            Shape::Conjunction(terms) => match terms.first() {
                Some(term) if !term.negated && term.reach != Reach::Here => term.sub,
                _ => return false,
            },
        };
        let added = self.builder.add(&tree.ast, root, false, number);
        if added {
            self.numbers.push(number);
        }
        added
    }

    pub(in crate::rules) fn build(self) -> Many {
        let numbers = self.numbers;
        let program = if numbers.is_empty() {
            None
        } else {
            self.builder.build()
        };
        let always = if program.is_some() {
            Vec::new()
        } else {
            numbers
        };
        Many {
            program,
            always: always.into(),
        }
    }
}

impl Many {
    /// Appends the numbers of the patterns that the input may match, some perhaps more than once.
    pub(in crate::rules) fn scan(
        &self,
        input: &[u8],
        memory: &mut ManyMemory,
        found: &mut Vec<u32>,
    ) {
        found.extend_from_slice(&self.always);
        if let Some(program) = &self.program {
            let text = memory.text.read(input);
            program.matches(text, &mut memory.registers, &mut |number| {
                found.push(number)
            });
        }
    }

    /// How many bytes it occupies.
    pub(in crate::rules) fn memory(&self) -> usize {
        self.program.as_ref().map_or(0, Program::memory) + size_of_val(&*self.always)
    }
}
