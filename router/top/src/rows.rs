//! The rows of each view, out of two samples.

use std::collections::HashMap;

use uvs_control::event::{Event, Kind};
use uvs_control::sample::{Answer, Module, Scheduler};
use uvs_control::status::{Check, Destination as Checked, Health, Losses};

use crate::figures;
use crate::rates::{Pair, Rates};
use crate::table::{Column, Row, Sort, Table, Tone, Value};

/// What can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// Virtual services.
    Services,
    /// Destinations, of all services or of one.
    Destinations,
    /// Health checks.
    Checks,
    /// The modules that pick.
    Schedulers,
    /// Dropped frames by reason.
    Drops,
    /// Interfaces and the datapath.
    Interfaces,
    /// What happened.
    Events,
}

const fn column(title: &'static str, width: u16, rank: u8) -> Column {
    Column { title, width, rank }
}

const SERVICES: [Column; 10] = [
    column("Service", 22, 0),
    column("Sched", 7, 4),
    column("Avail", 7, 1),
    column("Active", 7, 0),
    column("Inact", 7, 5),
    column("Conn/s", 7, 0),
    column("Pkt/s in", 8, 6),
    column("Pkt/s out", 9, 7),
    column("Bit/s in", 8, 2),
    column("Bit/s out", 9, 3),
];

const DESTINATIONS: [Column; 12] = [
    column("Destination", 22, 0),
    column("Way", 3, 6),
    column("Weight", 6, 1),
    column("State", 8, 2),
    column("Active", 7, 0),
    column("Inact", 7, 5),
    column("Conn/s", 7, 0),
    column("Pkt/s in", 8, 8),
    column("Pkt/s out", 9, 9),
    column("Bit/s in", 8, 3),
    column("Bit/s out", 9, 4),
    column("Service", 22, 7),
];

const CHECKS: [Column; 9] = [
    column("Destination", 21, 0),
    column("Check", 10, 3),
    column("State", 9, 0),
    column("For", 7, 1),
    column("Against", 7, 5),
    column("Took", 7, 2),
    column("Passed", 7, 6),
    column("Failed", 7, 4),
    column("Service", 22, 7),
];

const SCHEDULERS: [Column; 9] = [
    column("Service", 22, 0),
    column("Module", 10, 0),
    column("Version", 8, 4),
    column("Serving", 8, 1),
    column("Picks/s", 7, 0),
    column("Each", 8, 2),
    column("Fallback", 8, 3),
    column("Failures", 8, 3),
    column("Traps", 6, 5),
];

const DROPS: [Column; 3] = [column("Reason", 30, 0), column("Frames/s", 9, 0), column("Frames", 9, 0)];

const INTERFACES: [Column; 9] = [
    column("Interface", 12, 0),
    column("Datapath", 10, 0),
    column("State", 8, 1),
    column("Frm/s in", 8, 2),
    column("Bit/s in", 8, 0),
    column("Frm/s out", 9, 3),
    column("Bit/s out", 9, 0),
    column("Errors", 6, 4),
    column("Lost", 6, 5),
];

const EVENTS: [Column; 4] = [
    column("What happened", 20, 0),
    column("Time", 8, 0),
    column("Destination", 21, 1),
    column("Service", 22, 2),
];

impl View {
    /// All, in the order of their keys.
    pub const ALL: [Self; 7] = [
        Self::Services,
        Self::Destinations,
        Self::Checks,
        Self::Schedulers,
        Self::Drops,
        Self::Interfaces,
        Self::Events,
    ];

