//! Runs values and texts of a body through its rules.

use std::ops::Range;
use std::sync::Arc;

use lol_html::AsciiCompatibleEncoding;

use super::BodyRules;
use super::notes::{Note, Notes, TestNote, excerpt};
use crate::rules::RuleId;
use crate::rules::matcher::{Part, Tester, conditions_hold, input_passes};
use crate::rules::pattern::{Groups, Matched, PatternCache};
use crate::rules::plan::{BodyPlan, Input, Plan, ResponsePlan, SubjectPlan};
use crate::rules::template::{Captures, Expansion, Sight, TooLong, Variable};

/// Judges what is in one body; clones judge others of the same response.
pub(super) struct BodyJudge {
    body: BodyRules,
    cache: PatternCache,
    groups: Groups,
    /// `{R:n}`.
    matched: Captures,
    /// `{C:n}`.
    conditions: Captures,
    input: Vec<u8>,
}

impl Clone for BodyJudge {
    fn clone(&self) -> Self {
        Self::new(self.body.clone())
    }
}

/// What a search in a body came to.
struct Found {
    /// Where the match is; all of the subject where the pattern must be absent and is.
    span: Option<Range<usize>>,
    out_of_steps: bool,
}

/// What variables read: values noted when the head was judged.
struct BodySight<'a> {
    plan: &'a Plan,
    values: &'a [Vec<u8>],
}

impl Sight for BodySight<'_> {
    fn read(&self, variable: &Variable, out: &mut Vec<u8>) {
        let mut known = self.plan.body_variables.iter();
        let at = known.position(|known| known == variable);
        if let Some(value) = at.and_then(|at| self.values.get(at)) {
            out.extend_from_slice(value);
        }
    }
}

impl BodyJudge {
    pub(super) fn new(body: BodyRules) -> Self {
        Self {
            body,
            cache: PatternCache::default(),
            groups: Groups::default(),
            matched: Captures::default(),
            conditions: Captures::default(),
            input: Vec::new(),
        }
    }

    pub(super) const fn encoding(&self) -> (AsciiCompatibleEncoding, bool) {
        self.body.encoding
    }

    /// Whether a search ran out of steps since this was asked last.
    pub(super) fn out_of_steps(&mut self) -> bool {
        self.cache.take_out_of_steps() > 0
    }

    pub(super) fn wants_tags(&self) -> bool {
        self.pairs().next().is_some()
    }

    pub(super) fn wants_text(&self) -> bool {
        self.body_rules()
            .any(|rule| matches!(rule.subject, SubjectPlan::Body(BodyPlan::Text { .. })))
    }

    /// A CSS selector of the elements that rules name.
    pub(super) fn selector(&self) -> String {
        let mut tags: Vec<&str> = self.pairs().map(|(tag, _)| tag.as_str()).collect();
        tags.sort_unstable();
        tags.dedup();
        tags.join(", ")
    }

    /// The attributes that rules name for an element.
    pub(super) fn attributes(&self, tag: &str) -> Vec<String> {
        let mut attributes: Vec<String> = self
            .pairs()
            .filter(|(known, _)| known == tag)
            .map(|(_, attribute)| attribute.clone())
            .collect();
        attributes.sort_unstable();
        attributes.dedup();
        attributes
    }

