//! Neighbour discovery (RFC 4861): solicitation and advertisement.
//!
//! ```text
//! 0       1       2               4                               8
//! +-------+-------+---------------+-------------------------------+
//! |135/136|   0   |   checksum    |RSO flags (advertisement) .. 0 |  0
//! +-------+-------+---------------+-------------------------------+
//! |                         target address                        |  8
//! +-------+-------+-----------------------------------------------+
//! |  1/2  |   1   |  link-layer address: 1 source's, 2 target's   | 24, may be missing
//! +-------+-------+-----------------------------------------------+
//! ```

use core::net::Ipv6Addr;

use crate::checksum::pseudo_header;
use crate::field::{array, get16};
use crate::ipv6::{self, Ipv6Repr};
use crate::{Address, Packet, ParseError, icmp};

/// Length of the whole IPv6 packet of a message with its one option.
pub const LEN: usize = ipv6::HEADER_LEN + MESSAGE_LEN + OPTION_LEN;

const MESSAGE_LEN: usize = 24;
const OPTION_LEN: usize = 8;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// All nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NdpRepr {
    /// Asks for the link-layer address of the target.
    Solicitation {
        /// Whose address is wanted.
        target: Ipv6Addr,
        /// The sender's own; none in duplicate address detection.
        source_mac: Option<[u8; 6]>,
    },
    /// Tells the link-layer address of the target.
    Advertisement {
        /// Whose address this is.
        target: Ipv6Addr,
        /// The address; an answer to a unicast solicitation may leave it out.
        target_mac: Option<[u8; 6]>,
        /// The sender is a router.
        router: bool,
        /// An answer to a solicitation.
        solicited: bool,
        /// Replaces what the receiver knows.
        overrides: bool,
    },
}

impl NdpRepr {
    /// Parses a message and checks it as RFC 4861, 7.1 asks: hop limit 255, code 0, checksum, target not
    /// multicast, options not empty, and the rules for an unspecified source. `packet` must be what `ip`
    /// was parsed to.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] and [`ParseError::Malformed`]. Other ICMPv6 messages are malformed here.
    pub fn parse(ip: &[u8], packet: &Packet) -> Result<Self, ParseError> {
        if packet.is_v4() || packet.protocol != icmp::PROTOCOL_V6 || packet.is_fragment() {
            return Err(ParseError::Malformed);
        }
        let message = packet.transport(ip);
        let kind = *message.first().ok_or(ParseError::Truncated)?;
        if !matches!(kind, icmp::v6::NEIGHBOR_SOLICITATION | icmp::v6::NEIGHBOR_ADVERTISEMENT) {
            return Err(ParseError::Malformed);
        }
        if message.len() < MESSAGE_LEN {
            return Err(ParseError::Truncated);
        }
        let target = Ipv6Addr::from(array::<16>(message, 8));
        if packet.ttl != 255
            || message[1] != 0
            || target.is_multicast()
            || Address::v6(target).is_v4()
            || !icmp::checksum_ok(ip, packet)
        {
            return Err(ParseError::Malformed);
        }
        let options = &message[MESSAGE_LEN..];
        if kind == icmp::v6::NEIGHBOR_SOLICITATION {
            let source_mac = link_layer_address(options, SOURCE_LINK_LAYER_ADDRESS)?;
            let to_group = solicited_node(target) == packet.dst.to_v6();
            if packet.src.is_unspecified() && (source_mac.is_some() || !to_group) {
                return Err(ParseError::Malformed);
            }
            return Ok(Self::Solicitation { target, source_mac });
        }
        let flags = message[4];
        if flags & SOLICITED != 0 && packet.dst.is_multicast() {
            return Err(ParseError::Malformed);
        }
        Ok(Self::Advertisement {
            target,
            target_mac: link_layer_address(options, TARGET_LINK_LAYER_ADDRESS)?,
            router: flags & ROUTER != 0,
            solicited: flags & SOLICITED != 0,
            overrides: flags & OVERRIDE != 0,
        })
    }

