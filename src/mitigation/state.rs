//! The states of a mitigation and their precedence.

use std::fmt;

use crate::model::UnixTime;

/// What became of a mitigation, in the order of precedence: of several that hold, the first is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// The kill switch lifts it.
    KillSwitch,
    /// Mitigations are switched off for the organisation.
    DisabledOrganisation,
    /// Mitigations are switched off for this server.
    DisabledServer,
    /// An administrator blocked it.
    Blocked,
    /// Its publisher took it back.
    Withdrawn,
    /// Its time is over.
    Expired,
    /// It is not for this installation, for the reason given.
    NotApplicable(String),
    /// Its publisher wants a person's approval first.
    AwaitingApproval,
    /// It is watched and not acted on.
    Audit,
    /// Nothing of it can be enforced, for the reason given.
    Failed(String),
    /// It is enforced except for what is named.
    Partial(String),
    /// Its rules are in force and do not do what they should, for the reason given.
    Drifted(String),
    /// It is enforced.
    Applied(Proof),
}

/// How far the effect of an applied mitigation is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// Its vectors behaved as written before its rules were published, at this time; none went through a listener since.
    Judged(UnixTime),
    /// Its vectors behaved as written at this time.
    Proven(UnixTime),
    /// It has no vectors.
    Unproven,
}

impl State {
    /// The name of every state, in the order of precedence.
    pub const NAMES: &'static [&'static str] = &[
        "KillSwitch",
        "Disabled",
        "Blocked",
        "Withdrawn",
        "Expired",
        "NotApplicable",
        "AwaitingApproval",
        "Audit",
        "Failed",
        "Partial",
        "Drifted",
        "Applied",
    ];

    /// The name of the state, one word as in the list of states.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::KillSwitch => "KillSwitch",
            Self::DisabledOrganisation | Self::DisabledServer => "Disabled",
            Self::Blocked => "Blocked",
            Self::Withdrawn => "Withdrawn",
            Self::Expired => "Expired",
            Self::NotApplicable(_) => "NotApplicable",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::Audit => "Audit",
            Self::Failed(_) => "Failed",
            Self::Partial(_) => "Partial",
            Self::Drifted(_) => "Drifted",
            Self::Applied(_) => "Applied",
        }
    }

    /// What the name leaves open; empty when it says it all.
    pub fn reason(&self) -> String {
        match self {
            Self::DisabledOrganisation => "organisation".to_owned(),
            Self::DisabledServer => "server".to_owned(),
            Self::Drifted(reason)
            | Self::Failed(reason)
            | Self::NotApplicable(reason)
            | Self::Partial(reason) => reason.clone(),
            Self::Applied(Proof::Judged(time)) => {
                format!("unproven: judged at {time}")
            }
            Self::Applied(Proof::Proven(time)) => format!("proven at {time}"),
            Self::Applied(Proof::Unproven) => "unproven: no vector".to_owned(),
            _ => String::new(),
        }
    }

    /// Whether it counts here: nobody switched it off, and it is for what runs here.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::AwaitingApproval | Self::Audit | Self::Failed(_)) || self.is_enforced()
    }

    /// Whether its rewrite rules are in force.
    pub const fn is_enforced(&self) -> bool {
        matches!(self, Self::Applied(_) | Self::Drifted(_) | Self::Partial(_))
    }
}

impl fmt::Display for State {
    /// The name, and the reason in parentheses: `Failed(no such site: Intranet)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let reason = self.reason();
        if reason.is_empty() {
            return Ok(());
        }
        write!(f, "({reason})")
    }
}

/// Everything that bears on one mitigation's state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// Whether the kill switch covers it.
    pub killed: bool,
    /// Whether mitigations are on for the organisation.
    pub organisation_enabled: bool,
    /// Whether mitigations are on for this server.
    pub server_enabled: bool,
    /// Whether a block covers it.
    pub blocked: bool,
    /// Whether its publisher took it back.
    pub withdrawn: bool,
    /// Whether its time is over.
    pub expired: bool,
    /// Why it is not for this installation.
    pub not_applicable: Option<String>,
    /// Whether a person's approval is wanted and was not given.
    pub awaits_approval: bool,
    /// Whether it is only to be watched.
    pub audit: bool,
    /// Why nothing of it can be enforced.
    pub failure: Option<String>,
    /// What of it is not enforced.
    pub missing: Option<String>,
    /// Why its rules do not do what they should although they are in force.
    pub drifted: Option<String>,
    /// How far its effect is known.
    pub proof: Proof,
    /// The servers that are all fixed, when an operator may retire it for that; no state follows from it.
    pub retirable: Option<String>,
}

