//! Addresses, ports and numbers as the C library reads them on ipvsadm's command line.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uvs_director::spec::Protocol;

use crate::format::port_number;

/// `host[:port]`; an IPv6 host with a port stands in brackets.
///
/// `None` for what ipvsadm calls illegal: digits only, an address it cannot read, a port out of range. Names of
/// hosts are not looked up.
pub(crate) fn host_and_port(text: &str, protocol: Protocol) -> Option<(IpAddr, Option<u16>)> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port_text = rest.strip_prefix(':')?;
        let host = host.parse::<Ipv6Addr>().ok()?;
        return Some((host.into(), Some(port(port_text, protocol)?)));
    }
    if let Ok(host) = text.parse::<Ipv6Addr>() {
        return Some((host.into(), None));
    }
    match text.rsplit_once(':') {
        Some((host, port_text)) => Some((ipv4(host)?.into(), Some(port(port_text, protocol)?))),
        None => Some((ipv4(text)?.into(), None)),
    }
}

fn port(text: &str, protocol: Protocol) -> Option<u16> {
    number(text, 0, 65_535).and_then(|port| u16::try_from(port).ok()).or_else(|| port_number(text, protocol))
}

/// An IPv4 address in any of `inet_aton`'s forms: one to four parts, decimal, octal or hex, the last part
/// filling what is left.
pub(crate) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut bits: u32 = 0;
    let mut parts = text.split('.').peekable();
    for index in 0..4 {
        let part = address_part(parts.next()?)?;
        if parts.peek().is_none() {
            let room = 32 - 8 * index;
            if u64::from(part) >= 1 << room {
                return None;
            }
            return Some(Ipv4Addr::from_bits(bits | part));
        }
        if part > 255 || index == 3 {
            return None;
        }
        bits |= part << (24 - 8 * index);
    }
    None
}

fn address_part(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { u32::from_str_radix(digits, radix).ok() } else { None }
}

/// A decimal number as `strtol` takes it (blanks and a sign in front), within bounds.
pub(crate) fn number(text: &str, min: i64, max: i64) -> Option<i64> {
    text.trim_start().parse::<i64>().ok().filter(|number| (min..=max).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_inet_aton_does() {
        let cases = [
            ("10.0.0.100", Some([10, 0, 0, 100]), "dotted"),
            ("1.2.3", Some([1, 2, 0, 3]), "the last part fills two bytes"),
            ("10.1", Some([10, 0, 0, 1]), "the last part fills three bytes"),
            ("0x0a.010.1.1", Some([10, 8, 1, 1]), "hex and octal"),
            ("1.2.3.4.5", None, "five parts"),
            ("1.2.3.256", None, "part out of range"),
            ("256.2.3.4", None, "first part out of range"),
            ("1..2", None, "empty part"),
            ("+1.2.3.4", None, "a sign"),
            ("www", None, "a name"),
        ];
        for (text, want, why) in cases {
            assert_eq!(ipv4(text), want.map(Ipv4Addr::from), "{why}: {text}");
        }
    }

    #[test]
    fn hosts_with_ports() {
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        let cases = [
            ("10.0.0.100:80", Some((v6("10.0.0.100"), Some(80))), "address and port"),
            ("10.0.0.100", Some((v6("10.0.0.100"), None)), "no port"),
            ("10.0.0.100:http", Some((v6("10.0.0.100"), Some(80))), "port by name"),
            ("10.0.0.100:65536", None, "port out of range"),
            ("10.0.0.100:", None, "empty port"),
            ("[fd00:1::100]:80", Some((v6("fd00:1::100"), Some(80))), "IPv6 with port"),
            ("fd00:1::100", Some((v6("fd00:1::100"), None)), "IPv6 without"),
            ("[fd00:1::100]", None, "brackets without port are refused"),
            ("[10.0.0.1]:80", None, "IPv4 in brackets is refused"),
            ("80", None, "digits only"),
            ("", None, "nothing"),
        ];
        for (text, want, why) in cases {
            assert_eq!(host_and_port(text, Protocol::Tcp), want, "{why}: {text}");
        }
    }
}
