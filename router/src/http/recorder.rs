//! What the director does from moment to moment, recorded while somebody looks.
//!
//! One sample serves all who look: however many pages are open, the director is asked once in [`INTERVAL`], and where
//! it has so much to tell that this takes long, up to [`INTERVAL_MAX`] later. Nothing is asked while nobody looks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;
use uvs_control::{Answer, Error, ErrorKind, Request, sample, status};

use super::guard::Who;
use super::rates::Rates;
use super::requests::Requests;
use super::rows::Table;

/// From one sample to the next, at least.
const INTERVAL: Duration = Duration::from_secs(2);
/// And so many times as long as the sample took...
const SHARE: u32 = 50;
/// ...but no longer than that: on a busy machine a sample takes long because it waits, and costs nothing meanwhile.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
/// From one look at what is costly and changes rarely to the next.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// Nobody has looked for so long: what was recorded goes.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// Samples of a history.
const HISTORY: usize = 60;
/// Services and destinations that have one.
const HISTORIES_MAX: usize = 20_000;

/// Rates of late, the oldest first.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct History {
    #[serde(serialize_with = "short")]
    connections_per_s: VecDeque<f32>,
    #[serde(serialize_with = "short")]
    bytes_in_per_s: VecDeque<f32>,
}

/// With one decimal.
fn short<S: Serializer>(rates: &VecDeque<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rates.iter().map(|rate| (f64::from(*rate) * 10.0).round() / 10.0))
}

impl History {
    #[allow(clippy::cast_possible_truncation, reason = "a picture shows less")]
    fn push(&mut self, rates: &Rates) {
        for (all, rate) in [
            (&mut self.connections_per_s, rates.connections_per_s),
            (&mut self.bytes_in_per_s, rates.bytes_in_per_s),
        ] {
            if all.len() == HISTORY {
                all.pop_front();
            }
            all.push_back(rate as f32);
        }
    }
}

/// A service, or one of its destinations.
type Key = (String, Option<String>);

/// The director at one moment, with what happened since the one before.
#[derive(Debug)]
pub(super) struct Moment {
    /// What it said, its services and what belongs to them left out.
    pub(super) sample: sample::Answer,
    /// The one before; at first this one.
    pub(super) before: sample::Answer,
    /// Services and what belongs to them.
    pub(super) table: Table,
    /// What is costly, as it was within [`STATUS_EVERY`].
    pub(super) status: Arc<status::Answer>,
    /// Seconds to the next one.
    pub(super) interval_s: f64,
    taken: Instant,
    next: Instant,
}

#[derive(Debug, Default)]
struct Known {
    moment: Option<Arc<Moment>>,
    histories: HashMap<Key, History>,
    total: History,
    looked: Option<Instant>,
    recording: bool,
}

/// Records while somebody looks.
#[derive(Debug)]
pub(super) struct Recorder<R> {
    requests: Arc<R>,
    known: Mutex<Known>,
    /// Who takes a sample holds it.
    taking: tokio::sync::Mutex<()>,
}

