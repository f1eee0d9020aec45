//! Services, destinations, checks and schedulers as rows: found, sorted, and so many of them at a time.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uvs_control::{sample, status};

use super::rates::{Rates, rate};

/// The most rows of an answer.
const LIMIT_MAX: usize = 200;

/// Which rows are wanted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Of what.
    pub(super) table: Kind,
    /// Only those of this service, as `sample` names it.
    #[serde(default)]
    pub(super) service: Option<String>,
    /// Words that all stand in a row.
    #[serde(default)]
    pub(super) filter: String,
    /// The name of a column; without one, as the director lists them.
    #[serde(default)]
    pub(super) sort: Option<String>,
    /// The greatest first.
    #[serde(default)]
    pub(super) descending: bool,
    /// How many to leave out before them.
    #[serde(default)]
    pub(super) offset: usize,
    /// How many, at most 200.
    #[serde(default = "most")]
    pub(super) limit: usize,
}

const fn most() -> usize {
    LIMIT_MAX
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Services,
    Destinations,
    Checks,
    Schedulers,
}

/// How a service or a destination stands, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Its checks are down; of a service: it has nobody who takes connections.
    Down,
    /// Of a service: too few serve for its quorum, or backups serve.
    Degraded,
    /// It flaps and is held out of service.
    Held,
    /// People keep it out of service.
    Maint,
    /// It serves no new connections until those that it has are over.
    Drain,
    /// It has as many connections as it may have.
    Full,
    /// It weighs nothing.
    Idle,
    /// Its checks have no results yet.
    Unchecked,
    /// A backup that is not needed.
    Backup,
    /// All is well.
    Up,
}

#[derive(Debug, Serialize)]
pub(super) struct ServiceRow {
    #[serde(flatten)]
    pub(super) service: sample::Service,
    #[serde(flatten)]
    pub(super) rates: Rates,
    pub(super) state: State,
    /// Why it is not up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    /// The methods of its destinations.
    pub(super) forwarding: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct DestinationRow {
    pub(super) service: String,
    #[serde(flatten)]
    pub(super) destination: sample::Destination,
    #[serde(flatten)]
    pub(super) rates: Rates,
    pub(super) state: State,
    /// What its checks say, where it has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<status::Destination>,
}

#[derive(Debug, Serialize)]
pub(super) struct SchedulerRow {
    #[serde(flatten)]
    pub(super) scheduler: sample::Scheduler,
    pub(super) picks_per_s: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct CheckRow<'t> {
    service: &'t str,
    destination: &'t str,
    #[serde(flatten)]
    check: &'t status::Check,
}

/// All rows of a moment.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) services: Vec<ServiceRow>,
    pub(super) destinations: Vec<DestinationRow>,
    pub(super) schedulers: Vec<SchedulerRow>,
    /// Where the destinations of a service begin, and how many there are.
    by_service: HashMap<String, (usize, usize)>,
}

impl Table {
    /// The rows of a sample, with rates since the one before. `before` is of the same director, or is left out.
    pub(super) fn of(now: &sample::Answer, before: Option<(&sample::Answer, &Self)>) -> Self {
        let before = before.filter(|(sample, _)| sample.pid == now.pid);
        let seconds = before.map_or(0.0, |(sample, _)| now.uptime_s - sample.uptime_s);
        let before = before.map(|(_, table)| table);
        let mut health: HashMap<&str, &status::Health> =
            now.health.iter().map(|it| (it.service.as_str(), it)).collect();
        let services: HashMap<&str, &ServiceRow> =
            before.iter().flat_map(|it| &it.services).map(|row| (row.service.name.as_str(), row)).collect();
        let mut table = Self::default();
        for service in &now.services {
            let health = health.remove(service.name.as_str());
            let known = before.map_or(&[][..], |before| before.of_service(&service.name));
            let begin = table.destinations.len();
            table.destinations_of(service, health, known, seconds);
            let rows = &table.destinations[begin..];
            let mut forwarding: Vec<&'static str> = METHODS
                .into_iter()
                .filter(|method| rows.iter().any(|row| row.destination.forwarding == *method))
                .collect();
            forwarding.dedup();
            let (state, reason) = of_service(service, health, rows);
            table.by_service.insert(service.name.clone(), (begin, rows.len()));
            let counters = services.get(service.name.as_str()).map(|row| &row.service.counters);
            table.services.push(ServiceRow {
                rates: counters
                    .map_or_else(Rates::default, |it| Rates::between(it, &service.counters, seconds)),
                service: sample::Service { destinations: Vec::new(), ..service.clone() },
                state,
                reason,
                forwarding,
            });
        }
        let picks: HashMap<&str, u64> = before
            .iter()
            .flat_map(|it| &it.schedulers)
            .map(|row| (row.scheduler.service.as_str(), row.scheduler.module.picks))
            .collect();
        table.schedulers = now
            .schedulers
            .iter()
            .map(|it| {
                let before = picks.get(it.service.as_str());
                let picks_per_s = before.map_or(0.0, |before| rate(*before, it.module.picks, seconds));
                SchedulerRow { scheduler: it.clone(), picks_per_s }
            })
            .collect();
        table
    }

