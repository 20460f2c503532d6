//! Which decisions have a line while there are more of them than lines are allowed, and what is told of the others.
//!
//! Each worker has a bucket of lines that fills evenly. While it is empty, the first decision of each rule in a second
//! still has its line, so that no rule hides behind another; every other one is counted, and told when the second ends.

use std::sync::Arc;

use crate::filter::PausedPool;
use crate::net::Clock;
use crate::rules::RuleInfo;

/// Seconds for which lines that nobody needed are kept for a burst.
const BURST: u64 = 10;

/// Bytes of a target by which a line is as long as one more.
const LONG: usize = 1_024;

/// Rules that are told apart within a second.
const PLACES: usize = 64;

/// Ticks of a second.
const SECOND: u64 = (1_000 / Clock::TICK.as_millis()) as u64;

/// Whose decision it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Actor<'a> {
    /// A stopped pool's.
    Pool(&'a Arc<PausedPool>),
    /// No rule's, or that of one beyond those that are told apart.
    Rest,
    /// A rule's, known by its source and its name.
    Rule(&'a RuleInfo),
}

/// The lines that one worker may write, and what it has counted instead.
#[derive(Debug)]
pub(super) struct Allowance {
    bucket: Bucket,
    /// The second of the last tick.
    second: u64,
    /// Those whose line came in this second although the bucket was empty.
    places: Vec<Place>,
    /// The decisions of the rest since their line came, if it did.
    rest: Option<u64>,
}

/// One that is told apart from others.
#[derive(Debug)]
struct Place {
    actor: Kept,
    /// Its decisions since its line came.
    omitted: u64,
}

#[derive(Debug)]
enum Kept {
    Pool(Arc<PausedPool>),
    Rule(RuleInfo),
}

/// A token bucket that is filled by the ticks of a clock.
#[derive(Debug)]
struct Bucket {
    /// Lines a second.
    rate: u64,
    /// What is in it, in parts of a line of which a tick brings `rate`.
    parts: u64,
    /// The last tick that it was filled for.
    tick: u64,
}

impl Allowance {
    /// The share of one of so many workers in so many lines a second, one at least; `None` for any number of lines.
    pub(super) fn new(per_second: u32, workers: usize, tick: u64) -> Option<Self> {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX).max(1);
        let share = u64::from(per_second).div_ceil(workers);
        (share > 0).then(|| Self {
            bucket: Bucket::full(share, tick),
            second: tick / SECOND,
            places: Vec::new(),
            rest: None,
        })
    }

    /// Whether a decision on a target of so many bytes has its line, which counts once more for every [`LONG`] of them;
    /// one that has not is counted.
    pub(super) fn admit(&mut self, actor: Actor<'_>, target: usize) -> bool {
        let lines = 1 + (target / LONG) as u64;
        self.bucket.take(lines) || self.is_first(actor)
    }

    /// Moves the time on; whether a second has ended.
    pub(super) fn tick(&mut self, tick: u64) -> bool {
        self.bucket.fill(tick);
        let ended = tick / SECOND != self.second;
        self.second = tick / SECOND;
        ended
    }

    /// Tells whose decisions had no line in this second, and how many; the next begins.
    pub(super) fn tell(&mut self, mut tell: impl FnMut(Actor<'_>, u64)) {
        let places = self.places.iter();
        let places = places.map(|place| (place.actor.shown(), place.omitted));
        let rest = self.rest.map(|omitted| (Actor::Rest, omitted));
        for (actor, omitted) in places.chain(rest) {
            if omitted > 0 {
                tell(actor, omitted);
            }
        }
        self.places.clear();
        self.rest = None;
    }

    fn is_first(&mut self, actor: Actor<'_>) -> bool {
        if let Some(place) = self.places.iter_mut().find(|place| place.actor.is(actor)) {
            place.omitted += 1;
            return false;
        }
        if self.places.len() < PLACES
            && let Some(actor) = Kept::of(actor)
        {
            self.places.push(Place { actor, omitted: 0 });
            return true;
        }
        self.rest = Some(self.rest.map_or(0, |omitted| omitted + 1));
        self.rest == Some(0)
    }
}

impl Kept {
    /// `None` of the rest, which has a place of its own.
    fn of(actor: Actor<'_>) -> Option<Self> {
        match actor {
            Actor::Pool(pool) => Some(Self::Pool(Arc::clone(pool))),
            Actor::Rest => None,
            Actor::Rule(rule) => Some(Self::Rule(rule.clone())),
        }
    }

    fn is(&self, actor: Actor<'_>) -> bool {
        match (self, actor) {
            (Self::Pool(one), Actor::Pool(other)) => Arc::ptr_eq(one, other),
            (Self::Rule(one), Actor::Rule(other)) => {
                Arc::ptr_eq(&one.origin, &other.origin) && one.name == other.name
            }
            _ => false,
        }
    }

    fn shown(&self) -> Actor<'_> {
        match self {
            Self::Pool(pool) => Actor::Pool(pool),
            Self::Rule(rule) => Actor::Rule(rule),
        }
    }
}