impl<R: Requests> Recorder<R> {
    pub(super) fn new(requests: Arc<R>) -> Arc<Self> {
        Arc::new(Self { requests, known: Mutex::default(), taking: tokio::sync::Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The director now, or as it was just before. From now on it is recorded for a while.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) async fn look(self: &Arc<Self>) -> Result<Arc<Moment>, Error> {
        let begin = {
            let mut known = self.known();
            known.looked = Some(Instant::now());
            !std::mem::replace(&mut known.recording, true)
        };
        if begin {
            tokio::spawn(Arc::clone(self).record());
        }
        self.fresh().await
    }

    /// Takes samples until nobody has looked for long.
    async fn record(self: Arc<Self>) {
        loop {
            let next = match self.fresh().await {
                Ok(moment) => moment.next,
                Err(error) => {
                    tracing::debug!(%error, "the director cannot be looked at");
                    Instant::now() + INTERVAL
                }
            };
            tokio::time::sleep_until(next).await;
            let mut known = self.known();
            if known.looked.is_none_or(|looked| looked.elapsed() > FORGOTTEN) {
                *known = Known::default();
                return;
            }
        }
    }

    async fn fresh(&self) -> Result<Arc<Moment>, Error> {
        let known = || self.known().moment.clone();
        let is_fresh = |moment: &Arc<Moment>| Instant::now() < moment.next;
        if let Some(moment) = known().filter(is_fresh) {
            return Ok(moment);
        }
        // Others who find it old wait for the one who makes it new.
        let _taking = self.taking.lock().await;
        match known() {
            Some(moment) if is_fresh(&moment) => Ok(moment),
            before => self.take(before).await,
        }
    }

    async fn take(&self, before: Option<Arc<Moment>>) -> Result<Arc<Moment>, Error> {
        let begun = Instant::now();
        let all = sample::Request { service: None, destinations: true, checks: true, schedulers: true };
        let Answer::Sample(sample) = self.ask(Request::Sample(all)).await? else { return Err(strange()) };
        let known = before.as_ref().filter(|before| before.taken.elapsed() < STATUS_EVERY);
        // Its time is that of the status, which is why a moment that only repeats it keeps it.
        let (status, taken) = match known {
            Some(before) => (Arc::clone(&before.status), before.taken),
            None => {
                let Answer::Status(status) = self.ask(Request::Status(status::Request {})).await? else {
                    return Err(strange());
                };
                // What the sample has anew is not kept twice.
                let status = status::Answer { services: Vec::new(), health: Vec::new(), ..*status };
                (Arc::new(status), begun)
            }
        };
        // Sorting it into rows takes its time as well.
        let made = tokio::task::spawn_blocking(move || {
            let table = Table::of(&sample, before.as_ref().map(|before| (&before.sample, &before.table)));
            let sample = sample::Answer {
                services: Vec::new(),
                health: Vec::new(),
                schedulers: Vec::new(),
                ..*sample
            };
            let before = before.map_or_else(|| sample.clone(), |before| before.sample.clone());
            (sample, before, table)
        });
        let (sample, before, table) = made.await.map_err(|_| strange())?;
        let interval = (begun.elapsed() * SHARE).clamp(INTERVAL, INTERVAL_MAX);
        let moment = Arc::new(Moment {
            sample,
            before,
            table,
            status,
            interval_s: interval.as_secs_f64(),
            taken,
            next: begun + interval,
        });
        self.known().note(&moment);
        Ok(moment)
    }

    async fn ask(&self, request: Request) -> Result<Answer, Error> {
        self.requests.answer(request, Who::Process { pid: 0, uid: 0 }).await
    }

    /// The histories of some; empty where nothing is known.
    pub(super) fn histories<'k>(
        &self,
        keys: impl Iterator<Item = (&'k str, Option<&'k str>)>,
    ) -> Vec<History> {
        let known = self.known();
        let get = |(service, destination): (&str, Option<&str>)| {
            known
                .histories
                .get(&(service.to_owned(), destination.map(str::to_owned)))
                .cloned()
                .unwrap_or_default()
        };
        keys.map(get).collect()
    }

    /// That of the director.
    pub(super) fn total(&self) -> History {
        self.known().total.clone()
    }
}

impl Known {
    fn note(&mut self, moment: &Arc<Moment>) {
        if self.moment.is_some() {
            let mut histories = HashMap::with_capacity(self.histories.len());
            let mut total = Rates::default();
            for (service, destination, rates) in moment.table.rates().take(HISTORIES_MAX) {
                let key = (service.to_owned(), destination.map(str::to_owned));
                // Those that are gone are not taken along.
                let mut history = self.histories.remove(&key).unwrap_or_default();
                history.push(rates);
                histories.insert(key, history);
                if destination.is_none() {
                    total.add(rates);
                }
            }
            self.histories = histories;
            self.total.push(&total);
        }
        self.moment = Some(Arc::clone(moment));
    }
}

fn strange() -> Error {
    Error::new(ErrorKind::Failed, "the director answers something else than it was asked for; see its log")
}
