//! The structure of a pattern: branches, terms, groups and quantifiers (ES5.1 section 15.10.1, B.1.4 of later
//! editions for what browsers accept beyond it).

use crate::rules::pattern::ast::{Ast, NO_LIMIT, Node, NodeId};
use crate::rules::pattern::error::{Kind, PatternError};
use crate::rules::pattern::limits;
use crate::rules::pattern::unit_set::UnitSet;

/// The tree of one pattern.
#[cfg(test)]
pub(in crate::rules::pattern) fn parse(
    text: &str,
    ignore_case: bool,
    dot_matches_line_breaks: bool,
) -> Parsed<Ast> {
    let mut ast = Ast::default();
    ast.begin(ignore_case);
    let root = Parser::default().parse(text, dot_matches_line_breaks, &mut ast)?;
    ast.set_root(root);
    Ok(ast)
}

pub(super) type Parsed<T> = Result<T, PatternError>;

/// Reads one pattern after the other, in memory that it keeps.
#[derive(Debug, Default)]
pub(in crate::rules::pattern) struct Parser {
    /// The text as the standard reads it.
    units: Vec<u16>,
    pub(super) at: usize,
    pub(super) ast: Ast,
    dot_matches_line_breaks: bool,
    /// The node of the last `.`, once one was met.
    dot: Option<NodeId>,
    /// Capturing groups in the whole text, which decides what `\12` means; counted when that is asked.
    groups: Option<u32>,
    /// By the number of a group less one: whether its `)` was read.
    closed: Vec<bool>,
    open: Vec<Open>,
    /// The terms of the branch that is being read, below them those of the branches around it.
    terms: Vec<NodeId>,
    /// Likewise the finished branches of the groups that are open.
    branches: Vec<NodeId>,
}

/// A group whose end was not read yet.
#[derive(Debug)]
struct Open {
    kind: GroupKind,
    at: usize,
    terms: usize,
    branches: usize,
}

#[derive(Debug)]
enum GroupKind {
    Capture(u32),
    Look { negated: bool },
    Plain,
}

impl Parser {
    /// Reads the text of a pattern into an empty tree; its root.
    pub(in crate::rules::pattern) fn parse(
        &mut self,
        text: &str,
        dot_matches_line_breaks: bool,
        ast: &mut Ast,
    ) -> Parsed<NodeId> {
        if text.len() > limits::PATTERN_BYTES {
            return Err(PatternError::new(limits::PATTERN_BYTES, Kind::TooLong));
        }
        self.begin(text);
        self.dot_matches_line_breaks = dot_matches_line_breaks;
        std::mem::swap(&mut self.ast, ast);
        let read = self.pattern();
        std::mem::swap(&mut self.ast, ast);
        read
    }

    fn begin(&mut self, text: &str) {
        self.units.clear();
        if text.is_ascii() {
            self.units.extend(text.bytes().map(u16::from));
        } else {
            self.units.extend(text.encode_utf16());
        }
        self.at = 0;
        self.dot = None;
        self.groups = None;
        self.closed.clear();
        self.open.clear();
        self.terms.clear();
        self.branches.clear();
    }

    fn pattern(&mut self) -> Parsed<NodeId> {
        loop {
            self.plain_units();
            let Some(unit) = self.peek() else {
                break;
            };
            self.term(unit)?;
        }
        if let Some(open) = self.open.last() {
            return Err(self.error(open.at, Kind::GroupNotClosed));
        }
        Ok(self.end_disjunction(0, 0))
    }

    /// Reads the units that stand for themselves, up to the next of another meaning or with a quantifier.
    fn plain_units(&mut self) {
        let rest = &self.units[self.at..];
        let plain = rest.iter().take_while(|unit| is_plain(**unit)).count();
        let plain = match rest.get(plain).map(|next| ascii(*next)) {
            Some(b'*' | b'+' | b'?' | b'{') => plain.saturating_sub(1),
            _ => plain,
        };
        let nodes = self.ast.push_units(&rest[..plain]);
        self.terms.extend(nodes);
        self.at += plain;
    }

