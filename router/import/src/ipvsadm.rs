//! From rules of ipvsadm: what `ipvsadm -S` prints, or a script of its commands.

use core::net::IpAddr;
use std::collections::HashSet;
use std::sync::Arc;

use uvs_adm::{Command, split_words};
use uvs_director::spec::{Change, DestinationSpec, ServiceKey, ServiceSpec, Timeouts};

use crate::imported::Imported;
use crate::network::{Wish, is_no_host};
use crate::output::{Destination, Output, Service};
use crate::remark::{At, Remarks};

/// Lines that are read.
const LINES_MAX: usize = 500_000;

/// Does what the rules say, as the kernel would, and keeps what is there in the end. Names of hosts have been put into
/// addresses before ([`uvs_adm::with_addresses_in_rules`]). `name` is that of the file.
pub fn ipvsadm(rules: &str, name: &str, wish: &Wish) -> Imported {
    let file: Arc<str> = Arc::from(name.escape_debug().to_string());
    let mut table = Table::default();
    for (index, line) in rules.lines().enumerate() {
        let at = At { file: Arc::clone(&file), line: index + 1 };
        if index >= LINES_MAX {
            table.remarks.left_out(&at, format!("more than {LINES_MAX} lines: the rest is not read"));
            break;
        }
        table.line(&at, line);
    }
    let Table { services, timeouts, remarks, .. } = table;
    let mut remarks = remarks;
    let services = usable(services, &mut remarks);
    let output = Output { timeouts, services, ..Output::default() };
    Imported::new(output, wish, Vec::new(), At { file, line: 0 }, remarks)
}

#[derive(Default)]
struct Table {
    services: Vec<Service>,
    timeouts: Option<Timeouts>,
    places: std::collections::HashMap<ServiceKey, usize>,
    remarks: Remarks,
}

impl Table {
    fn line(&mut self, at: &At, line: &str) {
        let words = split_words(line);
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        if words.first().is_some_and(|word| *word == "sudo") {
            words.remove(0);
        }
        // A script has the command in front.
        if words.first().is_some_and(|word| word.rsplit('/').next() == Some("ipvsadm")) {
            words.remove(0);
        }
        if words.is_empty() {
            return;
        }
        match uvs_adm::parse(&words) {
            Ok(Command::Change(change)) => self.change(at, change),
            Ok(Command::SetTimeouts { tcp, tcp_fin, udp }) => {
                let old = self.timeouts.unwrap_or_default();
                self.timeouts = Some(Timeouts {
                    tcp: tcp.unwrap_or(old.tcp),
                    tcp_fin: tcp_fin.unwrap_or(old.tcp_fin),
                    udp: udp.unwrap_or(old.udp),
                });
            }
            Ok(Command::StartDaemon(_) | Command::StopDaemon(_)) => {
                self.remarks.left_out(at, "connections are not synchronised between directors");
            }
            Ok(_) => self.remarks.left_out(at, format!("{:?} changes no service", words.join(" "))),
            Err(failure) => {
                let reason = failure.message.lines().next().unwrap_or_default().to_owned();
                self.remarks.source(at, format!("{:?} is refused: {reason}", words.join(" ")));
            }
        }
    }

    fn change(&mut self, at: &At, change: Change) {
        let refused = match change {
            Change::AddService(spec) => self.add(at, spec),
            Change::EditService(spec) => match self.places.get(&spec.key) {
                Some(index) => {
                    self.services[*index].spec = spec;
                    None
                }
                None => Some("there is no such service"),
            },
            Change::RemoveService(key) => match self.places.remove(&key) {
                Some(index) => {
                    self.services.remove(index);
                    self.places.values_mut().filter(|place| **place > index).for_each(|place| *place -= 1);
                    None
                }
                None => Some("there is no such service"),
            },
            Change::Flush => {
                self.services.clear();
                self.places.clear();
                None
            }
            Change::AddDestination(key, spec) => self.destination(&key, |all| {
                let fault =
                    refusal(&spec).or_else(|| place(all, &spec).map(|_| "the destination is there already"));
                if fault.is_none() {
                    all.push(Destination::new(spec));
                }
                fault
            }),
            Change::EditDestination(key, spec) => self.destination(&key, |all| {
                let Some(index) = place(all, &spec) else { return Some("there is no such destination") };
                let fault = refusal(&spec);
                if fault.is_none() {
                    all[index].spec = spec;
                }
                fault
            }),
            Change::RemoveDestination(key, addr) => self.destination(&key, |all| {
                let before = all.len();
                all.retain(|destination| destination.spec.addr != addr);
                (all.len() == before).then_some("there is no such destination")
            }),
            // Counters are not kept.
            _ => None,
        };
        if let Some(reason) = refused {
            self.remarks.source(at, format!("the line is refused: {reason}"));
        }
    }

    fn add(&mut self, at: &At, mut spec: ServiceSpec) -> Option<&'static str> {
        if self.places.contains_key(&spec.key) {
            return Some("the service is there already");
        }
        if let Some(persistence) = &mut spec.persistence
            && persistence.engine.take().is_some()
        {
            self.remarks.left_out(at, "--pe: clients stick by their address, not by Call-ID");
        }
        self.places.insert(spec.key, self.services.len());
        self.services.push(Service {
            at: Some(at.clone()),
            spec,
            destinations: Vec::new(),
            checks: Vec::new(),
            health: None,
        });
        None
    }

    fn destination(
        &mut self,
        key: &ServiceKey,
        change: impl FnOnce(&mut Vec<Destination>) -> Option<&'static str>,
    ) -> Option<&'static str> {
        match self.places.get(key) {
            Some(index) => change(&mut self.services[*index].destinations),
            None => Some("there is no such service"),
        }
    }
}

fn place(all: &[Destination], spec: &DestinationSpec) -> Option<usize> {
    all.iter().position(|destination| destination.spec.addr == spec.addr)
}

fn refusal(spec: &DestinationSpec) -> Option<&'static str> {
    (spec.lower_threshold > spec.upper_threshold).then_some("the lower threshold is above the upper one")
}

/// Without destinations that cannot be any here.
fn usable(mut services: Vec<Service>, remarks: &mut Remarks) -> Vec<Service> {
    let vips: HashSet<IpAddr> = services
        .iter()
        .filter_map(|service| match service.spec.key {
            ServiceKey::Address { addr, .. } => Some(addr.ip()),
            ServiceKey::Mark { .. } => None,
        })
        .collect();
    for service in &mut services {
        let Some(at) = service.at.clone() else { continue };
        let key = service.spec.key;
        service.destinations.retain(|destination| {
            let ip = destination.spec.addr.ip();
            let fits = !is_no_host(ip) && !vips.contains(&ip);
            if !fits {
                let text = format!(
                    "destination {ip} of {key} is on the director itself, or an address that no host has"
                );
                remarks.left_out(&at, text);
            }
            fits
        });
    }
    services
}
