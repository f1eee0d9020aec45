//! The transition matrices: every event in every state, each on a fresh connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use uvs_adm::format;
use uvs_director::spec::{Protocol, ServiceKey};
use uvs_director::{Duration, Instant};

use super::compare::{self, Difference};
use super::lab::{Egress, Lab};
use super::normal::{self, TOLERANCE};
use super::scenario::{Cell, Side, Snapshot};
use super::shell::connections;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// A connection's state and the seconds it has left; none without a connection.
type State<'a> = (Option<&'a str>, Option<u64>);
/// The first cell's client port; each takes the next.
const FIRST_PORT: u16 = 1025;

/// Replays the cells between now and `end`, each at the time that the snapshot after them gives away.
pub(crate) fn replay(
    cells: &[Cell],
    end: Instant,
    snapshot: Option<&Snapshot>,
    lab: &mut Lab,
) -> Result<(), Difference> {
    let ends = ends(lab).ok_or_else(|| Difference::new("there is no IPv4 TCP service to send to"))?;
    let ages = snapshot.map(|snapshot| ages(cells, snapshot)).unwrap_or_default();
    let times = times(cells.len(), lab.now, end, &ages);
    for (port, (index, cell)) in (FIRST_PORT..).zip(cells.iter().enumerate()) {
        lab.advance(times[index]);
        let wires = Wires { client: SocketAddrV4::new(CLIENT, port), ..ends };
        let before = usual_state(cells, &cell.prefix);
        one(cell, before, wires, lab).map_err(|difference| Difference {
            line: format!(
                "cell {index}, {} then {} {}: {}",
                cell.prefix,
                cell.event_side.name(),
                cell.event_flags,
                difference.line
            ),
            ..difference
        })?;
    }
    Ok(())
}

/// How many seconds before the snapshot cells happened: those whose connection is still in the state the event left
/// it in, with less time left. Cells of the same second are one entry, at the middle one.
fn ages(cells: &[Cell], snapshot: &Snapshot) -> Vec<(usize, u64)> {
    let mut ages: Vec<(usize, usize, u64)> = Vec::new();
    let listed = normal::listed_entries(snapshot.Lnc.lines().skip(2));
    for (port, (index, cell)) in (FIRST_PORT..).zip(cells.iter().enumerate()) {
        let (Some(state), Some(timer)) = (&cell.state_after, cell.timer_after) else { continue };
        let key = format!("TCP {state} {CLIENT}:{port} ");
        let entry = listed.iter().find(|(entry, _)| entry.starts_with(&key));
        let Some(age) = entry.and_then(|(_, left)| timer.checked_sub(*left)) else { continue };
        match ages.last_mut() {
            Some((_, last, same)) if *same == age => *last = index,
            // Rounding may put one cell a second off; time does not run backwards.
            Some((.., younger)) if *younger < age => {}
            _ => ages.push((index, index, age)),
        }
    }
    ages.into_iter().map(|(first, last, age)| (usize::midpoint(first, last), age)).collect()
}

/// When each cell happens: along straight lines between the known ones.
fn times(cells: usize, start: Instant, end: Instant, ages: &[(usize, u64)]) -> Vec<Instant> {
    // The snapshot's list was read after `end`: by how much, the oldest cell says, which cannot lie before `start`.
    let oldest = Duration::from_secs(ages.iter().map(|(_, age)| *age).max().unwrap_or(0));
    let late = oldest.saturating_sub(end.since(start));
    let mut known = vec![(0, start)];
    for &(index, age) in ages {
        let age = Duration::from_secs(age).saturating_sub(late);
        let at = start + end.since(start).saturating_sub(age);
        let (last, time) = *known.last().expect("it begins with one");
        if index > last && at > time {
            known.push((index, at));
        }
    }
    known.push((cells.max(known.last().expect("it begins with one").0 + 1), end));
    let mut times = Vec::with_capacity(cells);
    for pair in known.windows(2) {
        let ((from, start), (to, end)) = (pair[0], pair[1]);
        let step = end.since(start) / u32::try_from(to - from).unwrap_or(u32::MAX);
        times.extend((0_u32..).take(to - from).map(|index| start + step * index));
    }
    times
}

/// State and time left before the event, as most cells with this prefix show it: one reading of the recorder came
/// too early and shows none.
fn usual_state<'a>(cells: &'a [Cell], prefix: &str) -> State<'a> {
    let mut counts: Vec<(usize, State<'_>)> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.prefix == prefix) {
        let state = (cell.state_before.as_deref(), cell.timer_before);
        match counts.iter_mut().find(|(_, other)| *other == state) {
            Some((count, _)) => *count += 1,
            None => counts.push((1, state)),
        }
    }
    counts.into_iter().max_by_key(|(count, _)| *count).map_or((None, None), |(_, state)| state)
}

#[derive(Clone, Copy)]
struct Wires {
    client: SocketAddrV4,
    service: SocketAddrV4,
    server: SocketAddrV4,
}

