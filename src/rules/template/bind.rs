//! Binds the names of a parsed text to variables and maps, and says what it reads.

use std::collections::{BTreeMap, BTreeSet};

use super::expand::MAX_EXPANDED;
use super::function::Function;
use super::parse::{Piece, Template};
use super::variable::{Found, Variable};
use crate::rules::error::{Kind, nearest};

/// Which message a text is expanded for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    Request,
    Response,
}

/// What names can be bound to.
pub(crate) struct Scope<'a> {
    pub(crate) stage: Stage,
    /// Numbers of the maps by lower-case name.
    pub(crate) maps: &'a BTreeMap<String, usize>,
    /// Variables that rules set or the caller gives, in upper case.
    pub(crate) custom: &'a BTreeSet<String>,
    /// Whether paths can be mapped to files.
    pub(crate) has_document_root: bool,
}

/// A text whose every name is bound.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Bound {
    pub(super) pieces: Vec<BoundPiece>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum BoundPiece {
    Call { function: Function, argument: Bound },
    ConditionGroup(usize),
    Literal(Box<[u8]>),
    Map { map: usize, argument: Bound },
    RuleGroup(usize),
    Variable(Variable),
}

/// What a text reads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Reads {
    /// The highest `{R:n}`.
    pub(crate) rule_group: Option<usize>,
    /// The highest `{C:n}`.
    pub(crate) condition_group: Option<usize>,
    /// Whether it reads the request target or a part of it.
    pub(crate) target: bool,
}

impl Template {
    /// Binds every name.
    pub(crate) fn bind(&self, scope: &Scope<'_>) -> Result<Bound, Kind> {
        let bound = |piece: &Piece| {
            Ok(match piece {
                Piece::Call { function, argument } => BoundPiece::Call {
                    function: *function,
                    argument: argument.bind(scope)?,
                },
                Piece::ConditionGroup(group) => BoundPiece::ConditionGroup(*group),
                Piece::Literal(text) => BoundPiece::Literal(text.as_bytes().into()),
                Piece::Map { name, argument } => BoundPiece::Map {
                    map: bind_map(name, scope)?,
                    argument: argument.bind(scope)?,
                },
                Piece::RuleGroup(group) => BoundPiece::RuleGroup(*group),
                Piece::Variable(name) => BoundPiece::Variable(bind_variable(name, scope)?),
            })
        };
        let pieces = self.pieces.iter().map(bound).collect::<Result<_, _>>()?;
        Ok(Bound { pieces })
    }
}

impl Bound {
    /// What the text reads, arguments included.
    pub(crate) fn reads(&self) -> Reads {
        self.pieces
            .iter()
            .fold(Reads::default(), |reads, piece| match piece {
                BoundPiece::Call { argument, .. } | BoundPiece::Map { argument, .. } => {
                    reads.and(argument.reads())
                }
                BoundPiece::ConditionGroup(group) => Reads {
                    condition_group: reads.condition_group.max(Some(*group)),
                    ..reads
                },
                BoundPiece::Literal(_) => reads,
                BoundPiece::RuleGroup(group) => Reads {
                    rule_group: reads.rule_group.max(Some(*group)),
                    ..reads
                },
                BoundPiece::Variable(variable) => Reads {
                    target: reads.target || variable.is_target(),
                    ..reads
                },
            })
    }

    /// About how many bytes it occupies.
    pub(crate) fn memory(&self) -> usize {
        let within = self.pieces.iter().map(|piece| match piece {
            BoundPiece::Call { argument, .. } | BoundPiece::Map { argument, .. } => {
                argument.memory()
            }
            BoundPiece::Literal(text) => text.len(),
            BoundPiece::ConditionGroup(_) | BoundPiece::RuleGroup(_) | BoundPiece::Variable(_) => 0,
        });
        size_of_val(&*self.pieces) + within.sum::<usize>()
    }

    /// The text itself, if it reads nothing.
    pub(crate) fn fixed(&self) -> Option<&[u8]> {
        match &self.pieces[..] {
            [] => Some(&[]),
            [BoundPiece::Literal(text)] if text.len() <= MAX_EXPANDED => Some(text),
            _ => None,
        }
    }

    /// Whether the text is the value of one variable.
    pub(crate) fn is_variable(&self) -> bool {
        matches!(self.pieces[..], [BoundPiece::Variable(_)])
    }