    fn term(&mut self, unit: u16) -> Parsed<()> {
        let start = self.at;
        match ascii(unit) {
            b'|' => {
                self.at += 1;
                self.end_branch();
            }
            b'(' => self.open_group()?,
            b')' => self.close_group()?,
            b'^' => self.assertion(Node::Start, 1),
            b'$' => self.assertion(Node::End, 1),
            b'*' | b'+' | b'?' => return Err(self.error(start, Kind::NothingToRepeat)),
            // A brace that does not begin a count stands for itself.
            b'{' if self.count().is_some() => {
                return Err(self.error(start, Kind::NothingToRepeat));
            }
            b'.' => {
                self.at += 1;
                let node = self.dot();
                self.atom(node)?;
            }
            b'[' => {
                let set = self.class()?;
                let node = self.ast.push_class(set);
                self.atom(node)?;
            }
            b'\\' => self.escape_term()?,
            _ => {
                self.at += 1;
                let node = self.ast.push(Node::Unit(unit));
                self.atom(node)?;
            }
        }
        Ok(())
    }

    /// What `.` stands for: the same class each time.
    fn dot(&mut self) -> NodeId {
        let node = match self.dot {
            Some(last) => self.ast.push(self.ast.node(last)),
            None if self.dot_matches_line_breaks => self.ast.push_class(UnitSet::all()),
            None => self.ast.push_class(UnitSet::within_line()),
        };
        self.dot = Some(node);
        node
    }

    /// An escape outside a class; the standard has assertions and back-references here.
    fn escape_term(&mut self) -> Parsed<()> {
        match ascii(self.unit_at(self.at + 1)) {
            b'b' => self.assertion(Node::Boundary { negated: false }, 2),
            b'B' => self.assertion(Node::Boundary { negated: true }, 2),
            b'1'..=b'9' if let Some((number, end)) = self.reference() => {
                self.at = end;
                // Inside its own group, or before it, a reference can only find the group without a match.
                let closed = self.closed.get(number as usize - 1) == Some(&true);
                let node = if closed {
                    self.ast.push(Node::Backreference(number))
                } else {
                    self.ast.push(Node::Empty)
                };
                self.atom(node)?;
            }
            _ => {
                let node = match self.escape(false)? {
                    // Each of them holds either case of its letters.
                    super::escape::Escape::Set(set) => self.ast.push_class(set),
                    super::escape::Escape::Unit(unit) => self.ast.push(Node::Unit(unit)),
                };
                self.atom(node)?;
            }
        }
        Ok(())
    }

    /// The number of an existing group in decimal digits after a backslash, and where the digits end.
    fn reference(&mut self) -> Option<(u32, usize)> {
        let mut end = self.at + 1;
        let mut number: u32 = 0;
        while let digit @ b'0'..=b'9' = ascii(self.unit_at(end)) {
            number = number
                .saturating_mul(10)
                .saturating_add(u32::from(digit - b'0'));
            end += 1;
        }
        let units = &self.units;
        let groups = self.groups.get_or_insert_with(|| count_groups(units));
        (number <= *groups).then_some((number, end))
    }

    fn assertion(&mut self, node: Node, length: usize) {
        self.at += length;
        let node = self.ast.push(node);
        self.terms.push(node);
    }

