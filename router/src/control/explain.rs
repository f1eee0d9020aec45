//! `explain`: connections, and why they are as they are; and what would become of one that is not there.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use uvs_control::explain::{Answer, Choice, Connection, Counters, Prospect, Request, Service, Way};
use uvs_control::{Error, ErrorKind};
use uvs_director::spec::{Forwarding, Link, Protocol, ServiceKey};
use uvs_director::view::{
    self as view, Caching, ConnectionFacts, ConnectionProtocol, DestinationView, Origin, Outlook, ServiceView,
};
use uvs_director::{Instant, PortId};
use uvs_wire::{Packet, ethernet};

use super::{ends, reasons, status};
use crate::pages::Live;
use crate::words;

/// Connections of an answer, unless more are asked for, and at the most.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 1000;
/// A client without a VIP is foreseen for so many services.
const SERVICES_MAX: usize = 8;
/// So many services on an address are named.
const NAMED_MAX: usize = 8;
/// So many destinations are told of as what a pick goes by.
const INPUTS_MAX: usize = 64;

/// The answer at this moment. It may look at the whole table of connections: not for a thread that others wait for.
pub(super) fn answer(request: &Request, live: &Live) -> Result<Answer, Error> {
    let Request { client, vip, destination, protocol, interface, limit } = request;
    let refused = |message: String| Error::new(ErrorKind::Refused, message);
    let filter = ends::filter(client.as_deref(), ("vip", vip.as_deref()), destination.as_deref())?;
    if filter.is_all() {
        return Err(refused("which connections? Name a client, a vip or a destination".into()));
    }
    let protocol = protocol.as_deref().map(protocol_of).transpose().map_err(refused)?;
    let limit = limit.map_or(LIMIT, |limit| limit as usize).min(LIMIT_MAX);
    let now = live.clock.now();
    let (found, total) = live.director.explain(&filter, protocol, limit, now);
    let mut services = Services::new(live);
    let mut answer = Answer {
        total: total as u64,
        connections: found.iter().map(|facts| connection(facts, live, &mut services, now)).collect(),
        prospects: Vec::new(),
        notices: status::full_table(live, &live.director.status()).into_iter().collect(),
    };
    // Of a client alone that has connections nobody wants to know what others would be.
    let Some(client) = filter.client.filter(|_| found.is_empty()) else { return Ok(answer) };
    // A subnet has no next packet.
    let vip = filter.virtual_addr.map(|vip| vip.host().map(|addr| (addr, vip.port)));
    let (Some(addr), false) = (client.host(), vip == Some(None)) else { return Ok(answer) };
    let port = match interface {
        None => None,
        Some(name) => Some(port_of(name, live).map_err(refused)?),
    };
    // Any will do that is no connection's.
    let client = SocketAddr::new(addr, client.port.unwrap_or(40_000));
    for (protocol, asked_for) in asked_for(live, client, protocol, vip.flatten()) {
        let prospect = live.director.prospect(protocol, client, asked_for, port, now);
        answer.prospects.push(foreseen(&prospect, (protocol, client, asked_for), live, &mut services));
    }
    Ok(answer)
}

fn protocol_of(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(format!("{text:?} is no protocol; there are tcp, udp and sctp")),
    }
}

fn port_of(name: &str, live: &Live) -> Result<PortId, String> {
    let found = (0u16..).map(PortId).zip(&live.interfaces).find(|(_, it)| *it == name);
    found
        .map(|(port, _)| port)
        .ok_or_else(|| format!("there is no interface {name:?}; there are: {}", live.interfaces.join(", ")))
}

/// What a client may ask for, as far as it is said: else the services, no more than a few.
fn asked_for(
    live: &Live,
    client: SocketAddr,
    protocol: Option<Protocol>,
    vip: Option<(IpAddr, Option<u16>)>,
) -> Vec<(Protocol, SocketAddr)> {
    if let Some((addr, Some(port))) = vip {
        return vec![(protocol.unwrap_or(Protocol::Tcp), SocketAddr::new(addr, port))];
    }
    let keys = live.director.service_set();
    let mut all: Vec<(Protocol, SocketAddr)> = keys
        .keys()
        .filter_map(|key| match key {
            ServiceKey::Address { protocol, addr } => Some((protocol, addr)),
            ServiceKey::Mark { .. } => None,
        })
        .filter(|(its, addr)| {
            protocol.is_none_or(|it| it == *its)
                && vip.is_none_or(|(vip, _)| vip == addr.ip())
                && addr.is_ipv4() == client.is_ipv4()
        })
        .collect();
    all.sort_unstable();
    all.truncate(SERVICES_MAX);
    all
}

