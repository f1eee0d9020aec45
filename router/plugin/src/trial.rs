//! A module that is tried before it serves: asked beside the one that does, or given a share of the connections.

use std::sync::Arc;
use std::time::Instant as Clock;

use uvs_director::scheduler::{Candidate, Flow, Load};
use uvs_director::{Instant, splitmix64};

use crate::slot::Slot;
use crate::stats::{SchedulerStats, TrialStats};

/// How a module is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is asked for each connection; its answer is compared and not used.
    Shadow,
    /// It places this share of the new connections, in per cent, 1 to 100.
    ///
    /// A hash of addresses, ports and protocol says which, keyed with a random number of this process: a client
    /// cannot choose its side, and a retransmitted request stays on it.
    Canary {
        /// 1 to 100.
        percent: u8,
    },
}

impl Mode {
    /// Its name in metrics and status.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary { .. } => "canary",
        }
    }
}

/// A module on trial.
pub(crate) struct Trial {
    pub(crate) mode: Mode,
    pub(crate) slot: Slot,
    pub(crate) stats: Arc<TrialStats>,
    key: u64,
}

impl Trial {
    pub(crate) fn new(mode: Mode, slot: Slot, key: u64) -> Self {
        Self { mode, slot, stats: Arc::default(), key }
    }

    /// What its module did.
    pub(crate) fn module_stats(&self) -> &Arc<SchedulerStats> {
        &self.slot.stats
    }

    pub(crate) fn is_its_share(&self, flow: &Flow) -> bool {
        match self.mode {
            Mode::Shadow => false,
            Mode::Canary { percent } => share(self.key, flow) < u64::from(percent),
        }
    }

    /// Its pick for a connection of its share; `None`: it has none, and the module that serves is to be asked.
    pub(crate) fn place(
        &mut self,
        flow: &Flow,
        changed: &[(u32, Load)],
        candidates: &[Candidate],
        now: Instant,
    ) -> Option<u32> {
        let pick = self.ask(flow, changed, candidates, now).flatten();
        if pick.is_some() {
            self.stats.placed()
        } else {
            self.stats.passed_on()
        }
        pick
    }

    /// Asks for a connection that was placed already and takes note of the difference.
    pub(crate) fn compare(
        &mut self,
        placed: Option<u32>,
        flow: &Flow,
        changed: &[(u32, Load)],
        candidates: &[Candidate],
        now: Instant,
    ) {
        if let Some(pick) = self.ask(flow, changed, candidates, now) {
            self.stats.compared(pick == placed);
        }
    }

    fn ask(
        &mut self,
        flow: &Flow,
        changed: &[(u32, Load)],
        candidates: &[Candidate],
        now: Instant,
    ) -> Option<Option<u32>> {
        let start = self.slot.stats.pick().then(Clock::now);
        let pick = self.slot.ask(flow, changed, candidates, now);
        if let Some(start) = start {
            self.slot.stats.took(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        pick
    }
}

/// A number below 100 for a flow, which only who knows the key can tell beforehand.
fn share(key: u64, flow: &Flow) -> u64 {
    let mut state = key;
    let mut mix = |word: u64| {
        state ^= word;
        state = splitmix64(&mut state);
    };
    for address in [flow.client, flow.virtual_addr] {
        let uvs_sdk::Address { hi, lo } = address.into();
        mix(hi);
        mix(lo);
    }
    mix(u64::from(flow.client_port) << 32 | u64::from(flow.virtual_port) << 8 | flow.protocol as u64);
    // Multiplied, not divided: all values of the upper half count the same.
    ((state >> 32) * 100) >> 32
}

#[cfg(test)]
mod tests {
    use uvs_director::spec::Protocol;

    use super::*;

    #[test]
    fn each_share_is_about_as_large_as_it_is_to_be_and_depends_on_the_key() {
        let flow = |port: u16| Flow {
            protocol: Protocol::Tcp,
            client: [198, 51, 100, 7].into(),
            client_port: port,
            virtual_addr: [192, 0, 2, 10].into(),
            virtual_port: 443,
            mark: 0,
        };
        for percent in [1, 5, 50, 99, 100] {
            let chosen = (0..50_000).filter(|&port| share(7, &flow(port)) < percent).count();
            let want = 500 * usize::try_from(percent).unwrap();
            assert!(chosen.abs_diff(want) < 600, "{percent} %: {chosen} of 50000");
        }
        let differ = (0..1000).filter(|&port| share(7, &flow(port)) != share(8, &flow(port))).count();
        assert!(differ > 900, "{differ}");
        assert_eq!(share(7, &flow(4)), share(7, &flow(4)), "the same each time");
    }
}