    /// Writes the whole IPv6 packet, hop limit 255, and returns its length: [`LEN`], or 8 less without a
    /// link-layer address.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn emit(&self, buffer: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> usize {
        let (kind, flags, target, option, mac) = match *self {
            Self::Solicitation { target, source_mac } => {
                (icmp::v6::NEIGHBOR_SOLICITATION, 0, target, SOURCE_LINK_LAYER_ADDRESS, source_mac)
            }
            Self::Advertisement { target, target_mac, router, solicited, overrides } => {
                let flag = |set, flag| if set { flag } else { 0 };
                let flags = flag(router, ROUTER) | flag(solicited, SOLICITED) | flag(overrides, OVERRIDE);
                (icmp::v6::NEIGHBOR_ADVERTISEMENT, flags, target, TARGET_LINK_LAYER_ADDRESS, target_mac)
            }
        };
        let mut body = [0; MESSAGE_LEN + OPTION_LEN - icmp::HEADER_LEN];
        body[..16].copy_from_slice(&target.octets());
        let (length, payload_len) = match mac {
            Some(mac) => {
                body[16] = option;
                body[17] = 1;
                body[18..24].copy_from_slice(&mac);
                (24, 32)
            }
            None => (16, 24),
        };
        let header = Ipv6Repr {
            src,
            dst,
            next_header: icmp::PROTOCOL_V6,
            hop_limit: 255,
            traffic_class: 0,
            payload_len,
        };
        header.emit(buffer);
        let end = ipv6::HEADER_LEN + usize::from(payload_len);
        let message = &mut buffer[ipv6::HEADER_LEN..end];
        let pseudo =
            pseudo_header(Address::v6(src), Address::v6(dst), icmp::PROTOCOL_V6, u32::from(payload_len));
        icmp::emit_message(message, kind, 0, u32::from(flags) << 24, &body[..length], pseudo);
        end
    }
}

/// Finds an address option; other options are passed over.
fn link_layer_address(mut options: &[u8], kind: u8) -> Result<Option<[u8; 6]>, ParseError> {
    let mut found = None;
    while !options.is_empty() {
        let header = get16(options.get(..2).ok_or(ParseError::Truncated)?, 0).to_be_bytes();
        let length = usize::from(header[1]) * 8;
        if length == 0 {
            return Err(ParseError::Malformed);
        }
        let (option, rest) = options.split_at_checked(length).ok_or(ParseError::Truncated)?;
        if header[0] == kind && length == OPTION_LEN {
            found = Some(array(option, 2));
        }
        options = rest;
    }
    Ok(found)
}

/// The multicast group of all addresses that end like this one (RFC 4291, 2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let prefix = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(prefix | address.to_bits() & 0xff_ffff)
}

