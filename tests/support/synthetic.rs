//! Rules and requests drawn from a seed: the shapes that emergency rules have, with words of their own.

use std::fmt::Write;

/// Which input a rule judges.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Cookie,
    Uri,
}

/// One generated rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) place: Place,
    pub(crate) pattern: String,
    /// A text that the pattern matches.
    pub(crate) sample: Vec<u8>,
}

impl Rule {
    /// A request target that holds a text, if the rule judges that.
    pub(crate) fn target(&self, text: &[u8]) -> Vec<u8> {
        match self.place {
            Place::Cookie => b"/owa/".to_vec(),
            Place::Uri if text.starts_with(b"/") => text.to_vec(),
            Place::Uri => [b"/", text].concat(),
        }
    }

    /// A cookie that holds a text, if the rule judges that.
    pub(crate) fn cookie(&self, text: &[u8]) -> Vec<u8> {
        match self.place {
            Place::Cookie => text.to_vec(),
            Place::Uri => b"session=1".to_vec(),
        }
    }
}

/// A small generator of numbers, the same on every machine: xorshift64* of Vigna (2016).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    fn pick<'p>(&mut self, from: &[&'p str]) -> &'p str {
        from[self.below(from.len())]
    }

    pub(crate) fn word(&mut self, least: usize, most: usize) -> String {
        let length = least + self.below(most - least + 1);
        (0..length)
            .map(|_| (b'a' + self.below(26) as u8) as char)
            .collect()
    }
}

/// So many rules, half over the decoded target and half over the cookie.
pub(crate) fn rules(count: usize, seed: u64) -> Vec<Rule> {
    let mut random = Random::new(seed);
    let rule = |number: usize| {
        let (place, (pattern, sample)) = if number.is_multiple_of(2) {
            (Place::Uri, uri(&mut random))
        } else {
            (Place::Cookie, cookie(&mut random))
        };
        Rule {
            place,
            pattern,
            sample: sample.into_bytes(),
        }
    };
    (0..count).map(rule).collect()
}

fn uri(random: &mut Random) -> (String, String) {
    let (a, b) = (random.word(7, 11), random.word(7, 11));
    match random.below(6) {
        0 => (format!("(?=.*{a})(?=.*{b})"), format!("/{b}/{a}")),
        1 => {
            let key = random.word(3, 5);
            let value = random.pick(&["whoami", "cmd", "powershell"]);
            (
                format!(r"/{a}/{b}\.aspx\?.*{key}=(whoami|cmd|powershell)"),
                format!("/{a}/{b}.aspx?q=1&{key}={value}"),
            )
        }
        2 => {
            let end = random.pick(&["asmx", "svc", "ashx"]);
            (
                format!(r".*{a}.*\.(asmx|svc|ashx)"),
                format!("/{a}/x.{end}"),
            )
        }
        3 => {
            let (head, tail) = (random.word(4, 6), random.word(3, 4));
            (
                format!(r"^/{head}/auth/[a-z0-9]{{4,12}}\.{tail}$"),
                format!("/{head}/auth/ab12.{tail}"),
            )
        }
        4 => (
            format!(r"(\.\./|%2e%2e/){{2,}}.*{a}"),
            format!("/x?f=../../etc/{a}"),
        ),
        _ => (
            format!("{a}=(.+);(.+)~[0-9]{{6,}}"),
            format!("/x?{a}=u;v~1234567"),
        ),
    }
}

fn cookie(random: &mut Random) -> (String, String) {
    let word = random.word(7, 11);
    let (head, tail) = word.split_at(1);
    let name = format!("{}{tail}", head.to_ascii_uppercase());
    match random.below(4) {
        0 => (format!("(.*)X-{name}(.*)"), format!("a=b; X-{name}")),
        1 => (
            format!("(.*)X-{name}=(.+)/(.+)~(.+)"),
            format!("X-{name}=server/owa~1942"),
        ),
        2 => {
            let verb = random.pick(&["union", "select", "exec"]);
            (
                format!("{word}=[^;]*(union|select|exec)"),
                format!("{word}=1 {verb}"),
            )
        }
        _ => {
            let scheme = random.pick(&["ldap", "rmi", "dns"]);
            (
                format!("jndi:(ldap|rmi|dns)://{word}"),
                format!("u=${{jndi:{scheme}://{word}/a}}"),
            )
        }
    }
}

/// The rules as a document of URL Rewrite, each answering 403.
pub(crate) fn iis(rules: &[Rule]) -> String {
    let mut text = String::from("<rewrite><rules>");
    for (number, rule) in rules.iter().enumerate() {
        let input = match rule.place {
            Place::Cookie => "{HTTP_COOKIE}",
            Place::Uri => "{UrlDecode:{REQUEST_URI}}",
        };
        let pattern = rule.pattern.replace('&', "&amp;");
        write!(
            text,
            "<rule name=\"synthetic-{number}\" patternSyntax=\"ECMAScript\" stopProcessing=\"true\"><match url=\".*\"/>\
             <conditions logicalGrouping=\"MatchAll\" trackAllCaptures=\"false\"><add input=\"{input}\" pattern=\"{pattern}\"/>\
             </conditions><action type=\"CustomResponse\" statusCode=\"403\" statusReason=\"Forbidden\" \
             statusDescription=\"Forbidden\"/></rule>"
        )
        .expect("a string takes all text");
    }
    text + "</rules></rewrite>"
}
