//! `adm`: ipvsadm's command line on the running director.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};
use uvs_adm::Command;
use uvs_config::Config;
use uvs_control::Error;
use uvs_control::adm::{Answer, Request};
use uvs_director::ServiceSet;
use uvs_director::spec::{Change, InterfaceSpec, Prefix, ServiceKey};

use super::peer::Peer;
use super::{blocking, rights};
use crate::events::weight_event;
use crate::pages::Live;
use crate::reload::{self, same_addresses};

/// What prints the director as a configuration. Not of ipvsadm, whose parser does not know it.
const EXPORT: &str = "--export";
/// The most of a command line that the log repeats, in bytes.
const LOGGED_MAX: usize = 300;

/// Whether it changes nothing, be it that it is wrong.
pub(super) fn only_looks(request: &Request) -> bool {
    uvs_adm::parse(&words(request)).map_or(true, |command| !command.changes())
}

/// Whether it lists connections.
pub(super) fn lists_connections(request: &Request) -> bool {
    matches!(uvs_adm::parse(&words(request)), Ok(Command::ListConnections { .. }))
}

/// Answers what changes nothing.
pub(super) fn look(request: &Request, live: &Live) -> Answer {
    if words(request) == [EXPORT] {
        let stdout = live.with_parts(|parts| reload::export(&live.config(), parts));
        return Answer { stdout, ..Answer::default() };
    }
    execute(request, live)
}

/// Lists connections part by part, until `take` wants no more.
pub(super) fn list(request: &Request, live: &Live, take: &mut dyn FnMut(Answer) -> bool) {
    let Ok(Command::ListConnections { numeric, persistent_conn }) = uvs_adm::parse(&words(request)) else {
        take(look(request, live));
        return;
    };
    let now = live.clock.now();
    let part = |stdout: String| Answer { stdout, more: true, ..Answer::default() };
    if uvs_adm::list_connections(&live.director, now, numeric, persistent_conn, &mut |text| take(part(text)))
    {
        take(Answer::default());
    }
}

/// Does what changes something. Afterwards the director has the VIPs of the services that are there now; the second
/// answer is whether it has new ones.
pub(super) async fn change(
    request: Request,
    peer: &Peer,
    config: Arc<Config>,
    live: Arc<Live>,
) -> Result<(Answer, bool), Error> {
    let peer = *peer;
    blocking(move || {
        for file in modules(&request) {
            rights::check(&peer, &file, &live)?;
        }
        let before = live.director.service_set();
        let weights = &live.checks.weights;
        let announced = weights.announce();
        // Not while a module is compiled: the checks wait for whoever holds their weights.
        let held = modules(&request).is_empty().then(|| weights.hold());
        let mut answer = held
            .as_ref()
            .and_then(|_| instead(&request, &config, &live))
            .unwrap_or_else(|| execute(&request, &live));
        let mut held = held.unwrap_or_else(|| weights.hold());
        let by_adm = held.changed(&live.director, touched(&request).as_ref(), live.clock.now());
        drop((announced, held));
        for (service, destination, weight) in &by_adm.weights {
            let by = format!("adm: {peer}");
            live.events.tell(weight_event(*service, *destination, *weight, by));
        }
        live.checks.follow_adm(by_adm);
        log(&request, &answer, &peer);
        let announce = new_since(&before, &live).is_some_and(|new| {
            let Owned { announce, nowhere } = own_vips(&config, &new, &live);
            tell(&nowhere, &mut answer);
            announce
        });
        Ok((answer, announce))
    })
    .await?
}

/// Destinations of services with a bound for their connections (`drain`) are not gone at once, unless they are to be as
/// in the kernel: what removes one has it leave, and what adds one that leaves has it stay. `None`: that is not asked,
/// or cannot be done as it is.
fn instead(request: &Request, config: &Config, live: &Live) -> Option<Answer> {
    let Ok(Command::Change(change)) = uvs_adm::parse(&words(request)) else { return None };
    let now = live.clock.now();
    match change {
        Change::RemoveDestination(key, addr) if !live.director.options().compat_ipvs => {
            let service = config.services.iter().find(|service| service.spec.key == key);
            let after = service.map_or(config.drain, |service| service.drain)?;
            live.director.apply(Change::SetWeight(key, addr, 0), now).ok()?;
            live.drains.on_removal(key, addr, after, now);
        }
        Change::AddDestination(key, spec) if live.drains.is_leaving(&key, spec.addr) => {
            live.director.apply(Change::EditDestination(key, spec), now).ok()?;
            live.drains.stays(key, spec.addr);
        }
        _ => return None,
    }
    Some(Answer::default())
}

/// The service that a command line changes, where it is one.
fn touched(request: &Request) -> Option<ServiceKey> {
    match uvs_adm::parse(&words(request)) {
        Ok(Command::Change(change)) => match change {
            Change::AddService(spec) | Change::EditService(spec) => Some(spec.key),
            Change::RemoveService(key)
            | Change::AddDestination(key, _)
            | Change::EditDestination(key, _)
            | Change::SetWeight(key, ..)
            | Change::RemoveDestination(key, _) => Some(key),
            _ => None,
        },
        _ => None,
    }
}

