//! `adm`: ipvsadm's command line on the running director.

use std::collections::BTreeSet;

use tracing::{info, warn};
use uvs_config::Config;
use uvs_control::Error;
use uvs_control::adm::{Answer, Request};
use uvs_director::spec::{Change, InterfaceSpec, ServiceKey};

use super::peer::Peer;
use super::{Desk, blocking};
use crate::pages::Live;

/// The most of a command line that the log repeats, in bytes.
const LOGGED_MAX: usize = 300;

/// Whether it changes nothing, be it that it is wrong.
pub(super) fn only_looks(request: &Request) -> bool {
    uvs_adm::parse(&words(request)).map_or(true, |command| !command.changes())
}

/// Answers what changes nothing.
pub(super) fn look(request: &Request, live: &Live) -> Answer {
    execute(request, live)
}

/// Does what changes something. Afterwards the director has the VIPs of the services that are there now.
pub(super) async fn change(request: Request, peer: &Peer, desk: &mut Desk<'_>) -> Result<Answer, Error> {
    let (live, config) = (desk.live.clone(), desk.config.clone());
    let peer = *peer;
    let (answer, announce) = blocking(move || {
        let before = keys(&live);
        let answer = execute(&request, &live);
        log(&request, &answer, &peer);
        (answer, own_vips(&config, &before, &live))
    })
    .await?;
    if announce {
        desk.plane.announce();
    }
    Ok(answer)
}

fn words(request: &Request) -> Vec<&str> {
    request.arguments.iter().map(String::as_str).collect()
}

fn execute(request: &Request, live: &Live) -> Answer {
    let output = uvs_adm::run(&words(request), &request.input, &live.director, live.clock.now());
    Answer { stdout: output.stdout, stderr: output.stderr, code: output.code }
}

fn log(request: &Request, answer: &Answer, peer: &Peer) {
    let mut line = request.arguments.join(" ");
    if line.len() > LOGGED_MAX {
        line.truncate(line.floor_char_boundary(LOGGED_MAX));
        line.push_str("...");
    }
    let error = answer.stderr.trim_end();
    let error = &error[..error.floor_char_boundary(LOGGED_MAX)];
    info!(uid = peer.uid, pid = peer.pid, code = answer.code, error, "adm {line}");
}

fn keys(live: &Live) -> BTreeSet<ServiceKey> {
    live.director.services().into_iter().map(|service| service.spec.key).collect()
}

/// Gives the director the VIPs that lie in its subnets and takes back those of services that are gone, as a reload does.
/// Tells whether it has new ones.
fn own_vips(config: &Config, before: &BTreeSet<ServiceKey>, live: &Live) -> bool {
    let services = keys(live);
    let there = live.director.interfaces();
    let wanted = config.interfaces_for(services.iter().copied());
    if !same_addresses(&there, &wanted) {
        let now = live.clock.now();
        let network = Change::SetNetwork { interfaces: wanted.clone(), routes: config.routes.clone() };
        if let Err(error) = live.director.apply(network, now) {
            // The file was good with these interfaces, and a VIP is added only where there is none.
            warn!(%error, "the VIPs cannot be taken over; SIGHUP tries it again");
            return false;
        }
        for neighbor in &config.neighbors {
            let uvs_config::Neighbor { port, addr, mac } = *neighbor;
            if let Err(error) = live.director.apply(Change::SetNeighbor { port, addr, mac }, now) {
                warn!(%error, "a static neighbour is lost");
            }
        }
    }
    for service in services.difference(before) {
        if let ServiceKey::Address { addr, .. } = service
            && !owns(&wanted, addr.ip())
        {
            warn!(
                "VIP {} lies in no subnet of an interface: the director does not answer for it, so it has to be routed here; to \
                 own it, add \"{}\" to the addresses of an interface in the configuration",
                addr.ip(),
                uvs_director::spec::Prefix::host(addr.ip())
            );
        }
    }
    wanted
        .iter()
        .zip(&there)
        .any(|(wanted, there)| wanted.addresses.iter().any(|address| !there.addresses.contains(address)))
}

fn owns(interfaces: &[InterfaceSpec], addr: std::net::IpAddr) -> bool {
    interfaces.iter().flat_map(|interface| &interface.addresses).any(|own| own.addr() == addr)
}

/// Whether two sets of interfaces are the same but for the order of their addresses.
pub(crate) fn same_addresses(one: &[InterfaceSpec], other: &[InterfaceSpec]) -> bool {
    let contains_all = |one: &InterfaceSpec, other: &InterfaceSpec| {
        other.addresses.iter().all(|address| one.addresses.contains(address))
    };
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| contains_all(one, other) && contains_all(other, one))
}
