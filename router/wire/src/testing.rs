//! Packets for tests, built by the plainest code there is, and strategies that make them up.

use std::vec::Vec;

use proptest::prelude::*;

use crate::Address;

/// The Internet checksum, word by word.
pub(crate) fn naive_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        if sum > 0xffff {
            sum -= 0xffff;
        }
    }
    !u16::try_from(sum).unwrap()
}

/// CRC32c, bit by bit.
pub(crate) fn naive_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The pseudo-header, as bytes.
pub(crate) fn naive_pseudo_header(src: Address, dst: Address, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    if src.is_v4() {
        bytes.extend(src.v4_octets());
        bytes.extend(dst.v4_octets());
        bytes.extend([0, protocol]);
        bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
    } else {
        bytes.extend(src.octets());
        bytes.extend(dst.octets());
        bytes.extend(u32::try_from(len).unwrap().to_be_bytes());
        bytes.extend([0, 0, 0, protocol]);
    }
    bytes
}

/// The transport layer of a [`Shape`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Upper {
    Tcp { seq: u32, ack: u32, flags: u8, options: Vec<u8> },
    Udp { checksum: bool },
    Sctp { tag: u32 },
    Icmp { kind: u8, code: u8, rest: u32 },
    Other(u8),
}

/// A packet to build.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) src: Address,
    pub(crate) dst: Address,
    pub(crate) ports: (u16, u16),
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) id: u32,
    pub(crate) dont_fragment: bool,
    /// IPv4 options, or IPv6 extension headers as (type, bytes from the length octet on).
    pub(crate) options: Vec<u8>,
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    /// Offset in bytes, and whether more follow.
    pub(crate) fragment: Option<(u16, bool)>,
    pub(crate) upper: Upper,
    pub(crate) payload: Vec<u8>,
    /// The transport checksum is the sum of the pseudo-header.
    pub(crate) partial: bool,
}

impl Shape {
    pub(crate) fn protocol(&self) -> u8 {
        match self.upper {
            Upper::Tcp { .. } => 6,
            Upper::Udp { .. } => 17,
            Upper::Sctp { .. } => 132,
            Upper::Icmp { .. } if self.src.is_v4() => 1,
            Upper::Icmp { .. } => 58,
            Upper::Other(protocol) => protocol,
        }
    }

