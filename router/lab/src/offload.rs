//! Turning a network card's offloads off and on, as ethtool does.

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::libc;

use crate::host::Host;

/// `ETHTOOL_STXCSUM` (`linux/ethtool.h`): set whether checksums are completed by the card.
const SET_TX_CHECKSUM: u32 = 0x17;
/// `ETHTOOL_SGRO`: set whether packets that come in a row are put together.
const SET_GRO: u32 = 0x2c;
/// `SIOCETHTOOL` (`linux/sockios.h`).
const SIOCETHTOOL: libc::c_int = 0x8946;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// The request itself.
mod request {
    nix::ioctl_readwrite_bad!(
        /// ioctl(2) with SIOCETHTOOL.
        ethtool,
        super::SIOCETHTOOL,
        nix::libc::ifreq
    );
}

/// Has the kernel complete all checksums, and cut all GSO packets, before they leave by this interface, as
/// `ethtool -K NAME tx off` does. On a veth nobody would ever look at a checksum otherwise.
///
/// # Errors
/// There is no such interface, or it cannot do that.
pub fn tx_checksum_off(host: &Host, name: &str) -> Result<()> {
    let done = host.run(|| -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        set(socket.as_raw_fd(), name, SET_TX_CHECKSUM, 0)
    })?;
    done.with_context(|| format!("cannot turn checksum offload off for {name} on host {}", host.name()))
}

/// Has the kernel put packets of one flow that come in a row together to GSO packets, as `ethtool -K NAME gro on` does
/// and as network cards do from the start; a veth does not.
///
/// # Errors
/// There is no such interface, or it cannot do that.
pub fn merge_received(host: &Host, name: &str) -> Result<()> {
    let done = host.run(|| -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        set(socket.as_raw_fd(), name, SET_GRO, 1)
    })?;
    done.with_context(|| format!("cannot turn GRO on for {name} on host {}", host.name()))
}

#[expect(unsafe_code, reason = "no crate here offers this ioctl")]
fn set(socket: libc::c_int, name: &str, command: u32, data: u32) -> Result<()> {
    let mut value = Value { command, data };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() },
    };
    ensure!(name.len() < libc::IFNAMSIZ, "{name:?} is too long a name");
    for (letter, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *letter = byte.cast_signed();
    }
    // SAFETY: the request names an interface by a text that ends with a zero, for `name` is shorter than the field, and
    // points to a value of the layout that the command asks for; both outlive the call.
    unsafe { request::ethtool(socket, &raw mut request) }?;
    Ok(())
}
