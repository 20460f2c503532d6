//! What an administrator said about mitigations.

use std::sync::Arc;

use super::builds::{Retirement, SiteBuilds};
use super::content::content;
use crate::model::{BuildRange, Mitigation, MitigationId, Mode};

/// The ring of an installation by default: most of them.
pub const DEFAULT_RING: u8 = 1;

/// The ring of an installation that takes what is offered last.
pub const LAST_RING: u8 = 2;

/// What an administrator said; the default lets everything be applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// What the kill switch lifts.
    pub kill_switch: KillSwitch,
    /// Whether mitigations are on for the organisation.
    pub organisation_enabled: bool,
    /// Whether mitigations are on for this server.
    pub server_enabled: bool,
    /// What is never enforced; `M2` covers every `M2.x`.
    pub blocked: Vec<MitigationId>,
    /// What a person approved whatever it says; `M2` covers every `M2.x`.
    pub approved: Vec<MitigationId>,
    /// What a person approved as it is.
    pub approved_contents: Vec<Arc<Mitigation>>,
    /// Whether a mitigation of a feed waits for approval even if its publisher does not ask for it.
    pub approval_required: bool,
    /// Whether each is enforced or only watched; the last that covers a mitigation counts, before its publisher's word.
    pub modes: Vec<(MitigationId, Mode)>,
    /// The ring of this installation: 0 takes what is offered first, 2 what is offered last.
    pub ring: u8,
    /// Opt-in groups that are enforced.
    pub groups: Vec<String>,
    /// Products and their builds, one entry for each server. A product not listed counts as affected.
    pub builds: Vec<(String, [u32; 4])>,
    /// What the servers of each site were learned to run. A server of which nothing is known counts as affected.
    pub learned: Vec<SiteBuilds>,
    /// Whether a mitigation goes on its own once what was learned says that every server is fixed.
    pub retirement: Retirement,
    /// What an operator retired: it stays so for as long as every server is fixed.
    pub retired: Vec<MitigationId>,
    /// What an operator keeps in force although every server is fixed; `M2` covers every `M2.x`.
    pub kept: Vec<MitigationId>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            kill_switch: KillSwitch::Off,
            organisation_enabled: true,
            server_enabled: true,
            blocked: Vec::new(),
            approved: Vec::new(),
            approved_contents: Vec::new(),
            approval_required: false,
            modes: Vec::new(),
            ring: DEFAULT_RING,
            groups: Vec::new(),
            builds: Vec::new(),
            learned: Vec::new(),
            retirement: Retirement::default(),
            retired: Vec::new(),
            kept: Vec::new(),
        }
    }
}

/// What the kill switch lifts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KillSwitch {
    /// Every rule of every source.
    All,
    /// These mitigations; `M2` covers every `M2.x`.
    Only(Vec<MitigationId>),
    /// Nothing.
    Off,
}

impl KillSwitch {
    /// Reads the switch's file: ids apart by white space; nothing at all, or anything that is no id, lifts
    /// everything, since whoever throws the switch wants traffic to flow.
    pub fn from_text(text: &str) -> Self {
        let ids: Result<Vec<MitigationId>, _> = text.split_whitespace().map(str::parse).collect();
        match ids {
            Ok(ids) if !ids.is_empty() => Self::Only(ids),
            _ => Self::All,
        }
    }

    /// Whether it lifts the mitigation `id`.
    pub fn lifts(&self, id: &MitigationId) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.iter().any(|own| own.covers(id)),
            Self::Off => false,
        }
    }
}

impl Policy {
    pub(super) fn is_blocked(&self, id: &MitigationId) -> bool {
        self.blocked.iter().any(|blocked| blocked.covers(id))
    }

    pub(super) fn is_approved(&self, mitigation: &Mitigation) -> bool {
        let id = &mitigation.id;
        let mut contents = self.approved_contents.iter();
        self.approved.iter().any(|approved| approved.covers(id))
            || contents.any(|own| own.id == *id && content(own) == content(mitigation))
    }

    pub(super) fn mode(&self, id: &MitigationId) -> Option<Mode> {
        let mut own = self.modes.iter().rev();
        own.find(|(own, _)| own.covers(id)).map(|(_, mode)| *mode)
    }

    pub(super) fn is_kept(&self, id: &MitigationId) -> bool {
        self.kept.iter().any(|kept| kept.covers(id))
    }

    /// Whether a mitigation that every server is fixed against is in force no more.
    pub(super) fn is_retired(&self, id: &MitigationId) -> bool {
        let by_operator = || self.retired.iter().any(|retired| retired.covers(id));
        !self.is_kept(id) && (self.retirement == Retirement::Automatic || by_operator())
    }

    /// Whether any server's build lies in any range, or nothing speaks against it.
    pub(super) fn is_affected(&self, ranges: &[BuildRange]) -> bool {
        ranges.is_empty()
            || ranges.iter().any(|range| {
                let mut known = self
                    .builds
                    .iter()
                    .filter(|(product, _)| *product == range.product)
                    .peekable();
                known.peek().is_none()
                    || known.any(|(_, build)| range.min <= *build && *build < range.below)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_half_open_and_unknown_ones_count() {
        let range = |product: &str, min, below| BuildRange {
            product: product.into(),
            min,
            below,
        };
        let ranges = [
            range("exchange", [15, 1, 0, 0], [15, 1, 2375, 37]),
            range("exchange", [15, 2, 0, 0], [15, 2, 986, 36]),
        ];
        let cases = [
            (vec![], true),
            (vec![[15, 1, 0, 0]], true),
            (vec![[15, 1, 2375, 36]], true),
            (vec![[15, 1, 2375, 37]], false),
            (vec![[15, 2, 986, 35]], true),
            (vec![[15, 2, 986, 36]], false),
            (vec![[15, 2, 986, 36], [15, 2, 986, 35]], true),
        ];
        for (builds, affected) in cases {
            let policy = Policy {
                builds: builds.iter().map(|b| ("exchange".into(), *b)).collect(),
                ..Policy::default()
            };
            assert_eq!(policy.is_affected(&ranges), affected, "{builds:?}");
            assert!(policy.is_affected(&[]));
            assert!(policy.is_affected(&[range("other", [1; 4], [2; 4])]));
        }
    }

    #[test]
    fn kill_switch_in_doubt_lifts_everything() {
        assert_eq!(KillSwitch::from_text(""), KillSwitch::All);
        assert_eq!(KillSwitch::from_text("\n"), KillSwitch::All);
        assert_eq!(KillSwitch::from_text("m1"), KillSwitch::All);
        let one = KillSwitch::from_text("M1.1\nM2\n");
        assert!(one.lifts(&"M1.1.0".parse().unwrap()));
        assert!(one.lifts(&"M2.3".parse().unwrap()));
        assert!(!one.lifts(&"M3".parse().unwrap()));
        assert!(!KillSwitch::Off.lifts(&"M3".parse().unwrap()));
    }
}
