//! Frames that tell everybody on a link where a virtual address is now.
//!
//! Over IPv4 a gratuitous ARP request (sender and target are the address, RFC 5227, 3), over IPv6 an unsolicited
//! neighbour advertisement that overrides what hosts know (RFC 4861, 7.2.6; RFC 9568, 6.4.2).

use core::net::IpAddr;

use uvs_wire::arp::{self, ArpRepr, Operation};
use uvs_wire::ethernet;
use uvs_wire::ndp::{self, NdpRepr};

use crate::wire::Family;

/// The MAC address of a virtual router (RFC 9568, 7.3), where it has one of its own.
pub const fn virtual_mac(family: Family, vrid: u8) -> [u8; 6] {
    let kind = match family {
        Family::V4 => 1,
        Family::V6 => 2,
    };
    [0, 0, 0x5e, 0, kind, vrid]
}

/// The Ethernet address of the group that advertisements are sent to.
pub const fn group_mac(family: Family) -> [u8; 6] {
    match family {
        Family::V4 => [1, 0, 0x5e, 0, 0, 0x12],
        Family::V6 => [0x33, 0x33, 0, 0, 0, 0x12],
    }
}

/// The Ethernet frame, without padding and check sequence, that says that `address` is at `mac`. `router`: whether the
/// interface forwards IPv6, which the advertisement tells.
pub fn frame(address: IpAddr, mac: [u8; 6], router: bool) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => {
            let mut frame = vec![0; ethernet::HEADER_LEN + arp::LEN];
            ethernet::write(&mut frame, ethernet::BROADCAST, mac, ethernet::ETHERTYPE_ARP);
            let request = ArpRepr {
                operation: Operation::Request,
                sender_mac: mac,
                sender_ip: ip,
                target_mac: ethernet::BROADCAST,
                target_ip: ip,
            };
            request.emit(&mut frame[ethernet::HEADER_LEN..]);
            frame
        }
        IpAddr::V6(ip) => {
            let mut frame = vec![0; ethernet::HEADER_LEN + ndp::LEN];
            let to = ndp::multicast_mac(ndp::ALL_NODES);
            ethernet::write(&mut frame, to, mac, ethernet::ETHERTYPE_IPV6);
            let advertisement = NdpRepr::Advertisement {
                target: ip,
                target_mac: Some(mac),
                router,
                solicited: false,
                overrides: true,
            };
            advertisement.emit(&mut frame[ethernet::HEADER_LEN..], ip, ndp::ALL_NODES);
            frame
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_wire::Packet;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    #[test]
    fn an_ipv4_address_is_announced_by_an_arp_request_for_itself() {
        let frame = frame("10.0.0.100".parse().unwrap(), MAC, true);
        let read = etherparse::PacketHeaders::from_ethernet_slice(&frame).expect("it is a frame");
        let Some(etherparse::LinkHeader::Ethernet2(link)) = read.link else { panic!("{read:?}") };
        assert_eq!((link.destination, link.source, link.ether_type.0), ([0xff; 6], MAC, 0x806));
        let arp = ArpRepr::parse(&frame[14..]).expect("it is ARP");
        assert_eq!(arp.operation, Operation::Request);
        assert_eq!((arp.sender_mac, arp.target_mac), (MAC, [0xff; 6]));
        assert_eq!([arp.sender_ip, arp.target_ip], [core::net::Ipv4Addr::new(10, 0, 0, 100); 2]);
    }

    #[test]
    fn an_ipv6_address_is_announced_to_all_nodes_and_overrides() {
        for router in [false, true] {
            let address = "2001:db8::100".parse().unwrap();
            let frame = frame(IpAddr::V6(address), MAC, router);
            assert_eq!(ethernet::destination(&frame), [0x33, 0x33, 0, 0, 0, 1]);
            assert_eq!(ethernet::source(&frame), MAC);
            let packet = Packet::parse(&frame[14..]).expect("it is a packet");
            assert_eq!((packet.dst.to_v6(), packet.ttl), (ndp::ALL_NODES, 255));
            let want = NdpRepr::Advertisement {
                target: address,
                target_mac: Some(MAC),
                router,
                solicited: false,
                overrides: true,
            };
            assert_eq!(NdpRepr::parse(&frame[14..], &packet), Ok(want));
        }
    }

    #[test]
    fn mac_addresses_are_those_of_the_rfc() {
        assert_eq!(virtual_mac(Family::V4, 51), [0, 0, 0x5e, 0, 1, 51]);
        assert_eq!(virtual_mac(Family::V6, 255), [0, 0, 0x5e, 0, 2, 255]);
        assert_eq!(group_mac(Family::V6), ndp::multicast_mac(crate::wire::GROUP_V6));
    }
}
