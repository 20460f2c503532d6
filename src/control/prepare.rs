//! One mitigation, or one file of rules, brought through every gate that it must pass alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::{ControlConfig, Policy};
use super::status::RuleReport;
use crate::lab::honest::{self, HonestStop};
use crate::lab::vectors::{self, Reading};
use crate::model::{Mitigation, MitigationId, RewriteText, Scope, UnixTime, explain};
use crate::rules::{Dialect, RuleKind, RuleLimits, RuleOrigin, RuleSet, RuleSource, SourceOrigin};
use crate::telemetry::AlarmKind;

/// What every source must pass, the same for the whole run.
#[derive(Clone, Debug)]
pub(super) struct Gates {
    sites: Vec<String>,
    policy: Policy,
    honest_paths: Vec<String>,
}

/// Rules that passed.
#[derive(Debug)]
pub(super) struct Prepared {
    /// One group of rules for each rewrite action, in document order.
    pub(super) groups: Vec<Group>,
    /// What a verified publisher wrote that is not known here.
    pub(super) notices: Vec<String>,
    /// The rules in the order of evaluation.
    pub(super) rules: Vec<RuleReport>,
    /// When its vectors were judged; `None` when it has none.
    pub(super) proven: Option<UnixTime>,
    /// Honest requests that it stops and that were let pass for a reason, which is to be logged.
    pub(super) warning: Option<String>,
}

/// The rules of one action.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) source: RuleSource,
    /// The index of the action in its mitigation.
    pub(super) action: usize,
    /// The indices of the sites that it is for.
    pub(super) sites: Vec<usize>,
}

/// Why a mitigation or file does not pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    pub(super) alarm: AlarmKind,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(reason: impl std::fmt::Display) -> Self {
        Self {
            alarm: AlarmKind::Refused,
            reason: reason.to_string(),
        }
    }
}

/// Where a document stands, which decides how its rules are read and what they may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    /// The name of the file or feed, for errors.
    pub(super) name: &'a str,
    pub(super) dialect: Dialect,
    /// Whether an administrator wrote it: stopping honest requests may then be its purpose.
    pub(super) local: bool,
}

impl Gates {
    pub(super) fn new(config: &ControlConfig) -> Self {
        Self {
            sites: config.sites.clone(),
            policy: config.policy.clone(),
            honest_paths: config.honest_paths.clone(),
        }
    }

    pub(super) const fn site_count(&self) -> usize {
        self.sites.len()
    }

    /// Brings a mitigation through its gates: sites, rules, vectors, honest requests.
    pub(super) fn mitigation(
        &self,
        mitigation: &Mitigation,
        standing: Standing<'_>,
        now: UnixTime,
    ) -> Result<Prepared, Refusal> {
        let sites: Vec<Vec<usize>> = mitigation
            .actions
            .iter()
            .map(|action| self.sites_of(&action.scope))
            .collect::<Result<_, _>>()?;
        let reading = Reading {
            document: standing.name,
            dialect: standing.dialect,
            verified: !standing.local,
        };
        let sources =
            vectors::sources(mitigation, reading).map_err(|error| Refusal::new(explain(&error)))?;
        let alone = vectors::compile(mitigation, &sources, standing.name)
            .map_err(|error| Refusal::new(explain(&error)))?;
        let notices = sources.iter().flat_map(|(_, source)| source.notices());
        let notices = notices.map(ToString::to_string).collect();
        let groups = sources.into_iter().map(|(action, source)| Group {
            source,
            action,
            sites: sites[action].clone(),
        });
        check_vectors(&alone, mitigation)?;
        let stops = honest::judge(&alone, &self.honest_paths);
        Ok(Prepared {
            groups: groups.collect(),
            notices,
            rules: rules_of(&alone),
            proven: (!mitigation.vectors.is_empty()).then_some(now),
            warning: self.check_honest(&stops, Some(&mitigation.id), standing)?,
        })
    }

    /// Brings rewrite rules of a local file, with no mitigation around them, through their gates.
    pub(super) fn rules(
        &self,
        text: &RewriteText,
        standing: Standing<'_>,
    ) -> Result<Prepared, Refusal> {
        let source = parse(text, standing)?;
        let mut builder = RuleSet::builder(RuleLimits::default());
        builder
            .add(&source, RuleOrigin::local(standing.name))
            .map_err(|error| Refusal::new(explain(&error)))?;
        let alone = builder.build();
        let stops = honest::judge(&alone, &self.honest_paths);
        Ok(Prepared {
            groups: vec![Group {
                source,
                action: 0,
                sites: (0..self.sites.len()).collect(),
            }],
            notices: Vec::new(),
            rules: rules_of(&alone),
            proven: None,
            warning: self.check_honest(&stops, None, standing)?,
        })
    }

