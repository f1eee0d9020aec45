//! Firewall marks without a firewall: rules that give packets a mark, which a service can be named by.

use uvs_wire::Packet;

use crate::base::ids::PortId;
use crate::base::spec::{MacAddr, MarkRule};
use crate::flow_cache::FlowKey;

/// The mark of a packet: that of the first rule that matches, else 0.
pub(crate) fn mark_of(rules: &[MarkRule], port: PortId, source_mac: Option<MacAddr>, packet: &Packet) -> u32 {
    if rules.is_empty() {
        return 0;
    }
    let key = FlowKey {
        protocol: packet.protocol,
        source: (packet.src, packet.src_port),
        destination: (packet.dst, packet.dst_port),
    };
    let matches = |rule: &&MarkRule| matches(rule, port, source_mac, packet.has_ports(), &key);
    rules.iter().find(matches).map_or(0, |rule| rule.mark)
}

/// The marks that packets of a flow may have, wherever they come in and whoever sends them; 0, the last, is none.
pub(crate) fn marks_of_flow(rules: &[MarkRule], key: &FlowKey) -> impl Iterator<Item = u32> {
    let marks = rules.iter().filter(|rule| matches_flow(rule, key)).map(|rule| rule.mark);
    marks.chain(core::iter::once(0))
}

fn matches(
    rule: &MarkRule,
    port: PortId,
    source_mac: Option<MacAddr>,
    has_ports: bool,
    key: &FlowKey,
) -> bool {
    let wants_ports = rule.source_ports.is_some() || rule.destination_ports.is_some();
    (has_ports || !wants_ports)
        && rule.port.is_none_or(|want| want == port)
        && rule
            .source_mac
            .is_none_or(|want| source_mac.is_some_and(|mac| (mac == want) != rule.not_source_mac))
        && matches_flow(rule, key)
}

/// Whether a rule matches, as far as addresses, ports and protocol go.
fn matches_flow(rule: &MarkRule, key: &FlowKey) -> bool {
    let ((source, source_port), (destination, destination_port)) = (key.source, key.destination);
    rule.protocol.is_none_or(|want| want.number() == key.protocol)
        && rule.source.is_none_or(|want| want.contains(source.to_ip()))
        && rule.destination.is_none_or(|want| want.contains(destination.to_ip()))
        && rule.source_ports.is_none_or(|(low, high)| (low..=high).contains(&source_port))
        && rule.destination_ports.is_none_or(|(low, high)| (low..=high).contains(&destination_port))
}
