//! Multicast listener discovery (MLD, RFC 2710; MLDv2, RFC 3810): queries, and the reports that answer them.
//!
//! ```text
//! 0       1       2               4               6               8
//! +-------+-------+---------------+---------------+---------------+
//! |  130  |   0   |   checksum    |  delay        |       0       | query, and 131: report of version 1
//! +-------+-------+---------------+---------------+---------------+
//! |                        group, :: for all                      | 8; a query of version 2 goes on
//! +---------------------------------------------------------------+
//!
//! +-------+-------+---------------+---------------+---------------+
//! |  143  |   0   |   checksum    |       0       |    records    | report of version 2
//! +-------+-------+---------------+---------------+---------------+
//! |  2/4  |   0   |       0       |             group             | 8, each 20 bytes
//! +-------+-------+---------------+-------------------------------+
//! ```
//!
//! Every message has hop limit 1, a link-local source, and the router alert option in a hop-by-hop header. Switches
//! and bridges that snoop hand a group's packets only to ports where they saw such a report.

use core::net::Ipv6Addr;

use crate::checksum::pseudo_header;
use crate::field::array;
use crate::ipv6::{self, Ipv6Repr};
use crate::{Address, Packet, ParseError, icmp};

/// Type of a query.
pub const QUERY: u8 = 130;
/// Where reports of version 2 go: all routers that speak it.
pub const ALL_MLD_V2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

const REPORT_V1: u8 = 131;
const REPORT_V2: u8 = 143;
/// Length of a query of version 1 and of its report.
const V1_LEN: usize = 24;
/// The least length of a query of version 2.
const V2_QUERY_LEN: usize = 28;
const RECORD_LEN: usize = 20;
/// A record that says: listening, whoever sends.
const MODE_IS_EXCLUDE: u8 = 2;
/// A record that says: listening from now on, whoever sends.
const CHANGE_TO_EXCLUDE: u8 = 4;
/// A hop-by-hop header with the router alert option for MLD (RFC 2711) and padding.
const ROUTER_ALERT: [u8; 8] = [icmp::PROTOCOL_V6, 0, 5, 2, 0, 0, 1, 0];

/// A question which groups are listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MldQuery {
    /// The group asked for; none: all.
    pub group: Option<Ipv6Addr>,
    /// It is answered in version 1.
    pub is_v1: bool,
}

impl MldQuery {
    /// Parses a query and checks it as RFC 3810, 5.1.14 and 6.2 ask: hop limit 1, link-local source, checksum.
    /// `packet` must be what `ip` was parsed to.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] and [`ParseError::Malformed`]. Other messages are malformed here.
    pub fn parse(ip: &[u8], packet: &Packet) -> Result<Self, ParseError> {
        if packet.is_v4() || packet.protocol != icmp::PROTOCOL_V6 || packet.is_fragment() {
            return Err(ParseError::Malformed);
        }
        let message = packet.transport(ip);
        if message.len() < V1_LEN {
            return Err(ParseError::Truncated);
        }
        let group = Ipv6Addr::from(array::<16>(message, 8));
        let known_length = message.len() == V1_LEN || message.len() >= V2_QUERY_LEN;
        if message[0] != QUERY
            || packet.ttl != 1
            || !packet.src.is_v6_link_local()
            || !known_length
            || !(group.is_unspecified() || group.is_multicast())
            || !icmp::checksum_ok(ip, packet)
        {
            return Err(ParseError::Malformed);
        }
        let group = Some(group).filter(|group| !group.is_unspecified());
        Ok(Self { group, is_v1: message.len() == V1_LEN })
    }
}

/// Length of the packet that [`emit_report_v1`] writes.
pub const REPORT_V1_LEN: usize = ipv6::HEADER_LEN + ROUTER_ALERT.len() + V1_LEN;

/// Writes the whole IPv6 packet that says in version 1 that `group` is listened to, and returns its length,
/// [`REPORT_V1_LEN`]. It goes to the group itself.
///
/// # Panics
/// If the buffer is shorter.
pub fn emit_report_v1(buffer: &mut [u8], src: Ipv6Addr, group: Ipv6Addr) -> usize {
    emit(buffer, (src, group), REPORT_V1, 0, &group.octets())
}

/// How many groups fit into one report of version 2, and the length of that packet.
pub const RECORDS_MAX: usize = 32;
/// See [`RECORDS_MAX`].
pub const REPORT_V2_LEN: usize = ipv6::HEADER_LEN + ROUTER_ALERT.len() + 8 + RECORDS_MAX * RECORD_LEN;

/// Writes the whole IPv6 packet that says in version 2 that `groups` are listened to, and returns its length.
/// `changed`: from now on, which nobody had asked for; else it answers a query.
///
/// # Panics
/// If there are more than [`RECORDS_MAX`] groups, or the buffer is shorter than [`REPORT_V2_LEN`].
pub fn emit_report_v2(buffer: &mut [u8], src: Ipv6Addr, groups: &[Ipv6Addr], changed: bool) -> usize {
    let mut records = [0; RECORDS_MAX * RECORD_LEN];
    for (record, group) in records.chunks_exact_mut(RECORD_LEN).zip(groups) {
        record[0] = if changed { CHANGE_TO_EXCLUDE } else { MODE_IS_EXCLUDE };
        record[4..].copy_from_slice(&group.octets());
    }
    let count = u32::try_from(groups.len()).expect("there are few groups");
    emit(buffer, (src, ALL_MLD_V2_ROUTERS), REPORT_V2, count, &records[..groups.len() * RECORD_LEN])
}

