//! Keeping the host as it was set up: what others take away is made again.

use super::HostState;
use crate::net::NetError;

/// Something of the host was not as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, as in `eth0 in bridge br0`.
    pub what: String,
    /// The links that it is about.
    pub links: Vec<String>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of something that was not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is again.
    Repaired,
    /// It could not be made again, for this reason.
    Broken(String),
}

impl Finding {
    /// Adds what came of one step, unless all was well.
    pub(super) fn note(found: &mut Vec<Self>, what: String, links: &[&str], kept: Result<bool, NetError>) {
        let outcome = match kept {
            Ok(false) => return,
            Ok(true) => Outcome::Repaired,
            Err(error) => Outcome::Broken(error.to_string()),
        };
        found.push(Self { what, links: links.iter().map(|&link| link.to_owned()).collect(), outcome });
    }
}

impl HostState {
    /// Looks at everything that the plan wants, makes again what is missing, and returns what was not as wanted.
    /// Harmless to call at any time; when the future is dropped, a step under way may still be done, and will be undone
    /// in the end.
    ///
    /// What is missing because its link is, is made once a link of that name is there.
    pub async fn keep(&mut self) -> Vec<Finding> {
        let mut found = Vec::new();
        let plan = self.plan.clone();
        for bridge in &plan.bridges {
            let name = &bridge.name;
            let kept = self.ensure_bridge(name).await;
            let is_there = kept.is_ok();
            Finding::note(&mut found, format!("bridge {name}"), &[name], kept);
            // A port in two bridges belongs into the last, as when they were set up.
            let is_last = |port: &String| {
                let has = |bridge: &&super::Bridge| bridge.ports.contains(port) || bridge.taps.contains(port);
                plan.bridges.iter().rfind(has).is_some_and(|last| last.name == *name)
            };
            let ports = bridge.ports.iter().chain(&bridge.taps).filter(|port| is_there && is_last(port));
            for port in ports {
                let kept = self.ensure_port(port, name).await;
                Finding::note(&mut found, format!("{port} in bridge {name}"), &[port, name], kept);
            }
        }
        for name in &plan.up {
            let kept = self.ensure_up(name).await;
            Finding::note(&mut found, format!("{name} up"), &[name], kept);
        }
        for (name, address) in &plan.addresses {
            let kept = self.ensure_address(name, *address).await;
            Finding::note(&mut found, format!("address {address} on {name}"), &[name], kept);
        }
        if !plan.forwarding.is_empty() {
            let links: Vec<&str> = plan.forwarding.iter().map(String::as_str).collect();
            let kept = self.ensure_forwarding(&plan.forwarding, plan.has_ipv6()).await;
            Finding::note(&mut found, format!("forwarding between {}", links.join(", ")), &links, kept);
        }
        for (to, device) in &plan.routes {
            let kept = self.ensure_route(*to, device).await;
            Finding::note(&mut found, format!("route to {to} out of {device}"), &[device], kept);
        }
        self.keep_steered(&mut found).await;
        found
    }
}
