//! What the proxy can ask and what the sidecar answers: five verbs, and no way to name a command.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::target::{Desired, Target, TargetState};

/// The versions of the protocol that this program speaks, the newest last. The version is part of every path, so that
/// another one is refused before anything is read; the refusal names these, and the asker takes the newest common one.
pub const PROTOCOL_VERSIONS: &[u32] = &[1];

/// The newest version that two programs both speak.
pub(super) fn common_version(ours: &[u32], theirs: &[u32]) -> Option<u32> {
    let common = ours.iter().filter(|version| theirs.contains(version));
    common.max().copied()
}

/// The most actions that one order takes.
pub const ACTION_LIMIT: usize = 64;

/// The longest text that stands for a mitigation.
pub const HOLDER_LIMIT: usize = 128;

/// On whose behalf a target is stopped: the id of a mitigation.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Holder(String);

/// The text cannot stand for a mitigation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidHolder;

impl Holder {
    /// Takes `text`: one to [`HOLDER_LIMIT`] visible ASCII characters.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn new(text: &str) -> Result<Self, InvalidHolder> {
        let fits = (1..=HOLDER_LIMIT).contains(&text.len());
        match fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidHolder),
        }
    }
}

impl TryFrom<String> for Holder {
    type Error = InvalidHolder;

    fn try_from(text: String) -> Result<Self, InvalidHolder> {
        Self::new(&text)
    }
}

impl From<Holder> for String {
    fn from(holder: Holder) -> Self {
        holder.0
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InvalidHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the id of a mitigation has one to {HOLDER_LIMIT} visible ASCII characters"
        )
    }
}

impl std::error::Error for InvalidHolder {}

/// One target and how far it is to be stopped.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// What is stopped.
    pub target: Target,
    /// How far; [`Desired::Disabled`] when it is left out.
    #[serde(default)]
    pub desired: Desired,
}

/// All that one mitigation wants stopped. What it held before and does not name any more is released.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The mitigation.
    pub mitigation: Holder,
    /// What it wants stopped.
    pub actions: Vec<Action>,
}

/// Gives up all that one mitigation holds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The mitigation.
    pub mitigation: Holder,
}

/// The verbs and what they come with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// Stop targets on behalf of a mitigation, and keep them stopped.
    Apply(Plan),
    /// Say who answers, and whether its driver works.
    Health,
    /// Say what [`Apply`](Self::Apply) would do, and do nothing.
    Plan(Plan),
    /// Say what is held, on whose behalf, and in what state it is.
    State,
    /// Give up what a mitigation holds, and restore what nobody holds any more.
    Undo(Undo),
}

impl Request {
    /// The word for the verb, which is the end of its path.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Apply(_) => "apply",
            Self::Health => "health",
            Self::Plan(_) => "plan",
            Self::State => "state",
            Self::Undo(_) => "undo",
        }
    }

    /// Reads a request from its verb and its body; `Ok(None)` when there is no such verb.
    ///
    /// # Errors
    ///
    /// When the body is not what the verb comes with.
    pub fn read(verb: &str, body: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        let plan = |body| {
            let plan: Plan = serde_json::from_slice(body)?;
            match plan.actions.len() <= ACTION_LIMIT {
                true => Ok(plan),
                false => Err(serde::de::Error::custom(format!(
                    "more than {ACTION_LIMIT} actions"
                ))),
            }
        };
        Ok(Some(match verb {
            "apply" => Self::Apply(plan(body)?),
            "health" => Self::Health,
            "plan" => Self::Plan(plan(body)?),
            "state" => Self::State,
            "undo" => Self::Undo(serde_json::from_slice(body)?),
            _ => return Ok(None),
        }))
    }

    /// The body that goes with the verb.
    pub fn body(&self) -> Vec<u8> {
        let body = match self {
            Self::Apply(plan) | Self::Plan(plan) => serde_json::to_vec(plan),
            Self::Undo(undo) => serde_json::to_vec(undo),
            Self::Health | Self::State => Ok(Vec::new()),
        };
        body.expect("requests have only text keys and write to memory")
    }
}

/// The answer to a request that was understood.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Who answers.
    Health(Health),
    /// What became, or would become, of each target of an order.
    Outcomes(Vec<Outcome>),
    /// Everything that is held or not yet restored.
    State(Vec<TargetReport>),
}

/// The sidecar and its driver.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Health {
    /// The version of the program.
    pub version: String,
    /// The name of the driver.
    pub driver: String,
    /// Why the driver cannot work, or the journal cannot be used; nothing when both can.
    pub problem: Option<String>,
    /// What an operator should know about the driver although it works.
    #[serde(default)]
    pub notice: Option<String>,
}

