//! What the page asks for, and what it may ask for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, to_value};
use uvs_control::destination::Ask;
use uvs_control::{Error, ErrorKind, Request, plan, sample, sched};

use super::rates::{Rates, rate};
use super::recorder::{History, Moment};
use super::rows::{Kind, METHODS, Query, State};

/// What is wrong, and listed.
const TROUBLES_MAX: usize = 20;

/// What a request of the control socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// Nothing: everybody may look.
    Look,
    /// The same, and it looks at the whole table of connections.
    Walk,
    /// The right to change something.
    Change,
}

/// What it takes to make that request here.
///
/// # Errors
/// It is none of the page's: the page looks, drains, weighs and exchanges modules, and does nothing else for anybody.
pub(super) fn right(request: &Request) -> Result<Right, Error> {
    match request {
        Request::Sample(_) | Request::Sched(sched::Request::Status { .. }) => Ok(Right::Look),
        Request::Events(request) if !request.follow => Ok(Right::Look),
        Request::Connections(_) => Ok(Right::Walk),
        Request::Destination(request) => Ok(match request.ask {
            Ask::Look {} | Ask::Explain {} => Right::Walk,
            Ask::Drain(_) | Ask::Undrain {} | Ask::Weight(_) => Right::Change,
        }),
        Request::Sched(
            sched::Request::Load { content: Some(_), .. }
            | sched::Request::Rollback { .. }
            | sched::Request::Promote { .. },
        ) => Ok(Right::Change),
        _ => Err(Error::new(ErrorKind::Denied, "that is not done over HTTP; use the control socket")),
    }
}

/// A request that is not of the control socket.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|error| Error::new(ErrorKind::Malformed, format!("this is no request: {error}")))
}

/// The director as a whole.
#[derive(Debug, Serialize)]
pub(super) struct Overview<'m> {
    /// With rates beside it.
    #[serde(flatten)]
    sample: &'m sample::Answer,
    rates: Rates,
    history: History,
    /// Seconds until there is something new.
    interval_s: f64,
    /// How something can be changed here: `yes`, `token`, `no`.
    changes: &'static str,
    /// What goes to real servers, by how.
    methods: Vec<Method>,
    /// How many services and destinations are in which state.
    services_by_state: BTreeMap<String, usize>,
    destinations_by_state: BTreeMap<String, usize>,
    /// Checks by state.
    checks_by_state: BTreeMap<String, usize>,
    /// What is wrong, the worst first, and how much there is of it.
    troubles: Vec<Trouble<'m>>,
    troubles_total: usize,
    /// Frames dropped in a second, by reason.
    drops_per_s: BTreeMap<&'m str, f64>,
    interface_rates: Vec<InterfaceRates>,
    reload: Option<&'m plan::LastReload>,
    by_hand: &'m [String],
    by_hand_total: u64,
    limits_lowered: Option<&'m str>,
}

/// Forwarding by one method.
#[derive(Debug, Default, Serialize)]
struct Method {
    forwarding: &'static str,
    destinations: usize,
    /// Those that take new connections.
    available: usize,
    active: u64,
    #[serde(flatten)]
    rates: Rates,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
struct Trouble<'m> {
    state: State,
    service: &'m str,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_s: Option<f64>,
}

#[derive(Debug, Default, Serialize)]
struct InterfaceRates {
    received_frames_per_s: f64,
    received_bytes_per_s: f64,
    transmitted_frames_per_s: f64,
    transmitted_bytes_per_s: f64,
}

