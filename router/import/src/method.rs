//! Forwarding methods and tunnels.

use uvs_director::spec::{Forwarding, Tunnel, TunnelChecksum};

/// What words say of a method.
pub(crate) enum Given {
    Known(Forwarding),
    /// And what is run in its place.
    Wrong(String),
    /// Of a program that took over the language.
    Dialect,
}

/// `NAT`, `DR`, `TUN [type ipip|gue port N|gre] [nocsum|csum|remcsum]`.
pub(crate) fn parse(words: &[&str]) -> Given {
    let Some((name, options)) = words.split_first() else { return Given::Wrong("it is ignored".to_owned()) };
    match *name {
        "NAT" => Given::Known(Forwarding::Nat),
        "DR" => Given::Known(Forwarding::Direct),
        "TUN" => tunnel(options).map_or_else(Given::Wrong, |tunnel| Given::Known(Forwarding::Tunnel(tunnel))),
        "FNAT" | "SNAT" | "GRE" | "FULLNAT" => Given::Dialect,
        other => {
            let known = ["NAT", "DR", "TUN"].iter().any(|name| name.eq_ignore_ascii_case(other));
            let why = if known { "methods are written in capitals" } else { "it is no method" };
            Given::Wrong(format!("{why}: it is ignored, and NAT runs unless another is given"))
        }
    }
}

fn tunnel(options: &[&str]) -> Result<Tunnel, String> {
    let (mut kind, mut port, mut checksum) = ("ipip", None, TunnelChecksum::None);
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match *word {
            "type" => kind = words.next().copied().unwrap_or_default(),
            "port" => port = words.next().and_then(|text| text.parse::<u16>().ok()).filter(|port| *port != 0),
            "nocsum" => checksum = TunnelChecksum::None,
            "csum" => checksum = TunnelChecksum::Full,
            "remcsum" => checksum = TunnelChecksum::Remote,
            other => return Err(format!("{other} is no option of a tunnel: the line is ignored")),
        }
    }
    match (kind, port, checksum) {
        ("ipip", None, TunnelChecksum::None) => Ok(Tunnel::Ipip),
        ("gue", Some(port), checksum) => Ok(Tunnel::Gue { port, checksum }),
        ("gre", None, TunnelChecksum::None) => Ok(Tunnel::Gre { checksum: false }),
        ("gre", None, TunnelChecksum::Full) => Ok(Tunnel::Gre { checksum: true }),
        ("ipip" | "gue" | "gre", ..) => {
            Err("port goes with gue, which needs it, and checksums with gue and gre: the line is ignored"
                .to_owned())
        }
        (other, ..) => Err(format!("{other} is no type of a tunnel: the line is ignored")),
    }
}