/// Services that were looked at for this answer: each is once.
struct Services<'a> {
    live: &'a Live,
    known: HashMap<ServiceKey, (Service, Option<ServiceView>)>,
}

impl<'a> Services<'a> {
    fn new(live: &'a Live) -> Self {
        Self { live, known: HashMap::new() }
    }

    fn get(&mut self, key: ServiceKey) -> &(Service, Option<ServiceView>) {
        let live = self.live;
        self.known.entry(key).or_insert_with(|| {
            let view = live.director.service_view(&key);
            (service(key, view.as_ref(), live), view)
        })
    }
}

fn service(key: ServiceKey, view: Option<&ServiceView>, live: &Live) -> Service {
    let status = live.schedulers.status_of(&key.to_string()).ok();
    let by = |addr: SocketAddr| {
        let view = live.checks.view_of(key)??;
        view.destinations.into_iter().find(|it| it.addr == addr).map(|it| it.by.to_string())
    };
    let destinations = view.map(|view| &view.destinations[..]).unwrap_or_default();
    Service {
        name: key.to_string(),
        scheduler: view.map(|view| view.spec.scheduler.name.clone()).unwrap_or_default(),
        module: status.as_ref().map(|it| it.module.origin.clone()),
        sha256: status.as_ref().map(|it| it.module.sha256.clone()),
        since: status.as_ref().map(|it| it.since as f64),
        serving: status.as_ref().map(|it| it.work.serving.to_string()),
        fallback: status.as_ref().map(|it| it.fallback.clone()),
        inputs_now: destinations
            .iter()
            .take(INPUTS_MAX)
            .map(|it| Choice { weight_by: by(it.spec.addr).filter(|_| it.spec.weight == 0), ..choice_of(it) })
            .collect(),
    }
}

fn choice_of(it: &DestinationView) -> Choice {
    Choice {
        destination: it.spec.addr.to_string(),
        forward: words::forwarding(it.spec.forwarding),
        weight: it.spec.weight,
        overloaded: it.overloaded,
        active: it.active,
        inactive: it.inactive,
        ..Choice::default()
    }
}

/// The name of an interface.
pub(super) fn interface(live: &Live, port: PortId) -> String {
    live.interfaces.get(usize::from(port.0)).cloned().unwrap_or_else(|| port.to_string())
}

/// A way out, as it is told.
pub(super) fn way(live: &Live, way: &view::Way) -> Way {
    Way {
        interface: interface(live, way.port),
        next_hop: way.next_hop.to_string(),
        mac: way.mac.map(|mac| mac.to_string()),
        mtu: way.mtu,
        source: way.source.map(|addr| addr.to_string()),
        local: way.is_local,
    }
}

fn connection(facts: &ConnectionFacts, live: &Live, services: &mut Services<'_>, now: Instant) -> Connection {
    let view = &facts.view;
    let (there, back) = live.director.ways_of(facts, now);
    let of = facts.service.map(|key| services.get(key).clone());
    let counted = of.as_ref().and_then(|(_, view)| view.as_ref()).and_then(|service| {
        let is_its = |it: &&DestinationView| {
            it.spec.addr == facts.view.destination
                || it.spec.addr == SocketAddr::new(facts.view.destination.ip(), 0)
        };
        service.destinations.iter().find(is_its).map(|it| it.counters)
    });
    let scheduler = of.as_ref().map(|(it, _)| it.scheduler.clone()).unwrap_or_default();
    let (cache, cache_why) = match facts.caching {
        Caching::Off => ("off", None),
        Caching::Placed => ("placed", None),
        Caching::Next => ("next", None),
        Caching::Not(why) => ("not", Some(why.to_owned())),
    };
    Connection {
        protocol: match view.protocol {
            ConnectionProtocol::Transport(protocol) => protocol.to_string(),
            ConnectionProtocol::Ip => "ip".to_owned(),
        },
        client: view.client.to_string(),
        vip: view.virtual_addr.to_string(),
        destination: view.destination.to_string(),
        template: view.template,
        service: of.map(|(it, _)| it),
        origin: facts.origin.name().to_owned(),
        why: why(facts, &scheduler),
        forward: words::forwarding(facts.forwarding),
        state: view.state.to_owned(),
        active: view.active,
        expires_s: view.expires_in.as_secs_f64(),
        timeout_s: facts.timeout.as_secs_f64(),
        packets_in: facts.packets_in,
        answered: facts.answered,
        sees_answers: facts.sees_answers,
        standing: facts.standing.to_owned(),
        weight: facts.weight,
        counters: counted.map(|it| Counters {
            packets_in: it.packets_in,
            bytes_in: it.bytes_in,
            packets_out: it.packets_out,
            bytes_out: it.bytes_out,
        }),
        findings: findings(facts, there.as_ref(), back.as_ref(), live),
        way_there: there.map(|it| way(live, &it)),
        way_back: back.map(|it| way(live, &it)),
        cache: cache.to_owned(),
        cache_why,
        controlled: facts.controlled,
        class: facts.class.to_owned(),
    }
}

