//! One address type for both families.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address in 16 bytes; IPv4 is kept mapped, `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
///
/// A mapped address is never valid on the wire in an IPv6 header (RFC 4942, 2.2), and
/// [`Packet::parse`](crate::Packet::parse) refuses it there, so the family is always told by the value.
/// The default is the unspecified IPv6 address, `::`. The order is that of the octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    hi: u64,
    lo: u64,
}

const MAPPED: u64 = 0xffff;

impl Address {
    /// An IPv4 address.
    #[inline]
    pub const fn v4(address: Ipv4Addr) -> Self {
        Self::from_v4_bits(address.to_bits())
    }

    /// An IPv6 address. A mapped one becomes the IPv4 address it stands for.
    #[inline]
    pub const fn v6(address: Ipv6Addr) -> Self {
        let bits = address.to_bits();
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the 128 bits")]
        Self { hi: (bits >> 64) as u64, lo: bits as u64 }
    }

    /// The IPv4 address with these bits, the first octet being the most significant.
    #[inline]
    pub(crate) const fn from_v4_bits(bits: u32) -> Self {
        Self { hi: 0, lo: MAPPED << 32 | bits as u64 }
    }

    /// The address whose 16 octets are these, in network order.
    #[inline]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self::v6(Ipv6Addr::from_bits(u128::from_be_bytes(octets)))
    }

    /// The address with these halves; the inverse of [`halves`](Self::halves).
    #[inline]
    pub const fn from_halves(hi: u64, lo: u64) -> Self {
        Self { hi, lo }
    }

    /// The first and the last 64 bits, as numbers.
    #[inline]
    pub const fn halves(self) -> (u64, u64) {
        (self.hi, self.lo)
    }

    /// A number whose upper bits are spread over addresses that a network has, however they are numbered. It is no
    /// keyed hash: not for tables that strangers fill.
    #[inline]
    pub const fn spread(self) -> u64 {
        // Each half with a factor of its own: many number hosts as they number their networks.
        self.hi.wrapping_mul(0xd6e8_feb8_6659_fd93).wrapping_add(self.lo).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The 16 octets, IPv4 mapped.
    #[inline]
    pub const fn octets(self) -> [u8; 16] {
        ((self.hi as u128) << 64 | self.lo as u128).to_be_bytes()
    }

    /// The last four octets: those of an IPv4 address. For IPv6 they are not an address.
    #[inline]
    pub const fn v4_octets(self) -> [u8; 4] {
        self.v4_bits().to_be_bytes()
    }

    /// The last 32 bits: those of an IPv4 address.
    #[inline]
    pub(crate) const fn v4_bits(self) -> u32 {
        (self.lo & 0xffff_ffff) as u32
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub const fn is_v4(self) -> bool {
        self.hi == 0 && self.lo >> 32 == MAPPED
    }

    /// The address as `core` has it.
    #[inline]
    pub const fn to_ip(self) -> IpAddr {
        match self.to_v4() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6(self.to_v6()),
        }
    }

    /// The IPv4 address, if it is one.
    #[inline]
    pub const fn to_v4(self) -> Option<Ipv4Addr> {
        if self.is_v4() { Some(Ipv4Addr::from_bits(self.v4_bits())) } else { None }
    }

    /// The IPv6 address; for IPv4 the mapped one.
    #[inline]
    pub const fn to_v6(self) -> Ipv6Addr {
        Ipv6Addr::from_bits((self.hi as u128) << 64 | self.lo as u128)
    }

    /// Told at a glance to be an address that a host may have anywhere: 1.0.0.0 to 223.255.255.255 but for 127.0.0.0/8,
    /// and of IPv6 0:0:0:1:: to feff:...; false for all that has a meaning of its own, and for the reserved rest.
    #[inline]
    pub const fn is_ordinary(self) -> bool {
        if self.is_v4() {
            let first = self.v4_bits() >> 24;
            first.wrapping_sub(1) < 223 && first != 127
        } else {
            self.hi.wrapping_sub(1) < (0xff00 << 48) - 1
        }
    }

    /// 224.0.0.0/4 or ff00::/8.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        if self.is_v4() { self.v4_bits() >> 28 == 0xe } else { self.hi >> 56 == 0xff }
    }

    /// 0.0.0.0 or `::`.
    #[inline]
    pub const fn is_unspecified(self) -> bool {
        if self.is_v4() { self.v4_bits() == 0 } else { self.hi == 0 && self.lo == 0 }
    }

    /// 127.0.0.0/8 or `::1`.
    #[inline]
    pub const fn is_loopback(self) -> bool {
        if self.is_v4() { self.v4_bits() >> 24 == 127 } else { self.hi == 0 && self.lo == 1 }
    }

    /// fe80::/10: valid on one link only, and never forwarded to another (RFC 4291, 2.5.6). False for IPv4, whose
    /// link-local addresses routers treat as any other.
    #[inline]
    pub const fn is_v6_link_local(self) -> bool {
        self.hi >> 54 == 0xfe80 >> 6
    }

    /// 255.255.255.255; a subnet's broadcast address cannot be told from the value.
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        self.is_v4() && self.v4_bits() == u32::MAX
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address)
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address)
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::v4(address),
            IpAddr::V6(address) => Self::v6(address),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        address.to_ip()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn an_address_says_what_it_is() {
        let cases = [
            ("192.0.2.1", true, false, false, false, false),
            ("224.0.0.1", true, true, false, false, false),
            ("239.255.255.255", true, true, false, false, false),
            ("240.0.0.0", true, false, false, false, false),
            ("0.0.0.0", true, false, true, false, false),
            ("127.0.0.1", true, false, false, true, false),
            ("127.255.0.9", true, false, false, true, false),
            ("255.255.255.255", true, false, false, false, true),
            ("::", false, false, true, false, false),
            ("::1", false, false, false, true, false),
            ("ff02::1", false, true, false, false, false),
            ("2001:db8::1", false, false, false, false, false),
            ("::192.0.2.1", false, false, false, false, false),
        ];
        for (text, v4, multicast, unspecified, loopback, broadcast) in cases {
            let ip: IpAddr = text.parse().unwrap();
            let address = Address::from(ip);
            assert_eq!(address.is_v4(), v4, "{text}");
            assert_eq!(address.is_multicast(), multicast, "{text}");
            assert_eq!(address.is_unspecified(), unspecified, "{text}");
            assert_eq!(address.is_loopback(), loopback, "{text}");
            assert_eq!(address.is_broadcast(), broadcast, "{text}");
            assert_eq!(address.to_ip(), ip, "{text}");
            assert_eq!(address.to_string(), ip.to_string());
        }
        assert_eq!(Address::default().to_string(), "::");
        assert_eq!(core::mem::size_of::<Address>(), 16);
    }

    #[test]
    fn an_ordinary_address_has_no_meaning_of_its_own() {
        for (text, is) in [
            ("0.255.255.255", false),
            ("1.0.0.0", true),
            ("126.255.255.255", true),
            ("127.0.0.0", false),
            ("128.0.0.0", true),
            ("223.255.255.255", true),
            ("224.0.0.0", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("0:0:0:1::", true),
            ("fe80::1", true),
            ("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("ff00::", false),
        ] {
            let address = Address::from(text.parse::<IpAddr>().unwrap());
            assert_eq!(address.is_ordinary(), is, "{text}");
            let has_meaning = address.is_multicast()
                || address.is_unspecified()
                || address.is_loopback()
                || address.is_broadcast();
            assert!(!is || !has_meaning, "{text}");
        }
    }

    #[test]
    fn link_local_is_told_from_other_addresses() {
        for (text, is) in [
            ("fe80::1", true),
            ("febf:ffff::", true),
            ("fec0::1", false),
            ("fe7f::1", false),
            ("169.254.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(Address::from(text.parse::<IpAddr>().unwrap()).is_v6_link_local(), is, "{text}");
        }
    }

    proptest! {
        #[test]
        fn conversions_lose_nothing(octets: [u8; 16], v4: [u8; 4]) {
            let address = Address::from_octets(octets);
            prop_assert_eq!(address.octets(), octets);
            let (hi, lo) = address.halves();
            prop_assert_eq!(Address::from_halves(hi, lo), address);
            prop_assert_eq!(Address::from(address.to_ip()), address);
            let address = Address::from(Ipv4Addr::from(v4));
            prop_assert_eq!(address.v4_octets(), v4);
            prop_assert_eq!(address.to_v4(), Some(Ipv4Addr::from(v4)));
        }

        #[test]
        fn the_order_is_that_of_the_octets(a: [u8; 16], b: [u8; 16]) {
            prop_assert_eq!(Address::from_octets(a).cmp(&Address::from_octets(b)), a.cmp(&b));
        }
    }
}