/// What became of one target of an order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Outcome {
    /// The target.
    pub target: Target,
    /// What became of it.
    pub result: TargetResult,
}

/// The ways an order can end for one target.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetResult {
    /// A plan: it would go from the first state to the second.
    Change {
        /// How it is.
        from: TargetState,
        /// How it would be.
        to: TargetState,
    },
    /// It was ordered and has not come about; the sidecar goes on trying.
    Failed(String),
    /// It is as ordered: read back, not assumed.
    Held(TargetState),
    /// There is no such service or pool on this server.
    Missing,
    /// It is let go by this mitigation; others still hold it.
    Released(TargetState),
    /// It may not be stopped, for this reason; nothing was changed.
    Refused(String),
    /// It is as it was before: read back, not assumed.
    Restored(TargetState),
}

/// One entry of the journal beside what is really there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TargetReport {
    /// The target.
    pub target: Target,
    /// Its state before the first change.
    pub original: TargetState,
    /// Its state now; nothing when it cannot be read.
    pub current: Option<TargetState>,
    /// The mitigations that hold it; nobody when it is still to be restored.
    pub holders: Vec<Holder>,
    /// Why it is not yet as it should be; nothing when it is.
    pub problem: Option<String>,
    /// Whether it would start others again, and is held along with them.
    #[serde(default)]
    pub health_manager: bool,
}

/// The answer to a request that was not carried out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Fault {
    /// What is wrong, and what to do.
    pub error: String,
    /// The versions that are spoken here, when it was asked in another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_common_version_is_spoken() {
        for (ours, theirs, expected) in [
            (&[1][..], &[1][..], Some(1)),
            (&[1, 2, 3], &[2, 1], Some(2)),
            (&[2, 3], &[3, 4], Some(3)),
            (&[1], &[2], None),
            (&[1], &[], None),
        ] {
            assert_eq!(
                common_version(ours, theirs),
                expected,
                "{ours:?} {theirs:?}"
            );
        }
        assert!(PROTOCOL_VERSIONS.is_sorted() && !PROTOCOL_VERSIONS.is_empty());
    }

    #[test]
    fn requests_read_back() {
        let plan: Plan = serde_json::from_str(
            r#"{"mitigation":"M90.1.0","actions":[{"target":{"service":"MSExchangeUM"}},
                {"target":{"pool":"MSExchangeECPAppPool"},"desired":"stopped"}]}"#,
        )
        .unwrap();
        assert_eq!(plan.actions[0].desired, Desired::Disabled);
        let undo = Undo {
            mitigation: Holder::new("M1").unwrap(),
        };
        for request in [
            Request::Apply(plan.clone()),
            Request::Health,
            Request::Plan(plan),
            Request::State,
            Request::Undo(undo),
        ] {
            let read = Request::read(request.verb(), &request.body()).unwrap();
            assert_eq!(read, Some(request));
        }
    }

    #[test]
    fn nothing_but_the_five_verbs_is_understood() {
        for verb in ["", "run", "exec", "Apply", "apply/x", "start", "stop"] {
            assert_eq!(Request::read(verb, b"{}").unwrap(), None, "{verb}");
        }
        for (verb, body) in [
            ("apply", ""),
            ("apply", "{}"),
            ("apply", r#"{"mitigation":"M1"}"#),
            ("apply", r#"{"mitigation":"","actions":[]}"#),
            ("apply", r#"{"mitigation":"M 1","actions":[]}"#),
            ("apply", r#"{"mitigation":"M1","actions":[],"command":"x"}"#),
            (
                "apply",
                r#"{"mitigation":"M1","actions":[{"target":{"service":"x"},"argv":[]}]}"#,
            ),
            (
                "plan",
                r#"{"mitigation":"M1","actions":[{"target":{"service":"a b;c"}}]}"#,
            ),
            ("undo", r#"{"mitigation":"M1","force":true}"#),
            ("undo", "[]"),
        ] {
            assert!(
                Request::read(verb, body.as_bytes()).is_err(),
                "{verb} {body}"
            );
        }
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let action = r#"{"target":{"service":"x"}}"#;
        for (count, taken) in [(ACTION_LIMIT, true), (ACTION_LIMIT + 1, false)] {
            let actions = vec![action; count].join(",");
            let body = format!(r#"{{"mitigation":"M1","actions":[{actions}]}}"#);
            assert_eq!(Request::read("plan", body.as_bytes()).is_ok(), taken);
        }
        assert!(Holder::new(&"M".repeat(HOLDER_LIMIT)).is_ok());
        assert!(Holder::new(&"M".repeat(HOLDER_LIMIT + 1)).is_err());
    }
}
