//! What operators decided while the instance ran, beside what the settings say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{Digest, MitigationId, Mode};

/// The most ids that each kind of decision is kept for.
pub const DECISION_LIMIT: usize = 1_000;

/// One thing that an operator decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Let what waits for approval be enforced; `M2` covers every `M2.x`.
    Approve(MitigationId),
    /// Let it be enforced for as long as its content has this digest.
    ApproveContent(MitigationId, Digest),
    /// Never enforce it; `M2` covers every `M2.x`.
    Block(MitigationId),
    /// Keep it in force although every server is fixed; `M2` covers every `M2.x`. Takes back that it is retired.
    Keep(MitigationId),
    /// Enforce or only watch it, whatever settings and publisher say; nothing forgets such a word.
    Mode(MitigationId, Option<Mode>),
    /// Have it in force no more for as long as every server is fixed. Takes back that it is kept.
    Retire(MitigationId),
    /// Take a block back, exactly as it was written.
    Unblock(MitigationId),
}

/// All that operators decided. The default is nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decisions {
    approved: BTreeSet<MitigationId>,
    approved_contents: BTreeSet<(MitigationId, Digest)>,
    blocked: BTreeSet<MitigationId>,
    modes: BTreeMap<MitigationId, Mode>,
    retired: BTreeSet<MitigationId>,
    kept: BTreeSet<MitigationId>,
}

/// Why a decision is not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DecisionError(String);

impl fmt::Display for DecisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecisionError {}

impl Decisions {
    /// Takes a decision; `false` if it changes nothing.
    ///
    /// # Errors
    ///
    /// When a block is to be taken back that no operator made, or more than [`DECISION_LIMIT`] would be kept.
    pub fn decide(&mut self, decision: &Decision) -> Result<bool, DecisionError> {
        let room = |length| match length < DECISION_LIMIT {
            true => Ok(()),
            false => Err(DecisionError(format!(
                "{DECISION_LIMIT} are kept already: take one back first"
            ))),
        };
        match decision {
            Decision::Approve(id) | Decision::Block(id) => {
                let ids = match decision {
                    Decision::Approve(_) => &mut self.approved,
                    _ => &mut self.blocked,
                };
                if ids.contains(id) {
                    return Ok(false);
                }
                room(ids.len())?;
                Ok(ids.insert(id.clone()))
            }
            Decision::ApproveContent(id, content) => {
                let approved = (id.clone(), *content);
                if self.approved_contents.contains(&approved) {
                    return Ok(false);
                }
                room(self.approved_contents.len())?;
                Ok(self.approved_contents.insert(approved))
            }
            Decision::Keep(id) | Decision::Retire(id) => {
                let (own, other) = match decision {
                    Decision::Keep(_) => (&mut self.kept, &mut self.retired),
                    _ => (&mut self.retired, &mut self.kept),
                };
                if !own.contains(id) {
                    room(own.len())?;
                }
                let before = other.len();
                other.retain(|other| !id.covers(other) && !other.covers(id));
                Ok(own.insert(id.clone()) || other.len() != before)
            }
            Decision::Mode(id, None) => Ok(self.modes.remove(id).is_some()),
            Decision::Mode(id, Some(mode)) => {
                if !self.modes.contains_key(id) {
                    room(self.modes.len())?;
                }
                Ok(self.modes.insert(id.clone(), *mode) != Some(*mode))
            }
            Decision::Unblock(id) => match self.blocked.remove(id) {
                true => Ok(true),
                false => Err(self.not_blocked(id)),
            },
        }
    }

    /// What is never enforced.
    pub fn blocked(&self) -> impl Iterator<Item = &MitigationId> {
        self.blocked.iter()
    }

    /// What was approved as it was then, each with the digest of its content.
    pub fn approved_contents(&self) -> impl Iterator<Item = &(MitigationId, Digest)> {
        self.approved_contents.iter()
    }

    /// What was approved whatever it says.
    pub fn approved(&self) -> impl Iterator<Item = &MitigationId> {
        self.approved.iter()
    }

    /// What is enforced or only watched, whatever settings and publisher say.
    pub fn modes(&self) -> impl Iterator<Item = (&MitigationId, Mode)> {
        self.modes.iter().map(|(id, mode)| (id, *mode))
    }

    /// What is in force no more for as long as every server is fixed.
    pub fn retired(&self) -> impl Iterator<Item = &MitigationId> {
        self.retired.iter()
    }

    /// What is kept in force although every server is fixed.
    pub fn kept(&self) -> impl Iterator<Item = &MitigationId> {
        self.kept.iter()
    }

    /// Forgets that these were retired, since a server shows that it is not fixed any more; whether any was.
    pub fn unretire(&mut self, affected: impl Fn(&MitigationId) -> bool) -> bool {
        let before = self.retired.len();
        self.retired.retain(|id| !affected(id));
        self.retired.len() != before
    }

