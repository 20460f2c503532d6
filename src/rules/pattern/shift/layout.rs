//! Lays the rows of many patterns out as a tree of bits.

use std::collections::VecDeque;
use std::ops::Range;

use super::classes::Classes;
use super::jump::{Jump, frequency_of, jump, places};
use super::row::{Row, Sets, Step};
use super::trie::{End, Moves, Target, Trie, Word};
use crate::rules::pattern::unit_set::UnitSet;

/// What opening or closing the steps behind a fork costs, in instructions, and what moving one step of a word costs at
/// each unit while the word is busy, which words behind the first ones are now and then. By these it is decided whether
/// rows share a beginning or repeat it.
const TURN_COST: f64 = 60.0;
const ROOT_STEP_COST: f64 = 20.0 / 64.0;
const INNER_STEP_COST: f64 = ROOT_STEP_COST / 4.0;

/// A chain that does not fit into a word goes on in another; with less room than this it begins there.
const WORTH_FILLING: usize = 16;

/// The program of rows, each of a pattern; `None` if it would have to tell too many kinds of units apart.
pub(super) fn lay_out(sets: &Sets, rows: Vec<(Row, u32)>) -> Option<Trie> {
    let classes = Classes::new(sets.all())?;
    let jump = jump(&places(rows.iter().map(|(row, _)| row), sets.all()));
    let (mut rows, empty): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(row, _)| !row.steps.is_empty());
    rows.sort_by(|(one, number), (other, second)| {
        let order = one.from_start.cmp(&other.from_start);
        order
            .then_with(|| one.steps.cmp(&other.steps))
            .then_with(|| (one.to_end, number).cmp(&(other.to_end, second)))
    });
    rows.dedup();
    let mut layout = Layout {
        rows: &rows,
        shares: sets.all().iter().map(share).collect(),
        waiting: VecDeque::new(),
        placed: Vec::new(),
        words: Vec::new(),
        forks: Vec::new(),
        ends: Vec::new(),
        used: 0,
    };
    let floating = rows.partition_point(|(row, _)| !row.from_start);
    layout.branch(0..floating, 0, &Behind::Anywhere);
    layout.branch(floating..rows.len(), 0, &Behind::Start);
    let roots = layout.words.len();
    layout.used = 64 * roots;
    while let Some(waiting) = layout.waiting.pop_front() {
        match waiting {
            Waiting::Branch {
                rows,
                depth,
                behind,
            } => layout.branch(rows, depth, &behind),
            Waiting::Rest { links, behind } => layout.place(links, &behind),
        }
    }
    let on_empty = empty.into_iter().map(|(_, pattern)| pattern).collect();
    Some(layout.finish(classes, jump, on_empty, roots))
}

/// The number of a step's bit.
type Place = usize;

/// What steps follow.
#[derive(Clone, Copy)]
enum Behind {
    Anywhere,
    Start,
    /// A step that is taken at a unit with this likelihood.
    Step(Place, f64),
}

/// What is not placed yet.
enum Waiting {
    /// Rows of which so many steps are placed, the last of them at one place.
    Branch {
        rows: Range<usize>,
        depth: usize,
        behind: Behind,
    },
    /// The end of a chain.
    Rest { links: Vec<Link>, behind: Behind },
}

/// One step of a chain: of steps that follow each other, bit after bit.
struct Link {
    step: Step,
    /// How many steps rows have up to here.
    depth: usize,
    /// The rows that end here.
    ends: Range<usize>,
    /// Rows that go on elsewhere from here.
    leave: Vec<Range<usize>>,
    /// How likely the step is taken at a unit, and how often it begins or ceases to be.
    live: f64,
    turns: f64,
}

struct Layout<'r> {
    rows: &'r [(Row, u32)],
    /// For each set, the share of units that are in it.
    shares: Vec<f64>,
    waiting: VecDeque<Waiting>,
    placed: Vec<(Place, Step)>,
    words: Vec<Word>,
    /// Each fork with what it leads to.
    forks: Vec<(Place, Place)>,
    /// Each end of a row.
    ends: Vec<(Place, End)>,
    /// Bits up to here are used.
    used: usize,
}