    /// What the rules make of an attribute's value, each of what those before made; `None` if they leave it.
    pub(super) fn attribute(
        &mut self,
        tag: &str,
        attribute: &str,
        value: &[u8],
    ) -> Option<(Vec<u8>, Vec<RuleId>)> {
        let plan = Arc::clone(&self.body.plan);
        let mut value = value.to_vec();
        let mut acted = Vec::new();
        let mut ended = None;
        for (group, number) in self.body.rules.clone() {
            let rule = &plan.response_rules[number];
            let SubjectPlan::Body(BodyPlan::Attributes(pairs)) = &rule.subject else {
                continue;
            };
            let names = |pair: &(String, String)| pair.0 == tag && pair.1 == attribute;
            if ended == Some(group) || !pairs.iter().any(names) {
                continue;
            }
            let found = self.find(rule, &value, 0);
            self.note_match(rule, &found, || {
                let place = format!("{tag} {attribute}");
                (value.clone(), found.span.clone(), place)
            });
            let Some(span) = found.span else {
                continue;
            };
            let mut text = Vec::new();
            // A text that grows too long leaves the value as it is.
            let Ok(true) = self.replace(rule, &value[span.clone()], &mut text) else {
                continue;
            };
            value.splice(span, text);
            acted.push(rule.id);
            self.note(|| Note::Acted(rule.id));
            if rule.stop_processing {
                ended = Some(group);
            }
        }
        (!acted.is_empty()).then_some((value, acted))
    }

    /// What the rules make of a whole text; `None` if that is longer than `limit`.
    pub(super) fn text(&mut self, text: &[u8], limit: usize) -> Option<(Vec<u8>, Vec<RuleId>)> {
        let plan = Arc::clone(&self.body.plan);
        let mut text = text.to_vec();
        let mut acted = Vec::new();
        let mut ended = None;
        for (group, number) in self.body.rules.clone() {
            let rule = &plan.response_rules[number];
            let SubjectPlan::Body(BodyPlan::Text { occurrences }) = rule.subject else {
                continue;
            };
            if ended == Some(group) {
                continue;
            }
            let (changed, count) = self.replace_all(rule, &text, occurrences, limit)?;
            text = changed;
            if count > 0 {
                acted.push(rule.id);
                self.note(|| Note::Acted(rule.id));
                if rule.stop_processing {
                    ended = Some(group);
                }
            }
        }
        Some((text, acted))
    }

    /// Replaces the first so many matches, all for 0; also how many there were.
    fn replace_all(
        &mut self,
        rule: &ResponsePlan,
        text: &[u8],
        occurrences: u64,
        limit: usize,
    ) -> Option<(Vec<u8>, u64)> {
        let mut changed = Vec::with_capacity(text.len());
        let (mut kept, mut from, mut count) = (0, 0, 0);
        while occurrences == 0 || count < occurrences {
            let found = self.find(rule, text, from);
            // That no more matches follow is no test of its own.
            if from == 0 || found.span.is_some() || found.out_of_steps {
                self.note_match(rule, &found, || excerpt(text, found.span.clone()));
            }
            let Some(span) = found.span else {
                break;
            };
            let mut value = Vec::new();
            if let Ok(true) = self.replace(rule, &text[span.clone()], &mut value) {
                changed.extend_from_slice(&text[kept..span.start]);
                changed.extend_from_slice(&value);
                kept = span.end;
                count += 1;
            }
            if changed.len() > limit {
                return None;
            }
            // After an empty match the search goes on behind the next character.
            from = if span.is_empty() {
                next_character(text, span.end)
            } else {
                span.end
            };
            if from > text.len() || rule.pattern.negate {
                break;
            }
        }
        changed.extend_from_slice(&text[kept..]);
        (changed.len() <= limit).then_some((changed, count))
    }

    /// Where the pattern matches from `start` on, with its groups noted; all of it where it must be absent and is.
    fn find(&mut self, rule: &ResponsePlan, subject: &[u8], start: usize) -> Found {
        let pattern = rule.pattern.of(&self.body.plan.patterns);
        self.matched.clear();
        let found = pattern.captures(&mut self.cache, subject, start, &mut self.groups);
        let span = match (found, rule.pattern.negate) {
            (Matched::No, true) => Some(0..subject.len()),
            (Matched::Yes, false) => {
                for group in 0..=pattern.group_count() {
                    let span = self.groups.get(group);
                    self.matched.push(span.map_or(&[], |span| &subject[span]));
                }
                self.groups.get(0)
            }
            _ => None,
        };
        Found {
            span,
            out_of_steps: found == Matched::OutOfSteps,
        }
    }

