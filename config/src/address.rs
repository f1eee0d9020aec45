//! What an address may be: a host's, a subnet's, a station's.

use std::net::IpAddr;

use uvs_director::spec::{MacAddr, Prefix};

use crate::problem::Location;
use crate::read::{At, Doc};

pub(crate) fn read_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address"))
}

/// Of IPv6, fe80::/10: the routers of IPv4 treat link-local addresses as any other.
pub(crate) fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Whether `addr` is a subnet's first or last address, which no host can have.
pub(crate) fn is_edge(subnet: Prefix, addr: IpAddr) -> bool {
    subnet.broadcast().is_some_and(|broadcast| addr == broadcast || addr == subnet.network())
}

/// Which of the two it is.
pub(crate) fn edge_name(subnet: Prefix, addr: IpAddr) -> &'static str {
    if addr == subnet.network() { "network" } else { "broadcast" }
}

/// What an address is that no host can have on a link.
pub(crate) fn not_a_host(addr: IpAddr) -> Option<&'static str> {
    match addr {
        _ if addr.is_unspecified() => Some("the unspecified address"),
        _ if addr.is_loopback() => Some("a loopback address"),
        _ if addr.is_multicast() => Some("a multicast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address in the notation of IPv6"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of \"this network\" (0.0.0.0/8)"),
        _ => None,
    }
}

/// An address with its subnet, as an interface has it.
pub(crate) fn is_own_address(doc: &Doc<'_>, prefix: &At<Prefix>) -> bool {
    let (subnet, addr) = (prefix.value, prefix.value.addr());
    if let Some(fault) = not_a_host(addr) {
        doc.error(&prefix.at, format!("{addr} is {fault}"), "give an address a host can have");
        return false;
    }
    if subnet.prefix_len() == 0 {
        let what = format!("{subnet} makes every address a neighbor");
        let usual = if addr.is_ipv4() { 24 } else { 64 };
        doc.error(&prefix.at, what, format!("give the length of the subnet, as in /{usual}"));
        return false;
    }
    if is_edge(subnet, addr) {
        let what = format!("{addr} is the {} address of {subnet}", edge_name(subnet, addr));
        doc.error(&prefix.at, what, "give the address of the director with the length of its subnet");
        return false;
    }
    true
}

/// A prefix without host bits, as a route has it.
pub(crate) fn is_network(doc: &Doc<'_>, prefix: &At<Prefix>) -> bool {
    let (to, network) = (prefix.value, prefix.value.network());
    if to.addr() != network {
        let what = format!("{to} has bits set beyond its prefix length");
        let fix =
            format!("write {network}/{}, or {} for the one host", to.prefix_len(), Prefix::host(to.addr()));
        doc.error(&prefix.at, what, fix);
        return false;
    }
    true
}

pub(crate) fn is_station(doc: &Doc<'_>, mac: &At<MacAddr>) -> bool {
    let fault = match mac.value {
        MacAddr::BROADCAST => "the broadcast address",
        mac if mac.is_multicast() => "a multicast address",
        MacAddr([0, 0, 0, 0, 0, 0]) => "no station's address",
        _ => return true,
    };
    let fix = "use the address of one station: the first byte is even, 02 for your own";
    doc.error(&mac.at, format!("MAC address {} is {fault}", mac.value), fix);
    false
}

/// Notes that `addr` cannot be a host's; what it is called comes first in the sentence.
pub(crate) fn check_host(doc: &Doc<'_>, label: &str, addr: IpAddr, at: &Location) -> bool {
    let link_local = is_link_local(addr).then_some("a link-local address, which is valid on one link only");
    let Some(fault) = not_a_host(addr).or(link_local) else { return true };
    doc.error(at, format!("{label} {addr} is {fault}"), "give an address a host can have");
    false
}

/// The rules of Linux (15 bytes, no `/`, `:` or space) without what its tools take for something else.
pub(crate) fn is_device_name(doc: &Doc<'_>, kind: &str, name: &At<&str>) -> bool {
    let text = name.value;
    let odd = |letter: &char| !(letter.is_ascii_alphanumeric() || "-_.@+".contains(*letter));
    let (what, fix) = if text.len() > 15 {
        (format!("{kind} name {text:?} is longer than 15 bytes"), "use at most 15 bytes, the limit of Linux")
    } else if text.is_empty() || text.starts_with(['.', '-']) {
        (format!("{kind} name {text:?} is not a device's"), "begin the name with a letter or a digit")
    } else if let Some(letter) = text.chars().find(odd) {
        (format!("{kind} name {text:?} has {letter:?} in it"), "use letters, digits and - _ . @ + only")
    } else if ["lo", "all", "default"].contains(&text) {
        (format!("{kind} name {text:?} is taken by Linux"), "use another name")
    } else {
        return true;
    };
    doc.error(&name.at, what, fix);
    false
}
