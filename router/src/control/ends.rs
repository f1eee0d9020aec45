//! Ends of connections, as people write them: an address, a subnet, or address and port.

use std::net::{IpAddr, SocketAddr};

use uvs_control::{Error, ErrorKind};
use uvs_director::spec::Prefix;
use uvs_director::trace::{End, Filter};

/// An end.
///
/// # Errors
/// It is none; `what` names the field.
fn end(what: &str, text: &str) -> Result<End, Error> {
    let text = text.trim();
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(End { net: Prefix::host(addr.ip()), port: Some(addr.port()) });
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let net = bare.parse::<IpAddr>().map(Prefix::host).ok().or_else(|| text.parse().ok());
    net.map(|net| End { net, port: None }).ok_or_else(|| {
        let message = format!(
            "{what}: {text:?} is no address; one looks like 192.0.2.1, 192.0.2.1:4000, 192.0.2.0/24, 2001:db8::1 or \
             [2001:db8::1]:4000"
        );
        Error::new(ErrorKind::Refused, message)
    })
}

/// What is meant by the ends that are named. `vip`: with the name of its field.
///
/// # Errors
/// One is no end.
pub(super) fn filter(
    client: Option<&str>,
    vip: (&str, Option<&str>),
    destination: Option<&str>,
) -> Result<Filter, Error> {
    Ok(Filter {
        client: client.map(|text| end("client", text)).transpose()?,
        virtual_addr: vip.1.map(|text| end(vip.0, text)).transpose()?,
        destination: destination.map(|text| end("destination", text)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use super::*;

    #[test]
    fn ends_are_read_as_people_write_them() {
        let cases = [
            ("192.0.2.7", "192.0.2.7:1", "192.0.2.8:1"),
            ("192.0.2.7:40000", "192.0.2.7:40000", "192.0.2.7:40001"),
            (" 192.0.2.0/24 ", "192.0.2.255:9", "192.0.3.0:9"),
            ("0.0.0.0/0", "192.0.2.7:1", "[::1]:1"),
            ("2001:db8::7", "[2001:db8::7]:1", "[2001:db8::8]:1"),
            ("[2001:db8::7]", "[2001:db8::7]:1", "[2001:db8::8]:1"),
            ("[2001:db8::7]:2", "[2001:db8::7]:2", "[2001:db8::7]:1"),
            ("2001:db8::/32", "[2001:db8::7]:2", "[2001:db9::7]:2"),
        ];
        for (text, yes, no) in cases {
            let end = end("client", text).unwrap();
            assert!(end.matches(yes.parse().unwrap()) && !end.matches(no.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            "web",
            "192.0.2",
            "192.0.2.7:",
            "192.0.2.0/33",
            "192.0.2.0/",
            "/24",
            "[::1",
            "192.0.2.7:70000",
        ] {
            let error = end("vip", text).unwrap_err();
            assert!(error.message.starts_with("vip: ") && error.kind == ErrorKind::Refused, "{text}");
        }
    }
}
