//! The destinations in the kernel: a generation each, so that all flows of one can be withdrawn at once, and its
//! counters.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use aya::maps::{Array, MapData, PerCpuArray};
use uvs_director::flow_cache::{NotPlaced, Tally};
use uvs_director::view::Counters;

use super::layout::{TallyBytes, tally};

struct Place {
    id: u32,
    /// Dead when nobody names the destination any more.
    tally: Weak<Tally>,
    /// What the kernel's counters of this place stood at when it became this destination's.
    before: [u64; 4],
}

/// See the head of this file.
pub(super) struct Destinations {
    map: Array<MapData, u32>,
    tallies: PerCpuArray<MapData, TallyBytes>,
    known: HashMap<u32, usize>,
    places: Vec<Option<Place>>,
    generations: Vec<u32>,
    /// Operations on the map that failed.
    failed: u64,
}

impl Destinations {
    pub(super) fn new(map: Array<MapData, u32>, tallies: PerCpuArray<MapData, TallyBytes>) -> Self {
        let room = map.len() as usize;
        let places = (0..room).map(|_| None).collect();
        Self { map, tallies, known: HashMap::new(), places, generations: vec![0; room], failed: 0 }
    }

    /// Operations on the map that failed.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// The place of a destination and its generation, in the words of a flow.
    pub(super) fn number(&mut self, id: u32, of: &Arc<Tally>) -> Result<(u32, u32), NotPlaced> {
        let index = match self.known.get(&id) {
            Some(index) => *index,
            None => self.settle(id, of)?,
        };
        Ok((number(index), self.generations[index]))
    }

    /// Finds a place for a destination.
    #[cold]
    fn settle(&mut self, id: u32, of: &Arc<Tally>) -> Result<usize, NotPlaced> {
        let is_free =
            |place: &Option<Place>| place.as_ref().is_none_or(|place| place.tally.strong_count() == 0);
        let index = self.places.iter().position(is_free).ok_or(NotPlaced::Failed)?;
        // What still names the destination that was there is not this one's.
        self.bump(index)?;
        if let Some(gone) = &self.places[index] {
            self.known.remove(&gone.id);
        }
        let before = self.sum(index).ok_or(NotPlaced::Failed)?;
        self.places[index] = Some(Place { id, tally: Arc::downgrade(of), before });
        self.known.insert(id, index);
        Ok(index)
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