impl Default for Facts {
    /// The facts of a mitigation that nothing speaks against.
    fn default() -> Self {
        Self {
            killed: false,
            organisation_enabled: true,
            server_enabled: true,
            blocked: false,
            withdrawn: false,
            expired: false,
            not_applicable: None,
            awaits_approval: false,
            audit: false,
            failure: None,
            missing: None,
            drifted: None,
            proof: Proof::Unproven,
            retirable: None,
        }
    }
}

impl Facts {
    /// The state that these facts come to.
    pub fn state(&self) -> State {
        if self.killed {
            return State::KillSwitch;
        }
        if !self.organisation_enabled {
            return State::DisabledOrganisation;
        }
        if !self.server_enabled {
            return State::DisabledServer;
        }
        if self.blocked {
            return State::Blocked;
        }
        if self.withdrawn {
            return State::Withdrawn;
        }
        if self.expired {
            return State::Expired;
        }
        if let Some(reason) = &self.not_applicable {
            return State::NotApplicable(reason.clone());
        }
        if self.awaits_approval {
            return State::AwaitingApproval;
        }
        if self.audit {
            return State::Audit;
        }
        if let Some(reason) = &self.failure {
            return State::Failed(reason.clone());
        }
        if let Some(missing) = &self.missing {
            return State::Partial(missing.clone());
        }
        if let Some(reason) = &self.drifted {
            return State::Drifted(reason.clone());
        }
        State::Applied(self.proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Step = (&'static str, fn(&mut Facts));

    /// One fact for each state, in the order of precedence.
    const STEPS: &[Step] = &[
        ("KillSwitch", |facts| facts.killed = true),
        ("Disabled(organisation)", |facts| {
            facts.organisation_enabled = false;
        }),
        ("Disabled(server)", |facts| facts.server_enabled = false),
        ("Blocked", |facts| facts.blocked = true),
        ("Withdrawn", |facts| facts.withdrawn = true),
        ("Expired", |facts| facts.expired = true),
        ("NotApplicable(fixed)", |facts| {
            facts.not_applicable = Some("fixed".into());
        }),
        ("AwaitingApproval", |facts| facts.awaits_approval = true),
        ("Audit", |facts| facts.audit = true),
        ("Failed(broken)", |facts| {
            facts.failure = Some("broken".into());
        }),
        ("Partial(no sidecar)", |facts| {
            facts.missing = Some("no sidecar".into());
        }),
        ("Drifted(passes)", |facts| {
            facts.drifted = Some("passes".into());
        }),
        ("Applied(unproven: no vector)", |_| ()),
    ];

    #[test]
    fn of_any_two_the_earlier_is_shown() {
        for (first, (name, set)) in STEPS.iter().enumerate() {
            for (_, other) in &STEPS[first..] {
                let mut facts = Facts::default();
                other(&mut facts);
                set(&mut facts);
                assert_eq!(facts.state().to_string(), *name);
            }
        }
    }

    #[test]
    fn names_are_listed_in_the_same_order() {
        let mut names: Vec<&str> = STEPS
            .iter()
            .map(|(_, set)| {
                let mut facts = Facts::default();
                set(&mut facts);
                facts.state().name()
            })
            .collect();
        names.dedup();
        assert_eq!(names, State::NAMES);
    }

    #[test]
    fn only_the_last_three_are_enforced() {
        for (index, (name, set)) in STEPS.iter().enumerate() {
            let mut facts = Facts::default();
            set(&mut facts);
            assert_eq!(
                facts.state().is_enforced(),
                index >= STEPS.len() - 3,
                "{name}"
            );
        }
    }

    #[test]
    fn proof_names_its_time() {
        let facts = Facts {
            proof: Proof::Judged(UnixTime::new(0)),
            ..Facts::default()
        };
        assert_eq!(
            facts.state().to_string(),
            "Applied(unproven: judged at 1970-01-01T00:00:00Z)"
        );
    }
}