/// The service and its destination, which the scenario's commands made.
fn ends(lab: &Lab) -> Option<Wires> {
    let v4 = |addr: std::net::SocketAddr| match addr {
        std::net::SocketAddr::V4(addr) => Some(addr),
        std::net::SocketAddr::V6(_) => None,
    };
    lab.director.services().iter().find_map(|service| match service.spec.key {
        ServiceKey::Address { protocol: Protocol::Tcp, addr } => Some(Wires {
            client: SocketAddrV4::new(CLIENT, 0),
            service: v4(addr)?,
            server: v4(service.destinations.first()?.spec.addr)?,
        }),
        _ => None,
    })
}

fn one(cell: &Cell, before: State<'_>, wires: Wires, lab: &mut Lab) -> Result<(), Difference> {
    for packet in &cell.prefix_packets {
        let (who, flags) = packet.split_once(':').unwrap_or(("c", packet));
        let side = if who == "c" { Side::Client } else { Side::Rs };
        send(side, flags, wires, lab);
    }
    state("before", before, wires, lab)?;
    let sent = send(cell.event_side, &cell.event_flags, wires, lab);
    compare::summaries(&cell.forwarded, &sent)?;
    state("after", (cell.state_after.as_deref(), cell.timer_after), wires, lab)
}

fn state(when: &str, (want, want_left): State<'_>, wires: Wires, lab: &Lab) -> Result<(), Difference> {
    let own: Vec<_> = connections(lab)
        .into_iter()
        .filter(|connection| {
            connection.client.ip() == IpAddr::V4(*wires.client.ip())
                && connection.client.port() == wires.client.port()
        })
        .collect();
    let listed = format::proc_connections(&own);
    let entry = normal::proc_entries(listed.lines().skip(1)).into_iter().next();
    let got = entry.as_ref().and_then(|(key, _)| key.split_whitespace().nth(7));
    if got != want {
        let show = |state: Option<&str>| state.unwrap_or("no connection").to_owned();
        return Err(Difference::new(format!("{} {when}, recorded {}", show(got), show(want))));
    }
    match (entry, want_left) {
        (Some((_, left)), Some(want_left)) if left.abs_diff(want_left) > TOLERANCE => {
            Err(Difference::new(format!("{left} s left {when}, recorded {want_left}")))
        }
        _ => Ok(()),
    }
}

fn send(side: Side, flags: &str, wires: Wires, lab: &mut Lab) -> Vec<Egress> {
    let frame = match side {
        Side::Client => {
            segment(([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0xfe]), (wires.client, wires.service), 1000, flags)
        }
        Side::Rs => {
            // The last byte of the server's MAC follows from its address, as everywhere in the recordings.
            let mac = [2, 0, 0, 0, 1, wires.server.ip().octets()[3] - 10 + 0x10];
            segment(([2, 0, 0, 0, 1, 1], mac), (wires.server, wires.client), 5000, flags)
        }
    };
    lab.send(side, &frame)
}

/// An Ethernet frame with a TCP segment without data.
fn segment(
    (to, from): ([u8; 6], [u8; 6]),
    (src, dst): (SocketAddrV4, SocketAddrV4),
    sequence: u32,
    flags: &str,
) -> Vec<u8> {
    let bits =
        flags.chars().filter_map(|flag| "FSRPAUEC".find(flag)).fold(0_u8, |bits, index| bits | 1 << index);
    let mut tcp = Vec::new();
    tcp.extend(src.port().to_be_bytes());
    tcp.extend(dst.port().to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(0_u32.to_be_bytes());
    tcp.extend([0x50, bits]);
    tcp.extend(64_240_u16.to_be_bytes());
    tcp.extend([0; 4]);
    let pseudo = [&src.ip().octets()[..], &dst.ip().octets(), &[0, 6, 0, 20], &tcp].concat();
    tcp[16..18].copy_from_slice(&sum(&pseudo).to_be_bytes());
    let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0];
    ip.extend(src.ip().octets());
    ip.extend(dst.ip().octets());
    let checksum = sum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&to[..], &from, &[8, 0], &ip, &tcp].concat()
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn sum(bytes: &[u8]) -> u16 {
    let total: u32 =
        bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (total & 0xffff) + (total >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_without_a_known_time_lie_between_those_with_one() {
        let secs = Instant::from_secs;
        let cases = [
            (vec![], vec![secs(10), secs(15)], "evenly without any"),
            (vec![(0, 10), (1, 2)], vec![secs(10), secs(18)], "as known"),
            (vec![(0, 13), (1, 5)], vec![secs(10), secs(18)], "the list was read 3 s late"),
        ];
        for (ages, want, why) in cases {
            assert_eq!(times(2, secs(10), secs(20), &ages), want, "{why}");
        }
    }

    #[test]
    fn a_segment_is_what_the_recorder_sent() {
        let addr = |text: &str| text.parse().unwrap();
        let frame = segment(
            ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0xfe]),
            (addr("10.1.0.2:1001"), addr("10.0.0.100:80")),
            1000,
            "S",
        );
        // The first packet of ipvsadm_text.json.
        let want = "0200000000010200000000fe08004500002800014000400626690a0100020a00006403e90050000003e8000000005002faf0986a0000";
        assert_eq!(frame, crate::golden::lab::unhex(want).unwrap());
    }
}
