//! What the director is told of a service and its destinations, as keys and values of the file. Reading them gives the
//! same back; a key whose default is meant is left out.

use core::net::SocketAddr;

use uvs_director::spec::{
    DestinationSpec, Family, Forwarding, ServiceKey, ServiceSpec, Tunnel, TunnelChecksum,
};

/// Keys and what stands behind them, in the order in which people write them.
pub type Entries = Vec<(&'static str, Value)>;

/// What stands behind a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer.
    Number(u64),
    /// A boolean.
    Switch(bool),
    /// An inline table.
    Table(Entries),
}

/// TOML has integers of 64 bits with a sign.
pub fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl From<Value> for toml::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => Self::String(text),
            Value::Number(number) => Self::Integer(integer(number)),
            Value::Switch(on) => Self::Boolean(on),
            Value::Table(entries) => {
                Self::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
            }
        }
    }
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

/// Of `[[service]]`; without its destinations and how they are reached.
pub fn service(spec: &ServiceSpec) -> Entries {
    let mut entries = match spec.key {
        ServiceKey::Address { protocol, addr } => {
            vec![("protocol", text(protocol.to_string())), ("address", text(addr.to_string()))]
        }
        ServiceKey::Mark { mark, .. } => vec![("mark", Value::Number(mark.into()))],
    };
    if let ServiceKey::Mark { family: Family::V6, .. } = spec.key {
        entries.push(("family", text("ipv6")));
    }
    entries.push(("scheduler", text(spec.scheduler.name.clone())));
    if !spec.scheduler.options.is_empty() {
        entries.push(("options", text(spec.scheduler.options.clone())));
    }
    if let Some(persistence) = spec.persistence {
        entries.push(("persistent", Value::Number(persistence.timeout.as_secs())));
        let whole = if spec.key.family() == Family::V4 { 32 } else { 128 };
        if persistence.prefix_len != whole {
            entries.push(("netmask", Value::Number(persistence.prefix_len.into())));
        }
    }
    if spec.one_packet {
        entries.push(("one_packet", Value::Switch(true)));
    }
    entries
}

/// Of `[[service.destination]]`. `common` is what its service says of how destinations are reached.
pub fn destination(spec: &DestinationSpec, service: ServiceKey, common: Option<Forwarding>) -> Entries {
    let DestinationSpec { addr, forwarding, weight, upper_threshold, lower_threshold } = *spec;
    let mut entries = vec![("address", text(address(addr, service)))];
    if weight != 1 {
        entries.push(("weight", Value::Number(weight.into())));
    }
    if common != Some(forwarding) {
        entries.extend(self::forwarding(forwarding));
    }
    for (key, value) in [("upper_threshold", upper_threshold), ("lower_threshold", lower_threshold)] {
        if value > 0 {
            entries.push((key, Value::Number(value.into())));
        }
    }
    entries
}

/// Without a port where packets keep theirs.
fn address(addr: SocketAddr, service: ServiceKey) -> String {
    let keeps = matches!(service, ServiceKey::Address { addr: vip, .. } if vip.port() == 0);
    if keeps || addr.port() == 0 { addr.ip().to_string() } else { addr.to_string() }
}

/// `forward`, and `tunnel` with it.
pub fn forwarding(forwarding: Forwarding) -> Entries {
    let method = match forwarding {
        Forwarding::Nat => "nat",
        Forwarding::Direct => "dr",
        Forwarding::Tunnel(_) => "tun",
    };
    let forward = ("forward", text(method));
    let Forwarding::Tunnel(tunnel) = forwarding else { return vec![forward] };
    let (kind, port, checksum) = match tunnel {
        Tunnel::Ipip => ("ipip", None, None),
        Tunnel::Gue { port, checksum } => match checksum {
            TunnelChecksum::None => ("gue", Some(port), None),
            TunnelChecksum::Full => ("gue", Some(port), Some("full")),
            TunnelChecksum::Remote => ("gue", Some(port), Some("remote")),
        },
        Tunnel::Gre { checksum } => ("gre", None, checksum.then_some("full")),
    };
    let mut outer = vec![("type", text(kind))];
    outer.extend(port.map(|port| ("port", Value::Number(port.into()))));
    outer.extend(checksum.map(|checksum| ("checksum", text(checksum))));
    vec![forward, ("tunnel", Value::Table(outer))]
}