    /// Calls `visit` with every variable that the text reads.
    pub(crate) fn each_variable<'b>(&'b self, visit: &mut impl FnMut(&'b Variable)) {
        for piece in &self.pieces {
            match piece {
                BoundPiece::Call { argument, .. } | BoundPiece::Map { argument, .. } => {
                    argument.each_variable(visit);
                }
                BoundPiece::Variable(variable) => visit(variable),
                BoundPiece::ConditionGroup(_)
                | BoundPiece::Literal(_)
                | BoundPiece::RuleGroup(_) => {}
            }
        }
    }
}

impl Reads {
    /// What two texts read together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            rule_group: self.rule_group.max(other.rule_group),
            condition_group: self.condition_group.max(other.condition_group),
            target: self.target || other.target,
        }
    }
}

fn bind_map(name: &str, scope: &Scope<'_>) -> Result<usize, Kind> {
    match scope.maps.get(&name.to_lowercase()) {
        Some(map) => Ok(*map),
        None => Err(Kind::Undefined {
            what: "rewrite map or function (providers are not supported)",
            name: name.to_owned(),
            near: nearest(
                name,
                scope.maps.keys().map(String::as_str).chain([
                    "ToLower",
                    "UrlEncode",
                    "UrlDecode",
                    "HtmlEncode",
                ]),
            )
            .map(str::to_owned),
        }),
    }
}

fn bind_variable(name: &str, scope: &Scope<'_>) -> Result<Variable, Kind> {
    let variable = match Variable::named(name) {
        Found::Known(variable) => variable,
        _ if scope.custom.contains(&name.to_ascii_uppercase()) => {
            return Ok(Variable::Custom(name.to_ascii_uppercase()));
        }
        Found::Unknowable => {
            return Err(Kind::Unsupported(format!(
                "server variable {name:?} is known only to the server behind the proxy; rewrite the rule without it"
            )));
        }
        Found::Unknown => return Err(unknown_variable(name, scope)),
    };
    if variable.is_physical() && !scope.has_document_root {
        return Err(Kind::Unsupported(format!(
            "server variable {name:?} is a path on disk, and no document root is set; set one or rewrite the rule without it"
        )));
    }
    if variable.is_response() && scope.stage == Stage::Request {
        return Err(Kind::Unsupported(format!(
            "{name:?} reads the response, which does not exist yet; move the rule to outboundRules"
        )));
    }
    Ok(variable)
}

fn unknown_variable(name: &str, scope: &Scope<'_>) -> Kind {
    let with_prefix = format!("HTTP_{}", name.to_ascii_uppercase());
    let names = Variable::names().chain(scope.custom.iter().map(String::as_str));
    let near = match Variable::names().find(|known| *known == with_prefix) {
        Some(near) => Some(near),
        None => nearest(name, names),
    };
    let near = near.map(|near| format!("{{{near}}}"));
    Kind::Undefined {
        what: "server variable",
        name: name.to_owned(),
        near,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str, stage: Stage, has_document_root: bool) -> Result<Bound, String> {
        let scope = Scope {
            stage,
            maps: &BTreeMap::from([("my map".into(), 0)]),
            custom: &BTreeSet::from(["MINE".into()]),
            has_document_root,
        };
        let template = Template::parse(text).unwrap();
        template.bind(&scope).map_err(|kind| kind.to_string())
    }

    #[test]
    fn what_is_read_is_known() {
        let reads = |text: &str| bind(text, Stage::Request, false).unwrap().reads();
        assert_eq!(reads("{HTTP_HOST} {mine}"), Reads::default());
        assert!(reads("{My Map:{UrlDecode:{REQUEST_URI}}}").target);
        let groups = reads("{R:1}{ToLower:{R:3}{C:2}}");
        assert_eq!(
            (groups.rule_group, groups.condition_group),
            (Some(3), Some(2))
        );
    }

    #[test]
    fn what_cannot_be_known_is_refused() {
        for (text, expected) in [
            ("{MyMaps:x}", "did you mean my map?"),
            ("{UrlDecod:x}", "did you mean UrlDecode?"),
            (
                "{Db:x}",
                "there is no rewrite map or function (providers are not supported) \"Db\"",
            ),
            ("{USER_AGENT}", "did you mean {HTTP_USER_AGENT}?"),
            ("{REQUEST_URL}", "did you mean {REQUEST_URI}?"),
            (
                "{CERT_SUBJECT}",
                "known only to the server behind the proxy",
            ),
            ("{REQUEST_FILENAME}", "no document root is set"),
            ("{RESPONSE_SERVER}", "move the rule to outboundRules"),
        ] {
            let error = bind(text, Stage::Request, false).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(bind("{REQUEST_FILENAME}", Stage::Request, true).is_ok());
        assert!(bind("{RESPONSE_SERVER}", Stage::Response, false).is_ok());
    }
}
