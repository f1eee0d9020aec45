//! Making a network card take frames that are not for the host.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::setsockopt_impl;
use nix::sys::socket::sockopt::SetStruct;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket};
use uvs_director::spec::MacAddr;

/// Joins what a packet socket wants of a card (packet(7)).
#[derive(Clone, Copy)]
struct AddMembership;

setsockopt_impl!(
    AddMembership,
    libc::SOL_PACKET,
    libc::PACKET_ADD_MEMBERSHIP,
    libc::packet_mreq,
    SetStruct<'_, libc::packet_mreq>
);

/// While this is there, a link takes frames to one more address, and those to all groups: IPv6 asks for the director's
/// addresses by groups of their own. A card without a filter for more than its own address becomes promiscuous; the
/// kernel sees to that. It all ends with the socket, however the process ends.
#[derive(Debug)]
pub(crate) struct Membership {
    _socket: OwnedFd,
}

impl Membership {
    /// Needs CAP_NET_RAW.
    pub(crate) fn join(link: u32, director: MacAddr) -> Result<Self, Errno> {
        // Without a protocol it hears no frame.
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        let index = i32::try_from(link).map_err(|_| Errno::ENODEV)?;
        let mut address = [0; 8];
        address[..6].copy_from_slice(&director.0);
        for (kind, alen) in [(libc::PACKET_MR_UNICAST, 6), (libc::PACKET_MR_ALLMULTI, 0)] {
            let wanted = libc::packet_mreq {
                mr_ifindex: index,
                mr_type: u16::try_from(kind).expect("a small number"),
                mr_alen: alen,
                mr_address: address,
            };
            setsockopt(&socket, AddMembership, &wanted)?;
        }
        Ok(Self { _socket: socket })
    }
}
