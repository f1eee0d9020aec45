//! Netlink messages from our types, and our types from netlink messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, address, route, rule};
use uvs_director::spec::{Family, MacAddr, Prefix};

use super::{LinkLosses, LinkSight, LinkState, RouteState};

/// The route's message: it serves to add the route and to remove it.
pub(crate) fn route_message(
    to: Prefix,
    via: Option<IpAddr>,
    device: Option<u32>,
    table: u32,
) -> route::RouteMessage {
    let mut message = match (to.network(), via) {
        (IpAddr::V4(network), via) => {
            let builder = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network, to.prefix_len());
            match via {
                Some(IpAddr::V4(gateway)) => builder.gateway(gateway),
                Some(IpAddr::V6(gateway)) => builder.via(gateway), // RFC 8950
                None => builder.scope(route::RouteScope::Link),
            }
            .table_id(table)
            .build()
        }
        (IpAddr::V6(network), via) => {
            let builder = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(network, to.prefix_len())
                .table_id(table);
            match via {
                Some(IpAddr::V6(gateway)) => builder.gateway(gateway).build(),
                // The kernel refuses what has no meaning, and its error names the step.
                Some(IpAddr::V4(gateway)) => builder.gateway(gateway.to_ipv6_mapped()).build(),
                None => builder.build(),
            }
        }
    };
    message.attributes.extend(device.map(route::RouteAttribute::Oif));
    message
}

/// Which packets a rule is about; what is left out always matches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RuleMatch<'n> {
    /// The link they come in on; `lo` for those of the host's own processes.
    pub(crate) link: Option<&'n str>,
    pub(crate) from: Option<IpAddr>,
    pub(crate) to: Option<IpAddr>,
}

/// A rule that has packets looked up in `table`. The message serves to add the rule and to remove it: as the kernel
/// compares what is given only, the priority always is.
pub(crate) fn rule_message(of: Family, what: RuleMatch<'_>, table: u32, priority: u32) -> rule::RuleMessage {
    let mut message = rule::RuleMessage::default();
    message.header.family = match of {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    message.header.action = rule::RuleAction::ToTable;
    // Beyond 255 the header has no room for it, and the attribute counts.
    message.header.table = u8::try_from(table).unwrap_or(route::RouteHeader::RT_TABLE_UNSPEC);
    message.attributes.extend(what.link.map(|link| rule::RuleAttribute::Iifname(link.to_owned())));
    if let Some(from) = what.from {
        message.header.src_len = Prefix::host(from).prefix_len();
        message.attributes.push(rule::RuleAttribute::Source(from));
    }
    if let Some(to) = what.to {
        message.header.dst_len = Prefix::host(to).prefix_len();
        message.attributes.push(rule::RuleAttribute::Destination(to));
    }
    message.attributes.push(rule::RuleAttribute::Table(table));
    message.attributes.push(rule::RuleAttribute::Priority(priority));
    message
}

/// The rule's place among others; the kernel does not tell 0.
pub(crate) fn rule_priority(message: &rule::RuleMessage) -> u32 {
    let given = message.attributes.iter().find_map(|attribute| match attribute {
        rule::RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    given.unwrap_or(0)
}

/// The table that the rule has packets looked up in, or 0.
pub(crate) fn rule_table(message: &rule::RuleMessage) -> u32 {
    let given = message.attributes.iter().find_map(|attribute| match attribute {
        rule::RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    given.unwrap_or_else(|| message.header.table.into())
}

pub(super) fn family(addr: IpAddr) -> AddressFamily {
    match addr {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

pub(super) fn link_sight(message: LinkMessage) -> LinkSight {
    let losses = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(LinkLosses {
            rx_dropped: stats.rx_dropped,
            tx_dropped: stats.tx_dropped,
            rx_errors: stats.rx_errors,
            tx_errors: stats.tx_errors,
        }),
        _ => None,
    });
    let carrier = message.header.flags.contains(LinkFlags::LowerUp);
    LinkSight { carrier, losses: losses.unwrap_or_default(), state: link_state(message) }
}

pub(super) fn link_state(message: LinkMessage) -> LinkState {
    let mut state = LinkState {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        master: None,
        is_bridge: false,
        is_veth: false,
        peer_is_elsewhere: false,
        promiscuity: 0,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => state.name = name,
            LinkAttribute::Address(mac) => state.mac = <[u8; 6]>::try_from(mac).ok().map(MacAddr),
            LinkAttribute::Mtu(mtu) => state.mtu = mtu,
            LinkAttribute::Controller(index) => state.master = Some(index),
            LinkAttribute::Promiscuity(count) => state.promiscuity = count,
            // The kernel says it only where it is another namespace.
            LinkAttribute::LinkNetNsId(_) => state.peer_is_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                state.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
                state.is_veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            _ => {}
        }
    }
    state
}

pub(super) fn address_state(message: &address::AddressMessage) -> Option<(u32, Prefix)> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            address::AddressAttribute::Local(addr) if local => Some(*addr),
            address::AddressAttribute::Address(addr) if !local => Some(*addr),
            _ => None,
        })
    };
    // On a point-to-point link ADDRESS is the peer's; IPv6 gives no LOCAL otherwise.
    let addr = find(true).or_else(|| find(false))?;
    Some((message.header.index, Prefix::new(addr, message.header.prefix_len)?))
}

pub(super) fn route_state(message: &route::RouteMessage) -> Option<RouteState> {
    let addr = |address: &route::RouteAddress| match address {
        route::RouteAddress::Inet(addr) => Some(IpAddr::V4(*addr)),
        route::RouteAddress::Inet6(addr) => Some(IpAddr::V6(*addr)),
        _ => None,
    };
    let mut to = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut via, mut device, mut table) = (None, None, u32::from(message.header.table));
    for attribute in &message.attributes {
        match attribute {
            route::RouteAttribute::Destination(address) => to = addr(address)?,
            route::RouteAttribute::Gateway(address) => via = addr(address),
            route::RouteAttribute::Oif(index) => device = Some(*index),
            route::RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    Some(RouteState { to: Prefix::new(to, message.header.destination_prefix_length)?, via, device, table })
}
