//! The next hops in the kernel: each, or an end of a tunnel behind it, has a number that flows name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aya::maps::{Array, MapData};
use uvs_director::PortId;
use uvs_director::flow_cache::{Act, Direction, NextHop, NotPlaced};
use uvs_director::spec::MacAddr;
use uvs_wire::Address;

use super::layout::{NextHopBytes, NextHopEntry, seen};
use super::places::Places;

/// The room of one that no packet took for so many ticks (some 15 minutes) is given to another.
const IDLE_TICKS: u32 = 54_000;
/// One that nothing took for so many (some 3 seconds) is not looked after.
const QUIET_TICKS: u32 = 180;

/// So many that are in use one call looks after: each is a read from the kernel, with all next hops locked.
const SLICE: usize = 64;

/// What tells next hops apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name {
    port: PortId,
    addr: Address,
    from: MacAddr,
    mtu: u32,
    tunnel: Option<(Address, Address)>,
}

impl Name {
    fn of(direction: &Direction) -> Self {
        let NextHop { port, addr, from, mtu, .. } = direction.next_hop;
        let tunnel = match direction.act {
            Act::Tunnel { source, destination } => Some((source, destination)),
            Act::NewDestination(..) | Act::NewSource(..) | Act::AsIs => None,
        };
        Self { port, addr, from, mtu, tunnel }
    }
}

struct Place {
    name: Name,
    to: MacAddr,
    open: bool,
    /// Tick of the last flow that was placed on it.
    placed: u32,
}

/// A link that is attached to an interface of the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    /// Its own address: what goes there goes to the host's stack, which is no next hop.
    pub(crate) host: MacAddr,
    /// It is a veth, and its other end is in another namespace.
    pub(crate) to_peer: bool,
}

/// See the head of this file.
pub(super) struct NextHops {
    map: Array<MapData, NextHopBytes>,
    links: HashMap<PortId, Link>,
    known: HashMap<Name, usize>,
    places: Vec<Option<Place>>,
    room: Places,
    /// How many gave their place to another that needed it, destinations included.
    displaced: Arc<AtomicU64>,
    /// Of each place, so that a flow which names one that is another's by now is a miss.
    generations: Vec<u16>,
    /// Operations on the map that failed.
    failed: u64,
}

impl NextHops {
    pub(super) fn new(map: Array<MapData, NextHopBytes>, displaced: Arc<AtomicU64>) -> Self {
        let room = map.len() as usize;
        Self {
            map,
            links: HashMap::new(),
            known: HashMap::new(),
            places: (0..room).map(|_| None).collect(),
            room: Places::new(room),
            displaced,
            generations: vec![0; room],
            failed: 0,
        }
    }

    /// Operations on the map that failed.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// For how long nothing has needed a place.
    fn idle(&self, index: usize, tick: u32) -> Option<u32> {
        let place = self.places[index].as_ref()?;
        let entry = self.map.get(&u32::try_from(index).ok()?, 0).ok()?;
        let idle = tick.wrapping_sub(seen(&entry)).min(tick.wrapping_sub(place.placed));
        // The programs' clock may be ahead.
        Some(if idle < u32::MAX / 2 { idle } else { 0 })
    }

    /// Takes a next hop out of its place. What still names it is a miss.
    fn vacate(&mut self, index: usize, tick: u32) {
        if let Some(place) = self.places[index].take() {
            self.known.remove(&place.name);
        }
        self.generations[index] = self.generations[index].wrapping_add(1);
        let _ = self.write(index, tick);
    }

    /// A place for a next hop that has none.
    #[cold]
    fn settle(&mut self, tick: u32) -> Result<usize, NotPlaced> {
        let mut room = std::mem::replace(&mut self.room, Places::new(0));
        let found = room.take(|index| self.idle(index, tick));
        self.room = room;
        let index = found.ok_or(NotPlaced::Failed)?;
        if self.places[index].is_some() {
            self.displaced.fetch_add(1, Relaxed);
            self.vacate(index, tick);
        }
        Ok(index)
    }

