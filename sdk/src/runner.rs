//! One instance: a scheduler and the table it picks from.

use alloc::string::String;
use alloc::vec::Vec;

use crate::{Destination, Destinations, Feedback, Flow, Host, LoadWord, Scheduler};

/// A scheduler with its table, called as the director calls a component.
///
/// The component that [`export!`](crate::export) makes holds one of these; natively it is how a scheduler is
/// tested or run without wasm.
#[derive(Debug)]
pub struct Runner<S> {
    scheduler: S,
    table: Destinations,
}

impl<S: Scheduler> Runner<S> {
    /// Binds a scheduler to the service that `service` names.
    ///
    /// # Errors
    /// What [`Scheduler::init`] says against `options`.
    pub fn new(service: &str, options: &str) -> Result<Self, String> {
        Ok(Self { scheduler: S::init(service, options)?, table: Destinations::default() })
    }

    /// The whole set after a change of it, the destination added last first. Loads in `destinations` are not
    /// looked at: they start at zero.
    pub fn update(&mut self, destinations: &[Destination]) {
        self.update_from(destinations.iter().copied());
    }

    pub(crate) fn update_from(&mut self, destinations: impl Iterator<Item = Destination>) {
        self.table.replace(destinations);
        self.scheduler.update(&self.table);
    }

    /// One pick. `changed` holds a [`LoadWord`] for each destination whose load changed since the last call (after
    /// an update: for each with any load).
    pub fn schedule(&mut self, flow: &Flow, changed: &[u64], host: &mut dyn Host) -> Option<u32> {
        self.table.load(changed.iter().copied().map(LoadWord));
        self.scheduler.schedule(flow, &self.table, host)
    }

    /// What became of connections since the last call: an [`EventWord`](crate::EventWord) for each event.
    pub fn observe(&mut self, events: &[u64], host: &mut dyn Host) {
        self.scheduler.observe(Feedback::new(events, self.table.len()), &self.table, host);
    }

    /// The scheduler's state, for [`restore`](Self::restore) of a later instance.
    pub fn save(&self) -> Vec<u8> {
        self.scheduler.save()
    }

    /// Takes over the state of an earlier instance; false: could not use it.
    pub fn restore(&mut self, state: &[u8]) -> bool {
        self.scheduler.restore(state)
    }

    /// The table as the last call left it.
    pub fn table(&self) -> &Destinations {
        &self.table
    }
}
