//! One queue of a device: frames in, frames out, one system call each; of a train that the kernel does not take, one for
//! each of its packets.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use tun_rs::SyncDevice;
use uvs_director::Frame;

use crate::virtio::{self, HEADER_LEN, NO_HEADER};

/// A train of UDP datagrams, and what may be added to the type of one of TCP segments (virtio 1.2, 5.1.6).
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// One queue of a [`Device`](crate::Device). A worker polls it ([`crate::Poller`]) and drains it until it is empty.
///
/// All methods take `&self`; what one queue's calls cost does not depend on other queues.
pub struct Queue {
    /// Non-blocking, and opened with `IFF_VNET_HDR` exactly when `offload` is set.
    inner: SyncDevice,
    offload: bool,
    /// Bytes in front of the IP header.
    link_len: usize,
    unreadable: AtomicU64,
}

impl Queue {
    /// `inner` must have been opened with the virtio header exactly when `offload` is set.
    pub(crate) fn new(inner: SyncDevice, offload: bool, link_len: usize) -> io::Result<Self> {
        inner.set_nonblocking(true)?;
        Ok(Self { inner, offload, link_len, unreadable: AtomicU64::new(0) })
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

    /// Writes `frame` to the kernel, which handles it as received on the device, and returns in how many writes: one, or
    /// one for each packet of a train that this device does not take as one. A checksum that the device does not
    /// complete is completed here.
    ///
    /// # Errors
    /// The frame, or the rest of a train, is lost with every error, and counting that is the caller's. `EAGAIN`
    /// ([`io::ErrorKind::WouldBlock`]) and `ENOBUFS`: the kernel has no room right now. `EIO`: the device is down.
    /// `EINVAL`: the kernel refuses the frame, as when it is shorter than its headers. [`io::ErrorKind::InvalidInput`]
    /// with no `raw_os_error`: the frame claims to be a train, and is none that could be cut.
    pub fn send(&self, frame: &Frame) -> io::Result<usize> {
        let bytes = frame.bytes();
        if frame.offload.gso_type != 0 && !self.takes_train(frame.offload.gso_type, frame.offload.inner_start)
        {
            return self.send_cut(frame);
        }
        if self.offload {
            self.write(&[IoSlice::new(&virtio::encode(&frame.offload)), IoSlice::new(bytes)])?;
        } else if let Some((at, sum)) = frame.missing_checksum() {
            self.write(&[IoSlice::new(&bytes[..at]), IoSlice::new(&sum), IoSlice::new(&bytes[at + 2..])])?;
        } else {
            self.write(&[IoSlice::new(bytes)])?;
        }
        Ok(1)
    }

    /// Whether the kernel takes such a train here. It drops, without a word, one in IP-in-IP and GRE.
    fn takes_train(&self, gso_type: u8, inner_start: u16) -> bool {
        self.offload && inner_start == 0 && (self.inner.udp_gso() || gso_type & !GSO_ECN != GSO_UDP_L4)
    }

    /// Writes a train packet by packet.
    fn send_cut(&self, frame: &Frame) -> io::Result<usize> {
        let mut cut = frame
            .cut(self.link_len, self.offload)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let mut writes = 0;
        while let Some(piece) = cut.next() {
            let header = if self.offload { virtio::encode(&piece.offload) } else { NO_HEADER };
            let skipped = if self.offload { 0 } else { HEADER_LEN };
            self.write(&[
                IoSlice::new(&header[skipped..]),
                IoSlice::new(piece.headers),
                IoSlice::new(piece.data),
            ])?;
            writes += 1;
        }
        Ok(writes)
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let sent = match parts {
            [whole] => self.inner.send(whole)?,
            _ => self.inner.send_vectored(parts)?,
        };
        let len: usize = parts.iter().map(|part| part.len()).sum();
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
