//! What routers told us about the way to tunnel endpoints (RFC 1191, RFC 8201): our own tunnel packets did not fit.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::collections::HashMap;
use std::sync::Mutex;

use foldhash::fast::FixedState;
use uvs_wire::{Address, ipv6};

use crate::base::lock::lock;
use crate::base::time::{Duration, Instant};

/// As in Linux (`mtu_expires`): then the larger packets are tried again.
const LIFETIME: Duration = Duration::from_secs(600);
/// As in Linux (`min_pmtu`): nothing less is believed.
const LEAST_V4: u32 = 552;
/// Endpoints that are remembered; each is a destination with a connection.
const ENTRIES_MAX: usize = 4096;

struct Entry {
    mtu: u32,
    until: Instant,
    /// A packet was sent since.
    used: bool,
}

/// What a message about the way to an endpoint has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    /// What is believed, in bytes.
    pub(crate) mtu: u32,
    /// Packets were sent already in the light of an earlier message of that kind.
    pub(crate) was_used: bool,
    /// It is less than was believed before.
    pub(crate) has_fallen: bool,
}

/// Path MTUs that are less than the link's.
pub(crate) struct PathMtus {
    entries: Mutex<HashMap<Address, Entry, FixedState>>,
    /// Their number, so that packets need no lock while there are none.
    count: AtomicUsize,
}

impl PathMtus {
    pub(crate) fn new(seed: u64) -> Self {
        let entries = HashMap::with_hasher(FixedState::with_seed(seed));
        Self { entries: Mutex::new(entries), count: AtomicUsize::new(0) }
    }

    /// The MTU to `to` for a packet that is sent now through a link with `link_mtu`.
    #[inline]
    pub(crate) fn of(&self, to: Address, link_mtu: u32, now: Instant) -> u32 {
        if self.count.load(Relaxed) == 0 { link_mtu } else { self.learned(to, link_mtu, now) }
    }

    fn learned(&self, to: Address, link_mtu: u32, now: Instant) -> u32 {
        let mut entries = lock(&self.entries);
        match entries.get_mut(&to) {
            Some(entry) if entry.until > now => {
                entry.used = true;
                entry.mtu.min(link_mtu)
            }
            Some(_) => {
                entries.remove(&to);
                self.count.store(entries.len(), Relaxed);
                link_mtu
            }
            None => link_mtu,
        }
    }

    /// A router says that no more than `mtu` bytes reach `to`.
    pub(crate) fn learn(&self, to: Address, mtu: u32, link_mtu: u32, now: Instant) -> Learned {
        let least = if to.is_v4() { LEAST_V4 } else { u32::try_from(ipv6::MIN_MTU).unwrap_or(u32::MAX) };
        let mtu = mtu.max(least).min(link_mtu);
        let mut entries = lock(&self.entries);
        let known = match entries.get_mut(&to).filter(|entry| entry.until > now) {
            // The way does not get wider before the entry ends (RFC 1191 section 6.3).
            Some(entry) if entry.mtu < mtu => {
                Learned { mtu: entry.mtu, was_used: entry.used, has_fallen: false }
            }
            Some(entry) => {
                let has_fallen = mtu < entry.mtu.min(link_mtu);
                (entry.mtu, entry.until) = (mtu, now + LIFETIME);
                Learned { mtu, was_used: entry.used, has_fallen }
            }
            None => {
                // One that has ended may be there still; else the one that ends first makes room.
                if entries.len() >= ENTRIES_MAX
                    && !entries.contains_key(&to)
                    && let Some(first) =
                        entries.iter().min_by_key(|(_, entry)| entry.until).map(|(to, _)| *to)
                {
                    entries.remove(&first);
                }
                entries.insert(to, Entry { mtu, until: now + LIFETIME, used: false });
                Learned { mtu, was_used: false, has_fallen: mtu < link_mtu }
            }
        };
        self.count.store(entries.len(), Relaxed);
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Address {
        text.parse::<core::net::IpAddr>().unwrap().into()
    }

    #[test]
    fn what_is_learned_is_used_narrows_and_ends() {
        let mtus = PathMtus::new(1);
        let (to, other) = (addr("192.168.10.11"), addr("192.168.10.12"));
        let at = Instant::from_secs;
        assert_eq!(mtus.of(to, 1500, at(0)), 1500);
        let learned = |mtu, was_used, has_fallen| Learned { mtu, was_used, has_fallen };
        assert_eq!(mtus.learn(to, 1400, 1500, at(1)), learned(1400, false, true));
        assert_eq!(mtus.learn(to, 1400, 1500, at(1)), learned(1400, false, false), "as before");
        assert_eq!(mtus.of(to, 1500, at(2)), 1400);
        assert_eq!(mtus.of(to, 1300, at(2)), 1300, "the link is narrower");
        assert_eq!(mtus.of(other, 1500, at(2)), 1500);
        assert_eq!(mtus.learn(to, 1450, 1500, at(3)), learned(1400, true, false), "no wider");
        assert_eq!(mtus.learn(to, 1300, 1500, at(4)), learned(1300, true, true));
        assert_eq!(mtus.of(to, 1500, at(603)), 1300);
        assert_eq!(mtus.of(to, 1500, at(604)), 1500, "forgotten after 600 s");
    }

    #[test]
    fn a_lie_is_believed_only_so_far() {
        let mtus = PathMtus::new(1);
        let at = Instant::from_secs(1);
        assert_eq!(mtus.learn(addr("192.0.2.1"), 0, 1500, at).mtu, 552);
        assert_eq!(mtus.learn(addr("192.0.2.2"), 9000, 1500, at).mtu, 1500);
        assert_eq!(mtus.learn(addr("2001:db8::1"), 0, 1500, at).mtu, 1280);
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let mtus = PathMtus::new(1);
        for n in 0..=u32::try_from(ENTRIES_MAX).unwrap() {
            mtus.learn(Address::v4((0x0a00_0000 + n).into()), 1000, 1500, Instant::ZERO);
        }
        assert_eq!(lock(&mtus.entries).len(), ENTRIES_MAX);
        assert_eq!(mtus.of(addr("10.0.16.0"), 1500, Instant::ZERO), 1000, "the latest is there");
        mtus.learn(addr("192.0.2.1"), 1000, 1500, Instant::from_secs(1));
        assert_eq!(mtus.of(addr("192.0.2.1"), 1500, Instant::from_secs(1)), 1000, "an older one made room");
        assert_eq!(lock(&mtus.entries).len(), ENTRIES_MAX);
    }
}
