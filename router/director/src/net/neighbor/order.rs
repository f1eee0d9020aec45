//! In which order neighbours give up their places, and when they are asked again.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::collections::BTreeMap;
use std::sync::Mutex;

use uvs_wire::Address;

use crate::base::ids::PortId;
use crate::base::lock::lock;
use crate::base::time::{Duration, Instant};

/// An entry that nothing has used for this long goes.
pub(super) const UNUSED: Duration = Duration::from_secs(600);

/// An address on the link of an interface.
pub(super) type Key = (PortId, Address);

/// What an entry is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// It asked for an address of ours, and nothing was sent to it yet. Anybody can make such entries, in any number.
    Heard,
    /// It is being asked for and has not answered.
    Sought,
    /// Packets go to it.
    Used,
    /// Packets go to it, and it is a destination or a router: their number follows from the configuration.
    Essential,
}

/// Where an entry stands in an order: a moment in nanoseconds, and a number that no other entry has.
pub(super) type Rank = (u64, u64);

/// Where an entry stands in both orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) class: Class,
    /// When it was last seen in use; may lag behind.
    pub(super) rank: Rank,
    /// When it is asked again, if it is being asked.
    pub(super) asked_at: Option<u64>,
}

impl Place {
    pub(super) fn asking(&self) -> Option<Rank> {
        self.asked_at.map(|at| (at, self.rank.1))
    }
}

/// Whether there is room for one more.
pub(super) enum Room {
    Free,
    /// This one goes first.
    After(Key, Class, Rank),
    /// What is there is worth more.
    None,
}

/// What is due.
pub(super) enum Due {
    /// To be asked again, or given up.
    Ask(Key, Rank),
    /// Perhaps not used for long.
    Idle(Key, Class, Rank),
}

#[derive(Default)]
struct Lists {
    /// By class, and in it what was used longest ago first.
    classes: [BTreeMap<Rank, Key>; 4],
    /// What is asked again soonest first.
    asking: BTreeMap<Rank, Key>,
    serial: u64,
}

/// Its lock is taken while an entry of the neighbour table is locked, never the other way around.
pub(super) struct Order {
    lists: Mutex<Lists>,
    entries_max: usize,
    /// Of class [`Class::Sought`].
    sought_max: usize,
    /// When the next entry is due, in nanoseconds; written under the lock only.
    due: AtomicU64,
}

impl Lists {
    fn len(&self) -> usize {
        self.classes.iter().map(BTreeMap::len).sum()
    }

    fn enter(&mut self, key: Key, place: Place) {
        self.classes[place.class as usize].insert(place.rank, key);
        if let Some(rank) = place.asking() {
            self.asking.insert(rank, key);
        }
    }

    fn leave(&mut self, place: Place) {
        self.classes[place.class as usize].remove(&place.rank);
        if let Some(rank) = place.asking() {
            self.asking.remove(&rank);
        }
    }

    fn next_due(&self) -> u64 {
        let idle = self.classes.iter().filter_map(|class| class.first_key_value());
        let idle = idle.map(|(&(used_at, _), _)| (Instant::from_nanos(used_at) + UNUSED).as_nanos());
        let asking = self.asking.first_key_value().map(|(&(at, _), _)| at);
        idle.chain(asking).min().unwrap_or(u64::MAX)
    }
}

impl Order {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            lists: Mutex::default(),
            entries_max,
            sought_max: (entries_max / 4).max(1),
            due: AtomicU64::new(u64::MAX),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Lists) -> T) -> T {
        let lists = &mut *lock(&self.lists);
        let result = change(lists);
        self.due.store(lists.next_due(), Relaxed);
        result
    }

    /// When the next entry is due, in nanoseconds; `u64::MAX` is never.
    pub(super) fn due(&self) -> u64 {
        self.due.load(Relaxed)
    }

    /// A place for a new entry.
    pub(super) fn enter(&self, key: Key, class: Class, now: Instant) -> Place {
        self.change(|lists| {
            lists.serial += 1;
            let place = Place { class, rank: (now.as_nanos(), lists.serial), asked_at: None };
            lists.enter(key, place);
            place
        })
    }

    /// Moves an entry from its place to another. (It may be out of its class, taken by [`Self::room`] or
    /// [`Self::next`] just now: then it is back.)
    pub(super) fn move_to(&self, key: Key, place: &mut Place, to: Place) {
        let from = core::mem::replace(place, to);
        self.change(|lists| {
            lists.leave(from);
            lists.enter(key, to);
        });
    }

    pub(super) fn leave(&self, place: Place) {
        self.change(|lists| lists.leave(place));
    }

    /// Whether there is room for an entry of class `newcomer`. What goes first is out of its class then.
    pub(super) fn room(&self, newcomer: Class) -> Room {
        use Class::{Essential, Heard, Sought, Used};
        self.change(|lists| {
            let crowded = newcomer == Sought && lists.classes[Sought as usize].len() >= self.sought_max;
            let order = match newcomer {
                _ if crowded => &[Sought][..],
                _ if lists.len() < self.entries_max => return Room::Free,
                Heard => &[Heard],
                // Those who are sought keep their share against others: or of a burst only the last was found.
                Sought | Used => &[Heard, Used, Sought, Essential],
                Essential => &[Heard, Sought, Used, Essential],
            };
            for &class in order {
                if let Some((rank, key)) = lists.classes[class as usize].pop_first() {
                    return Room::After(key, class, rank);
                }
            }
            Room::None
        })
    }

    /// Takes out what is due, if anything is.
    pub(super) fn next(&self, now: Instant) -> Option<Due> {
        let now = now.as_nanos();
        self.change(|lists| {
            if let Some(first) = lists.asking.first_entry()
                && first.key().0 <= now
            {
                let (rank, key) = first.remove_entry();
                return Some(Due::Ask(key, rank));
            }
            for class in [Class::Heard, Class::Sought, Class::Used, Class::Essential] {
                if let Some(first) = lists.classes[class as usize].first_entry()
                    && (Instant::from_nanos(first.key().0) + UNUSED).as_nanos() <= now
                {
                    let (rank, key) = first.remove_entry();
                    return Some(Due::Idle(key, class, rank));
                }
            }
            None
        })
    }
}
