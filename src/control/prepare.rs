//! One mitigation, or one file of rules, brought through every gate that it must pass alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::{ControlConfig, Policy};
use super::document_root::DocumentRoot;
use super::error::ControlError;
use super::status::RuleReport;
use crate::lab::honest::{self, HonestStop};
use crate::lab::vectors::{self, Reading};
use crate::model::{Mitigation, MitigationId, RewriteText, Scope, UnixTime, explain};
use crate::rules::{
    Dialect, RuleKind, RuleLimits, RuleOrigin, RuleSet, RuleSetBuilder, RuleSource, SourceOrigin,
};
use crate::telemetry::AlarmKind;

/// What every source must pass, until settings ask for something else.
#[derive(Clone, Debug)]
pub(super) struct Gates {
    sites: Vec<String>,
    /// One for each site.
    roots: Vec<Option<Arc<DocumentRoot>>>,
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
    /// What is to be logged about it: honest requests that it stops and that were let pass for a reason, and files that
    /// it asks for where there are none.
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

    /// Rules that cannot be read or compiled.
    fn uncompiled(error: &dyn std::error::Error) -> Self {
        Self {
            alarm: AlarmKind::DoesNotCompile,
            reason: explain(error),
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
    /// Finds the document roots of the sites.
    pub(super) fn new(config: &ControlConfig) -> Result<Self, ControlError> {
        let open = |index: usize| match config.document_roots.get(index) {
            Some(Some(path)) => DocumentRoot::open(path)
                .map(|root| Some(Arc::new(root)))
                .map_err(|error| {
                    let (site, path) = (&config.sites[index], path.display());
                    let text = format!("the document_root {path} of the site {site}: {error}");
                    ControlError::config(text)
                }),
            _ => Ok(None),
        };
        Ok(Self {
            roots: (0..config.sites.len())
                .map(open)
                .collect::<Result<_, _>>()?,
            sites: config.sites.clone(),
            policy: config.policy.clone(),
            honest_paths: config.honest_paths.clone(),
        })
    }

    /// Starts a set for these sites: with the document root of the first if all have one.
    pub(super) fn builder(&self, sites: &[usize]) -> RuleSetBuilder {
        self.builder_within(sites, RuleLimits::default())
    }

    /// Starts a set for these sites within other limits than the usual ones.
    pub(super) fn builder_within(&self, sites: &[usize], limits: RuleLimits) -> RuleSetBuilder {
        let builder = RuleSet::builder(limits);
        let roots: Option<Vec<_>> = sites.iter().map(|site| self.roots[*site].clone()).collect();
        match roots.and_then(|roots| roots.into_iter().next()) {
            Some(root) => builder.with_document_root(root.text().to_owned(), Some(root)),
            None => builder,
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
            vectors::sources(mitigation, reading).map_err(|error| Refusal::uncompiled(&error))?;
        let alone = vectors::compile(mitigation, &sources, standing.name)
            .map_err(|error| Refusal::uncompiled(&error))?;
        let notices = sources.iter().flat_map(|(_, source)| source.notices());
        let notices = notices.map(ToString::to_string).collect();
        let missing = sources
            .iter()
            .find_map(|(action, source)| self.missing_root(source, &sites[*action]));
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
            warning: joined([
                self.check_honest(&stops, Some(&mitigation.id), standing)?,
                missing,
            ]),
        })
    }

    /// Brings rewrite rules of a local file, with no mitigation around them, through their gates.
    pub(super) fn rules(
        &self,
        text: &RewriteText,
        standing: Standing<'_>,
    ) -> Result<Prepared, Refusal> {
        let source = parse(text, standing)?;
        let sites: Vec<usize> = (0..self.sites.len()).collect();
        let mut builder = self.builder(&sites);
        builder
            .add(&source, RuleOrigin::local(standing.name))
            .map_err(|error| Refusal::uncompiled(&error))?;
        let alone = builder.build();
        let stops = honest::judge(&alone, &self.honest_paths);
        let missing = self.missing_root(&source, &sites);
        Ok(Prepared {
            groups: vec![Group {
                source,
                action: 0,
                sites,
            }],
            notices: Vec::new(),
            rules: rules_of(&alone),
            proven: None,
            warning: joined([self.check_honest(&stops, None, standing)?, missing]),
        })
    }

    /// The indices of the sites that a scope names.
    pub(super) fn sites_of(&self, scope: &Scope) -> Result<Vec<usize>, Refusal> {
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

    /// Says which condition asks for files of a site that has none.
    fn missing_root(&self, source: &RuleSource, sites: &[usize]) -> Option<String> {
        let site = sites.iter().find(|site| self.roots[**site].is_none())?;
        let notice = source.file_notice()?;
        let site = &self.sites[*site];
        Some(format!(
            "{}; the site {site} has no document_root",
            explain(&notice)
        ))
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

fn joined(warnings: [Option<String>; 2]) -> Option<String> {
    let warnings: Vec<String> = warnings.into_iter().flatten().collect();
    (!warnings.is_empty()).then(|| warnings.join("; "))
}

fn parse(text: &RewriteText, standing: Standing<'_>) -> Result<RuleSource, Refusal> {
    let origin = SourceOrigin {
        name: standing.name.to_owned(),
        line: text.line,
        column: text.column,
    };
    RuleSource::parse(&text.xml, &origin)
        .map(|source| source.with_dialect(standing.dialect))
        .map_err(|error| Refusal::uncompiled(&error))
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
            tracing::warn!(mitigation = %mitigation.id, source = standing.name, warning, "a mitigation is taken that needs a look");
        }
        let judged = Judged {
            mitigation: Arc::clone(mitigation),
            result: result.clone(),
            used: true,
        };
        self.entries.insert(key, judged);
        result
    }

    /// Forgets what became of every mitigation that `id` covers.
    pub(super) fn forget(&mut self, id: &MitigationId) {
        self.entries.retain(|(_, own), _| !id.covers(own));
    }

    /// Forgets what was not asked for since the last call.
    pub(super) fn sweep(&mut self) {
        self.entries
            .retain(|_, judged| std::mem::replace(&mut judged.used, false));
    }
}
