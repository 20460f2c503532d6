//! A pattern's verdict by shifting bits, for the patterns that this can decide.

use super::Tree;
use super::ast::{Ast, NodeId};
use super::plan::{Reach, Shape};
use super::shift::{Builder, Program};
use super::text::Text;
use super::texts::{self, RecentInput, Required, Texts, texts, whole_text};

/// What decides about one pattern; built in microseconds.
#[derive(Debug, Default)]
pub(super) struct Quick {
    /// Each must match; none if this cannot decide.
    parts: Vec<Part>,
    /// Only a text of one line is decided.
    one_line: bool,
}

/// What decides about a part of a pattern.
#[derive(Debug)]
struct Part {
    /// Without these there is no match.
    texts: Texts,
    /// How many bytes before the first text a match begins, if that is known.
    reach: Option<usize>,
    /// Wherever the only text stands, there is a match.
    is_text: bool,
    program: Program,
}

/// Where a text stands in an input of ASCII.
#[derive(Clone, Copy, Debug)]
pub(in crate::rules) struct Clue<'c> {
    /// The text in lower case.
    pub(in crate::rules) text: &'c [u8],
    /// The only place of it, without regard to the case of letters.
    pub(in crate::rules) place: usize,
}

impl Part {
    fn new(ast: &Ast, root: NodeId, program: Program) -> Self {
        let texts = texts(ast, root);
        let first = texts.first();
        let whole = whole_text(ast, root);
        let is_text = texts.len() == 1 && whole.as_deref() == first.map(Required::text);
        Self {
            is_text,
            reach: first.and_then(|first| program.reach_before(first.text())),
            texts,
            program,
        }
    }

    fn is_match(
        &self,
        text: Text<'_>,
        mut recent: Option<&mut RecentInput>,
        clue: Option<Clue<'_>>,
    ) -> bool {
        let of_first = |clue: &Clue<'_>| self.texts.first().map(Required::text) == Some(clue.text);
        let clue = clue.filter(of_first);
        let (mut behind, mut first) = (0, None);
        for (number, required) in self.texts.iter().enumerate() {
            let place = match clue {
                Some(clue) if number == 0 => Some(clue.place),
                _ if !required.can_be_sought(recent.is_some()) => continue,
                _ => required.find(text.bytes(), recent.as_deref_mut(), behind),
            };
            let Some(place) = place else {
                return false;
            };
            if number == 0 {
                first = Some(place);
            }
            behind = place + required.text().len();
        }
        if self.is_text && first.is_some() {
            return true;
        }
        let start = first
            .zip(self.reach)
            .map(|(first, reach)| first.checked_sub(reach));
        match start {
            // Every match begins so far before the text, which stands nowhere else.
            Some(start) if clue.is_some() => {
                start.is_some_and(|start| self.program.is_match_at(text, start))
            }
            _ => {
                let from = start.flatten().unwrap_or(0);
                let recent = recent.filter(|_| self.texts.iter().any(Required::has_letters));
                let folded = recent.map(|recent| recent.folded());
                self.program.is_match(text, from, folded)
            }
        }
    }
}

impl Quick {
    pub(super) fn new(tree: &Tree) -> Self {
        Self::of(tree).unwrap_or_default()
    }

    fn of(Tree { ast, plan }: &Tree) -> Option<Self> {
        let program = |root, looks_hold| {
            let mut builder = Builder::default();
            let fits = builder.add(ast, root, looks_hold);
            let program = fits.then(|| builder.build()).flatten();
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
        &self,
        text: Text<'_>,
        mut recent: Option<&mut RecentInput>,
        clue: Option<Clue<'_>>,
    ) -> Option<bool> {
        if !self.decides() || (self.one_line && !is_one_line(text)) {
            return None;
        }
        let mut parts = self.parts.iter();
        Some(parts.all(|part| part.is_match(text, recent.as_deref_mut(), clue)))
    }

    /// Words of bits that each unit of a text is met with.
    pub(super) fn width(&self) -> usize {
        self.parts.iter().map(|part| part.program.width()).sum()
    }

    /// About how many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        let parts = self.parts.iter();
        let parts = parts.map(|part| part.program.memory() + texts::memory(&part.texts));
        parts.sum()
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
    use super::*;
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

    #[test]
    fn knowing_where_a_text_stands_changes_no_verdict() {
        let long = format!("word{}(.*);", "[a-z]{3}-".repeat(40));
        let long_match = format!("..word{}1;", "abc-".repeat(40));
        for (pattern, text, input, expected) in [
            ("x-n=(.+)/(.+)~(.+)", "x-n=", "a; X-N=b/c~d", true),
            ("x-n=(.+)/(.+)~(.+)", "x-n=", "a/b~c; X-N=bcd", false),
            ("x-n=(.+)/(.+)~(.+)", "x-n=", "a; X-N=b/c\n~d", false),
            ("(.*)/word(.*)", "/word", "a\n/WORD", true),
            ("[0-9]{2}word[a-z]", "word", "123WORDx", true),
            ("[0-9]{2}word[a-z]", "word", "x3wordx", false),
            ("[0-9]{2}word[a-z]", "word", "1x2word1", false),
            ("^word", "word", " word", false),
            ("word$", "word", "a word", true),
            ("word$", "word", "a word ", false),
            ("word|other", "word", "some other word", true),
            ("a*bword[0-9]", "bword", "aaabword1", true),
            ("(?=.*word)(?=.*other)", "word", "other word", true),
            ("(?=.*word)(?=.*other)", "word", "othe word", false),
            ("(?=.*other)(?=.*word)", "word", "word other", true),
            (&long, "word", &long_match, true),
            (&long, "word", &long_match[..150], false),
        ] {
            let options = PatternOptions::default();
            let pattern = Pattern::new(pattern, PatternSyntax::EcmaScript, options).unwrap();
            let mut cache = PatternCache::new();
            // Short inputs are not remembered in small letters.
            for before in [String::new(), "+ ".repeat(50)] {
                let input = before + input;
                let found = pattern.is_match(&mut cache, input.as_bytes());
                assert_eq!(found == Matched::Yes, expected, "{input}");
                let place = input.to_ascii_lowercase().find(text);
                let clue = Clue {
                    text: text.as_bytes(),
                    place: place.unwrap(),
                };
                for clue in [None, Some(clue)] {
                    let mut sieve = cache.sieve(input.as_bytes());
                    assert_eq!(
                        sieve.rules_out(&pattern, clue),
                        !expected,
                        "{input} {clue:?}"
                    );
                }
            }
        }
    }
}