    /// The text that [`read`](Self::read) reads: a line for each decision, the kind and the id apart by a space.
    pub fn write(&self) -> String {
        let approved = self.approved.iter().map(|id| format!("approve {id}\n"));
        let contents = self.approved_contents.iter();
        let contents = contents.map(|(id, content)| format!("approve {id} {content}\n"));
        let blocked = self.blocked.iter().map(|id| format!("block {id}\n"));
        let modes = self.modes.iter().map(|(id, mode)| match mode {
            Mode::Audit => format!("audit {id}\n"),
            Mode::Enforce => format!("enforce {id}\n"),
        });
        let kept = self.kept.iter().map(|id| format!("keep {id}\n"));
        let retired = self.retired.iter().map(|id| format!("retire {id}\n"));
        let lines = approved.chain(contents).chain(blocked).chain(modes);
        lines.chain(kept).chain(retired).collect()
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    ///
    /// When a line is none of its.
    pub fn read(text: &str) -> Result<Self, DecisionError> {
        let mut decisions = Self::default();
        for line in text.lines() {
            let broken = || DecisionError(format!("{line:?} is no decision"));
            let (kind, id) = line.split_once(' ').ok_or_else(broken)?;
            let (id, content) = match id.split_once(' ') {
                Some((id, content)) => (id, Some(Digest::from_hex(content).ok_or_else(broken)?)),
                None => (id, None),
            };
            let id: MitigationId = id.parse().map_err(|_| broken())?;
            decisions.decide(&match (kind, content) {
                ("approve", Some(content)) => Decision::ApproveContent(id, content),
                (_, Some(_)) => return Err(broken()),
                (kind, None) => match kind {
                    "approve" => Decision::Approve(id),
                    "audit" => Decision::Mode(id, Some(Mode::Audit)),
                    "block" => Decision::Block(id),
                    "keep" => Decision::Keep(id),
                    "retire" => Decision::Retire(id),
                    "enforce" => Decision::Mode(id, Some(Mode::Enforce)),
                    _ => return Err(broken()),
                },
            })?;
        }
        Ok(decisions)
    }

    fn not_blocked(&self, id: &MitigationId) -> DecisionError {
        let wider = self.blocked.iter().find(|own| own.covers(id));
        DecisionError(match wider {
            Some(wider) => format!("{id} is blocked as part of {wider}: unblock {wider}"),
            None => {
                format!("no operator blocked {id}; a block of the settings is taken back there")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MitigationId {
        text.parse().unwrap()
    }

    #[test]
    fn decisions_are_taken_once_and_taken_back_as_written() {
        let mut decisions = Decisions::default();
        let mut decide = |decision| {
            decisions
                .decide(&decision)
                .map_err(|error| error.to_string())
        };
        assert_eq!(decide(Decision::Block(id("M2"))), Ok(true));
        assert_eq!(decide(Decision::Block(id("M2"))), Ok(false));
        let error = decide(Decision::Unblock(id("M2.1"))).unwrap_err();
        assert_eq!(error, "M2.1 is blocked as part of M2: unblock M2");
        assert!(decide(Decision::Unblock(id("M3"))).is_err());
        assert_eq!(decide(Decision::Approve(id("M90.1"))), Ok(true));
        let content = || Decision::ApproveContent(id("M91.1"), Digest::new([0xab; 32]));
        assert_eq!(
            [decide(content()), decide(content())],
            [Ok(true), Ok(false)]
        );
        for (mode, changed) in [
            (Some(Mode::Audit), true),
            (Some(Mode::Audit), false),
            (Some(Mode::Enforce), true),
            (None, true),
            (None, false),
            (Some(Mode::Audit), true),
        ] {
            assert_eq!(decide(Decision::Mode(id("M1.1"), mode)), Ok(changed));
        }
        let text = decisions.write();
        let digest = "ab".repeat(32);
        assert_eq!(
            text,
            format!("approve M90.1\napprove M91.1 {digest}\nblock M2\naudit M1.1\n")
        );
        assert_eq!(Decisions::read(&text), Ok(decisions.clone()));
        assert_eq!(decisions.decide(&Decision::Unblock(id("M2"))), Ok(true));
        assert_eq!(decisions.blocked().count(), 0);
    }

    #[test]
    fn what_is_retired_is_not_kept() {
        let mut decisions = Decisions::default();
        let mut decide = |decision| decisions.decide(&decision).unwrap();
        assert!(decide(Decision::Retire(id("M2.1"))));
        assert!(decide(Decision::Retire(id("M1.1"))));
        assert!(!decide(Decision::Retire(id("M1.1"))));
        assert!(decide(Decision::Keep(id("M2"))));
        assert_eq!(decisions.write(), "keep M2\nretire M1.1\n");
        assert_eq!(Decisions::read(&decisions.write()), Ok(decisions.clone()));
        assert!(!decisions.unretire(|own| *own == id("M2.1")));
        assert!(decisions.unretire(|own| *own == id("M1.1")));
        assert_eq!(decisions.decide(&Decision::Retire(id("M2.1"))), Ok(true));
        assert_eq!(decisions.write(), "retire M2.1\n");
    }

    #[test]
    fn what_is_no_decision_is_not_read() {
        for text in [
            "block",
            "block ",
            "block m2",
            "stop M2",
            "block M2 now",
            "approve M2 now",
            &format!("block M2 {}", "ab".repeat(32)),
        ] {
            assert!(Decisions::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limit_holds_on_both_sides() {
        let mut decisions = Decisions::default();
        for number in 0..DECISION_LIMIT {
            let decision = Decision::Block(id(&format!("M{number}")));
            assert_eq!(decisions.decide(&decision), Ok(true));
        }
        assert!(decisions.decide(&Decision::Block(id("N1"))).is_err());
        assert_eq!(decisions.decide(&Decision::Block(id("M1"))), Ok(false));
        assert_eq!(decisions.decide(&Decision::Approve(id("N1"))), Ok(true));
    }
}
