//! What is to be checked, as the file says it: each check of each service at each destination.

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use uvs_check::net::{Target, Via};
use uvs_check::spec::{CheckPlan, DestinationPlan, Exec, Kind, Plan, Policy, ProbeSpec, Quorum, ServicePlan};
use uvs_check::weight::Admin;
use uvs_director::spec::{DestinationSpec, ServiceKey};

use crate::model::{Check, CheckVia, Config, Health, Service};

impl Config {
    /// What is to be checked. Services without checks or `[service.health]` are in it for their weights alone.
    pub fn plan(&self) -> Plan {
        let services = self.services.iter();
        Plan { services: services.map(|service| self.service_plan(service)).collect(), drain: self.drain }
    }

    fn service_plan(&self, service: &Service) -> ServicePlan {
        let health = service.health.as_ref();
        let checks_of = |health: &Health, spec: &DestinationSpec| {
            let checks = health.checks_of(spec.addr).iter().map(|index| &self.checks[*index]);
            checks.map(|check| check_plan(check, service.spec.key, health, spec.addr)).collect()
        };
        let destination = |spec: &DestinationSpec| DestinationPlan {
            addr: spec.addr,
            weight: Some(spec.weight),
            adm: None,
            admin: Admin::Ready,
            backup: health.is_some_and(|health| health.backups.contains(&spec.addr)),
            serves: false,
            checks: health.map_or_else(Vec::new, |health| checks_of(health, spec)),
        };
        ServicePlan {
            key: service.spec.key,
            quorum: health.map_or_else(Quorum::default, |health| health.quorum),
            policy: Policy {
                drain: service.drain,
                ..health.map_or_else(Policy::default, |health| health.policy)
            },
            judged: health.is_some(),
            destinations: service.destinations.iter().map(destination).collect(),
        }
    }
}

fn check_plan(check: &Check, service: ServiceKey, health: &Health, destination: SocketAddr) -> CheckPlan {
    let own = health.overrides.get(&destination);
    let port = own.and_then(|own| own.port).or(check.port);
    let mut kind = check.kind.clone();
    let asks = match &mut kind {
        Kind::Passive(passive) => &mut *passive.confirm,
        kind => kind,
    };
    if let (Kind::Http(http), Some(own)) = (&mut *asks, own) {
        http.host = own.host.clone().or_else(|| http.host.take());
        http.path = own.path.clone().unwrap_or_else(|| core::mem::take(&mut http.path));
    }
    if let (Kind::Grpc(grpc), Some(own)) = (&mut *asks, own) {
        grpc.host = own.host.clone().or_else(|| grpc.host.take());
    }
    if let Kind::Exec(exec) = &mut *asks {
        *exec = Arc::new(expanded(exec, service, destination));
    }
    let has_port = !matches!(asks, Kind::File(_) | Kind::Exec(_) | Kind::Ping(_));
    // An agent is not what clients talk to, so it is asked directly.
    let agent = matches!(kind, Kind::Agent { .. });
    let (address, via, usual) = match (health.via, service) {
        (CheckVia::Service, ServiceKey::Address { addr, .. }) if !agent => {
            (addr.ip(), Via::Service { service, destination }, addr.port())
        }
        (CheckVia::Service, ServiceKey::Mark { .. }) if !agent => {
            (destination.ip(), Via::Service { service, destination }, destination.port())
        }
        _ => (destination.ip(), Via::Direct, destination.port()),
    };
    // Who asks nobody over the network, or asks without a port, is the same whatever the port is.
    let target = if has_port { port.unwrap_or(usual) } else { 0 };
    let target = Target { address, port: target, source: check.source, mark: check.mark, via };
    CheckPlan {
        name: Arc::clone(&check.name),
        probe: Arc::new(ProbeSpec { kind, target, schedule: check.schedule }),
        rise: check.rise,
        fall: check.fall,
        unmade: check.unmade,
    }
}

/// The program with what stands for placeholders, in its arguments and its environment.
fn expanded(exec: &Exec, service: ServiceKey, destination: SocketAddr) -> Exec {
    let (vip, vport, protocol) = match service {
        ServiceKey::Address { protocol, addr } => {
            (addr.ip().to_string(), addr.port().to_string(), protocol.to_string())
        }
        ServiceKey::Mark { mark, .. } => (String::new(), "0".to_owned(), format!("fwmark {mark}")),
    };
    let rip: IpAddr = destination.ip();
    let values = [
        ("rip", rip.to_string()),
        ("rport", destination.port().to_string()),
        ("vip", vip),
        ("vport", vport),
        ("protocol", protocol),
    ];
    let expand = |word: &String| {
        let all = values.iter();
        all.fold(word.clone(), |word, (name, value)| word.replace(&format!("{{{name}}}"), value))
    };
    let environment =
        values.iter().map(|(name, value)| (format!("UVS_{}", name.to_uppercase()), value.clone()));
    Exec {
        command: exec.command.iter().map(expand).collect(),
        user: exec.user.clone(),
        dynamic: exec.dynamic,
        environment: environment.chain([("UVS_SERVICE".to_owned(), service.to_string())]).collect(),
    }
}
