//! A pattern as a choice of rows, each a row of units some of which may repeat.

use std::collections::HashSet;

use crate::rules::pattern::ast::{Ast, NO_LIMIT, Node, NodeId};
use crate::rules::pattern::case;
use crate::rules::pattern::unit_set::UnitSet;

/// Rows of one pattern; more of them are left to an automaton.
const MAX_ROWS: usize = 64;

/// Steps of all rows of one pattern.
const MAX_STEPS: usize = 1_024;

/// One way to match.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Row {
    pub(super) steps: Vec<Step>,
    /// It begins at the start of the text.
    pub(super) from_start: bool,
    /// It ends at the end of the text.
    pub(super) to_end: bool,
}

impl Row {
    /// Whether it matches any text.
    pub(super) fn is_trivial(&self) -> bool {
        self.steps.is_empty() && !(self.from_start && self.to_end)
    }
}

/// One unit of a row.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Step {
    /// The set that the unit is in.
    pub(super) take: u16,
    /// The set of which any number may follow.
    pub(super) stay: Option<u16>,
}

/// Distinct sets of units, by number.
#[derive(Debug, Default)]
pub(super) struct Sets(Vec<UnitSet>);

impl Sets {
    pub(super) fn all(&self) -> &[UnitSet] {
        &self.0
    }

    fn number(&mut self, set: &UnitSet) -> Option<u16> {
        if let Some(at) = self.0.iter().position(|known| known == set) {
            return Some(at as u16);
        }
        let number = u16::try_from(self.0.len()).ok()?;
        self.0.push(set.clone());
        Some(number)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Item {
    End,
    /// Any number of units of the set.
    Many(u16),
    One(u16),
    Start,
}

/// The ways a part can match: for each, what it takes in a row.
type Ways = Vec<Vec<Item>>;

/// The rows that together match where this part of a pattern does, as far as there being a match is concerned; `None`
/// if rows cannot say it.
///
/// `looks_hold` takes every look-ahead for one that holds.
pub(super) fn rows(ast: &Ast, root: NodeId, looks_hold: bool, sets: &mut Sets) -> Option<Vec<Row>> {
    let reader = Reader {
        ast,
        least: least(ast, root),
        looks_hold,
    };
    let mut done: Vec<Option<Ways>> = Vec::with_capacity(root as usize + 1);
    for (id, node) in ast.nodes().take(root as usize + 1) {
        let ways = reader.ways(id, node, &mut done, sets);
        done.push(ways);
    }
    let mut rows = Vec::new();
    for way in done.pop()?? {
        finish(&way, &mut rows)?;
    }
    let steps: usize = rows.iter().map(|row| row.steps.len()).sum();
    (rows.len() <= MAX_ROWS && steps <= MAX_STEPS).then_some(rows)
}

/// The repetitions at either end of which the least number of rounds will do: what goes before or follows a match
/// does not matter for whether there is one.
fn least(ast: &Ast, root: NodeId) -> HashSet<NodeId> {
    let mut least = HashSet::new();
    for from_front in [true, false] {
        let mut waiting = vec![root];
        while let Some(id) = waiting.pop() {
            match ast.node(id) {
                Node::Alternate(kids) => waiting.extend(ast.kids(kids)),
                Node::Concat(kids) => {
                    let kids = ast.kids(kids);
                    let mut at = 0;
                    while let Some(kid) =
                        kids.get(if from_front { at } else { kids.len() - 1 - at })
                    {
                        waiting.push(*kid);
                        at += 1;
                        if at == kids.len() || !vanishes(ast, *kid) {
                            break;
                        }
                    }
                }
                Node::Group { sub, .. } => waiting.push(sub),
                Node::Repeat { sub, min, .. } => {
                    least.insert(id);
                    if min == 1 {
                        waiting.push(sub);
                    }
                }
                _ => {}
            }
        }
    }
    least
}

/// Whether nothing is left of this part at an end.
fn vanishes(ast: &Ast, mut id: NodeId) -> bool {
    while let Node::Group { sub, .. } = ast.node(id) {
        id = sub;
    }
    matches!(ast.node(id), Node::Empty | Node::Repeat { min: 0, .. })
}

struct Reader<'a> {
    ast: &'a Ast,
    least: HashSet<NodeId>,
    looks_hold: bool,
}

impl Reader<'_> {
    fn ways(
        &self,
        id: NodeId,
        node: Node,
        done: &mut [Option<Ways>],
        sets: &mut Sets,
    ) -> Option<Ways> {
        let item = |item: Item| Some(vec![vec![item]]);
        match node {
            Node::Alternate(kids) => {
                let mut all = Vec::new();
                for kid in self.ast.kids(kids) {
                    all.extend(take(done, *kid)?);
                }
                bounded(all)
            }
            Node::Backreference(_) | Node::Boundary { .. } => None,
            Node::Class(number) => {
                let set = self.ast.class(number);
                if *set == UnitSet::default() {
                    return Some(Vec::new());
                }
                item(Item::One(sets.number(set)?))
            }
            Node::Concat(kids) => {
                let mut all = vec![Vec::new()];
                for kid in self.ast.kids(kids) {
                    all = product(all, &take(done, *kid)?)?;
                }
                Some(all)
            }
            Node::Empty => Some(vec![Vec::new()]),
            Node::End => item(Item::End),
            Node::Group { sub, .. } => take(done, sub),
            Node::Look { .. } => self.looks_hold.then(|| vec![Vec::new()]),
            Node::Repeat { sub, min, max, .. } => {
                let max = if self.least.contains(&id) { min } else { max };
                repeat(take(done, sub)?, min, max, sets)
            }
            Node::Start => item(Item::Start),
            Node::Unit(unit) => {
                let mut set = UnitSet::default();
                if self.ast.ignore_case() {
                    for equal in case::equivalents(unit) {
                        set.insert(equal, equal);
                    }
                } else {
                    set.insert(unit, unit);
                }
                item(Item::One(sets.number(&set)?))
            }
        }
    }
}

