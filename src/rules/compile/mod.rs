//! Compiles typed rules into the plan that matchers walk.
//!
//! Layer 1, inside `rules`. Called by set; calls source, template and pattern.
//! Holds: what compiles cannot fail for a reason in the rule when it is judged, but for the length of a text;
//!        equal patterns and equal inputs exist once.
//! See `guide::dialect` for what is refused and why.

mod request;
mod response;
mod weight;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use self::weight::Weights;
use super::error::{Kind, Place};
use super::matcher::{Literals, Requirement, requirement};
use super::pattern::{Pattern, PatternOptions, PatternSyntax, Reader};
use super::plan::{
    ConditionPlan, ConditionsPlan, Group, Input, PatternTest, Plan, RespondPlan, TestPlan,
};
use super::source::{Conditions, PatternText, RequestRule, Test, Text};
use super::template::{Bound, Reads, RewriteMap, Scope, Stage};
use super::{Dialect, RuleError, RuleInfo, RuleKind, RuleLimits, RuleOrigin, RuleSource};

/// Fields that frame the message or belong to one connection (RFC 9110 section 7.6.1, RFC 9112 section 6): the proxy
/// sets them, and a rule that did could make two servers disagree on where a message ends.
const FRAMING_FIELDS: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a rule's share of the plan and of its index may come to in bytes, besides its patterns and names: the texts of
/// a clause, each with its places in a table, and the parts of the rule itself.
const RULE_BYTES: usize = 2 * 1024;

/// What tells one pattern from another.
type PatternKey = (Arc<str>, PatternSyntax, PatternOptions);

/// Inputs that are compared before one is looked up.
const FEW_INPUTS: usize = 8;

/// The plan under construction.
#[derive(Debug, Default)]
pub(crate) struct Compiler {
    pub(crate) plan: Plan,
    pub(crate) infos: Vec<RuleInfo>,
    /// Names of variables that the caller gives with requests, in upper case.
    pub(crate) given: BTreeSet<String>,
    /// About how many bytes the rules occupy, and how many they may.
    memory: usize,
    memory_limit: usize,
    patterns: HashMap<PatternKey, u32>,
    /// The one that was asked for again last: most rules have the same pattern for the URL.
    repeated: Option<(PatternKey, u32)>,
    reader: Reader,
    literals: Literals,
    /// What each pattern requires of its input, until the index is made.
    requirements: Vec<Option<Requirement>>,
    weights: Weights,
    /// What rules answer with.
    answers: HashSet<Arc<RespondPlan>>,
    inputs: HashMap<Bound, usize>,
}

/// What the rules of one source share while they are compiled.
struct Unit<'s> {
    source: &'s RuleSource,
    maps: BTreeMap<String, usize>,
    custom: BTreeSet<String>,
    allowed: BTreeSet<String>,
}

/// Where a text is expanded and how patterns of a rule are compiled.
#[derive(Clone, Copy)]
struct Manner<'a> {
    stage: Stage,
    syntax: PatternSyntax,
    hardened: bool,
    /// Whether an exact match is a search.
    substring: bool,
    rule: &'a str,
}

impl Compiler {
    /// A plan without rules, which may come to be so large.
    pub(crate) fn new(limits: RuleLimits) -> Self {
        Self {
            memory_limit: limits.memory,
            weights: Weights::new(limits),
            ..Self::default()
        }
    }

    /// Compiles one source as a group of its own.
    ///
    /// On an error no rule of it stays.
    pub(crate) fn add(&mut self, source: &RuleSource, origin: RuleOrigin) -> Result<(), RuleError> {
        let (requests, responses) = (
            self.plan.request_rules.len(),
            self.plan.response_rules.len(),
        );
        let (infos, weight) = (self.infos.len(), self.weights.total());
        let added = self.group(source, &Arc::new(origin));
        if added.is_err() {
            self.plan.request_rules.truncate(requests);
            self.plan.response_rules.truncate(responses);
            self.infos.truncate(infos);
            self.weights.set_total(weight);
        }
        added
    }

