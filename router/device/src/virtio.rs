//! The virtio-net header beside a frame (virtio 1.2 section 5.1.6; `IFF_VNET_HDR` in the kernel's tuntap).
//!
//! ```text
//! 0       1       2               4               6               8              10
//! +-------+-------+---------------+---------------+---------------+---------------+
//! | flags |  gso  |  header len   | segment size  | checksum from | checksum at + |
//! +-------+-------+---------------+---------------+---------------+---------------+
//! ```
//! The kernel reads and writes it in the byte order of the machine (legacy virtio). Its header length is a hint:
//! that much lies in one piece in the kernel's memory, at least the headers and at times the whole GSO packet.

use uvs_director::Offload;

/// Length of the header: the kernel's default for a TUN/TAP device, without `num_buffers`.
pub(crate) const HEADER_LEN: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;

/// What the header says.
pub(crate) fn decode(header: &[u8; HEADER_LEN]) -> Offload {
    let [flags, gso_type, h0, h1, s0, s1, c0, c1, o0, o1] = *header;
    Offload {
        needs_checksum: flags & NEEDS_CHECKSUM != 0,
        gso_type,
        header_len: u16::from_ne_bytes([h0, h1]),
        segment_size: u16::from_ne_bytes([s0, s1]),
        checksum_start: u16::from_ne_bytes([c0, c1]),
        checksum_offset: u16::from_ne_bytes([o0, o1]),
        inner_start: 0,
    }
}

/// The header that says it.
///
/// `VIRTIO_NET_HDR_F_DATA_VALID` is not carried over: the receiving stack verifies complete checksums again.
pub(crate) fn encode(offload: &Offload) -> [u8; HEADER_LEN] {
    let [h0, h1] = offload.header_len.to_ne_bytes();
    let [s0, s1] = offload.segment_size.to_ne_bytes();
    let [c0, c1] = offload.checksum_start.to_ne_bytes();
    let [o0, o1] = offload.checksum_offset.to_ne_bytes();
    let flags = if offload.needs_checksum { NEEDS_CHECKSUM } else { 0 };
    [flags, offload.gso_type, h0, h1, s0, s1, c0, c1, o0, o1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_decoding_and_encoding() {
        let gso_packet = Offload {
            needs_checksum: true,
            gso_type: 5,
            header_len: 28,
            segment_size: 1000,
            checksum_start: 20,
            checksum_offset: 6,
            inner_start: 0,
        };
        for (offload, case) in
            [(gso_packet, "a GSO packet of UDP datagrams"), (Offload::default(), "a plain frame")]
        {
            assert_eq!(decode(&encode(&offload)), offload, "{case}");
        }
        assert_eq!(encode(&Offload::default()), [0; HEADER_LEN], "a plain frame has an empty header");
        // As the kernel wrote it for a UDP_SEGMENT send on a little-endian machine.
        #[cfg(target_endian = "little")]
        assert_eq!(decode(&[1, 5, 28, 0, 0xe8, 3, 20, 0, 6, 0]), gso_packet);
    }
}
