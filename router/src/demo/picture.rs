//! One request's way through the network, and its answer's, as heard on the wires.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use uvs_director::spec::MacAddr;
use uvs_lab::capture::{Heard, Packet};

/// Who has which MAC address.
#[derive(Debug, Default)]
pub(super) struct Stations(HashMap<MacAddr, String>);

impl Stations {
    pub(super) fn add(&mut self, mac: MacAddr, name: &str) {
        self.0.insert(mac, name.to_owned());
    }

    fn name(&self, mac: MacAddr) -> String {
        self.0.get(&mac).cloned().unwrap_or_else(|| mac.to_string())
    }
}

/// The packet between two stations, or inside one.
#[derive(Debug)]
struct Hop {
    from: String,
    to: String,
    packet: Packet,
}

/// Draws the first packet of the connection from `client` and of its answer. `heard` is in the order of time.
///
/// # Errors
/// A sentence: that connection was not heard.
pub(super) fn draw(heard: &[Heard], client: SocketAddr, stations: &Stations) -> Result<String, String> {
    let request =
        hops(heard, stations, |packet| packet.src() == client && packet.tcp.as_deref() == Some("SYN"));
    let answer =
        hops(heard, stations, |packet| packet.dst() == client && packet.tcp.as_deref() == Some("SYN+ACK"));
    if request.is_empty() || answer.is_empty() {
        return Err(format!("the connection from {client} was not heard"));
    }
    let mut text = String::new();
    describe(&mut text, "The way of one request (its SYN), as heard on the wires", &request);
    describe(&mut text, "The way of its answer (SYN+ACK)", &answer);
    let passes = answer.iter().any(|hop| hop.from == "director" || hop.to == "director");
    let remark = if passes {
        "The answer went back through the director, which gave it the VIP as its source."
    } else {
        "The answer did not pass the director: the real server sent it to the client with the VIP as its source."
    };
    text.push_str(remark);
    text.push('\n');
    Ok(text)
}

/// The packets that `wanted` picks, each form of it once, in the order in which they were first heard.
fn hops(heard: &[Heard], stations: &Stations, wanted: impl Fn(&Packet) -> bool) -> Vec<Hop> {
    let mut hops: Vec<Hop> = Vec::new();
    for frame in heard {
        let Some(packet) = Packet::parse(frame).filter(&wanted) else { continue };
        // The two ends of a cable, the ports of a bridge and retransmissions all show the same frame.
        if hops.iter().any(|hop| hop.packet == packet) {
            continue;
        }
        let (from, to) = match packet.macs {
            Some((from, to)) => (stations.name(from), stations.name(to)),
            None => (frame.interface.clone(), frame.host.clone()),
        };
        hops.push(Hop { from, to, packet });
    }
    hops
}

fn describe(text: &mut String, title: &str, hops: &[Hop]) {
    let mut lines = vec![format!("{title}\n")];
    let mut before: Option<&Hop> = None;
    for (number, hop) in hops.iter().enumerate() {
        if let Some(before) = before {
            let who = if hop.packet.macs.is_some() { &hop.from } else { &hop.to };
            lines.push(format!("      {who} {}\n", changes(&before.packet, &hop.packet)));
        }
        let route = format!("{} --> {}", hop.from, hop.to);
        let macs = match hop.packet.macs {
            Some((from, to)) => format!("{from} > {to}"),
            None => "(no MAC addresses on a TUN device)".to_owned(),
        };
        let inner = &hop.packet;
        let addresses = match inner.outer {
            Some(outer) => format!(
                "{} > {} ttl {} [ {} > {} ttl {} ]",
                outer.src,
                outer.dst,
                outer.ttl,
                inner.src(),
                inner.dst(),
                inner.ip.ttl
            ),
            None => format!("{} > {} ttl {}", inner.src(), inner.dst(), inner.ip.ttl),
        };
        lines.push(format!("  {}  {route:<22} {macs:<38} {addresses}\n", number + 1));
        before = Some(hop);
    }
    text.extend(lines);
}

