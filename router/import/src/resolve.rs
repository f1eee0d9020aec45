//! From virtual servers to services: inheritance, groups, and what keepalived mends.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, HashMap, HashSet};

use uvs_director::Duration;
use uvs_director::spec::{
    DestinationSpec, Family, Forwarding, Persistence, Protocol, SchedulerSpec, ServiceKey, ServiceSpec,
};

use crate::checks::{self, Around, Made};
use crate::group::nth;
use crate::model::{Conf, Entry, Name, Real, Virtual};
use crate::network::is_no_host;
use crate::output::{CheckKeys, Destination, Health, Own, Service};
use crate::remark::{At, Remarks};
use crate::scripts::{self, Scripts};

/// Services that come out of one file.
const SERVICES_MAX: usize = 20_000;

/// Services so far, and the checks that they name.
#[derive(Default)]
pub(crate) struct Resolved {
    pub(crate) services: Vec<Service>,
    pub(crate) checks: Vec<(String, CheckKeys)>,
    pub(crate) scripts: Scripts,
    by_text: HashMap<String, usize>,
    of_type: HashMap<String, usize>,
}

impl Resolved {
    /// The place of a check, which is there once.
    fn check(&mut self, keys: CheckKeys) -> usize {
        let text = checks::text(&keys);
        if let Some(index) = self.by_text.get(&text) {
            return *index;
        }
        let kind = keys.first().and_then(|(_, value)| value.as_str()).unwrap_or("check").to_owned();
        let count = self.of_type.entry(kind.clone()).or_default();
        *count += 1;
        let name = if *count == 1 { kind } else { format!("{kind}-{count}") };
        self.checks.push((name, keys));
        self.by_text.insert(text, self.checks.len() - 1);
        self.checks.len() - 1
    }
}

/// All services of a configuration.
pub(crate) fn resolve(conf: &Conf, remarks: &mut Remarks) -> Resolved {
    let mut keyed: Vec<(&Virtual, ServiceKey)> = Vec::new();
    let mut seen: HashSet<ServiceKey> = HashSet::new();
    for server in &conf.virtuals {
        for key in keys(server, conf, remarks) {
            if keyed.len() >= SERVICES_MAX {
                remarks
                    .left_out(&server.at, format!("more than {SERVICES_MAX} services: the rest is left out"));
                break;
            }
            if seen.insert(key) {
                keyed.push((server, key));
            } else {
                remarks
                    .source(&server.at, format!("a second virtual server for {key}: the first one serves"));
            }
        }
    }
    let vips: HashSet<IpAddr> = keyed.iter().filter_map(|(_, key)| vip(*key)).collect();
    let mut resolved = Resolved::default();
    // The services of a group differ in nothing but their keys, and so do most remarks about them.
    for (server, key) in keyed {
        let one = Resolver { server, key, conf, vips: &vips };
        if let Some(service) = one.service(&mut resolved, remarks) {
            resolved.services.push(service);
        }
    }
    resolved
}

fn vip(key: ServiceKey) -> Option<IpAddr> {
    match key {
        ServiceKey::Address { addr, .. } => Some(addr.ip()),
        ServiceKey::Mark { .. } => None,
    }
}

