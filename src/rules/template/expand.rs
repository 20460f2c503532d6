//! Expands bound text for one message.

use std::collections::HashMap;
use std::ops::Range;

use super::bind::{Bound, BoundPiece};
use super::function::lower;
use super::variable::Variable;

/// How long an expanded text may become, in octets; a chain of rules could double one without end otherwise.
pub(crate) const MAX_EXPANDED: usize = 1 << 20;

/// What variables read.
pub(crate) trait Sight {
    /// Appends the variable's value.
    fn read(&self, variable: &Variable, out: &mut Vec<u8>);
}

/// The text of captured groups, `{R:n}` or `{C:n}`.
#[derive(Debug, Default)]
pub(crate) struct Captures {
    text: Vec<u8>,
    spans: Vec<Range<usize>>,
}

impl Captures {
    /// No groups.
    pub(crate) const NONE: Self = Self {
        text: Vec::new(),
        spans: Vec::new(),
    };

    /// Forgets every group.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
    }

    /// Appends one group; one that took no part in the match is empty.
    pub(crate) fn push(&mut self, text: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.spans.push(start..self.text.len());
    }

    /// Takes the groups of the condition that matched after these.
    ///
    /// Only the last condition's groups count, unless all are tracked: then the groups of each follow those before,
    /// and of the whole matches only the first has a number (IIS's own example; ASP.NET Core counts otherwise).
    pub(crate) fn follow(&mut self, matched: &Self, tracks_all: bool) {
        let skipped = if tracks_all && self.len() > 0 {
            1
        } else {
            self.clear();
            0
        };
        for group in skipped..matched.len() {
            self.push(matched.group(group));
        }
    }

    /// The text of a group; empty for one that does not exist.
    pub(crate) fn group(&self, number: usize) -> &[u8] {
        self.spans
            .get(number)
            .map_or(&[], |span| &self.text[span.clone()])
    }

    /// How many groups there are, the whole match included.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }
}

/// A rewrite map, with its keys as they are compared.
#[derive(Debug)]
pub(crate) struct RewriteMap {
    ignore_case: bool,
    default: Vec<u8>,
    values: HashMap<Vec<u8>, Vec<u8>>,
}

impl RewriteMap {
    /// Of keys that compare equal the first counts.
    pub(crate) fn new<'e>(
        ignore_case: bool,
        default: &str,
        entries: impl IntoIterator<Item = (&'e str, &'e str)>,
    ) -> Self {
        let mut map = Self {
            ignore_case,
            default: default.into(),
            values: HashMap::new(),
        };
        for (key, value) in entries {
            let mut key = key.as_bytes().to_vec();
            if ignore_case {
                lower(&mut key, 0);
            }
            map.values.entry(key).or_insert_with(|| value.into());
        }
        map
    }

    /// About how many bytes it occupies.
    pub(crate) fn memory(&self) -> usize {
        let entries = self.values.iter();
        let texts = entries.map(|(key, value)| key.len() + value.len());
        // A table has room for twice as many.
        texts.sum::<usize>() + 2 * self.values.len() * size_of::<(Vec<u8>, Vec<u8>)>()
    }

    /// Replaces the key that stands in `buffer` from `start` on by its value.
    fn apply(&self, buffer: &mut Vec<u8>, start: usize) {
        if self.ignore_case {
            lower(buffer, start);
        }
        let value = self.values.get(&buffer[start..]).unwrap_or(&self.default);
        buffer.truncate(start);
        buffer.extend_from_slice(value);
    }
}

/// The text would be longer than [`MAX_EXPANDED`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooLong;

/// What a text is expanded with.
pub(crate) struct Expansion<'a> {
    pub(crate) sight: &'a dyn Sight,
    pub(crate) maps: &'a [RewriteMap],
    pub(crate) rule: &'a Captures,
    pub(crate) conditions: &'a Captures,
}

impl Bound {
    /// The expanded text where it stands already, by what `lend` knows of variables; `None` if it has to be expanded.
    pub(crate) fn lent<'v>(
        &self,
        lend: &impl Fn(&Variable) -> Option<&'v [u8]>,
    ) -> Option<&'v [u8]> {
        match &self.pieces[..] {
            [BoundPiece::Call { function, argument }] => {
                let text = argument.lent(lend)?;
                function.keeps(text).then_some(text)
            }
            [BoundPiece::Variable(variable)] => {
                lend(variable).filter(|text| text.len() <= MAX_EXPANDED)
            }
            _ => None,
        }
    }
}

impl Expansion<'_> {
    /// Appends the expanded text.
    pub(crate) fn expand(&self, text: &Bound, out: &mut Vec<u8>) -> Result<(), TooLong> {
        for piece in &text.pieces {
            let start = out.len();
            match piece {
                BoundPiece::Call { function, argument } => {
                    self.expand(argument, out)?;
                    function.apply(out, start);
                }
                BoundPiece::ConditionGroup(group) => {
                    out.extend_from_slice(self.conditions.group(*group));
                }
                BoundPiece::Literal(text) => out.extend_from_slice(text),
                BoundPiece::Map { map, argument } => {
                    self.expand(argument, out)?;
                    self.maps[*map].apply(out, start);
                }
                BoundPiece::RuleGroup(group) => out.extend_from_slice(self.rule.group(*group)),
                BoundPiece::Variable(variable) => self.sight.read(variable, out),
            }
            if out.len() > MAX_EXPANDED {
                return Err(TooLong);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::rules::template::{Scope, Stage, Template};

    struct Host<'a>(&'a [u8]);

    impl Sight for Host<'_> {
        fn read(&self, _: &Variable, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0);
        }
    }

    fn expand(text: &str, host: &[u8]) -> Result<Vec<u8>, TooLong> {
        let scope = Scope {
            stage: Stage::Request,
            maps: &BTreeMap::from([("m".into(), 0), ("exact".into(), 1)]),
            custom: &BTreeSet::new(),
            has_document_root: false,
        };
        let bound = Template::parse(text).unwrap().bind(&scope).unwrap();
        let maps = [
            RewriteMap::new(true, "none", [("Key", "first {R:0}"), ("KEY", "second")]),
            RewriteMap::new(false, "", [("Key", "1"), ("KEY", "2")]),
        ];
        let (mut rule, conditions) = (Captures::default(), Captures::default());
        rule.push(b"whole");
        rule.push(b"\xffHOST");
        let expansion = Expansion {
            sight: &Host(host),
            maps: &maps,
            rule: &rule,
            conditions: &conditions,
        };
        let mut out = b"kept:".to_vec();
        expansion
            .expand(&bound, &mut out)
            .map(|()| out.split_off(5))
    }

    #[test]
    fn pieces_are_replaced() {
        for (text, expected) in [
            ("a{HTTP_HOST}b", &b"aKeYb"[..]),
            ("{m:{HTTP_HOST}}", b"first {R:0}"),
            ("{exact:{HTTP_HOST}}", b""),
            ("{exact:Key}{exact:KEY}", b"12"),
            ("{m:other}", b"none"),
            ("{ToLower:{R:1}}", b"\xffhost"),
            ("<{R:2}{C:0}>", b"<>"),
        ] {
            assert_eq!(expand(text, b"KeY").unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn length_is_bounded() {
        let host = vec![b'a'; MAX_EXPANDED / 2 - 3];
        assert!(expand("{HTTP_HOST}{HTTP_HOST}", &host).is_ok());
        assert_eq!(expand("{HTTP_HOST}{HTTP_HOST}ab", &host), Err(TooLong));
    }
}
