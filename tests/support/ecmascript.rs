//! Patterns and inputs from a seed: every construct of the language, and texts that nearly are patterns.

/// A pattern with what it is tried on.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) pattern: String,
    pub(crate) ignore_case: bool,
    pub(crate) dot_matches_line_breaks: bool,
    /// Inputs, each with the character that the search begins at.
    pub(crate) inputs: Vec<(String, usize)>,
}

/// SplitMix64: small, good enough, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// Characters that inputs are made of: few, so that patterns often match.
const PLAIN: &[&str] = &[
    "a", "b", "c", "a", "b", "A", "B", "1", "2", "_", " ", "-", "/", ".",
];

/// Where case, word boundaries, line ends and code units are special.
const SPECIAL: &[&str] = &[
    "k",
    "K",
    "\u{212a}",
    "s",
    "S",
    "\u{17f}",
    "\u{e9}",
    "\u{c9}",
    "\u{df}",
    "\u{1e9e}",
    "\u{b5}",
    "\u{3bc}",
    "\u{39c}",
    "\u{3c3}",
    "\u{3c2}",
    "\u{3a3}",
    "\u{131}",
    "\u{130}",
    "i",
    "I",
    "\u{1c4}",
    "\u{1c5}",
    "\u{1c6}",
    "\u{ff}",
    "\u{178}",
    "\u{345}",
    "\u{3b9}",
    "\u{1fbe}",
    "\u{1f80}",
    "\u{2c65}",
    "\u{23a}",
    "\n",
    "\r",
    "\u{2028}",
    "\u{2029}",
    "\u{a0}",
    "\u{feff}",
    "\u{180e}",
    "\t",
    "\u{85}",
    "\u{7f}",
    "\u{80}",
    "\u{7ff}",
    "\u{800}",
    "\u{ffff}",
    "\u{fffd}",
    "\u{1f600}",
    "\u{1f601}",
    "\u{10400}",
    "\u{10428}",
    "\u{1fa00}",
    "\u{10ffff}",
    "\u{0}",
    "\u{8}",
    "^",
    "$",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\\",
    "x",
    "u",
    "d",
];

const ESCAPES: &[&str] = &[
    "\\d",
    "\\D",
    "\\w",
    "\\W",
    "\\s",
    "\\S",
    "\\t",
    "\\n",
    "\\r",
    "\\f",
    "\\v",
    "\\0",
    "\\cA",
    "\\cj",
    "\\c",
    "\\c1",
    "\\x61",
    "\\x6",
    "\\xe9",
    "\\u0061",
    "\\u006",
    "\\u212a",
    "\\ud83d",
    "\\ude00",
    "\\ud83d\\ude00",
    "\\u{61}",
    "\\.",
    "\\/",
    "\\-",
    "\\a",
    "\\e",
    "\\k",
    "\\p",
    "\\141",
    "\\8",
    "\\9",
    "\\12",
    "\\400",
    "\\07",
    "\\\\",
    "\\]",
    "\\{",
    "\\u03c3",
    "\\u017f",
    "\\_",
    "\\\u{e9}",
    "\\\u{1f600}",
];

const QUANTIFIERS: &[&str] = &[
    "*", "+", "?", "*?", "+?", "??", "{0}", "{1}", "{2}", "{0,1}", "{1,2}", "{0,2}?", "{2,}",
    "{1,}?", "{0,}", "{2,3}", "{1,3}?", "{,2}", "{", "{a}", "{1", "{1,", "{01}",
];

/// Pieces of patterns that in a row seldom are one.
const SOUP: &[&str] = &[
    "a",
    "b",
    "(",
    ")",
    "(?:",
    "(?=",
    "(?!",
    "(?",
    "[",
    "]",
    "[^",
    "-",
    "^",
    "$",
    "|",
    "*",
    "+",
    "?",
    "{",
    "}",
    "{1}",
    "{2,1}",
    "{1,",
    ",",
    "1",
    "2",
    "\\",
    "\\1",
    "\\2",
    "\\b",
    "\\B",
    "\\c",
    "\\d",
    "\\u",
    "\\x",
    "a-z",
    "z-a",
    ".",
    "\u{1f600}",
    "\\8",
    "\\-",
    ":",
    "=",
    "!",
    "\\0",
];

/// The next pattern with its inputs.
pub(crate) fn case(random: &mut Random) -> Case {
    let kind = random.below(8);
    let pattern = match kind {
        0 => soup(random),
        1 => conjunction(random),
        _ => disjunction(random, 3),
    };
    let inputs = (0..12).map(|_| match kind {
        1 => lines(random, &pattern),
        _ => input(random, &pattern),
    });
    Case {
        inputs: inputs.collect(),
        pattern,
        ignore_case: random.one_in(2),
        dot_matches_line_breaks: random.one_in(6),
    }
}

