//! One queue of a device: frames in, frames out, one system call each; of a GSO packet that the kernel does not take,
//! one for each of its packets.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use tun_rs::SyncDevice;
use uvs_director::Frame;

use crate::tunnel::{self, TUNNEL_HEADER_LEN};
use crate::virtio::HEADER_LEN;

/// A GSO packet of UDP datagrams, and what may be added to the type of one of TCP segments (virtio 1.2, 5.1.6).
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What stands in front of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Nothing.
    Plain,
    /// The virtio header.
    Gso,
    /// The longer one, for GSO packets in tunnels.
    Tunnels,
}

impl Framing {
    fn header_len(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Gso => HEADER_LEN,
            Self::Tunnels => TUNNEL_HEADER_LEN,
        }
    }
}

/// One queue of a [`Device`](crate::Device). A worker polls it ([`crate::Poller`]) and drains it until it is empty.
///
/// All methods take `&self`; what one queue's calls cost does not depend on other queues.
pub struct Queue {
    /// Non-blocking, and opened with the header that `framing` says.
    inner: SyncDevice,
    framing: Framing,
    /// Bytes in front of the IP header.
    link_len: usize,
    unreadable: AtomicU64,
}

impl Queue {
    pub(crate) fn new(inner: SyncDevice, framing: Framing, link_len: usize) -> io::Result<Self> {
        inner.set_nonblocking(true)?;
        Ok(Self { inner, framing, link_len, unreadable: AtomicU64::new(0) })
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
        let mut header = [0; TUNNEL_HEADER_LEN];
        let header_len = self.framing.header_len();
        let room = frame.reset();
        let room_len = room.len();
        let read = match self.framing {
            Framing::Plain => self.inner.recv(room),
            _ => {
                let parts = &mut [IoSliceMut::new(&mut header[..header_len]), IoSliceMut::new(room)];
                self.inner.recv_vectored(parts)
            }
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
        if self.framing != Framing::Plain {
            frame.offload = tunnel::decode(&header);
        }
        Ok(true)
    }

    fn lost(&self, why: String) -> io::Error {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        io::Error::new(io::ErrorKind::InvalidData, why)
    }

    /// Writes `frame` to the kernel, which handles it as received on the device, and returns in how many writes: one,
    /// or one for each packet of a GSO packet that this device does not take as one. A checksum that the device does
    /// not complete is completed here.
    ///
    /// # Errors
    /// The frame, or the rest of a GSO packet, is lost with every error, and counting that is the caller's. `EAGAIN`
    /// ([`io::ErrorKind::WouldBlock`]) and `ENOBUFS`: the kernel has no room right now. `EIO`: the device is down.
    /// `EINVAL`: the kernel refuses the frame, as when it is shorter than its headers. [`io::ErrorKind::InvalidInput`]
    /// with no `raw_os_error`: the frame claims to be a GSO packet, and is none that could be cut.
    pub fn send(&self, frame: &Frame) -> io::Result<usize> {
        let bytes = frame.bytes();
        let in_tunnel = frame.offload.inner_start != 0;
        let outer_udp = match self.framing {
            Framing::Tunnels if in_tunnel => tunnel::outer_udp(frame, self.link_len),
            _ => None,
        };
        let is_gso = frame.offload.gso_type != 0;
        if is_gso && (in_tunnel && outer_udp.is_none() || !self.takes(frame.offload.gso_type)) {
            return self.send_cut(frame);
        }
        if self.framing != Framing::Plain {
            let header = tunnel::encode(&frame.offload, outer_udp);
            self.write(&[IoSlice::new(&header[..self.framing.header_len()]), IoSlice::new(bytes)])?;
        } else if let Some((at, sum)) = frame.missing_checksum() {
            self.write(&[IoSlice::new(&bytes[..at]), IoSlice::new(&sum), IoSlice::new(&bytes[at + 2..])])?;
        } else {
            self.write(&[IoSlice::new(bytes)])?;
        }
        Ok(1)
    }

    /// Whether the kernel takes such a GSO packet here. (One in IP-in-IP or GRE it would drop without a word.)
    fn takes(&self, gso_type: u8) -> bool {
        self.framing != Framing::Plain && (self.inner.udp_gso() || gso_type & !GSO_ECN != GSO_UDP_L4)
    }

    /// Writes a GSO packet packet by packet.
    fn send_cut(&self, frame: &Frame) -> io::Result<usize> {
        let mut cut = frame
            .cut(self.link_len, self.framing != Framing::Plain)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let mut writes = 0;
        while let Some(piece) = cut.next() {
            let header = tunnel::encode(&piece.offload, None);
            let header = &header[..self.framing.header_len()];
            self.write(&[IoSlice::new(header), IoSlice::new(piece.headers), IoSlice::new(piece.data)])?;
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
            .field("framing", &self.framing)
            .field("unreadable", &self.unreadable())
            .finish()
    }
}
