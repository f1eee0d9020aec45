//! The latest picks of an instance: what a replacement is tried with, and what a dump repeats.

use std::collections::VecDeque;

use uvs_director::Instant;
use uvs_director::scheduler::Flow;

/// Picks that are remembered.
pub(crate) const DEPTH: usize = 256;
/// Load words that are remembered with them; long lists drive older picks out.
const WORDS: usize = 4096;
/// A pick that comes with more loads than this is remembered without them.
const WORDS_MAX: usize = 256;

/// One pick as an instance saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    pub(crate) flow: Flow,
    pub(crate) now: Instant,
    /// Where the random numbers of the instance stood before.
    pub(crate) random: u64,
    /// What was told of connections before it, as event words.
    pub(crate) events: Vec<u64>,
    /// The load words that went with it; none where they were too many to be kept.
    pub(crate) words: Vec<u64>,
    /// What came back, usable or not; `None`: nothing, or no answer at all.
    pub(crate) answer: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    flow: Flow,
    now: Instant,
    random: u64,
    /// How many words it has: event words, then load words.
    events: usize,
    words: usize,
    answer: Option<u32>,
}

/// The latest picks. All room is taken at the start: to remember one allocates nothing.
#[derive(Debug)]
pub(crate) struct History {
    /// With the present set of destinations, the oldest first.
    entries: VecDeque<Entry>,
    /// Of all entries, one after the other.
    words: VecDeque<u64>,
    /// Event words at the end of `words` that belong to the next pick.
    events: usize,
    /// Whether that is all the instance was ever asked, with one set of destinations.
    whole: bool,
}

impl History {
    /// Of a new instance, which has no past.
    pub(crate) fn new() -> Self {
        Self {
            entries: VecDeque::with_capacity(DEPTH),
            words: VecDeque::with_capacity(WORDS),
            events: 0,
            whole: true,
        }
    }

    /// Another instance: it has no past.
    pub(crate) fn clear(&mut self) {
        self.update();
        self.whole = true;
    }

    /// Another set of destinations: positions in what went before mean nothing any more.
    pub(crate) fn update(&mut self) {
        self.whole &= self.entries.is_empty();
        self.entries.clear();
        self.words.clear();
        self.whole &= core::mem::take(&mut self.events) == 0;
    }

    /// Events are about to be told, which come before the next pick. (`random` is where its random numbers stand.)
    pub(crate) fn observe(&mut self, events: &[u64]) {
        // More than fit are forgotten, all of them: a part would be another story.
        let kept = if self.events + events.len() > WORDS_MAX { &[] } else { events };
        if kept.is_empty() {
            self.whole = false;
            self.words.truncate(self.words.len() - core::mem::take(&mut self.events));
        }
        self.make_room(kept.len());
        self.words.extend(kept);
        self.events += kept.len();
    }

    /// The oldest picks make room for so many words more.
    #[inline]
    fn make_room(&mut self, words: usize) {
        while self.entries.len() == DEPTH || self.words.len() + words > WORDS {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.words.drain(..oldest.events + oldest.words);
            self.whole = false;
        }
    }

    /// A pick is about to be made.
    #[inline]
    pub(crate) fn ask(&mut self, flow: &Flow, now: Instant, random: u64, words: &[u64]) {
        let kept = if words.len() > WORDS_MAX { &[] } else { words };
        self.whole &= kept.len() == words.len();
        self.make_room(kept.len());
        self.words.extend(kept);
        let events = core::mem::take(&mut self.events);
        self.entries.push_back(Entry { flow: *flow, now, random, events, words: kept.len(), answer: None });
    }

    /// What the pick came to.
    #[inline]
    pub(crate) fn answer(&mut self, answer: Option<u32>) {
        if let Some(entry) = self.entries.back_mut() {
            entry.answer = answer;
        }
    }

    /// The latest picks with the present set of destinations, at most so many, the oldest first.
    pub(crate) fn latest(&self, most: usize) -> Vec<Pick> {
        let mut at = 0;
        let skip = self.entries.len().saturating_sub(most);
        let mut picks = Vec::with_capacity(self.entries.len() - skip);
        for (number, entry) in self.entries.iter().enumerate() {
            if number >= skip {
                let Entry { flow, now, random, events, words, answer } = *entry;
                let range = |from: usize, len: usize| self.words.range(from..from + len).copied().collect();
                let (events, words) = (range(at, events), range(at + events, words));
                picks.push(Pick { flow, now, random, events, words, answer });
            }
            at += entry.events + entry.words;
        }
        picks
    }

    /// Events that were told since the last pick.
    pub(crate) fn events(&self) -> Vec<u64> {
        self.words.range(self.words.len() - self.events..).copied().collect()
    }

    /// Whether [`latest`](Self::latest), all of them, lead a new instance to where this one is.
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

    /// As many words as the last digit of the port.
    fn ask(history: &mut History, ports: core::ops::Range<u16>) {
        for port in ports {
            let words = vec![port.into(); usize::from(port % 10)];
            history.ask(&flow(port), Instant::from_millis(port.into()), port.into(), &words);
            history.answer(Some(port.into()));
        }
    }

    fn ports(picks: &[Pick]) -> Vec<u16> {
        picks.iter().map(|pick| pick.flow.client_port).collect()
    }

    #[test]
    fn the_latest_are_kept_in_order_and_until_the_set_changes() {
        let mut history = History::new();
        history.update();
        ask(&mut history, 0..20);
        assert!(history.is_whole());
        assert_eq!(ports(&history.latest(DEPTH)), (0..20).collect::<Vec<_>>());
        assert_eq!(ports(&history.latest(3)), [17, 18, 19]);
        ask(&mut history, 20..1000);
        assert!(!history.is_whole(), "the first ones are forgotten");
        let latest = history.latest(usize::MAX);
        assert_eq!(ports(&latest), (1000 - 256..1000).collect::<Vec<_>>());
        for pick in &latest {
            let port = pick.flow.client_port;
            assert_eq!(pick.words, vec![u64::from(port); usize::from(port % 10)], "each with its own words");
            assert_eq!((pick.answer, pick.random), (Some(port.into()), u64::from(port)));
        }

        history.update();
        assert!(history.latest(9).is_empty());
        ask(&mut history, 0..3);
        assert!(!history.is_whole(), "there was another set before");
        history.clear();
        history.update();
        ask(&mut history, 0..3);
        assert!(history.is_whole(), "a new instance");
    }

    #[test]
    fn long_lists_drive_old_picks_out_and_too_long_ones_are_left_out() {
        let mut history = History::new();
        let room = (history.entries.capacity(), history.words.capacity());
        for port in 0..100 {
            history.ask(&flow(port), Instant::ZERO, 0, &[port.into(); 250]);
        }
        let latest = history.latest(usize::MAX);
        assert_eq!(ports(&latest), (84..100).collect::<Vec<_>>(), "16 times 250 words are kept");
        assert!(latest.iter().all(|pick| pick.words == [u64::from(pick.flow.client_port); 250]));
        history.clear();
        history.ask(&flow(7), Instant::ZERO, 0, &[1; 257]);
        assert!(!history.is_whole());
        assert!(history.latest(1)[0].words.is_empty());
        assert_eq!((history.entries.capacity(), history.words.capacity()), room, "nothing was allocated");
    }
}
