//! Reads off a pattern's tree which texts an input must hold for the pattern to match.

use super::cost;
use super::strings::{Set, Strings};
use crate::rules::pattern::{Ast, Node, NodeId, Tree};

/// Strings of one set; more of them are no set.
const MAX_STRINGS: usize = 64;

/// Strings that what stands in a row may come to by multiplying choices.
const MAX_PRODUCT: usize = 16;

/// Bytes of one string; a longer one is cut in two.
const MAX_BYTES: usize = super::table::MAX_TEXT;

/// Letters, without regard to case, that a class may stand for to be written out.
const MAX_MEMBERS: u32 = 6;

/// The texts of one pattern after the other, in memory that is kept.
#[derive(Debug, Default)]
pub(crate) struct Literals {
    strings: Strings,
    parts: Vec<Part>,
    /// Units in a row.
    row: Vec<u8>,
}

/// What is known of one part of the pattern.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// Every text the part can take, if they are few: then one of them stands where the part matched.
    exact: Option<Set>,
    /// Texts of which one stands somewhere in what the part takes.
    clause: Option<Choice>,
}

/// Texts that may become the clause of the pattern: those of a [`Clause`](super::Clause), in order.
#[derive(Clone, Copy, Debug)]
struct Choice {
    texts: Set,
    /// How often one of them is expected in honest requests, once that was asked.
    cost: Option<f64>,
}

impl Literals {
    /// The texts of the pattern's best clause, and how often one of them is expected in honest requests; `None` if the
    /// pattern has no clause.
    ///
    /// Only what the first automaton of a search decides counts: an input without one of these texts never brings the
    /// search to running out of steps, so to leave it out changes no verdict.
    pub(super) fn required(&mut self, tree: &Tree) -> Option<(Set, f64)> {
        let ast = tree.ast();
        self.strings.clear();
        self.parts.clear();
        self.parts.resize(ast.len(), Part::default());
        for (id, node) in ast.nodes() {
            // Units are written where they are used, since most nodes are.
            if !matches!(node, Node::Unit(_)) {
                self.parts[id as usize] = self.part(ast, node);
            }
        }
        let whole = self.clause(ast, ast.root());
        let look = tree.first_look().and_then(|sub| self.clause(ast, sub));
        let mut best = self.best(whole, look)?;
        Some((best.texts, best.cost(&self.strings)))
    }

    /// The texts of a set that belongs to the pattern that was read last.
    pub(super) fn texts(&self, set: Set) -> impl Iterator<Item = &[u8]> + Clone {
        self.strings.of(set)
    }

    /// What is known of a node, its children being known.
    fn part(&mut self, ast: &Ast, node: Node) -> Part {
        match node {
            Node::Alternate(kids) => self.alternate(ast, ast.kids(kids)),
            Node::Backreference(_) | Node::Unit(_) => Part::default(),
            // They take nothing. What a look-ahead asks for is left to who knows when it is asked.
            Node::Boundary { .. } | Node::Empty | Node::End | Node::Look { .. } | Node::Start => {
                self.exactly(b"")
            }
            Node::Class(number) => Part {
                exact: self.members(ast, number),
                clause: None,
            },
            Node::Concat(kids) => self.concat(ast, ast.kids(kids)),
            Node::Group { sub, .. } => self.kid(ast, sub),
            Node::Repeat { sub, min, max, .. } => self.repeat(ast, sub, min, max),
        }
    }

    fn kid(&mut self, ast: &Ast, id: NodeId) -> Part {
        match ast.node(id) {
            Node::Unit(unit) => match ascii(unit) {
                Some(byte) => self.exactly(&[byte]),
                None => Part::default(),
            },
            _ => self.parts[id as usize],
        }
    }

    fn exactly(&mut self, text: &[u8]) -> Part {
        let begun = self.strings.begin();
        Part {
            exact: Some(self.strings.push(begun, text)),
            clause: None,
        }
    }

    /// The best of a part's own clause and of what it is exactly.
    fn clause(&mut self, ast: &Ast, id: NodeId) -> Option<Choice> {
        let part = self.kid(ast, id);
        let exact = part.exact.and_then(|set| usable(set, &mut self.strings));
        self.best(part.clause, exact)
    }

    fn best(&self, one: Option<Choice>, other: Option<Choice>) -> Option<Choice> {
        best(one, other, &self.strings)
    }

    fn alternate(&mut self, ast: &Ast, kids: &[NodeId]) -> Part {
        for kid in kids {
            self.parts[*kid as usize] = self.kid(ast, *kid);
        }
        Part {
            exact: self.exact_of_any(kids),
            clause: self.clause_of_any(ast, kids),
        }
    }