    /// The number of a direction's next hop, as flows have it.
    pub(super) fn number(&mut self, direction: &Direction, tick: u32) -> Result<u32, NotPlaced> {
        let link = self.links.get(&direction.next_hop.port).ok_or(NotPlaced::Elsewhere)?;
        if direction.next_hop.to == link.host {
            return Err(NotPlaced::Elsewhere);
        }
        let name = Name::of(direction);
        let index = match self.known.get(&name) {
            Some(index) => *index,
            None => self.settle(tick)?,
        };
        let place = Place { name, to: direction.next_hop.to, open: true, placed: tick };
        let is_as_known = matches!(&self.places[index], Some(old) if old.open && old.to == place.to);
        let before = self.places[index].replace(place);
        if !is_as_known {
            if self.write(index, tick).is_err() {
                // The kernel has what it had.
                if before.is_none() {
                    self.room.give_back(index);
                }
                self.places[index] = before;
                return Err(NotPlaced::Failed);
            }
            self.known.insert(name, index);
        }
        let index = u32::try_from(index).expect("there are less than 65536");
        Ok(u32::from(self.generations[index as usize]) << 16 | index)
    }

    /// Brings the entry of a place into the kernel.
    fn write(&mut self, index: usize, tick: u32) -> Result<(), ()> {
        let generation = self.generations[index];
        let none = MacAddr([0; 6]);
        let entry = match &self.places[index] {
            Some(place) => {
                let link = self.links.get(&place.name.port).filter(|_| place.open);
                NextHopEntry {
                    link: link.map_or(0, |link| link.index),
                    generation,
                    mtu: place.name.mtu,
                    seen: tick,
                    to: place.to,
                    from: place.name.from,
                    tunnel: place.name.tunnel,
                    to_peer: link.is_some_and(|link| link.to_peer),
                }
            }
            None => NextHopEntry {
                link: 0,
                generation,
                mtu: 0,
                seen: 0,
                to: none,
                from: none,
                tunnel: None,
                to_peer: false,
            },
        };
        let index = u32::try_from(index).expect("there are less than 65536");
        let set = self.map.set(index, entry.bytes(), 0);
        self.failed += u64::from(set.is_err());
        set.map_err(|_| ())
    }

    /// An interface has that link now, or none. True: that is another than before.
    pub(super) fn set_link(&mut self, port: PortId, link: Option<Link>, tick: u32) -> bool {
        let before = match link {
            Some(link) => self.links.insert(port, link),
            None => self.links.remove(&port),
        };
        if before == link {
            return false;
        }
        for index in 0..self.places.len() {
            if self.places[index].as_ref().is_some_and(|place| place.name.port == port) {
                // One that cannot be closed has a link that is not there: what goes to it is lost, not misled.
                let _ = self.write(index, tick);
            }
        }
        true
    }

    /// Asks for the MAC address of each next hop that is in use, and gives up those that nothing takes any more: some
    /// of them, from a number on. With which number to go on; `None`: it was the last.
    pub(super) fn refresh_next_hops(
        &mut self,
        from: usize,
        tick: u32,
        address_of: &mut dyn FnMut(&NextHop) -> Option<MacAddr>,
    ) -> Option<usize> {
        let mut looked = 0;
        for index in from..self.places.len() {
            let Some(place) = &self.places[index] else { continue };
            if looked == SLICE {
                return Some(index);
            }
            looked += 1;
            let Some(idle) = self.idle(index, tick) else { continue };
            if idle > IDLE_TICKS {
                self.displaced.fetch_add(1, Relaxed);
                self.vacate(index, tick);
                self.room.give_back(index);
                continue;
            }
            if idle > QUIET_TICKS && place.open {
                continue;
            }
            let Name { port, addr, from, mtu, .. } = place.name;
            let answer = address_of(&NextHop { port, addr, to: place.to, from, mtu });
            let now = (answer.unwrap_or(place.to), answer.is_some());
            if now != (place.to, place.open)
                && let Some(place) = &mut self.places[index]
            {
                (place.to, place.open) = now;
                let _ = self.write(index, tick);
            }
        }
        None
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