/// The MAC address of an IPv6 multicast group (RFC 2464, 7).
pub const fn multicast_mac(group: Ipv6Addr) -> [u8; 6] {
    let octets = group.octets();
    [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Upper, address, plain};
    use proptest::prelude::*;

    #[test]
    fn groups_follow_the_address() {
        let address: Ipv6Addr = "2001:db8::12:3456:789a".parse().unwrap();
        assert_eq!(solicited_node(address), "ff02::1:ff56:789a".parse::<Ipv6Addr>().unwrap());
        assert_eq!(multicast_mac(solicited_node(address)), [0x33, 0x33, 0xff, 0x56, 0x78, 0x9a]);
        assert_eq!(multicast_mac(ALL_NODES), [0x33, 0x33, 0, 0, 0, 1]);
    }

    fn solicitation(source: &str, dst: &str, source_mac: Option<[u8; 6]>) -> ([u8; LEN], usize) {
        let mut buffer = [0; LEN];
        let target = "2001:db8::1".parse().unwrap();
        let length = NdpRepr::Solicitation { target, source_mac }.emit(
            &mut buffer,
            source.parse().unwrap(),
            dst.parse().unwrap(),
        );
        (buffer, length)
    }

    fn read(ip: &[u8]) -> Result<NdpRepr, ParseError> {
        NdpRepr::parse(ip, &Packet::parse(ip).unwrap())
    }

    /// Puts a byte and sets the checksum right.
    fn damaged(at: usize, value: u8) -> Result<NdpRepr, ParseError> {
        let (mut ip, _) = solicitation("2001:db8::2", "2001:db8::1", Some([2; 6]));
        ip[at] = value;
        let packet = Packet::parse(&ip).unwrap();
        icmp::fill_checksum(&mut ip, &packet);
        read(&ip)
    }

    #[test]
    fn what_could_be_forged_from_afar_is_refused() {
        assert!(damaged(47, 0).is_ok(), "intact");
        let cases = [
            (7, 254, "hop limit 254"),
            (40, 137, "a redirect"),
            (40, 128, "an echo request"),
            (41, 1, "code 1"),
            (48, 0xff, "multicast target"),
            (65, 0, "option of length 0"),
        ];
        for (at, value, why) in cases {
            assert_eq!(damaged(at, value), Err(ParseError::Malformed), "{why}");
        }
        assert_eq!(damaged(65, 2), Err(ParseError::Truncated), "option behind the end");
        let other = damaged(64, 5).unwrap();
        assert!(
            matches!(other, NdpRepr::Solicitation { source_mac: None, .. }),
            "another option is passed over"
        );
        let (mut ip, _) = solicitation("2001:db8::2", "2001:db8::1", None);
        ip[42] ^= 1;
        assert_eq!(read(&ip[..64]), Err(ParseError::Malformed), "checksum");
    }

    #[test]
    fn duplicate_address_detection_has_rules_of_its_own() {
        let group = "ff02::1:ff00:1";
        let cases = [
            ("::", group, None, true, "a probe"),
            ("::", group, Some([2; 6]), false, "a probe tells no address"),
            ("::", "2001:db8::1", None, false, "a probe goes to the group"),
            ("fe80::2", group, None, true, "no address is needed"),
        ];
        for (src, dst, mac, ok, why) in cases {
            let (ip, length) = solicitation(src, dst, mac);
            assert_eq!(read(&ip[..length]).is_ok(), ok, "{why}");
        }
    }

    #[test]
    fn a_solicited_advertisement_is_not_for_a_group() {
        let mut ip = [0; LEN];
        let target: Ipv6Addr = "2001:db8::1".parse().unwrap();
        for (solicited, ok) in [(true, false), (false, true)] {
            let advertisement = NdpRepr::Advertisement {
                target,
                target_mac: Some([2; 6]),
                router: false,
                solicited,
                overrides: true,
            };
            assert_eq!(advertisement.emit(&mut ip, target, ALL_NODES), LEN);
            assert_eq!(read(&ip).is_ok(), ok);
        }
    }

    #[test]
    fn other_packets_are_refused() {
        for shape in [
            plain(true, Upper::Icmp { kind: 135, code: 0, rest: 0 }, &[0; 16]),
            plain(false, Upper::Udp { checksum: true }, &[0; 16]),
            plain(false, Upper::Icmp { kind: 1, code: 0, rest: 0 }, &[0; 16]),
        ] {
            assert_eq!(read(&shape.build()), Err(ParseError::Malformed));
        }
        let short = plain(false, Upper::Icmp { kind: 135, code: 0, rest: 0 }, &[0; 15]);
        assert_eq!(read(&short.build()), Err(ParseError::Truncated));
    }

    proptest! {
        #[test]
        fn emit_then_parse_is_the_same(
            advertise: bool, src in address(false), dst in address(false), target in address(false),
            mac in proptest::option::of(any::<[u8; 6]>()), flags: (bool, bool, bool),
        ) {
            let (src, dst, target) = (src.to_v6(), dst.to_v6(), target.to_v6());
            prop_assume!(!target.is_multicast() && !dst.is_multicast());
            let (router, solicited, overrides) = flags;
            let message = if advertise {
                NdpRepr::Advertisement { target, target_mac: mac, router, solicited, overrides }
            } else {
                NdpRepr::Solicitation { target, source_mac: mac }
            };
            let mut buffer = [0xaa; LEN];
            let length = message.emit(&mut buffer, src, dst);
            prop_assert_eq!(length, if mac.is_some() { LEN } else { LEN - 8 });
            let ip = &buffer[..length];
            let packet = Packet::parse(ip).unwrap();
            prop_assert_eq!((packet.src.to_v6(), packet.dst.to_v6(), packet.ttl), (src, dst, 255));
            prop_assert_eq!(NdpRepr::parse(ip, &packet), Ok(message));
        }
    }
}