/// What a virtual server is the service of.
fn keys(server: &Virtual, conf: &Conf, remarks: &mut Remarks) -> Vec<ServiceKey> {
    let protocol = server.protocol.unwrap_or(Protocol::Udp);
    let of_reals = || server.reals.first().map_or(Family::V4, |real| Family::of(real.ip));
    let mark = |mark: u32, family: Option<Family>| ServiceKey::Mark {
        mark,
        family: family.or(server.family).unwrap_or_else(of_reals),
    };
    let found = match &server.name {
        Name::Address(ip, port) => vec![ServiceKey::new(protocol, SocketAddr::new(*ip, *port))],
        Name::Mark(number) => vec![mark(*number, None)],
        Name::Group(name) => {
            let Some(group) = conf.groups.get(name) else {
                let text =
                    format!("there is no virtual_server_group {name}: the virtual server does not run");
                remarks.source(&server.at, text);
                return Vec::new();
            };
            let mut keys = Vec::new();
            for (at, entry) in &group.entries {
                match entry {
                    Entry::Mark { mark: number, family } => keys.push(mark(*number, *family)),
                    Entry::Addresses { first, more, port } => {
                        if *more >= SERVICES_MAX as u128 {
                            let text = format!(
                                "the entry has more than {SERVICES_MAX} addresses: use a firewall mark"
                            );
                            remarks.left_out(at, text);
                            continue;
                        }
                        let addresses = (0..=*more).filter_map(|index| nth(*first, index));
                        keys.extend(
                            addresses.map(|ip| ServiceKey::new(protocol, SocketAddr::new(ip, *port))),
                        );
                    }
                }
            }
            keys
        }
    };
    if server.protocol.is_none() && found.iter().any(|key| matches!(key, ServiceKey::Address { .. })) {
        remarks.source(&server.at, "no protocol: UDP runs, which is what keepalived takes then");
    }
    let usable = |key: &ServiceKey| match key {
        ServiceKey::Mark { mark: 0, .. } => Some("firewall mark 0 is no mark".to_owned()),
        ServiceKey::Address { addr, .. } if is_no_host(addr.ip()) => {
            Some(format!("{} is an address that no host has", addr.ip()))
        }
        _ => None,
    };
    let mut kept = Vec::new();
    for key in found {
        match usable(&key) {
            None => kept.push(key),
            Some(fault) => remarks.left_out(&server.at, fault),
        }
    }
    kept
}

struct Resolver<'r> {
    server: &'r Virtual,
    key: ServiceKey,
    conf: &'r Conf,
    vips: &'r HashSet<IpAddr>,
}

