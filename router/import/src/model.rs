//! What a keepalived.conf says of LVS, before inheritance.

use core::net::IpAddr;
use std::collections::HashMap;

use uvs_director::spec::{Family, Forwarding, Protocol};

use crate::remark::At;

/// A whole configuration.
#[derive(Debug, Default)]
pub(crate) struct Conf {
    pub(crate) virtuals: Vec<Virtual>,
    pub(crate) groups: HashMap<String, Group>,
    pub(crate) track_files: HashMap<String, TrackFile>,
    /// Seconds of TCP, of TCP after a FIN, of UDP.
    pub(crate) timeouts: [Option<u64>; 3],
    /// Addresses with the lengths of their subnets, of VRRP and of `static_ipaddress`.
    pub(crate) addresses: Vec<Hint>,
    /// Of programs that name nobody.
    pub(crate) script_user: Option<RunAs>,
}

/// An address that the host has or would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) address: IpAddr,
    /// The length of its subnet.
    pub(crate) len: u8,
    /// On which device, if that is said.
    pub(crate) device: Option<String>,
}

/// Whom a program is run as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunAs {
    pub(crate) user: String,
    /// `None`: the user's.
    pub(crate) group: Option<String>,
}

/// What a virtual server is named by.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    Address(IpAddr, u16),
    Mark(u32),
    Group(String),
}

/// One entry of a virtual server group.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// The first address, and how many follow it.
    Addresses {
        first: IpAddr,
        more: u128,
        port: u16,
    },
    Mark {
        mark: u32,
        family: Option<Family>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) entries: Vec<(At, Entry)>,
}

#[derive(Debug, Default)]
pub(crate) struct TrackFile {
    pub(crate) path: Option<String>,
    pub(crate) weight: Option<i64>,
}

/// What goes down from a virtual server to its real servers and their checkers. Times are microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) delay_loop: Option<u64>,
    pub(crate) connect_timeout: Option<u64>,
    pub(crate) retry: Option<u64>,
    pub(crate) delay_before_retry: Option<u64>,
    pub(crate) alpha: Option<bool>,
}

impl Timing {
    /// What it leaves open is as outside of it.
    pub(crate) fn or(self, outer: Self) -> Self {
        Self {
            delay_loop: self.delay_loop.or(outer.delay_loop),
            connect_timeout: self.connect_timeout.or(outer.connect_timeout),
            retry: self.retry.or(outer.retry),
            delay_before_retry: self.delay_before_retry.or(outer.delay_before_retry),
            alpha: self.alpha.or(outer.alpha),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Virtual {
    pub(crate) at: At,
    pub(crate) name: Name,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) family: Option<Family>,
    pub(crate) scheduler: Option<String>,
    /// `flag-1` and so on.
    pub(crate) flags: [bool; 3],
    pub(crate) method: Option<Forwarding>,
    pub(crate) persistence: Option<u64>,
    pub(crate) prefix_len: Option<u8>,
    pub(crate) one_packet: Option<At>,
    pub(crate) timing: Timing,
    pub(crate) quorum: Option<(At, u64)>,
    pub(crate) hysteresis: Option<(At, u64)>,
    pub(crate) inhibit: bool,
    pub(crate) weight: Option<u64>,
    pub(crate) host: Option<String>,
    pub(crate) sorry: Option<Sorry>,
    /// Of its quorum.
    pub(crate) scripts: Vec<Script>,
    /// Whether scripts run at the end, too.
    pub(crate) omega: bool,
    pub(crate) reals: Vec<Real>,
}

#[derive(Debug)]
pub(crate) struct Sorry {
    pub(crate) at: At,
    pub(crate) ip: IpAddr,
    pub(crate) port: Option<u16>,
    pub(crate) method: Option<Forwarding>,
}

#[derive(Debug)]
pub(crate) struct Real {
    pub(crate) at: At,
    pub(crate) ip: IpAddr,
    pub(crate) port: Option<u16>,
    pub(crate) weight: Option<u64>,
    pub(crate) method: Option<Forwarding>,
    pub(crate) upper: u64,
    pub(crate) lower: u64,
    pub(crate) inhibit: Option<bool>,
    pub(crate) host: Option<String>,
    pub(crate) timing: Timing,
    pub(crate) checkers: Vec<Checker>,
    /// Of its ups and downs.
    pub(crate) scripts: Vec<Script>,
}

/// A program that is run at a change.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) at: At,
    /// As it is written: `quorum_up`.
    pub(crate) keyword: String,
    /// With its arguments.
    pub(crate) command: String,
    pub(crate) user: Option<RunAs>,
}

#[derive(Debug)]
pub(crate) struct Checker {
    pub(crate) at: At,
    /// As it is written: `TCP_CHECK`.
    pub(crate) keyword: String,
    pub(crate) kind: Kind,
    pub(crate) timing: Timing,
    pub(crate) connect_ip: Option<IpAddr>,
    pub(crate) connect_port: Option<u16>,
    pub(crate) bind_ip: Option<IpAddr>,
    pub(crate) mark: Option<u64>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Tcp,
    Http(Http),
    Smtp,
    Dns { record: String, name: String },
    Misc(Misc),
    Udp(Udp),
    Ping,
    File { track: String, weight: Option<i64>, reverse: bool },
    Bfd,
}

#[derive(Debug, Default)]
pub(crate) struct Http {
    pub(crate) secure: bool,
    pub(crate) host: Option<String>,
    pub(crate) sni: Option<String>,
    pub(crate) enable_sni: bool,
    pub(crate) urls: Vec<Url>,
}

#[derive(Debug)]
pub(crate) struct Url {
    pub(crate) at: At,
    pub(crate) path: String,
    pub(crate) host: Option<String>,
    pub(crate) sni: Option<String>,
    pub(crate) enable_sni: Option<bool>,
    pub(crate) digest: Option<At>,
    /// From the first to the last.
    pub(crate) status: Vec<(u16, u16)>,
    /// The expression, whether it must not match, and whether there are options to it.
    pub(crate) regex: Option<Regex>,
}

#[derive(Debug)]
pub(crate) struct Regex {
    pub(crate) at: At,
    pub(crate) text: String,
    pub(crate) negative: bool,
    pub(crate) options: Vec<String>,
    pub(crate) window: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Misc {
    pub(crate) command: Option<String>,
    pub(crate) timeout: Option<u64>,
    pub(crate) dynamic: bool,
    pub(crate) user: Option<RunAs>,
}

#[derive(Debug, Default)]
pub(crate) struct Udp {
    pub(crate) payload: Option<String>,
    /// Whether there has to be a reply, and which: hexadecimal digits, `x` for any.
    pub(crate) reply: Option<Option<String>>,
    /// Bounds of its length.
    pub(crate) lengths: Option<At>,
}