    fn sites_of(&self, scope: &Scope) -> Result<Vec<usize>, Refusal> {
        let Scope::Site { site, .. } = scope else {
            return Ok((0..self.sites.len()).collect());
        };
        // IIS compares site names without regard to case.
        let mut named = self.sites.iter().enumerate();
        named
            .find(|(_, own)| own.eq_ignore_ascii_case(site))
            .map(|(index, _)| vec![index])
            .ok_or_else(|| Refusal::new(format!("no such site: {site}")))
    }

    /// Refuses rules that stop too many honest requests, or says what has to be logged about them.
    fn check_honest(
        &self,
        stops: &[HonestStop],
        id: Option<&MitigationId>,
        standing: Standing<'_>,
    ) -> Result<Option<String>, Refusal> {
        let (Some(first), true) = (stops.first(), stops.len() > self.policy.benign_limit) else {
            return Ok(None);
        };
        let count = stops.len();
        let found = format!("stops {count} requests that honest clients send; {first}");
        let trusted = id.is_some_and(|id| {
            let mut trusted = self.policy.trust_despite_benign.iter();
            trusted.any(|own| own.covers(id))
        });
        match standing.local || trusted {
            true => Ok(Some(found)),
            false => Err(Refusal::new(format!(
                "{found} (trust_despite_benign in [policy] takes it all the same)"
            ))),
        }
    }
}

fn parse(text: &RewriteText, standing: Standing<'_>) -> Result<RuleSource, Refusal> {
    let origin = SourceOrigin {
        name: standing.name.to_owned(),
        line: text.line,
        column: text.column,
    };
    RuleSource::parse(&text.xml, &origin)
        .map(|source| source.with_dialect(standing.dialect))
        .map_err(|error| Refusal::new(explain(&error)))
}

fn check_vectors(alone: &RuleSet, mitigation: &Mitigation) -> Result<(), Refusal> {
    let failures = vectors::judge(alone, mitigation);
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(Refusal {
            alarm: AlarmKind::VectorsFailed,
            reason: format!(
                "{} of {} vectors fail; {first}",
                failures.len(),
                mitigation.vectors.len()
            ),
        }),
    }
}

fn rules_of(set: &RuleSet) -> Vec<RuleReport> {
    set.rules()
        .map(|(_, rule)| RuleReport {
            name: rule.name.clone(),
            kind: match rule.kind {
                RuleKind::Request => "request",
                RuleKind::Response => "response",
            },
        })
        .collect()
}

/// What became of each mitigation of feeds and of the bundled set, so that only what changed is judged again.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: BTreeMap<(String, MitigationId), Judged>,
}

#[derive(Debug)]
struct Judged {
    mitigation: Arc<Mitigation>,
    result: Result<Arc<Prepared>, Refusal>,
    used: bool,
}

impl Cache {
    /// The result for `mitigation` of the source `standing.name`, computed only if its content is new.
    pub(super) fn mitigation(
        &mut self,
        gates: &Gates,
        mitigation: &Arc<Mitigation>,
        standing: Standing<'_>,
        now: UnixTime,
    ) -> Result<Arc<Prepared>, Refusal> {
        let key = (standing.name.to_owned(), mitigation.id.clone());
        if let Some(known) = self.entries.get_mut(&key)
            && (Arc::ptr_eq(&known.mitigation, mitigation) || known.mitigation == *mitigation)
        {
            known.used = true;
            return known.result.clone();
        }
        let result = gates.mitigation(mitigation, standing, now).map(Arc::new);
        if let Ok(Prepared {
            warning: Some(warning),
            ..
        }) = result.as_deref()
        {
            tracing::warn!(mitigation = %mitigation.id, source = standing.name, warning, "taken although it stops honest requests");
        }
        let judged = Judged {
            mitigation: Arc::clone(mitigation),
            result: result.clone(),
            used: true,
        };
        self.entries.insert(key, judged);
        result
    }

    /// Forgets what was not asked for since the last call.
    pub(super) fn sweep(&mut self) {
        self.entries
            .retain(|_, judged| std::mem::replace(&mut judged.used, false));
    }
}
