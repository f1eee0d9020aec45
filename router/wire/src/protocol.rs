//! Numbers that the parser shares with the modules of protocols which read what it has parsed.

/// Protocol number of ICMP.
pub(crate) const ICMP: u8 = 1;
/// Protocol number of ICMPv6.
pub(crate) const ICMPV6: u8 = 58;
/// Protocol number of TCP.
pub(crate) const TCP: u8 = 6;
/// Length of the header that all ICMP messages share, in bytes.
pub(crate) const ICMP_HEADER_LEN: usize = 8;
/// Length of TCP's header without options, in bytes.
pub(crate) const TCP_HEADER_LEN: usize = 20;