    fn destinations_of(
        &mut self,
        service: &sample::Service,
        health: Option<&status::Health>,
        before: &[DestinationRow],
        seconds: f64,
    ) {
        let health: HashMap<&str, &status::Destination> =
            health.iter().flat_map(|it| &it.destinations).map(|it| (it.destination.as_str(), it)).collect();
        let known: HashMap<&str, &DestinationRow> =
            before.iter().map(|row| (row.destination.name.as_str(), row)).collect();
        for destination in &service.destinations {
            let health = health.get(destination.name.as_str()).copied();
            let counters = known.get(destination.name.as_str()).map(|row| &row.destination.counters);
            self.destinations.push(DestinationRow {
                service: service.name.clone(),
                rates: counters
                    .map_or_else(Rates::default, |it| Rates::between(it, &destination.counters, seconds)),
                state: of_destination(destination, health),
                destination: destination.clone(),
                health: health.cloned(),
            });
        }
    }

    fn of_service(&self, name: &str) -> &[DestinationRow] {
        let (begin, count) = self.by_service.get(name).copied().unwrap_or_default();
        &self.destinations[begin..begin + count]
    }

    /// Of each service and each destination.
    pub(super) fn rates(&self) -> impl Iterator<Item = (&str, Option<&str>, &Rates)> {
        let services = self.services.iter().map(|row| (row.service.name.as_str(), None, &row.rates));
        let destinations = self
            .destinations
            .iter()
            .map(|row| (row.service.as_str(), Some(row.destination.name.as_str()), &row.rates));
        services.chain(destinations)
    }

    /// The services that are wanted, and how many there are.
    pub(super) fn find_services(&self, query: &Query) -> (Vec<&ServiceRow>, usize) {
        let all = self.services.iter().filter(|row| is_of(query, &row.service.name));
        let text = |row: &&ServiceRow| {
            let service = &row.service;
            format!(
                "{} {} {} {}",
                service.name,
                service.scheduler,
                row.state.word(),
                row.forwarding.join(" ")
            )
        };
        find(query, all, text, service_order)
    }

    /// The destinations.
    pub(super) fn find_destinations(&self, query: &Query) -> (Vec<&DestinationRow>, usize) {
        let all = query.service.as_ref().map_or(&self.destinations[..], |service| self.of_service(service));
        let text = |row: &&DestinationRow| {
            let it = &row.destination;
            format!("{} {} {} {}", row.service, it.name, it.forwarding, row.state.word())
        };
        find(query, all.iter(), text, destination_order)
    }

    /// The checks.
    pub(super) fn find_checks(&self, query: &Query) -> (Vec<CheckRow<'_>>, usize) {
        let rows = query.service.as_ref().map_or(&self.destinations[..], |service| self.of_service(service));
        let all = rows.iter().flat_map(|row| {
            let checks = row.health.iter().flat_map(|health| &health.checks);
            checks.map(|check| CheckRow { service: &row.service, destination: &row.destination.name, check })
        });
        let text = |row: &CheckRow<'_>| {
            let it = row.check;
            let last = it.last.as_deref().unwrap_or("");
            format!("{} {} {} {} {} {last}", row.service, row.destination, it.name, it.probe, it.state)
        };
        find(query, all, text, check_order)
    }

    /// The schedulers.
    pub(super) fn find_schedulers(&self, query: &Query) -> (Vec<&SchedulerRow>, usize) {
        let all = self.schedulers.iter().filter(|row| is_of(query, &row.scheduler.service));
        let text = |row: &&SchedulerRow| {
            let it = &row.scheduler;
            let trial = it.trial.as_ref().map_or("", |trial| trial.mode.as_str());
            format!("{} {} {} {trial} {}", it.service, it.scheduler, it.module.serving, it.module.origin)
        };
        find(query, all, text, scheduler_order)
    }
}