    /// Where the checksum is in the transport header.
    pub(crate) fn checksum_at(&self) -> Option<usize> {
        match self.upper {
            Upper::Tcp { .. } => Some(16),
            Upper::Udp { checksum: true } => Some(6),
            Upper::Icmp { .. } => Some(2),
            _ => None,
        }
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if matches!(self.upper, Upper::Tcp { .. } | Upper::Udp { .. } | Upper::Sctp { .. }) {
            bytes.extend(self.ports.0.to_be_bytes());
            bytes.extend(self.ports.1.to_be_bytes());
        }
        match &self.upper {
            Upper::Tcp { seq, ack, flags, options } => {
                bytes.extend(seq.to_be_bytes());
                bytes.extend(ack.to_be_bytes());
                let offset = u8::try_from(5 + options.len() / 4).unwrap();
                bytes.extend([offset << 4, *flags, 0x12, 0x34, 0, 0, 0, 0]);
                bytes.extend(options);
            }
            Upper::Udp { .. } => {
                bytes.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
                bytes.extend([0, 0]);
            }
            Upper::Sctp { tag } => {
                bytes.extend(tag.to_be_bytes());
                bytes.extend([0; 4]);
            }
            Upper::Icmp { kind, code, rest } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest.to_be_bytes());
            }
            Upper::Other(_) => {}
        }
        bytes.extend(&self.payload);
        if matches!(self.upper, Upper::Sctp { .. }) && !self.partial {
            let crc = naive_crc32c(&bytes);
            bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        if let Some(at) = self.checksum_at() {
            let mut covered = Vec::new();
            if self.protocol() != 1 {
                covered = naive_pseudo_header(self.src, self.dst, self.protocol(), bytes.len());
            }
            let checksum = if self.partial {
                !naive_checksum(&covered)
            } else {
                covered.extend(&bytes);
                let checksum = naive_checksum(&covered);
                if checksum == 0 && matches!(self.upper, Upper::Udp { .. }) { 0xffff } else { checksum }
            };
            bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }

    /// Changes the first two bytes of the payload so that the transport checksum comes out as 0 (for UDP, as
    /// 0xffff).
    pub(crate) fn force_zero_checksum(&mut self) {
        if self.payload.len() >= 2 && self.checksum_at().is_some() {
            self.payload[..2].fill(0);
            let bytes = self.transport();
            let at = self.checksum_at().unwrap();
            let checksum = [bytes[at], bytes[at + 1]];
            if checksum != [0xff, 0xff] || !matches!(self.upper, Upper::Udp { .. }) {
                self.payload[..2].copy_from_slice(&checksum);
            }
            let bytes = self.transport();
            let want: &[u8] = if matches!(self.upper, Upper::Udp { .. }) { &[0xff, 0xff] } else { &[0, 0] };
            assert_eq!(&bytes[at..at + 2], want);
        }
    }

    /// Where the transport header is.
    pub(crate) fn header_len(&self) -> usize {
        if self.src.is_v4() {
            20 + self.options.len()
        } else {
            let extensions: usize = self.extensions.iter().map(|(_, bytes)| 1 + bytes.len()).sum();
            40 + extensions + if self.fragment.is_some() { 8 } else { 0 }
        }
    }

    /// The packet's bytes, all checksums right (a fragment's as if it were whole).
    pub(crate) fn build(&self) -> Vec<u8> {
        let transport = self.transport();
        let mut bytes = Vec::new();
        let (offset, more) = self.fragment.unwrap_or((0, false));
        if self.src.is_v4() {
            bytes.extend([0x45 + u8::try_from(self.options.len() / 4).unwrap(), self.tos]);
            let total = 20 + self.options.len() + transport.len();
            bytes.extend(u16::try_from(total).unwrap().to_be_bytes());
            bytes.extend(u16::try_from(self.id & 0xffff).unwrap().to_be_bytes());
            let flags = u16::from(more) << 13 | u16::from(self.dont_fragment) << 14;
            bytes.extend(((offset / 8) | flags).to_be_bytes());
            bytes.extend([self.ttl, self.protocol(), 0, 0]);
            bytes.extend(self.src.v4_octets());
            bytes.extend(self.dst.v4_octets());
            bytes.extend(&self.options);
            let checksum = naive_checksum(&bytes);
            bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            bytes.extend([0x60 | self.tos >> 4, self.tos << 4 | 0x5, 0x67, 0x89]);
            let length = self.header_len() - 40 + transport.len();
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            let mut chain = self.extensions.clone();
            if self.fragment.is_some() {
                let mut header = std::vec![0];
                header.extend((offset | u16::from(more)).to_be_bytes());
                header.extend(self.id.to_be_bytes());
                chain.push((44, header));
            }
            let mut kinds: Vec<u8> = chain.iter().map(|(kind, _)| *kind).collect();
            kinds.push(self.protocol());
            bytes.extend([kinds[0], self.ttl]);
            bytes.extend(self.src.octets());
            bytes.extend(self.dst.octets());
            for ((_, header), next) in chain.iter().zip(&kinds[1..]) {
                bytes.push(*next);
                bytes.extend(header);
            }
        }
        bytes.extend(transport);
        bytes
    }
}

/// An address of the family, never one that only the other family may have.
pub(crate) fn address(v4: bool) -> impl Strategy<Value = Address> {
    any::<[u8; 16]>().prop_map(move |mut octets| {
        if v4 {
            Address::v4([octets[0], octets[1], octets[2], octets[3]].into())
        } else {
            octets[0] |= 0x20;
            Address::from_octets(octets)
        }
    })
}

fn words(max: usize) -> impl Strategy<Value = Vec<u8>> {
    (0..=max).prop_flat_map(|words| proptest::collection::vec(any::<u8>(), words * 4))
}

fn upper(v4: bool) -> impl Strategy<Value = Upper> {
    let icmp_kind = if v4 { 0..=18u8 } else { 1..=160 };
    prop_oneof![
        4 => (any::<u32>(), any::<u32>(), any::<u8>(), words(10))
            .prop_map(|(seq, ack, flags, options)| Upper::Tcp { seq, ack, flags, options }),
        4 => proptest::bool::weighted(0.8).prop_map(|checksum| Upper::Udp { checksum }),
        2 => any::<u32>().prop_map(|tag| Upper::Sctp { tag }),
        2 => (icmp_kind, 0..16u8, any::<u32>())
            .prop_map(|(kind, code, rest)| Upper::Icmp { kind, code, rest }),
        1 => prop_oneof![Just(4u8), Just(41), Just(47), Just(50), Just(103), Just(253)].prop_map(Upper::Other),
    ]
}

