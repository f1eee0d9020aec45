//! `destination`: what people want of one destination, and how it stands.

use std::net::SocketAddr;

use tracing::info;
use uvs_check::core::DestinationView;
use uvs_check::weight::{Admin, Set, Share, Writer};
use uvs_control::destination::{Answer, Ask, Left, Request, Slot, Terms};
use uvs_control::{Error, ErrorKind};
use uvs_director::Instant;
use uvs_director::spec::ServiceKey;

use super::name::{self, Named};
use super::peer::Peer;
use crate::drains;
use crate::events::weight_event;
use crate::pages::Live;

/// The largest weight, as in the configuration.
const WEIGHT_MAX: u32 = i32::MAX.unsigned_abs();

/// Looks, or does it. It looks at the whole table of connections: not for a thread that others wait for.
pub(super) fn answer(request: &Request, live: &Live, peer: &Peer) -> Result<Answer, Error> {
    let refused = |message: String| Error::new(ErrorKind::Refused, message);
    let services = live.director.services();
    let all: Vec<Named> = services
        .iter()
        .flat_map(|service| service.destinations.iter().map(|it| (service.spec.key, it.spec.addr)))
        .collect();
    let named = name::find(&request.name, &all).map_err(refused)?;
    let admin = match request.ask {
        Ask::Look {} | Ask::Explain {} | Ask::Weight(_) => None,
        Ask::Drain(Terms { reset: true, deadline_ms: None, .. }) => {
            return Err(refused("what is left can be reset at a deadline only, and there is none".into()));
        }
        Ask::Drain(_) => Some(Admin::Drain),
        Ask::Undrain {} => Some(Admin::Ready),
    };
    if let Some(admin) = admin {
        if admin == Admin::Ready {
            drains::undo(&live.director, &live.drains, named.0, named.1);
        }
        if !live.checks.set_admin(named.0, named.1, admin) {
            return Err(refused(format!("{} has gone meanwhile", name::of(&named))));
        }
        if let Ask::Drain(terms) = request.ask {
            live.drains.begin(named.0, named.1, terms, live.clock.now());
            let by = format!("drain: {peer}");
            live.events.tell(weight_event(named.0, named.1, 0, by));
        }
        info!(by = %peer, service = %named.0, destination = %named.1, "{admin}");
    }
    if let Ask::Weight(weight) = request.ask {
        let (service, destination) = named;
        if weight > WEIGHT_MAX {
            return Err(refused(format!("weight {weight} is out of range; use 0 to {WEIGHT_MAX}")));
        }
        if !live.checks.weigh(service, destination, weight) {
            return Err(refused(format!("{} has gone meanwhile", name::of(&named))));
        }
        live.events.tell(weight_event(service, destination, weight, format!("weight: {peer}")));
        info!(by = %peer, %service, %destination, weight, "weight");
    }
    let mut answer = look(&named, live);
    if request.ask == (Ask::Explain {}) {
        let view = view(&named.0, named.1, live)?;
        (answer.slots, answer.weight_by) = (slots(&view, live.clock.now()), Some(view.by.to_string()));
    }
    Ok(answer)
}

fn look(named: &Named, live: &Live) -> Answer {
    let (service, destination) = named;
    // Before it is counted: of one that is over all is done that was to be.
    let drain = live.drains.shown(service, *destination, live.clock.now());
    let view = live.director.service_view(service);
    let found = view.and_then(|view| view.destinations.into_iter().find(|it| it.spec.addr == *destination));
    let id = live.director.destination_id(service, *destination);
    let idle = found.as_ref().is_none_or(|it| (it.active, it.inactive, it.persistent) == (0, 0, 0));
    let left = id.filter(|_| !idle).map(|id| live.director.left(&[id])[0]).unwrap_or_default();
    let admin = live.checks.admin(service, *destination).unwrap_or_default();
    Answer {
        service: service.to_string(),
        destination: destination.to_string(),
        name: name::of(named),
        weight: found.map_or(0, |it| it.spec.weight),
        admin: admin.to_string(),
        drain,
        left: Left { open: left.open as u64, ended: left.ended as u64, templates: left.templates as u64 },
        slots: Vec::new(),
        weight_by: None,
    }
}

/// What the checks know of it.
fn view(service: &ServiceKey, destination: SocketAddr, live: &Live) -> Result<DestinationView, Error> {
    let failed = |message: &str| Error::new(ErrorKind::Failed, message);
    let service = live
        .checks
        .view_of(*service)
        .ok_or_else(|| failed("health checks do not answer: what they said last stays in force"))?;
    let found =
        service.and_then(|service| service.destinations.into_iter().find(|it| it.addr == destination));
    found.ok_or_else(|| failed("the destination has gone meanwhile"))
}

fn slots(view: &DestinationView, now: Instant) -> Vec<Slot> {
    let said = &view.slots;
    let weight = |set: Option<Set<u32>>| set.map(|set| (set.value.to_string(), set.at));
    let share = |set: Option<Set<Share>>| {
        set.map(|set| match set.value {
            Share::Weight(weight) => (weight.to_string(), set.at),
            Share::Percent(percent) => (format!("{percent} %"), set.at),
        })
    };
    let health = if said.health.value { "serves" } else { "does not serve" };
    // The stricter of people and the agent counts.
    let admin = match said.agent_admin {
        Some(agent) if said.admin() != said.admin.value => {
            (format!("{}, by the agent", agent.value), agent.at)
        }
        _ => (said.admin.value.to_string(), said.admin.at),
    };
    let all = [
        (Writer::File, weight(said.file)),
        (Writer::Adm, weight(said.adm)),
        (Writer::Operator, weight(said.operator)),
        (Writer::Agent, share(said.agent)),
        (Writer::Script, share(said.script)),
        (Writer::SlowStart, said.slow_start.map(|set| (format!("{} %", set.value), set.at))),
        (Writer::Health, Some((health.to_owned(), said.health.at))),
        (Writer::Admin, Some(admin)),
    ];
    let slot = |(writer, said): (Writer, Option<(String, Instant)>)| {
        let (value, at) = said.unzip();
        Slot {
            writer: writer.to_string(),
            value,
            age_s: at.map(|at| now.since(at).as_secs_f64()),
            decides: view.by == writer,
        }
    };
    all.into_iter().map(slot).collect()
}
