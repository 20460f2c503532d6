//! From what every source offers to one ordered list.

use std::sync::Arc;

use super::builds::{Evidence, evidence};
use super::policy::Policy;
use super::state::{Facts, Proof};
use crate::model::{ActionKind, Mitigation, MitigationId, Mode, UnixTime};

/// One source and what it offers, in document order.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// Its name in status and alarms.
    pub name: &'a str,
    /// What kind of source it is.
    pub kind: SourceKind,
    /// What it offers.
    pub mitigations: &'a [Arc<Mitigation>],
}

/// The kinds of sources.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceKind {
    /// Compiled into the program.
    Bundled,
    /// A feed.
    Feed {
        /// Whether it was fetched recently enough.
        fresh: bool,
    },
    /// A file of the administrator's.
    Local,
}

/// One mitigation that counts, with everything known about it before its rules are compiled.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The index of its source in the list that was resolved.
    pub source: usize,
    /// The mitigation.
    pub mitigation: Arc<Mitigation>,
    /// What bears on its state; whoever compiles its rules adds a failure or a proof, and whoever asks the sidecars what
    /// is missing.
    pub facts: Facts,
}

/// Two feeds offer one mitigation with different content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// The mitigation, as the feed that wins spells it.
    pub id: MitigationId,
    /// The index of the source that wins.
    pub winner: usize,
    /// The index of the source that loses.
    pub loser: usize,
}

/// What all sources together come to.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// In the order of evaluation: by source, then as in the document.
    pub entries: Vec<Entry>,
    /// Feeds that contradict each other.
    pub conflicts: Vec<Conflict>,
}

