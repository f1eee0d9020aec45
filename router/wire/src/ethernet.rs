//! Ethernet II header.
//!
//! ```text
//! 0                       6                       12      14
//! +-----------------------+-----------------------+-------+----------
//! |    destination MAC    |      source MAC       | type  | payload
//! +-----------------------+-----------------------+-------+----------
//! ```
//!
//! The functions take a frame of at least [`HEADER_LEN`] bytes and panic if it is shorter: check the length
//! of what a device delivers once, before the first of them.

use crate::field::{array, get16, put16};

/// Length of the header.
pub const HEADER_LEN: usize = 14;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// Service VLAN tag (IEEE 802.1ad).
pub const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// The broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// The MAC address a frame goes to.
#[inline]
pub fn destination(frame: &[u8]) -> [u8; 6] {
    array(frame, 0)
}

/// The MAC address a frame comes from.
#[inline]
pub fn source(frame: &[u8]) -> [u8; 6] {
    array(frame, 6)
}

/// The EtherType, a number below 0x0600 being an 802.3 length.
#[inline]
pub fn ethertype(frame: &[u8]) -> u16 {
    get16(frame, 12)
}

/// Writes the header.
#[inline(always)]
pub fn write(frame: &mut [u8], dst: [u8; 6], src: [u8; 6], ethertype: u16) {
    frame[..6].copy_from_slice(&dst);
    frame[6..12].copy_from_slice(&src);
    put16(frame, 12, ethertype);
}

/// Whether the address is that of a group; broadcast is one.
#[inline]
pub const fn is_multicast(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut frame = [0; 15];
        write(&mut frame, [1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12], ETHERTYPE_IPV6);
        assert_eq!(frame, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd, 0]);
        assert_eq!(destination(&frame), [1, 2, 3, 4, 5, 6]);
        assert_eq!(source(&frame), [7, 8, 9, 10, 11, 12]);
        assert_eq!(ethertype(&frame), ETHERTYPE_IPV6);
    }

    #[test]
    fn groups_are_told_by_the_first_octet() {
        assert!(is_multicast(BROADCAST));
        assert!(is_multicast([0x33, 0x33, 0, 0, 0, 1]));
        assert!(!is_multicast([0x02, 0, 0, 0, 0, 1]));
    }
}