/// A few inputs, each a line.
fn lines(random: &mut Random, pattern: &str) -> (String, usize) {
    let mut lines = input(random, pattern).0;
    for _ in 0..random.below(3) {
        lines.push_str(random.pick(&["\n", "\n", "\r\n", "\u{2028}"]));
        lines.push_str(&input(random, pattern).0);
    }
    let start = if random.one_in(4) {
        random.below(lines.chars().count() + 1)
    } else {
        0
    };
    (lines, start)
}

fn soup(random: &mut Random) -> String {
    (0..1 + random.below(9))
        .map(|_| random.pick(SOUP))
        .collect()
}

/// Look-aheads at the beginning, as rules have them.
fn conjunction(random: &mut Random) -> String {
    let mut pattern = String::new();
    if random.one_in(4) {
        pattern.push_str(random.pick(&["^", "\\b", "(?:)", "\\B"]));
    }
    for _ in 0..1 + random.below(3) {
        pattern.push_str(random.pick(&["(?=", "(?=", "(?!"]));
        pattern.push_str(random.pick(&[".*", ".*", ".*?", "[^]*", "", ".+", "[\\s\\S]*"]));
        pattern.push_str(&alternative(random, 1));
        pattern.push(')');
        if random.one_in(12) {
            pattern.push_str(random.pick(QUANTIFIERS));
        }
    }
    if !random.one_in(3) {
        pattern.push_str(&disjunction_or_group(random));
    }
    pattern
}

fn disjunction_or_group(random: &mut Random) -> String {
    let inside = disjunction(random, 2);
    match random.below(3) {
        0 => inside,
        1 => format!(".*{inside}"),
        _ => format!("({inside})"),
    }
}

fn disjunction(random: &mut Random, depth: usize) -> String {
    let count = [1, 1, 1, 2, 2, 3][random.below(6)];
    let branches: Vec<_> = (0..count).map(|_| alternative(random, depth)).collect();
    branches.join("|")
}

fn alternative(random: &mut Random, depth: usize) -> String {
    (0..random.below(5)).map(|_| term(random, depth)).collect()
}

fn term(random: &mut Random, depth: usize) -> String {
    let mut term = match random.below(if depth == 0 { 12 } else { 20 }) {
        0..=5 => random.pick(PLAIN).to_owned(),
        6 => escaped(random),
        7 => random.pick(ESCAPES).to_owned(),
        8 => class(random),
        9 => ".".to_owned(),
        10 => return random.pick(&["^", "$", "\\b", "\\B"]).to_owned(),
        11 => format!("\\{}", 1 + random.below(3)),
        12..=15 => format!("({})", disjunction(random, depth - 1)),
        16 | 17 => format!("(?:{})", disjunction(random, depth - 1)),
        18 => format!("(?={})", disjunction(random, depth - 1)),
        _ => format!("(?!{})", disjunction(random, depth - 1)),
    };
    if random.one_in(3) {
        term.push_str(random.pick(QUANTIFIERS));
    }
    term
}

/// A special character that stands for itself.
fn escaped(random: &mut Random) -> String {
    let character = random.pick(SPECIAL);
    if "^$()[]{}\\".contains(character) {
        format!("\\{character}")
    } else {
        character.to_owned()
    }
}

fn class(random: &mut Random) -> String {
    let mut class = random.pick(&["[", "[", "[^"]).to_owned();
    for _ in 0..random.below(4) {
        match random.below(7) {
            0 => class.push_str(random.pick(&[
                "a-c",
                "A-B",
                "0-9",
                "\u{e0}-\u{ff}",
                "\u{3b1}-\u{3c9}",
                "\\ud800-\\udbff",
                "\\udc00-\\udfff",
                "\\0-\\x7f",
                "\u{80}-\u{2fff}",
                "\\d-z",
                "a-\\w",
                "\\ud83d-\\ude00",
                "h-l",
                "\u{2100}-\u{2200}",
            ])),
            1 => class.push_str(random.pick(ESCAPES)),
            2 => class.push_str(random.pick(&["\\b", "\\B", "-", "^", "\\c_", "\\-", "$", "."])),
            3 | 4 => class.push_str(&escaped(random)),
            _ => class.push_str(random.pick(PLAIN)),
        }
    }
    class.push(']');
    class
}

/// Characters of the pattern and of the alphabets, so that some of it matches.
fn input(random: &mut Random, pattern: &str) -> (String, usize) {
    let own: Vec<char> = pattern.chars().collect();
    let mut input = String::new();
    let special = random.one_in(2);
    for _ in 0..random.below(11) {
        match random.below(4) {
            0 if special => input.push_str(random.pick(SPECIAL)),
            1 if !own.is_empty() => {
                let character = own[random.below(own.len())];
                input.extend((special || character.is_ascii()).then_some(character));
            }
            _ => input.push_str(random.pick(PLAIN)),
        }
    }
    let start = if random.one_in(4) {
        random.below(input.chars().count() + 1)
    } else {
        0
    };
    (input, start)
}
