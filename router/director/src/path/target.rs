//! Where a request goes.

use uvs_wire::Address;

use crate::base::spec::Forwarding;
use crate::track::connection::Connection;

/// What forwarding a request needs of its connection, without the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) addr: Address,
    pub(crate) port: u16,
    pub(crate) forwarding: Forwarding,
    /// Its connection belongs into the flow cache and is not there.
    pub(crate) uncached: bool,
    /// It begins with the packet.
    pub(crate) is_first: bool,
}

impl Target {
    /// No target yet.
    pub(crate) const fn none(nowhere: Address) -> Self {
        Self { addr: nowhere, port: 0, forwarding: Forwarding::Nat, uncached: false, is_first: false }
    }

    #[inline]
    pub(crate) fn of(connection: &Connection) -> Self {
        Self {
            addr: connection.destination_addr,
            port: connection.destination_port,
            forwarding: connection.forwarding_now(),
            uncached: false,
            is_first: false,
        }
    }
}
