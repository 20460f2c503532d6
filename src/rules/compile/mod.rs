//! Compiles typed rules into the plan that matchers walk.
//!
//! Layer 1, inside `rules`. Called by set; calls source, template and pattern.
//! Holds: what compiles cannot fail for a reason in the rule when it is judged, but for the length of a text;
//!        equal patterns and equal inputs exist once.
//! See `guide::dialect` for what is refused and why.

mod request;
mod response;
mod weight;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use self::request::LastAnswer;
use self::weight::Weights;
use super::error::{Kind, Place};
use super::matcher::{Literals, Requirement, requirement};
use super::pattern::{Pattern, PatternOptions, PatternSyntax, Reader};
use super::plan::{
    ConditionPlan, ConditionsPlan, Group, Input, PatternTest, Plan, RespondPlan, TestPlan,
};
use super::source::{Condition, Conditions, PatternText, RequestRule, Test, Text};
use super::template::{Bound, Reads, RewriteMap, Scope, Stage, Template};
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

/// What a rule's share of the plan and of its index may come to in bytes, besides its patterns, names, texts and
/// conditions: the texts of a clause, each with its places in a table, and the rule itself.
const RULE_BYTES: usize = 2 * 1024;

/// Inputs that are compared before one is bound and looked up.
const FEW_INPUTS: usize = 8;

/// What tells one pattern from another.
#[derive(Debug, Eq, PartialEq)]
struct PatternKey {
    text: Arc<str>,
    syntax: PatternSyntax,
    options: PatternOptions,
}

impl Hash for PatternKey {
    /// Takes the text alone, since hardly two patterns differ in nothing else.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// A text that was bound for rules of the source at hand.
#[derive(Debug)]
struct KnownInput {
    template: Template,
    /// Its number in [`Plan::inputs`].
    number: usize,
    reads: Reads,
}

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
    /// Hashed with a key that nobody knows, as all maps here: who may publish rules is not to decide how long they take
    /// to compile, and to hash a pattern takes little beside reading it.
    patterns: HashMap<PatternKey, u32>,
    /// The number of the one that was asked for again last: most rules have the same pattern for the URL.
    repeated: Option<u32>,
    reader: Reader,
    literals: Literals,
    /// What each pattern requires of its input, until the index is made.
    requirements: Vec<Option<Requirement>>,
    weights: Weights,
    /// What rules answer with.
    answers: HashSet<Arc<RespondPlan>>,
    /// That of the rule before, if it is of the same source.
    last_answer: Option<LastAnswer>,
    inputs: HashMap<Bound, usize>,
    /// A few that were bound for the source at hand.
    known_inputs: Vec<KnownInput>,
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
        self.last_answer = None;
        self.known_inputs.clear();
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

    /// Counts a rule, and refuses it if the set becomes too large by it. Its parts have been counted.
    fn charge(&mut self, name: &str, place: &Place) -> Result<(), RuleError> {
        self.memory += RULE_BYTES + name.len();
        self.check_memory(place)
    }