    /// Appends a term that a quantifier may follow, with its quantifier.
    fn atom(&mut self, node: NodeId) -> Parsed<()> {
        let start = self.at;
        let Some((min, max, end)) = self.quantifier() else {
            self.terms.push(node);
            return Ok(());
        };
        self.at = end;
        let greedy = ascii(self.unit_at(self.at)) != b'?';
        if !greedy {
            self.at += 1;
        }
        if max < min {
            return Err(self.error(start, Kind::RepeatOrder));
        }
        if min > limits::REPEAT || (max > limits::REPEAT && max != NO_LIMIT) {
            return Err(self.error(start, Kind::TooManyRepeats));
        }
        let node = match self.ast.node(node) {
            // What takes no input cannot be repeated: an optional round of it fails the empty check of
            // ES5.1 section 15.10.2.5, and a demanded one is the same each time.
            Node::Look { .. } | Node::Empty if min == 0 => self.ast.push(Node::Empty),
            Node::Look { .. } | Node::Empty => node,
            _ => self.ast.push(Node::Repeat {
                sub: node,
                min,
                max,
                greedy,
            }),
        };
        self.terms.push(node);
        Ok(())
    }

    /// The counts of a quantifier that begins here, and where it ends.
    fn quantifier(&self) -> Option<(u32, u32, usize)> {
        let end = self.at + 1;
        match ascii(self.unit_at(self.at)) {
            b'*' => Some((0, NO_LIMIT, end)),
            b'+' => Some((1, NO_LIMIT, end)),
            b'?' => Some((0, 1, end)),
            b'{' => self.count(),
            _ => None,
        }
    }

    /// `{n}`, `{n,}` or `{n,m}` with its end.
    fn count(&self) -> Option<(u32, u32, usize)> {
        let (min, end) = self.decimal(self.at + 1)?;
        match ascii(self.unit_at(end)) {
            b'}' => Some((min, min, end + 1)),
            b',' if ascii(self.unit_at(end + 1)) == b'}' => Some((min, NO_LIMIT, end + 2)),
            b',' => {
                let (max, end) = self.decimal(end + 1)?;
                (ascii(self.unit_at(end)) == b'}').then_some((min, max, end + 1))
            }
            _ => None,
        }
    }

    /// A decimal number, one below [`NO_LIMIT`] when it is too large to hold.
    fn decimal(&self, start: usize) -> Option<(u32, usize)> {
        let mut end = start;
        let mut number: u32 = 0;
        while let digit @ b'0'..=b'9' = ascii(self.unit_at(end)) {
            number = number
                .saturating_mul(10)
                .saturating_add(u32::from(digit - b'0'));
            end += 1;
        }
        (end > start).then_some((number.min(NO_LIMIT - 1), end))
    }

    fn open_group(&mut self) -> Parsed<()> {
        let start = self.at;
        let next = [1, 2, 3].map(|ahead| ascii(self.unit_at(start + ahead)));
        let (kind, length) = match next {
            [b'?', b':', _] => (GroupKind::Plain, 3),
            [b'?', b'=', _] => (GroupKind::Look { negated: false }, 3),
            [b'?', b'!', _] => (GroupKind::Look { negated: true }, 3),
            [b'?', b'<', b'=' | b'!'] => return Err(self.error(start, Kind::Lookbehind)),
            [b'?', b'<', _] => return Err(self.error(start, Kind::NamedGroup)),
            [b'?', b'-' | b'a'..=b'z', _] => return Err(self.error(start, Kind::InlineFlags)),
            [b'?', ..] => return Err(self.error(start, Kind::UnknownGroup)),
            _ => {
                if self.closed.len() >= limits::GROUPS as usize {
                    return Err(self.error(start, Kind::TooManyGroups));
                }
                self.closed.push(false);
                (GroupKind::Capture(self.closed.len() as u32), 1)
            }
        };
        if self.open.len() >= limits::NESTING {
            return Err(self.error(start, Kind::TooNested));
        }
        self.at += length;
        self.open.push(Open {
            kind,
            at: start,
            terms: self.terms.len(),
            branches: self.branches.len(),
        });
        Ok(())
    }

