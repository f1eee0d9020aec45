//! Metrics of interfaces and of the flow cache.

use uvs_attach::CacheStatus;

use super::Column;
use super::page::{Kind, Page};
use crate::traffic::{FlowCounts, InterfaceCounts, IoFailure};

/// What passed through interfaces, in the director and in the flow cache.
pub(super) fn traffic(page: &mut Page, interfaces: &[(String, InterfaceCounts)]) {
    let directions =
        |counts: &InterfaceCounts| [("receive", counts.received), ("transmit", counts.transmitted)];
    let counters: [Column<FlowCounts, u64>; 4] = [
        (
            "uvs_interface_frames_total",
            "Frames read from and written to a device of the director; a GSO packet counts as one.",
            |flow| flow.frames,
        ),
        ("uvs_interface_bytes_total", "Bytes of these frames.", |flow| flow.bytes),
        ("uvs_interface_gso_packets_total", "Those of the frames that were GSO packets.", |flow| {
            flow.gso_packets
        }),
        ("uvs_interface_gso_segments_total", "Packets in these GSO packets.", |flow| flow.gso_segments),
    ];
    for (name, help, read) in counters {
        let mut family = page.family(name, Kind::Counter, help);
        for (interface, counts) in interfaces {
            for (direction, flow) in directions(counts) {
                family.sample(&[("interface", interface), ("direction", direction)], read(&flow));
            }
        }
    }
    let mut family = page.family(
        "uvs_interface_split_gso_packets_total",
        Kind::Counter,
        "GSO packets that were written packet by packet, for the device does not take them as one.",
    );
    for (interface, counts) in interfaces {
        family.sample(
            &[("interface", interface), ("direction", "transmit")],
            counts.transmitted.split_gso_packets,
        );
    }
    let mut family =
        page.family("uvs_interface_errors_total", Kind::Counter, "Reads and writes that a device refused.");
    for (interface, counts) in interfaces {
        for (direction, flow) in directions(counts) {
            for (failure, n) in IoFailure::ALL.into_iter().zip(flow.errors) {
                family.sample(
                    &[("interface", interface), ("direction", direction), ("reason", failure.label())],
                    n,
                );
            }
        }
    }
}

/// Which interfaces are attached to their links.
pub(super) fn attached(page: &mut Page, attached: &[(String, String, bool)]) {
    let mut family = page.family(
        "uvs_interface_attached",
        Kind::Gauge,
        "Whether an interface with attach = \"tcx\" is attached to its link: 0 while the link is not there.",
    );
    for (interface, link, now) in attached {
        family.sample(&[("interface", interface), ("link", link)], u64::from(*now));
    }
}

/// The flow cache as a whole.
pub(super) fn flow_cache(page: &mut Page, status: Option<&CacheStatus>, evicted: u64) {
    let Some(status) = status else { return };
    let gauges: [Column<CacheStatus, u64>; 3] = [
        (
            "uvs_flow_cache_flows",
            "Flows in the kernel's flow cache: two of a NAT connection, one of others.",
            |status| status.flows as u64,
        ),
        ("uvs_flow_cache_flows_max", "Flows of each IP version that have room in it.", |status| {
            status.flows_max as u64
        }),
        ("uvs_flow_cache_next_hops", "Next hops that the flow cache sends to.", |status| {
            status.next_hops as u64
        }),
    ];
    let counters: [Column<CacheStatus, u64>; 6] = [
        ("uvs_flow_cache_connections_total", "Connections placed in the flow cache.", |status| status.placed),
        (
            "uvs_flow_cache_refused_total",
            "Tries to place a connection for which the flow cache had no room: its packets pass the director.",
            |status| status.refused,
        ),
        ("uvs_flow_cache_packets_total", "Packets forwarded by the flow cache.", |status| status.packets),
        (
            "uvs_flow_cache_unreported_total",
            "Packets that passed the director because it could not be told of them otherwise.",
            |status| status.unreported,
        ),
        (
            "uvs_flow_cache_dropped_total",
            "Packets that the flow cache dropped: the kernel did not let them be rewritten.",
            |status| status.dropped,
        ),
        (
            "uvs_flow_cache_failed_total",
            "Operations on the maps of the flow cache that failed: the kernel refused, or next hops or destinations are too many.",
            |status| status.failed,
        ),
    ];
    for (name, help, read) in gauges {
        page.family(name, Kind::Gauge, help).sample(&[], read(status));
    }
    for (name, help, read) in counters {
        page.family(name, Kind::Counter, help).sample(&[], read(status));
    }
    page.family(
        "uvs_flow_cache_evicted_total",
        Kind::Counter,
        "Connections that left a full flow cache for others, having been idle: their packets pass the director.",
    )
    .sample(&[], evicted);
}
