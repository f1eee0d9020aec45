//! What becomes of a frame.

use core::fmt;

use uvs_wire::ParseError;

use crate::base::ids::PortId;

/// What the caller does with the frame it handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Transmit it through that interface, as it is now.
    Transmit(PortId),
    /// Nothing: it was for the director itself, or it waits inside.
    Consume,
    /// Nothing, and the reason was counted.
    Drop(DropReason),
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $label:literal,)+) => {
        /// Why a frame was dropped. Each is one label in the metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DropReason {
            /// All reasons, in the order of their discriminants.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The label in metrics and logs.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its headers say, or than headers must be.
    Truncated => "truncated",
    /// A header with impossible content (version, length, address).
    Malformed => "malformed",
    /// Larger than what the director handles.
    Oversized => "oversized",
    /// The checksum of an IP or ICMP header is wrong.
    BadChecksum => "bad_checksum",
    /// The frame came in on an interface that does not exist.
    UnknownPort => "unknown_port",
    /// Its MAC address is another station's.
    NotForUs => "not_for_us",
    /// An Ethernet type the director does not speak.
    UnknownEtherType => "unknown_ether_type",
    /// A source address nobody can have: multicast, broadcast, loopback or our own.
    Martian => "martian",
    /// Its source belongs to the link of another interface (`source_check`).
    SpoofedSource => "spoofed_source",
    /// To be routed, but neither from a real server nor an answer to one (`transit`).
    Transit => "transit",
    /// From a translated destination's address and port, of no connection: nobody waits for it there.
    UnknownAnswer => "unknown_answer",
    /// Multicast or broadcast, which is neither routed nor balanced.
    Multicast => "multicast",
    /// For an address of ours, but nothing here takes it.
    NotHandled => "not_handled",
    /// It asks for source routing, which is refused.
    SourceRoute => "source_route",
    /// TTL or hop limit ran out.
    TtlExceeded => "ttl_exceeded",
    /// No route to its target.
    NoRoute => "no_route",
    /// The next hop does not answer.
    Unreachable => "unreachable",
    /// Too big for the link, and not to be fragmented.
    FragmentationNeeded => "fragmentation_needed",
    /// A TCP segment other than SYN that belongs to no connection.
    NoConnection => "no_connection",
    /// No destination can take it: none there, all quiesced or all overloaded.
    NoDestination => "no_destination",
    /// Its connection's destination was removed.
    DestinationGone => "destination_gone",
    /// The connection table is full.
    ConnectionLimit => "connection_limit",
    /// It waited for a neighbour that does not answer, and whose place in the table another one took.
    NeighborLimit => "neighbor_limit",
    /// It waited for a neighbour, and too much waits: the oldest go.
    NeighborQueueFull => "neighbor_queue_full",
    /// A fragment, where reassembly is not possible.
    Fragment => "fragment",
    /// Too many fragments wait, or they waited too long.
    FragmentLimit => "fragment_limit",
    /// Later ones of its connection have left in the flow cache: it is a repeated SYN, or what is left of a connection
    /// between the same ends before.
    Overtaken => "overtaken",
    /// `drop_packet` sheds load.
    Shed => "shed",
    /// An ICMP error about nothing we know.
    IcmpUnrelated => "icmp_unrelated",
    /// ICMP errors are sent at a limited rate, and this would have been one more.
    IcmpRateLimited => "icmp_rate_limited",
    /// The frame would leave through an interface of a kind it cannot (DR out of a layer 3 device).
    WrongLink => "wrong_link",
    /// For a socket of the director's own, of which too many packets wait.
    LocalQueueFull => "local_queue_full",
    /// To a port that is kept for sockets of the director's own, none of which hears its sender: what comes late, after
    /// a check has ended.
    LocalClosed => "local_closed",
    /// ARP or ND that is not about an address of ours.
    ArpIgnored => "arp_ignored",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl From<ParseError> for DropReason {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Truncated => Self::Truncated,
            ParseError::Malformed => Self::Malformed,
        }
    }
}
