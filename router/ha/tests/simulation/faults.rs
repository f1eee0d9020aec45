//! What happens to a world, and when.

use core::time::Duration;

use crate::random::Random;

/// Something that happens at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing gets from one node to another for so long.
    Cut { from: usize, to: usize, time: Duration },
    /// Neither way.
    Split { one: usize, other: usize, time: Duration },
    /// All links lose so many percent for so long.
    Lossy { percent: u8, time: Duration },
    /// The process stands still (SIGSTOP), and its packets wait for it.
    Pause { node: usize, time: Duration },
    /// Whoever is Active stands still.
    PauseActive { time: Duration },
    /// It is gone at once, and comes back (kill -9).
    Kill { node: usize, time: Duration },
    /// It ends as it should, and comes back.
    Stop { node: usize, time: Duration },
    /// Its clock is set, forward or back.
    Step { node: usize, forward: bool, by: Duration },
    /// It is given another list of addresses.
    Reload { node: usize, time: Duration },
    /// Something that its priority follows is down for so long.
    Weigh { node: usize, time: Duration },
    /// Something that it needs is down for so long.
    Unplug { node: usize, time: Duration },
    /// It is in maintenance for so long.
    Maintain { node: usize, time: Duration },
    /// Whoever is Active is to hand over.
    Failover,
}

impl Fault {
    /// One, by chance. `unit` is the interval of advertisements.
    pub(crate) fn any(random: &mut Random, nodes: usize, unit: Duration) -> Self {
        let node = random.below(nodes);
        let other = (node + 1 + random.below(nodes - 1)) % nodes;
        let time = random.between(unit / 2, unit * 10);
        match random.below(14) {
            0 => Self::Cut { from: node, to: other, time },
            1 => Self::Split { one: node, other, time },
            2 => Self::Lossy { percent: random.pick(&[10, 30, 60]), time },
            3 => Self::Pause { node, time },
            4 | 5 => Self::PauseActive { time: random.between(unit, unit * 10) },
            6 => Self::Kill { node, time },
            7 => Self::Stop { node, time },
            8 => Self::Step { node, forward: random.percent(50), by: random.between(unit / 4, unit * 100) },
            9 => Self::Reload { node, time: time * 2 },
            10 => Self::Weigh { node, time },
            11 => Self::Unplug { node, time },
            12 => Self::Maintain { node, time },
            _ => Self::Failover,
        }
    }
}
