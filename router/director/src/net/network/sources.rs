//! Which sources are believed on an interface (`source_check`).

use uvs_wire::Address;

use super::ranges::Span;
use crate::base::ids::PortId;
use crate::base::spec::{InterfaceSpec, SourceCheck};

/// What sources are believed on an interface.
#[derive(Debug)]
pub(super) enum Sources {
    /// All.
    All,
    /// All but those in these subnets, which are connected to other interfaces; unless a longer one is connected here.
    AllBut(Others),
    /// Those that the way back to leads through it.
    Routed,
}

/// Subnets, by family.
#[derive(Debug, Default)]
pub(super) struct Others {
    v4: Vec<Span>,
    v6: Vec<Span>,
}

impl Sources {
    pub(super) fn of(interface: &InterfaceSpec, subnets: &[(Span, PortId)]) -> Self {
        match interface.source_check {
            SourceCheck::Off => Self::All,
            SourceCheck::Loose => {
                let others = subnets.iter().filter(|(_, port)| *port != interface.port);
                let (v4, v6) = others.map(|(subnet, _)| *subnet).partition(Span::is_v4);
                Self::AllBut(Others { v4, v6 })
            }
            SourceCheck::Strict => Self::Routed,
        }
    }
}

impl Others {
    /// Whether an address is in one of them.
    #[inline(always)]
    pub(super) fn contain(&self, addr: Address) -> bool {
        let of_family = if addr.is_v4() { &self.v4 } else { &self.v6 };
        of_family.iter().any(|subnet| subnet.contains(addr))
    }
}