fn emit(buffer: &mut [u8], (src, dst): (Ipv6Addr, Ipv6Addr), kind: u8, rest: u32, body: &[u8]) -> usize {
    let length = u16::try_from(icmp::HEADER_LEN + body.len()).expect("a report is short");
    let header = Ipv6Repr {
        src,
        dst,
        next_header: ipv6::HOP_BY_HOP,
        hop_limit: 1,
        traffic_class: 0,
        payload_len: length + 8,
    };
    header.emit(buffer);
    let start = ipv6::HEADER_LEN + ROUTER_ALERT.len();
    buffer[ipv6::HEADER_LEN..start].copy_from_slice(&ROUTER_ALERT);
    let message = &mut buffer[start..start + usize::from(length)];
    let pseudo = pseudo_header(Address::v6(src), Address::v6(dst), icmp::PROTOCOL_V6, u32::from(length));
    icmp::emit_message(message, kind, 0, rest, body, pseudo);
    start + usize::from(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);

    fn query(src: Ipv6Addr, hops: u8, group: Ipv6Addr, more: &[u8]) -> Vec<u8> {
        let mut ip = std::vec![0; REPORT_V2_LEN];
        let body = [&group.octets()[..], more].concat();
        let length = emit(&mut ip, (src, GROUP), QUERY, 1000 << 16, &body);
        ip.truncate(length);
        ip[7] = hops;
        ip
    }

    fn read(ip: &[u8]) -> Result<MldQuery, ParseError> {
        MldQuery::parse(ip, &Packet::parse(ip).unwrap())
    }

    #[test]
    fn queries_of_both_versions_are_told_apart() {
        let all = Ipv6Addr::UNSPECIFIED;
        let cases = [
            (&[][..], all, Ok(MldQuery { group: None, is_v1: true }), "version 1"),
            (&[2, 125, 0, 0], all, Ok(MldQuery { group: None, is_v1: false }), "version 2"),
            (&[2, 125, 0, 0], GROUP, Ok(MldQuery { group: Some(GROUP), is_v1: false }), "for a group"),
            (&[2, 125], all, Err(ParseError::Malformed), "of no version"),
            (&[], ROUTER, Err(ParseError::Malformed), "for what is no group"),
        ];
        for (more, group, want, why) in cases {
            assert_eq!(read(&query(ROUTER, 1, group, more)), want, "{why}");
        }
        let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        assert_eq!(read(&query(far, 1, all, &[])), Err(ParseError::Malformed), "from afar");
        assert_eq!(read(&query(ROUTER, 2, all, &[])), Err(ParseError::Malformed), "with another hop limit");
        let mut damaged = query(ROUTER, 1, all, &[]);
        damaged[60] ^= 1;
        assert_eq!(read(&damaged), Err(ParseError::Malformed), "with a wrong checksum");
    }

    #[test]
    fn reports_say_what_is_listened_to() {
        let mut ip = [0xaa; REPORT_V2_LEN];
        let length = emit_report_v1(&mut ip, ROUTER, GROUP);
        assert_eq!(length, REPORT_V1_LEN);
        let packet = Packet::parse(&ip[..length]).unwrap();
        assert_eq!((packet.src.to_v6(), packet.dst.to_v6(), packet.ttl), (ROUTER, GROUP, 1));
        assert!(icmp::checksum_ok(&ip, &packet));
        assert_eq!((ip[48], &ip[56..72]), (REPORT_V1, &GROUP.octets()[..]));

        let groups = [GROUP; RECORDS_MAX];
        for count in [1, 2, RECORDS_MAX] {
            let length = emit_report_v2(&mut ip, ROUTER, &groups[..count], count > 1);
            let kind = if count > 1 { CHANGE_TO_EXCLUDE } else { MODE_IS_EXCLUDE };
            let packet = Packet::parse(&ip[..length]).unwrap();
            assert_eq!((packet.dst.to_v6(), packet.ttl), (ALL_MLD_V2_ROUTERS, 1));
            assert!(icmp::checksum_ok(&ip, &packet));
            assert_eq!(&ip[40..48], ROUTER_ALERT, "the router alert");
            assert_eq!((ip[48], usize::from(ip[55])), (REPORT_V2, count));
            for record in ip[56..length].chunks(RECORD_LEN) {
                assert_eq!((&record[..4], &record[4..]), (&[kind, 0, 0, 0][..], &GROUP.octets()[..]));
            }
        }
        let fits = length_of(RECORDS_MAX);
        assert!(fits == REPORT_V2_LEN && fits <= ipv6::MIN_MTU);
    }

    fn length_of(count: usize) -> usize {
        emit_report_v2(&mut [0; REPORT_V2_LEN], ROUTER, &[GROUP; RECORDS_MAX][..count], true)
    }
}
