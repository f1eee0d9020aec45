//! One line about a frame, in the words of the recordings' `summary`; written apart from the director's own
//! parsers, so that a fault in those shows.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an Ethernet frame holds: addresses, ports, flags, lengths, and `BADSUM` for a wrong L4 checksum.
///
/// Empty for what is not IP.
pub fn summary(frame: &[u8]) -> String {
    match frame.get(12..14) {
        Some([0x08, 0x00] | [0x86, 0xdd]) => packet(&frame[14..]).unwrap_or_else(|| "truncated".to_owned()),
        Some([0x08, 0x06]) => "ARP".to_owned(),
        _ => String::new(),
    }
}

/// What a packet's IP header says.
struct Header<'a> {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    /// What the IP header itself says: 44 for an IPv6 fragment.
    first_protocol: u8,
    ttl: u8,
    dont_fragment: bool,
    /// Bytes, more to come, of which family.
    fragment: Option<(u16, bool, char)>,
    payload: &'a [u8],
    /// All bytes that the header promises are there.
    whole: bool,
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn header(packet: &[u8]) -> Option<Header<'_>> {
    if packet.first()? >> 4 == 4 {
        let header_len = usize::from(packet[0] & 0x0f) * 4;
        let total = usize::from(be16(packet, 2)?);
        let flags = be16(packet, 6)?;
        let (offset, more) = ((flags & 0x1fff) * 8, flags & 0x2000 != 0);
        let addr = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        return Some(Header {
            src: addr(12)?.into(),
            dst: addr(16)?.into(),
            protocol: packet[9],
            first_protocol: packet[9],
            ttl: packet[8],
            dont_fragment: flags & 0x4000 != 0,
            fragment: (offset != 0 || more).then_some((offset, more, '4')),
            payload: packet.get(header_len..total.min(packet.len()))?,
            whole: packet.len() >= total,
        });
    }
    let total = 40 + usize::from(be16(packet, 4)?);
    let addr = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    let mut header = Header {
        src: addr(8)?.into(),
        dst: addr(24)?.into(),
        protocol: packet[6],
        first_protocol: packet[6],
        ttl: packet[7],
        dont_fragment: false,
        fragment: None,
        payload: packet.get(40..total.min(packet.len()))?,
        whole: packet.len() >= total,
    };
    if header.protocol == 44 {
        let flags = be16(header.payload, 2)?;
        header.fragment = Some((flags & 0xfff8, flags & 1 != 0, '6'));
        // A later fragment has no L4 header: it is left as what it is.
        if flags & 0xfff8 == 0 {
            header.protocol = header.payload[0];
        }
        header.payload = header.payload.get(8..)?;
    }
    Some(header)
}

fn packet(bytes: &[u8]) -> Option<String> {
    let header = header(bytes)?;
    let later = header.fragment.is_some_and(|(offset, ..)| offset != 0);
    let (src, dst, payload) = (header.src, header.dst, header.payload);
    let (mut text, checked) = match header.protocol {
        6 if !later && (4..20).contains(&payload.len()) => {
            let ports = (be16(payload, 0)?, be16(payload, 2)?);
            (format!("{src}:{}>{dst}:{} TCP ? len-1", ports.0, ports.1), true)
        }
        6 if !later && payload.len() >= 20 => {
            let data = payload.len().checked_sub(usize::from(payload[12] >> 4) * 4)?;
            let ports = (be16(payload, 0)?, be16(payload, 2)?);
            let flags = tcp_flags(payload[13]);
            (format!("{src}:{}>{dst}:{} TCP {flags} len{data}", ports.0, ports.1), true)
        }
        17 if !later && payload.len() >= 8 => {
            let data = payload.len() - 8;
            let text = format!("{src}:{}>{dst}:{} UDP len{data}", be16(payload, 0)?, be16(payload, 2)?);
            (text, be16(payload, 6)? != 0)
        }
        1 | 58 if !later && payload.len() >= 8 => {
            let name = if header.protocol == 1 { "icmp" } else { "icmp6" };
            let rest: String = payload[4..8].iter().map(|byte| format!("{byte:02x}")).collect();
            let mut text = format!("{src}>{dst} {name} {}/{} rest={rest}", payload[0], payload[1]);
            let errors: &[u8] = if header.protocol == 1 { &[3, 4, 5, 11, 12] } else { &[1, 2, 3, 4] };
            if errors.contains(&payload[0])
                && let Some(inner) = packet(&payload[8..])
            {
                write!(text, " [{inner}]").expect("a String takes everything");
            }
            (text, true)
        }
        4 | 41 if !later => {
            let inner = packet(payload).unwrap_or_else(|| "truncated".to_owned());
            (format!("{src}>{dst} IPIP [{inner}]"), false)
        }
        _ => (format!("{src}>{dst} proto{}", header.first_protocol), false),
    };
    write!(text, " ttl{}", header.ttl).expect("a String takes everything");
    if header.dont_fragment {
        text.push_str(" DF");
    }
    match header.fragment {
        Some((offset, more, '4')) => {
            write!(text, " frag(off={offset}{})", if more { " MF" } else { "" })
        }
        Some((offset, more, _)) => write!(text, " frag6(off={offset} mf={})", u8::from(more)),
        None => Ok(()),
    }
    .expect("a String takes everything");
    let part = header.fragment.is_some_and(|(_, more, _)| more);
    if checked && header.whole && !part && checksum(&header) != 0xffff {
        text.push_str(" BADSUM");
    }
    Some(text)
}

/// In the order of the recordings: C E U A P R S F.
fn tcp_flags(bits: u8) -> String {
    let text: String = "CEUAPRSF"
        .chars()
        .enumerate()
        .filter(|(index, _)| bits & (0x80 >> index) != 0)
        .map(|(_, c)| c)
        .collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// The sum over the pseudo-header and the payload; 0xffff when the checksum in it is right.
fn checksum(header: &Header<'_>) -> u16 {
    let mut sum: u64 = 0;
    let mut add = |bytes: &[u8]| {
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
    };
    // Of all only ICMP for IPv4 has no pseudo-header.
    if header.protocol != 1 {
        match (header.src, header.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                add(&src.octets());
                add(&dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                add(&src.octets());
                add(&dst.octets());
            }
            _ => {}
        }
        add(&[0, header.protocol]);
        add(&u32::try_from(header.payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    add(header.payload);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_recorded_packet_is_described_as_recorded() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        let mut seen = 0;
        for path in crate::golden::scenarios_under(&golden).unwrap() {
            let text = std::fs::read_to_string(&path).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            for step in json["steps"].as_array().unwrap() {
                let sent = step["out"].as_array().into_iter().flatten();
                for packet in sent.chain(step.get("in")) {
                    let hex = packet["hex"].as_str().unwrap();
                    let want = packet["summary"].as_str().unwrap();
                    let bytes = crate::golden::lab::unhex(hex).unwrap();
                    // The recordings' decoder gives up on a packet cut short inside another.
                    if want.contains("[None>None") {
                        continue;
                    }
                    assert_eq!(summary(&bytes), want, "{}: {hex}", path.display());
                    seen += 1;
                }
            }
        }
        assert!(seen > 15_000, "{seen} packets");
    }
}
