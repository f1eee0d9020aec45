//! The IP packet around an advertisement.

use std::net::IpAddr;

use uvs_director::Frame;
use uvs_ha::wire::{PROTOCOL, TTL};
use uvs_wire::ipv4::{self, Ipv4Repr};
use uvs_wire::ipv6::{self, Ipv6Repr};

/// Internetwork control (CS6), as routing protocols have it (RFC 4594, 3.2).
const CONTROL: u8 = 0xc0;

/// `None`: addresses of two families, or a message that fits into no packet.
pub(super) fn packet(id: u16, from: IpAddr, to: IpAddr, message: &[u8]) -> Option<Frame> {
    let payload_len = u16::try_from(message.len()).ok()?;
    let mut bytes = match (from, to) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            u16::try_from(ipv4::HEADER_LEN + message.len()).ok()?;
            let mut header = vec![0; ipv4::HEADER_LEN];
            let repr = Ipv4Repr {
                src,
                dst,
                protocol: PROTOCOL,
                ttl: TTL,
                tos: CONTROL,
                id,
                dont_fragment: false,
                payload_len,
            };
            repr.emit(&mut header);
            header
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut header = vec![0; ipv6::HEADER_LEN];
            let repr = Ipv6Repr {
                src,
                dst,
                next_header: PROTOCOL,
                hop_limit: TTL,
                traffic_class: CONTROL,
                payload_len,
            };
            repr.emit(&mut header);
            header
        }
        _ => return None,
    };
    bytes.extend_from_slice(message);
    Some(Frame::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use uvs_ha::wire::{Advertisement, ChecksumForm, Datagram, Interval, Version};

    use super::*;

    #[test]
    fn what_is_packed_is_read_again() {
        for (from, to, address) in
            [("192.0.2.2", "224.0.0.18", "192.0.2.10"), ("fe80::2", "ff02::12", "fe80::10")]
        {
            let [from, to, address]: [IpAddr; 3] =
                [from, to, address].map(|text| text.parse().expect("an address"));
            let said = Advertisement {
                version: Version::V3,
                vrid: 7,
                priority: 100,
                interval: Interval::DEFAULT,
                password: None,
                addresses: vec![address],
            };
            let packet = packet(1, from, to, &said.emit(from, to, ChecksumForm::Rfc5798)).expect("one");
            let datagram = Datagram::of_packet(packet.bytes()).expect("a datagram");
            assert_eq!((datagram.src, datagram.dst, datagram.ttl), (from, to, 255));
            assert_eq!(datagram.parse(255).expect("an advertisement").0, said);
        }
        let both = packet(1, IpAddr::from([192, 0, 2, 2]), "ff02::12".parse().expect("one"), &[]);
        assert!(both.is_none());
    }
}
