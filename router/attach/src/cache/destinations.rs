//! The destinations in the kernel: a generation each, so that all flows of one can be withdrawn at once, and its
//! counters.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use aya::maps::{Array, MapData, PerCpuArray};
use uvs_director::flow_cache::{NotPlaced, Tally};
use uvs_director::view::Counters;

use super::layout::{TallyBytes, tally};
use super::places::Places;

struct Place {
    id: u32,
    /// Dead when nobody names the destination any more.
    tally: Weak<Tally>,
    /// What the kernel's counters of this place stood at when it became this destination's, less what it had counted
    /// elsewhere before.
    before: [u64; 4],
    /// What they stood at when somebody looked for a place last, and the tick since when.
    looked: ([u64; 4], u32),
}

/// See the head of this file.
pub(super) struct Destinations {
    map: Array<MapData, u32>,
    tallies: PerCpuArray<MapData, TallyBytes>,
    known: HashMap<u32, usize>,
    places: Vec<Option<Place>>,
    room: Places,
    /// How many gave their place to another that needed it, next hops included.
    displaced: Arc<AtomicU64>,
    generations: Vec<u32>,
    /// Operations on the map that failed.
    failed: u64,
}

impl Destinations {
    pub(super) fn new(
        map: Array<MapData, u32>,
        tallies: PerCpuArray<MapData, TallyBytes>,
        displaced: Arc<AtomicU64>,
    ) -> Self {
        let room = map.len() as usize;
        let places = (0..room).map(|_| None).collect();
        Self {
            map,
            tallies,
            known: HashMap::new(),
            places,
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

    /// The place of a destination and its generation, in the words of a flow.
    pub(super) fn number(&mut self, id: u32, of: &Arc<Tally>, tick: u32) -> Result<(u32, u32), NotPlaced> {
        let index = match self.known.get(&id) {
            Some(index) => *index,
            None => self.settle(id, of, tick)?,
        };
        Ok((number(index), self.generations[index]))
    }

    /// For how many ticks no packet to a destination has passed, as far as was looked.
    fn idle(&mut self, index: usize, tick: u32) -> Option<u32> {
        let sum = self.sum(index)?;
        let place = self.places[index].as_mut()?;
        if place.tally.strong_count() == 0 {
            return Some(u32::MAX);
        }
        if place.looked.0 != sum {
            place.looked = (sum, tick);
        }
        Some(tick.wrapping_sub(place.looked.1))
    }

    /// Finds a place for a destination.
    #[cold]
    fn settle(&mut self, id: u32, of: &Arc<Tally>, tick: u32) -> Result<usize, NotPlaced> {
        let mut room = std::mem::replace(&mut self.room, Places::new(0));
        let found = room.take(|index| self.idle(index, tick));
        self.room = room;
        let index = found.ok_or(NotPlaced::Failed)?;
        let settled = self.move_in(index, (id, of), tick);
        if settled.is_err() && self.places[index].is_none() {
            self.room.give_back(index);
        }
        settled.map(|()| index)
    }

    fn move_in(&mut self, index: usize, (id, of): (u32, &Arc<Tally>), tick: u32) -> Result<(), NotPlaced> {
        // What still names the destination that was there is not this one's.
        self.bump(index)?;
        let sum = self.sum(index).ok_or(NotPlaced::Failed)?;
        self.count_one(index);
        if let Some(gone) = &self.places[index] {
            self.displaced.fetch_add(u64::from(gone.tally.strong_count() > 0), Relaxed);
            self.known.remove(&gone.id);
        }
        // It may have had a place before, and goes on counting.
        let Counters { packets_in, bytes_in, packets_out, bytes_out, .. } = of.flown();
        let so_far = [packets_in, bytes_in, packets_out, bytes_out];
        let before = std::array::from_fn(|n| sum[n].wrapping_sub(so_far[n]));
        self.places[index] = Some(Place { id, tally: Arc::downgrade(of), before, looked: (sum, tick) });
        self.known.insert(id, index);
        Ok(())
    }

    fn bump(&mut self, index: usize) -> Result<(), NotPlaced> {
        let generation = self.generations[index].wrapping_add(1);
        if self.map.set(number(index), generation, 0).is_err() {
            self.failed += 1;
            return Err(NotPlaced::Failed);
        }
        self.generations[index] = generation;
        Ok(())
    }

    /// What the kernel has counted at a place.
    fn sum(&self, index: usize) -> Option<[u64; 4]> {
        let values = self.tallies.get(&number(index), 0).ok()?;
        Some(values.iter().map(tally).fold([0; 4], |sum, one| std::array::from_fn(|n| sum[n] + one[n])))
    }

    fn count_one(&self, index: usize) {
        let Some(place) = &self.places[index] else { return };
        let (Some(of), Some(sum)) = (place.tally.upgrade(), self.sum(index)) else { return };
        let [packets_in, bytes_in, packets_out, bytes_out] =
            std::array::from_fn(|n| sum[n].wrapping_sub(place.before[n]));
        of.set_flown(&Counters { connections: 0, packets_in, bytes_in, packets_out, bytes_out });
    }

    /// Brings all tallies up to date.
    pub(super) fn count(&self) {
        self.known.values().for_each(|&index| self.count_one(index));
    }

    /// Packets of all destinations so far, gone ones included.
    pub(super) fn packets(&self) -> u64 {
        let used = self.places.iter().enumerate().filter(|(_, place)| place.is_some());
        used.filter_map(|(index, _)| self.sum(index))
            .map(|[packets_in, _, packets_out, _]| packets_in + packets_out)
            .sum()
    }

    /// Lets no flow of a destination hold that was placed before, or none of any.
    pub(super) fn withdraw(&mut self, id: Option<u32>) {
        let indexes: Vec<usize> = match id {
            Some(id) => self.known.get(&id).copied().into_iter().collect(),
            None => self.known.values().copied().collect(),
        };
        for index in indexes {
            // A map of numbers takes any number: that it does not is not to be expected.
            if self.bump(index).is_err() {
                tracing::error!("the flow cache cannot be told that a destination has changed");
            }
            self.count_one(index);
        }
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("there are less than 65536")
}
