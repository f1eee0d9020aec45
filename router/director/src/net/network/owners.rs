//! Which addresses are the director's own, or those of all hosts of a link: a table that is built with each network,
//! and answers in a few instructions, mostly that an address is neither.
//!
//! ```text
//!   address --spread--> bit of the filter --0--> neither
//!                                         `-1--> place, and those behind it up to the first that is empty
//! ```

use uvs_wire::Address;

use crate::base::ids::PortId;

/// What an address is known as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// An own address or a VIP, given to that interface.
    Local(PortId),
    /// An own link-local address, on whatever links.
    LinkLocal,
    /// All hosts of a link.
    Broadcast,
}

/// See the head of this file. At most half of the places are taken, so a search ends.
#[derive(Clone, Debug)]
pub(super) struct Owners {
    /// A set that may say yes wrongly, but never no. With a thousand addresses in it, it does so for a fifth of the
    /// others.
    filter: [u64; 64],
    /// A power of two.
    places: Box<[Option<(Address, Known)>]>,
    used: usize,
}

impl Default for Owners {
    fn default() -> Self {
        Self { filter: [0; 64], places: vec![None; 16].into(), used: 0 }
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "six bits")]
fn bit(spread: u64) -> (usize, u64) {
    ((spread >> 58) as usize, 1 << (spread >> 52 & 63))
}

impl Owners {
    #[allow(clippy::cast_possible_truncation, reason = "as many bits as places have")]
    fn home(&self, spread: u64) -> usize {
        (spread >> (u64::BITS - self.places.len().trailing_zeros())) as usize
    }

    /// Where an address is, or the empty place where it would be.
    fn place(&self, addr: Address) -> usize {
        let mask = self.places.len() - 1;
        let mut at = self.home(addr.spread()) & mask;
        while self.places[at].is_some_and(|(known, _)| known != addr) {
            at = (at + 1) & mask;
        }
        at
    }

    /// Adds an address, and returns what it was known as before: an own one stays what it is.
    pub(super) fn insert(&mut self, addr: Address, known: Known) -> Option<Known> {
        if 2 * (self.used + 1) > self.places.len() {
            let larger = vec![None; 2 * self.places.len()].into();
            let before = core::mem::replace(&mut self.places, larger);
            for entry in before.into_iter().flatten() {
                let at = self.place(entry.0);
                self.places[at] = Some(entry);
            }
        }
        let at = self.place(addr);
        let before = self.places[at].map(|(_, before)| before);
        if !matches!(before, Some(Known::Local(_))) || matches!(known, Known::Local(_)) {
            self.places[at] = Some((addr, known));
        }
        self.used += usize::from(before.is_none());
        let (word, bit) = bit(addr.spread());
        self.filter[word] |= bit;
        before
    }

    /// What an address is known as.
    #[inline]
    pub(super) fn find(&self, addr: Address) -> Option<Known> {
        let spread = addr.spread();
        let (word, bit) = bit(spread);
        if self.filter[word] & bit == 0 {
            return None;
        }
        let mask = self.places.len() - 1;
        let mut at = self.home(spread) & mask;
        while let Some((there, known)) = self.places[at] {
            if there == addr {
                return Some(known);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// All own addresses but link-local ones, with the interfaces they were given to.
    pub(super) fn local(&self) -> impl Iterator<Item = (Address, PortId)> + '_ {
        self.places.iter().flatten().filter_map(|(addr, known)| match known {
            Known::Local(port) => Some((*addr, *port)),
            Known::LinkLocal | Known::Broadcast => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Addresses that lie side by side, and some that do not.
        #[test]
        fn it_knows_what_was_put_in_and_nothing_else(
            addrs in prop::collection::vec((0..4000u64, any::<bool>()), 0..600),
            others in prop::collection::vec((0..4000u64, any::<bool>()), 0..600),
        ) {
            let addr = |(n, is_v6): (u64, bool)| {
                if is_v6 { Address::from_halves(0x2001 << 48 | n >> 3, n << 32) } else { Address::from_halves(0, 0xffff << 32 | n) }
            };
            let (mut owners, mut want) = (Owners::default(), HashMap::new());
            for (n, it) in addrs.iter().enumerate() {
                let port = PortId(u16::try_from(n % 7).expect("few"));
                let before = owners.insert(addr(*it), Known::Local(port));
                prop_assert_eq!(before, want.insert(addr(*it), port).map(Known::Local));
            }
            for it in addrs.iter().chain(&others) {
                prop_assert_eq!(owners.find(addr(*it)), want.get(&addr(*it)).copied().map(Known::Local));
            }
            prop_assert_eq!(owners.local().collect::<HashMap<_, _>>(), want);
        }
    }

    /// As people number hosts: what is asked for is not searched for.
    #[test]
    fn however_addresses_are_numbered_a_search_is_short() {
        const NET: u64 = 0x2001_0db8 << 32;
        type Numbering = (&'static str, fn(u64) -> Address);
        let numberings: [Numbering; 6] = [
            ("IPv4, one by one", |n| Address::from_halves(0, 0xffff_0a00_0000 + n)),
            ("IPv4, one a /24", |n| Address::from_halves(0, 0xffff_0a00_0001 + (n << 8))),
            ("one by one", |n| Address::from_halves(NET, n)),
            ("one a /64", |n| Address::from_halves(NET + n, 1)),
            ("2001:db8:0:N::N", |n| Address::from_halves(NET + n, n)),
            ("2001:db8:0:N:N::", |n| Address::from_halves(NET + n, n << 48)),
        ];
        for (numbering, addr) in numberings {
            let mut owners = Owners::default();
            for n in 0..4000 {
                owners.insert(addr(n), Known::Local(PortId(0)));
            }
            let mask = owners.places.len() - 1;
            let run = |n| {
                let home = owners.home(addr(n).spread());
                (0..).take_while(|step| owners.places[(home + step) & mask].is_some()).count()
            };
            let longest = (0..4000).map(run).max();
            assert!(longest < Some(40), "{numbering}: a run of {longest:?}");
        }
    }

    #[test]
    fn an_own_address_is_no_broadcast_address() {
        let addr = Address::from_halves(0, 0xffff_0a00_00ff);
        let mut owners = Owners::default();
        assert_eq!(owners.insert(addr, Known::Broadcast), None);
        assert_eq!(owners.find(addr), Some(Known::Broadcast));
        assert_eq!(owners.insert(addr, Known::Local(PortId(1))), Some(Known::Broadcast));
        owners.insert(addr, Known::Broadcast);
        assert_eq!(owners.find(addr), Some(Known::Local(PortId(1))));
    }
}
