//! IPv4 options: what a router looks at before it forwards (RFC 791 section 3.1, RFC 1812 section 5.3.13).

use core::net::Ipv4Addr;

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

/// Where the header has its checksum.
const CHECKSUM: core::ops::Range<usize> = 10..12;

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Whether a packet has any, which nearly none does.
pub(crate) fn present(packet: &Packet) -> bool {
    packet.is_v4() && packet.has_options()
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
#[cold]
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
        let size = usize::from(ip[at + 1]).max(2);
        if ip[at] == RECORD_ROUTE && enter(&mut ip[at..at + size], addr) {
            ipv4::fill_checksum(&mut ip[..len]);
            return;
        }
        at += size;
    }
}

/// The start of a packet in which `own` was recorded when it came in, as the kernel quotes it: with the checksum it
/// came with, since the kernel brings that up to date only where the packet leaves. `None`: it was not recorded.
pub(crate) fn before_recording(ip: &[u8], packet: &Packet, own: Address) -> Option<Vec<u8>> {
    let own = own.to_v4().filter(|_| present(packet))?;
    let mut header = ip.get(..usize::from(packet.header_len))?.to_vec();
    let mut at = ipv4::HEADER_LEN;
    while at + 2 < header.len() && header[at] != END {
        if header[at] == NOP {
            at += 1;
            continue;
        }
        // The options were checked: a size is at least 2 and ends within the header.
        let size = usize::from(header[at + 1]).max(2);
        if let (RECORD_ROUTE, Some(route)) = (header[at], header.get_mut(at..at + size))
            && leave(route, own)
        {
            ipv4::fill_checksum(&mut header);
            let mut quoted = ip.to_vec();
            quoted[CHECKSUM].copy_from_slice(&header[CHECKSUM]);
            return Some(quoted);
        }
        at += size;
    }
    None
}

/// Options for an answer of ours, at most 40 bytes.
pub(crate) struct Echo {
    bytes: [u8; ROOM],
    len: usize,
}

/// What a header has room for beside its fixed part.
pub(crate) const ROOM: usize = 40;

impl Echo {
    /// No options.
    pub(crate) const NONE: Self = Self { bytes: [END; ROOM], len: 0 };

    /// The options of an answer to a packet, as Linux gives them back: a record route, which goes on from `own`, and
    /// nothing else. (It stamps timestamps, too; here nobody knows the time of day.) `times`: how often `own` is to be
    /// entered; once on the way in, if that was not done, and once on the way out.
    pub(crate) fn of(ip: &[u8], packet: &Packet, own: Address, times: usize) -> Self {
        let mut echo = Self::NONE;
        let Some(own) = own.to_v4().filter(|_| present(packet)) else { return echo };
        let options = &ip[ipv4::HEADER_LEN..usize::from(packet.header_len)];
        let mut at = 0;
        while at + 2 < options.len() && options[at] != END {
            if options[at] == NOP {
                at += 1;
                continue;
            }
            // The options were checked: a size is at least 2 and ends within the header.
            let size = usize::from(options[at + 1]).max(2);
            if let (RECORD_ROUTE, Some(option)) = (options[at], options.get(at..at + size)) {
                let route = &mut echo.bytes[..size];
                route.copy_from_slice(option);
                for _ in 0..times {
                    enter(route, own);
                }
                echo.len = size.next_multiple_of(4);
                break;
            }
            at += size;
        }
        echo
    }

    /// How many bytes longer the header gets.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts the options into an IPv4 packet without any, which takes the first `len` bytes of the buffer. Returns its
    /// new length.
    pub(crate) fn insert(&self, buffer: &mut [u8], len: usize) -> usize {
        if self.len == 0 {
            return len;
        }
        let header = ipv4::HEADER_LEN + self.len;
        let grown = len + self.len;
        buffer.copy_within(ipv4::HEADER_LEN..len, header);
        buffer[ipv4::HEADER_LEN..header].copy_from_slice(&self.bytes[..self.len]);
        finish(&mut buffer[..grown], self.len);
        grown
    }

