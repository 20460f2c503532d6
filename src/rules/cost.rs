//! Says what each request rule of a set costs, for people who write rules.

use super::RuleId;
use super::matcher::indexed::Selection;
use super::pattern::Manner;
use super::plan::RequestPlan;
use super::set::RuleSet;

/// Nanoseconds that a byte takes for each word of bits and for each state that an automaton may have to follow at once:
/// assumptions of the right size, good for comparing rules with one another and for nothing else.
const NANOSECONDS_PER_WORD: f64 = 1.5;
const NANOSECONDS_PER_STATE: f64 = 2.0;

/// The same for a step of the program of the rules that no text stands for, 64 of which are a word that is busy.
const NANOSECONDS_PER_STEP: f64 = 18.0 / 64.0;

/// How a request comes to be judged by a rule, and how its patterns are searched.
///
/// # Examples
///
/// ```
/// use stopgap::rules::{RuleSet, SourceOrigin};
///
/// let text = r#"<rules><rule name="a">
///   <match url=".*" />
///   <conditions><add input="{HTTP_COOKIE}" pattern="X-BEResource=(.+)~(.+)" /></conditions>
///   <action type="AbortRequest" />
/// </rule></rules>"#;
/// let rules = RuleSet::parse(text, &SourceOrigin::named("rules.xml"))?;
/// let costs = rules.costs();
/// assert_eq!(costs[0].chosen, "text \"x-beresource=\"");
/// assert_eq!(costs[0].search, "bits");
/// # Ok::<(), stopgap::rules::RuleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RuleCost {
    /// The rule.
    pub rule: RuleId,
    /// What makes a request be judged by it: a text that must be there, the tail's bits, or nothing, which is every
    /// request.
    pub chosen: String,
    /// How its dearest pattern is searched: `bits`, `automaton` or `irregular`.
    pub search: &'static str,
    /// Bytes of the rule and of what each worker builds for it, about. Automata come on top, within the bound of a
    /// worker's cache.
    pub memory: usize,
    /// Nanoseconds for each byte of an input, at worst, as an estimate by which rules can be compared; `None` where only
    /// a budget of steps bounds them.
    pub worst: Option<f64>,
}

impl RuleSet {
    /// What the request rules cost, in their order.
    pub fn costs(&self) -> Vec<RuleCost> {
        let selections = self.index().selections();
        let rules = self.plan().request_rules.iter();
        rules
            .zip(selections)
            .map(|(rule, selection)| self.cost(rule, &selection))
            .collect()
    }

    fn cost(&self, rule: &RequestPlan, selection: &Selection<'_>) -> RuleCost {
        let conditions = rule.conditions.list.iter();
        let tests = conditions.filter_map(|condition| condition.test.pattern());
        let mut dearest = Manner::Bits { words: 0, bytes: 0 };
        let mut worst = Some(0.0);
        let mut memory = size_of::<RequestPlan>() + self.rule(rule.id).name.len();
        for test in rule.url.into_iter().chain(tests) {
            let pattern = self.pattern(test);
            let manner = pattern.tree().manner();
            memory += pattern.memory();
            let own = match manner {
                Manner::Automaton => Some(f64::from(pattern.states()) * NANOSECONDS_PER_STATE),
                Manner::Bits { words, bytes } => {
                    memory += bytes;
                    Some(words as f64 * NANOSECONDS_PER_WORD)
                }
                Manner::Irregular => None,
            };
            worst = match (worst, own) {
                (Some(sum), Some(own)) => Some(sum + own),
                _ => None,
            };
            if rank(manner) > rank(dearest) {
                dearest = manner;
            }
        }
        if let (Selection::Bits, Some(worst)) = (selection, &mut worst) {
            *worst += self.steps_together(rule) as f64 * NANOSECONDS_PER_STEP;
        }
        RuleCost {
            rule: rule.id,
            chosen: match selection {
                Selection::Always => "nothing".to_owned(),
                Selection::Bits => "bits".to_owned(),
                Selection::Texts { first, count: 1 } => format!("text {}", shown(first)),
                Selection::Texts { first, count } => {
                    format!("text {} or {} more", shown(first), count - 1)
                }
            },
            search: name(dearest),
            memory,
            worst,
        }
    }
}

impl RuleSet {
    /// The steps that a rule adds to the program of those that no text stands for.
    fn steps_together(&self, rule: &RequestPlan) -> usize {
        let conditions = rule.conditions.list.iter().rev();
        let tests = conditions.filter_map(|condition| condition.test.pattern());
        let mut tests = tests.chain(rule.url).filter(|test| !test.negate);
        tests
            .find_map(|test| self.pattern(test).tree().steps_together())
            .unwrap_or(0)
    }
}

const fn rank(manner: Manner) -> u8 {
    match manner {
        Manner::Bits { .. } => 0,
        Manner::Automaton => 1,
        Manner::Irregular => 2,
    }
}

const fn name(manner: Manner) -> &'static str {
    match manner {
        Manner::Automaton => "automaton",
        Manner::Bits { .. } => "bits",
        Manner::Irregular => "irregular",
    }
}

fn shown(text: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(text))
}
