//! Patterns: one of URL Rewrite's three syntaxes to a program that searches bytes.
//!
//! Layer 1, inside rules. Called by the compiled rules and the literal gate; calls none.
//! Holds: a pattern that was accepted builds, whatever the input; no search recurses, and none passes its budget;
//!        verdict and groups are those of ECMAScript 5.1 over UTF-16 code units, or [`Matched::OutOfSteps`];
//!        searching ASCII decodes nothing, and searching with a warm cache allocates nothing.
//! See `guide::dialect` for the syntaxes, and for what is refused although browsers accept it.

mod ast;
mod backtrack;
mod cache;
mod case;
mod ecmascript;
mod engine;
mod error;
mod exact;
mod facts;
mod follow;
mod groups;
mod limits;
mod lines;
mod plan;
mod quick;
mod reader;
mod search;
mod shift;
mod size;
mod text;
mod texts;
mod translate;
mod unit_set;
mod wildcard;

pub(in crate::rules) use ast::{Ast, Node, NodeId};
pub use cache::PatternCache;
pub use error::PatternError;
pub use groups::Groups;
pub(in crate::rules) use quick::Clue;
pub(in crate::rules) use reader::Reader;
pub(in crate::rules) use shift::{Many, ManyBuilder, ManyMemory};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cache::Place;
use plan::{Plan, Shape};
use quick::Quick;
use search::Search;
use text::Text;

/// How the text of a pattern is read. URL Rewrite's order.
///
/// # Examples
///
/// ```
/// use stopgap::rules::pattern::{Matched, Pattern, PatternCache, PatternOptions, PatternSyntax};
///
/// let found = |text, syntax, input: &[u8]| {
///     let pattern = Pattern::new(text, syntax, PatternOptions::default())?;
///     Ok::<_, stopgap::rules::pattern::PatternError>(pattern.is_match(&mut PatternCache::new(), input))
/// };
/// assert_eq!(found("a.c", PatternSyntax::EcmaScript, b"xabcx")?, Matched::Yes);
/// assert_eq!(found("a*c", PatternSyntax::Wildcard, b"xabcx")?, Matched::No);
/// assert_eq!(found("a.c", PatternSyntax::ExactMatch, b"A.C")?, Matched::Yes);
/// # Ok::<(), stopgap::rules::pattern::PatternError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum PatternSyntax {
    /// A regular expression of ECMAScript 5.1 with Annex B, found anywhere in the input.
    #[default]
    EcmaScript,
    /// The whole input, in which `*` is any run of characters and `?` any one.
    Wildcard,
    /// The text itself: the whole input, or a part of it with [`PatternOptions::substring`].
    ExactMatch,
}

/// What else decides the meaning of a pattern.
///
/// # Examples
///
/// ```
/// use stopgap::rules::pattern::{Matched, Pattern, PatternCache, PatternOptions, PatternSyntax};
///
/// let found = |options, input: &[u8]| {
///     let pattern = Pattern::new("a.b", PatternSyntax::EcmaScript, options)?;
///     Ok::<_, stopgap::rules::pattern::PatternError>(pattern.is_match(&mut PatternCache::new(), input))
/// };
/// let options = PatternOptions::default();
/// assert_eq!(found(options, b"A-B")?, Matched::Yes);
/// assert_eq!(found(options, b"a\nb")?, Matched::No);
/// let across = PatternOptions { dot_matches_line_breaks: true, ..options };
/// assert_eq!(found(across, b"a\nb")?, Matched::Yes);
/// # Ok::<(), stopgap::rules::pattern::PatternError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PatternOptions {
    /// Compares as ECMAScript's `i` flag does. True by default, as in URL Rewrite.
    pub ignore_case: bool,
    /// `.` also matches line terminators, so that a decoded line break cannot split `.*A.*B`. False by default.
    pub dot_matches_line_breaks: bool,
    /// [`PatternSyntax::ExactMatch`] finds its text anywhere, as in outbound rules. False by default.
    pub substring: bool,
}