    /// Its name.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Services => "Services",
            Self::Destinations => "Dests",
            Self::Checks => "Checks",
            Self::Schedulers => "Scheds",
            Self::Drops => "Drops",
            Self::Interfaces => "Ifaces",
            Self::Events => "Events",
        }
    }

    /// Its columns.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Services => &SERVICES,
            Self::Destinations => &DESTINATIONS,
            Self::Checks => &CHECKS,
            Self::Schedulers => &SCHEDULERS,
            Self::Drops => &DROPS,
            Self::Interfaces => &INTERFACES,
            Self::Events => &EVENTS,
        }
    }

    /// How it is sorted at first: by name, what is wrong first, the busiest first, the latest first.
    pub const fn sort(self) -> Sort {
        match self {
            Self::Services | Self::Destinations | Self::Schedulers | Self::Interfaces => {
                Sort { column: 0, descending: false }
            }
            Self::Checks => Sort { column: 2, descending: false },
            Self::Drops => Sort { column: 2, descending: true },
            Self::Events => Sort { column: 1, descending: true },
        }
    }

    /// Whether it can be narrowed to one service.
    pub const fn is_of_services(self) -> bool {
        matches!(self, Self::Destinations | Self::Checks | Self::Schedulers)
    }

    /// What it lists.
    pub fn table(self, now: &Answer, pair: Option<&Pair<'_>>, events: &[Event]) -> Table {
        let rows = match self {
            Self::Services => services(now, pair),
            Self::Destinations => destinations(now, pair),
            Self::Checks => checks(now),
            Self::Schedulers => schedulers(now, pair),
            Self::Drops => drops(now, pair),
            Self::Interfaces => interfaces(now, pair),
            Self::Events => self::events(events),
        };
        Table { columns: self.columns(), rows }
    }
}

/// Connections, packets in and out, bits in and out.
fn rates(rates: Option<&Rates>) -> [Value; 5] {
    match rates {
        None => Default::default(),
        Some(it) => [it.connections, it.packets_in, it.packets_out, it.bits_in, it.bits_out].map(Value::Rate),
    }
}

/// Of a path, the file's name.
fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn services(now: &Answer, pair: Option<&Pair<'_>>) -> Vec<Row> {
    let known = pair.map(Pair::services).unwrap_or_default();
    let row = |it: &uvs_control::sample::Service| {
        let [connections, packets_in, packets_out, bits_in, bits_out] = rates(known.get(it.name.as_str()));
        let (available, all) = (it.available, it.destinations_total);
        Row {
            key: it.name.clone(),
            cells: vec![
                it.name.as_str().into(),
                file_name(&it.scheduler).into(),
                Value::Of(available.into(), all.into()),
                Value::Count(it.active),
                Value::Count(it.inactive),
                connections,
                packets_in,
                packets_out,
                bits_in,
                bits_out,
            ],
            tone: match (available, all) {
                (0, _) => Tone::Bad,
                (some, all) if some < all => Tone::Warn,
                _ => Tone::Plain,
            },
            note: match (available, all) {
                (0, 0) => Some("it has no destination".to_owned()),
                (0, _) => Some("no destination takes new connections".to_owned()),
                (some, all) if some < all => {
                    Some(format!("{} of {all} destinations take no new connections", all - some))
                }
                _ => None,
            },
        }
    };
    now.services.iter().map(row).collect()
}

fn destinations(now: &Answer, pair: Option<&Pair<'_>>) -> Vec<Row> {
    let known = pair.map(Pair::destinations).unwrap_or_default();
    let checked: HashMap<(&str, &str), &Checked> = now
        .health
        .iter()
        .flat_map(|service| {
            let name = service.service.as_str();
            service.destinations.iter().map(move |it| ((name, it.destination.as_str()), it))
        })
        .collect();
    let mut rows = Vec::new();
    for service in &now.services {
        for it in &service.destinations {
            let key = (service.name.as_str(), it.name.as_str());
            let [connections, packets_in, packets_out, bits_in, bits_out] = rates(known.get(&key));
            let (state, tone, note) = state(it, checked.get(&key).copied());
            rows.push(Row {
                key: format!("{} {}", it.name, service.name),
                cells: vec![
                    it.name.as_str().into(),
                    it.forwarding.as_str().into(),
                    Value::Count(it.weight.into()),
                    state.into(),
                    Value::Count(it.active.into()),
                    Value::Count(it.inactive.into()),
                    connections,
                    packets_in,
                    packets_out,
                    bits_in,
                    bits_out,
                    service.name.as_str().into(),
                ],
                tone,
                note: Some(match note {
                    Some(note) => format!("{}: {note}", service.name),
                    None => service.name.clone(),
                }),
            });
        }
    }
    rows
}