/// Resolves `sources` at `now`, the one with the highest priority first.
///
/// An id that a source with a higher priority offered is superseded and left out, whatever became of that one: its
/// withdrawal and its applicability count too. Within one source the first of two wins, and the later one fails.
pub fn resolve(sources: &[Origin<'_>], policy: &Policy, now: UnixTime) -> Resolution {
    let mut resolution = Resolution::default();
    for (source, origin) in sources.iter().enumerate() {
        for mitigation in origin.mitigations {
            let rival = resolution
                .entries
                .iter()
                .find(|entry| entry.mitigation.id.same_mitigation(&mitigation.id));
            let mut facts = facts(mitigation, origin, policy, now);
            if let Some(rival) = rival {
                if rival.source != source {
                    let winner = rival.source;
                    if is_feed(&sources[winner])
                        && is_feed(origin)
                        && !same_content(&rival.mitigation, mitigation)
                    {
                        resolution.conflicts.push(Conflict {
                            id: rival.mitigation.id.clone(),
                            winner,
                            loser: source,
                        });
                    }
                    continue;
                }
                facts.failure = Some(format!(
                    "a second mitigation {} in one document: give it another id",
                    mitigation.id
                ));
            }
            resolution.entries.push(Entry {
                source,
                mitigation: mitigation.clone(),
                facts,
            });
        }
    }
    resolution
}

/// Whether two mitigations say the same, wherever in their documents they stand.
pub fn same_content(one: &Mitigation, other: &Mitigation) -> bool {
    without_positions(one) == without_positions(other)
}

fn is_feed(origin: &Origin<'_>) -> bool {
    matches!(origin.kind, SourceKind::Feed { .. })
}

fn facts(mitigation: &Mitigation, origin: &Origin<'_>, policy: &Policy, now: UnixTime) -> Facts {
    let id = &mitigation.id;
    // Whoever wrote a local file approved it by putting it there.
    let asked = mitigation.approval_required || (policy.approval_required && is_feed(origin));
    let evidence = evidence(mitigation, &policy.learned);
    let not_applicable = not_applicable(mitigation, policy, &evidence, now);
    let retirable = match evidence {
        Evidence::Fixed(servers) if not_applicable.is_none() && !policy.is_kept(id) => {
            Some(servers)
        }
        _ => None,
    };
    Facts {
        killed: policy.kill_switch.lifts(id),
        organisation_enabled: policy.organisation_enabled,
        server_enabled: policy.server_enabled,
        blocked: policy.is_blocked(id),
        withdrawn: mitigation.withdrawn,
        expired: mitigation.not_after.is_some_and(|end| end <= now),
        not_applicable,
        awaits_approval: asked && !policy.is_approved(mitigation),
        audit: policy.mode(id).unwrap_or(mitigation.mode) == Mode::Audit,
        failure: mitigation
            .failure
            .clone()
            .or_else(|| missed_heartbeat(mitigation, origin)),
        missing: None,
        drifted: None,
        proof: Proof::Unproven,
        retirable,
    }
}

fn not_applicable(
    mitigation: &Mitigation,
    policy: &Policy,
    evidence: &Evidence,
    now: UnixTime,
) -> Option<String> {
    let group = &mitigation.group;
    if !group.is_empty() && !policy.groups.contains(group) {
        return Some(format!("its group {group} is not chosen"));
    }
    if let Some(begin) = mitigation.not_before.filter(|begin| now < *begin) {
        return Some(format!("it begins at {begin}"));
    }
    if let Some(ring) = mitigation.ring.filter(|ring| *ring < policy.ring) {
        return Some(format!(
            "offered up to ring {ring} so far, and this installation is in ring {}",
            policy.ring
        ));
    }
    match evidence {
        // What a server shows counts before what somebody wrote about it.
        Evidence::Affected(_) => None,
        _ if !policy.is_affected(&mitigation.applies) => {
            Some("the product's build is not affected".to_owned())
        }
        Evidence::Fixed(servers) if policy.is_retired(&mitigation.id) => {
            Some(format!("retired: fixed on every server: {servers}"))
        }
        Evidence::Fixed(_) | Evidence::Unknown => None,
    }
}

/// A heartbeat proves that its feed arrives, so it fails when the feed does not.
fn missed_heartbeat(mitigation: &Mitigation, origin: &Origin<'_>) -> Option<String> {
    let heartbeat = mitigation
        .actions
        .iter()
        .all(|action| action.kind == ActionKind::DoNothing);
    let stale = origin.kind == SourceKind::Feed { fresh: false };
    (heartbeat && stale).then(|| format!("feed {} is stale", origin.name))
}

fn without_positions(mitigation: &Mitigation) -> Mitigation {
    let mut plain = mitigation.clone();
    for action in &mut plain.actions {
        if let ActionKind::Rewrite(text) = &mut action.kind {
            (text.line, text.column) = (0, 0);
        }
    }
    for vector in &mut plain.vectors {
        vector.line = 0;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mitigation::KillSwitch;
    use crate::model::{Action, RewriteText, Scope};

    fn rewrite(xml: &str, line: usize) -> ActionKind {
        ActionKind::Rewrite(RewriteText {
            xml: xml.into(),
            line,
            column: 1,
        })
    }

    fn offer(id: &str, kind: ActionKind) -> Mitigation {
        Mitigation {
            id: id.parse().unwrap(),
            description: String::new(),
            cve: String::new(),
            reference: String::new(),
            side_effects: String::new(),
            group: String::new(),
            actions: vec![Action {
                kind,
                scope: Scope::Server,
                description: String::new(),
            }],
            vectors: Vec::new(),
            applies: Vec::new(),
            mode: Mode::Enforce,
            approval_required: false,
            ring: None,
            not_before: None,
            not_after: None,
            withdrawn: false,
            failure: None,
        }
    }

    /// Resolves (kind, mitigations) and shows `source id state` for each entry.
    fn shown(sources: &[(SourceKind, Vec<Mitigation>)], policy: &Policy) -> Vec<String> {
        let held: Vec<Vec<Arc<Mitigation>>> = sources
            .iter()
            .map(|(_, offers)| offers.iter().cloned().map(Arc::new).collect())
            .collect();
        let origins: Vec<Origin<'_>> = sources
            .iter()
            .zip(&held)
            .map(|((kind, _), mitigations)| Origin {
                name: "s",
                kind: *kind,
                mitigations,
            })
            .collect();
        let resolution = resolve(&origins, policy, NOW);
        let entries = resolution.entries.iter().map(|entry| {
            let (id, state) = (&entry.mitigation.id, entry.facts.state());
            format!("{} {id} {}", entry.source, state.name())
        });
        let conflicts = resolution.conflicts.iter().map(|conflict| {
            format!(
                "conflict {} {} {}",
                conflict.id, conflict.winner, conflict.loser
            )
        });
        entries.chain(conflicts).collect()
    }

    const NOW: UnixTime = UnixTime::new(1_000);

    const FRESH: SourceKind = SourceKind::Feed { fresh: true };
    const STALE: SourceKind = SourceKind::Feed { fresh: false };

    #[test]
    fn higher_source_supersedes_with_its_withdrawal() {
        let mut withdrawn = offer("M1.1", rewrite("a", 1));
        withdrawn.withdrawn = true;
        let lower = offer("M1.1.0", rewrite("a", 1));
        let other = offer("M1.2", rewrite("a", 1));
        let sources = [
            (FRESH, vec![withdrawn]),
            (SourceKind::Bundled, vec![lower, other]),
        ];
        assert_eq!(
            shown(&sources, &Policy::default()),
            ["0 M1.1 Withdrawn", "1 M1.2 Applied"]
        );
    }

    #[test]
    fn feeds_that_differ_conflict_and_the_earlier_wins() {
        let one = offer("M1.1", rewrite("a", 1));
        let moved = offer("M1.1", rewrite("a", 9));
        let other = offer("M1.1.0", rewrite("b", 1));
        let policy = Policy::default();
        let same = [(FRESH, vec![one.clone()]), (FRESH, vec![moved])];
        assert_eq!(shown(&same, &policy), ["0 M1.1 Applied"]);
        let differing = [(FRESH, vec![one.clone()]), (FRESH, vec![other.clone()])];
        assert_eq!(
            shown(&differing, &policy),
            ["0 M1.1 Applied", "conflict M1.1 0 1"]
        );
        for kind in [SourceKind::Local, SourceKind::Bundled] {
            let no_feed = [(kind, vec![one.clone()]), (FRESH, vec![other.clone()])];
            assert_eq!(shown(&no_feed, &policy), ["0 M1.1 Applied"]);
        }
    }

    #[test]
    fn second_of_one_document_fails() {
        let one = offer("M1.1", rewrite("a", 1));
        let sources = [(FRESH, vec![one.clone(), one])];
        assert_eq!(
            shown(&sources, &Policy::default()),
            ["0 M1.1 Applied", "0 M1.1 Failed"]
        );
    }

    #[test]
    fn time_ring_approval_and_mode_are_judged_on_both_sides() {
        let plain = offer("M1.1", rewrite("a", 1));
        let state = |change: &dyn Fn(&mut Mitigation), policy: &Policy, kind| {
            let mut changed = plain.clone();
            change(&mut changed);
            shown(&[(kind, vec![changed])], policy).remove(0)
        };
        let policy = Policy::default();
        let time = |seconds| Some(UnixTime::new(seconds));
        for (begin, end, expected) in [
            (time(1_000), time(1_001), "0 M1.1 Applied"),
            (time(1_001), None, "0 M1.1 NotApplicable"),
            (None, time(1_000), "0 M1.1 Expired"),
        ] {
            let change = |m: &mut Mitigation| (m.not_before, m.not_after) = (begin, end);
            assert_eq!(state(&change, &policy, FRESH), expected);
        }
        for (offered, own, expected) in [
            (None, 2, "0 M1.1 Applied"),
            (Some(0), 0, "0 M1.1 Applied"),
            (Some(0), 1, "0 M1.1 NotApplicable"),
            (Some(1), 1, "0 M1.1 Applied"),
            (Some(1), 2, "0 M1.1 NotApplicable"),
            (Some(2), 2, "0 M1.1 Applied"),
        ] {
            let policy = Policy {
                ring: own,
                ..Policy::default()
            };
            assert_eq!(state(&|m| m.ring = offered, &policy, FRESH), expected);
        }
        let wary = Policy {
            approval_required: true,
            ..Policy::default()
        };
        assert_eq!(state(&|_| (), &wary, FRESH), "0 M1.1 AwaitingApproval");
        assert_eq!(state(&|_| (), &wary, SourceKind::Bundled), "0 M1.1 Applied");
        assert_eq!(state(&|_| (), &wary, SourceKind::Local), "0 M1.1 Applied");
        let modes = Policy {
            modes: vec![
                ("M1".parse().unwrap(), Mode::Audit),
                ("M1.2".parse().unwrap(), Mode::Enforce),
            ],
            ..Policy::default()
        };
        assert_eq!(state(&|_| (), &modes, FRESH), "0 M1.1 Audit");
        let other = |m: &mut Mitigation| {
            m.id = "M1.2".parse().unwrap();
            m.mode = Mode::Audit;
        };
        assert_eq!(state(&other, &modes, FRESH), "0 M1.2 Applied");
    }

    #[test]
    fn facts_come_from_mitigation_source_and_policy() {
        let plain = offer("M1.1", rewrite("a", 1));
        let heartbeat = offer("PING1", ActionKind::DoNothing);
        let change = |base: &Mitigation, change: fn(&mut Mitigation)| {
            let mut changed = base.clone();
            change(&mut changed);
            changed
        };
        let grouped = change(&plain, |m| m.group = "policy".into());
        let approval = change(&plain, |m| m.approval_required = true);
        let policy = Policy::default();
        let chosen = Policy {
            groups: vec!["policy".into()],
            approved: vec!["M1".parse().unwrap()],
            ..Policy::default()
        };
        let blocked = Policy {
            blocked: vec!["M1".parse().unwrap()],
            ..Policy::default()
        };
        let killed = Policy {
            kill_switch: KillSwitch::All,
            ..Policy::default()
        };
        let cases = [
            (FRESH, plain.clone(), &policy, "Applied"),
            (STALE, plain.clone(), &policy, "Applied"),
            (FRESH, heartbeat.clone(), &policy, "Applied"),
            (STALE, heartbeat.clone(), &policy, "Failed"),
            (SourceKind::Bundled, heartbeat, &policy, "Applied"),
            (FRESH, grouped.clone(), &policy, "NotApplicable"),
            (FRESH, grouped, &chosen, "Applied"),
            (FRESH, approval.clone(), &policy, "AwaitingApproval"),
            (FRESH, approval, &chosen, "Applied"),
            (FRESH, plain.clone(), &blocked, "Blocked"),
            (SourceKind::Local, plain.clone(), &killed, "KillSwitch"),
            (
                FRESH,
                change(&plain, |m| m.mode = Mode::Audit),
                &policy,
                "Audit",
            ),
            (
                FRESH,
                change(&plain, |m| m.failure = Some("bad".into())),
                &policy,
                "Failed",
            ),
        ];
        for (kind, mitigation, policy, expected) in cases {
            let id = mitigation.id.clone();
            assert_eq!(
                shown(&[(kind, vec![mitigation])], policy),
                [format!("0 {id} {expected}")]
            );
        }
    }
}
