//! Rules that no text stands for, or whose automata grow without end: what a matcher must not be slow on.

use std::fmt::Write;

use super::synthetic::Random;

/// The sets by name, each a document of URL Rewrite whose rules alternate between target and cookie.
pub(crate) const SETS: [&str; 5] = ["any-a-any-b", "three-words", "no-text", "counted", "crs"];

/// The document of a set; `None` for the Core Rule Set where Debian's package is not installed.
pub(crate) fn document(name: &str, seed: u64) -> Option<String> {
    let mut random = Random::new(seed ^ 0x5e);
    let patterns = match name {
        "any-a-any-b" => (b'a'..=b'z')
            .flat_map(|one| (b'a'..=b'z').map(move |two| (char::from(one), char::from(two))))
            .map(|(one, two)| format!(".*{one}.*{two}"))
            .collect(),
        "three-words" => (0..1_000)
            .map(|_| {
                let words: [String; 3] = std::array::from_fn(|_| random.word(4, 8));
                words.join(".*")
            })
            .collect(),
        "no-text" => (0..1_000).map(|_| without_text(&mut random)).collect(),
        "counted" => (0..100)
            .map(|number| format!("[^&=]{{1,50}}=[^&]{{{}}}", 50 + number))
            .collect(),
        _ => core_rule_set()?,
    };
    Some(rules(&patterns))
}

fn without_text(random: &mut Random) -> String {
    let mut pattern = String::new();
    for _ in 0..3 {
        let first = b'a' + random.below(16) as u8;
        let (first, last) = (char::from(first), char::from(first + 9));
        let digits = random.below(5) + 2;
        write!(pattern, "[{first}-{last}]{{{digits}}}[0-9_]+").expect("a string takes all text");
    }
    pattern
}

/// The patterns of `@rx` in the request rules of the OWASP Core Rule Set, as Debian installs it.
fn core_rule_set() -> Option<Vec<String>> {
    let folder = std::fs::read_dir("/usr/share/modsecurity-crs/rules").ok()?;
    let mut patterns = Vec::new();
    for file in folder.filter_map(Result::ok) {
        if !file.file_name().to_string_lossy().starts_with("REQUEST-") {
            continue;
        }
        let text = std::fs::read_to_string(file.path()).ok()?;
        for part in text.split("\"@rx ").skip(1) {
            let pattern = part.split("\" \\\n").next().unwrap_or_default();
            patterns.push(pattern.replace("\\\"", "\""));
        }
    }
    patterns.sort_unstable();
    patterns.dedup();
    Some(patterns)
}

fn rules(patterns: &[String]) -> String {
    let mut text = String::from("<rewrite><rules>");
    for (number, pattern) in patterns.iter().enumerate() {
        let input = ["{UrlDecode:{REQUEST_URI}}", "{HTTP_COOKIE}"][number % 2];
        write!(
            text,
            "<rule name=\"{number}\" stopProcessing=\"true\"><match url=\".*\"/><conditions>\
             <add input=\"{input}\" pattern=\"{}\"/></conditions><action type=\"AbortRequest\"/></rule>",
            escape(pattern)
        )
        .expect("a string takes all text");
    }
    text + "</rules></rewrite>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