impl Resolver<'_> {
    fn service(&self, resolved: &mut Resolved, remarks: &mut Remarks) -> Option<Service> {
        let (server, at) = (self.server, &self.server.at);
        let mut kept: Vec<(&Real, DestinationSpec)> = Vec::new();
        let mut seen = HashSet::new();
        for real in &server.reals {
            let Some(spec) = self.destination(real, remarks) else { continue };
            if seen.insert(spec.addr) {
                kept.push((real, spec));
            } else {
                remarks.source(&real.at, format!("a second real_server {}: it is ignored", spec.addr));
            }
        }
        if kept.is_empty() {
            let text = format!("{} has no real server: it does not run", self.key);
            remarks.source(at, text);
            return None;
        }
        let mut destinations: Vec<Destination> =
            kept.iter().map(|(_, spec)| Destination::new(*spec)).collect();
        let (checks, alpha) = self.checks(&kept, &mut destinations, resolved, remarks);
        let backups = self.backup(&seen, remarks);
        if !backups.is_empty() && checks.is_empty() {
            let text =
                "sorry_server without any check of a real server: it would never serve, and is left out";
            remarks.left_out(at, text);
        }
        if checks.is_empty() {
            scripts::never_run(server, remarks);
        } else {
            resolved.scripts.of_server(server, self.key, remarks);
            for (real, spec) in &kept {
                resolved.scripts.of_real(real, spec.addr, (self.key, server.omega), remarks);
            }
        }
        let health = (!checks.is_empty()).then(|| self.health(alpha, backups, &kept, remarks));
        Some(Service { at: Some(at.clone()), spec: self.spec(remarks), destinations, checks, health })
    }

    fn family(&self) -> Family {
        match self.key {
            ServiceKey::Address { addr, .. } => Family::of(addr.ip()),
            ServiceKey::Mark { family, .. } => family,
        }
    }

    /// The one port of the service; `None`: packets keep theirs.
    fn port(&self) -> Option<u16> {
        match self.key {
            ServiceKey::Address { addr, .. } => Some(addr.port()).filter(|port| *port != 0),
            ServiceKey::Mark { .. } => None,
        }
    }

    fn spec(&self, remarks: &mut Remarks) -> ServiceSpec {
        let (server, at) = (self.server, &self.server.at);
        let name = server.scheduler.clone().unwrap_or_else(|| "wlc".to_owned());
        let words = match name.as_str() {
            "sh" => ["sh-fallback", "sh-port", "flag-3"],
            "mh" => ["mh-fallback", "mh-port", "flag-3"],
            _ => ["flag-1", "flag-2", "flag-3"],
        };
        let used = server.flags.iter().zip(words).filter(|(flag, _)| **flag).map(|(_, word)| word);
        let (known, other): (Vec<&str>, Vec<&str>) = used.partition(|word| !word.starts_with("flag-"));
        if !other.is_empty() {
            remarks.left_out(at, format!("{} says nothing to scheduler {name}", other.join(", ")));
        }
        let scheduler = SchedulerSpec { name, options: known.join(",") };
        let mut seconds = server.persistence;
        if seconds.is_none() && matches!(self.key, ServiceKey::Address { addr, .. } if addr.port() == 0) {
            remarks.source(at, "a virtual server for all ports needs persistence: 360 s are set");
            seconds = Some(360);
        }
        let whole = if self.family() == Family::V4 { 32 } else { 128 };
        let prefix_len = server.prefix_len.unwrap_or(whole);
        if prefix_len > whole {
            remarks.source(at, format!("persistence_granularity {prefix_len} is none of an IPv4 address"));
        }
        let persistence = seconds.map(|seconds| Persistence {
            timeout: Duration::from_secs(seconds),
            prefix_len: prefix_len.min(whole),
            engine: None,
        });
        let takes_ops =
            matches!(self.key, ServiceKey::Mark { .. } | ServiceKey::Address { protocol: Protocol::Udp, .. });
        if let Some(at) = server.one_packet.as_ref().filter(|_| !takes_ops) {
            remarks.source(at, "ops is for UDP and firewall marks only: it is ignored");
        }
        let one_packet = server.one_packet.is_some() && takes_ops;
        ServiceSpec { persistence, one_packet, ..ServiceSpec::new(self.key, scheduler) }
    }

    /// What no destination can be, which is told.
    fn is_unusable(
        &self,
        ip: IpAddr,
        method: Forwarding,
        at: &At,
        what: &str,
        remarks: &mut Remarks,
    ) -> bool {
        if Family::of(ip) != self.family() && !matches!(method, Forwarding::Tunnel(_)) {
            remarks.source(at, format!("{what} {ip} is of another family than {}: it is ignored", self.key));
        } else if ip.is_loopback() || self.vips.contains(&ip) {
            let text = format!(
                "{what} {ip} is on the director itself, whose own processes are no destinations here"
            );
            remarks.left_out(at, text);
        } else if is_no_host(ip) {
            remarks.left_out(
                at,
                format!("{what} {ip} is an address that no host has, or that a link has to go with"),
            );
        } else {
            return false;
        }
        true
    }

    fn place(
        &self,
        ip: IpAddr,
        port: Option<u16>,
        method: Forwarding,
        at: &At,
        remarks: &mut Remarks,
    ) -> SocketAddr {
        let port = match (self.key, method) {
            (ServiceKey::Mark { .. }, Forwarding::Nat) => port.unwrap_or(0),
            (ServiceKey::Mark { .. }, _) => 0,
            (ServiceKey::Address { .. }, Forwarding::Nat) => match self.port() {
                Some(own) => port.unwrap_or(own),
                None => 0,
            },
            (ServiceKey::Address { .. }, _) => {
                let own = self.port().unwrap_or(0);
                if let Some(port) = port.filter(|port| *port != own && own != 0) {
                    let text = format!("port {port}: DR and TUN cannot change a port, and {own} runs");
                    remarks.source(at, text);
                }
                own
            }
        };
        SocketAddr::new(ip, port)
    }

    fn destination(&self, real: &Real, remarks: &mut Remarks) -> Option<DestinationSpec> {
        let method = real.method.or(self.server.method).unwrap_or(Forwarding::Nat);
        if self.is_unusable(real.ip, method, &real.at, "real_server", remarks) {
            return None;
        }
        let addr = self.place(real.ip, real.port, method, &real.at, remarks);
        let weight = real.weight.or(self.server.weight).unwrap_or(1);
        let bound = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).min(DestinationSpec::WEIGHT_MAX);
        let (mut upper, mut lower) = (bound(real.upper), bound(real.lower));
        if lower > upper {
            let text =
                "lthreshold above uthreshold: IPVS refuses that real server; here it has no thresholds";
            remarks.source(&real.at, text);
            (upper, lower) = (0, 0);
        }
        let spec = DestinationSpec::new(addr, method);
        Some(DestinationSpec {
            weight: bound(weight),
            upper_threshold: upper,
            lower_threshold: lower,
            ..spec
        })
    }

    /// The checks of the service, which are those that most destinations have, and whether they start as failed. The
    /// others get their own.
    fn checks(
        &self,
        kept: &[(&Real, DestinationSpec)],
        destinations: &mut [Destination],
        resolved: &mut Resolved,
        remarks: &mut Remarks,
    ) -> (Vec<usize>, bool) {
        let made: Vec<Vec<Made>> = kept.iter().map(|(real, spec)| self.made(real, spec, remarks)).collect();
        let likeness: Vec<String> =
            made.iter().map(|all| all.iter().map(Made::likeness).collect::<Vec<_>>().join("|")).collect();
        // What most have, the first of them where several are as many.
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (index, likeness) in likeness.iter().enumerate().filter(|(_, likeness)| !likeness.is_empty()) {
            counts.entry(likeness).or_insert((0, index)).0 += 1;
        }
        let most = counts.values().max_by_key(|(count, index)| (*count, usize::MAX - index));
        let Some((_, first)) = most.copied() else { return (Vec::new(), false) };
        let template = &made[first];
        let mut places = |all: &[Made]| {
            let mut places = Vec::new();
            for one in all {
                let place = resolved.check(one.whole());
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            places
        };
        let common = places(template);
        // Where each real server asks the same, the check says it; else each destination does.
        let alike = |all: &Vec<Made>| all.iter().map(|one| one.own.clone()).collect::<Vec<_>>();
        let shared = alike(template);
        for ((index, all), (_, spec)) in made.iter().enumerate().zip(kept) {
            let like = likeness[index] == likeness[first];
            if like && alike(all) == shared {
                continue;
            }
            match own_of(template, all, spec.addr.port()).filter(|_| like) {
                Some(own) => destinations[index].own = own,
                None => destinations[index].checks = Some(places(all)),
            }
        }
        let alphas: Vec<bool> = made.iter().flatten().map(|one| one.alpha).collect();
        let alpha = alphas.contains(&true);
        if alpha && alphas.contains(&false) {
            let text = "alpha at some checks and not at others: here all destinations start as failed";
            remarks.different(&self.server.at, text);
        }
        (common, alpha)
    }

    fn made(&self, real: &Real, spec: &DestinationSpec, remarks: &mut Remarks) -> Vec<Made> {
        let port = match self.key {
            // What runs is the service's port, and yet the checker asks for the one that is written.
            ServiceKey::Mark { .. } => real.port,
            ServiceKey::Address { .. } if spec.addr.port() == 0 => real.port,
            ServiceKey::Address { .. } => Some(spec.addr.port()),
        };
        let around = Around {
            timing: real.timing.or(self.server.timing),
            server_host: self.server.host.as_deref(),
            real_host: real.host.as_deref(),
            ip: real.ip,
            port,
            destination_port: spec.addr.port(),
            track_files: &self.conf.track_files,
        };
        real.checkers.iter().flat_map(|checker| checks::make(checker, &around, remarks)).collect()
    }

    fn backup(&self, reals: &HashSet<SocketAddr>, remarks: &mut Remarks) -> Vec<DestinationSpec> {
        let Some(sorry) = &self.server.sorry else { return Vec::new() };
        let method = sorry.method.or(self.server.method).unwrap_or(Forwarding::Nat);
        if self.is_unusable(sorry.ip, method, &sorry.at, "sorry_server", remarks) {
            return Vec::new();
        }
        let addr = self.place(sorry.ip, sorry.port.filter(|port| *port != 0), method, &sorry.at, remarks);
        if reals.contains(&addr) {
            remarks.left_out(&sorry.at, format!("sorry_server {addr} is a real server of it, too"));
            return Vec::new();
        }
        remarks.different(&sorry.at, format!("sorry_server {addr}: here the checks ask it, too"));
        vec![DestinationSpec::new(addr, method)]
    }

    fn health(
        &self,
        alpha: bool,
        backups: Vec<DestinationSpec>,
        kept: &[(&Real, DestinationSpec)],
        remarks: &mut Remarks,
    ) -> Health {
        let server = self.server;
        let total: u64 = kept.iter().map(|(_, spec)| u64::from(spec.weight)).sum();
        let mut quorum = server.quorum.as_ref().map_or(1, |(_, quorum)| *quorum);
        if let Some((at, written)) = &server.quorum
            && *written > total
        {
            quorum = total.max(1);
            remarks.source(at, format!("quorum {written} is more than all weights: {quorum} runs"));
        }
        let mut hysteresis = server.hysteresis.as_ref().map_or(0, |(_, hysteresis)| *hysteresis);
        if let Some((at, written)) = &server.hysteresis
            && *written >= quorum
        {
            hysteresis = quorum - 1;
            remarks.source(at, format!("hysteresis {written} is not below the quorum: {hysteresis} runs"));
        }
        if !server.inhibit && kept.iter().any(|(real, _)| real.inhibit != Some(true)) {
            let text =
                "no inhibit_on_failure: here a failed real server keeps its connections, and its weight is 0";
            remarks.different(&server.at, text);
        }
        Health {
            start_up: !alpha,
            quorum: (quorum != 1).then_some(quorum),
            hysteresis: (hysteresis != 0).then_some(hysteresis),
            backups,
            damping: Some(0),
        }
    }
}