    fn group(&mut self, source: &RuleSource, origin: &Arc<RuleOrigin>) -> Result<(), RuleError> {
        let requests = [source.global_rules.resolve()?, source.rules.resolve()?];
        let unit = self.unit(source, &requests)?;
        let count = source.most_rules();
        self.infos.reserve_exact(count);
        self.plan.request_rules.reserve_exact(count);
        self.patterns.reserve(count);
        let mut lists = [0..0, 0..0];
        for (list, (rules, is_global)) in lists.iter_mut().zip(requests.iter().zip([true, false])) {
            let start = self.plan.request_rules.len();
            for rule in rules.iter().filter(|rule| rule.enabled) {
                self.request_rule(rule, is_global, &unit)
                    .and_then(|()| self.weigh(&rule.place))
                    .and_then(|()| self.charge(&rule.name, &rule.place))
                    .map_err(|error| error.in_rule(&rule.name))?;
                self.inform(&rule.name, RuleKind::Request, origin);
            }
            *list = start..self.plan.request_rules.len();
        }
        let start = self.plan.response_rules.len();
        for rule in source
            .response_rules
            .resolve()?
            .into_iter()
            .filter(|rule| rule.enabled)
        {
            self.response_rule(rule, &unit)
                .and_then(|()| self.charge(&rule.name, &rule.place))
                .map_err(|error| error.in_rule(&rule.name))?;
            self.inform(&rule.name, RuleKind::Response, origin);
        }
        self.plan.groups.push(Group {
            scope: source.scope.clone().into_bytes(),
            lists,
            responses: start..self.plan.response_rules.len(),
        });
        Ok(())
    }

    /// The plan with what its patterns require, and the rules; what only compiling needed is dropped.
    pub(crate) fn finish(mut self) -> (Plan, Vec<Option<Requirement>>, Vec<RuleInfo>) {
        self.plan.patterns.shrink_to_fit();
        (self.plan, self.requirements, self.infos)
    }

    /// Counts a rule, and refuses it if the set becomes too large by it. Its patterns have been counted.
    fn charge(&mut self, name: &str, place: &Place) -> Result<(), RuleError> {
        self.memory += RULE_BYTES + name.len();
        if self.memory <= self.memory_limit {
            return Ok(());
        }
        let limit = self.memory_limit;
        let what = "the bytes that the rules of a set occupy";
        Err(RuleError::new(place, Kind::Limit { what, limit }))
    }

    fn inform(&mut self, name: &str, kind: RuleKind, origin: &Arc<RuleOrigin>) {
        self.infos.push(RuleInfo {
            name: name.to_owned(),
            kind,
            origin: Arc::clone(origin),
        });
    }