impl Default for PatternOptions {
    fn default() -> Self {
        Self {
            ignore_case: true,
            dot_matches_line_breaks: false,
            substring: false,
        }
    }
}

/// What came of a search.
///
/// # Examples
///
/// ```
/// use stopgap::rules::pattern::{Matched, Pattern, PatternCache, PatternOptions, PatternSyntax};
///
/// let pattern = Pattern::new(r"(a*)*\1b(?!c)", PatternSyntax::EcmaScript, PatternOptions::default())?;
/// let mut cache = PatternCache::new();
/// assert_eq!(pattern.is_match(&mut cache, b"aab"), Matched::Yes);
/// // A search that could take for ever ends within its budget instead.
/// let hostile = [vec![b'a'; 20_000], b"bc".to_vec()].concat();
/// assert_eq!(pattern.is_match(&mut cache, &hostile), Matched::OutOfSteps);
/// # Ok::<(), stopgap::rules::pattern::PatternError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[must_use]
pub enum Matched {
    /// The pattern does not match.
    No,
    /// Whether it matches could not be found out within the budget of a search; the caller decides what that means.
    OutOfSteps,
    /// The pattern matches.
    Yes,
}

/// A pattern that was checked; what searches with it is built in a [`PatternCache`] on first use.
///
/// # Examples
///
/// ```
/// use stopgap::rules::pattern::{Groups, Matched, Pattern, PatternCache, PatternOptions, PatternSyntax};
///
/// let text = r"^/owa/([^/]+)/";
/// let pattern = Pattern::new(text, PatternSyntax::EcmaScript, PatternOptions::default())?;
/// let mut cache = PatternCache::new();
/// let mut groups = Groups::default();
/// let input = b"/OWA/auth/logon.aspx";
/// assert_eq!(pattern.captures(&mut cache, input, 0, &mut groups), Matched::Yes);
/// assert_eq!(groups.get(1), Some(5..9));
/// # Ok::<(), stopgap::rules::pattern::PatternError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pattern {
    /// Tells this pattern's programs in a cache from all others'; clones share them.
    id: u64,
    /// Read again for what is built of it, since a tree takes ten times the memory and most are never needed.
    text: Arc<str>,
    syntax: PatternSyntax,
    options: PatternOptions,
    takes_all: bool,
    groups: u32,
    /// An upper bound on the states of its automata.
    states: u32,
}

/// A pattern as a tree, and how it is searched.
#[derive(Debug)]
pub(in crate::rules) struct Tree {
    ast: Ast,
    plan: Plan,
}

impl Tree {
    pub(in crate::rules) const fn ast(&self) -> &Ast {
        &self.ast
    }

    /// What the look-ahead that is tried first looks for, unless it is one that must fail: while the input lacks that,
    /// no search can match, nor run out of steps.
    pub(in crate::rules) fn first_look(&self) -> Option<NodeId> {
        match &self.plan.shape {
            Shape::Conjunction(terms) => {
                let term = terms.first().filter(|term| !term.negated)?;
                Some(term.sub)
            }
            Shape::Irregular | Shape::Regular => None,
        }
    }

    /// Steps that it takes in a program of [many](ManyBuilder); `None` if it cannot be in one.
    pub(in crate::rules) fn steps_together(&self) -> Option<usize> {
        shift::steps_together(self)
    }

    /// An upper bound on the states of its automata.
    pub(in crate::rules) const fn states(&self) -> u32 {
        self.plan.states
    }

    /// How its verdict is found.
    pub(in crate::rules) fn manner(&self) -> Manner {
        let quick = Quick::new(self);
        match &self.plan.shape {
            _ if quick.decides() => Manner::Bits {
                words: quick.width(),
                bytes: quick.memory(),
            },
            Shape::Irregular => Manner::Irregular,
            Shape::Conjunction(_) | Shape::Regular => Manner::Automaton,
        }
    }
}

