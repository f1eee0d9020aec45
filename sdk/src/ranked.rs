//! Schedulers that are one comparison of destinations and nothing else.

use alloc::string::String;
use core::marker::PhantomData;

use crate::{Destination, Destinations, Entry, Flags, Flow, Host, Scheduler, Tournament};

/// How a [`Ranked`] scheduler compares destinations.
pub trait Ranking {
    /// The name of the scheduler, for the message that refuses options which it does not have ([`Flags::parse`]).
    const NAME: &'static str;

    /// What a destination enters the [`Tournament`] with; `None` keeps it out. It may depend on nothing else.
    fn entry(destination: &Destination) -> Option<Entry>;
}

/// The scheduler that picks the destination which a [`Ranking`] puts first, the first in list order among equals.
///
/// ```
/// use uvs_sdk::{Destination, Entry, Ranked, Ranking};
///
/// /// The fewest active connections for the weight.
/// #[derive(Debug, Default)]
/// struct FewestActive;
///
/// impl Ranking for FewestActive {
///     const NAME: &'static str = "fewest";
///
///     fn entry(destination: &Destination) -> Option<Entry> {
///         destination.is_eligible().then(|| Entry { load: destination.active, weight: destination.weight })
///     }
/// }
///
/// let mut lab = uvs_sdk::testing::Lab::<Ranked<FewestActive>>::new("");
/// lab.add(1, 2).add(2, 1);
/// assert_eq!(uvs_sdk::testing::line(&lab.connect_all(4)), "2 1 1 2");
/// ```
#[derive(Debug, Default)]
pub struct Ranked<R> {
    tournament: Tournament,
    ranking: PhantomData<fn() -> R>,
}

impl<R: Ranking + Default + 'static> Scheduler for Ranked<R> {
    fn init(_: &str, options: &str) -> Result<Self, String> {
        Flags::parse(R::NAME, options).map(|_| Self::default())
    }

    fn update(&mut self, table: &Destinations) {
        self.tournament.rebuild(table, R::entry);
    }

    fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
        self.tournament.refresh(table, R::entry);
        self.tournament.winner()
    }
}