/// The files that the director would have to open as modules.
fn modules(request: &Request) -> Vec<PathBuf> {
    let module = |words: &[&str]| match uvs_adm::parse(words) {
        Ok(Command::Change(Change::AddService(spec) | Change::EditService(spec))) => {
            let file = PathBuf::from(spec.scheduler.name);
            file.extension().is_some_and(|extension| extension == "wasm").then_some(file)
        }
        _ => None,
    };
    let words = words(request);
    if !matches!(uvs_adm::parse(&words), Ok(Command::Restore)) {
        return module(&words).into_iter().collect();
    }
    let line = |line: &str| {
        let words = uvs_adm::split_words(line);
        module(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    request.input.lines().filter_map(line).collect()
}

fn words(request: &Request) -> Vec<&str> {
    request.arguments.iter().map(String::as_str).collect()
}

fn execute(request: &Request, live: &Live) -> Answer {
    let output = uvs_adm::run(&words(request), &request.input, &live.director, live.clock.now());
    Answer { stdout: output.stdout, stderr: output.stderr, code: output.code, more: false }
}

fn log(request: &Request, answer: &Answer, peer: &Peer) {
    let mut line = request.arguments.join(" ");
    if line.len() > LOGGED_MAX {
        line.truncate(line.floor_char_boundary(LOGGED_MAX));
        line.push_str("...");
    }
    let error = answer.stderr.trim_end();
    let error = &error[..error.floor_char_boundary(LOGGED_MAX)];
    info!(by = %peer, code = answer.code, error, "adm {line}");
}

/// The services that came since `before`, in order; `None` if none came or went.
fn new_since(before: &ServiceSet, live: &Live) -> Option<Vec<ServiceKey>> {
    let now = live.director.service_set();
    if now.is_same(before) {
        return None;
    }
    let mut new: Vec<ServiceKey> = now.keys().filter(|key| !before.contains(key)).collect();
    new.sort_unstable();
    Some(new)
}

/// Gives the director the VIPs that lie in its subnets and takes back those of services that are gone, as a reload
/// does. `new` are the services that were added.
fn own_vips(config: &Config, new: &[ServiceKey], live: &Live) -> Owned {
    let mut services: Vec<ServiceKey> = live.director.service_set().keys().collect();
    // So that addresses are in the same order whoever was added first.
    services.sort_unstable();
    let there = live.director.interfaces();
    let wanted = config.interfaces_for(services);
    if !same_addresses(&there, &wanted)
        && let Err(error) = live.director.apply(Change::SetAddresses(wanted.clone()), live.clock.now())
    {
        // The file was good with these interfaces, and a VIP is added only where there is none.
        warn!(%error, "the VIPs cannot be taken over; SIGHUP tries it again");
        return Owned::default();
    }
    let owned: HashSet<IpAddr> = addresses(&wanted).map(|prefix| prefix.addr()).collect();
    let vip = |service: &ServiceKey| match service {
        ServiceKey::Address { addr, .. } => Some(addr.ip()),
        ServiceKey::Mark { .. } => None,
    };
    let mut nowhere: Vec<IpAddr> = new.iter().filter_map(vip).filter(|vip| !owned.contains(vip)).collect();
    nowhere.dedup();
    let had: HashSet<Prefix> = addresses(&there).collect();
    Owned { announce: addresses(&wanted).any(|address| !had.contains(&address)), nowhere }
}

/// What came of the VIPs of new services.
#[derive(Default)]
struct Owned {
    /// The director has new addresses, which links have to hear of.
    announce: bool,
    /// VIPs that lie in no subnet.
    nowhere: Vec<IpAddr>,
}

/// More VIPs than these are only counted.
const NOWHERE_MAX: usize = 5;

/// Tells whoever typed it, and the log, of VIPs that nobody finds by ARP. The exit status says that it was done.
fn tell(nowhere: &[IpAddr], answer: &mut Answer) {
    for vip in nowhere.iter().take(NOWHERE_MAX) {
        let text = format!(
            "VIP {vip} lies in no subnet of an interface: the director does not answer for it, so it has to be routed \
             here; to own it, add \"{}\" to the addresses of an interface in the configuration",
            Prefix::host(*vip)
        );
        warn!("{text}");
        answer.stderr.push_str(&format!("warning: {text}\n"));
    }
    if let Some(more) = nowhere.len().checked_sub(NOWHERE_MAX).filter(|more| *more > 0) {
        warn!("{more} more VIPs lie in no subnet");
        answer.stderr.push_str(&format!("warning: {more} more VIPs lie in no subnet\n"));
    }
}

fn addresses(interfaces: &[InterfaceSpec]) -> impl Iterator<Item = Prefix> {
    interfaces.iter().flat_map(|interface| &interface.addresses).copied()
}
