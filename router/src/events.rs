//! What happened lately, for whoever asks and for whoever follows it.
//!
//! ```text
//!   checks, adm, reloads --tell--> the latest KEPT events --copy--> each reader, from the number it has come to
//! ```
//! A reader is no more than a number: whoever tells an event waits for nobody, and who reads too slowly is told how
//! many events it has missed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use uvs_check::core::{Event as Told, State, What};
use uvs_check::probe::date;
use uvs_control::event::{Answer, Event, Kind, Request};
use uvs_director::Instant;
use uvs_director::spec::ServiceKey;

use crate::clock::unix_time;

/// So many of the latest events are kept, some 500 bytes each.
const KEPT: usize = 8192;
/// So many are given to a reader at once.
const BATCH: usize = 256;
/// So many may follow at one time.
pub(crate) const READERS_MAX: usize = 16;

/// The latest events.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    /// The number of the newest.
    newest: watch::Sender<u64>,
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Ring {
    /// With its time, in seconds since 1970.
    kept: VecDeque<(f64, Event)>,
    newest: u64,
}

impl Ring {
    fn oldest(&self) -> u64 {
        self.newest + 1 - self.kept.len() as u64
    }
}

impl Default for Events {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(READERS_MAX));
        Self { ring: Mutex::default(), newest: watch::Sender::new(0), places }
    }
}

impl Events {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event, gives it its number and its time.
    pub fn tell(&self, event: Event) {
        let at = unix_time();
        let newest = {
            let mut ring = self.ring();
            ring.newest += 1;
            let event = Event { number: ring.newest, time: rfc3339(at), ..event };
            if ring.kept.len() == KEPT {
                ring.kept.pop_front();
            }
            ring.kept.push_back((at, event));
            ring.newest
        };
        self.newest.send_replace(newest);
    }

    /// What is known of the past, as it is asked for.
    pub fn history(&self, request: &Request) -> Answer {
        let ring = self.ring();
        let first = ring.first(request);
        let skip = usize::try_from(first - ring.oldest()).unwrap_or(usize::MAX);
        Answer { lost: 0, events: ring.kept.iter().skip(skip).map(|(_, event)| event.clone()).collect() }
    }

    /// Somebody who follows, from what is asked for on; `None`: as many as may do.
    pub fn follow(self: &Arc<Self>, request: &Request) -> Option<Reader> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Reader { _place: Some(place), ..self.reader(request) })
    }

    /// A part of the director that follows, which takes nobody's place.
    pub(crate) fn reader(self: &Arc<Self>, request: &Request) -> Reader {
        let next = self.ring().first(request);
        Reader { events: Arc::clone(self), next, newest: self.newest.subscribe(), _place: None }
    }
}

impl Ring {
    /// The number of the first event that is asked for; that of the next one if there is none.
    fn first(&self, request: &Request) -> u64 {
        let mut first = if request.last.is_none() && request.since_s.is_none() && request.follow {
            self.newest + 1
        } else {
            self.oldest()
        };
        if let Some(last) = request.last {
            first = first.max((self.newest + 1).saturating_sub(last.into()));
        }
        if let Some(since) = request.since_s {
            let from = unix_time() - Duration::from_secs(since).as_secs_f64();
            let older = self.kept.partition_point(|(at, _)| *at < from);
            first = first.max(self.oldest() + older as u64);
        }
        first
    }
}