    /// Puts the options in place of those that a packet has, which are no shorter, and returns by how many bytes the
    /// packet starts later now.
    pub(crate) fn replace(&self, ip: &mut [u8], header_len: usize) -> usize {
        let late = header_len - ipv4::HEADER_LEN - self.len;
        ip.copy_within(..ipv4::HEADER_LEN, late);
        let ip = &mut ip[late..];
        ip[ipv4::HEADER_LEN..ipv4::HEADER_LEN + self.len].copy_from_slice(&self.bytes[..self.len]);
        finish(ip, self.len);
        late
    }
}

/// Enters an address into a record-route option, if there is room left.
fn enter(route: &mut [u8], addr: Ipv4Addr) -> bool {
    let pointer = usize::from(route[2]);
    let has_room = pointer + 3 <= route.len();
    if has_room {
        route[pointer - 1..pointer + 3].copy_from_slice(&addr.octets());
        route[2] += 4;
    }
    has_room
}

/// Takes an address out again, if it was entered last; where it stands was zero before, as senders leave it.
fn leave(route: &mut [u8], addr: Ipv4Addr) -> bool {
    let pointer = usize::from(route[2]);
    let entered = pointer.checked_sub(5).and_then(|start| route.get_mut(start..start + 4));
    let Some(entered) = entered.filter(|entered| **entered == addr.octets()) else { return false };
    entered.fill(0);
    route[2] -= 4;
    true
}

/// Makes lengths and checksum of a header fit a packet with so many bytes of options.
fn finish(ip: &mut [u8], options: usize) {
    let header = ipv4::HEADER_LEN + options;
    ip[0] = 0x40 | u8::try_from(header / 4).expect("a header is at most 60 bytes");
    let total = u16::try_from(ip.len()).expect("an answer is shorter than what IP takes");
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ipv4::fill_checksum(&mut ip[..header]);
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// What the recorded kernel answers with, by what a packet to it had.
    #[test]
    fn an_answer_goes_on_with_the_route_and_has_no_other_option() {
        let own = Address::v4(Ipv4Addr::new(10, 0, 0, 100));
        let cases: &[(&str, &[u8], &[u8])] = &[
            ("none", &[], &[]),
            ("router alert", &[0x94, 4, 0, 0], &[]),
            (
                "two places",
                &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                &[7, 11, 12, 10, 0, 0, 100, 10, 0, 0, 100, 0],
            ),
            ("one place", &[7, 7, 4, 0, 0, 0, 0, 0], &[7, 7, 8, 10, 0, 0, 100, 0]),
            ("no place", &[7, 7, 8, 10, 1, 1, 1, 0], &[7, 7, 8, 10, 1, 1, 1, 0]),
            ("behind another", &[1, 7, 7, 4, 0, 0, 0, 0], &[7, 7, 8, 10, 0, 0, 100, 0]),
            (
                "and another behind",
                &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x94, 4, 0, 0],
                &[7, 11, 12, 10, 0, 0, 100, 10, 0, 0, 100, 0],
            ),
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
            let mut ip = vec![0; 20 + options.len()];
            header.emit(&mut ip);
            ip[0] = 0x45 + u8::try_from(options.len() / 4).unwrap();
            ip[20..].copy_from_slice(options);
            let packet = Packet::parse(&ip).unwrap();
            let echo = Echo::of(&ip, &packet, own, 2);

            let mut answer = [0; 100];
            ipv4::Ipv4Repr { payload_len: 4, ..header }.emit(&mut answer);
            answer[20..24].copy_from_slice(b"data");
            let len = echo.insert(&mut answer, 24);
            assert_eq!((&answer[20..len - 4], &answer[len - 4..len]), (*want, &b"data"[..]), "{what}");
            assert!(ipv4::header_checksum_ok(&answer[..20 + want.len()]), "{what}");
            assert_eq!(Packet::parse(&answer).unwrap().total_len as usize, len, "{what}");

            let late = echo.replace(&mut ip, 20 + options.len());
            let replaced = &ip[late..];
            assert_eq!(&replaced[20..], *want, "{what}");
            assert!(ipv4::header_checksum_ok(replaced), "{what}");
        }
    }
}