    fn close_group(&mut self) -> Parsed<()> {
        let Some(open) = self.open.pop() else {
            return Err(self.error(self.at, Kind::GroupNotOpened));
        };
        self.at += 1;
        let sub = self.end_disjunction(open.terms, open.branches);
        let node = match open.kind {
            GroupKind::Capture(index) => {
                self.closed[index as usize - 1] = true;
                self.ast.push(Node::Group { sub, index })
            }
            GroupKind::Look { negated } => self.ast.push(Node::Look { sub, negated }),
            GroupKind::Plain => sub,
        };
        self.atom(node)
    }

    fn end_branch(&mut self) {
        let from = self.open.last().map_or(0, |open| open.terms);
        let branch = self.ast.push_concat(&self.terms[from..]);
        self.terms.truncate(from);
        self.branches.push(branch);
    }

    /// Makes one node of the branches and terms above these marks.
    fn end_disjunction(&mut self, terms: usize, branches: usize) -> NodeId {
        let last = self.ast.push_concat(&self.terms[terms..]);
        self.terms.truncate(terms);
        self.branches.push(last);
        let node = self.ast.push_alternate(&self.branches[branches..]);
        self.branches.truncate(branches);
        node
    }

    /// Applies the case option to a set of units.
    pub(super) fn folded(&self, mut set: UnitSet) -> UnitSet {
        if self.ast.ignore_case() {
            set.close_over_case();
        }
        set
    }

    pub(super) fn peek(&self) -> Option<u16> {
        self.units.get(self.at).copied()
    }

    /// How many units there are.
    pub(super) fn end(&self) -> usize {
        self.units.len()
    }

    /// The unit at this place; U+FFFF, which no syntax uses, behind the end.
    pub(super) fn unit_at(&self, at: usize) -> u16 {
        self.units.get(at).copied().unwrap_or(u16::MAX)
    }

    pub(super) fn error(&self, at: usize, kind: Kind) -> PatternError {
        let before = &self.units[..at.min(self.units.len())];
        let characters = char::decode_utf16(before.iter().copied());
        // A character whose second half this is about ends behind it.
        let offset = characters.map(|character| character.map_or(4, char::len_utf8));
        PatternError::new(offset.sum(), kind)
    }
}

/// Whether the unit stands for itself outside classes, whatever is before it.
fn is_plain(unit: u16) -> bool {
    const SYNTAX: [bool; 128] = {
        let mut table = [false; 128];
        let mut signs = b"$()*+.?[\\^{|".as_slice();
        while let [sign, rest @ ..] = signs {
            table[*sign as usize] = true;
            signs = rest;
        }
        table
    };
    SYNTAX.get(usize::from(unit)) != Some(&true)
}

/// The unit as an ASCII character; 0xff, which is none, for any other.
pub(super) fn ascii(unit: u16) -> u8 {
    u8::try_from(unit).ok().filter(u8::is_ascii).unwrap_or(0xff)
}

