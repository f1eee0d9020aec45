//! IPv4 options: what a router looks at before it forwards (RFC 791 section 3.1, RFC 1812 section 5.3.13).

use uvs_wire::{Address, Packet, ipv4};

/// What the options of a packet ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Options {
    /// Nothing that concerns the director.
    Fine,
    /// Source routing, which nobody forwards any more.
    SourceRoute,
    /// An option that makes no sense; the offset in the header of what is wrong.
    Bad(u8),
}

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Whether a packet has any, which nearly none does.
#[inline]
pub(crate) fn present(packet: &Packet) -> bool {
    usize::from(packet.header_len) > ipv4::HEADER_LEN && packet.is_v4()
}

/// Looks through the options.
pub(crate) fn check(ip: &[u8], packet: &Packet) -> Options {
    let len = usize::from(packet.header_len);
    if !present(packet) {
        return Options::Fine;
    }
    let header = &ip[..len];
    let mut at = ipv4::HEADER_LEN;
    while at < len {
        let bad = |offset: usize| Options::Bad(u8::try_from(at + offset).unwrap_or(u8::MAX));
        match header[at] {
            END => break,
            NOP => {
                at += 1;
                continue;
            }
            kind => {
                let option = &header[at..];
                let size = match option.get(1) {
                    Some(&size) if size >= 2 && usize::from(size) <= option.len() => usize::from(size),
                    _ => return bad(0),
                };
                // The pointer of these counts from 1 and starts behind itself, in timestamps one further on.
                let first = match kind {
                    LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Options::SourceRoute,
                    RECORD_ROUTE => 4,
                    TIMESTAMP => 5,
                    _ => 0,
                };
                if first > 0 {
                    if size < first - 1 {
                        return bad(1);
                    }
                    if usize::from(option[2]) < first {
                        return bad(2);
                    }
                }
                at += size;
            }
        }
    }
    Options::Fine
}

/// Records `addr` in the first record-route option that has room left; the header checksum follows.
pub(crate) fn record_route(ip: &mut [u8], packet: &Packet, addr: Address) {
    let len = usize::from(packet.header_len);
    let (Some(addr), true) = (addr.to_v4(), len > ipv4::HEADER_LEN) else { return };
    let mut at = ipv4::HEADER_LEN;
    while at + 2 < len && ip[at] != END {
        if ip[at] == NOP {
            at += 1;
            continue;
        }
        // The options were checked: a size is at least 2 and ends within the header.
        let (size, pointer) = (usize::from(ip[at + 1]), usize::from(ip[at + 2]));
        if ip[at] == RECORD_ROUTE && pointer + 3 <= size {
            let place = at + pointer - 1;
            ip[place..place + 4].copy_from_slice(&addr.octets());
            ip[at + 2] += 4;
            ipv4::fill_checksum(&mut ip[..len]);
            return;
        }
        at += size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn options_are_judged_as_the_recorded_kernel_does() {
        let cases: &[(&str, &[u8], Options)] = &[
            ("none", &[], Options::Fine),
            ("router alert", &[0x94, 4, 0, 0], Options::Fine),
            ("end of list, then anything", &[0, 131, 99, 7], Options::Fine),
            ("record route, its pointer before its data", &[1, 7, 4, 0, 0, 0, 0, 0], Options::Bad(23)),
            ("record route", &[7, 7, 4, 0, 0, 0, 0, 0], Options::Fine),
            ("loose source route", &[131, 7, 4, 10, 0, 0, 1, 0], Options::SourceRoute),
            ("strict source route", &[137, 7, 4, 10, 0, 0, 1, 0], Options::SourceRoute),
            ("a length of 1", &[148, 1, 0, 0], Options::Bad(20)),
            ("a length over the header's end", &[1, 148, 9, 0], Options::Bad(21)),
            ("a lone option at the end", &[1, 1, 1, 148], Options::Bad(23)),
        ];
        for (what, options, want) in cases {
            let header = ipv4::Ipv4Repr {
                src: Ipv4Addr::new(10, 1, 0, 2),
                dst: Ipv4Addr::new(10, 0, 0, 100),
                protocol: 99,
                ttl: 64,
                tos: 0,
                id: 0,
                dont_fragment: false,
                payload_len: u16::try_from(options.len()).unwrap(),
            };
            let mut ip = [0; 60];
            header.emit(&mut ip);
            ip[0] = 0x45 + u8::try_from(options.len() / 4).unwrap();
            ip[20..20 + options.len()].copy_from_slice(options);
            let packet = Packet::parse(&ip).unwrap();
            assert_eq!(check(&ip, &packet), *want, "{what}");
        }
    }

    #[test]
    fn a_route_is_recorded_where_there_is_room() {
        let addr = Address::v4(Ipv4Addr::new(10, 0, 0, 100));
        let mut ip = [0; 60];
        let header = ipv4::Ipv4Repr {
            src: Ipv4Addr::new(10, 1, 0, 2),
            dst: Ipv4Addr::new(10, 0, 0, 100),
            protocol: 99,
            ttl: 64,
            tos: 0,
            id: 0,
            dont_fragment: false,
            payload_len: 12,
        };
        header.emit(&mut ip);
        ip[0] = 0x48;
        ip[20..32].copy_from_slice(&[1, 7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
        let packet = Packet::parse(&ip).unwrap();
        for (want, pointer) in [([10, 0, 0, 100, 0, 0, 0, 0], 8), ([10, 0, 0, 100, 10, 0, 0, 100], 12)] {
            record_route(&mut ip, &packet, addr);
            assert_eq!((&ip[24..32], ip[23]), (&want[..], pointer));
            assert!(ipv4::header_checksum_ok(&ip[..32]));
        }
        let full = ip;
        record_route(&mut ip, &packet, addr);
        assert_eq!(ip, full, "no room is left");
    }
}