    fn note(&self, note: impl FnOnce() -> Note) {
        if let Some(notes) = &self.body.notes {
            Notes::add(notes, note());
        }
    }

    /// Notes a test of `<match>`: the value as it is to be shown, where the match is in it, and its place.
    fn note_match(
        &self,
        rule: &ResponsePlan,
        found: &Found,
        shown: impl FnOnce() -> (Vec<u8>, Option<Range<usize>>, String),
    ) {
        self.note(|| {
            let (value, span, place) = shown();
            Note::Tested(TestNote {
                rule: rule.id,
                part: Part::Match,
                place: Some(place),
                value: Some(value),
                span: span.filter(|_| !rule.pattern.negate),
                out_of_steps: found.out_of_steps,
                holds: found.span.is_some(),
            })
        });
    }

    /// Appends what a match is replaced by; `false` if the conditions do not hold.
    fn replace(
        &mut self,
        rule: &ResponsePlan,
        matched: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, TooLong> {
        if !self.conditions_hold(rule) {
            return Ok(false);
        }
        match &rule.value {
            Some((value, true)) => {
                let plan = &self.body.plan;
                let sight = BodySight {
                    plan,
                    values: &self.body.values,
                };
                expansion(&sight, &self.matched, &self.conditions).expand(value, out)?;
            }
            // It does nothing, or keeps what exists.
            _ => out.extend_from_slice(matched),
        }
        Ok(true)
    }

    fn conditions_hold(&mut self, rule: &ResponsePlan) -> bool {
        let plan = &self.body.plan;
        let sight = BodySight {
            plan,
            values: &self.body.values,
        };
        self.conditions.clear();
        conditions_hold(
            &rule.conditions,
            &mut self.conditions,
            |number, tracked, wanted| {
                let condition = &rule.conditions.list[number];
                let (Input::Own(text), input) = (&condition.input, &mut self.input) else {
                    return false;
                };
                input.clear();
                let expanded = expansion(&sight, &self.matched, tracked).expand(text, input);
                let mut tester = Tester {
                    patterns: &plan.patterns,
                    cache: &mut self.cache,
                    groups: &mut self.groups,
                    when_out_of_steps: false,
                };
                let input = expanded.map(|()| input.as_slice());
                let files = plan.files.as_deref();
                let holds = input_passes(&condition.test, input, wanted, &mut tester, files);
                if let Some(notes) = &self.body.notes {
                    let test = TestNote {
                        rule: rule.id,
                        part: Part::Condition(number),
                        place: None,
                        value: input.ok().map(<[u8]>::to_vec),
                        span: None,
                        out_of_steps: false,
                        holds,
                    };
                    Notes::add(notes, Note::Tested(test));
                }
                holds
            },
        )
    }

    fn body_rules(&self) -> impl Iterator<Item = &ResponsePlan> {
        let rules = self.body.rules.iter();
        rules.map(|(_, number)| &self.body.plan.response_rules[*number])
    }

    /// Elements and attributes of every rule.
    fn pairs(&self) -> impl Iterator<Item = &(String, String)> {
        self.body_rules().flat_map(|rule| match &rule.subject {
            SubjectPlan::Body(BodyPlan::Attributes(pairs)) => pairs.as_slice(),
            _ => &[],
        })
    }
}

fn expansion<'e>(
    sight: &'e BodySight<'e>,
    rule: &'e Captures,
    conditions: &'e Captures,
) -> Expansion<'e> {
    Expansion {
        sight,
        maps: &sight.plan.maps,
        rule,
        conditions,
    }
}

/// Where the character after `at` begins, in UTF-8; behind the end if there is none.
fn next_character(text: &[u8], at: usize) -> usize {
    let rest = text.get(at + 1..).unwrap_or_default();
    let continued = rest.iter().take_while(|byte| **byte & 0xc0 == 0x80).count();
    at + 1 + continued
}