fn why(facts: &ConnectionFacts, scheduler: &str) -> String {
    match facts.origin {
        Origin::Scheduled => format!("the scheduler {scheduler} picked the destination"),
        Origin::Fallback => {
            format!("the fallback picked the destination, for the module of {scheduler} had failed")
        }
        Origin::Canary => "a module on trial, a canary, picked the destination".to_owned(),
        Origin::Template => "a persistence template of its client names the destination".to_owned(),
        Origin::Announced => "the FTP helper read about it on a control connection".to_owned(),
        Origin::Adopted => "the flow cache had kept it for the director before this one".to_owned(),
    }
}

/// What looks wrong with a connection.
fn findings(
    facts: &ConnectionFacts,
    there: Option<&view::Way>,
    back: Option<&view::Way>,
    live: &Live,
) -> Vec<String> {
    let view = &facts.view;
    let mut found = Vec::new();
    if view.template {
        return found;
    }
    let destination = view.destination;
    match facts.standing {
        "removed" => found.push(format!("{destination} was removed from the service")),
        "ending" => found.push(format!("{destination} is being rid of its connections (uvs drain)")),
        _ => {}
    }
    let ethernet = |port: PortId| {
        let found = live.director.interfaces().into_iter().find(|it| it.port == port);
        found.is_some_and(|it| matches!(it.link, Link::Ethernet(_)))
    };
    for (who, addr, way, is_needed) in [
        ("the destination", destination.ip(), there, true),
        ("the client", view.client.ip(), back, facts.sees_answers),
    ] {
        match way {
            None if is_needed => found.push(format!("there is no route to {who}, {addr}: add one ([[route]])")),
            Some(way) if way.mac.is_none() && !way.is_local && ethernet(way.port) => found.push(format!(
                "the MAC address of {}, the next hop to {who} on {}, is not known: it does not answer ARP or neighbour \
                 discovery, or nobody has asked lately",
                way.next_hop,
                interface(live, way.port)
            )),
            _ => {}
        }
    }
    let waits = matches!(view.state, "SYN_RECV" | "SYN_SENT" | "SYNACK" | "NONE");
    if facts.sees_answers && !facts.answered {
        found.push(format!(
            "no packet from {destination} has come by here, and by NAT each has to: either it does not answer (uvs probe \
             tcp {} --port {}), or its answers go another way: its default route has to lead to the director, and a \
             client in its own subnet is answered directly (use direct routing there)",
            destination.ip(),
            destination.port()
        ));
    } else if !facts.sees_answers && waits && facts.packets_in > 1 {
        found.push(format!(
            "the client goes on to ask, and has not confirmed an answer: does {} hold the VIP {} (on lo, without \
             answering ARP for it), does it listen on port {}, {}and do its answers find their way to the client?",
            destination.ip(),
            view.virtual_addr.ip(),
            view.virtual_addr.port(),
            match facts.forwarding {
                Forwarding::Tunnel(_) => "does it unwrap the tunnel, ",
                Forwarding::Nat | Forwarding::Direct => "",
            }
        ));
    }
    found
}

fn foreseen(
    prospect: &view::Prospect,
    (protocol, client, asked_for): (Protocol, SocketAddr, SocketAddr),
    live: &Live,
    services: &mut Services<'_>,
) -> Prospect {
    let service = prospect.service.map(|key| {
        let mut service = services.get(key).0.clone();
        for choice in &prospect.choices {
            let addr = choice.addr.to_string();
            if let Some(it) = service.inputs_now.iter_mut().find(|it| it.destination == addr) {
                it.way = choice.way.ok().map(|it| way(live, &it));
                it.drop = choice.way.err().map(|reason| reason.label().to_owned());
            }
        }
        service
    });
    let (outcome, destination, reason) = match prospect.outlook {
        Outlook::Known(addr) => ("known", Some(addr), None),
        Outlook::Template(addr) => ("template", Some(addr), None),
        Outlook::Scheduled => ("scheduled", None, None),
        Outlook::Refused(reason) => ("refused", None, Some(reason)),
        Outlook::Dropped(reason) => ("dropped", None, Some(reason)),
        Outlook::Passes => ("passes", None, None),
    };
    Prospect {
        protocol: protocol.to_string(),
        vip: asked_for.to_string(),
        interface: prospect.port.map(|port| interface(live, port)),
        mark: Some(prospect.mark).filter(|mark| *mark != 0),
        why: why_so(prospect, service.as_ref(), client, asked_for, live),
        service,
        caught_by: prospect.caught_by.map(|it| it.name().to_owned()),
        outcome: outcome.to_owned(),
        destination: destination.map(|addr| addr.to_string()),
        reason: reason.map(|reason| reason.label().to_owned()),
    }
}

