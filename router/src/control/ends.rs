//! Ends of connections, as people write them: an address, or address and port.

use std::net::SocketAddr;

use uvs_control::{Error, ErrorKind};
use uvs_director::trace::{End, Filter};

/// An end.
///
/// # Errors
/// It is none; `what` names the field.
fn end(what: &str, text: &str) -> Result<End, Error> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok(End { addr: addr.ip(), port: Some(addr.port()) });
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map(|addr| End { addr, port: None }).map_err(|_| {
        let message = format!(
            "{what}: {text:?} is no address; one looks like 192.0.2.1, 192.0.2.1:4000, 2001:db8::1 or [2001:db8::1]:4000"
        );
        Error::new(ErrorKind::Refused, message)
    })
}

/// What is meant by the ends that are named.
///
/// # Errors
/// One is no end.
pub(super) fn filter(
    client: Option<&str>,
    vip: Option<&str>,
    destination: Option<&str>,
) -> Result<Filter, Error> {
    Ok(Filter {
        client: client.map(|text| end("client", text)).transpose()?,
        virtual_addr: vip.map(|text| end("vip", text)).transpose()?,
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
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:80", "192.0.2.1", Some(80)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
        ];
        for (text, addr, port) in cases {
            assert_eq!(end("client", text).unwrap(), End { addr: addr.parse().unwrap(), port }, "{text}");
        }
        for text in ["", "web", "192.0.2.1:", "192.0.2.1:99999", "[192.0.2"] {
            let error = end("vip", text).unwrap_err();
            assert!(error.message.starts_with("vip: ") && error.kind == ErrorKind::Refused, "{text}");
        }
    }
}