/// How a pattern's verdict is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::rules) enum Manner {
    /// By automata that are built lazily.
    Automaton,
    /// By programs of so many words together, which take so many bytes, from the first search on.
    Bits { words: usize, bytes: usize },
    /// By backtracking where an automaton lets it.
    Irregular,
}

impl Pattern {
    /// Checks a pattern. The text is taken literally; URL Rewrite substitutes nothing in patterns.
    ///
    /// # Errors
    ///
    /// When the text is not a pattern of that syntax, or passes a limit: 16 KiB of text, 200 groups inside each
    /// other, 1,000 capturing groups, counts of 5,000, and 32,768 automaton states.
    pub fn new(
        text: &str,
        syntax: PatternSyntax,
        options: PatternOptions,
    ) -> Result<Self, PatternError> {
        let mut reader = Reader::default();
        Self::with_tree(&Arc::from(text), syntax, options, &mut reader).map(|(pattern, _)| pattern)
    }

    /// Checks a pattern as [`new`](Self::new) does, and gives the tree that it was checked by.
    pub(in crate::rules) fn with_tree(
        text: &Arc<str>,
        syntax: PatternSyntax,
        options: PatternOptions,
        reader: &mut Reader,
    ) -> Result<(Self, Tree), PatternError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let tree = reader.read(text, syntax, options)?;
        let pattern = Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            text: Arc::clone(text),
            syntax,
            options,
            takes_all: tree.plan.takes_all,
            groups: tree.ast.groups(),
            states: tree.plan.states,
        };
        Ok((pattern, tree))
    }

    /// Whether it was made of these.
    pub(in crate::rules) fn is(
        &self,
        text: &str,
        syntax: PatternSyntax,
        options: PatternOptions,
    ) -> bool {
        *self.text == *text && (self.syntax, self.options) == (syntax, options)
    }

    /// Whether the pattern matches somewhere in the input.
    pub fn is_match(&self, cache: &mut PatternCache, input: &[u8]) -> Matched {
        if self.takes_all {
            return Matched::Yes;
        }
        let found = self.verdict(cache, input);
        cache.note(found)
    }

    fn verdict(&self, cache: &mut PatternCache, input: &[u8]) -> Matched {
        let mut place = cache.prepare(self.id, input);
        if !self.is_affordable(place.text) {
            return Matched::OutOfSteps;
        }
        let recent = place.recent.take();
        match place.slot.verdict(self, place.text, recent, None) {
            Some(true) => Matched::Yes,
            Some(false) => Matched::No,
            None => match self.search(&mut place) {
                Some(search) => search.verdict(),
                None => Matched::OutOfSteps,
            },
        }
    }

    /// Finds the leftmost match that begins at or after byte `start`, and where its groups lie.
    ///
    /// What stands before `start` is still part of the input: `^` does not match there, and `\b` sees it.
    pub fn captures(
        &self,
        cache: &mut PatternCache,
        input: &[u8],
        start: usize,
        groups: &mut Groups,
    ) -> Matched {
        groups.clear();
        if start > input.len() {
            return Matched::No;
        }
        let mut place = cache.prepare(self.id, input);
        let from = place.text.place_of(start);
        let is_affordable = self.is_affordable(place.text);
        let search = if is_affordable {
            self.search(&mut place)
        } else {
            None
        };
        let found = search.map_or(Matched::OutOfSteps, |search| search.captures(from, groups));
        cache.note(found)
    }

    /// About how many bytes it occupies itself; what is built of it in a [`PatternCache`] is bounded there.
    pub(in crate::rules) fn memory(&self) -> usize {
        size_of::<Self>() + 2 * size_of::<usize>() + self.text.len()
    }

    /// How many groups capture, the whole match not counted.
    pub fn group_count(&self) -> usize {
        self.groups as usize
    }

    /// An upper bound on the states of its automata.
    pub(in crate::rules) const fn states(&self) -> u32 {
        self.states
    }

    /// The pattern as a tree, read anew.
    pub(in crate::rules) fn tree(&self) -> Tree {
        let tree = Reader::default().read(&self.text, self.syntax, self.options);
        tree.expect("the same text was read when the pattern was checked")
    }

    /// The longest input, in bytes, that is searched and not refused for its length: [`Matched::OutOfSteps`].
    pub(in crate::rules) fn longest_input(&self) -> usize {
        // An ill-formed byte becomes a character of three.
        let bytes = limits::WORK / u64::from(self.states.max(1)) / 3;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Whether even an automaton that has to follow all its states at once is fast enough; as a rule it follows one.
    fn is_affordable(&self, text: Text<'_>) -> bool {
        let bytes = text.bytes().len() as u64;
        u64::from(self.states).saturating_mul(bytes) <= limits::WORK
    }

    /// What searches by other means than bits; `None` if the request has cost too much for that.
    fn search<'s>(&self, place: &'s mut Place<'_>) -> Option<Search<'s>> {
        *place.since_count += 1;
        let work = u64::from(self.states).saturating_mul(place.text.bytes().len() as u64);
        place.left.work = place.left.work.checked_sub(work)?;
        let slot = &mut *place.slot;
        Some(Search {
            tree: slot.tree.get_or_insert_with(|| Box::new(self.tree())),
            text: place.text,
            built: &mut slot.built,
            machine: place.machine,
            follow: place.follow,
            left: place.left,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn new(text: &str, syntax: PatternSyntax, options: PatternOptions) -> Pattern {
        Pattern::new(text, syntax, options).unwrap()
    }

    /// What the groups of the leftmost match hold.
    fn find(pattern: &Pattern, input: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
        let mut cache = PatternCache::new();
        let mut groups = Groups::default();
        let found = pattern.captures(&mut cache, input, 0, &mut groups);
        assert_eq!(pattern.is_match(&mut cache, input), found);
        assert_ne!(found, Matched::OutOfSteps);
        assert_eq!(groups.is_empty(), found == Matched::No);
        let text = |number| groups.get(number).map(|span| input[span].to_vec());
        (found == Matched::Yes).then(|| (0..groups.len()).map(text).collect())
    }

    fn matches(text: &str, syntax: PatternSyntax, options: PatternOptions, input: &[u8]) -> bool {
        find(&new(text, syntax, options), input).is_some()
    }

    #[test]
    fn wildcards_take_the_whole_input() {
        for (text, input, groups) in [
            ("*", &b""[..], Some(&[&b""[..], b""][..])),
            ("*/x.t?t", b"w/mid/X.TXT", Some(&[b"w/mid/X.TXT", b"w/mid"])),
            ("a*b*", b"aXbYbZ", Some(&[b"aXbYbZ", b"XbY", b"Z"])),
            ("a*", b"ba", None),
            ("*a", b"ab", None),
            ("a?", b"a", None),
            ("*\n?", b"line\r\n!", Some(&[b"line\r\n!", b"line\r"])),
            ("(.+)[a]", b"(.+)[A]", Some(&[b"(.+)[A]"])),
            ("(.+)[a]", b"(...)[A]", None),
            (
                "?*",
                "\u{e9}z".as_bytes(),
                Some(&["\u{e9}z".as_bytes(), b"z"]),
            ),
        ] {
            let pattern = new(text, PatternSyntax::Wildcard, PatternOptions::default());
            let found = find(&pattern, input);
            let found: Option<Vec<&[u8]>> = found.as_ref().map(|groups| {
                groups
                    .iter()
                    .map(|group| group.as_deref().unwrap())
                    .collect()
            });
            assert_eq!(found.as_deref(), groups, "{text}");
        }
    }

    #[test]
    fn exact_match_takes_the_whole_input_or_a_part() {
        let whole = PatternOptions::default();
        let part = PatternOptions {
            substring: true,
            ..whole
        };
        let exact_case = PatternOptions {
            ignore_case: false,
            ..whole
        };
        for (text, options, input, expected) in [
            ("a.b", whole, &b"A.B"[..], true),
            ("a.b", whole, b"axb", false),
            ("a.b", whole, b"a.b\n", false),
            ("a.b", whole, b"xa.b", false),
            ("a.b", exact_case, b"A.b", false),
            ("a.b", part, b"xA.By", true),
            ("", whole, b"", true),
            ("", whole, b"x", false),
            ("", part, b"x", true),
            ("k", whole, "\u{212a}".as_bytes(), false),
        ] {
            let found = matches(text, PatternSyntax::ExactMatch, options, input);
            assert_eq!(found, expected, "{text} {options:?} {input:?}");
        }
    }

    #[test]
    fn look_aheads_at_the_beginning_speak_of_one_line() {
        let plain = PatternOptions::default();
        let across = PatternOptions {
            dot_matches_line_breaks: true,
            ..plain
        };
        let both = "(?=.*autodiscover)(?=.*powershell)";
        for (text, options, input, expected) in [
            (both, plain, "x/autodiscover/PowerShell", true),
            (both, plain, "powershell autodiscover", true),
            (both, plain, "autodiscover\npowershell", false),
            (both, plain, "autodiscover\u{2028}powershell", false),
            (both, plain, "powershell\nx autodiscover powershell", true),
            (
                both,
                plain,
                "autodiscover\rpowershell\r\npowershell,autodiscover",
                true,
            ),
            (both, across, "autodiscover\npowershell", true),
            ("(?=.*a)b", plain, "ba", true),
            ("(?=.*a)b", plain, "ab", false),
            ("(?=.*a)b", plain, "ab\nba", true),
            ("(?!.*a)b", plain, "ba", false),
            ("(?!.*a)b", plain, "bab", true),
            ("(?!.*a)b", plain, "b\na", true),
            ("(?!.*a)b", across, "b\na", false),
            ("^(?!www)", plain, "www", false),
            ("^(?!www)", plain, "xwww", true),
        ] {
            let found = matches(text, PatternSyntax::EcmaScript, options, input.as_bytes());
            assert_eq!(found, expected, "{text} on {input:?}");
        }
    }

    #[test]
    fn input_that_is_not_utf8_is_replacement_characters() {
        let options = PatternOptions::default();
        for (text, input, expected) in [
            ("^a.b$", &b"a\xffb"[..], Some(&b"a\xffb"[..])),
            ("^a..b$", b"a\xff\xfeb", Some(b"a\xff\xfeb")),
            ("^a..b$", b"a\xe2\x82b", None),
            ("\\ufffd+", b"a\xe2\x82\xffb", Some(b"\xe2\x82\xff")),
            (".*A.*B", b"xa\xff\xfeb", Some(b"xa\xff\xfeb")),
            // Half of a character of two units.
            (
                "\\ude00",
                "\u{1f600}".as_bytes(),
                Some(&"\u{1f600}".as_bytes()[2..]),
            ),
        ] {
            let found = find(&new(text, PatternSyntax::EcmaScript, options), input);
            let whole = found.and_then(|mut groups| groups.swap_remove(0));
            assert_eq!(whole.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn exponential_patterns_end() {
        let options = PatternOptions::default();
        let many = "a".repeat(3_000);
        let mut cache = PatternCache::new();
        let mut groups = Groups::default();
        for (text, input, expected) in [
            ("(a+)+$", format!("{many}!"), Matched::No),
            // Remembering failures makes it linear.
            ("(a|aa)+$", many.clone(), Matched::Yes),
            ("((a|aa)+)+!", format!("{many}!"), Matched::Yes),
            (
                "x=(.+)/(.+)~(.+)",
                format!("x={}~a\nx=1/2~3", "/".repeat(3_000)),
                Matched::Yes,
            ),
            ("(?:(?:a*){1,2})*x", "a".into(), Matched::No),
            ("(?:(?:a*){1,2})*x", format!("{many}x"), Matched::Yes),
            ("(.*)=(.*)\\1;", many.clone(), Matched::No),
            ("(a*)*\\1b(?!c)", format!("{many}bc"), Matched::OutOfSteps),
            ("(?:a|a?)+(?=c)d", format!("{many}d"), Matched::OutOfSteps),
        ] {
            let pattern = new(text, PatternSyntax::EcmaScript, options);
            let found = pattern.captures(&mut cache, input.as_bytes(), 0, &mut groups);
            assert_eq!(found, expected, "{text}");
            let counted = u64::from(expected == Matched::OutOfSteps);
            assert_eq!(cache.take_out_of_steps(), counted, "{text}");
        }
    }

    #[test]
    fn size_limits_hold_on_both_sides() {
        let check =
            |text: &str| Pattern::new(text, PatternSyntax::EcmaScript, PatternOptions::default());
        assert!(check("[a-z]{5000}").is_ok());
        assert!(check(".{255}").is_ok());
        assert!(check("(?:[a-z]{100}){100}").is_err());
        // Six states for each round, five for each letter behind them.
        let states = |letters: usize| {
            let text = format!("a{{5000}}{}", "b".repeat(letters));
            check(&text).map(|pattern| pattern.states())
        };
        assert_eq!(states(549), Ok(limits::STATES - 2));
        let refusal = states(550).unwrap_err();
        assert_eq!(refusal.kind(), error::Kind::TooLarge);
        assert!(check("(?:(?:(?:a{5000}){5000}){5000}){5000}").is_err());

        let pattern = check("a{2500}b").unwrap();
        let affordable = (limits::WORK / u64::from(pattern.states)) as usize;
        let mut cache = PatternCache::new();
        for (length, expected) in [
            (affordable, Matched::No),
            (affordable + 1, Matched::OutOfSteps),
        ] {
            assert_eq!(pattern.is_match(&mut cache, &vec![b'x'; length]), expected);
        }
    }

    #[test]
    fn searching_from_a_place_sees_what_stands_before() {
        let options = PatternOptions::default();
        let mut cache = PatternCache::new();
        let mut groups = Groups::default();
        for (text, input, start, span) in [
            ("a", "aba", 1, Some(2..3)),
            ("^a", "aa", 1, None),
            ("\\ba", "aa a", 1, Some(3..4)),
            ("", "ab", 2, Some(2..2)),
            ("", "ab", 3, None),
            // Inside a character the search begins behind it.
            (".", "\u{e9}z", 1, Some(2..3)),
            (".", "\u{1f600}z", 1, Some(2..4)),
            (".", "\u{1f600}z", 2, Some(2..4)),
            (".", "\u{1f600}z", 3, Some(4..5)),
        ] {
            let pattern = new(text, PatternSyntax::EcmaScript, options);
            let found = pattern.captures(&mut cache, input.as_bytes(), start, &mut groups);
            assert_eq!(found == Matched::Yes, span.is_some());
            assert_eq!(groups.get(0), span, "{text} on {input} from {start}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_what_their_decoded_form_gives(
            text in "[abK().*+?|^$\\[\\]{}1,=!:\\\\\u{e9}\u{17f}\u{1f600}]{0,12}",
            input: Vec<u8>,
            start in 0..8_usize,
        ) {
            let options = PatternOptions::default();
            let Ok(pattern) = Pattern::new(&text, PatternSyntax::EcmaScript, options) else {
                return Ok(());
            };
            let mut cache = PatternCache::new();
            let mut groups = Groups::default();
            let found = pattern.captures(&mut cache, &input, start, &mut groups);
            for number in 0..groups.len() {
                let span = groups.get(number).unwrap_or_default();
                prop_assert!(span.start <= span.end && span.end <= input.len());
            }
            let decoded = String::from_utf8_lossy(&input);
            if start == 0 {
                let verdict = pattern.is_match(&mut cache, decoded.as_bytes());
                prop_assert_eq!(verdict, found);
            }
        }
    }

    /// Patterns of few letters, in which repetitions, choices and ends meet.
    fn pattern_text() -> impl Strategy<Value = String> {
        let part = prop::sample::select(
            &[
                "a",
                "b",
                ".",
                "[ab]",
                "[^a]",
                "\\s",
                "^",
                "$",
                "|",
                "a*",
                "b+",
                ".*",
                ".+?",
                "(a|bc)",
                "(?:ab|c){2}",
                "(?:b|\u{e9})?",
                "a{1,3}",
                "(?:a|b)*",
                "(x*y)+",
                "()",
                "(?=.*a)",
                "(?=.*bc)",
                "[]",
                "[^]",
                "\u{e9}",
            ][..],
        );
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    fn bits_decide_as_automata_do(cases: u32) {
        let config = ProptestConfig {
            cases,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let input = "[abcxy\u{e9}\u{1f600}\n ]{0,12}";
        let strategy = (
            pattern_text(),
            any::<bool>(),
            prop::collection::vec(input, 1..6),
        );
        let runner = &mut proptest::test_runner::TestRunner::new(config);
        let outcome = runner.run(&strategy, |(text, ignore_case, inputs)| {
            let options = PatternOptions {
                ignore_case,
                ..PatternOptions::default()
            };
            let pattern = new(&text, PatternSyntax::EcmaScript, options);
            let quick = Quick::new(&pattern.tree());
            let mut many = ManyBuilder::new(true);
            let in_many = many.add(&pattern.tree(), 7);
            let many = many.build();
            let (mut cache, mut frugal) = (PatternCache::new(), PatternCache::new());
            frugal.forbid_automata();
            let (mut groups, mut frugal_groups) = (Groups::default(), Groups::default());
            for input in inputs.iter().map(String::as_bytes) {
                let found = pattern.captures(&mut cache, input, 0, &mut groups);
                let frugal_found = pattern.captures(&mut frugal, input, 0, &mut frugal_groups);
                prop_assert_eq!(frugal_found, found, "{:?} on {:?}", &text, input);
                prop_assert_eq!(&frugal_groups, &groups, "{:?} on {:?}", &text, input);
                let mut found = Vec::new();
                many.scan(input, &mut ManyMemory::default(), &mut found);
                let mut place = cache.prepare(pattern.id, input);
                let expected = pattern.search(&mut place).unwrap().verdict() == Matched::Yes;
                let mut place = frugal.prepare(pattern.id, input);
                let followed = pattern.search(&mut place).unwrap().verdict();
                prop_assert_eq!(
                    followed == Matched::Yes,
                    expected,
                    "{:?} on {:?}",
                    &text,
                    input
                );
                let mut place = cache.prepare(pattern.id, input);
                if let Some(verdict) = quick.verdict(place.text, place.recent.take(), None) {
                    prop_assert_eq!(verdict, expected, "{:?} on {:?}", &text, input);
                }
                if in_many && expected {
                    prop_assert!(!found.is_empty(), "{:?} on {:?}", &text, input);
                }
            }
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    }

    #[test]
    fn bits_decide_a_few_patterns_as_automata_do() {
        bits_decide_as_automata_do(600);
    }

    #[test]
    #[ignore = "takes minutes: many random patterns"]
    fn bits_decide_many_patterns_as_automata_do() {
        bits_decide_as_automata_do(200_000);
    }

    #[test]
    fn most_patterns_of_rules_are_decided_by_bits() {
        let by_bits = |text: &str| {
            let options = PatternOptions::default();
            let pattern = new(text, PatternSyntax::EcmaScript, options);
            matches!(pattern.tree().manner(), Manner::Bits { .. })
        };
        for (text, expected) in [
            ("(?=.*autodiscover)(?=.*powershell)", true),
            ("(.*)X-BEResource=(.+)/(.+)~(.+)", true),
            ("(\\.\\./|%2e%2e/){2,}.*etc", true),
            ("^/owa/auth/[a-z0-9]{4,12}\\.js$", true),
            ("jndi:(ldap|rmi|dns)://x", true),
            ("\\bword\\b", false),
            ("a(?:bc)*d", false),
            ("(a)\\1", false),
            ("^(?!www)", false),
        ] {
            assert_eq!(by_bits(text), expected, "{text}");
        }
    }

    /// Patterns as rules have them, made distinct by a number.
    fn typical(number: usize) -> String {
        let shapes = [
            "(?=.*autodiscover#)(?=.*powershell)",
            "(.*)X-BEResource#=(.+)/(.+)~(.+)",
            "^/owa/auth/[^/]+#\\.(?:aspx|ashx)$",
            "^(?!www)(.*)#",
            "(>|%3C)([^s]*s)+cript#.*(<|%3E)",
            "/ecp/.*DDIService\\.svc#/(get|set)[a-z0-9_-]{1,20}$",
            "hssc#=1",
            "^([^.]+)\\.mysite#\\.com$",
            "base64_encode#[^(]*\\([^)]*\\)",
            "(?:^|&)id#=([0-9]+)(?:&|$)",
        ];
        shapes[number % shapes.len()].replace('#', &number.to_string())
    }

    #[test]
    #[ignore = "prints times, which mean something in a release build only"]
    fn figures() {
        let texts: Vec<_> = (0..500).map(typical).collect();
        let options = PatternOptions::default();
        let best = (0..20)
            .map(|_| {
                let begun = Instant::now();
                for text in &texts {
                    Pattern::new(text, PatternSyntax::EcmaScript, options).unwrap();
                }
                begun.elapsed()
            })
            .min();
        println!("500 patterns checked in {best:?}");
        let patterns: Vec<_> = texts
            .iter()
            .map(|text| Pattern::new(text, PatternSyntax::EcmaScript, options).unwrap())
            .collect();
        let input =
            "/owa/service.svc?action=GetFolder&ID=17&EP=1&UA=0&AC=1&id=12;a=1&b=x%20y".repeat(2);
        let mut cache = PatternCache::new();
        for round in ["first", "warm"] {
            let begun = Instant::now();
            let hits = patterns
                .iter()
                .filter(|pattern| pattern.is_match(&mut cache, input.as_bytes()) == Matched::Yes)
                .count();
            let each = begun.elapsed() / 500;
            println!(
                "{round}: {each:?} a pattern, {hits} hits, {} bytes a pattern",
                cache.memory() / 500
            );
        }
        // What an attacker can make of the budgets.
        let dense = r"a.{250}\d";
        let states = new(dense, PatternSyntax::EcmaScript, options).states;
        let mut noise = 1_u32;
        let noise = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if noise >> 31 == 0 { 'a' } else { 'c' }
        });
        let noise: String = noise
            .take((limits::WORK / u64::from(states)) as usize)
            .collect();
        for (text, input) in [
            ("(?:a|a?)+(?=c)d", "a".repeat(40) + "d"),
            ("(a+)-?\\1b", "a".repeat(4_000) + "b"),
            (dense, noise),
        ] {
            let pattern = new(text, PatternSyntax::EcmaScript, options);
            let begun = Instant::now();
            let found = pattern.is_match(&mut cache, input.as_bytes());
            println!(
                "{text} on {} bytes: {found:?} after {:?}",
                input.len(),
                begun.elapsed()
            );
        }
        for (number, pattern) in patterns.iter().enumerate().take(10) {
            let begun = Instant::now();
            for _ in 0..1000 {
                let _ = pattern.is_match(&mut cache, input.as_bytes());
            }
            println!("{}: {:?}", typical(number), begun.elapsed() / 1000);
        }
    }
}
