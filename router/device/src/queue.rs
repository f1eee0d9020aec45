//! One queue of a device: frames in, frames out, one system call each.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use tun_rs::SyncDevice;
use uvs_director::{Frame, Offload};

use crate::virtio::{self, HEADER_LEN};

/// One queue of a [`Device`](crate::Device). A worker polls it ([`crate::Poller`]) and drains it until it is empty.
///
/// All methods take `&self`; what one queue's calls cost does not depend on other queues.
pub struct Queue {
    /// Non-blocking, and opened with `IFF_VNET_HDR` exactly when `offload` is set.
    inner: SyncDevice,
    offload: bool,
    unreadable: AtomicU64,
}

impl Queue {
    /// `inner` must have been opened with the virtio header exactly when `offload` is set.
    pub(crate) fn new(inner: SyncDevice, offload: bool) -> io::Result<Self> {
        inner.set_nonblocking(true)?;
        Ok(Self { inner, offload, unreadable: AtomicU64::new(0) })
    }

    /// Reads the next frame into `frame`, replacing what was there. False: there is none right now, and `frame`
    /// is empty.
    ///
    /// Give it room for more than the device's longest frame, as [`Frame::new`] has: a frame that fills the
    /// room to the last byte counts as cut off, for the kernel does not tell.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`]: this frame did not fit or its virtio header is broken. It is lost and
    /// counted in [`Self::unreadable`]; go on with the next. Anything else means the device is out of
    /// service, as when somebody deleted it (`EBADFD`).
    pub fn receive(&self, frame: &mut Frame) -> io::Result<bool> {
        let mut header = [0; HEADER_LEN];
        let header_len = if self.offload { HEADER_LEN } else { 0 };
        let room = frame.reset();
        let room_len = room.len();
        let read = if self.offload {
            self.inner.recv_vectored(&mut [IoSliceMut::new(&mut header), IoSliceMut::new(room)])
        } else {
            self.inner.recv(room)
        };
        let len = match read {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let Some(frame_len) = len.checked_sub(header_len) else {
            return Err(self.lost(format!("a read of {len} bytes is shorter than its virtio header")));
        };
        if frame_len >= room_len {
            return Err(self.lost(format!("a frame does not fit into a buffer of {room_len} bytes")));
        }
        frame.set_len(frame_len);
        if self.offload {
            frame.offload = virtio::decode(&header);
        }
        Ok(true)
    }

    fn lost(&self, why: String) -> io::Error {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        io::Error::new(io::ErrorKind::InvalidData, why)
    }

    /// Writes `frame` to the kernel, which handles it as received on the device.
    ///
    /// # Errors
    /// The frame is lost with every error, and counting that is the caller's. `EAGAIN` ([`io::ErrorKind::WouldBlock`])
    /// and `ENOBUFS`: the kernel has no room right now. `EIO`: the device is down. `EINVAL`: the kernel
    /// refuses the frame, as when it is shorter than its headers. [`io::ErrorKind::InvalidInput`] with no
    /// `raw_os_error`: the frame is a train or its checksum is partial, and this device was opened without `offload`.
    pub fn send(&self, frame: &Frame) -> io::Result<()> {
        let bytes = frame.bytes();
        let (sent, len) = if self.offload {
            let header = virtio::encode(&frame.offload);
            let parts = [IoSlice::new(&header), IoSlice::new(bytes)];
            (self.inner.send_vectored(&parts)?, HEADER_LEN + bytes.len())
        } else if frame.offload == Offload::default() {
            (self.inner.send(bytes)?, bytes.len())
        } else {
            // Written without its header, a partial checksum would go out as a wrong one.
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a train or partial checksum cannot leave by a device without offload",
            ));
        };
        if sent == len {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::WriteZero, format!("{sent} of {len} bytes were written")))
        }
    }

    /// How many frames [`Self::receive`] had to give up since the queue was opened.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("fd", &self.as_fd())
            .field("offload", &self.offload)
            .field("unreadable", &self.unreadable())
            .finish()
    }
}
