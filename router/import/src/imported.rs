//! What an import comes to.

use std::collections::BTreeSet;

use crate::model::Hint;
use crate::network::{self, Wish};
use crate::output::Output;
use crate::remark::{At, Remark, Remarks};

/// What a check of the configuration says of a line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// A sentence.
    pub what: String,
}

/// A configuration of uvs, and what was told on the way.
#[derive(Debug)]
pub struct Imported {
    output: Output,
    wish: Wish,
    hints: Vec<Hint>,
    /// Of the file as a whole.
    at: At,
    remarks: Remarks,
    refused: usize,
}

impl Imported {
    pub(crate) fn new(output: Output, wish: &Wish, hints: Vec<Hint>, at: At, remarks: Remarks) -> Self {
        Self { output, wish: wish.clone(), hints, at, remarks, refused: 0 }
    }

    /// Leaves out each service that `judge` finds fault with, and plans the network for the rest. `judge` is given the
    /// TOML, and is asked again as long as something was left out.
    ///
    /// # Errors
    /// Faults that are in no service.
    pub fn judged(mut self, judge: &mut dyn FnMut(&str) -> Vec<Fault>) -> Result<Done, Vec<Fault>> {
        loop {
            let (network, complete) = network::plan(&self.output.services, &self.wish, &self.hints);
            self.output.network = Some(network).filter(|network| !network.arms.is_empty());
            let toml = self.output.toml();
            let faults = if self.output.network.is_some() { judge(&toml) } else { Vec::new() };
            if faults.is_empty() {
                self.tell_of_network(complete);
                let destinations =
                    self.output.services.iter().map(|service| service.destinations.len()).sum();
                return Ok(Done {
                    services: self.output.services.len(),
                    destinations,
                    checks: self.output.checks.len(),
                    refused: self.refused,
                    remarks: self.remarks.finish(),
                    toml,
                });
            }
            let starts: Vec<usize> = toml
                .lines()
                .enumerate()
                .filter(|(_, line)| *line == "[[service]]")
                .map(|(index, _)| index + 1)
                .collect();
            let mut wrong = BTreeSet::new();
            let mut others = Vec::new();
            for fault in faults {
                // The service is the last that begins up to that line.
                match starts.partition_point(|start| *start <= fault.line).checked_sub(1) {
                    Some(index) if index < self.output.services.len() => {
                        if wrong.insert(index) {
                            self.refused += 1;
                            let service = &self.output.services[index];
                            let at = service.at.as_ref().unwrap_or(&self.at);
                            self.remarks.left_out(at, format!("{}: {}", service.spec.key, fault.what));
                        }
                    }
                    _ => others.push(fault),
                }
            }
            if wrong.is_empty() {
                return Err(others);
            }
            let mut index = 0;
            self.output.services.retain(|_| {
                index += 1;
                !wrong.contains(&(index - 1))
            });
            self.forget_unused_checks();
        }
    }

    fn forget_unused_checks(&mut self) {
        let used: BTreeSet<usize> =
            self.output.services.iter().flat_map(|service| service.checks.iter().copied()).collect();
        let order: Vec<usize> = used.into_iter().collect();
        let place = |old: usize| order.partition_point(|index| *index < old);
        for service in &mut self.output.services {
            for check in &mut service.checks {
                *check = place(*check);
            }
        }
        self.output.checks = order.iter().map(|index| self.output.checks[*index].clone()).collect();
    }

    fn tell_of_network(&mut self, complete: bool) {
        let Some(network) = &self.output.network else {
            let text = "there is nothing to serve: no service was found, and no [[interface]] is written";
            self.remarks.left_out(&self.at, text);
            return;
        };
        let routed = !network.gateways.is_empty();
        if let [_, _, ..] = &network.arms[..]
            && network.arms.iter().all(|arm| arm.attached.is_none())
        {
            let text = "clients and real servers are on different networks: each has an interface; name their cards by \
                        --link, or their bridges by --bridge, once for each";
            self.remarks.different(&self.at, text);
        }
        if complete && routed {
            return;
        }
        let missing = match (complete, routed) {
            (true, _) => "no [[route]] to clients in other networks (--gateway)",
            (false, true) => "subnets of real servers are guessed (--address)",
            (false, false) => {
                "subnets are guessed (--address), and there is no [[route]] to clients in other networks (--gateway)"
            }
        };
        let text = format!("the kernel's addresses and routes are not in this file: {missing}");
        self.remarks.different(&self.at, text);
    }
}

/// What is written and told in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The configuration.
    pub toml: String,
    /// By file and line.
    pub remarks: Vec<Remark>,
    /// How many services there are in it.
    pub services: usize,
    /// And destinations, without backups.
    pub destinations: usize,
    /// And checks.
    pub checks: usize,
    /// Services that were left out because the check of the configuration finds fault with them.
    pub refused: usize,
}
