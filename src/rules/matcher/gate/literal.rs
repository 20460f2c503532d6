//! Reads off a pattern's tree which texts an input must hold for the pattern to match.

use super::cost;
use crate::rules::pattern::{Ast, Node, NodeId, Tree};

/// Strings of one set; more of them are no set.
const MAX_STRINGS: usize = 64;

/// Strings that what stands in a row may come to by multiplying choices.
const MAX_PRODUCT: usize = 16;

/// Bytes of one string; a longer one is cut in two.
const MAX_BYTES: usize = super::table::MAX_TEXT;

/// Letters, without regard to case, that a class may stand for to be written out.
const MAX_MEMBERS: usize = 6;

/// Texts in lower case of which one must be in the input, without regard to the case of ASCII letters.
///
/// None is empty and none holds a byte beyond ASCII: an ASCII text is in the input exactly if it is in the form that
/// patterns search, and no letter beyond ASCII equals one of ASCII (ES5.1 section 15.10.2.8).
pub(super) type Clause = Vec<Vec<u8>>;

/// The best clause of a pattern, if it has one.
///
/// Only what the first automaton of a search decides counts: an input without one of these texts never brings the
/// search to running out of steps, so to leave it out changes no verdict.
pub(super) fn required(tree: &Tree) -> Option<Clause> {
    let ast = tree.ast();
    let mut parts = Parts::of(ast);
    let whole = parts.clause(ast, ast.root());
    let look = tree.first_look().and_then(|sub| parts.clause(ast, sub));
    best(whole, look)
}

/// What is known of each part.
struct Parts {
    all: Vec<Part>,
}

#[derive(Debug, Default)]
struct Part {
    /// Every text the part can take, if they are few: then one of them stands where the part matched.
    exact: Option<Vec<Vec<u8>>>,
    clause: Option<Clause>,
}

impl Parts {
    fn of(ast: &Ast) -> Self {
        let mut parts = Self {
            all: Vec::with_capacity(ast.len()),
        };
        for (_, node) in ast.nodes() {
            let part = parts.part(ast, node);
            parts.all.push(part);
        }
        parts
    }

    /// What is known of a node; what was known of its children is used up, since each has one parent.
    fn part(&mut self, ast: &Ast, node: Node) -> Part {
        match node {
            Node::Alternate(kids) => self.alternate(ast, ast.kids(kids)),
            Node::Backreference(_) => Part::default(),
            // They take nothing. What a look-ahead asks for is left to who knows when it is asked.
            Node::Boundary { .. } | Node::Empty | Node::End | Node::Look { .. } | Node::Start => {
                Part::exactly(vec![Vec::new()])
            }
            Node::Class(number) => Part {
                exact: members(ast, number),
                clause: None,
            },
            Node::Concat(kids) => self.concat(ast, ast.kids(kids)),
            Node::Group { sub, .. } => self.kid(ast, sub),
            Node::Repeat { sub, min, max, .. } => self.repeat(ast, sub, min, max),
            // Written where it is used, since most nodes are units.
            Node::Unit(_) => Part::default(),
        }
    }

    fn kid(&mut self, ast: &Ast, id: NodeId) -> Part {
        match ast.node(id) {
            Node::Unit(unit) => Part {
                exact: ascii(unit).map(|byte| vec![vec![byte]]),
                clause: None,
            },
            _ => std::mem::take(&mut self.all[id as usize]),
        }
    }

    /// The best of a part's own clause and of what it is exactly.
    fn clause(&mut self, ast: &Ast, id: NodeId) -> Option<Clause> {
        let part = self.kid(ast, id);
        best(part.clause, part.exact.and_then(usable))
    }

    fn alternate(&mut self, ast: &Ast, kids: &[NodeId]) -> Part {
        let mut exact = Some(Vec::new());
        let mut clause = Some(Vec::new());
        for kid in kids {
            let part = self.kid(ast, *kid);
            let own = best(part.clause, part.exact.clone().and_then(usable));
            exact = union(exact, part.exact, MAX_PRODUCT);
            clause = union(clause, own, MAX_STRINGS);
            if exact.is_none() && clause.is_none() {
                break;
            }
        }
        Part { exact, clause }
    }

    fn concat(&mut self, ast: &Ast, kids: &[NodeId]) -> Part {
        let mut run = Run::default();
        for kid in kids {
            match ast.node(*kid) {
                Node::Unit(unit) => match ascii(unit) {
                    Some(byte) => run.push(byte),
                    None => run.end(),
                },
                _ => {
                    let part = std::mem::take(&mut self.all[*kid as usize]);
                    match &part.exact {
                        Some(strings) => run.multiply(strings),
                        None => run.end(),
                    }
                    if let Some(clause) = part.clause {
                        run.offer(clause);
                    }
                }
            }
        }
        run.finish()
    }