    fn exact_of_any(&mut self, kids: &[NodeId]) -> Option<Set> {
        let mut all = self.strings.begin();
        for kid in kids {
            let exact = self.parts[*kid as usize].exact?;
            all = self.strings.extend(all, exact);
            all = self.strings.sort(all);
            if all.count() > MAX_PRODUCT {
                return None;
            }
        }
        Some(all)
    }

    fn clause_of_any(&mut self, ast: &Ast, kids: &[NodeId]) -> Option<Choice> {
        let mut all = self.strings.begin();
        for kid in kids {
            let own = self.clause(ast, *kid)?;
            all = self.strings.extend(all, own.texts);
            all = self.strings.sort(all);
            if all.count() > MAX_STRINGS {
                return None;
            }
        }
        Some(Choice::new(all))
    }

    fn concat(&mut self, ast: &Ast, kids: &[NodeId]) -> Part {
        let Self {
            strings,
            parts,
            row,
        } = self;
        let mut run = Run::new(strings);
        row.clear();
        for kid in kids {
            if let Node::Unit(unit) = ast.node(*kid)
                && let Some(byte) = ascii(unit)
            {
                row.push(byte);
                continue;
            }
            run.append(row, strings);
            row.clear();
            let part = parts[*kid as usize];
            match part.exact {
                Some(set) if set.count() == 1 => {
                    row.extend(strings.of(set).flatten());
                    if part.clause.is_some() {
                        run.append(row, strings);
                        row.clear();
                    }
                }
                Some(set) => run.multiply(set, strings),
                None => run.end(strings),
            }
            run.offer(part.clause, strings);
        }
        run.append(row, strings);
        run.finish(strings)
    }

    fn repeat(&mut self, ast: &Ast, sub: NodeId, min: u32, max: u32) -> Part {
        let part = self.kid(ast, sub);
        if min == 0 {
            let exact = part.exact.filter(|_| max == 1);
            return Part {
                exact: exact.and_then(|set| self.or_nothing(set)),
                clause: None,
            };
        }
        let Some(exact) = part.exact else {
            return part;
        };
        let Self { strings, row, .. } = self;
        let is_single = exact.count() == 1;
        row.clear();
        if is_single {
            row.extend(strings.of(exact).flatten());
        }
        let mut run = Run::new(strings);
        let mut rounds = 0;
        while rounds < min && !run.broken {
            if is_single {
                run.append(row, strings);
            } else {
                run.multiply(exact, strings);
            }
            rounds += 1;
        }
        if max != min {
            run.end(strings);
        }
        run.offer(part.clause, strings);
        run.finish(strings)
    }

    /// A set and the empty string.
    fn or_nothing(&mut self, set: Set) -> Option<Set> {
        let begun = self.strings.begin();
        let both = self.strings.extend(begun, set);
        let both = self.strings.push(both, b"");
        let both = self.strings.sort(both);
        (both.count() <= MAX_PRODUCT).then_some(both)
    }

    /// The members of a small class in lower case.
    fn members(&mut self, ast: &Ast, number: u32) -> Option<Set> {
        const UPPER: u128 = ((1 << 26) - 1) << b'A';
        let class = ast.class(number);
        let ascii = class.ascii();
        let mut left = ascii & !UPPER | (ascii & UPPER) << 32;
        // A class without members never matches; no clause says so.
        if !class.wide().is_empty() || left == 0 || left.count_ones() > MAX_MEMBERS {
            return None;
        }
        let mut members = self.strings.begin();
        while left != 0 {
            let byte = left.trailing_zeros() as u8;
            members = self.strings.push(members, &[byte]);
            left &= left - 1;
        }
        Some(members)
    }
}

impl Choice {
    const fn new(texts: Set) -> Self {
        Self { texts, cost: None }
    }

    fn cost(&mut self, strings: &Strings) -> f64 {
        let cost = || cost::of_texts(strings.of(self.texts));
        *self.cost.get_or_insert_with(cost)
    }
}

/// What stands in a row, as far as it is written out: always the set of strings that was begun last.
struct Run {
    set: Set,
    /// The length of the longest.
    longest: usize,
    best: Option<Choice>,
    /// Something was not, so the strings are not all there is.
    broken: bool,
}

impl Run {
    fn new(strings: &mut Strings) -> Self {
        let begun = strings.begin();
        Self {
            set: strings.push(begun, b""),
            longest: 0,
            best: None,
            broken: false,
        }
    }

    fn append(&mut self, mut text: &[u8], strings: &mut Strings) {
        while !text.is_empty() {
            if self.longest == MAX_BYTES {
                self.end(strings);
            }
            let fits = text.len().min(MAX_BYTES - self.longest);
            let (head, rest) = text.split_at(fits);
            strings.append(self.set, head);
            self.longest += fits;
            text = rest;
        }
    }