/// What a destination has to say so that checks that ask as in `template` ask there as in `all`.
fn own_of(template: &[Made], all: &[Made], port: u16) -> Option<Own> {
    let mut own = Own::default();
    /// One value for all that ask for it.
    fn agree<T: Clone + PartialEq>(values: impl Iterator<Item = Option<T>>) -> Result<Option<T>, ()> {
        let mut common: Option<Option<T>> = None;
        for value in values {
            match &common {
                Some(known) if *known != value => return Err(()),
                _ => common = Some(value),
            }
        }
        Ok(common.flatten())
    }
    let ports = || all.iter().filter(|one| one.asks_port);
    let pages = || all.iter().filter(|one| one.asks_page);
    let same = |get: fn(&Own) -> Option<String>| {
        template.iter().zip(all).all(|(there, here)| get(&there.own) == get(&here.own))
    };
    if !same(|own| own.port.map(|port| port.to_string())) {
        let usual = Some(port).filter(|port| *port != 0);
        own.port = Some(agree(ports().map(|one| one.own.port)).ok()?.or(usual)?);
    }
    if !same(|own| own.host.clone()) {
        own.host = Some(agree(pages().map(|one| one.own.host.clone())).ok()??);
    }
    if !same(|own| own.path.clone()) {
        own.path =
            Some(agree(pages().map(|one| one.own.path.clone())).ok()?.unwrap_or_else(|| "/".to_owned()));
    }
    Some(own)
}
