//! A pattern as a tree, whatever syntax it was written in.

use std::ops::Range;

use super::unit_set::UnitSet;

/// The number of a node in its [`Ast`].
pub(in crate::rules) type NodeId = u32;

/// One part of a pattern. The case option is applied to classes already and not to units: see
/// [`Ast::ignore_case`]. A group that does not capture is no node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::rules) enum Node {
    /// One of several, the earlier preferred.
    Alternate(Kids),
    /// What the group of this number matched; nothing if it took no part.
    Backreference(u32),
    /// `\b`, or `\B` when negated.
    Boundary { negated: bool },
    /// One unit of the class with this number.
    Class(u32),
    /// One after the other.
    Concat(Kids),
    /// Nothing, always.
    Empty,
    /// `$`: the very end of the input.
    End,
    /// A capturing group, numbered from 1.
    Group { sub: NodeId, index: u32 },
    /// A look-ahead.
    Look { sub: NodeId, negated: bool },
    /// `sub` from `min` to `max` times, [`NO_LIMIT`] standing for any number.
    Repeat {
        sub: NodeId,
        min: u32,
        max: u32,
        greedy: bool,
    },
    /// `^`: the very start of the input.
    Start,
    /// One UTF-16 code unit.
    Unit(u16),
}

/// The upper count of a repetition without one.
pub(in crate::rules) const NO_LIMIT: u32 = u32::MAX;

/// A run of children in the order of the pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::rules) struct Kids {
    first: u32,
    count: u32,
}

/// A pattern as a tree in three vectors.
///
/// A child's number is below its parent's, so a loop over the numbers visits children first and no analysis needs
/// recursion. Nodes that no parent names can occur.
#[derive(Clone, Debug, Default)]
pub(in crate::rules) struct Ast {
    nodes: Vec<Node>,
    kids: Vec<NodeId>,
    classes: Vec<UnitSet>,
    root: NodeId,
    groups: u32,
    ignore_case: bool,
}

/// Nodes and children that there is room for at once: most patterns fit, and to grow step by step takes longer than to
/// read them.
const ROOM: usize = 64;

impl Ast {
    /// Begins the tree of another pattern in the same memory.
    pub(super) fn begin(&mut self, ignore_case: bool) {
        self.nodes.clear();
        self.nodes.reserve(ROOM);
        self.kids.clear();
        self.kids.reserve(ROOM);
        self.classes.clear();
        self.root = 0;
        self.groups = 0;
        self.ignore_case = ignore_case;
    }

    /// How many nodes there are.
    pub(in crate::rules) const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node that stands for the whole pattern.
    pub(in crate::rules) fn root(&self) -> NodeId {
        self.root
    }

    pub(super) fn set_root(&mut self, root: NodeId) {
        self.root = root;
    }

    pub(in crate::rules) fn node(&self, id: NodeId) -> Node {
        self.nodes[id as usize]
    }

    /// Every node with its number, children before their parents.
    pub(in crate::rules) fn nodes(&self) -> impl Iterator<Item = (NodeId, Node)> {
        (0..).zip(self.nodes.iter().copied())
    }

    pub(in crate::rules) fn kids(&self, kids: Kids) -> &[NodeId] {
        &self.kids[kids.first as usize..][..kids.count as usize]
    }

    pub(in crate::rules) fn class(&self, number: u32) -> &UnitSet {
        &self.classes[number as usize]
    }

    /// About how many bytes it occupies.
    pub(super) fn memory(&self) -> usize {
        let wide = self.classes.iter().map(|class| size_of_val(class.wide()));
        self.nodes.capacity() * size_of::<Node>()
            + self.kids.capacity() * size_of::<NodeId>()
            + self.classes.capacity() * size_of::<UnitSet>()
            + wide.sum::<usize>()
    }

    /// How many groups capture.
    pub(in crate::rules) const fn groups(&self) -> u32 {
        self.groups
    }

    /// Whether units compare by [`canonicalize`](super::case::canonicalize).
    pub(in crate::rules) const fn ignore_case(&self) -> bool {
        self.ignore_case
    }

    pub(super) fn push(&mut self, node: Node) -> NodeId {
        if let Node::Group { index, .. } = node {
            self.groups = self.groups.max(index);
        }
        self.nodes.push(node);
        self.nodes.len() as NodeId - 1
    }

    /// Appends a node for each unit; the numbers of the nodes.
    pub(super) fn push_units(&mut self, units: &[u16]) -> Range<NodeId> {
        let first = self.nodes.len() as NodeId;
        self.nodes
            .extend(units.iter().map(|unit| Node::Unit(*unit)));
        first..self.nodes.len() as NodeId
    }

    pub(super) fn push_class(&mut self, set: UnitSet) -> NodeId {
        self.classes.push(set);
        self.push(Node::Class(self.classes.len() as u32 - 1))
    }

    /// A node for these in a row: [`Node::Empty`] for none, the only one for one.
    pub(super) fn push_concat(&mut self, items: &[NodeId]) -> NodeId {
        match items {
            [] => self.push(Node::Empty),
            [single] => *single,
            _ => {
                let kids = self.push_kids(items);
                self.push(Node::Concat(kids))
            }
        }
    }

    /// A node for a choice of these: the only one for one.
    pub(super) fn push_alternate(&mut self, items: &[NodeId]) -> NodeId {
        match items {
            [single] => *single,
            _ => {
                let kids = self.push_kids(items);
                self.push(Node::Alternate(kids))
            }
        }
    }

    fn push_kids(&mut self, items: &[NodeId]) -> Kids {
        let first = self.kids.len() as u32;
        self.kids.extend_from_slice(items);
        Kids {
            first,
            count: items.len() as u32,
        }
    }
}
