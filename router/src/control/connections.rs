//! `connections`: looks for entries of the table of connections.

use std::net::{IpAddr, SocketAddr};

use uvs_control::connections::{Answer, Connection, Request};
use uvs_control::{Error, ErrorKind};
use uvs_director::spec::Prefix;
use uvs_director::view::{ConnectionProtocol, ConnectionView};

use crate::pages::Live;
use crate::words;

/// Without a word about it.
const LIMIT: u32 = 100;
/// The most of an answer.
const LIMIT_MAX: u32 = 1000;

/// Looks at all of them, in slices beside the traffic, and keeps as many as are wanted.
pub(super) fn answer(request: &Request, live: &Live) -> Result<Answer, Error> {
    let wanted = Wanted::of(request).map_err(|reason| Error::new(ErrorKind::Refused, reason))?;
    let limit = request.limit.unwrap_or(LIMIT).min(LIMIT_MAX) as usize;
    let mut answer = Answer::default();
    live.director.connections_in_parts(live.clock.now(), |views| {
        for view in views.iter().filter(|view| wanted.is(view)) {
            answer.found += 1;
            if answer.connections.len() < limit {
                answer.connections.push(connection(view));
            }
        }
        true
    });
    Ok(answer)
}

/// What an end of a connection has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    In(Prefix),
    At(SocketAddr),
}

impl End {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(addr) = text.parse() {
            return Ok(Self::At(addr));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(Self::In(Prefix::host(ip)));
        }
        let prefix = text.split_once('/').and_then(|(ip, len)| Some((ip.parse().ok()?, len.parse().ok()?)));
        prefix.and_then(|(ip, len)| Prefix::new(ip, len)).map(Self::In).ok_or_else(|| {
            format!("{text:?} is no address: write 192.0.2.7, 192.0.2.7:40000, [2001:db8::7]:40000 or 192.0.2.0/24")
        })
    }

    fn is(self, addr: SocketAddr) -> bool {
        match self {
            Self::In(prefix) => prefix.contains(addr.ip()),
            Self::At(at) => at == addr,
        }
    }
}

struct Wanted<'r> {
    client: Option<End>,
    service: Option<End>,
    destination: Option<End>,
    state: Option<&'r str>,
}

impl<'r> Wanted<'r> {
    fn of(request: &'r Request) -> Result<Self, String> {
        let end = |text: &Option<String>| text.as_deref().map(End::parse).transpose();
        Ok(Self {
            client: end(&request.client)?,
            service: end(&request.service)?,
            destination: end(&request.destination)?,
            state: request.state.as_deref(),
        })
    }

    fn is(&self, view: &ConnectionView) -> bool {
        self.client.is_none_or(|end| end.is(view.client))
            && self.service.is_none_or(|end| end.is(view.virtual_addr))
            && self.destination.is_none_or(|end| end.is(view.destination))
            && self.state.is_none_or(|state| state.eq_ignore_ascii_case(view.state))
    }
}

fn connection(view: &ConnectionView) -> Connection {
    Connection {
        protocol: match view.protocol {
            ConnectionProtocol::Transport(protocol) => protocol.to_string(),
            ConnectionProtocol::Ip => "ip".to_owned(),
        },
        client: view.client.to_string(),
        service: view.virtual_addr.to_string(),
        destination: view.destination.to_string(),
        forwarding: words::method(view.forwarding).to_owned(),
        state: view.state.to_owned(),
        expires_s: view.expires_in.as_secs_f64(),
        template: view.template,
        active: view.active,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ends_are_addresses_subnets_or_addresses_with_a_port() {
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
            let end = End::parse(text).unwrap();
            assert!(end.is(addr(yes)) && !end.is(addr(no)), "{text}");
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
            assert!(End::parse(text).unwrap_err().contains("is no address"), "{text}");
        }
    }
}
