//! Packets of one kind with a director to take them, by name, for whoever counts what one of them costs.

use std::sync::Arc;

use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::{Family, Forwarding};
use uvs_director::{Director, PortId};
use uvs_wire::tcp::{ACK, SYN};

use crate::{
    CLIENT_SIDE, FAMILIES, METHODS, SERVER_SIDE, director_with_vips, establish_of, reply_of, request_of,
};

/// Connections that are there.
const CONNECTIONS: usize = 1000;
/// In names of scenarios with as many VIPs more.
const MANY_VIPS: &str = "1000-vips";

/// A director, and frames that it forwards from one port to the other.
pub struct Scenario {
    /// With 1000 connections.
    pub director: Director,
    /// At least one for each packet that was asked for if each is another client's, else one for each connection.
    pub frames: Vec<Vec<u8>>,
    /// Where they come in.
    pub from: PortId,
    /// Where they leave.
    pub to: PortId,
}

/// Those that there are, as in `hit/nat/v4`: a packet of a connection, an answer, the first packet of a connection.
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    for kind in ["hit", "reply", "miss"] {
        for (method, forwarding) in METHODS {
            for (family, _) in FAMILIES {
                if kind != "reply" || forwarding == Forwarding::Nat {
                    names.push(format!("{kind}/{method}/{family}"));
                }
            }
        }
    }
    for kind in ["hit", "reply"] {
        names.extend(FAMILIES.iter().map(|(family, _)| format!("{kind}/nat/{MANY_VIPS}/{family}")));
    }
    names
}

/// The family that a name ends with.
///
/// # Panics
/// It is none.
pub fn family_of(name: &str) -> Family {
    let (_, family) =
        FAMILIES.into_iter().find(|(family, _)| name.ends_with(family)).expect("a known family");
    family
}

impl Scenario {
    /// One of [`names`], for at most so many first packets.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn new(name: &str, packets: usize) -> Self {
        let parts: Vec<&str> = name.split('/').collect();
        let family = family_of(name);
        let (_, forwarding) =
            METHODS.into_iter().find(|(name, _)| *name == parts[1]).expect("a known method");
        let vips = if parts.contains(&MANY_VIPS) { 1000 } else { 0 };
        let director =
            director_with_vips(family, forwarding, CONNECTIONS + packets, Arc::new(NativeOnly), vips);
        establish_of(family, &director, CONNECTIONS);
        let (from, to) =
            if parts[0] == "reply" { (SERVER_SIDE, CLIENT_SIDE) } else { (CLIENT_SIDE, SERVER_SIDE) };
        let frames = match parts[0] {
            "hit" => (0..CONNECTIONS).map(|n| request_of(family, n, ACK, 64)).collect(),
            "reply" => (0..CONNECTIONS).map(|n| reply_of(family, n, ACK, 64)).collect(),
            _ => (CONNECTIONS..CONNECTIONS + packets).map(|n| request_of(family, n, SYN, 0)).collect(),
        };
        Self { director, frames, from, to }
    }
}