type Compare<T> = fn(&T, &T) -> Ordering;

fn service_order<'t>(column: &str) -> Option<Compare<&'t ServiceRow>> {
    Some(match column {
        "name" => |a, b| natural(&a.service.name, &b.service.name),
        "scheduler" => |a, b| a.service.scheduler.cmp(&b.service.scheduler),
        "state" => |a, b| a.state.cmp(&b.state),
        "available" => |a, b| a.service.available.cmp(&b.service.available),
        "active" => |a, b| a.service.active.cmp(&b.service.active),
        "inactive" => |a, b| a.service.inactive.cmp(&b.service.inactive),
        "connections_per_s" => |a, b| a.rates.connections_per_s.total_cmp(&b.rates.connections_per_s),
        "bytes_in_per_s" => |a, b| a.rates.bytes_in_per_s.total_cmp(&b.rates.bytes_in_per_s),
        "bytes_out_per_s" => |a, b| a.rates.bytes_out_per_s.total_cmp(&b.rates.bytes_out_per_s),
        _ => return None,
    })
}

fn destination_order<'t>(column: &str) -> Option<Compare<&'t DestinationRow>> {
    Some(match column {
        "name" => |a, b| natural(&a.destination.name, &b.destination.name),
        "service" => |a, b| natural(&a.service, &b.service),
        "forwarding" => |a, b| a.destination.forwarding.cmp(&b.destination.forwarding),
        "state" => |a, b| a.state.cmp(&b.state),
        "weight" => |a, b| a.destination.weight.cmp(&b.destination.weight),
        "active" => |a, b| a.destination.active.cmp(&b.destination.active),
        "inactive" => |a, b| a.destination.inactive.cmp(&b.destination.inactive),
        "connections_per_s" => |a, b| a.rates.connections_per_s.total_cmp(&b.rates.connections_per_s),
        "bytes_in_per_s" => |a, b| a.rates.bytes_in_per_s.total_cmp(&b.rates.bytes_in_per_s),
        "bytes_out_per_s" => |a, b| a.rates.bytes_out_per_s.total_cmp(&b.rates.bytes_out_per_s),
        _ => return None,
    })
}

fn check_order<'t>(column: &str) -> Option<Compare<CheckRow<'t>>> {
    Some(match column {
        "name" => |a, b| a.check.name.cmp(&b.check.name),
        "service" => |a, b| natural(a.service, b.service),
        "destination" => |a, b| natural(a.destination, b.destination),
        "state" => |a, b| badness(&a.check.state).cmp(&badness(&b.check.state)),
        "since_s" => |a, b| a.check.since_s.total_cmp(&b.check.since_s),
        "took_s" => |a, b| a.check.took_s.unwrap_or(-1.0).total_cmp(&b.check.took_s.unwrap_or(-1.0)),
        "failed" => |a, b| a.check.failed.cmp(&b.check.failed),
        _ => return None,
    })
}

fn scheduler_order<'t>(column: &str) -> Option<Compare<&'t SchedulerRow>> {
    Some(match column {
        "service" => |a, b| natural(&a.scheduler.service, &b.scheduler.service),
        "scheduler" => |a, b| a.scheduler.scheduler.cmp(&b.scheduler.scheduler),
        "picks_per_s" => |a, b| a.picks_per_s.total_cmp(&b.picks_per_s),
        "p99_ns" => |a, b| a.scheduler.module.p99_ns.cmp(&b.scheduler.module.p99_ns),
        "failures" => |a, b| a.failures().cmp(&b.failures()),
        _ => return None,
    })
}

impl SchedulerRow {
    fn failures(&self) -> u64 {
        self.scheduler.module.failures.values().sum()
    }
}