/// In JSON.
pub(super) fn overview(moment: &Moment, history: History, changes: &'static str) -> Option<Value> {
    let Moment { sample, before, table, status, .. } = moment;
    let seconds = sample.uptime_s - before.uptime_s;
    let (mut by_state, mut checks) = (BTreeMap::new(), BTreeMap::new());
    let mut methods: Vec<Method> =
        METHODS.iter().map(|forwarding| Method { forwarding, ..Method::default() }).collect();
    let mut troubles = Vec::new();
    for row in &table.services {
        if row.state < State::Held {
            let (service, reason) = (row.service.name.as_str(), row.reason);
            troubles.push(Trouble { state: row.state, service, destination: None, reason, since_s: None });
        }
    }
    for row in &table.destinations {
        let it = &row.destination;
        *by_state.entry(row.state.word().to_owned()).or_default() += 1;
        if let Some(method) = methods.iter_mut().find(|method| method.forwarding == it.forwarding) {
            method.destinations += 1;
            method.available += usize::from(it.weight > 0 && !it.overloaded);
            method.active += u64::from(it.active);
            method.rates.add(&row.rates);
        }
        for check in row.health.iter().flat_map(|health| &health.checks) {
            *checks.entry(check.state.clone()).or_default() += 1;
        }
        if matches!(row.state, State::Down | State::Held | State::Full) {
            let health = row.health.as_ref();
            let failing = health.and_then(|health| health.checks.iter().find(|check| check.state != "up"));
            troubles.push(Trouble {
                state: row.state,
                service: &row.service,
                destination: Some(&it.name),
                reason: failing.and_then(|check| check.last.as_deref()),
                since_s: health.map(|health| health.since_s),
            });
        }
    }
    methods.retain(|method| method.destinations > 0);
    let troubles_total = troubles.len();
    troubles.sort_by_key(|trouble| trouble.state);
    troubles.truncate(TROUBLES_MAX);
    let mut services_by_state = BTreeMap::new();
    for row in &table.services {
        *services_by_state.entry(row.state.word().to_owned()).or_default() += 1;
    }
    let overview = Overview {
        rates: Rates::between(&before.total, &sample.total, seconds),
        history,
        interval_s: moment.interval_s,
        changes,
        methods,
        services_by_state,
        destinations_by_state: by_state,
        checks_by_state: checks,
        troubles,
        troubles_total,
        drops_per_s: drops(before, sample, seconds),
        interface_rates: interfaces(before, sample, seconds),
        reload: status.reload.as_ref(),
        by_hand: &status.by_hand,
        by_hand_total: status.by_hand_total,
        limits_lowered: status.limits_lowered.as_deref(),
        sample,
    };
    to_value(&overview).ok()
}

fn drops<'m>(before: &sample::Answer, now: &'m sample::Answer, seconds: f64) -> BTreeMap<&'m str, f64> {
    let known = |reason: &str| before.drops.iter().find(|it| it.reason == reason).map_or(0, |it| it.frames);
    now.drops.iter().map(|it| (it.reason.as_str(), rate(known(&it.reason), it.frames, seconds))).collect()
}

fn interfaces(before: &sample::Answer, now: &sample::Answer, seconds: f64) -> Vec<InterfaceRates> {
    let of = |now: &uvs_control::status::Interface| {
        let Some(before) = before.interfaces.iter().find(|it| it.name == now.name) else {
            return InterfaceRates::default();
        };
        InterfaceRates {
            received_frames_per_s: rate(before.received.frames, now.received.frames, seconds),
            received_bytes_per_s: rate(before.received.bytes, now.received.bytes, seconds),
            transmitted_frames_per_s: rate(before.transmitted.frames, now.transmitted.frames, seconds),
            transmitted_bytes_per_s: rate(before.transmitted.bytes, now.transmitted.bytes, seconds),
        }
    };
    now.interfaces.iter().map(of).collect()
}

/// Some rows.
#[derive(Debug, Serialize)]
pub(super) struct Rows {
    /// How many there are that were asked for, whatever the page of them.
    found: usize,
    /// When they were so (RFC 3339).
    time: String,
    interval_s: f64,
    rows: Vec<Value>,
}

#[derive(Serialize)]
struct WithHistory<T> {
    #[serde(flatten)]
    row: T,
    history: History,
}

/// A service, or one of its destinations.
type Key<'k> = (&'k str, Option<&'k str>);

/// The rows of a query.
pub(super) fn rows(
    moment: &Moment,
    query: &Query,
    histories: impl FnOnce(&[Key<'_>]) -> Vec<History>,
) -> Rows {
    let table = &moment.table;
    let (rows, found) = match query.table {
        Kind::Services => {
            let (rows, found) = table.find_services(query);
            let keys: Vec<Key<'_>> = rows.iter().map(|row| (row.service.name.as_str(), None)).collect();
            let histories = histories(&keys);
            (raw(rows.into_iter().zip(histories).map(|(row, history)| WithHistory { row, history })), found)
        }
        Kind::Destinations => {
            let (rows, found) = table.find_destinations(query);
            let keys: Vec<Key<'_>> =
                rows.iter().map(|row| (row.service.as_str(), Some(row.destination.name.as_str()))).collect();
            let histories = histories(&keys);
            (raw(rows.into_iter().zip(histories).map(|(row, history)| WithHistory { row, history })), found)
        }
        Kind::Checks => {
            let (rows, found) = table.find_checks(query);
            (raw(rows.into_iter()), found)
        }
        Kind::Schedulers => {
            let (rows, found) = table.find_schedulers(query);
            (raw(rows.into_iter()), found)
        }
    };
    Rows { found, time: moment.sample.time.clone(), interval_s: moment.interval_s, rows }
}

fn raw<T: Serialize>(rows: impl Iterator<Item = T>) -> Vec<Value> {
    rows.filter_map(|row| to_value(&row).ok()).collect()
}
