//! Requests to the TUN/TAP driver that no crate here offers (linux/if_tun.h).

use std::io;
use std::os::fd::AsRawFd;

use nix::libc::{IFF_DETACH_QUEUE, c_int, c_short, ifreq};

nix::ioctl_write_ptr!(tunsetvnethdrsz, b'T', 216, c_int);
nix::ioctl_write_int!(tunsetoffload, b'T', 208);
nix::ioctl_write_ptr_bad!(tunsetqueue, nix::request_code_write!(b'T', 217, size_of::<c_int>()), ifreq);

/// Has the virtio header of all queues of a device be so long.
#[expect(unsafe_code, reason = "no crate here offers this request")]
pub(crate) fn set_header_len(fd: &impl AsRawFd, len: usize) -> io::Result<()> {
    let len = c_int::try_from(len).expect("a short header");
    // SAFETY: the kernel reads an int through the pointer, which is to one that outlives the call.
    unsafe { tunsetvnethdrsz(fd.as_raw_fd(), &raw const len) }?;
    Ok(())
}

/// Says what the device may be given to handle (`TUN_F_`).
#[expect(unsafe_code, reason = "no crate here offers this request")]
pub(crate) fn set_offloads(fd: &impl AsRawFd, offloads: u64) -> io::Result<()> {
    // SAFETY: the argument is a number.
    unsafe { tunsetoffload(fd.as_raw_fd(), offloads) }?;
    Ok(())
}

/// Has the kernel give a queue no frames any more. It still takes those that are written to it.
#[expect(unsafe_code, reason = "no crate here offers this request")]
pub(crate) fn detach(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: of an ifreq all bytes may be zero.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_flags = c_short::try_from(IFF_DETACH_QUEUE).expect("a flag of 16 bits");
    // SAFETY: the kernel reads an ifreq through the pointer, which is to one that outlives the call.
    unsafe { tunsetqueue(fd.as_raw_fd(), &raw const request) }?;
    Ok(())
}
