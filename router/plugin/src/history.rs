//! The latest picks of an instance: what a newcomer is tried with, and what a dump repeats.

use uvs_director::Instant;
use uvs_director::scheduler::Flow;

/// Picks that are remembered.
pub(crate) const DEPTH: usize = 64;

/// A pick that comes with more loads than this is remembered without them.
const WORDS_MAX: usize = 256;

/// One pick as an instance saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    pub(crate) flow: Flow,
    pub(crate) now: Instant,
    /// Where the random numbers of the instance stood before.
    pub(crate) random: u64,
    /// The load words that went with it; none when `cut`.
    pub(crate) words: Vec<u64>,
    /// Whether the words were too many to be kept.
    pub(crate) cut: bool,
    /// What came back, usable or not; `None`: nothing, or no answer at all.
    pub(crate) answer: Option<u32>,
}

/// A ring of [`Pick`]s. It allocates when it fills for the first time, and later for none but long lists of words.
#[derive(Debug, Default)]
pub(crate) struct History {
    ring: Vec<Pick>,
    /// How many of the ring are of the present set of destinations, and where the next one goes.
    kept: usize,
    next: usize,
    /// Whether `kept` is all that the instance was ever asked, with one set of destinations.
    whole: bool,
    updates: u32,
}

impl History {
    /// A new instance has no past.
    pub(crate) fn clear(&mut self) {
        (self.kept, self.updates, self.whole) = (0, 0, true);
    }

    /// Another set of destinations: positions in what went before mean nothing any more.
    pub(crate) fn update(&mut self) {
        self.updates = self.updates.saturating_add(1);
        self.whole &= self.kept == 0;
        self.kept = 0;
    }

    /// A pick is about to be made.
    #[inline]
    pub(crate) fn ask(&mut self, flow: &Flow, now: Instant, random: u64, words: &[u64]) {
        let cut = words.len() > WORDS_MAX;
        let words = if cut { &[] } else { words };
        if let Some(slot) = self.ring.get_mut(self.next) {
            (slot.flow, slot.now, slot.random, slot.cut, slot.answer) = (*flow, now, random, cut, None);
            slot.words.clear();
            slot.words.extend_from_slice(words);
        } else {
            let mut kept = Vec::with_capacity(words.len().max(8));
            kept.extend_from_slice(words);
            self.ring.reserve_exact(DEPTH - self.ring.len());
            self.ring.push(Pick { flow: *flow, now, random, words: kept, cut, answer: None });
        }
        self.next = (self.next + 1) % DEPTH;
        self.whole &= self.kept < DEPTH && !cut;
        self.kept = (self.kept + 1).min(DEPTH);
    }

    /// What the pick came to.
    #[inline]
    pub(crate) fn answer(&mut self, answer: Option<u32>) {
        let last = (self.next + DEPTH - 1) % DEPTH;
        if let Some(pick) = self.ring.get_mut(last) {
            pick.answer = answer;
        }
    }

    /// The picks with the present set of destinations, the oldest first.
    pub(crate) fn picks(&self) -> impl Iterator<Item = &Pick> {
        let first = self.next + DEPTH - self.kept;
        (0..self.kept).map(move |i| &self.ring[(first + i) % DEPTH])
    }

    /// Whether [`picks`](Self::picks) from a new instance on lead to where the instance is.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use uvs_director::spec::Protocol;

    use super::*;

    fn flow(port: u16) -> Flow {
        let ip = core::net::IpAddr::from([192, 0, 2, 1]);
        Flow {
            protocol: Protocol::Tcp,
            client: ip,
            client_port: port,
            virtual_addr: ip,
            virtual_port: 80,
            mark: 0,
        }
    }

    fn ask(history: &mut History, ports: core::ops::Range<u16>) {
        for port in ports {
            history.ask(&flow(port), Instant::from_millis(port.into()), port.into(), &[port.into()]);
            history.answer(Some(port.into()));
        }
    }

    #[test]
    fn the_latest_are_kept_in_order_and_until_the_set_changes() {
        let mut history = History::default();
        history.clear();
        history.update();
        ask(&mut history, 0..10);
        assert!(history.is_whole());
        assert_eq!(
            history.picks().map(|pick| pick.flow.client_port).collect::<Vec<_>>(),
            (0..10).collect::<Vec<_>>()
        );
        ask(&mut history, 10..200);
        assert!(!history.is_whole(), "the first ones are forgotten");
        let ports: Vec<_> = history.picks().map(|pick| pick.flow.client_port).collect();
        assert_eq!(ports, (200 - 64..200).collect::<Vec<_>>());
        assert!(history.picks().all(|pick| pick.words == [pick.random] && pick.answer.is_some()));

        history.update();
        assert_eq!(history.picks().count(), 0);
        ask(&mut history, 0..3);
        assert_eq!(history.picks().count(), 3);
        assert!(!history.is_whole(), "there was another set before");
        history.clear();
        history.update();
        ask(&mut history, 0..3);
        assert!(history.is_whole());
        history.ask(&flow(9), Instant::ZERO, 0, &[1; 1000]);
        assert!(!history.is_whole(), "too many words to keep");
        assert_eq!(history.picks().last().map(|pick| (pick.cut, pick.words.len())), Some((true, 0)));
    }
}
