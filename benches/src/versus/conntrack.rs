//! Emptying the kernel's table of connections, as `conntrack -F` does.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// The subsystem of conntrack in the upper byte, IPCTNL_MSG_CT_DELETE in the lower (`linux/netfilter/nfnetlink.h`).
const DELETE: u16 = 1 << 8 | 2;
/// NLM_F_REQUEST and NLM_F_ACK.
const REQUEST_AND_ACK: u16 = 1 | 4;
/// The answer that holds an error code, or 0.
const NLMSG_ERROR: u16 = 2;
/// Those of IPv4 and IPv6.
const ANY_FAMILY: u8 = 0;

/// Forgets all connections of the calling thread's namespace.
///
/// # Errors
/// The kernel has no conntrack, or refuses.
pub(crate) fn flush() -> Result<()> {
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
            .context("cannot talk to netfilter")?;
    let mut message = Vec::with_capacity(20);
    // nlmsghdr: length, type, flags, sequence, port; nfgenmsg: family, version, resource. No attribute: all of them.
    message.extend_from_slice(&20_u32.to_ne_bytes());
    message.extend_from_slice(&DELETE.to_ne_bytes());
    message.extend_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[ANY_FAMILY, 0, 0, 0]);
    sendto(netlink.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())
        .context("cannot ask netfilter")?;
    let mut answer = [0; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty()).context("netfilter is silent")?;
    let (kind, code) = acknowledgement(answer.get(..length).unwrap_or_default())
        .context("netfilter's answer is cut short")?;
    ensure!(kind == NLMSG_ERROR, "netfilter's answer is no acknowledgement but {kind}");
    ensure!(code == 0, "netfilter refuses: {}", std::io::Error::from_raw_os_error(-code));
    Ok(())
}

/// Type and error code of an nlmsghdr with an nlmsgerr behind it.
fn acknowledgement(answer: &[u8]) -> Option<(u16, i32)> {
    let kind = answer.get(4..)?.first_chunk()?;
    let code = answer.get(16..)?.first_chunk()?;
    Some((u16::from_ne_bytes(*kind), i32::from_ne_bytes(*code)))
}