    fn repeat(&mut self, ast: &Ast, sub: NodeId, min: u32, max: u32) -> Part {
        let part = self.kid(ast, sub);
        if min == 0 {
            let exact = part.exact.filter(|_| max == 1);
            return Part {
                exact: union(exact, Some(vec![Vec::new()]), MAX_PRODUCT),
                clause: None,
            };
        }
        let Some(strings) = &part.exact else {
            return Part {
                exact: None,
                clause: part.clause,
            };
        };
        let mut run = Run::default();
        let mut rounds = 0;
        while rounds < min && !run.broken {
            run.multiply(strings);
            rounds += 1;
        }
        if max != min {
            run.end();
        }
        if let Some(clause) = part.clause {
            run.offer(clause);
        }
        run.finish()
    }
}

impl Part {
    fn exactly(strings: Vec<Vec<u8>>) -> Self {
        Self {
            exact: Some(strings),
            clause: None,
        }
    }
}

/// What stands in a row, as far as it is written out.
struct Run {
    strings: Vec<Vec<u8>>,
    best: Option<Clause>,
    /// Something was not, so the strings are not all there is.
    broken: bool,
}

/// The empty string alone, with room for most texts that follow.
fn empty() -> Vec<Vec<u8>> {
    vec![Vec::with_capacity(32)]
}

impl Default for Run {
    fn default() -> Self {
        Self {
            strings: empty(),
            best: None,
            broken: false,
        }
    }
}

impl Run {
    fn push(&mut self, byte: u8) {
        if self.strings.iter().any(|string| string.len() == MAX_BYTES) {
            self.end();
        }
        for string in &mut self.strings {
            string.push(byte);
        }
    }

    fn multiply(&mut self, strings: &[Vec<u8>]) {
        if let [string] = strings {
            for byte in string {
                self.push(*byte);
            }
            return;
        }
        let longest = |strings: &[Vec<u8>]| strings.iter().map(Vec::len).max().unwrap_or(0);
        if self.strings.len() * strings.len() > MAX_PRODUCT
            || longest(&self.strings) + longest(strings) > MAX_BYTES
        {
            self.end();
        }
        let heads = std::mem::take(&mut self.strings);
        for head in &heads {
            for tail in strings {
                self.strings.push([head.as_slice(), tail].concat());
            }
        }
    }

    /// Takes what was written out so far for a clause, and begins anew.
    fn end(&mut self) {
        self.broken = true;
        let strings = std::mem::replace(&mut self.strings, empty());
        if let Some(clause) = usable(strings) {
            self.offer(clause);
        }
    }

    fn offer(&mut self, clause: Clause) {
        self.best = best(self.best.take(), Some(clause));
    }

    fn finish(mut self) -> Part {
        if self.broken {
            self.end();
            return Part {
                exact: None,
                clause: self.best,
            };
        }
        Part {
            exact: Some(self.strings),
            clause: self.best,
        }
    }
}

/// A set as a clause; one with an empty string asks for nothing, and one without any string cannot be told from it.
fn usable(mut strings: Vec<Vec<u8>>) -> Option<Clause> {
    if strings.is_empty() || strings.len() > MAX_STRINGS || strings.iter().any(Vec::is_empty) {
        return None;
    }
    strings.sort_unstable();
    strings.dedup();
    Some(strings)
}

fn union(
    one: Option<Vec<Vec<u8>>>,
    other: Option<Vec<Vec<u8>>>,
    most: usize,
) -> Option<Vec<Vec<u8>>> {
    let mut strings = one?;
    strings.extend(other?);
    strings.sort_unstable();
    strings.dedup();
    (strings.len() <= most).then_some(strings)
}

fn best(one: Option<Clause>, other: Option<Clause>) -> Option<Clause> {
    match (one, other) {
        (Some(one), Some(other)) if cost::of_clause(&other) < cost::of_clause(&one) => Some(other),
        (Some(one), _) => Some(one),
        (None, other) => other,
    }
}

/// The members of a small class in lower case.
fn members(ast: &Ast, number: u32) -> Option<Vec<Vec<u8>>> {
    let set = ast.class(number);
    if !set.wide().is_empty() {
        return None;
    }
    let mut members = Vec::new();
    for (first, last) in set.ascii_ranges() {
        for byte in first..=last {
            let member = vec![byte.to_ascii_lowercase()];
            if !members.contains(&member) {
                members.push(member);
            }
            if members.len() > MAX_MEMBERS {
                return None;
            }
        }
    }
    // A class without members never matches; no clause says so.
    (!members.is_empty()).then_some(members)
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
        let Some(clause) = required(&pattern.unwrap().tree()) else {
            return String::new();
        };
        let texts = clause.iter().map(|text| String::from_utf8_lossy(text));
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
        assert_eq!(clause("[abcdef]").split(' ').count(), MAX_MEMBERS);
        assert_eq!(clause("[abcdefg]"), "");
    }
}
