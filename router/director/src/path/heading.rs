//! Where a packet is headed: what stages find out for those behind them. It stays where it is from the first stage to
//! the last, so that nothing of it is copied from one result into the next.

use core::net::Ipv6Addr;

use uvs_wire::Address;

use crate::base::ids::PortId;
use crate::net::network::Hop;
use crate::path::target::Target;

/// See the head of this file. What a stage has not said is nothing to go by.
pub(crate) struct Heading {
    /// Where a request goes. Said by `find`, or by `advance` of a connection's.
    pub(crate) target: Target,
    /// Where the packet goes next. Said by `find` of what goes through, else by `route`.
    pub(crate) hop: Hop,
    /// What a translated request had asked for. Said by `route`.
    pub(crate) asked_for: Option<(Address, u16)>,
}

impl Heading {
    /// Of a packet that nothing is known about.
    pub(crate) const UNKNOWN: Self = {
        const NOWHERE: Address = Address::v6(Ipv6Addr::UNSPECIFIED);
        let hop =
            Hop { port: PortId(0), addr: NOWHERE, mtu: 0, source: None, essential: false, local: false };
        Self { target: Target::none(NOWHERE), hop, asked_for: None }
    };
}
