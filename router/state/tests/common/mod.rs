//! Records of every kind.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "a test harness")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use uvs_director::record::{
    ConnectionId, ConnectionRecord, Counted, CountsRecord, FtpRecord, Group, Passive, Replaced,
};
use uvs_director::spec::{Family, Forwarding, Protocol, ServiceKey, Tunnel, TunnelChecksum};
use uvs_director::view::{Counters, Origin};
use uvs_wire::Address;

pub fn ip() -> impl Strategy<Value = IpAddr> {
    let v6 = any::<u128>().prop_map(Ipv6Addr::from_bits);
    let v6 = v6.prop_filter("a mapped address is the IPv4 address", |addr| addr.to_ipv4_mapped().is_none());
    prop_oneof![any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()), v6.prop_map(IpAddr::from)]
}

fn end() -> impl Strategy<Value = (Address, u16)> {
    (ip(), any::<u16>()).prop_map(|(ip, port)| (ip.into(), port))
}

fn socket_addr() -> impl Strategy<Value = SocketAddr> {
    (ip(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

fn service() -> impl Strategy<Value = ServiceKey> {
    let family = prop::sample::select(vec![Family::V4, Family::V6]);
    prop_oneof![
        (protocol(), socket_addr()).prop_map(|(protocol, addr)| ServiceKey::new(protocol, addr)),
        (1u32.., family).prop_map(|(mark, family)| ServiceKey::Mark { mark, family }),
    ]
}

pub fn forwarding() -> impl Strategy<Value = Forwarding> {
    let checksum =
        prop::sample::select(vec![TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote]);
    prop_oneof![
        Just(Forwarding::Nat),
        Just(Forwarding::Direct),
        Just(Forwarding::Tunnel(Tunnel::Ipip)),
        (any::<u16>(), checksum)
            .prop_map(|(port, checksum)| Forwarding::Tunnel(Tunnel::Gue { port, checksum })),
        any::<bool>().prop_map(|checksum| Forwarding::Tunnel(Tunnel::Gre { checksum })),
    ]
}

pub fn group() -> impl Strategy<Value = Option<Group>> {
    prop::option::of(
        (1u64.., any::<bool>(), any::<bool>()).prop_map(|(number, is_assured, is_one_packet)| Group {
            number,
            is_assured,
            is_one_packet,
        }),
    )
}

pub fn ftp() -> impl Strategy<Value = Option<FtpRecord>> {
    let new = prop::collection::vec(any::<u8>(), 0..80);
    let replaced = (any::<u32>(), any::<u32>(), new).prop_map(|(seq, old_len, new)| Replaced {
        seq,
        old_len,
        new: new.into(),
    });
    let passive = prop::option::of(prop::sample::select(vec![Passive::Pasv, Passive::Epsv]));
    prop::option::of(
        (passive, any::<u32>(), prop::option::of(replaced))
            .prop_map(|(passive, shift, replaced)| FtpRecord { passive, shift, replaced }),
    )
}

pub fn id() -> impl Strategy<Value = ConnectionId> {
    let protocol = prop_oneof![protocol().prop_map(Protocol::number), Just(0)];
    (protocol, end(), end(), any::<bool>(), any::<bool>()).prop_map(
        |(protocol, client, asked_for, template, announced)| ConnectionId {
            protocol,
            client,
            asked_for,
            template,
            announced,
        },
    )
}

/// A record; half of them are of the service that is named by what they ask for, and of the server that they go to.
pub fn record() -> impl Strategy<Value = ConnectionRecord> {
    let names = (id(), service(), socket_addr(), end(), any::<[bool; 2]>());
    let flags = any::<[bool; 6]>();
    let origin = prop::sample::select(Origin::ALL.to_vec());
    let numbers = (any::<u8>(), any::<u8>(), any::<u32>(), any::<u64>(), prop::option::of(any::<u64>()));
    (names, forwarding(), flags, origin, numbers, group(), group(), ftp()).prop_map(
        |(names, forwarding, flags, origin, numbers, hangs_on, leads, ftp)| {
            let (id, service, server, destination, usual) = names;
            let asked_for = SocketAddr::new(id.asked_for.0.to_ip(), id.asked_for.1);
            let own = Protocol::from_number(id.protocol).map(|it| ServiceKey::new(it, asked_for));
            let [is_removed, is_active, is_answered, is_outdone, is_cached, _] = flags;
            let (state, packets_in, timeout, remaining, waited) = numbers;
            ConnectionRecord {
                id,
                service: own.filter(|_| usual[0]).unwrap_or(service),
                server: if usual[1] { SocketAddr::new(destination.0.to_ip(), destination.1) } else { server },
                is_removed,
                destination,
                forwarding,
                state,
                is_active,
                is_answered,
                is_outdone,
                origin,
                packets_in,
                timeout: Duration::from_millis(timeout.into()),
                remaining: Duration::from_nanos(remaining),
                waited: waited.map(Duration::from_nanos),
                hangs_on,
                leads,
                ftp,
                is_cached,
            }
        },
    )
}

pub fn counts() -> impl Strategy<Value = CountsRecord> {
    let of = prop_oneof![
        Just(Counted::Total),
        service().prop_map(Counted::Service),
        (service(), socket_addr()).prop_map(|(service, addr)| Counted::Destination(service, addr)),
    ];
    (of, any::<[u64; 5]>()).prop_map(|(of, [connections, packets_in, packets_out, bytes_in, bytes_out])| {
        let counters = Counters { connections, packets_in, packets_out, bytes_in, bytes_out };
        CountsRecord { of, counters }
    })
}
