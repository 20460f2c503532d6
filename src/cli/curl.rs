//! Reads a `curl` command line, as browsers copy it, for the request it would send.

use std::fmt;

/// A request as a person wrote it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Written {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) fields: Vec<(String, String)>,
}

/// A command line that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum CurlError {
    Field(String),
    NoUrl,
    Option(String),
    Unclosed(char),
    Value(String),
}

impl std::error::Error for CurlError {}

impl fmt::Display for CurlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(text) => write!(f, "{text:?} is no field; write 'Name: value'"),
            Self::NoUrl => f.write_str("the curl command names no URL"),
            Self::Option(name) => write!(
                f,
                "the curl option {name} is not known here; leave it out, or use --url, --method and --header"
            ),
            Self::Unclosed(quote) => {
                write!(f, "a {quote} of the curl command is never closed; add one")
            }
            Self::Value(name) => write!(f, "the curl option {name} lacks its value"),
        }
    }
}

/// Options without a value that change nothing about the head of the request.
const SWITCHES: &[&str] = &[
    "--compressed",
    "--fail",
    "--globoff",
    "--http1.1",
    "--http2",
    "--include",
    "--insecure",
    "--location",
    "--path-as-is",
    "--show-error",
    "--silent",
    "--verbose",
    "-L",
    "-S",
    "-f",
    "-g",
    "-i",
    "-k",
    "-s",
    "-v",
];

/// Options with a value that change nothing about the head of the request.
const IGNORED: &[&str] = &[
    "--connect-timeout",
    "--max-time",
    "--output",
    "--resolve",
    "-m",
    "-o",
];

/// Options that give a body, and with it the method POST.
const BODIES: &[&str] = &[
    "--data",
    "--data-ascii",
    "--data-binary",
    "--data-raw",
    "--data-urlencode",
    "--json",
    "-d",
];

/// Reads a whole command line; the word `curl` at its beginning may be missing.
pub(super) fn parse(command: &str) -> Result<Written, CurlError> {
    let words = words(command)?;
    let mut words = words.into_iter().peekable();
    words.next_if(|word| word == "curl");
    let mut method = None;
    let mut written = Written::default();
    let mut has_body = false;
    while let Some(word) = words.next() {
        let Some((name, attached)) = option(&word) else {
            written.url = word;
            continue;
        };
        if SWITCHES.contains(&name) && attached.is_none() {
            continue;
        }
        if matches!(name, "-I" | "--head") {
            method.get_or_insert_with(|| "HEAD".to_owned());
            continue;
        }
        if name.len() == 2 && is_switches(&word) {
            continue;
        }
        let mut value = || {
            attached
                .map(str::to_owned)
                .or_else(|| words.next())
                .ok_or_else(|| CurlError::Value(name.to_owned()))
        };
        let mut add = |field: &str, value: String| written.fields.push((field.to_owned(), value));
        match name {
            "-X" | "--request" => method = Some(value()?),
            "-H" | "--header" => {
                let (name, value) = field(&value()?)?;
                add(&name, value);
            }
            "-A" | "--user-agent" => add("User-Agent", value()?),
            "-b" | "--cookie" => add("Cookie", value()?),
            "-e" | "--referer" => add("Referer", value()?),
            "--url" => written.url = value()?,
            _ if BODIES.contains(&name) => {
                value()?;
                has_body = true;
            }
            _ if IGNORED.contains(&name) => {
                value()?;
            }
            _ => return Err(CurlError::Option(name.to_owned())),
        }
    }
    if written.url.is_empty() {
        return Err(CurlError::NoUrl);
    }
    let usual = if has_body { "POST" } else { "GET" };
    written.method = method.unwrap_or_else(|| usual.to_owned());
    Ok(written)
}

/// Splits `Name: value`.
pub(super) fn field(text: &str) -> Result<(String, String), CurlError> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(CurlError::Field(text.to_owned())),
    }
}

