//! Fields one after the other: written, and read as far as they go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use uvs_wire::Address;

/// Appends fields.
pub(crate) struct Writer<'a>(&'a mut Vec<u8>);

impl<'a> Writer<'a> {
    pub(crate) fn new(to: &'a mut Vec<u8>) -> Self {
        Self(to)
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// In nanoseconds; what does not fit is 584 years.
    pub(crate) fn duration(&mut self, value: Duration) {
        self.u64(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    /// 4 or 6, the octets, the port.
    pub(crate) fn end(&mut self, (addr, port): (Address, u16)) {
        match addr.to_ip() {
            IpAddr::V4(addr) => {
                self.u8(4);
                self.bytes(&addr.octets());
            }
            IpAddr::V6(addr) => {
                self.u8(6);
                self.bytes(&addr.octets());
            }
        }
        self.u16(port);
    }

    pub(crate) fn socket_addr(&mut self, addr: SocketAddr) {
        self.end((addr.ip().into(), addr.port()));
    }
}

/// Reads fields. `None` where there is none left.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[value]| value)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn duration(&mut self) -> Option<Duration> {
        self.u64().map(Duration::from_nanos)
    }

    pub(crate) fn end(&mut self) -> Option<(Address, u16)> {
        let addr = match self.u8()? {
            4 => Address::v4(Ipv4Addr::from(self.array::<4>()?)),
            6 => Address::v6(Ipv6Addr::from(self.array::<16>()?)),
            _ => return None,
        };
        Some((addr, self.u16()?))
    }

    pub(crate) fn socket_addr(&mut self) -> Option<SocketAddr> {
        let (addr, port) = self.end()?;
        Some(SocketAddr::new(addr.to_ip(), port))
    }
}