impl Layout<'_> {
    /// Places rows, of which the same steps are placed already, so many of each.
    fn branch(&mut self, rows: Range<usize>, depth: usize, behind: &Behind) {
        let mut chains = VecDeque::from(self.split(rows, depth));
        while let Some(rows) = chains.pop_front() {
            let (links, apart) = self.chain(rows, depth, behind);
            chains.extend(apart);
            self.place(links, behind);
        }
    }

    /// The rows by the step behind so many, which all have.
    fn split(&self, rows: Range<usize>, depth: usize) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let mut start = rows.start;
        while start < rows.end {
            let step = self.rows[start].0.steps[depth];
            let same =
                self.rows[start..rows.end].partition_point(|(row, _)| row.steps[depth] <= step);
            parts.push(start..start + same);
            start += same;
        }
        parts
    }

    /// The steps of rows that have the next one in common, up to the end of one of them, and the rows that have to
    /// repeat its beginning.
    fn chain(
        &self,
        mut rows: Range<usize>,
        depth: usize,
        behind: &Behind,
    ) -> (Vec<Link>, Vec<Range<usize>>) {
        let (mut live, step_cost) = match behind {
            Behind::Anywhere => (1.0, ROOT_STEP_COST),
            Behind::Start => (0.01, ROOT_STEP_COST),
            Behind::Step(_, live) => (*live, INNER_STEP_COST),
        };
        let (mut links, mut apart) = (Vec::<Link>::new(), Vec::new());
        // How many links there were when rows left last, which is where others can leave too.
        let mut parted = 0;
        loop {
            let at = depth + links.len();
            let step = self.rows[rows.start].0.steps[at];
            let arrival = live * self.shares[usize::from(step.take)];
            let stay = step.stay.map_or(0.0, |set| self.shares[usize::from(set)]);
            let turns = 2.0 * arrival.min(1.0 - stay);
            live = arrival / (1.0 - stay).max(arrival);
            let ended =
                self.rows[rows.clone()].partition_point(|(row, _)| row.steps.len() == at + 1);
            let ends = rows.start..rows.start + ended;
            let mut parts = self.split(ends.end..rows.end, at + 1);
            links.push(Link {
                step,
                depth: at + 1,
                ends,
                leave: Vec::new(),
                live,
                turns,
            });
            if parts.is_empty() {
                return (links, apart);
            }
            let likeliest = |part: &Range<usize>| {
                self.shares[usize::from(self.rows[part.start].0.steps[at + 1].take)]
            };
            let heaviest = (0..parts.len())
                .max_by(|one, other| likeliest(&parts[*one]).total_cmp(&likeliest(&parts[*other])));
            rows = parts.swap_remove(heaviest.unwrap_or_default());
            if parts.is_empty() {
                continue;
            }
            let repeated = (parts.len() * (links.len() - parted)) as f64;
            if turns * TURN_COST <= repeated * step_cost {
                parted = links.len();
            }
            match parted.checked_sub(1) {
                Some(last) => links[last].leave.extend(parts),
                None => apart.extend(parts),
            }
        }
    }

    /// How many steps of a chain are to be moved with every unit, if it is one that rows begin with: the others are
    /// behind a fork, which costs as often as it turns.
    fn worth_placing(&self, links: &[Link], behind: &Behind) -> usize {
        if let Behind::Step(..) = behind {
            return links.len();
        }
        let cost = |count: usize| {
            let link = &links[count - 1];
            let is_fork = count < links.len() && link.leave.is_empty();
            let turning = if is_fork { link.turns * TURN_COST } else { 0.0 };
            count as f64 * ROOT_STEP_COST + turning
        };
        let counts = 1..=links.len();
        let cheapest = counts.min_by(|one, other| cost(*one).total_cmp(&cost(*other)));
        cheapest.unwrap_or(links.len())
    }

    /// Places the steps of a chain, as many as go into one word.
    fn place(&mut self, mut links: Vec<Link>, behind: &Behind) {
        let free = 64 * self.words.len() - self.used;
        let wanted = self.worth_placing(&links, behind);
        let fits = wanted <= free || (wanted > 64 && free >= WORTH_FILLING);
        if !fits {
            self.used = 64 * self.words.len();
            self.words.push(Word::default());
        }
        let room = 64 * self.words.len() - self.used;
        let rest = links.split_off(wanted.min(room));
        let first = self.used;
        let mut last = *behind;
        for (place, link) in (first..).zip(links) {
            self.used = place + 1;
            let (word, bit) = (&mut self.words[place / 64], 1 << (place % 64));
            match last {
                Behind::Anywhere => {
                    word.first |= bit;
                    word.start |= bit;
                }
                Behind::Start => word.start |= bit,
                Behind::Step(fork, _) if place == first => self.forks.push((fork, first)),
                Behind::Step(..) => word.inner |= bit,
            }
            self.placed.push((place, link.step));
            for (row, pattern) in &self.rows[link.ends] {
                let (pattern, at_end) = (*pattern, row.to_end);
                *(if at_end {
                    &mut word.last_at_end
                } else {
                    &mut word.last
                }) |= bit;
                self.ends.push((place, End { pattern, at_end }));
            }
            last = Behind::Step(place, link.live);
            for rows in link.leave {
                self.waiting.push_back(Waiting::Branch {
                    rows,
                    depth: link.depth,
                    behind: last,
                });
            }
        }
        if !rest.is_empty() {
            self.waiting.push_back(Waiting::Rest {
                links: rest,
                behind: last,
            });
        }
    }

    fn finish(
        mut self,
        classes: Classes,
        jump: Option<Jump>,
        on_empty: Box<[u32]>,
        roots: usize,
    ) -> Trie {
        let count = self.words.len();
        let mut moves = vec![Moves::default(); count * classes.count].into_boxed_slice();
        for (place, step) in &self.placed {
            let (word, bit) = (place / 64, 1 << (place % 64));
            for class in &classes.of_sets[usize::from(step.take)] {
                moves[usize::from(*class) * count + word].take |= bit;
            }
            let stay = step.stay.iter();
            for class in stay.flat_map(|set| &classes.of_sets[usize::from(*set)]) {
                moves[usize::from(*class) * count + word].stay |= bit;
            }
        }
        self.forks.sort_unstable();
        let (mut forks, mut targets) = (Vec::with_capacity(64 * count + 1), Vec::<Target>::new());
        for (fork, place) in &self.forks {
            let (word, steps) = ((place / 64) as u32, 1 << (place % 64));
            let is_known = forks.len() == fork + 1;
            if is_known
                && let Some(target) = targets.last_mut().filter(|target| target.word == word)
            {
                target.steps |= steps;
                continue;
            }
            if !is_known {
                forks.resize(fork + 1, targets.len() as u32);
                self.words[fork / 64].forks |= 1 << (fork % 64);
            }
            targets.push(Target { word, steps });
        }
        forks.resize(64 * count + 1, targets.len() as u32);
        self.ends.sort_unstable();
        let (mut ends, mut patterns) = (Vec::new(), Vec::new());
        let mut last = None;
        for (place, end) in &self.ends {
            if last != Some(*place) {
                ends.push(patterns.len() as u32);
                last = Some(*place);
            }
            patterns.push(*end);
        }
        ends.push(patterns.len() as u32);
        let mut ends_before = 0;
        for word in &mut self.words {
            word.leaves = word.last & !word.last_at_end & !word.forks & !(word.inner >> 1);
            word.ends_before = ends_before;
            ends_before += (word.last | word.last_at_end).count_ones();
        }
        Trie {
            classes: classes.map,
            moves,
            floats: self.words.iter().any(|word| word.first != 0),
            words: self.words.into(),
            roots,
            forks: forks.into(),
            targets: targets.into(),
            ends: ends.into(),
            patterns: patterns.into(),
            on_empty,
            jump,
        }
    }
}

/// The share that the units of a set have of what is in URLs, cookies and other fields, roughly.
fn share(set: &UnitSet) -> f64 {
    let frequency = |set: u128| -> u32 {
        (0..128)
            .filter(|byte| set >> byte & 1 != 0)
            .map(frequency_of)
            .sum()
    };
    f64::from(frequency(set.ascii())) / f64::from(frequency(u128::MAX))
}