/// How a destination is, in a word, and in some more.
fn state(
    it: &uvs_control::sample::Destination,
    checked: Option<&Checked>,
) -> (&'static str, Tone, Option<String>) {
    let by = checked.map(|it| format!("weight by {}", it.weight_by));
    match checked {
        Some(checked) if checked.admin == "maint" => ("maint", Tone::Dim, by),
        Some(checked) if checked.admin == "drain" => {
            let left = checked.drain.as_ref().map(|it| format!("{} connections left", it.open));
            ("drain", Tone::Dim, left)
        }
        Some(checked) if !checked.in_service => {
            let last = checked.checks.iter().find(|check| check.state != "up");
            let why = last.and_then(|check| Some(format!("{}: {}", check.name, check.last.as_ref()?)));
            ("down", Tone::Bad, why.or(by))
        }
        Some(checked) if checked.backup && it.weight == 0 => ("standby", Tone::Dim, by),
        _ if it.weight == 0 => ("weight 0", Tone::Dim, by),
        _ if it.overloaded => ("over", Tone::Warn, Some("over its upper threshold".to_owned())),
        Some(_) => ("up", Tone::Plain, by),
        None => ("-", Tone::Plain, None),
    }
}

fn checks(now: &Answer) -> Vec<Row> {
    let of = |service: &Health, destination: &Checked, it: &Check| Row {
        key: format!("{} {} {}", destination.destination, it.name, service.service),
        cells: vec![
            destination.destination.as_str().into(),
            it.name.as_str().into(),
            it.state.as_str().into(),
            Value::Age(it.since_s),
            if it.against > 0 { Value::Of(it.against.into(), it.needed.into()) } else { Value::Nothing },
            it.took_s.map_or(Value::Nothing, |took| Value::Nanos(took * 1e9)),
            Value::Count(it.passed),
            Value::Count(it.failed),
            service.service.as_str().into(),
        ],
        tone: match it.state.as_str() {
            _ if it.overdue => Tone::Bad,
            "up" if it.against > 0 => Tone::Warn,
            "up" => Tone::Plain,
            "unchecked" => Tone::Dim,
            _ => Tone::Bad,
        },
        note: Some(match (&it.last, it.last_age_s) {
            (Some(last), Some(age)) => format!("{}, {} ago: {last}", it.probe, figures::age(age)),
            _ => format!("{}: no result yet", it.probe),
        }),
    };
    let mut rows = Vec::new();
    for service in &now.health {
        for destination in &service.destinations {
            rows.extend(destination.checks.iter().map(|it| of(service, destination, it)));
        }
    }
    rows
}

/// So much of a SHA-256 tells modules apart.
const VERSION_DIGITS: usize = 8;

fn schedulers(now: &Answer, pair: Option<&Pair<'_>>) -> Vec<Row> {
    let known = pair.map(Pair::picks).unwrap_or_default();
    let row = |it: &Scheduler| {
        let Module { origin, sha256, serving, picks, fallbacks, timed, timed_ns, failures, .. } = &it.module;
        let (rate, took) = match known.get(it.service.as_str()) {
            Some((rate, took)) => (Value::Rate(*rate), *took),
            None => (Value::Nothing, None),
        };
        // Where nothing was timed lately: since the module came.
        #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
        let took = took.or_else(|| (*timed > 0).then(|| *timed_ns as f64 / *timed as f64));
        let failed: u64 = failures.values().sum();
        Row {
            key: it.service.clone(),
            cells: vec![
                it.service.as_str().into(),
                file_name(origin).into(),
                sha256.get(..VERSION_DIGITS).unwrap_or(sha256).into(),
                serving.as_str().into(),
                rate,
                took.map_or(Value::Nothing, Value::Nanos),
                Value::Count(*fallbacks),
                Value::Count(failed),
                Value::Count(failures.get("trap").copied().unwrap_or_default()),
            ],
            tone: match serving.as_str() {
                "module" if failed > 0 => Tone::Warn,
                "module" => Tone::Plain,
                _ => Tone::Bad,
            },
            note: Some(scheduler_note(it, *picks)),
        }
    };
    now.schedulers.iter().map(row).collect()
}