/// How many `(` capture: those outside classes and escapes with no `?` behind.
fn count_groups(units: &[u16]) -> u32 {
    let mut groups = 0;
    let mut in_class = false;
    let mut at = 0;
    while let Some(unit) = units.get(at) {
        match ascii(*unit) {
            b'\\' => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'(' if !in_class && units.get(at + 1).map(|next| ascii(*next)) != Some(b'?') => {
                groups += 1;
            }
            _ => {}
        }
        at += 1;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Option<(usize, Kind)> {
        let error = parse(text, true, false).err()?;
        Some((error.offset(), error.kind()))
    }

    #[test]
    fn refusals_say_where_and_why() {
        for (text, offset, kind) in [
            ("*a", 0, Kind::NothingToRepeat),
            ("a**", 2, Kind::NothingToRepeat),
            ("x*+", 2, Kind::NothingToRepeat),
            ("a|?", 2, Kind::NothingToRepeat),
            ("^*", 1, Kind::NothingToRepeat),
            ("\\b+", 2, Kind::NothingToRepeat),
            ("{1}", 0, Kind::NothingToRepeat),
            ("a{1}{2}", 4, Kind::NothingToRepeat),
            ("({2,})", 1, Kind::NothingToRepeat),
            ("a{2,1}", 1, Kind::RepeatOrder),
            ("ab)", 2, Kind::GroupNotOpened),
            ("a(b", 1, Kind::GroupNotClosed),
            ("(a(?:b)", 0, Kind::GroupNotClosed),
            ("a[b", 1, Kind::ClassNotClosed),
            ("[b-a]", 1, Kind::ClassRange),
            ("[a-", 0, Kind::ClassNotClosed),
            ("a\\", 1, Kind::BackslashAtEnd),
            ("(?i)a", 0, Kind::InlineFlags),
            ("(?-i:a)", 0, Kind::InlineFlags),
            ("a(?<n>b)", 1, Kind::NamedGroup),
            ("a(?<=b)", 1, Kind::Lookbehind),
            ("a(?<!b)", 1, Kind::Lookbehind),
            ("(?>a)", 0, Kind::UnknownGroup),
            ("(?#a)", 0, Kind::UnknownGroup),
            // Offsets are bytes, and a character of four bytes is two units.
            ("\u{e9}\u{1f600})", 6, Kind::GroupNotOpened),
        ] {
            assert_eq!(refusal(text), Some((offset, kind)), "{text:?}");
        }
    }

    #[test]
    fn what_browsers_accept_is_accepted() {
        for text in [
            "",
            "|",
            "()",
            "(?:)",
            "a{",
            "a{,3}",
            "a{1",
            "a{a}",
            "{",
            "}",
            "]",
            "{a",
            "x{1,",
            "[]",
            "[^]",
            "[a-]",
            "[-a]",
            "[\\w-.]",
            "[a-\\d]",
            "[[]",
            "(?=a)*",
            "(?!a){2}",
            "\\c",
            "\\cA",
            "[\\c]",
            "[\\c1]",
            "\\0",
            "\\08",
            "\\8",
            "\\1",
            "\\u12",
            "\\x1",
            "\\k",
            "\\p{L}",
            "\\-",
            "a??",
            "a{1}?",
            "[\\b]",
            "\\<script\\>",
            "[a&&b]",
        ] {
            assert_eq!(refusal(text), None, "{text:?}");
        }
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let nested = |count: usize| "(?:".repeat(count) + &")".repeat(count);
        let long = |bytes: usize| "a".repeat(bytes);
        for (inside, beyond, kind) in [
            (
                nested(limits::NESTING),
                nested(limits::NESTING + 1),
                Kind::TooNested,
            ),
            (
                long(limits::PATTERN_BYTES),
                long(limits::PATTERN_BYTES + 1),
                Kind::TooLong,
            ),
            (
                "()".repeat(limits::GROUPS as usize),
                "()".repeat(limits::GROUPS as usize + 1),
                Kind::TooManyGroups,
            ),
            ("a{5000}".into(), "a{5001}".into(), Kind::TooManyRepeats),
            ("a{1,5000}".into(), "a{1,5001}".into(), Kind::TooManyRepeats),
            (
                "a{5000,}".into(),
                "a{99999999999,}".into(),
                Kind::TooManyRepeats,
            ),
        ] {
            assert_eq!(refusal(&inside), None);
            assert_eq!(refusal(&beyond).map(|(_, kind)| kind), Some(kind));
        }
    }

    #[test]
    fn digits_are_a_reference_only_to_a_group_that_exists() {
        let has_reference = |text| {
            let ast = parse(text, false, false).unwrap();
            ast.nodes()
                .any(|(_, node)| matches!(node, Node::Backreference(_)))
        };
        for (text, reference) in [
            ("(a)\\1", true),
            ("(a)\\2", false),
            ("(a)\\11", false),
            ("[(]\\1", false),
            ("\\(a\\1", false),
            ("(?:a)\\1", false),
            // Before the group's end, it could only match nothing.
            ("\\1(a)", false),
            ("(a\\1)", false),
        ] {
            assert_eq!(has_reference(text), reference, "{text}");
        }
    }
}
