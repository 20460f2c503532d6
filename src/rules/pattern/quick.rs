//! A pattern's verdict by shifting bits, for the patterns that this can decide.

use super::Tree;
use super::limits;
use super::plan::{Reach, Shape};
use super::shift::{Builder, Program, Registers};
use super::text::Text;

/// What decides about one pattern; built in microseconds.
#[derive(Debug, Default)]
pub(super) struct Quick {
    /// Each must match; none if this cannot decide.
    programs: Vec<Program>,
    /// Only a text of one line is decided.
    one_line: bool,
    registers: Registers,
}

impl Quick {
    pub(super) fn new(tree: &Tree) -> Self {
        Self::of(tree).unwrap_or_default()
    }

    fn of(Tree { ast, plan }: &Tree) -> Option<Self> {
        let program = |root, looks_hold| {
            let mut builder = Builder::default();
            let fits =
                builder.add(ast, root, looks_hold) && builder.steps() <= 64 * limits::SHIFT_WORDS;
            if fits { builder.build() } else { None }
        };
        let mut quick = Self::default();
        match &plan.shape {
            Shape::Irregular => return None,
            Shape::Regular => quick.programs.push(program(ast.root(), false)?),
            // Where the rest matches at every place, the best one for look-aheads is the beginning.
            Shape::Conjunction(terms) => {
                let mut rest = Builder::default();
                if !rest.add(ast, ast.root(), true) || !rest.matches_everywhere() {
                    return None;
                }
                for term in terms {
                    let is_free = match term.reach {
                        Reach::Anywhere(_) => true,
                        Reach::Here => false,
                        Reach::Line(_) => {
                            quick.one_line = true;
                            true
                        }
                    };
                    if term.negated || !is_free {
                        return None;
                    }
                    quick.programs.push(program(term.sub, false)?);
                }
            }
        }
        Some(quick)
    }

    /// Whether there are texts that this decides.
    pub(super) fn decides(&self) -> bool {
        !self.programs.is_empty()
    }

    /// Whether the pattern matches; `None` if this cannot tell.
    pub(super) fn verdict(&mut self, text: Text<'_>) -> Option<bool> {
        if !self.decides() || (self.one_line && !is_one_line(text)) {
            return None;
        }
        let registers = &mut self.registers;
        let mut programs = self.programs.iter();
        Some(programs.all(|program| program.is_match(text, registers)))
    }

    /// Words of bits that each unit of a text is met with.
    pub(super) fn width(&self) -> usize {
        self.programs.iter().map(Program::width).sum()
    }

    /// About how many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        self.programs.iter().map(Program::memory).sum::<usize>() + self.registers.memory()
    }
}

/// Whether no line terminator is in the text.
fn is_one_line(text: Text<'_>) -> bool {
    let bytes = text.bytes();
    // U+2028 and U+2029 begin like other characters do.
    memchr::memchr2(b'\n', b'\r', bytes).is_none()
        && (text.is_ascii() || memchr::memmem::find(bytes, b"\xe2\x80").is_none())
}

#[cfg(test)]
mod tests {
    use crate::rules::pattern::{Matched, Pattern, PatternCache, PatternOptions, PatternSyntax};

    #[test]
    fn rest_that_matches_at_the_end_alone_is_no_match_behind_a_look_ahead() {
        for (text, input, expected) in [
            ("(?=[\\s\\S]*/)(|)$", "a/", Matched::No),
            ("(?=.*a)b*$", "ab", Matched::No),
            ("(?=.*a)b*$", "bba", Matched::No),
            ("(?=.*a).*$", "ab", Matched::Yes),
            ("(?=.*a)b*", "ba", Matched::Yes),
            ("^(?=.*a)(?=.*b)", "ba", Matched::Yes),
            ("(?=.*a)(?=.*b)(c|)", "ba", Matched::Yes),
            ("(?=.*a)(?=.*b)(c|$)", "ba", Matched::No),
        ] {
            let options = PatternOptions::default();
            let pattern = Pattern::new(text, PatternSyntax::EcmaScript, options).unwrap();
            let found = pattern.is_match(&mut PatternCache::new(), input.as_bytes());
            assert_eq!(found, expected, "{text} on {input}");
        }
    }
}
