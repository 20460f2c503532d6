//! Reads the substitution grammar.

use std::fmt;

use super::function::Function;

/// How deeply references may stand inside one another.
pub(crate) const MAX_DEPTH: usize = 16;

/// The greatest number of a group that can be referred to.
pub(crate) const MAX_GROUP: usize = 999;

/// Parsed text. Names of maps and variables are still to be bound.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Template {
    pub(super) pieces: Vec<Piece>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Piece {
    Call {
        function: Function,
        argument: Template,
    },
    ConditionGroup(usize),
    Literal(String),
    Map {
        name: String,
        argument: Template,
    },
    RuleGroup(usize),
    Variable(String),
}

/// Text that is not of the grammar.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TemplateError {
    /// Where in the text, in characters from 1.
    character: usize,
    kind: TemplateErrorKind,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum TemplateErrorKind {
    Group(String),
    Name(String),
    Nesting,
    Unclosed,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: ", self.character)?;
        match &self.kind {
            TemplateErrorKind::Group(text) => write!(
                f,
                "{text:?} is no group number; write 0 to {MAX_GROUP}, as in {{R:1}}"
            ),
            TemplateErrorKind::Name(name) => write!(
                f,
                "{name:?} is no name; write {{NAME}} for a variable, {{MAP:key}} for a map"
            ),
            TemplateErrorKind::Nesting => {
                write!(
                    f,
                    "references stand more than {MAX_DEPTH} deep; write fewer"
                )
            }
            TemplateErrorKind::Unclosed => f.write_str("this brace is never closed; add }"),
        }
    }
}

impl Template {
    /// Parses the text of an attribute.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser { text, at: 0 };
        parser.template(0)
    }

    /// A reference to one variable.
    pub(crate) fn variable(name: &str) -> Self {
        Self {
            pieces: vec![Piece::Variable(name.to_owned())],
        }
    }

    /// Whether this is the empty text.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl fmt::Display for Template {
    /// As written, but for the letter case of functions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Call { function, argument } => write!(f, "{{{}:{argument}}}", function.name()),
            Piece::ConditionGroup(group) => write!(f, "{{C:{group}}}"),
            Piece::Literal(text) => f.write_str(text),
            Piece::Map { name, argument } => write!(f, "{{{name}:{argument}}}"),
            Piece::RuleGroup(group) => write!(f, "{{R:{group}}}"),
            Piece::Variable(name) => write!(f, "{{{name}}}"),
        })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    /// Reads up to the end of the text, or inside a reference up to its closing brace, which it leaves.
    fn template(&mut self, depth: usize) -> Result<Template, TemplateError> {
        let mut pieces = Vec::new();
        loop {
            let rest = &self.text[self.at..];
            let end = rest
                .find(|c| c == '{' || (c == '}' && depth > 0))
                .unwrap_or(rest.len());
            if end > 0 {
                pieces.push(Piece::Literal(rest[..end].to_owned()));
                self.at += end;
            }
            if !rest[end..].starts_with('{') {
                return Ok(Template { pieces });
            }
            pieces.push(self.reference(depth + 1)?);
        }
    }

    fn reference(&mut self, depth: usize) -> Result<Piece, TemplateError> {
        let open = self.at;
        if depth > MAX_DEPTH {
            return Err(self.error(open, TemplateErrorKind::Nesting));
        }
        self.at += 1;
        let rest = &self.text[self.at..];
        let Some(end) = rest.find([':', '{', '}']) else {
            return Err(self.error(open, TemplateErrorKind::Unclosed));
        };
        let name = &rest[..end];
        if !is_name(name) || rest[end..].starts_with('{') {
            let name = rest[..end].to_owned();
            return Err(self.error(open, TemplateErrorKind::Name(name)));
        }
        self.at += end + 1;
        if rest[end..].starts_with('}') {
            return Ok(Piece::Variable(name.trim().to_owned()));
        }
        if name.eq_ignore_ascii_case("R") {
            return self.group(open).map(Piece::RuleGroup);
        }
        if name.eq_ignore_ascii_case("C") {
            return self.group(open).map(Piece::ConditionGroup);
        }
        let argument = self.template(depth)?;
        if !self.text[self.at..].starts_with('}') {
            return Err(self.error(open, TemplateErrorKind::Unclosed));
        }
        self.at += 1;
        Ok(match Function::named(name) {
            Some(function) => Piece::Call { function, argument },
            None => Piece::Map {
                name: name.trim().to_owned(),
                argument,
            },
        })
    }

    fn group(&mut self, open: usize) -> Result<usize, TemplateError> {
        let rest = &self.text[self.at..];
        let Some(end) = rest.find('}') else {
            return Err(self.error(open, TemplateErrorKind::Unclosed));
        };
        let digits = &rest[..end];
        self.at += end + 1;
        match digits.parse() {
            Ok(group) if group <= MAX_GROUP && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(group)
            }
            _ => Err(self.error(open, TemplateErrorKind::Group(digits.to_owned()))),
        }
    }

    fn error(&self, offset: usize, kind: TemplateErrorKind) -> TemplateError {
        TemplateError {
            character: self.text[..offset].chars().count() + 1,
            kind,
        }
    }
}

