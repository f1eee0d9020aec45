//! The destinations of the service and their loads, as the director last told.
//!
//! ```text
//! load word   63            48 47 46                    24 23                     0
//!            +----------------+--+------------------------+------------------------+
//!            |    position    | u|   active connections   |  inactive connections  |
//!            +----------------+--+------------------------+------------------------+
//!                               u: unavailable
//! ```

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 address, or an IPv4 address mapped into one (`::ffff:a.b.c.d`), as two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The first 64 bits.
    pub hi: u64,
    /// The last 64 bits; of an IPv4 address `0xffff` and its 32 bits.
    pub lo: u64,
}

impl Address {
    /// All 128 bits.
    pub const fn bits(self) -> u128 {
        ((self.hi as u128) << 64) | self.lo as u128
    }

    /// The address it stands for; a mapped one is IPv4.
    pub const fn ip(self) -> IpAddr {
        Ipv6Addr::from_bits(self.bits()).to_canonical()
    }

    /// The 32 bits by which IPVS's hashing schedulers know it: an IPv4 address, or the four words of an IPv6
    /// address added without carry.
    #[expect(clippy::cast_possible_truncation, reason = "halves are taken apart")]
    pub const fn fold(self) -> u32 {
        if self.hi == 0 && self.lo >> 32 == 0xffff {
            self.lo as u32
        } else {
            (self.hi >> 32) as u32 ^ self.hi as u32 ^ (self.lo >> 32) as u32 ^ self.lo as u32
        }
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        let [a, b, c, d, e, f, g, h] = address.segments().map(u64::from);
        Self { hi: a << 48 | b << 32 | c << 16 | d, lo: e << 48 | f << 32 | g << 16 | h }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        address.to_ipv6_mapped().into()
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

/// One destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Stable for as long as the destination belongs to the service.
    pub id: u32,
    /// 0 quiesces: nothing new may be scheduled to it. At most 2^31 - 1.
    pub weight: u32,
    /// RIP.
    pub address: Address,
    /// The destination's port.
    pub port: u16,
    /// Connections in an active state (ESTABLISHED, SYN_*).
    pub active: u32,
    /// Connections in any other state; all of UDP.
    pub inactive: u32,
    /// False: overloaded by its upper threshold, nothing new may be scheduled to it.
    pub available: bool,
}

impl Destination {
    /// An available destination without load.
    pub fn new(id: u32, weight: u32, address: impl Into<Address>, port: u16) -> Self {
        Self { id, weight, address: address.into(), port, active: 0, inactive: 0, available: true }
    }

    /// Whether a new connection may go to it: available and not quiesced.
    pub const fn is_eligible(&self) -> bool {
        self.available && self.weight > 0
    }

    /// What IPVS calls the overhead: an active connection counts as much as 256 inactive ones. What a [`LoadWord`]
    /// holds always fits.
    pub const fn overhead(&self) -> u32 {
        self.active.saturating_mul(256).saturating_add(self.inactive)
    }
}

/// The load of one destination as it travels with a pick (`wit/scheduler.wit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadWord(pub u64);

impl LoadWord {
    /// The largest count of active connections a word holds.
    pub const ACTIVE_MAX: u32 = (1 << 23) - 1;
    /// The largest count of inactive connections a word holds.
    pub const INACTIVE_MAX: u32 = (1 << 24) - 1;

    /// Packs a load; counts above the maximum are taken as the maximum.
    pub fn new(position: u16, active: u32, inactive: u32, available: bool) -> Self {
        Self(
            u64::from(position) << 48
                | u64::from(!available) << 47
                | u64::from(active.min(Self::ACTIVE_MAX)) << 24
                | u64::from(inactive.min(Self::INACTIVE_MAX)),
        )
    }

    /// Of which destination.
    pub const fn position(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// Whether it may take new connections.
    pub const fn available(self) -> bool {
        self.0 >> 47 & 1 == 0
    }

    /// Its active connections.
    pub const fn active(self) -> u32 {
        (self.0 << 17 >> 41) as u32
    }

    /// Its inactive connections.
    pub const fn inactive(self) -> u32 {
        (self.0 << 40 >> 40) as u32
    }
}

/// The destinations of the service in the kernel's list order: the one added last comes first.
///
/// A position is an index into this list; it is good until the next [`update`](crate::Scheduler::update).
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    list: Vec<Destination>,
    changed: Vec<u32>,
}

impl Destinations {
    /// How many there are, eligible or not.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The destination at `position`.
    pub fn get(&self, position: u32) -> Option<&Destination> {
        self.list.get(position as usize)
    }

    /// All with their positions, in list order.
    #[expect(clippy::cast_possible_truncation, reason = "the contract has 65536 positions")]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, &Destination)> + ExactSizeIterator + Clone {
        self.list.iter().enumerate().map(|(position, destination)| (position as u32, destination))
    }

    /// All with their positions, from `first` on and then from the start of the list. To begin there costs nothing; one
    /// beyond the end begins at the start.
    #[expect(clippy::cast_possible_truncation, reason = "the contract has 65536 positions")]
    pub fn iter_from(&self, first: usize) -> impl Iterator<Item = (u32, &Destination)> + Clone {
        let (before, after) = self.list.split_at(first.min(self.list.len()));
        let after = (first as u32..).zip(after);
        after.chain((0..).zip(before))
    }

    /// Whether there is a destination at `position` that a new connection may go to.
    pub fn eligible(&self, position: u32) -> bool {
        self.get(position).is_some_and(Destination::is_eligible)
    }

    /// Where the destination with this id is; walks the list.
    pub fn position_of(&self, id: u32) -> Option<u32> {
        self.iter().find(|(_, destination)| destination.id == id).map(|(position, _)| position)
    }

