//! What packets there were: who sent each, which connection it belongs to, and in which order they came.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A connection, as the client sees it: from its first packet on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incarnation {
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// What the client asked for.
    pub(crate) virtual_addr: SocketAddr,
}

/// A packet that came to the director.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    /// The connection it belongs to; `None`: to none that the client knows.
    pub(crate) incarnation: Option<u32>,
    /// It comes from a server.
    pub(crate) is_reply: bool,
    /// Source and destination, as they were then.
    pub(crate) ends: (SocketAddr, SocketAddr),
    flow: usize,
    place: u32,
    has_left: bool,
}

/// The order of packets with the same ends.
#[derive(Default)]
struct Flow {
    came: u32,
    /// To each station, the place of the last that left.
    left: Vec<(u32, u32)>,
}

/// See the head of this file.
#[derive(Default)]
pub(crate) struct Ledger {
    incarnations: Vec<Incarnation>,
    stamps: Vec<Stamp>,
    flows: Vec<Flow>,
    by_ends: BTreeMap<(u8, SocketAddr, SocketAddr), usize>,
}

/// What is wrong about a packet that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disorder {
    /// It has left before.
    Twice,
    /// One that came later has left before.
    Overtaken,
}

impl Ledger {
    /// A new connection.
    pub(crate) fn begin(&mut self, incarnation: Incarnation) -> u32 {
        self.incarnations.push(incarnation);
        u32::try_from(self.incarnations.len() - 1).expect("fewer than 2^32 connections")
    }

    /// A connection.
    pub(crate) fn incarnation(&self, number: u32) -> Incarnation {
        self.incarnations[number as usize]
    }

    /// A packet comes. Its stamp.
    pub(crate) fn came(
        &mut self,
        protocol: u8,
        ends: (SocketAddr, SocketAddr),
        is_reply: bool,
        incarnation: Option<u32>,
    ) -> u32 {
        let flow = *self.by_ends.entry((protocol, ends.0, ends.1)).or_insert_with(|| {
            self.flows.push(Flow::default());
            self.flows.len() - 1
        });
        self.flows[flow].came += 1;
        let place = self.flows[flow].came;
        self.stamps.push(Stamp { incarnation, is_reply, ends, flow, place, has_left: false });
        u32::try_from(self.stamps.len()).expect("fewer than 2^32 packets")
    }

    /// The packet of a stamp.
    pub(crate) fn stamp(&self, stamp: u32) -> Option<Stamp> {
        self.stamps.get((stamp as usize).checked_sub(1)?).copied()
    }

    /// A packet leaves, to that station.
    pub(crate) fn left(&mut self, stamp: u32, station: u32) -> Result<(), Disorder> {
        let Some(packet) = (stamp as usize).checked_sub(1).and_then(|at| self.stamps.get_mut(at)) else {
            return Ok(());
        };
        if std::mem::replace(&mut packet.has_left, true) {
            return Err(Disorder::Twice);
        }
        let (flow, place) = (packet.flow, packet.place);
        let left = &mut self.flows[flow].left;
        match left.iter_mut().find(|(to, _)| *to == station) {
            Some((_, last)) if *last > place => Err(Disorder::Overtaken),
            Some((_, last)) => {
                *last = place;
                Ok(())
            }
            None => {
                left.push((station, place));
                Ok(())
            }
        }
    }

    /// Packets that came.
    pub(crate) fn len(&self) -> usize {
        self.stamps.len()
    }
}
