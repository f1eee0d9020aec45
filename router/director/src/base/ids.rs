//! What names or numbers things that several modules share.

use core::fmt;

/// One interface of the director: an index that the caller assigns, from 0, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}

/// One destination of one service, from when it is added until nobody remembers it. None has another's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId(pub(crate) u32);

/// How many shards the connection table has; counters keep a lane for each.
pub(crate) const SHARDS: usize = 64;

/// A number that follows from a name alone, the same after each start (FNV-1a, 64 bits).
pub fn hash_of_name(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
