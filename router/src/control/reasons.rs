//! Why a packet was dropped, for people: what it means, and what may be done about it.

use uvs_director::DropReason;

/// What a reason means, in words.
pub(super) fn meaning(reason: DropReason) -> &'static str {
    use DropReason as R;
    match reason {
        R::Truncated => "it is shorter than its headers say",
        R::Malformed => "a header makes no sense",
        R::Oversized => "it is larger than what the director handles",
        R::BadChecksum => {
            "the checksum of its IP or ICMP header is wrong: something on its way breaks packets (a cable, a card, \
             checksum offload of a virtual device: ethtool -K IFACE tx off at its sender shows it)"
        }
        R::UnknownPort => "it came in on an interface that is not there any more",
        R::NotForUs => "its MAC address is another station's",
        R::UnknownEtherType => "it is no IP packet and no ARP",
        R::Martian => {
            "nobody can have its source address: it is multicast, loopback or one of the director's own"
        }
        R::SpoofedSource => {
            "its source belongs to the link of another interface: it is forged, or comes a way that the configuration \
             does not know (source_check, routes)"
        }
        R::Transit => {
            "it is for somebody else, no answer to a real server and not from one: the director routes for its real \
             servers only (transit)"
        }
        R::UnknownAnswer => {
            "it is a real server's answer to no connection that the director knows: it ended, or the director was \
             restarted meanwhile"
        }
        R::Multicast => "it is to many: multicast and broadcast are neither routed nor balanced",
        R::NotHandled => "it is for an address of the director's, and nothing there takes it",
        R::SourceRoute => "it asks for source routing, which is refused",
        R::TtlExceeded => {
            "its TTL ran out here: it has gone round in a loop, or its sender asks for the way (traceroute)"
        }
        R::NoRoute => "there is no route to where it should go: add one ([[route]])",
        R::Unreachable => {
            "its next hop does not answer ARP or neighbour discovery: is it up, on that link, and has it that address?"
        }
        R::FragmentationNeeded => {
            "it does not fit the way out and must not be fragmented: its sender is told how long it may be (ICMP), and \
             has to hear that"
        }
        R::NoConnection => {
            "it belongs to no connection, and none can begin with it here: no service takes it, or it is no SYN"
        }
        R::NoDestination => "no destination of its service takes new connections",
        R::DestinationGone => "the destination of its connection was removed",
        R::ConnectionLimit => {
            "the connection table is full, and no entry could make room (connections, evict in [limits])"
        }
        R::NeighborLimit => "it waited for a neighbour whose place another one took (neighbors in [limits])",
        R::NeighborQueueFull => "it waited for a neighbour, and too much waits for it: the oldest go",
        R::Fragment => "it is a fragment that cannot be put together here",
        R::FragmentLimit => "too many fragments wait, or the rest of this packet did not come in time",
        R::Overtaken => "later packets of its connection have passed in the flow cache before it",
        R::Shed => "drop_packet sheds load",
        R::IcmpUnrelated => "it is an ICMP error about nothing that the director knows",
        R::IcmpRateLimited => "ICMP errors are sent at a limited rate",
        R::WrongLink => {
            "direct routing needs a layer 2 interface towards the real server, and this one has none"
        }
        R::LocalQueueFull => "too much waits for a socket of the director's own",
        R::LocalClosed => "it came for a check of the director's that is over",
        R::ArpIgnored => "it asks for, or tells of, no address of the director's",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_a_sentence_that_goes_on_behind_its_name() {
        for reason in DropReason::ALL {
            let text = meaning(*reason);
            assert!(text.len() > 15 && !text.ends_with('.') && !text.contains("  "), "{reason}: {text}");
        }
    }
}