fn why_so(
    prospect: &view::Prospect,
    service: Option<&Service>,
    client: SocketAddr,
    asked_for: SocketAddr,
    live: &Live,
) -> String {
    use uvs_director::DropReason as R;
    match prospect.outlook {
        Outlook::Known(addr) => format!("a connection to {addr} is there, or announced"),
        Outlook::Template(addr) => format!("a persistence template of its client names {addr}"),
        Outlook::Scheduled => {
            let takers: Vec<&Choice> = service
                .map(|it| it.inputs_now.iter().filter(|it| it.weight > 0 && !it.overloaded).collect())
                .unwrap_or_default();
            let name = service.map(|it| it.scheduler.as_str()).unwrap_or_default();
            match &takers[..] {
                [one] => format!("the scheduler {name} is asked, and has {} only to pick", one.destination),
                some => format!("the scheduler {name} is asked, and picks one of {}", some.len()),
            }
        }
        Outlook::Passes => "it is for somebody else, and passes through".to_owned(),
        Outlook::Refused(_) => on_address(live, asked_for.ip()).unwrap_or_else(|| {
            format!("{} is the director's, and there is no service on it", asked_for.ip())
        }),
        Outlook::Dropped(R::NoDestination) => {
            prospect.service.map_or_else(String::new, |key| no_destination(live, &key))
        }
        Outlook::Dropped(R::NoRoute) if prospect.port.is_none() => {
            format!("there is no route to the client {}: add one ([[route]])", client.ip())
        }
        Outlook::Dropped(reason) => reasons::meaning(reason).to_owned(),
    }
}

/// Why no destination of a service takes new connections.
pub(super) fn no_destination(live: &Live, key: &ServiceKey) -> String {
    let Some(service) = live.director.service_view(key) else { return "its service was removed".to_owned() };
    let all = service.destinations.len();
    if all == 0 {
        return format!("{key} has no destinations: add one");
    }
    let quiesced = service.destinations.iter().filter(|it| it.spec.weight == 0).count();
    let overloaded = service.destinations.iter().filter(|it| it.overloaded && it.spec.weight > 0).count();
    let checks = live.checks.view_of(*key).flatten();
    let by = checks.map(|view| {
        let by: Vec<String> = view
            .destinations
            .iter()
            .filter(|it| service.destinations.iter().any(|of| of.spec.addr == it.addr && of.spec.weight == 0))
            .map(|it| format!("{} by {}", it.addr, it.by))
            .collect();
        words::few(by.iter(), NAMED_MAX).join(", ")
    });
    let by = by.filter(|by| !by.is_empty()).map_or_else(String::new, |by| format!(": {by}"));
    let mut parts = vec![format!("{key} has {all} destinations")];
    if quiesced > 0 {
        parts.push(format!("{quiesced} with weight 0{by} (uvs explain destination says more)"));
    }
    if overloaded > 0 {
        parts.push(format!("{overloaded} over the upper threshold"));
    }
    if quiesced + overloaded < all {
        parts.push("and its scheduler picked none".to_owned());
    }
    parts.join(", ")
}

/// Of a frame that no service took: which services there are on the address that it asks for. None: it is not the
/// director's.
pub(super) fn on_this_address(live: &Live, frame: &[u8]) -> Option<String> {
    let ip = |start: usize| Packet::parse_quoted(frame.get(start..)?).ok();
    let packet = ip(ethernet::HEADER_LEN).or_else(|| ip(0))?;
    on_address(live, packet.dst.to_ip())
}

fn on_address(live: &Live, vip: IpAddr) -> Option<String> {
    let services = live.director.service_set();
    let mut names: Vec<String> = services
        .keys()
        .filter(|key| matches!(key, ServiceKey::Address { addr, .. } if addr.ip() == vip))
        .map(|key| key.to_string())
        .collect();
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    let names = words::few(names.iter(), NAMED_MAX).join(", ");
    Some(format!("no service has that protocol and port; on {vip} there are: {names}"))
}
