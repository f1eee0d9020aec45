//! Where destinations were that answered by NAT and were removed, for as long as answers of theirs may come.
//!
//! Clients of such a destination know the service's address only, so what it says late must not reach them as it is.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;
use uvs_wire::Address;

use crate::base::spec::Protocol;
use crate::base::time::{Duration, Instant};

/// For how long an answer may come: that of a TCP connection that was idle (RFC 5382 section 5).
const LIFETIME: Duration = Duration::from_secs(7440);

/// An address, a port, and the transport protocol of the service; a firewall mark's takes any.
pub(crate) type Place = (Address, u16, Option<Protocol>);

/// The places of removed destinations, of a bounded number.
pub(crate) struct Removed {
    since: HashMap<Place, Instant, FixedState>,
    /// In the order of their removal, as of when they were put here: one that was removed again meanwhile goes to the
    /// end when it comes to the front.
    order: VecDeque<(Place, Instant)>,
    max: usize,
}

impl Removed {
    /// How many are remembered.
    pub(crate) const MAX: usize = 16_384;

    pub(crate) fn new(max: usize, seed: u64) -> Self {
        Self { since: HashMap::with_hasher(FixedState::with_seed(seed)), order: VecDeque::new(), max }
    }

    /// A destination by NAT is gone from there.
    pub(crate) fn put(&mut self, place: Place, now: Instant) {
        if let Some(since) = self.since.get_mut(&place) {
            *since = now;
            return;
        }
        self.make_room(now);
        self.since.insert(place, now);
        self.order.push_back((place, now));
    }

    /// Forgets those whose time is up, and at the bound the one that was removed first.
    fn make_room(&mut self, now: Instant) {
        // Each goes to the end once at most, and leaves from there.
        for _ in 0..2 * self.order.len() {
            let Some(&(place, at)) = self.order.front() else { return };
            if self.order.len() < self.max && now.since(at) < LIFETIME {
                return;
            }
            self.order.pop_front();
            match self.since.get(&place) {
                Some(&since) if since > at => self.order.push_back((place, since)),
                _ => drop(self.since.remove(&place)),
            }
        }
    }

    /// Whether a packet of that protocol from there may be a late answer.
    pub(crate) fn may_answer(&self, protocol: Protocol, addr: Address, port: u16, now: Instant) -> bool {
        [Some(protocol), None].into_iter().any(|asked| {
            self.since.get(&(addr, port, asked)).is_some_and(|since| now.since(*since) < LIFETIME)
        })
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(number: u8) -> Address {
        Address::v4([192, 168, 10, number].into())
    }

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn a_place_is_known_until_its_time_is_up() {
        let mut removed = Removed::new(10, 1);
        removed.put((addr(1), 80, Some(Protocol::Tcp)), at(10));
        removed.put((addr(2), 80, None), at(10));
        let knows = |removed: &Removed, protocol, number, port, secs| {
            removed.may_answer(protocol, addr(number), port, at(secs))
        };
        assert!(knows(&removed, Protocol::Tcp, 1, 80, 7449) && !knows(&removed, Protocol::Tcp, 1, 80, 7450));
        assert!(!knows(&removed, Protocol::Udp, 1, 80, 10) && !knows(&removed, Protocol::Tcp, 1, 81, 10));
        assert!(knows(&removed, Protocol::Udp, 2, 80, 10) && knows(&removed, Protocol::Tcp, 2, 80, 10));
        removed.put((addr(1), 80, Some(Protocol::Tcp)), at(5000));
        assert!(knows(&removed, Protocol::Tcp, 1, 80, 12_439), "from its last removal on");
        removed.put((addr(3), 80, None), at(8000));
        assert_eq!((removed.since.len(), removed.order.len()), (2, 2), "the second one's time was up");
        removed.put((addr(4), 80, None), at(30_000));
        assert_eq!((removed.since.len(), removed.order.len()), (1, 1));
    }

    #[test]
    fn at_the_bound_the_one_removed_first_makes_room() {
        let mut removed = Removed::new(3, 1);
        let known = |removed: &Removed| -> Vec<u8> {
            (0..10).filter(|number| removed.may_answer(Protocol::Tcp, addr(*number), 80, at(20))).collect()
        };
        for number in 1..=3 {
            removed.put((addr(number), 80, None), at(u64::from(number)));
        }
        for _ in 0..100 {
            removed.put((addr(1), 80, None), at(4));
        }
        assert_eq!(known(&removed), [1, 2, 3], "one that comes and goes takes nobody else's room");
        removed.put((addr(5), 80, None), at(5));
        assert_eq!(known(&removed), [1, 3, 5]);
        removed.put((addr(6), 80, None), at(6));
        removed.put((addr(7), 80, None), at(7));
        assert_eq!(known(&removed), [5, 6, 7]);
        for number in 5..=7 {
            removed.put((addr(number), 80, None), at(8));
        }
        removed.put((addr(8), 80, None), at(9));
        assert_eq!(known(&removed), [6, 7, 8], "all others came again");
        assert_eq!((removed.since.len(), removed.order.len()), (3, 3));
    }
}
