//! smoltcp's device: at most one packet comes in with each turn, and what goes out goes to the link at once.

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant as SmolInstant;
use uvs_director::{DropReason, Frame, Instant};
use uvs_wire::{Packet, tcp};

use crate::link::Link;

/// See the head of this file.
pub(crate) struct Cable<'a> {
    pub(crate) link: &'a dyn Link,
    pub(crate) now: Instant,
    pub(crate) mtu: u32,
    /// What comes in.
    pub(crate) arrives: Option<&'a [u8]>,
    /// What packets leave in.
    pub(crate) frame: &'a mut Frame,
    /// Why the last one that did not leave did not.
    pub(crate) refused: Option<DropReason>,
    /// Acknowledgments alone do not leave.
    pub(crate) is_half_open: bool,
}

/// What a stack knows of its device.
pub(crate) fn capabilities(mtu: u32) -> DeviceCapabilities {
    let mut it = DeviceCapabilities::default();
    it.medium = Medium::Ip;
    it.max_transmission_unit = mtu as usize;
    // The engine has looked at those of packets that come in.
    it.checksum.ipv4 = Checksum::Tx;
    it.checksum.tcp = Checksum::Tx;
    it.checksum.udp = Checksum::Tx;
    it.checksum.icmpv4 = Checksum::Tx;
    it.checksum.icmpv6 = Checksum::Tx;
    it
}

impl phy::Device for Cable<'_> {
    type RxToken<'t>
        = Arriving<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Leaving<'t>
    where
        Self: 't;

    fn receive(&mut self, _: SmolInstant) -> Option<(Arriving<'_>, Leaving<'_>)> {
        let packet = self.arrives.take()?;
        Some((Arriving(packet), self.leaving()))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Leaving<'_>> {
        Some(self.leaving())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

/// What a stack is made with: a cable that nothing is plugged into yet.
pub(crate) struct Unplugged {
    pub(crate) mtu: u32,
}

impl phy::Device for Unplugged {
    type RxToken<'t> = Arriving<'t>;
    type TxToken<'t> = Leaving<'t>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Arriving<'_>, Leaving<'_>)> {
        None
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Leaving<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

impl Cable<'_> {
    fn leaving(&mut self) -> Leaving<'_> {
        Leaving {
            link: self.link,
            now: self.now,
            frame: self.frame,
            refused: &mut self.refused,
            is_half_open: self.is_half_open,
        }
    }
}

pub(crate) struct Arriving<'t>(&'t [u8]);

impl phy::RxToken for Arriving<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(crate) struct Leaving<'t> {
    link: &'t dyn Link,
    now: Instant,
    frame: &'t mut Frame,
    refused: &'t mut Option<DropReason>,
    is_half_open: bool,
}

/// Whether that is a segment which only acknowledges.
fn only_acknowledges(packet: &[u8]) -> bool {
    Packet::parse(packet).is_ok_and(|it| it.protocol == tcp::PROTOCOL && it.tcp_flags == tcp::ACK)
}

impl phy::TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        if self.frame.reset().len() < len {
            *self.frame = Frame::with_capacity(len);
        }
        let result = f(&mut self.frame.reset()[..len]);
        self.frame.set_len(len);
        if self.is_half_open && only_acknowledges(self.frame.bytes()) {
            return result;
        }
        if let Err(reason) = self.link.send(self.frame, self.now) {
            *self.refused = Some(reason);
        }
        result
    }
}