    fn unit<'s>(
        &mut self,
        source: &'s RuleSource,
        requests: &[Vec<&RequestRule>; 2],
    ) -> Result<Unit<'s>, RuleError> {
        let mut maps = BTreeMap::new();
        for map in source.maps.resolve()? {
            let entries = map
                .entries
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()));
            maps.insert(map.name.to_lowercase(), self.plan.maps.len());
            let map = RewriteMap::new(map.ignore_case, &map.default, entries);
            self.plan.maps.push(map);
        }
        let upper = |name: &str| name.trim().to_ascii_uppercase();
        let allowed: BTreeSet<String> = source
            .allowed_variables
            .resolve()?
            .into_iter()
            .map(|variable| upper(&variable.name))
            .collect();
        let mut custom = &self.given | &allowed;
        for rule in requests.iter().flatten() {
            custom.extend(rule.set.iter().map(|set| upper(&set.name.name)));
        }
        Ok(Unit {
            source,
            maps,
            custom,
            allowed,
        })
    }

    fn bind(&self, text: &Text, unit: &Unit<'_>, stage: Stage) -> Result<Bound, RuleError> {
        self.bind_within(text, unit, stage, self.plan.document_root.is_some())
    }

    fn bind_within(
        &self,
        text: &Text,
        unit: &Unit<'_>,
        stage: Stage,
        has_document_root: bool,
    ) -> Result<Bound, RuleError> {
        let scope = Scope {
            stage,
            maps: &unit.maps,
            custom: &unit.custom,
            has_document_root,
        };
        text.template
            .bind(&scope)
            .map_err(|kind| RuleError::new(&text.place, kind).in_attribute(text.attribute))
    }

    /// The number of a pattern in the plan, which is compiled unless an equal one was.
    fn pattern(&mut self, text: &PatternText, manner: Manner<'_>) -> Result<u32, RuleError> {
        let options = PatternOptions {
            ignore_case: text.ignore_case,
            dot_matches_line_breaks: manner.hardened,
            substring: manner.substring,
        };
        if let Some(((known, syntax, known_options), number)) = &self.repeated
            && **known == *text.text
            && (*syntax, *known_options) == (manner.syntax, options)
        {
            return Ok(*number);
        }
        let key = (Arc::from(text.text.as_str()), manner.syntax, options);
        if let Some(&number) = self.patterns.get(&key) {
            self.repeated = Some((key, number));
            return Ok(number);
        }
        let (pattern, tree) = Pattern::with_tree(&key.0, manner.syntax, options, &mut self.reader)
            .map_err(|error| {
                RuleError::new(&text.place, Kind::Pattern(error))
                    .in_attribute(text.attribute)
                    .in_rule(manner.rule)
            })?;
        let number = self.plan.patterns.len() as u32;
        self.memory += pattern.memory();
        let requirement = requirement(&tree, &mut self.literals);
        self.weights.add(&tree, requirement.is_some());
        self.requirements.push(requirement);
        self.reader.reuse(tree);
        self.plan.patterns.push(pattern);
        self.patterns.insert(key, number);
        Ok(number)
    }

    fn pattern_test(
        &mut self,
        text: &PatternText,
        manner: Manner<'_>,
    ) -> Result<PatternTest, RuleError> {
        Ok(PatternTest {
            pattern: self.pattern(text, manner)?,
            negate: text.negate,
        })
    }

    /// Compiles conditions; their `reads_groups` is still to be set.
    fn conditions(
        &mut self,
        conditions: &Conditions,
        unit: &Unit<'_>,
        manner: Manner<'_>,
    ) -> Result<(ConditionsPlan, Reads), RuleError> {
        let mut all = Reads::default();
        let mut list = Vec::with_capacity(conditions.list.len());
        for condition in &conditions.list {
            let bound = match &condition.test {
                Test::Pattern(_) => self.bind(&condition.input, unit, manner.stage)?,
                // Without a root no file exists, so what the path would be does not matter.
                Test::IsDirectory { .. } | Test::IsFile { .. } => {
                    self.bind_within(&condition.input, unit, manner.stage, true)?
                }
            };
            let reads = bound.reads();
            all = all.and(reads);
            list.push(ConditionPlan {
                input: self.input(bound, reads, manner.stage),
                test: match &condition.test {
                    Test::IsDirectory { negate } => TestPlan::IsDirectory { negate: *negate },
                    Test::IsFile { negate } => TestPlan::IsFile { negate: *negate },
                    Test::Pattern(text) => TestPlan::Pattern(self.pattern_test(text, manner)?),
                },
                over_views: manner.hardened && (reads.target || reads.rule_group.is_some()),
            });
        }
        let plan = ConditionsPlan {
            list,
            any: conditions.any,
            track_all_captures: conditions.track_all_captures,
            reads_groups: false,
        };
        Ok((plan, all))
    }

    fn input(&mut self, bound: Bound, reads: Reads, stage: Stage) -> Input {
        let has_groups = reads.rule_group.is_some() || reads.condition_group.is_some();
        if has_groups || stage == Stage::Response {
            return Input::Own(bound);
        }
        // Most rules read the same few.
        let few = self.plan.inputs.iter().take(FEW_INPUTS);
        if let Some(number) = few.into_iter().position(|known| *known == bound) {
            return Input::Shared(number);
        }
        if let Some(number) = self.inputs.get(&bound) {
            return Input::Shared(*number);
        }
        let number = self.plan.inputs.len();
        self.plan.inputs.push(bound.clone());
        self.inputs.insert(bound, number);
        Input::Shared(number)
    }

    /// Refuses references to groups that no match can fill.
    fn check_groups(
        &self,
        reads: Reads,
        url: Option<PatternTest>,
        conditions: &ConditionsPlan,
        place: &Place,
    ) -> Result<(), RuleError> {
        let groups = |test: &PatternTest| test.of(&self.plan.patterns).group_count();
        // A pattern that must be absent fills no group: its references are empty, not wrong.
        let in_url = match url {
            Some(test) if test.negate => None,
            url => Some(url.as_ref().map_or(0, groups)),
        };
        if let (Some(group), Some(last)) = (reads.rule_group, in_url)
            && group > last
        {
            return Err(no_group(
                "R",
                group,
                &format!("the rule's pattern has {last} groups"),
                place,
            ));
        }
        let Some(group) = reads.condition_group else {
            return Ok(());
        };
        let counts = conditions
            .list
            .iter()
            .filter_map(|condition| match &condition.test {
                TestPlan::Pattern(test) => Some(groups(test)),
                TestPlan::IsDirectory { .. } | TestPlan::IsFile { .. } => None,
            });
        let last = if conditions.track_all_captures {
            counts.reduce(|sum, count| sum + count)
        } else {
            counts.max()
        };
        match last {
            Some(last) if group <= last => Ok(()),
            Some(last) => Err(no_group(
                "C",
                group,
                &format!("the conditions have {last} groups"),
                place,
            )),
            None => Err(no_group(
                "C",
                group,
                "the rule has no condition with a pattern",
                place,
            )),
        }
    }
}

fn no_group(kind: &str, group: usize, why: &str, place: &Place) -> RuleError {
    let text = format!(
        "{{{kind}:{group}}} refers to nothing, since {why}; correct the number or add the group"
    );
    RuleError::new(place, Kind::Unsupported(text))
}

/// Refuses to set a field that frames the message.
fn check_field(name: &str, place: &Place, attribute: &str) -> Result<(), RuleError> {
    if !FRAMING_FIELDS.contains(&name) {
        return Ok(());
    }
    let text = format!(
        "the field {name} frames the message or belongs to a connection, and only the proxy sets it; remove this"
    );
    Err(RuleError::new(place, Kind::Unsupported(text)).in_attribute(attribute))
}