/// Somebody who reads events one after the other, at any pace.
#[derive(Debug)]
pub struct Reader {
    events: Arc<Events>,
    /// The number of the event that it has not read yet.
    next: u64,
    newest: watch::Receiver<u64>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Reader {
    /// The next events, without waiting for any.
    pub fn take(&mut self) -> Answer {
        let ring = self.events.ring();
        let from = self.next.max(ring.oldest());
        let lost = from - self.next;
        let skip = usize::try_from(from - ring.oldest()).unwrap_or(usize::MAX);
        let events: Vec<Event> =
            ring.kept.iter().skip(skip).take(BATCH).map(|(_, event)| event.clone()).collect();
        self.next = from + events.len() as u64;
        Answer { lost, events }
    }

    /// Waits until there are some to take.
    pub async fn wait(&mut self) {
        let next = self.next;
        // The sender goes on as long as this has the events.
        let _ = self.newest.wait_for(|newest| *newest >= next).await;
    }
}

/// The time now, as events have it.
pub(crate) fn now() -> String {
    rfc3339(crate::clock::unix_time())
}

/// Such as 2026-11-30T22:04:05.678Z.
pub(crate) fn rfc3339(unix: f64) -> String {
    let millis = Duration::from_secs_f64(unix.max(0.0)).as_millis();
    let time = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    format!("{:.3}", time.unwrap_or(Timestamp::MAX))
}

/// What the checks tell, as an event.
pub(crate) fn of_checks(told: &Told, now: Instant) -> Event {
    let base = Event { service: Some(told.service.to_string()), ..Event::default() };
    let of = |destination: &SocketAddr| Event { destination: Some(destination.to_string()), ..base.clone() };
    match &told.what {
        What::Check { destination, check, from, to, reason } => Event {
            kind: match to {
                State::Up => Kind::CheckUp,
                State::Down => Kind::CheckDown,
                State::Unmade => Kind::CheckUnmade,
                State::Unchecked => Kind::CheckUnchecked,
            },
            check: Some(check.to_string()),
            from: Some(from.to_string()),
            reason: Some(reason.clone()),
            ..of(destination)
        },
        What::Overdue { destination, check } => {
            Event { kind: Kind::CheckOverdue, check: Some(check.to_string()), ..of(destination) }
        }
        What::Certificate { destination, check, expires } => Event {
            kind: Kind::Certificate,
            check: Some(check.to_string()),
            reason: Some(format!("it expires at {}", date(*expires))),
            ..of(destination)
        },
        What::Destination { destination, in_service, reason } => Event {
            kind: if *in_service { Kind::DestinationUp } else { Kind::DestinationDown },
            reason: Some(reason.clone()),
            ..of(destination)
        },
        What::Held { destination, until } => Event {
            kind: Kind::DestinationHeld,
            reason: Some(format!("it flaps: held for {} s", until.since(now).as_secs())),
            ..of(destination)
        },
        What::Quorum { held, first, weight, of } => Event {
            kind: if *held { Kind::QuorumUp } else { Kind::QuorumDown },
            from: first.then(|| "unknown".to_owned()),
            weight: Some(*weight),
            of: Some(*of),
            ..base
        },
        What::Backup { serves } => {
            Event { kind: if *serves { Kind::BackupUp } else { Kind::BackupDown }, ..base }
        }
    }
}

/// That a destination has another weight.
pub(crate) fn weight_event(service: ServiceKey, destination: SocketAddr, weight: u32, by: String) -> Event {
    Event {
        kind: Kind::Weight,
        service: Some(service.to_string()),
        destination: Some(destination.to_string()),
        weight: Some(weight.into()),
        by: Some(by),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: &Events, count: usize) {
        for _ in 0..count {
            events.tell(Event { kind: Kind::Weight, ..Event::default() });
        }
    }

    fn numbers(answer: &Answer) -> Vec<u64> {
        answer.events.iter().map(|event| event.number).collect()
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        assert_eq!(rfc3339(0.0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_796_032_800.25), "2026-11-30T10:00:00.250Z");
    }

    #[test]
    fn history_is_what_is_asked_for() {
        let events = Events::default();
        assert_eq!(events.history(&Request::default()), Answer::default());
        told(&events, 5);
        assert_eq!(numbers(&events.history(&Request::default())), [1, 2, 3, 4, 5]);
        let last = |last| Request { last: Some(last), ..Request::default() };
        assert_eq!(numbers(&events.history(&last(2))), [4, 5]);
        assert_eq!(numbers(&events.history(&last(0))), [0_u64; 0]);
        assert_eq!(numbers(&events.history(&last(u32::MAX))), [1, 2, 3, 4, 5]);
        let since = |since| Request { since_s: Some(since), ..Request::default() };
        assert_eq!(numbers(&events.history(&since(3600))), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&events.history(&since(u64::MAX))), [1, 2, 3, 4, 5]);
        for (at, _) in events.ring().kept.iter_mut().take(3) {
            *at -= 100.0;
        }
        assert_eq!(numbers(&events.history(&since(50))), [4, 5]);
        told(&events, KEPT);
        let all = events.history(&Request::default());
        assert_eq!((all.events.len(), all.events[0].number), (KEPT, 6), "no more than are kept");
    }

    #[tokio::test]
    async fn who_reads_too_late_hears_how_many_it_missed() {
        let events = Arc::new(Events::default());
        told(&events, 3);
        let mut reader = events.follow(&Request { follow: true, ..Request::default() }).expect("a place");
        assert_eq!(reader.take(), Answer::default(), "nothing of the past");
        told(&events, 2);
        reader.wait().await;
        assert_eq!(numbers(&reader.take()), [4, 5]);
        told(&events, KEPT + 10);
        let answer = reader.take();
        assert_eq!((answer.lost, answer.events[0].number, answer.events.len()), (10, 16, BATCH));
        let mut last = 0;
        loop {
            let answer = reader.take();
            let Some(event) = answer.events.last() else { break };
            assert_eq!(answer.lost, 0);
            last = event.number;
        }
        assert_eq!(last, 5 + KEPT as u64 + 10, "and then everything");
        let pending = tokio::time::timeout(Duration::from_millis(20), reader.wait()).await;
        assert!(pending.is_err(), "there is no more");
    }

    #[test]
    fn readers_are_so_many_at_most() {
        let events = Arc::new(Events::default());
        let request = Request { follow: true, ..Request::default() };
        let mut readers: Vec<_> =
            (0..READERS_MAX).map(|_| events.follow(&request).expect("a place")).collect();
        assert!(events.follow(&request).is_none());
        readers.pop();
        assert!(events.follow(&request).is_some());
    }
}
