//! SERVICE/DESTINATION, as people write it: whole, or as much of it as is clear.

use std::net::SocketAddr;

use uvs_director::spec::ServiceKey;

use crate::words;

/// A destination of a service.
pub(super) type Named = (ServiceKey, SocketAddr);

/// More candidates than this are only counted.
const CANDIDATES_MAX: usize = 10;

/// The whole name, which [`find`] takes: `tcp/192.0.2.10:443/192.168.10.11:443`.
pub(super) fn of((service, destination): &Named) -> String {
    format!("{}/{destination}", service.to_string().replace(' ', "/"))
}

/// The one that is meant. The service may be left out, or its protocol, and so may the port of the destination.
///
/// # Errors
/// None is, or several are; the message lists candidates.
pub(super) fn find(text: &str, all: &[Named]) -> Result<Named, String> {
    let (service, destination) = match text.rsplit_once('/') {
        Some((service, destination)) => (Some(service.replace('/', " ")), destination),
        None => (None, text),
    };
    let in_service = |named: &&Named| service.as_deref().is_none_or(|service| is_service(service, &named.0));
    let is_meant = |named: &&Named| {
        named.1.to_string() == destination
            || destination.parse().is_ok_and(|ip: std::net::IpAddr| ip == named.1.ip())
    };
    let found: Vec<Named> = all.iter().filter(in_service).filter(is_meant).copied().collect();
    match &found[..] {
        [one] => Ok(*one),
        [] => {
            let near: Vec<Named> = all.iter().filter(in_service).copied().collect();
            let near = if near.is_empty() { all } else { &near[..] };
            if near.is_empty() {
                return Err(format!("there is no destination {text}, nor any other"));
            }
            Err(format!("there is no destination {text}\n  there are: {}", listed(near)))
        }
        several => Err(format!("{text} may be any of these; say which\n  {}", listed(several))),
    }
}

fn is_service(text: &str, key: &ServiceKey) -> bool {
    let addr = match key {
        ServiceKey::Address { addr, .. } => Some(addr.to_string()),
        ServiceKey::Mark { .. } => None,
    };
    key.to_string() == text || addr.is_some_and(|addr| addr == text)
}

fn listed(all: &[Named]) -> String {
    words::few(all.iter().map(of), CANDIDATES_MAX).join(", ")
}

#[cfg(test)]
mod tests {
    use uvs_director::spec::{Family, Protocol};

    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn service(protocol: Protocol, text: &str) -> ServiceKey {
        ServiceKey::Address { protocol, addr: addr(text) }
    }

    #[test]
    fn what_is_clear_is_enough_and_what_is_not_is_asked_back() {
        let web = service(Protocol::Tcp, "10.0.0.100:80");
        let dns = service(Protocol::Udp, "10.0.0.100:53");
        let tcp_dns = service(Protocol::Tcp, "10.0.0.100:53");
        let mark = ServiceKey::Mark { mark: 7, family: Family::V6 };
        let all = [
            (web, addr("192.168.20.11:8080")),
            (web, addr("192.168.20.12:8080")),
            (dns, addr("192.168.20.11:53")),
            (tcp_dns, addr("192.168.20.11:53")),
            (mark, addr("[fd00::1]:80")),
        ];
        for named in &all {
            assert_eq!(find(&of(named), &all), Ok(*named), "{}", of(named));
        }
        let clear = [
            ("192.168.20.12:8080", 1),
            ("192.168.20.12", 1),
            ("10.0.0.100:80/192.168.20.11", 0),
            ("tcp 10.0.0.100:80/192.168.20.11:8080", 0),
            ("udp/10.0.0.100:53/192.168.20.11", 2),
            ("fd00::1", 4),
            ("[fd00::1]:80", 4),
        ];
        for (text, index) in clear {
            assert_eq!(find(text, &all), Ok(all[index]), "{text}");
        }
        let unclear = [
            ("192.168.20.11", "may be any of these"),
            ("192.168.20.11", "udp/10.0.0.100:53/192.168.20.11:53"),
            ("10.0.0.100:53/192.168.20.11:53", "tcp/10.0.0.100:53/192.168.20.11:53"),
            ("tcp/10.0.0.100:80/192.168.20.13", "tcp/10.0.0.100:80/192.168.20.12:8080"),
            ("tcp/10.0.0.100:80", "there is no destination tcp/10.0.0.100:80"),
            ("", "there is no destination"),
            ("web", "fwmark/7/IPv6/[fd00::1]:80"),
        ];
        for (text, part) in unclear {
            let error = find(text, &all).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(find("x", &[]).unwrap_err().contains("nor any other"));
        let many: Vec<Named> =
            (1..=30).map(|port| (web, SocketAddr::new([192, 168, 20, 11].into(), port))).collect();
        assert!(find("192.168.20.11", &many).unwrap_err().contains("and 20 more"));
    }
}
