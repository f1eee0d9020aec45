//! What holds in a world, whatever happens.
//!
//! Let A be the interval of an Active node, D the longest delay of a packet, J the longest by which a process that runs
//! is late, and Active_Down_Interval the longest that a node may have, by its own interval or a learned one.
//!
//! 1. **Two owners.** Of two that have the addresses at once, the better one is heard: both have them for no longer
//!    than `A + D + J` (A of the better one) after both began to, or after the last moment at which a message from the
//!    better to the worse one was lost, or one of both stood still, had its clock set, or changed its priority.
//! 2. **No owner.** A node that runs, may take part, and has its snapshot takes over no later than
//!    `Active_Down_Interval + D + J` after the last one let go, or after that node began to run or to take part or had
//!    its clock set, whichever comes last.
//! 3. **Late wake.** Who stood still for `3 * A` or more has no addresses when it runs again, unless it is their owner
//!    by priority 255, and takes them no sooner than `3 * A` (the shortest A of all nodes) later, unless it hears that
//!    another leaves. A node whose clock is set back meanwhile cannot know it, and is left out.
//! 4. **All or none.** Of a sync group all members have their addresses, or none.
//! 5. **Ready.** No node takes addresses before the snapshot that it waits for is in or given up.
//! 6. **In the end**, when nothing happens any more, each virtual router has one owner, if any node may take part; and
//!    where all preempt, none of the others has a higher priority.

use core::time::Duration;

use uvs_director::Instant;
use uvs_ha::timers;
use uvs_ha::wire::Interval;

use crate::node::Node;
use crate::world::World;

/// What was noted of two nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pair {
    /// Since when both have the addresses.
    pub(crate) since: Option<Instant>,
    /// Who is the better one.
    pub(crate) better: usize,
    /// When something last spoke for the first of both not hearing the second, and the other way round.
    pub(crate) excuse: [Instant; 2],
}

impl World {
    /// Notes that something kept messages of one node from another, or either from acting on them.
    pub(crate) fn excuse(&mut self, from: usize, to: usize) {
        let (low, high) = (from.min(to), from.max(to));
        let at = usize::from(from > to);
        let now = self.now;
        for pairs in &mut self.pairs {
            pairs[low][high].excuse[at] = now;
        }
    }

    /// Notes that something happened to a node.
    pub(crate) fn disturb(&mut self, node: usize) {
        self.nodes[node].undisturbed = self.now;
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.excuse(node, other);
            self.excuse(other, node);
        }
    }

    /// Checks what depends on time, and notes who owns what.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        for router in 0..self.routers {
            self.check_two(router)?;
            self.check_none(router)?;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let owns = node.owns.iter().filter(|owned| !owned.is_empty()).count();
            if owns != 0 && owns != self.routers && self.grouped {
                return Err(format!("node {index} has the addresses of {owns} of {} members", self.routers));
            }
            let listens = node.runs() && node.listens_until.is_some_and(|until| self.now < until);
            if owns > 0 && listens && !node.is_owner() {
                return Err(format!("node {index} has addresses straight after a pause"));
            }
        }
        Ok(())
    }

    fn check_two(&mut self, router: usize) -> Result<(), String> {
        for low in 0..self.nodes.len() {
            for high in low + 1..self.nodes.len() {
                let both = self.has(low, router) && self.has(high, router);
                let (one, other) = (self.rank(low), self.rank(high));
                let better = if one > other { low } else { high };
                let interval = self.nodes[better].interval.duration();
                let pair = &mut self.pairs[router][low][high];
                if !both {
                    pair.since = None;
                    continue;
                }
                if pair.since.is_none() {
                    self.summary.overlaps += 1;
                    (pair.since, pair.better) = (Some(self.now), better);
                }
                if pair.better != better {
                    pair.better = better;
                    pair.excuse = [self.now; 2];
                }
                let from = pair.since.unwrap_or(self.now).max(pair.excuse[usize::from(better == high)]);
                let most = interval + self.delay_max + self.late_max;
                if self.now > from + most {
                    let worse = if better == low { high } else { low };
                    return Err(format!(
                        "two owners of {router}: {worse} has not let go in {:?}, where {most:?} is told, to {better}",
                        self.now.since(from)
                    ));
                }
                let age = self.now.since(pair.since.unwrap_or(self.now));
                self.summary.longest_two = self.summary.longest_two.max(age);
            }
        }
        Ok(())
    }

    fn check_none(&mut self, router: usize) -> Result<(), String> {
        if (0..self.nodes.len()).any(|node| self.has(node, router)) {
            self.none_since[router] = None;
            return Ok(());
        }
        let since = *self.none_since[router].get_or_insert(self.now);
        self.summary.longest_none = self.summary.longest_none.max(self.now.since(since));
        for (index, node) in self.nodes.iter().enumerate() {
            if !node.may_own(self.now) {
                continue;
            }
            let from = (since + self.delay_max).max(node.undisturbed + self.delay_max);
            let most = self.down_max(node) + self.late_max;
            if self.now > from + most {
                let waited = self.now.since(from);
                return Err(format!(
                    "no owner of {router}: {index} has not taken over in {waited:?}, where {most:?} is told"
                ));
            }
        }
        Ok(())
    }

    /// The longest Active_Down_Interval that a node may have.
    fn down_max(&self, node: &Node) -> Duration {
        let longest = self.nodes.iter().map(|node| node.interval).max().unwrap_or(Interval::DEFAULT);
        timers::active_down(self.version, longest, node.priority().min(node.configured))
    }

    /// What has to be in the end.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        for router in 0..self.routers {
            let owners: Vec<usize> = (0..self.nodes.len()).filter(|node| self.has(*node, router)).collect();
            let may: Vec<usize> =
                (0..self.nodes.len()).filter(|node| self.nodes[*node].may_own(self.now)).collect();
            if owners.len() != usize::from(!may.is_empty()) {
                return Err(format!("in the end {owners:?} own {router}, of {may:?} that may"));
            }
            let best = may.iter().map(|node| self.nodes[*node].priority()).max();
            let of_owner = owners.first().map(|node| self.nodes[*node].priority());
            if self.all_preempt && of_owner != best {
                return Err(format!(
                    "in the end the owner of {router} has priority {of_owner:?}, not {best:?}"
                ));
            }
        }
        Ok(())
    }
}
