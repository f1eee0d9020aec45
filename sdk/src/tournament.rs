//! Finds the destination with the least load for its weight.

use alloc::vec::Vec;

use crate::{Destination, Destinations};

/// What a destination brings to a [`Tournament`]: the one with the least `load / weight` wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it carries, in a unit of the scheduler's own. [`Destination::overhead`] fits: a load word bounds it.
    pub load: u32,
    /// What it can carry; 0 keeps it out.
    pub weight: u32,
}

/// Keeps the destination with the least load for its weight at hand; among equals it is the first in list order,
/// as in the kernel's schedulers.
///
/// A load that changed costs one walk to the root (many at once cost no more than a fresh start), a pick reads the
/// root.
///
/// ```text
///            [1] winner              [0] is not used
///        [2]         [3]
///      [4] [5]     [6] [7]           the leaves: the destinations in list order
/// ```
///
/// ```
/// # extern crate alloc;
/// # use alloc::string::String;
/// use uvs_sdk::{Destination, Destinations, Entry, Flow, Host, Scheduler, Tournament};
///
/// /// The fewest active connections for the weight.
/// #[derive(Default)]
/// struct Fewest(Tournament);
///
/// fn rule(destination: &Destination) -> Option<Entry> {
///     destination.is_eligible().then(|| Entry { load: destination.active, weight: destination.weight })
/// }
///
/// impl Scheduler for Fewest {
/// #   fn init(_: &str, _: &str) -> Result<Self, String> { Ok(Self::default()) }
///     fn update(&mut self, table: &Destinations) {
///         self.0.rebuild(table, rule);
///     }
///     fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
///         self.0.refresh(table, rule);
///         self.0.winner()
///     }
/// }
/// # let mut lab = uvs_sdk::testing::Lab::<Fewest>::new("");
/// # lab.add(1, 2).add(2, 1);
/// # assert_eq!(uvs_sdk::testing::line(&lab.connect_all(4)), "2 1 1 2");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tournament {
    /// As many leaves as inner nodes, a power of two.
    nodes: Vec<Node>,
}

/// A destination in the tree, or where none is: weight 0.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    entry: (u32, u32),
    position: u32,
}

impl Node {
    fn new(position: u32, entry: Option<Entry>) -> Self {
        entry.map_or_else(Self::default, |entry| Self { entry: (entry.load, entry.weight), position })
    }

    /// The better one; `self` is the earlier one in list order and wins a draw.
    fn or(self, other: Self) -> Self {
        let ((load, weight), (its_load, its_weight)) = (self.entry, other.entry);
        let less = u64::from(its_load) * u64::from(weight) < u64::from(load) * u64::from(its_weight);
        if its_weight > 0 && (weight == 0 || less) { other } else { self }
    }
}

impl Tournament {
    /// Starts anew with the loads that are known, from [`Scheduler::update`](crate::Scheduler::update). `rule` says
    /// what a destination enters with; `None` keeps it out.
    pub fn rebuild(&mut self, table: &Destinations, rule: impl Fn(&Destination) -> Option<Entry>) {
        self.rebuild_by(table, |_, destination| rule(destination));
    }

    /// As [`rebuild`](Self::rebuild), by a rule that is told the position as well.
    pub fn rebuild_by(&mut self, table: &Destinations, rule: impl Fn(u32, &Destination) -> Option<Entry>) {
        let leaves = table.len().next_power_of_two();
        self.nodes.clear();
        self.nodes.resize(leaves, Node::default());
        self.nodes.extend(
            table.iter().map(|(position, destination)| Node::new(position, rule(position, destination))),
        );
        self.nodes.resize(2 * leaves, Node::default());
        for node in (1..leaves).rev() {
            self.play(node);
        }
    }

    /// Takes in the loads that came with this pick ([`Destinations::changed`]), by the same rule.
    pub fn refresh(&mut self, table: &Destinations, rule: impl Fn(&Destination) -> Option<Entry>) {
        self.renew(table, table.changed(), |_, destination| rule(destination));
    }

    /// Plays anew for the destinations at `positions`, which have to be in the table.
    pub fn renew(
        &mut self,
        table: &Destinations,
        positions: &[u32],
        rule: impl Fn(u32, &Destination) -> Option<Entry>,
    ) {
        // So many walks to the root cost more than all nodes do.
        if positions.len() > table.len() / 8 {
            self.rebuild_by(table, rule);
            return;
        }
        for &position in positions {
            let mut node = self.nodes.len() / 2 + position as usize;
            let entry = table.get(position).and_then(|destination| rule(position, destination));
            self.nodes[node] = Node::new(position, entry);
            while node > 1 {
                node /= 2;
                self.play(node);
            }
        }
    }

    /// The position of the destination with the least load for its weight.
    pub fn winner(&self) -> Option<u32> {
        self.nodes.get(1).filter(|node| node.entry.1 > 0).map(|node| node.position)
    }

    fn play(&mut self, node: usize) {
        self.nodes[node] = self.nodes[2 * node].or(self.nodes[2 * node + 1]);
    }
}