/// The name of an option, and the value that stands in the same word: `-XPUT`, `--request=PUT`.
fn option(word: &str) -> Option<(&str, Option<&str>)> {
    if word.starts_with("--") {
        return Some(match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        });
    }
    let rest = word.strip_prefix('-').filter(|rest| !rest.is_empty())?;
    let first = rest.chars().next()?.len_utf8();
    let (name, value) = word.split_at(1 + first);
    Some((name, (!value.is_empty()).then_some(value)))
}

/// Whether the word is several switches in one, such as `-sk`.
fn is_switches(word: &str) -> bool {
    word.chars()
        .skip(1)
        .all(|letter| SWITCHES.contains(&format!("-{letter}").as_str()))
}

/// Splits a line as a shell does (POSIX.1-2017, Shell Command Language, 2.2), with `$'…'` of bash beside it.
fn words(text: &str) -> Result<Vec<String>, CurlError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                // A line that goes on.
                Some('\n') | None => {}
                Some(c) => word.get_or_insert_default().push(c),
            },
            '\'' => quoted(&mut characters, '\'', word.get_or_insert_default())?,
            '"' => quoted(&mut characters, '"', word.get_or_insert_default())?,
            '$' if characters.peek() == Some(&'\'') => {
                characters.next();
                quoted(&mut characters, '$', word.get_or_insert_default())?;
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Reads to the closing quote; `$` stands for `$'…'`, whose escapes are those of C.
fn quoted(
    characters: &mut impl Iterator<Item = char>,
    quote: char,
    word: &mut String,
) -> Result<(), CurlError> {
    let end = if quote == '$' { '\'' } else { quote };
    while let Some(c) = characters.next() {
        match c {
            c if c == end => return Ok(()),
            '\\' if quote != '\'' => {
                let Some(escaped) = characters.next() else {
                    break;
                };
                match (quote, escaped) {
                    ('"', '\n') => {}
                    ('"', '"' | '\\' | '$' | '`') => word.push(escaped),
                    ('"', _) => word.extend(['\\', escaped]),
                    (_, 'n') => word.push('\n'),
                    (_, 'r') => word.push('\r'),
                    (_, 't') => word.push('\t'),
                    (_, 'u') => {
                        let digits: String = characters.by_ref().take(4).collect();
                        let code = u32::from_str_radix(&digits, 16).ok();
                        word.extend(code.and_then(char::from_u32));
                    }
                    _ => word.push(escaped),
                }
            }
            c => word.push(c),
        }
    }
    Err(CurlError::Unclosed(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        for (command, method, url, fields) in [
            ("curl http://h/a", "GET", "http://h/a", vec![]),
            (
                "curl 'https://h/a?b=c&d' \\\n  -H 'Accept: */*' \\\n  -H \"X-A: \\\"b\\\" \\c\" --compressed -sk",
                "GET",
                "https://h/a?b=c&d",
                vec![("Accept", "*/*"), ("X-A", "\"b\" \\c")],
            ),
            (
                "-XPUT --url=/a -b a=1 -A x -o /dev/null",
                "PUT",
                "/a",
                vec![("Cookie", "a=1"), ("User-Agent", "x")],
            ),
            (
                r"curl --data-raw $'a\'\n\u0041' /it\'s",
                "POST",
                "/it's",
                vec![],
            ),
            ("curl -I /", "HEAD", "/", vec![]),
            ("curl -H X-Empty: /", "GET", "/", vec![("X-Empty", "")]),
        ] {
            let fields = fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            let expected = Written {
                method: method.to_owned(),
                url: url.to_owned(),
                fields: fields.collect(),
            };
            assert_eq!(parse(command), Ok(expected), "{command}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (command, error) in [
            ("curl", CurlError::NoUrl),
            ("curl 'http://h", CurlError::Unclosed('\'')),
            ("curl \"http://h\\\"", CurlError::Unclosed('"')),
            (
                "curl --ftp-port - /",
                CurlError::Option("--ftp-port".into()),
            ),
            ("curl -sQ /", CurlError::Option("-s".into())),
            ("curl / -H", CurlError::Value("-H".into())),
            ("curl / -H x", CurlError::Field("x".into())),
        ] {
            assert_eq!(parse(command), Err(error), "{command}");
        }
    }
}
