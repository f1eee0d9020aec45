//! Firewall marks without a firewall: rules that give packets a mark, which a service can be named by.

use uvs_wire::Packet;

use crate::base::ids::PortId;
use crate::base::spec::{MacAddr, MarkRule};

/// The mark of a packet: that of the first rule that matches, else 0.
pub(crate) fn mark_of(rules: &[MarkRule], port: PortId, source_mac: Option<MacAddr>, packet: &Packet) -> u32 {
    rules.iter().find(|rule| matches(rule, port, source_mac, packet)).map_or(0, |rule| rule.mark)
}

fn matches(rule: &MarkRule, port: PortId, source_mac: Option<MacAddr>, packet: &Packet) -> bool {
    let has_ports = rule.source_ports.is_none() && rule.destination_ports.is_none() || packet.has_ports();
    has_ports
        && rule.port.is_none_or(|want| want == port)
        && rule
            .source_mac
            .is_none_or(|want| source_mac.is_some_and(|mac| (mac == want) != rule.not_source_mac))
        && rule.protocol.is_none_or(|want| want.number() == packet.protocol)
        && rule.source.is_none_or(|want| want.contains(packet.src.to_ip()))
        && rule.destination.is_none_or(|want| want.contains(packet.dst.to_ip()))
        && rule.source_ports.is_none_or(|(low, high)| (low..=high).contains(&packet.src_port))
        && rule.destination_ports.is_none_or(|(low, high)| (low..=high).contains(&packet.dst_port))
}
