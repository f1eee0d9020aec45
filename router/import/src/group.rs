//! Virtual server groups.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uvs_director::spec::Family;

use crate::model::{Entry, Group};
use crate::remark::Remarks;
use crate::tree::Node;
use crate::value::{number_of, port};

/// The entries of a group, a line each.
pub(crate) fn read(node: &Node, remarks: &mut Remarks) -> Group {
    let mut group = Group::default();
    for line in node.children() {
        let entry = if line.keyword() == "fwmark" { mark(line, remarks) } else { addresses(line, remarks) };
        group.entries.extend(entry.map(|entry| (line.at.clone(), entry)));
    }
    group
}

fn mark(line: &Node, remarks: &mut Remarks) -> Option<Entry> {
    let mark = number_of(line, line.argument(0).unwrap_or_default(), 0, u32::MAX.into(), remarks)?;
    let family = match line.argument(1) {
        Some("inet") => Some(Family::V4),
        Some("inet6") => Some(Family::V6),
        _ => None,
    };
    Some(Entry::Mark { mark: u32::try_from(mark).ok()?, family })
}

fn addresses(line: &Node, remarks: &mut Remarks) -> Option<Entry> {
    let text = line.keyword();
    let Some((first, last)) = range(text) else {
        remarks.source(&line.at, format!("{text} is no address, range or network of a group: it is ignored"));
        return None;
    };
    let port = match line.argument(0) {
        Some(text) => port(line, text, remarks)?,
        None => 0,
    };
    let more = bits(last) - bits(first);
    Some(Entry::Addresses { first, more, port })
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address so many behind another.
pub(crate) fn nth(first: IpAddr, index: u128) -> Option<IpAddr> {
    match first {
        IpAddr::V4(v4) => {
            let index = u32::try_from(index).ok()?;
            v4.to_bits().checked_add(index).map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpAddr::V6(v6) => v6.to_bits().checked_add(index).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

/// The first and the last address that a text names.
fn range(text: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((network, len)) = text.split_once('/') {
        let first: IpAddr = network.parse().ok()?;
        let width: u32 = if first.is_ipv4() { 32 } else { 128 };
        let host = width.checked_sub(len.parse().ok()?)?;
        let more = 1_u128.checked_shl(host).map_or(u128::MAX, |size| size - 1);
        return (bits(first) & more == 0).then(|| nth(first, more)).flatten().map(|last| (first, last));
    }
    let Some((start, end)) = text.split_once('-') else {
        let address = text.parse().ok()?;
        return Some((address, address));
    };
    let first: IpAddr = start.parse().ok()?;
    let last = match first {
        _ if end.parse::<IpAddr>().is_ok_and(|end| end.is_ipv4() == first.is_ipv4()) => end.parse().ok()?,
        IpAddr::V4(v4) => {
            let octets = v4.octets();
            IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], end.parse().ok()?))
        }
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[7] = u16::from_str_radix(end, 16).ok()?;
            IpAddr::V6(segments.into())
        }
    };
    (bits(last) >= bits(first)).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_addresses_ranges_and_networks() {
        let cases = [
            ("10.0.0.1", Some(("10.0.0.1", "10.0.0.1"))),
            ("10.0.0.1-9", Some(("10.0.0.1", "10.0.0.9"))),
            ("10.0.0.1-10.0.1.9", Some(("10.0.0.1", "10.0.1.9"))),
            ("10.0.0.0/30", Some(("10.0.0.0", "10.0.0.3"))),
            ("10.0.0.1/30", None),
            ("10.0.0.9-1", None),
            ("10.0.0.1-300", None),
            ("::/0", Some(("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))),
            ("2001:db8::a-f", Some(("2001:db8::a", "2001:db8::f"))),
            ("10.0.0.0/33", None),
            ("web", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()));
            assert_eq!(range(text), expected, "{text}");
        }
    }
}