/// The ways of forwarding, as samples name them.
pub(super) const METHODS: [&str; 3] = ["nat", "dr", "tun"];

fn is_of(query: &Query, service: &str) -> bool {
    query.service.as_ref().is_none_or(|wanted| wanted == service)
}

/// Those that hold every word of the filter, in order, a page of them; and how many they are altogether.
fn find<T>(
    query: &Query,
    all: impl Iterator<Item = T>,
    text: impl Fn(&T) -> String,
    order: fn(&str) -> Option<Compare<T>>,
) -> (Vec<T>, usize) {
    let filter = query.filter.to_lowercase();
    let words: Vec<&str> = filter.split_whitespace().collect();
    let fits = |row: &T| {
        words.is_empty() || {
            let text = text(row).to_lowercase();
            words.iter().all(|word| text.contains(word))
        }
    };
    let mut found: Vec<T> = all.filter(fits).collect();
    if let Some(order) = query.sort.as_deref().and_then(order) {
        // It is stable: what is equal stays as the director lists it.
        match query.descending {
            true => found.sort_by(|a, b| order(b, a)),
            false => found.sort_by(order),
        }
    }
    let count = found.len();
    (found.into_iter().skip(query.offset).take(query.limit.min(LIMIT_MAX)).collect(), count)
}

/// By text, but numbers by what they are: `192.0.2.9` before `192.0.2.10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (of_a, of_b) = (digits(a), digits(b));
        if of_a > 0 && of_b > 0 {
            let (one, two) = (a[..of_a].trim_start_matches('0'), b[..of_b].trim_start_matches('0'));
            match one.len().cmp(&two.len()).then_with(|| one.cmp(two)) {
                Ordering::Equal => (a, b) = (&a[of_a..], &b[of_b..]),
                unequal => return unequal,
            }
            continue;
        }
        let (mut rest_a, mut rest_b) = (a.chars(), b.chars());
        match (rest_a.next(), rest_b.next()) {
            (Some(one), Some(two)) if one == two => (a, b) = (rest_a.as_str(), rest_b.as_str()),
            (one, two) => return one.cmp(&two),
        }
    }
}

fn badness(state: &str) -> usize {
    ["down", "cannot be made", "unchecked"].iter().position(|it| *it == state).unwrap_or(usize::MAX)
}

impl State {
    /// As in JSON.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Held => "held",
            Self::Maint => "maint",
            Self::Drain => "drain",
            Self::Full => "full",
            Self::Idle => "idle",
            Self::Unchecked => "unchecked",
            Self::Backup => "backup",
            Self::Up => "up",
        }
    }
}

fn of_destination(it: &sample::Destination, health: Option<&status::Destination>) -> State {
    let checks = health.map_or(&[][..], |health| &health.checks);
    match health {
        Some(health) if health.admin == "maint" => State::Maint,
        Some(health) if health.admin == "drain" => State::Drain,
        Some(health) if health.held_s.is_some() => State::Held,
        Some(health) if !health.in_service && checks.iter().any(|check| check.state == "down") => State::Down,
        Some(health) if !health.in_service && !checks.is_empty() => State::Unchecked,
        _ if it.overloaded => State::Full,
        Some(health) if health.backup && it.weight == 0 => State::Backup,
        _ if it.weight == 0 => State::Idle,
        _ => State::Up,
    }
}

fn of_service(
    service: &sample::Service,
    health: Option<&status::Health>,
    rows: &[DestinationRow],
) -> (State, Option<&'static str>) {
    let wanted = rows.iter().filter(|row| row.health.as_ref().is_none_or(|health| !health.backup));
    match health {
        _ if service.destinations_total == 0 => (State::Down, Some("it has no destination")),
        _ if service.available == 0 => (State::Down, Some("no destination takes new connections")),
        Some(health) if health.backup => (State::Degraded, Some("its backups serve")),
        Some(health) if health.quorum == Some(false) => (State::Degraded, Some("its quorum is lost")),
        _ if wanted.clone().any(|row| matches!(row.state, State::Down | State::Held)) => {
            (State::Degraded, Some("not all destinations are in service"))
        }
        _ if wanted.clone().any(|row| matches!(row.state, State::Full)) => {
            (State::Degraded, Some("destinations are full"))
        }
        _ => (State::Up, None),
    }
}
