//! What a cache of flows does for the director: packets of connections that are placed pass by it, rewritten as it
//! would.
//!
//! ```text
//!   Director --- place, remove, withdraw ---> FlowCache (maps of programs in the kernel)
//!      ^                                          |
//!      `--- events, last_seen, counts ------------'
//! ```
//! The director stays the only authority: it decides from a connection's first packet, and whatever the cache does not
//! take comes to it as if there were none. A cache may refuse, forget or end at any time.

use std::sync::Arc;

use uvs_wire::Address;

use crate::base::ids::PortId;
use crate::base::spec::MacAddr;
use crate::base::time::{Duration, Instant};
pub use crate::track::stats::Tally;

/// What packets of one direction of a connection carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// TCP or UDP, as the IP header has it.
    pub protocol: u8,
    /// Where they come from.
    pub source: (Address, u16),
    /// Where they go to.
    pub destination: (Address, u16),
}

/// What becomes of them, beside one less on the TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// NAT, from the client: another destination.
    NewDestination(Address, u16),
    /// NAT, from the destination: another source.
    NewSource(Address, u16),
    /// Direct routing.
    AsIs,
    /// Into a packet from here to there (IPIP, and its kin for IPv6).
    Tunnel {
        /// The director's address.
        source: Address,
        /// The destination's.
        destination: Address,
    },
}

/// How they leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Through this interface.
    pub port: PortId,
    /// To this neighbour,
    pub addr: Address,
    /// whose address is this,
    pub to: MacAddr,
    /// from this one of ours.
    pub from: MacAddr,
    /// The longest packet, outer header included, in bytes.
    pub mtu: u32,
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Of which packets.
    pub key: FlowKey,
    /// What becomes of them.
    pub act: Act,
    /// How they leave.
    pub next_hop: NextHop,
    /// Earlier packets may be on their way through the director: the cache leaves it those that come until all before
    /// are through, as [`FlowCache::through`] tells it.
    pub waits: bool,
}

/// A connection, as a cache has to know it.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// From the client.
    pub request: Direction,
    /// To the client, where answers pass the director.
    pub reply: Option<Direction>,
    /// The destination, by a number that no other one has.
    pub destination: u32,
    /// Its address.
    pub addr: Address,
    /// Where its packets are counted.
    pub tally: &'a Arc<Tally>,
    /// Nobody knows yet that both ends want it: a cache that runs full may leave it alone.
    pub is_embryonic: bool,
}

/// Why a connection is not in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPlaced {
    /// Its packets do not pass where the cache is: there is no use in asking again.
    Elsewhere,
    /// There is no room now.
    Full,
    /// Something in the cache fails, or is short of anything but room for connections.
    Failed,
}

/// A packet that the cache let pass, and that may move the state of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEvent {
    /// Of which flow.
    pub key: FlowKey,
    /// It came from the destination.
    pub is_reply: bool,
    /// Flags of TCP.
    pub tcp_flags: u8,
    /// When it passed.
    pub at: Instant,
}

/// Packets of one direction that the director had to handle, although the direction is in the cache, have left it, and
/// all that came before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Of which direction.
    pub key: FlowKey,
    /// The number that the cache gave to the last of them.
    pub ticket: u16,
    /// In how many frames with that number they came.
    pub frames: u16,
    /// The last one was a packet that stands for several, and came in one frame.
    pub is_whole: bool,
}

/// What a cache knows of one direction of a connection; nothing, if it does not hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// A packet has passed since it was placed.
    pub has_passed: bool,
    /// Those that come now are left to the director, as some before are on their way there.
    pub is_shut: bool,
    /// The last ticket that one of them has.
    pub ticket: u16,
}

/// A cache of flows. Its methods are called by several workers at once, some with a part of the connection table
/// locked: they do not call the director, and take microseconds.
pub trait FlowCache: Send + Sync {
    /// Takes a connection, or takes it anew as it is now. The next packet of each direction is an event, whatever it
    /// says.
    ///
    /// # Errors
    /// See [`NotPlaced`]; nothing of it is in the cache then, or only what was withdrawn before.
    fn place(&self, flow: &Flow<'_>) -> Result<(), NotPlaced>;

    /// Leaves packets of a connection to the director until all before are through, and makes an event of the first
    /// that passes then, as if it were placed anew.
    fn shut(&self, request: &FlowKey, reply: Option<&FlowKey>);

    /// Forgets a connection, if it knows it.
    fn remove(&self, request: &FlowKey, reply: Option<&FlowKey>);

    /// What has become of one direction.
    fn progress(&self, key: &FlowKey) -> Progress;

    /// When the last packet passed, to within 20 ms; of either direction.
    fn last_seen(&self, request: &FlowKey, reply: Option<&FlowKey>) -> Option<Instant>;

    /// What passed since the last call, in order. Waits for another worker that is at it.
    fn events(&self, each: &mut dyn FnMut(FlowEvent));

    /// Packets with tickets have left the director, in the order they came in: what waits for them may pass.
    fn through(&self, last: &Passed);

    /// Lets nothing pass any more that was placed before, of one destination or at all. Its tally is up to date
    /// afterwards.
    fn withdraw(&self, destination: Option<u32>);

    /// Brings all tallies up to date.
    fn count(&self);

    /// How many next hops and destinations had to leave their place in the cache to others, or were given up, so far.
    /// Packets of flows that name them come to the director, until these are placed anew.
    fn displaced(&self) -> u64;

    /// Asks for the MAC addresses of some next hops that are in use: `None` closes one until another answer. `from`: 0,
    /// or what the last call returned, which is where to go on; `None`: those were the last.
    fn refresh_next_hops(
        &self,
        from: usize,
        address_of: &mut dyn FnMut(&NextHop) -> Option<MacAddr>,
    ) -> Option<usize>;
}

/// A connection that a cache has kept from a director that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// What its requests carry.
    pub request: FlowKey,
    /// The destination and its port.
    pub destination: (Address, u16),
    /// How its packets get there.
    pub method: Method,
    /// How long ago the last packet passed.
    pub idle: Duration,
    /// Both ends have wanted it.
    pub is_established: bool,
    /// FIN has passed: from the client, from the destination.
    pub finished: [bool; 2],
    /// RST has passed.
    pub is_reset: bool,
}

/// How packets get to the destination, as far as a cache can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// NAT.
    Nat,
    /// Direct routing.
    Direct,
    /// IPIP.
    Tunnel,
}
