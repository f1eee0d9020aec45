//! `forward` and `tunnel`: how packets get to a destination.

use uvs_director::spec::{Forwarding, Tunnel, TunnelChecksum};

use crate::read::{Integer, Keys, Table};

pub(crate) const TUNNEL: Keys = &["type", "port", "checksum"];

/// A forwarding method by its word; of which kind a tunnel is stands elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Nat,
    Direct,
    Tunnel,
}

const METHODS: &[(&str, Method)] = &[("nat", Method::Nat), ("dr", Method::Direct), ("tun", Method::Tunnel)];

/// What ipvsadm and keepalived call the methods.
const METHOD_HINTS: &[(&str, &str)] = &[
    ("masq", "nat"),
    ("masquerading", "nat"),
    ("NAT", "nat"),
    ("direct", "dr"),
    ("gatewaying", "dr"),
    ("gateway", "dr"),
    ("DR", "dr"),
    ("ipip", "tun"),
    ("tunnel", "tun"),
    ("TUN", "tun"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ipip,
    Gue,
    Gre,
}

impl Kind {
    const WORDS: &[(&str, Self)] = &[("ipip", Self::Ipip), ("gue", Self::Gue), ("gre", Self::Gre)];
}

const CHECKSUMS: &[(&str, TunnelChecksum)] =
    &[("none", TunnelChecksum::None), ("full", TunnelChecksum::Full), ("remote", TunnelChecksum::Remote)];

/// What ipvsadm calls them.
const CHECKSUM_HINTS: &[(&str, &str)] = &[
    ("nocsum", "none"),
    ("csum", "full"),
    ("remcsum", "remote"),
    ("tun-nocsum", "none"),
    ("tun-csum", "full"),
];

/// What a service or destination says about the way; each half may be absent, or wrong and noted.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    has_method: bool,
    pub(crate) method: Option<Method>,
    has_tunnel: bool,
    tunnel: Option<Tunnel>,
}

impl Way {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        Self {
            has_method: table.has("forward"),
            method: table.choice("forward", METHODS, METHOD_HINTS).map(|found| found.value),
            has_tunnel: table.has("tunnel"),
            tunnel: read_tunnel(table),
        }
    }

    /// Whether either it or what it inherits from names a method, right or wrong.
    pub(crate) fn is_given(self, inherited: Self) -> bool {
        self.has_method || inherited.has_method
    }

    /// This way, with what it does not say taken from `inherited`. A tunnel is taken whole.
    pub(crate) fn or(self, inherited: Self) -> Self {
        let (has_method, method) =
            if self.has_method { (true, self.method) } else { (inherited.has_method, inherited.method) };
        let (has_tunnel, tunnel) =
            if self.has_tunnel { (true, self.tunnel) } else { (inherited.has_tunnel, inherited.tunnel) };
        Self { has_method, method, has_tunnel, tunnel }
    }

    /// `None` where anything that matters for it is missing or wrong.
    pub(crate) fn forwarding(self) -> Option<Forwarding> {
        Some(match self.method? {
            Method::Nat => Forwarding::Nat,
            Method::Direct => Forwarding::Direct,
            Method::Tunnel if self.has_tunnel => Forwarding::Tunnel(self.tunnel?),
            Method::Tunnel => Forwarding::Tunnel(Tunnel::Ipip),
        })
    }
}

fn read_tunnel(owner: &Table<'_>) -> Option<Tunnel> {
    let table = owner.section("tunnel", TUNNEL)?;
    table.require("type", "\"ipip\", \"gue\" or \"gre\"");
    let kind = table.choice("type", Kind::WORDS, &[("IPIP", "ipip"), ("GUE", "gue"), ("GRE", "gre")]);
    let port =
        table.integer(&Integer { key: "port", label: "tunnel port", min: 1, max: u16::MAX.into(), note: "" });
    let checksum = table.choice("checksum", CHECKSUMS, CHECKSUM_HINTS);
    let kind = kind?.value;
    let refuse = |key, what: &str, fix: &str| table.doc.error(&table.place(key), what, fix);
    match kind {
        Kind::Ipip | Kind::Gre if table.has("port") => {
            refuse(
                "port",
                "port does not go with this type: only GUE runs over UDP",
                "remove port, or use type = \"gue\"",
            );
            return None;
        }
        Kind::Ipip if table.has("checksum") => {
            let what = "checksum does not go with type \"ipip\": IP in IP has no checksum of its own";
            refuse("checksum", what, "remove checksum, or use type = \"gue\" or \"gre\"");
            return None;
        }
        Kind::Gue => table.require("port", "6080"),
        _ => {}
    }
    let given = table.has("checksum");
    let checksum = if given { checksum?.value } else { TunnelChecksum::None };
    match (kind, checksum) {
        (Kind::Ipip, _) => Some(Tunnel::Ipip),
        (Kind::Gue, checksum) => Some(Tunnel::Gue { port: u16::try_from(port?.value).ok()?, checksum }),
        (Kind::Gre, TunnelChecksum::Remote) => {
            refuse(
                "checksum",
                "GRE has no remote checksum offload",
                "use \"none\" or \"full\", or type = \"gue\"",
            );
            None
        }
        (Kind::Gre, checksum) => Some(Tunnel::Gre { checksum: checksum == TunnelChecksum::Full }),
    }
}