    /// The positions whose load this pick brought, in no special order: what a scheduler that keeps a heap has
    /// to look at. None of them right after an update.
    pub fn changed(&self) -> &[u32] {
        &self.changed
    }

    /// Replaces the list; loads start at zero and available.
    pub(crate) fn replace(&mut self, destinations: impl Iterator<Item = Destination>) {
        self.list.clear();
        self.list.extend(destinations.map(|destination| Destination {
            active: 0,
            inactive: 0,
            available: true,
            ..destination
        }));
        self.changed.clear();
    }

    /// Takes over the loads that changed with this pick from `other`, a table of the same destinations; `all`: those of
    /// all that carry anything.
    pub(crate) fn copy_loads(&mut self, other: &Self, all: bool) {
        self.changed.clear();
        if all {
            let loaded = other.iter().filter(|(_, d)| d.active > 0 || d.inactive > 0 || !d.available);
            self.changed.extend(loaded.map(|(position, _)| position));
        } else {
            self.changed.extend_from_slice(&other.changed);
        }
        for &position in &self.changed {
            if let (Some(own), Some(its)) = (self.list.get_mut(position as usize), other.get(position)) {
                (own.active, own.inactive, own.available) = (its.active, its.inactive, its.available);
            }
        }
    }

    /// Takes in the loads that came with a pick. Words about positions that do not exist are left out.
    pub(crate) fn load(&mut self, words: impl Iterator<Item = LoadWord>) {
        self.changed.clear();
        for word in words {
            let position = word.position();
            if let Some(destination) = self.list.get_mut(position as usize) {
                destination.active = word.active();
                destination.inactive = word.inactive();
                destination.available = word.available();
                self.changed.push(position);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_word_has_the_layout_of_the_contract() {
        let cases = [
            (LoadWord::new(0, 0, 0, true), 0, "no load"),
            (LoadWord::new(3, 5, 9, true), 3 << 48 | 5 << 24 | 9, "each in its place"),
            (LoadWord::new(1, 0, 0, false), 1 << 48 | 1 << 47, "unavailable is a set bit"),
            (
                LoadWord::new(u16::MAX, u32::MAX, u32::MAX, true),
                0xffff_7fff_ffff_ffff,
                "counts saturate and leave their neighbours alone",
            ),
        ];
        for (word, want, why) in cases {
            assert_eq!(word.0, want, "{why}");
        }
        let word = LoadWord::new(40_000, 70_000, 9_000_000, false);
        assert_eq!(
            (word.position(), word.active(), word.inactive(), word.available()),
            (40_000, 70_000, 9_000_000, false),
            "what goes in comes out"
        );
    }

    #[test]
    fn an_address_is_of_the_family_it_came_from() {
        let v4: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(Address::from(v4), Address { hi: 0, lo: 0xffff_c000_0207 });
        assert_eq!(Address::from(v4).ip(), v4);
        let v6: IpAddr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        assert_eq!(Address::from(v6), Address { hi: 0x2001_0db8_0001_0002, lo: 0x0003_0004_0005_0006 });
        assert_eq!(Address::from(v6).ip(), v6);
    }

    #[test]
    fn an_address_folds_into_a_word() {
        let cases = [
            ("192.0.2.7", 0xc000_0207, "IPv4 is its own word"),
            (
                "2001:db8:1:2:3:4:5:6",
                0x2001_0db8 ^ 0x0001_0002 ^ 0x0003_0004 ^ 0x0005_0006,
                "IPv6: four words",
            ),
            ("::", 0, "all zero"),
            ("::1:c000:207", 1 ^ 0xc000_0207, "IPv6 that looks nearly like IPv4"),
        ];
        for (address, want, why) in cases {
            assert_eq!(Address::from(address.parse::<IpAddr>().unwrap()).fold(), want, "{why}");
        }
    }

    #[test]
    fn a_walk_from_somewhere_comes_round() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let list: Vec<_> = (10..14).map(|id| Destination::new(id, 1, ip, 80)).collect();
        let mut table = Destinations::default();
        table.replace(list.into_iter());
        for (first, want) in [(0, [0, 1, 2, 3]), (3, [3, 0, 1, 2]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])] {
            let walk: Vec<_> = table.iter_from(first).collect();
            assert_eq!(walk.iter().map(|(position, _)| *position).collect::<Vec<_>>(), want, "from {first}");
            assert!(walk.iter().all(|(position, d)| d.id == position + 10), "each with its own position");
        }
    }

    #[test]
    fn loads_last_until_the_next_update_and_changed_until_the_next_pick() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let list = [Destination::new(7, 1, ip, 80), Destination::new(8, 0, ip, 81)];
        let mut table = Destinations::default();
        table.replace(list.iter().copied());
        assert!(table.changed().is_empty());
        assert!(table.eligible(0));
        assert!(!table.eligible(1), "weight 0 quiesces");
        assert!(!table.eligible(2), "there is no third");

        table.load([LoadWord::new(0, 4, 2, false), LoadWord::new(9, 1, 1, true)].into_iter());
        assert_eq!(table.changed(), [0], "a word about a position that does not exist is left out");
        assert_eq!(table.get(0).map(Destination::overhead), Some(4 * 256 + 2));
        assert!(!table.eligible(0), "overloaded");

        table.load(core::iter::empty());
        assert!(table.changed().is_empty());
        assert_eq!(table.get(0).map(|d| d.active), Some(4));

        let loaded: Vec<_> = table.iter().map(|(_, d)| *d).collect();
        table.replace(loaded.into_iter());
        assert_eq!(table.get(0), Some(&list[0]), "an update starts from zero");
        assert_eq!(table.position_of(8), Some(1));
        assert_eq!(table.position_of(9), None);
    }
}
