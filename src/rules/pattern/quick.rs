//! A pattern's verdict by shifting bits, for the patterns that this can decide.

use super::Tree;
use super::ast::{Ast, NodeId};
use super::limits;
use super::plan::{Reach, Shape};
use super::shift::{Builder, Program, Registers};
use super::text::Text;
use super::texts::{self, RecentInput, Texts, texts};

/// What decides about one pattern; built in microseconds.
#[derive(Debug, Default)]
pub(super) struct Quick {
    /// Each must match; none if this cannot decide.
    parts: Vec<Part>,
    /// Only a text of one line is decided.
    one_line: bool,
    registers: Registers,
}

/// What decides about a part of a pattern.
#[derive(Debug)]
struct Part {
    /// Without these there is no match.
    texts: Texts,
    /// How many bytes before the first text a match begins, if that is known.
    reach: Option<usize>,
    program: Program,
}

impl Part {
    fn new(ast: &Ast, root: NodeId, program: Program) -> Self {
        let texts = texts(ast, root);
        let first = texts.first();
        Self {
            reach: first.and_then(|text| program.reach_before(text.needle())),
            texts,
            program,
        }
    }

    fn is_match(&self, text: Text<'_>, folded: Option<&[u8]>, registers: &mut Registers) -> bool {
        let mut from = 0;
        if let Some(folded) = folded {
            let (mut behind, mut first) = (0, None);
            for text in &self.texts {
                let Some(at) = text.find(&folded[behind..]) else {
                    return false;
                };
                first = first.or(Some(at));
                behind += at + text.needle().len();
            }
            from = match (first, self.reach) {
                (Some(first), Some(reach)) => first.saturating_sub(reach),
                _ => 0,
            };
        }
        self.program.is_match(text, from, folded, registers)
    }
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
            let program = if fits { builder.build() } else { None };
            program.map(|program| Part::new(ast, root, program))
        };
        let mut quick = Self::default();
        match &plan.shape {
            Shape::Irregular => return None,
            Shape::Regular => quick.parts.push(program(ast.root(), false)?),
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
                    quick.parts.push(program(term.sub, false)?);
                }
            }
        }
        quick.parts.shrink_to_fit();
        Some(quick)
    }

    /// Whether there are texts that this decides.
    pub(super) fn decides(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Whether the pattern matches; `None` if this cannot tell.
    pub(super) fn verdict(
        &mut self,
        text: Text<'_>,
        recent: Option<&mut RecentInput>,
    ) -> Option<bool> {
        if !self.decides() || (self.one_line && !is_one_line(text)) {
            return None;
        }
        let has_texts = self.parts.iter().any(|part| !part.texts.is_empty());
        let recent = recent.filter(|_| has_texts);
        let folded = recent.map(|recent| recent.folded());
        let registers = &mut self.registers;
        let mut parts = self.parts.iter();
        Some(parts.all(|part| part.is_match(text, folded, registers)))
    }

    /// Words of bits that each unit of a text is met with.
    pub(super) fn width(&self) -> usize {
        self.parts.iter().map(|part| part.program.width()).sum()
    }

    /// About how many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        let parts = self.parts.iter();
        let parts = parts.map(|part| part.program.memory() + texts::memory(&part.texts));
        parts.sum::<usize>() + self.registers.memory()
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