impl Bucket {
    fn full(rate: u64, tick: u64) -> Self {
        Self {
            rate,
            parts: rate * SECOND * BURST,
            tick,
        }
    }

    fn fill(&mut self, tick: u64) {
        let ticks = tick.saturating_sub(self.tick).min(SECOND * BURST);
        self.parts = (self.parts + self.rate * ticks).min(self.rate * SECOND * BURST);
        self.tick = tick;
    }

    /// Takes so many lines out, if they are there.
    const fn take(&mut self, lines: u64) -> bool {
        match self.parts.checked_sub(lines * SECOND) {
            Some(parts) => {
                self.parts = parts;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{RuleKind, RuleOrigin};

    fn allowance(per_second: u32) -> Allowance {
        Allowance::new(per_second, 1, 1).unwrap()
    }

    fn rule(origin: &Arc<RuleOrigin>, name: &str) -> RuleInfo {
        RuleInfo {
            name: name.to_owned(),
            kind: RuleKind::Request,
            origin: Arc::clone(origin),
        }
    }

    fn origin() -> Arc<RuleOrigin> {
        Arc::new(RuleOrigin::local("rules.xml"))
    }

    fn pool(name: &str) -> Arc<PausedPool> {
        Arc::new(PausedPool {
            pool: name.to_owned(),
            mitigation: "M90.1".parse().unwrap(),
            source: "feed".to_owned(),
            hits: Arc::default(),
        })
    }

    /// How many lines come before the first that does not.
    fn taken(bucket: &mut Bucket) -> usize {
        std::iter::from_fn(|| bucket.take(1).then_some(())).count()
    }

    /// What is told when time goes on to this tick: name of the rule or pool, and count.
    fn told(allowance: &mut Allowance, tick: u64) -> Vec<(String, u64)> {
        let mut told = Vec::new();
        if allowance.tick(tick) {
            allowance.tell(|actor, omitted| told.push((name(actor), omitted)));
        }
        told
    }

    fn name(actor: Actor<'_>) -> String {
        match actor {
            Actor::Pool(pool) => pool.pool.clone(),
            Actor::Rest => "rest".to_owned(),
            Actor::Rule(rule) => rule.name.clone(),
        }
    }

    /// Lets a bucket of one line a second run empty.
    fn spent() -> Allowance {
        let mut allowance = allowance(1);
        assert_eq!(taken(&mut allowance.bucket), 10);
        allowance
    }

    #[test]
    fn share_is_rounded_up_and_none_is_no_bound() {
        for (per_second, workers, share) in [
            (0, 1, None),
            (0, 8, None),
            (1, 0, Some(1)),
            (1, 1, Some(1)),
            (1, 8, Some(1)),
            (8, 8, Some(1)),
            (9, 8, Some(2)),
            (1_000, 3, Some(334)),
            (u32::MAX, 1, Some(u64::from(u32::MAX))),
            (u32::MAX, usize::MAX, Some(1)),
        ] {
            let allowance = Allowance::new(per_second, workers, 1);
            let found = allowance.map(|allowance| allowance.bucket.rate);
            assert_eq!(found, share, "{per_second} for {workers}");
        }
    }

    /// A rate, the ticks after a bucket of it ran empty, and the lines that are then in it.
    #[test]
    fn bucket_fills_evenly_up_to_ten_seconds_worth() {
        for (rate, ticks, lines) in [
            (1, 0, 0),
            (1, 9, 0),
            (1, 10, 1),
            (1, 19, 1),
            (1, 20, 2),
            (3, 3, 0),
            (3, 4, 1),
            (3, 10, 3),
            (20, 1, 2),
            (20, 99, 198),
            (20, 100, 200),
            (20, 101, 200),
            (20, u64::MAX - 1, 200),
        ] {
            let mut bucket = Bucket::full(rate, 1);
            assert_eq!(taken(&mut bucket), rate as usize * 10);
            bucket.fill(1);
            assert_eq!(taken(&mut bucket), 0);
            bucket.fill(1 + ticks);
            assert_eq!(taken(&mut bucket), lines, "{rate} for {ticks} ticks");
        }
    }

    #[test]
    fn long_targets_take_the_room_of_more_lines() {
        let a = rule(&origin(), "a");
        for (target, lines) in [(0, 10), (1_023, 10), (1_024, 5), (2_047, 5), (65_534, 0)] {
            let mut allowance = allowance(1);
            let admitted = (0..20).filter(|_| allowance.admit(Actor::Rule(&a), target));
            // The first that has no room has its line all the same.
            assert_eq!(admitted.count(), lines + 1, "{target}");
        }
    }

    #[test]
    fn parts_of_a_line_add_up_however_the_ticks_come() {
        for step in [1, 2, 3, 7, 50] {
            let mut bucket = Bucket::full(7, 0);
            taken(&mut bucket);
            let ticks = (step..=1_050).step_by(step as usize);
            let lines: usize = ticks
                .map(|tick| {
                    bucket.fill(tick);
                    taken(&mut bucket)
                })
                .sum();
            assert_eq!(lines as u64, 1_050 / step * step * 7 / 10, "{step}");
        }
    }

    #[test]
    fn first_of_each_rule_in_a_second_has_its_line_and_the_others_are_told() {
        let (own, other) = (origin(), origin());
        let (a, b, same_name) = (rule(&own, "a"), rule(&own, "b"), rule(&other, "a"));
        let pools = [pool("first"), pool("second")];
        let mut allowance = spent();
        let mut admit = |rule: &RuleInfo| allowance.admit(Actor::Rule(rule), 1);
        assert_eq!([admit(&a), admit(&a), admit(&a)], [true, false, false]);
        assert_eq!([admit(&b), admit(&same_name)], [true, true]);
        // The same rule of another snapshot.
        assert!(!admit(&b.clone()));
        let mut admit = |pool| allowance.admit(Actor::Pool(pool), 1);
        assert_eq!(pools.each_ref().map(&mut admit), [true, true]);
        assert_eq!(pools.each_ref().map(&mut admit), [false, false]);
        let mut admit = || allowance.admit(Actor::Rest, 1);
        assert_eq!([admit(), admit()], [true, false]);
        assert_eq!(told(&mut allowance, 9), []);
        let expected = [("a", 2), ("b", 1), ("first", 1), ("second", 1), ("rest", 1)];
        let expected = expected.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(told(&mut allowance, 10), expected);
        assert_eq!(told(&mut allowance, 11), []);
    }

    #[test]
    fn each_second_begins_anew() {
        let a = rule(&origin(), "a");
        let mut allowance = spent();
        let admit = |count: usize, allowance: &mut Allowance| {
            let admitted = (0..count).filter(|_| allowance.admit(Actor::Rule(&a), 1));
            admitted.count()
        };
        assert_eq!(admit(3, &mut allowance), 1);
        assert_eq!(told(&mut allowance, 10), [("a".to_owned(), 2)]);
        // Nine ticks have not brought a line, ten have.
        assert_eq!(admit(3, &mut allowance), 1);
        assert_eq!(told(&mut allowance, 11), []);
        assert_eq!(admit(3, &mut allowance), 1);
        assert_eq!(told(&mut allowance, 19), []);
        // A late tick ends one second, and only one.
        assert_eq!(told(&mut allowance, 45), [("a".to_owned(), 4)]);
        assert_eq!(told(&mut allowance, 50), []);
        // Three lines from the bucket, and the first without one.
        assert_eq!(admit(5, &mut allowance), 4);
    }

    #[test]
    fn as_many_rules_as_there_are_places_are_told_apart() {
        let origin = origin();
        for count in [PLACES - 1, PLACES, PLACES + 1, PLACES + 2] {
            let rules: Vec<_> = (0..count)
                .map(|number| rule(&origin, &number.to_string()))
                .collect();
            let mut allowance = spent();
            let mut admit = || {
                let admitted = rules.iter().map(Actor::Rule);
                let admitted = admitted.filter(|rule| allowance.admit(*rule, 1));
                admitted.count()
            };
            assert_eq!(admit(), count.min(PLACES + 1));
            assert_eq!(admit(), 0);
            let mut told = Vec::new();
            allowance.tell(|actor, omitted| told.push((name(actor), omitted)));
            let mut expected: Vec<_> = rules
                .iter()
                .take(PLACES)
                .map(|rule| (rule.name.clone(), 1))
                .collect();
            // Of the rest one decision had its line.
            match count.saturating_sub(PLACES) {
                0 => {}
                beyond => expected.push(("rest".to_owned(), beyond as u64 * 2 - 1)),
            }
            assert_eq!(told, expected, "{count}");
            assert!(allowance.places.is_empty() && allowance.rest.is_none());
        }
    }

    #[test]
    fn whoever_had_a_line_of_the_bucket_has_one_more_without_it() {
        let a = rule(&origin(), "a");
        let mut allowance = allowance(1);
        let admitted = (0..20).map(|_| allowance.admit(Actor::Rule(&a), 1));
        let admitted: Vec<bool> = admitted.collect();
        assert_eq!(admitted, [vec![true; 11], vec![false; 9]].concat());
        assert_eq!(told(&mut allowance, 10), [("a".to_owned(), 9)]);
    }
}