    /// Refuses what was counted last if the set becomes too large by it.
    fn check_memory(&self, place: &Place) -> Result<(), RuleError> {
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
            let made = RewriteMap::new(map.ignore_case, &map.default, entries);
            self.memory += made.memory();
            self.plan.maps.push(made);
            self.check_memory(&map.place)?;
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

    fn bind(&mut self, text: &Text, unit: &Unit<'_>, stage: Stage) -> Result<Bound, RuleError> {
        self.bind_within(text, unit, stage, self.plan.document_root.is_some())
    }

    fn bind_within(
        &mut self,
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
        let bound = text
            .template
            .bind(&scope)
            .map_err(|kind| RuleError::new(&text.place, kind).in_attribute(text.attribute))?;
        self.memory += bound.memory();
        Ok(bound)
    }

    /// The number of a pattern in the plan, which is compiled unless an equal one was.
    fn pattern(&mut self, text: &PatternText, manner: Manner<'_>) -> Result<u32, RuleError> {
        let options = PatternOptions {
            ignore_case: text.ignore_case,
            dot_matches_line_breaks: manner.hardened,
            substring: manner.substring,
        };
        if let Some(number) = self.repeated
            && self.plan.patterns[number as usize].is(&text.text, manner.syntax, options)
        {
            return Ok(number);
        }
        let new = match self.patterns.entry(PatternKey {
            text: Arc::from(text.text.as_str()),
            syntax: manner.syntax,
            options,
        }) {
            Entry::Occupied(known) => {
                self.repeated = Some(*known.get());
                return Ok(*known.get());
            }
            Entry::Vacant(new) => new,
        };
        let (pattern, tree) =
            Pattern::with_tree(&new.key().text, manner.syntax, options, &mut self.reader).map_err(
                |error| {
                    RuleError::new(&text.place, Kind::Pattern(error))
                        .in_attribute(text.attribute)
                        .in_rule(manner.rule)
                },
            )?;
        let number = self.plan.patterns.len() as u32;
        self.memory += pattern.memory();
        let requirement = requirement(&tree, &mut self.literals);
        self.weights.add(&tree, requirement.is_some());
        self.requirements.push(requirement);
        self.reader.reuse(tree);
        self.plan.patterns.push(pattern);
        Ok(*new.insert(number))
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
        self.memory += conditions.list.len() * size_of::<ConditionPlan>();
        for condition in &conditions.list {
            let (input, reads) = self.condition_input(condition, unit, manner.stage)?;
            all = all.and(reads);
            list.push(ConditionPlan {
                input,
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

    /// What a condition is about, and what that reads.
    fn condition_input(
        &mut self,
        condition: &Condition,
        unit: &Unit<'_>,
        stage: Stage,
    ) -> Result<(Input, Reads), RuleError> {
        let is_pattern = matches!(condition.test, Test::Pattern(_));
        let template = &condition.input.template;
        let is_shareable = is_pattern && stage == Stage::Request;
        let mut known = self.known_inputs.iter().filter(|_| is_shareable);
        if let Some(known) = known.find(|known| known.template == *template) {
            return Ok((Input::Shared(known.number), known.reads));
        }
        // Without a root no file exists, so what the path would be does not matter.
        let has_root = !is_pattern || self.plan.document_root.is_some();
        let bound = self.bind_within(&condition.input, unit, stage, has_root)?;
        let reads = bound.reads();
        let input = self.input(bound, reads, stage);
        if let Input::Shared(number) = input
            && is_shareable
            && self.known_inputs.len() < FEW_INPUTS
        {
            self.known_inputs.push(KnownInput {
                template: template.clone(),
                number,
                reads,
            });
        }
        Ok((input, reads))
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

#[cfg(test)]
mod tests {
    use crate::rules::{
        RequestView, RuleLimits, RuleOrigin, RuleSet, RuleSource, Scratch, SourceOrigin, Verdict,
    };

    /// Which of these hosts a set of these sources answers, and with what.
    fn answers(sources: &[String], hosts: &[&str]) -> Vec<Option<String>> {
        let mut builder = RuleSet::builder(RuleLimits::default());
        for text in sources {
            let source = RuleSource::parse(text, &SourceOrigin::named("rules.xml")).unwrap();
            builder
                .add(&source, RuleOrigin::local("rules.xml"))
                .unwrap();
        }
        let set = builder.build();
        let answer = |host: &&str| {
            let fields = [("Host", *host)];
            let request = RequestView::new("GET", b"/", &fields);
            match set.judge(&request, &mut Scratch::default()).verdict {
                Verdict::Respond { reason, .. } => Some(reason.to_string()),
                _ => None,
            }
        };
        hosts.iter().map(answer).collect()
    }

    #[test]
    fn equal_texts_of_two_sources_are_bound_to_the_maps_of_each() {
        let source = |host: &str| {
            format!(
                r#"<rewrite>
                  <rewriteMaps><rewriteMap name="m"><add key="{host}" value="stop" /></rewriteMap></rewriteMaps>
                  <rules><rule name="r">
                    <conditions><add input="{{m:{{HTTP_HOST}}}}" pattern="^stop$" /></conditions>
                    <action type="CustomResponse" statusCode="403" statusReason="{{m:{{HTTP_HOST}}}} {host}"
                      statusDescription="no" />
                  </rule></rules>
                </rewrite>"#
            )
        };
        let found = answers(&[source("a"), source("b")], &["a", "b", "c"]);
        let stopped = |host| Some(format!("stop {host}"));
        assert_eq!(found, [stopped("a"), stopped("b"), None]);
    }

    #[test]
    fn rules_that_answer_otherwise_than_the_one_before_keep_their_answers() {
        let rule = |host: &str, reason: &str| {
            format!(
                r#"<rule name="{host}">
                  <conditions><add input="{{HTTP_HOST}}" pattern="^({host})$" /></conditions>
                  <action type="CustomResponse" statusCode="403" statusReason="{reason}" statusDescription="" />
                </rule>"#
            )
        };
        let rules = [
            rule("a", "no"),
            rule("b", "no"),
            rule("c", "{C:1}"),
            rule("d", "{C:1}"),
            rule("e", "no"),
        ];
        let found = answers(
            &[format!("<rules>{}</rules>", rules.concat())],
            &["a", "b", "c", "d", "e"],
        );
        let expected = ["no", "no", "c", "d", "no"].map(|reason| Some(reason.to_owned()));
        assert_eq!(found, expected);
    }
}
