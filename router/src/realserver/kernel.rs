//! The way past userspace: whether a program in the kernel can unpack, and on which links.

use std::net::IpAddr;

use anyhow::{Result, bail};
use tracing::{info, warn};
use uvs_attach::Decapsulator;
use uvs_device::net::{LinkState, Net, RouteState, read_sysctl};
use uvs_director::spec::MacAddr;

use super::Args;

/// Attaches the program to all links on which it serves, or tells why there is none to.
///
/// # Errors
/// What is missing: a link, a right, a kernel that is new enough.
pub(super) fn attach(runtime: &tokio::runtime::Runtime, args: &Args) -> Result<Decapsulator> {
    let (links, routes, addresses) = runtime.block_on(async {
        let net = Net::new()?;
        anyhow::Ok((net.links().await?, net.routes().await?, net.addresses().await?))
    })?;
    let ours: Vec<IpAddr> = addresses.iter().map(|(_, prefix)| prefix.addr()).collect();
    let rips: Vec<IpAddr> = match args.bind.as_slice() {
        [] => {
            ours.into_iter().filter(|address| !address.is_loopback() && !args.vip.contains(address)).collect()
        }
        bound => bound.to_vec(),
    };
    // Of a bond or a bridge that is the one that has the addresses.
    let ethernet: Vec<&LinkState> = links
        .iter()
        .filter(|link| link.up && link.master.is_none() && link.name != args.device)
        .filter(|link| link.mac.is_some_and(|mac| mac != MacAddr([0; 6])))
        .collect();
    let (fit, unfit): (Vec<&LinkState>, Vec<_>) = ethernet.iter().copied().partition(|link| {
        takes_clients(link, ethernet.len() == 1, &routes) || args.vip.iter().all(IpAddr::is_ipv6)
    });
    for link in &unfit {
        warn!(
            link = link.name,
            "its reverse path filter would drop clients that are routed elsewhere: left to userspace; \
             fix: sysctl net.ipv4.conf.all.rp_filter=2"
        );
    }
    if fit.is_empty() {
        bail!("there is no Ethernet link that is up and takes clients' packets");
    }
    let names: Vec<String> = fit.iter().map(|link| link.name.clone()).collect();
    let attached = Decapsulator::attach(&names, &rips, &args.vip)?;
    info!(links = names.join(", "), "tunnelled packets are unpacked in the kernel, by tcx");
    Ok(attached)
}

/// Whether packets from anywhere may come in on this link, once they are out of the tunnel. A strict filter (1) asks
/// for the way back to lead over the same link, which it does if there is no other.
fn takes_clients(link: &LinkState, only: bool, routes: &[RouteState]) -> bool {
    let filter = |which: &str| {
        read_sysctl(&format!("net/ipv4/conf/{which}/rp_filter")).unwrap_or_else(|_| "0".to_owned())
    };
    let strict = filter("all").max(filter(&link.name)) == "1";
    let default = |route: &&RouteState| route.to.prefix_len() == 0 && route.to.addr().is_ipv4();
    !strict || only && routes.iter().filter(default).any(|route| route.device == Some(link.index))
}