/// Names of maps may hold spaces inside (`{My Map:{R:1}}`); whether a variable of that name exists is checked when
/// it is bound.
fn is_name(name: &str) -> bool {
    let name = name.trim();
    !name.is_empty() && !name.chars().any(|c| c.is_control() || "\"'<>".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_nest() {
        let template = Template::parse("a{Map:{ToLower:{R:1}}-{C:0}}b{HTTP_HOST}}").unwrap();
        let argument = Template {
            pieces: vec![
                Piece::Call {
                    function: Function::ToLower,
                    argument: Template {
                        pieces: vec![Piece::RuleGroup(1)],
                    },
                },
                Piece::Literal("-".into()),
                Piece::ConditionGroup(0),
            ],
        };
        let expected = [
            Piece::Literal("a".into()),
            Piece::Map {
                name: "Map".into(),
                argument,
            },
            Piece::Literal("b".into()),
            Piece::Variable("HTTP_HOST".into()),
            Piece::Literal("}".into()),
        ];
        assert_eq!(template.pieces, expected);
        assert!(Template::parse("").unwrap().is_empty());
    }

    #[test]
    fn malformed_text_is_refused_with_its_place() {
        for (text, expected) in [
            ("{", "at character 1: this brace is never closed; add }"),
            ("é{R:1", "at character 2: this brace is never closed; add }"),
            (
                "{UrlEncode:{R:1}",
                "at character 1: this brace is never closed; add }",
            ),
            (
                "x/{R:}",
                "at character 3: \"\" is no group number; write 0 to 999, as in {R:1}",
            ),
            (
                "{R:A}",
                "at character 1: \"A\" is no group number; write 0 to 999, as in {R:1}",
            ),
            (
                "{R:-1}",
                "at character 1: \"-1\" is no group number; write 0 to 999, as in {R:1}",
            ),
            (
                "{R:+1}",
                "at character 1: \"+1\" is no group number; write 0 to 999, as in {R:1}",
            ),
            (
                "{R:1000}",
                "at character 1: \"1000\" is no group number; write 0 to 999, as in {R:1}",
            ),
        ] {
            assert_eq!(
                Template::parse(text).unwrap_err().to_string(),
                expected,
                "{text}"
            );
        }
        for text in ["{}", "{:}", "{ }", "{:x}", "{a{R:1}}", "{\"a\": 1}"] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.contains("is no name"), "{text}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth| "{ToLower:".repeat(depth) + &"}".repeat(depth);
        assert!(Template::parse(&nested(MAX_DEPTH)).is_ok());
        let error = Template::parse(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!(error.kind, TemplateErrorKind::Nesting);
    }
}
