//! The parts of a rule as written.

use super::collection::Named;
use crate::rules::error::Place;
use crate::rules::pattern::PatternSyntax;
use crate::rules::template::Template;

/// A text of the substitution grammar.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) template: Template,
    pub(crate) place: Place,
    pub(crate) attribute: &'static str,
}

/// A pattern and how it is applied.
#[derive(Clone, Debug)]
pub(crate) struct PatternText {
    pub(crate) text: String,
    pub(crate) place: Place,
    pub(crate) attribute: &'static str,
    pub(crate) ignore_case: bool,
    pub(crate) negate: bool,
}

/// A name that refers to something.
#[derive(Clone, Debug)]
pub(crate) struct NameText {
    pub(crate) name: String,
    pub(crate) place: Place,
}

/// An inbound rule.
#[derive(Clone, Debug)]
pub(crate) struct RequestRule {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) enabled: bool,
    pub(crate) syntax: PatternSyntax,
    pub(crate) stop_processing: bool,
    /// Whether escapes in a rewritten path reach the upstream as they are (`useOriginalURLEncoding="false"`).
    pub(crate) keeps_escapes: bool,
    /// `<match>`; without one the rule applies to every URL.
    pub(crate) url: Option<PatternText>,
    pub(crate) conditions: Conditions,
    pub(crate) set: Vec<SetVariable>,
    pub(crate) action: Action,
}

/// `<conditions>`, or a `<preCondition>`.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    pub(crate) list: Vec<Condition>,
    /// Whether one of them is enough (`MatchAny`).
    pub(crate) any: bool,
    pub(crate) track_all_captures: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) input: Text,
    pub(crate) test: Test,
}

/// What a condition asks of its input.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    IsDirectory { negate: bool },
    IsFile { negate: bool },
    Pattern(PatternText),
}

/// `<set>` of `<serverVariables>`.
#[derive(Clone, Debug)]
pub(crate) struct SetVariable {
    pub(crate) name: NameText,
    pub(crate) value: Text,
    pub(crate) replace: bool,
}

/// What an inbound rule does.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Abort,
    None,
    Redirect {
        url: Text,
        append_query: bool,
        status: u16,
    },
    Respond {
        status: u16,
        substatus: u16,
        reason: Text,
        description: Text,
    },
    Rewrite {
        url: Text,
        append_query: bool,
    },
}

impl Action {
    /// Whether the action refuses the request: such rules are judged hardened.
    pub(crate) const fn refuses(&self) -> bool {
        match self {
            Self::Abort => true,
            Self::Respond { status, .. } => *status >= 400,
            Self::None | Self::Redirect { .. } | Self::Rewrite { .. } => false,
        }
    }
}

/// An outbound rule.
#[derive(Clone, Debug)]
pub(crate) struct ResponseRule {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) enabled: bool,
    pub(crate) syntax: PatternSyntax,
    pub(crate) stop_processing: bool,
    pub(crate) pre_condition: Option<NameText>,
    pub(crate) subject: Subject,
    pub(crate) pattern: PatternText,
    pub(crate) conditions: Conditions,
    pub(crate) action: ResponseAction,
}

/// What an outbound rule reads and changes.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// The whole body, where at most so many matches are replaced; 0 for all.
    Body { occurrences: u64 },
    /// A response field; the name in lower case.
    Field(String),
    /// The status code and reason.
    Status,
    /// Attributes of HTML elements.
    Tags(Tags),
}

/// `filterByTags` and `customTags`.
#[derive(Clone, Debug)]
pub(crate) struct Tags {
    /// The flags of IIS's schema, `A` = 1 to `CustomTags` = 32768.
    pub(crate) flags: u32,
    pub(crate) custom: Option<NameText>,
}

/// What an outbound rule does.
#[derive(Clone, Debug)]
pub(crate) enum ResponseAction {
    None,
    Rewrite { value: Text, replace: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct PreCondition {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) syntax: PatternSyntax,
    pub(crate) conditions: Conditions,
}

/// A set of `<customTags>`: elements and the attribute that is judged in each.
#[derive(Clone, Debug)]
pub(crate) struct TagSet {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) tags: Vec<(String, String)>,
}

/// A `<rewriteMap>`.
#[derive(Clone, Debug)]
pub(crate) struct MapText {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) default: String,
    pub(crate) ignore_case: bool,
    /// Keys and values in order, keys unique as written.
    pub(crate) entries: Vec<(String, String)>,
}

/// A name of `<allowedServerVariables>`.
#[derive(Clone, Debug)]
pub(crate) struct VariableName {
    pub(crate) name: String,
    pub(crate) place: Place,
}

macro_rules! named {
    ($($item:ty: $what:literal),*) => {$(
        impl Named for $item {
            const WHAT: &'static str = $what;

            fn name(&self) -> &str {
                &self.name
            }

            fn place(&self) -> &Place {
                &self.place
            }
        }
    )*};
}

named!(
    RequestRule: "rule", ResponseRule: "outbound rule", PreCondition: "preCondition",
    TagSet: "custom tag set", MapText: "rewrite map", VariableName: "allowed server variable"
);
