//! A configuration as text again: what its files say, with the services, options and timeouts that it has by now.

use core::net::SocketAddr;

use toml::{Table, Value};
use uvs_director::spec::{Options, Timeouts};

use crate::entries::{self, Entries};
use crate::include::INCLUDE;
use crate::model::{Config, Service};
use crate::options::{OptionValue, option_values};
use crate::written::whole;

/// What is written anew.
const ANEW: &[&str] = &[INCLUDE, "compat", "transit", "timeouts", "options", "service"];

impl Config {
    /// The text of a configuration that is this one, in one file. `read` is the same as it was read: what services have
    /// beside what the director knows (checks, health, trials) is taken from there.
    ///
    /// Paths are absolute. Comments are not kept.
    pub fn to_toml(&self, read: &Self) -> String {
        let mut root = whole(read);
        let services = match root.remove("service") {
            Some(Value::Array(services)) => services,
            _ => Vec::new(),
        };
        let drain = root.get("timeouts").and_then(|it| it.get("drain")).cloned();
        root.retain(|key, _| !ANEW.contains(&key));
        let Timeouts { tcp, tcp_fin, udp } = self.timeouts;
        let timeouts = [("tcp", tcp), ("tcp_fin", tcp_fin), ("udp", udp)];
        let timeouts = timeouts.map(|(key, time)| (key.to_owned(), integer(time.as_secs())));
        let drain = drain.map(|drain| ("drain".to_owned(), drain));
        root.insert("timeouts".to_owned(), Value::Table(timeouts.into_iter().chain(drain).collect()));
        options(&self.options, &mut root);
        let written = self.services.iter().map(|service| {
            let place = read.services.iter().position(|it| it.spec.key == service.spec.key);
            let known =
                place.and_then(|place| Some((&read.services[place], services.get(place)?.as_table()?)));
            Value::Table(self.service(service, known))
        });
        let written: Vec<Value> = written.collect();
        if !written.is_empty() {
            root.insert("service".to_owned(), Value::Array(written));
        }
        toml::to_string(&root).expect("what was read from TOML, and numbers and words, can be written")
    }

    /// `known`: the same service as the file has it, read and as a table.
    fn service(&self, service: &Service, known: Option<(&Service, &Table)>) -> Table {
        let spec = &service.spec;
        let mut table = tabled(entries::service(spec));
        let mut put = |key: &str, value: Value| table.insert(key.to_owned(), value);
        // One that the file defines may have options, which are those of services that say nothing.
        if spec.scheduler.options.is_empty()
            && self.schedulers.iter().any(|scheduler| scheduler.name == spec.scheduler.name)
        {
            put("options", text(""));
        }
        if spec.sloppy_tcp {
            put("sloppy_tcp", Value::Boolean(true));
        }
        if let Some(trial) = &service.trial {
            match trial.percent {
                None => put("shadow", text(trial.scheduler.clone())),
                Some(percent) => {
                    let canary =
                        [("module", text(trial.scheduler.clone())), ("percent", integer(percent.into()))];
                    put(
                        "canary",
                        Value::Table(
                            canary.map(|(key, value)| (key.to_owned(), value)).into_iter().collect(),
                        ),
                    )
                }
            };
        }
        for key in ["forward", "tunnel", "checks", "drain"] {
            if let Some(value) = known.and_then(|(_, table)| table.get(key)) {
                put(key, value.clone());
            }
        }
        let there = |addr: &SocketAddr| service.destinations.iter().any(|spec| spec.addr == *addr);
        let backups =
            known.and_then(|(read, _)| Some(read.health.as_ref()?.backups.as_slice())).unwrap_or(&[]);
        if let Some(Value::Table(health)) = known.and_then(|(_, table)| table.get("health")) {
            let mut health = health.clone();
            if let Some(Value::Array(entries)) = health.get_mut("backup") {
                let mut place = 0..;
                entries.retain(|_| place.next().and_then(|at: usize| backups.get(at)).is_none_or(there));
            }
            put("health", Value::Table(health));
        }
        let destinations = service.destinations.iter().filter(|spec| !backups.contains(&spec.addr));
        let destinations: Vec<Value> = destinations
            .map(|spec| {
                let mut table = tabled(entries::destination(spec, service.spec.key, None));
                // Its place in the file, where it has one.
                let there = known.and_then(|(read, table)| {
                    let place = read.destinations.iter().position(|it| it.addr == spec.addr)?;
                    table.get("destination")?.as_array()?.get(place)
                });
                for key in ["check", "checks"] {
                    if let Some(value) = there.and_then(|there| there.get(key)) {
                        table.insert(key.to_owned(), value.clone());
                    }
                }
                Value::Table(table)
            })
            .collect();
        if !destinations.is_empty() {
            put("destination", Value::Array(destinations));
        }
        table
    }
}

fn tabled(entries: Entries) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// `compat`, `transit` and `[options]`.
fn options(options: &Options, root: &mut Table) {
    let value = |value| match value {
        OptionValue::Number(number) => integer(number),
        OptionValue::Switch(on) => Value::Boolean(on),
        OptionValue::Word(word) => text(word),
    };
    let mut table = Table::new();
    for (key, option) in option_values(options) {
        let place = if matches!(key, "compat" | "transit") { &mut *root } else { &mut table };
        place.insert(key.to_owned(), value(option));
    }
    root.insert("options".to_owned(), Value::Table(table));
}

fn text(text: impl Into<String>) -> Value {
    Value::String(text.into())
}

fn integer(value: u64) -> Value {
    Value::Integer(entries::integer(value))
}
