//! GSO packets inside UDP tunnels, which Linux takes from a TAP device since 6.17 (`TUN_F_UDP_TUNNEL_GSO`).
//!
//! ```text
//! 0                              10      12              16      18      20      22      24
//! +------------------------------+-------+---------------+-------+-------+-------+-------+
//! | as without tunnels           | (num) | hash value             (none) | outer | inner |
//! +------------------------------+-------+---------------+-------+-------+-------+-------+
//! ```
//! `outer` is where the tunnel's UDP header starts, `inner` the packet in it (`struct virtio_net_hdr_v1_hash_tunnel`).
//! Once this is agreed on, every frame of the device has the longer header.

use std::os::fd::AsRawFd;

use uvs_director::{Frame, Offload};

use crate::requests::{set_header_len, set_offloads};
use crate::virtio::{self, HEADER_LEN};

/// Length of the header.
pub(crate) const TUNNEL_HEADER_LEN: usize = 24;

/// `TUN_F_*`: checksums, GSO packets of TCP over IPv4 and IPv6, of UDP over IPv4 and IPv6, and those in UDP tunnels
/// without a checksum of their own.
const OFFLOADS: u64 = 0x01 | 0x02 | 0x04 | 0x20 | 0x40 | 0x80;

/// `VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4` and `_IPV6`, added to the type of the GSO packet inside.
const GSO_TUNNEL_V4: u8 = 0x20;
const GSO_TUNNEL_V6: u8 = 0x40;

const UDP: u8 = 17;
const UDP_HEADER_LEN: usize = 8;

/// Agrees with the kernel on GSO packets in tunnels for the device of `fd`, all of its queues. False: it does not have
/// that, and all is as before.
pub(crate) fn enable(fd: &impl AsRawFd) -> bool {
    if set_header_len(fd, TUNNEL_HEADER_LEN).is_err() {
        return false;
    }
    if set_offloads(fd, OFFLOADS).is_ok() {
        return true;
    }
    set_header_len(fd, HEADER_LEN).expect("the length that the device began with");
    false
}

/// What the header says.
pub(crate) fn decode(header: &[u8; TUNNEL_HEADER_LEN]) -> Offload {
    let short = header.first_chunk().expect("it is longer than that");
    let mut offload = virtio::decode(short);
    let tunnel = offload.gso_type & (GSO_TUNNEL_V4 | GSO_TUNNEL_V6);
    if tunnel != 0 {
        offload.gso_type &= !tunnel;
        offload.inner_start = u16::from_le_bytes([header[22], header[23]]);
    }
    offload
}

/// The header of a frame that is no GSO packet in a tunnel, or one that [`outer_udp`] is about.
pub(crate) fn encode(offload: &Offload, outer_udp: Option<(u8, u16)>) -> [u8; TUNNEL_HEADER_LEN] {
    let mut header = [0; TUNNEL_HEADER_LEN];
    header[..HEADER_LEN].copy_from_slice(&virtio::encode(offload));
    if let Some((gso_tunnel, outer)) = outer_udp {
        header[1] |= gso_tunnel;
        header[20..22].copy_from_slice(&outer.to_le_bytes());
        header[22..24].copy_from_slice(&offload.inner_start.to_le_bytes());
    }
    header
}

/// For a GSO packet in a UDP tunnel that the kernel takes as one: the flag for the tunnel's family and where its UDP
/// header starts. It has no checksum of its own, and is no longer than its headers can say.
pub(crate) fn outer_udp(frame: &Frame, link_len: usize) -> Option<(u8, u16)> {
    let ip = frame.bytes().get(link_len..)?;
    if ip.len() > usize::from(u16::MAX) || !frame.offload.needs_checksum {
        return None;
    }
    let (flag, protocol, len) = match ip.first()? >> 4 {
        4 => (GSO_TUNNEL_V4, *ip.get(9)?, usize::from(ip[0] & 0xf) * 4),
        6 => (GSO_TUNNEL_V6, *ip.get(6)?, 40),
        _ => return None,
    };
    let udp = ip.get(len..len + UDP_HEADER_LEN)?;
    let inner = usize::from(frame.offload.inner_start);
    let fits = protocol == UDP && udp[6..8] == [0, 0] && inner >= link_len + len + UDP_HEADER_LEN;
    fits.then_some((flag, u16::try_from(link_len + len).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ethernet header, IPv4, UDP without a checksum, GUE, and what stands for a GSO packet.
    fn frame() -> Frame {
        let mut bytes = vec![0; 14 + 20 + 8 + 4 + 3000];
        bytes[14] = 0x45;
        bytes[14 + 9] = UDP;
        let mut frame = Frame::from_bytes(&bytes);
        frame.offload = Offload {
            needs_checksum: true,
            gso_type: 1,
            header_len: 86,
            segment_size: 1400,
            checksum_start: 66,
            checksum_offset: 16,
            inner_start: 46,
        };
        frame
    }

    #[test]
    fn a_header_survives_encoding_and_decoding() {
        let gso_packet = frame();
        let outer = outer_udp(&gso_packet, 14);
        assert_eq!(outer, Some((GSO_TUNNEL_V4, 34)));
        let header = encode(&gso_packet.offload, outer);
        assert_eq!((header[1], &header[20..]), (0x21, &[34, 0, 46, 0][..]));
        assert_eq!(decode(&header), gso_packet.offload);
        let plain = Offload { inner_start: 0, ..gso_packet.offload };
        assert_eq!(decode(&encode(&plain, None)), plain);
    }

    #[test]
    fn what_the_kernel_would_refuse_or_spoil_is_not_for_it() {
        type Edit = fn(&mut Frame);
        let cases: [(Edit, &str); 5] = [
            (|it| it.bytes_mut()[14 + 9] = 4, "IP in IP"),
            (|it| it.bytes_mut()[14 + 9] = 47, "GRE"),
            (|it| it.bytes_mut()[14 + 20 + 7] = 1, "a checksum over everything"),
            (|it| it.offload.inner_start = 41, "a packet that starts inside the UDP header"),
            (|it| it.offload.needs_checksum = false, "no partial checksum"),
        ];
        for (edit, why) in cases {
            let mut gso_packet = frame();
            edit(&mut gso_packet);
            assert_eq!(outer_udp(&gso_packet, 14), None, "{why}");
        }
    }
}
