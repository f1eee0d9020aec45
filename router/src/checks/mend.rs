//! Compares what destinations weigh in the director with what they are to weigh, and mends it: a weight that could not
//! be set when it was ordered, or that somebody set without a word to the checks.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{error, warn};
use uvs_control::event::{Event, Kind};
use uvs_director::spec::{Change, ServiceKey};
use uvs_director::{ApplyError, Director, Instant};

use super::Weights;
use crate::clock::Clock;
use crate::events::Events;

/// How often.
const EVERY: Duration = Duration::from_secs(5);

/// A weight that the director had otherwise than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mended {
    pub(super) service: ServiceKey,
    pub(super) destination: SocketAddr,
    /// What it had...
    pub(super) was: u32,
    /// ...and has now.
    pub(super) weight: u32,
}

/// Destinations of which the log says already that the director does not take their weights.
#[derive(Debug, Default)]
pub(super) struct Refused(HashSet<(ServiceKey, SocketAddr)>);

/// Mends weights until it is dropped.
pub(crate) async fn mend(
    director: Arc<Director>,
    weights: Arc<Weights>,
    clock: Clock,
    events: Arc<Events>,
) -> Infallible {
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused = Refused::default();
    loop {
        turns.tick().await;
        let (director, weights, events) = (Arc::clone(&director), Arc::clone(&weights), Arc::clone(&events));
        let mut known = std::mem::take(&mut refused);
        // Whoever changes the director at length holds the weights meanwhile: nobody waits for that here.
        let work = tokio::task::spawn_blocking(move || {
            for Mended { service, destination, was, weight } in
                weights.mend(&director, &mut known, clock.now())
            {
                events.tell(Event {
                    kind: Kind::WeightMended,
                    service: Some(service.to_string()),
                    destination: Some(destination.to_string()),
                    weight: Some(weight.into()),
                    of: Some(was.into()),
                    ..Event::default()
                });
            }
            known
        });
        match work.await {
            Ok(known) => refused = known,
            Err(error) => error!(%error, "weights could not be compared"),
        }
    }
}

impl Weights {
    /// Sets weights that the director has otherwise than it should. Each is in the log once, and tried again at the
    /// next call.
    pub(super) fn mend(&self, director: &Director, refused: &mut Refused, now: Instant) -> Vec<Mended> {
        let held = self.hold();
        if held.0.services.is_empty() || !self.may_be_mended() {
            return Vec::new();
        }
        let mut differing = Vec::new();
        director.weights(|service, destination, was| {
            if let Some(known) = held.get(&service, destination)
                && known.weight != was
            {
                differing.push(Mended { service, destination, was, weight: known.weight });
            }
        });
        let names: HashSet<_> = differing.iter().map(|it| (it.service, it.destination)).collect();
        refused.0.retain(|name| names.contains(name));
        differing.retain(|Mended { service, destination, was, weight }| {
            match director.apply(Change::SetWeight(*service, *destination, *weight), now) {
                Ok(()) => {
                    refused.0.remove(&(*service, *destination));
                    warn!(%service, %destination, was, weight, "its weight was not what it is to be, and is now");
                    return true;
                }
                // Removed a moment ago.
                Err(ApplyError::NoSuchService(_) | ApplyError::NoSuchDestination(..)) => {}
                Err(error) => {
                    if refused.0.insert((*service, *destination)) {
                        warn!(%service, %destination, was, weight, %error, "its weight is not what it is to be");
                    }
                }
            }
            false
        });
        differing
    }
}