fn take(done: &mut [Option<Ways>], id: NodeId) -> Option<Ways> {
    done[id as usize].take()
}

fn bounded(ways: Ways) -> Option<Ways> {
    let items: usize = ways.iter().map(Vec::len).sum();
    (ways.len() <= MAX_ROWS && items <= 2 * MAX_STEPS).then_some(ways)
}

/// Each of the first followed by each of the others.
fn product(mut heads: Ways, tails: &[Vec<Item>]) -> Option<Ways> {
    if let [tail] = tails {
        for head in &mut heads {
            head.extend_from_slice(tail);
        }
        return bounded(heads);
    }
    if heads.len() * tails.len() > MAX_ROWS {
        return None;
    }
    let mut all = Vec::with_capacity(heads.len() * tails.len());
    for head in &heads {
        for tail in tails {
            all.push([head.as_slice(), tail].concat());
        }
    }
    bounded(all)
}

fn repeat(sub: Ways, min: u32, max: u32, sets: &mut Sets) -> Option<Ways> {
    let rounds = usize::try_from(min).ok()?;
    if rounds > MAX_STEPS {
        return None;
    }
    let single = single(&sub, sets);
    let mut all = vec![Vec::new()];
    if let Some(set) = single {
        all[0].resize(rounds, Item::One(set));
        if max == NO_LIMIT {
            all[0].push(Item::Many(set));
            return bounded(all);
        }
    } else {
        if max == NO_LIMIT {
            return None;
        }
        for _ in 0..rounds {
            all = product(all, &sub)?;
        }
    }
    let mut last = all.clone();
    for _ in min..max {
        last = match single {
            Some(set) => product(last, &[vec![Item::One(set)]])?,
            None => product(last, &sub)?,
        };
        all.extend_from_slice(&last);
        all = bounded(all)?;
    }
    Some(all)
}

/// The set of a part that takes one unit, whichever way it matches.
fn single(ways: &Ways, sets: &mut Sets) -> Option<u16> {
    let one = |way: &Vec<Item>| match way.as_slice() {
        [Item::One(set)] => Some(*set),
        _ => None,
    };
    match ways.as_slice() {
        [] => None,
        [way] => one(way),
        _ => {
            let mut union = UnitSet::default();
            for way in ways {
                union.union(&sets.0[usize::from(one(way)?)]);
            }
            sets.number(&union)
        }
    }
}

/// Appends the rows of one way to match.
fn finish(way: &[Item], rows: &mut Vec<Row>) -> Option<()> {
    let mut own = vec![Row::default()];
    for item in way {
        match *item {
            Item::End => own.iter_mut().for_each(|row| row.to_end = true),
            Item::Start => {
                // What took a unit cannot stand before the start.
                own.retain(|row| row.steps.is_empty());
                own.iter_mut().for_each(|row| row.from_start = true);
            }
            Item::One(set) => {
                own.retain(|row| !row.to_end);
                for row in &mut own {
                    row.steps.push(Step {
                        take: set,
                        stay: None,
                    });
                }
            }
            Item::Many(set) => many(set, &mut own),
        }
        if own.len() > MAX_ROWS {
            return None;
        }
    }
    rows.append(&mut own);
    Some(())
}

fn many(set: u16, rows: &mut Vec<Row>) {
    let mut more = Vec::new();
    for row in rows.iter_mut() {
        // Behind the end there is nothing, and before a match anything.
        if row.to_end || (row.steps.is_empty() && !row.from_start) {
            continue;
        }
        match row.steps.last_mut() {
            Some(step) if step.stay.is_none() => step.stay = Some(set),
            Some(step) if step.stay == Some(set) => {}
            _ => {
                let mut with = row.clone();
                with.steps.push(Step {
                    take: set,
                    stay: Some(set),
                });
                more.push(with);
            }
        }
    }
    rows.append(&mut more);
}