    fn multiply(&mut self, tails: Set, strings: &mut Strings) {
        let longest = strings.of(tails).map(<[u8]>::len).max().unwrap_or(0);
        if self.set.count() * tails.count() > MAX_PRODUCT || self.longest + longest > MAX_BYTES {
            self.end(strings);
        }
        self.set = strings.multiply(self.set, tails);
        self.longest += longest;
    }

    /// Takes what was written out so far for a clause, and begins anew.
    fn end(&mut self, strings: &mut Strings) {
        let clause = usable(self.set, strings);
        self.offer(clause, strings);
        let best = self.best;
        *self = Self {
            best,
            broken: true,
            ..Self::new(strings)
        };
    }

    fn offer(&mut self, clause: Option<Choice>, strings: &Strings) {
        self.best = best(self.best, clause, strings);
    }

    fn finish(mut self, strings: &mut Strings) -> Part {
        if self.broken {
            self.end(strings);
        }
        Part {
            exact: (!self.broken).then_some(self.set),
            clause: self.best,
        }
    }
}

/// A set as a clause; one with an empty string asks for nothing, and one without any string cannot be told from it.
fn usable(set: Set, strings: &mut Strings) -> Option<Choice> {
    let is_usable =
        (1..=MAX_STRINGS).contains(&set.count()) && !strings.of(set).any(<[u8]>::is_empty);
    is_usable.then(|| Choice::new(strings.sort(set)))
}

fn best(one: Option<Choice>, other: Option<Choice>, strings: &Strings) -> Option<Choice> {
    let (Some(mut first), Some(mut second)) = (one, other) else {
        return one.or(other);
    };
    let is_better = second.cost(strings) < first.cost(strings);
    Some(if is_better { second } else { first })
}

fn ascii(unit: u16) -> Option<u8> {
    let byte = u8::try_from(unit).ok().filter(u8::is_ascii)?;
    Some(byte.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::pattern::{Pattern, PatternOptions, PatternSyntax};

    fn clause(text: &str) -> String {
        let pattern = Pattern::new(text, PatternSyntax::EcmaScript, PatternOptions::default());
        let mut literals = Literals::default();
        let Some((texts, _)) = literals.required(&pattern.unwrap().tree()) else {
            return String::new();
        };
        let texts = literals.texts(texts).map(String::from_utf8_lossy);
        texts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_every_match_holds_is_found() {
        for (text, expected) in [
            ("PowerShell", "powershell"),
            (".*", ""),
            ("(.*)X-Resource=(.+)/(.+)~(.+)", "x-resource="),
            ("(?=.*aabbcc)(?=.*ddeeffgg)", "aabbcc"),
            ("(?!.*aabbcc)(?=.*ddeeffgg)", ""),
            ("(?!.*aabbcc)zzyyxx", "zzyyxx"),
            ("aabb(?=ccdd)xxyy", "aabbxxyy"),
            ("ab(?:cd|ef)gh", "abcdgh abefgh"),
            ("(?:long|longer|x)?", ""),
            ("(?:abcd)?efgh", "abcdefgh efgh"),
            ("(?:abcd)*efgh", "efgh"),
            ("(?:ab){3}", "ababab"),
            ("(?:ab){2,}", "abab"),
            ("(?:ab.*)+", "ab"),
            ("x[ab]y", "xay xby"),
            ("xxxx[^a]yyy", "xxxx"),
            ("\\.(asmx|svc)$", ".asmx .svc"),
            ("(jkl|.)mnop", "mnop"),
            ("(jkl|.*)", ""),
            ("caf\u{e9}zzzzz", "zzzzz"),
            ("(abc)\\1defg", "defg"),
            ("[]abcd", "abcd"),
            ("(a|b|c|d)(a|b|c|d)(a|b|c|d)wxyz", "awxyz bwxyz cwxyz dwxyz"),
            ("(?:(?=x)abcd|efgh)", "abcd efgh"),
            ("", ""),
        ] {
            assert_eq!(clause(text), expected, "{text}");
        }
    }

    #[test]
    fn strings_stay_within_their_limits() {
        let long = "a".repeat(MAX_BYTES + 1);
        assert_eq!(clause(&long[1..]).len(), MAX_BYTES);
        assert!(clause(&long).len() <= MAX_BYTES);
        let choices = |count: usize| {
            let words: Vec<_> = (0..count)
                .map(|number| format!("word{number:03}.*"))
                .collect();
            clause(&words.join("|"))
        };
        assert_eq!(choices(MAX_STRINGS).split(' ').count(), MAX_STRINGS);
        assert_eq!(choices(MAX_STRINGS + 1), "");
        assert_eq!(clause("[abcdef]").split(' ').count(), MAX_MEMBERS as usize);
        assert_eq!(clause("[abcdefg]"), "");
    }
}