fn extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let link = (0..4u8, 0..3u8, any::<[u8; 32]>()).prop_map(|(kind, units, fill)| {
        let (kind, length) = match kind {
            0 => (0, (usize::from(units) + 1) * 8),
            1 => (43, (usize::from(units) + 1) * 8),
            2 => (60, (usize::from(units) + 1) * 8),
            // The authentication header counts otherwise, and keeps IPv6 aligned to 8 bytes.
            _ => (51, (usize::from(units) * 2 + 4) * 4),
        };
        let unit = if kind == 51 { units * 2 + 2 } else { units };
        let mut bytes = std::vec![unit];
        bytes.extend(fill.iter().cycle().take(length - 2));
        (kind, bytes)
    });
    proptest::collection::vec(link, 0..4).prop_map(|mut chain| {
        // Hop-by-hop options come first or not at all.
        let first = chain.first().cloned();
        chain.retain(|(kind, _)| *kind != 0);
        chain.extend(first.filter(|(kind, _)| *kind == 0));
        let hop_by_hop = chain.last().is_some_and(|(kind, _)| *kind == 0);
        chain.rotate_right(usize::from(hop_by_hop));
        chain
    })
}

/// IPv4 options that make sense one by one: no-operations, and others with their length.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = (prop_oneof![Just(1u8), Just(7), Just(68), Just(130), Just(136), Just(148)], 2..12u8);
    proptest::collection::vec(option, 0..5).prop_map(|list| {
        let mut bytes = Vec::new();
        for (kind, length) in list {
            let option: Vec<u8> = if kind == 1 {
                std::vec![1]
            } else {
                (0..length).map(|at| [kind, length, at][usize::from(at.min(2))]).collect()
            };
            if bytes.len() + option.len() <= 40 {
                bytes.extend(option);
            }
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    })
}

/// Whole packets of either family.
pub(crate) fn whole() -> impl Strategy<Value = Shape> {
    any::<bool>().prop_flat_map(|v4| {
        let head = (address(v4), address(v4), any::<(u16, u16)>(), any::<(u8, u8, u32, bool)>());
        let options = prop_oneof![3 => Just(Vec::new()), 1 => options()];
        let chain = prop_oneof![3 => Just(Vec::new()), 1 => extensions()];
        let payload = proptest::collection::vec(any::<u8>(), 0..200);
        (head, options, chain, upper(v4), payload).prop_map(
            move |((src, dst, ports, (ttl, tos, id, dont_fragment)), options, extensions, upper, payload)| {
                Shape {
                    src,
                    dst,
                    ports,
                    ttl,
                    tos,
                    id,
                    dont_fragment,
                    options: if v4 { options } else { Vec::new() },
                    extensions: if v4 { Vec::new() } else { extensions },
                    fragment: None,
                    upper,
                    payload,
                    partial: false,
                }
            },
        )
    })
}

/// Whole packets and fragments.
pub(crate) fn any_packet() -> impl Strategy<Value = Shape> {
    let fragment = prop_oneof![
        2 => Just(None),
        1 => (0..8000u16, any::<bool>()).prop_map(|(offset, more)| Some((offset * 8, more))),
        1 => Just(Some((0, true))),
    ];
    (whole(), fragment).prop_map(|(shape, fragment)| Shape { fragment, ..shape })
}

/// A packet with plain values, for tables.
pub(crate) fn plain(v4: bool, upper: Upper, payload: &[u8]) -> Shape {
    let address = |v4_text: [u8; 4], last: u8| {
        if v4 {
            Address::v4(v4_text.into())
        } else {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
            octets[15] = last;
            Address::from_octets(octets)
        }
    };
    Shape {
        src: address([192, 0, 2, 1], 1),
        dst: address([198, 51, 100, 2], 2),
        ports: (40000, 80),
        ttl: 64,
        tos: 0,
        id: 7,
        dont_fragment: false,
        options: Vec::new(),
        extensions: Vec::new(),
        fragment: None,
        upper,
        payload: payload.to_vec(),
        partial: false,
    }
}