fn scheduler_note(it: &Scheduler, picks: u64) -> String {
    let mut note = format!("{}, {} picks", it.scheduler, figures::count(picks));
    if let Some(ns) = it.module.p99_ns {
        #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
        note.push_str(&format!(", 99 % within {}", figures::nanos(ns as f64)));
    }
    if let Some(trial) = &it.trial {
        let name = file_name(&trial.module.origin);
        note.push_str(&match trial.mode.as_str() {
            "shadow" => format!("; shadow {name}: {} the same, {} different", trial.same, trial.different),
            mode => format!("; {mode} {name}: {} placed, {} passed on", trial.placed, trial.passed_on),
        });
    }
    if let Some(failure) = &it.module.last_failure {
        note.push_str(&format!("; last failure: {failure}"));
    }
    note
}

fn drops(now: &Answer, pair: Option<&Pair<'_>>) -> Vec<Row> {
    let known = pair.map(Pair::by_reason).unwrap_or_default();
    let row = |it: &uvs_control::status::Drops| {
        let rate = known.get(it.reason.as_str()).copied();
        Row {
            key: it.reason.clone(),
            cells: vec![
                it.reason.as_str().into(),
                rate.map_or(Value::Nothing, Value::Rate),
                Value::Count(it.frames),
            ],
            tone: if rate.is_some_and(|rate| rate > 0.0) { Tone::Warn } else { Tone::Plain },
            note: None,
        }
    };
    now.drops.iter().map(row).collect()
}

fn interfaces(now: &Answer, pair: Option<&Pair<'_>>) -> Vec<Row> {
    let known = pair.map(Pair::interfaces).unwrap_or_default();
    let row = |it: &uvs_control::status::Interface| {
        let rates = known.get(it.name.as_str());
        let rate = |index: usize| rates.map_or(Value::Nothing, |rates| Value::Rate(rates[index]));
        let mut notes = it.reasons.clone();
        notes.extend(
            now.not_accelerated.iter().filter(|not| not.interface == it.name).map(|not| not.why.clone()),
        );
        if notes.is_empty() {
            notes.extend(it.faster.iter().map(|faster| format!("faster: {faster}")));
        }
        Row {
            key: it.name.clone(),
            cells: vec![
                it.name.as_str().into(),
                it.datapath.as_str().into(),
                it.state.as_str().into(),
                rate(0),
                rate(1),
                rate(2),
                rate(3),
                Value::Count(it.received.errors + it.transmitted.errors),
                Value::Count(it.losses.iter().map(Losses::total).sum()),
            ],
            tone: match it.state.as_str() {
                "down" => Tone::Bad,
                "degraded" => Tone::Warn,
                _ => Tone::Plain,
            },
            note: Some(format!(
                "mtu {}{}{}",
                it.mtu,
                if notes.is_empty() { "" } else { "; " },
                notes.join("; ")
            )),
        }
    };
    now.interfaces.iter().map(row).collect()
}

fn events(events: &[Event]) -> Vec<Row> {
    let row = |it: &Event| Row {
        key: it.number.to_string(),
        cells: vec![
            Value::Text(it.what()),
            Value::Moment(it.number, figures::time_of_day(&it.time).to_owned()),
            it.destination.as_deref().map_or(Value::Text(String::new()), Value::from),
            it.service.as_deref().map_or(Value::Text(String::new()), Value::from),
        ],
        tone: match it.kind {
            Kind::CheckDown
            | Kind::CheckUnmade
            | Kind::DestinationDown
            | Kind::QuorumDown
            | Kind::ReloadFailed
            | Kind::NotifyFailed => Tone::Bad,
            Kind::CheckOverdue | Kind::DestinationHeld | Kind::BackupUp | Kind::Certificate => Tone::Warn,
            _ => Tone::Plain,
        },
        note: Some(it.line()),
    };
    events.iter().map(row).collect()
}