/// What was done to a packet, as the end of a sentence.
fn changes(before: &Packet, after: &Packet) -> String {
    let mut parts = Vec::new();
    match (before.outer, after.outer) {
        (None, Some(outer)) => {
            parts.push(format!("puts it inside a packet of its own, {} > {}", outer.src, outer.dst));
        }
        (Some(_), None) => parts.push("takes it out of the packet around it".to_owned()),
        (Some(old), Some(new)) if old.ttl != new.ttl => {
            parts.push(format!("routes it on: outer ttl {} becomes {}", old.ttl, new.ttl));
        }
        _ => {}
    }
    for (what, old, new) in
        [("source", before.src(), after.src()), ("destination", before.dst(), after.dst())]
    {
        if old != new {
            parts.push(format!("rewrites the {what}: {old} becomes {new}"));
        }
    }
    let mut text = String::new();
    let macs = before.macs.is_some() && after.macs.is_some() && before.macs != after.macs;
    match (parts.is_empty(), macs) {
        (true, true) => text.push_str("changes the MAC addresses and no IP address"),
        (false, true) => parts.push("gives it new MAC addresses".to_owned()),
        _ => {}
    }
    text.push_str(&parts.join("; "));
    if before.ip.ttl != after.ip.ttl {
        let separator = if text.is_empty() { "" } else { "; " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}ttl {} becomes {}", before.ip.ttl, after.ip.ttl);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A SYN (or SYN+ACK) as it would be heard.
    fn heard(macs: [u8; 2], src: &str, dst: &str, ttl: u8, flags: u8, outer: Option<[u8; 8]>) -> Heard {
        let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
        let ip = |protocol: u8, ttl: u8, addresses: &[u8], payload: &[u8]| {
            let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, ttl, protocol, 0, 0];
            bytes.extend_from_slice(addresses);
            bytes.extend_from_slice(payload);
            let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            bytes[2..4].copy_from_slice(&length);
            bytes
        };
        let octets = |addr: SocketAddr| match addr.ip() {
            std::net::IpAddr::V4(addr) => addr.octets(),
            std::net::IpAddr::V6(_) => unreachable!("the tests are IPv4"),
        };
        let mut tcp = Vec::new();
        tcp.extend_from_slice(&src.port().to_be_bytes());
        tcp.extend_from_slice(&dst.port().to_be_bytes());
        tcp.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        let mut packet = ip(6, ttl, &[octets(src), octets(dst)].concat(), &tcp);
        if let Some(addresses) = outer {
            packet = ip(4, 64, &addresses, &packet);
        }
        let mut bytes = vec![2, 0, 0, 0, 0, macs[1], 2, 0, 0, 0, 0, macs[0], 8, 0];
        bytes.extend(packet);
        let (host, interface) = ("somewhere".to_owned(), "eth0".to_owned());
        Heard { at: Duration::ZERO, host, interface, sent: false, ethernet: true, bytes }
    }

    fn stations() -> Stations {
        let mut stations = Stations::default();
        for (last, name) in [(2, "client"), (1, "director"), (11, "rs1")] {
            stations.add(MacAddr([2, 0, 0, 0, 0, last]), name);
        }
        stations
    }

    const SYN: u8 = 0x02;
    const SYN_ACK: u8 = 0x12;

    #[test]
    fn nat_is_seen_both_ways() {
        let frames = [
            heard([2, 1], "10.0.0.2:4000", "10.0.0.100:80", 64, SYN, None),
            heard([2, 1], "10.0.0.2:4000", "10.0.0.100:80", 64, SYN, None),
            heard([1, 11], "10.0.0.2:4000", "192.168.10.11:8080", 63, SYN, None),
            heard([11, 1], "192.168.10.11:8080", "10.0.0.2:4000", 64, SYN_ACK, None),
            heard([1, 2], "10.0.0.100:80", "10.0.0.2:4000", 63, SYN_ACK, None),
        ];
        let text = draw(&frames, "10.0.0.2:4000".parse().unwrap(), &stations()).unwrap();
        for want in [
            "1  client --> director ",
            "director rewrites the destination: 10.0.0.100:80 becomes 192.168.10.11:8080; gives it new MAC \
             addresses; ttl 64 becomes 63",
            "2  director --> rs1 ",
            "director rewrites the source: 192.168.10.11:8080 becomes 10.0.0.100:80",
            "went back through the director",
        ] {
            assert!(text.contains(want), "{want}\nis not in\n{text}");
        }
        assert!(!text.contains("  3  "), "the same frame on two wires is one hop:\n{text}");
    }

    #[test]
    fn direct_routing_changes_macs_only_and_tunnelling_wraps() {
        let answer = heard([11, 2], "10.0.0.100:80", "10.0.0.2:4000", 64, SYN_ACK, None);
        let request = heard([2, 1], "10.0.0.2:4000", "10.0.0.100:80", 64, SYN, None);
        let cases = [
            (
                heard([1, 11], "10.0.0.2:4000", "10.0.0.100:80", 64, SYN, None),
                "director changes the MAC addresses and no IP address",
            ),
            (
                heard([1, 11], "10.0.0.2:4000", "10.0.0.100:80", 64, SYN, Some([10, 0, 0, 1, 10, 1, 0, 11])),
                "director puts it inside a packet of its own, 10.0.0.1 > 10.1.0.11; gives it new MAC addresses",
            ),
        ];
        for (forwarded, want) in cases {
            let frames = [request.clone(), forwarded, answer.clone()];
            let text = draw(&frames, "10.0.0.2:4000".parse().unwrap(), &stations()).unwrap();
            assert!(text.contains(want), "{want}\nis not in\n{text}");
            assert!(text.contains("did not pass the director"), "{text}");
        }
    }

    #[test]
    fn a_connection_that_was_not_heard_is_not_drawn() {
        let other = heard([2, 1], "10.0.0.2:4001", "10.0.0.100:80", 64, SYN, None);
        assert!(draw(&[other], "10.0.0.2:4000".parse().unwrap(), &stations()).is_err());
    }
}
