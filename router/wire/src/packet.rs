//! An IP packet, parsed once.
//!
//! ```text
//! 0                                    header_len                              total_len
//! +------------------------------------+---------------------------------------+----------
//! | IP header, options or v6 extension | transport header, payload             | Ethernet
//! | headers                            | (or the middle of it: later fragment) | padding
//! +------------------------------------+---------------------------------------+----------
//! ```

use crate::checksum::{Sum, pseudo_header};
use crate::field::{array, get16, get32};
use crate::protocol::{self, ICMP_HEADER_LEN, TCP_HEADER_LEN};
use crate::{Address, ParseError, ipv4, ipv6, sctp, udp};

/// What the director needs to know of an IP packet.
///
/// It mirrors the bytes it was parsed from; functions of [`rewrite`](crate::rewrite) change both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub src: Address,
    /// Destination address.
    pub dst: Address,
    /// The upper protocol, after IPv6 extension headers. In a later fragment of IPv6: what the fragment
    /// header says comes first, which may be another extension header.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// Length of the IP header with options or extension headers: where the transport header starts.
    pub header_len: u16,
    /// Length of the IP packet in bytes, as its length field says.
    pub total_len: u32,
    /// Source port of TCP, UDP or SCTP; 0 if there is none.
    pub src_port: u16,
    /// Destination port of TCP, UDP or SCTP; 0 if there is none.
    pub dst_port: u16,
    /// The flags of TCP ([`tcp::SYN`](crate::tcp::SYN) and so on); 0 if there are none.
    pub tcp_flags: u8,
    /// Where in the original payload this fragment starts, in bytes.
    pub fragment_offset: u16,
    /// More fragments follow.
    pub more_fragments: bool,
    /// IPv4: the packet must not be fragmented. Always true for IPv6, which routers never fragment.
    pub dont_fragment: bool,
    /// Identification: 16 bits for IPv4, 32 for an IPv6 fragment, else 0.
    pub id: u32,
    /// IPv6: where the fragment header is; 0 if there is none.
    pub fragment_header: u16,
}

/// The transport fields of a packet.
#[derive(Clone, Copy, Default)]
struct Transport {
    src_port: u16,
    dst_port: u16,
    tcp_flags: u8,
}

/// What has to be there of the transport header: all of it,
const WHOLE: u8 = 0;
/// what an ICMP error quotes of it,
const QUOTED: u8 = 1;
/// or its ports, wherever the packet ends behind them.
const PORTS: u8 = 2;

/// A chain longer than this is refused: no honest sender needs it, and each link costs time.
const MAX_EXTENSION_HEADERS: usize = 8;

/// Whether an IPv6 header is one that another one follows.
#[inline]
const fn is_extension(kind: u8) -> bool {
    matches!(
        kind,
        ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS | ipv6::FRAGMENT | ipv6::AUTHENTICATION
    )
}

impl Packet {
    /// Of nothing yet: room to [`read`](Self::read) into.
    pub const EMPTY: Self = Self {
        src: Address::from_halves(0, 0),
        dst: Address::from_halves(0, 0),
        protocol: 0,
        ttl: 0,
        tos: 0,
        header_len: 0,
        total_len: 0,
        src_port: 0,
        dst_port: 0,
        tcp_flags: 0,
        fragment_offset: 0,
        more_fragments: false,
        dont_fragment: false,
        id: 0,
        fragment_header: 0,
    };

    /// Parses an IPv4 or IPv6 packet; `ip` starts at the IP header and may go on behind the packet, as
    /// Ethernet padding does.
    ///
    /// The transport header must be there for TCP, UDP, SCTP and ICMP, with a sane length of its own, except
    /// in later fragments; a first fragment too small for it has ports 0. Checksums are not looked
    /// at: see [`ipv4::header_checksum_ok`].
    ///
    /// # Errors
    /// [`ParseError::Truncated`] and [`ParseError::Malformed`], as explained there. A jumbogram
    /// (RFC 2675) and an IPv4-mapped address in an IPv6 header are malformed.
    #[inline]
    pub fn parse(ip: &[u8]) -> Result<Self, ParseError> {
        let mut packet = Self::EMPTY;
        packet.read_as::<WHOLE>(ip)?;
        Ok(packet)
    }

    /// The same in place: nothing is copied on its way to the caller.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); then it holds nothing of use.
    #[inline]
    pub fn read(&mut self, ip: &[u8]) -> Result<(), ParseError> {
        self.read_as::<WHOLE>(ip)
    }

    /// Parses the packet that an ICMP error quotes, which is usually cut off.
    ///
    /// Needs its IP header and, if it has ports, these: 4 bytes; the 8 bytes RFC 792 promises if it is
    /// ICMP. `total_len` may exceed the slice. `tcp_flags` is 0 if they are cut off.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_quoted(ip: &[u8]) -> Result<Self, ParseError> {
        let mut packet = Self::EMPTY;
        packet.read_as::<QUOTED>(ip)?;
        Ok(packet)
    }

    /// Parses a whole packet that ends within its transport header, of which the ports are there: 4 bytes.
    ///
    /// [`has_ports`](Self::has_ports) is false then, and no edit of [`rewrite`](crate::rewrite) is for it but that of
    /// the TTL.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_short(ip: &[u8]) -> Result<Self, ParseError> {
        let mut packet = Self::EMPTY;
        packet.read_as::<PORTS>(ip)?;
        Ok(packet)
    }

    #[inline]
    fn read_as<const PART: u8>(&mut self, ip: &[u8]) -> Result<(), ParseError> {
        match ip.first() {
            Some(first) if first >> 4 == 4 => self.read_v4::<PART>(ip),
            Some(first) if first >> 4 == 6 => self.read_v6::<PART>(ip),
            Some(_) => Err(ParseError::Malformed),
            None => Err(ParseError::Truncated),
        }
    }

    #[inline]
    fn read_v4<const PART: u8>(&mut self, ip: &[u8]) -> Result<(), ParseError> {
        let Some(header) = ip.first_chunk::<{ ipv4::HEADER_LEN }>() else {
            return Err(ParseError::Truncated);
        };
        let header_len = usize::from(header[0] & 0xf) * 4;
        let total_len = usize::from(get16(header, 2));
        if header_len < ipv4::HEADER_LEN || total_len < header_len {
            return Err(ParseError::Malformed);
        }
        if ip.len() < if PART == QUOTED { header_len } else { total_len } {
            return Err(ParseError::Truncated);
        }
        let fragment = get16(header, 6);
        self.src = Address::from_v4_bits(get32(header, 12));
        self.dst = Address::from_v4_bits(get32(header, 16));
        self.protocol = header[9];
        self.ttl = header[8];
        self.tos = header[1];
        self.header_len = u16::from(header[0] & 0xf) * 4;
        self.total_len = u32::from(get16(header, 2));
        self.fragment_offset = (fragment & 0x1fff) << 3;
        self.more_fragments = fragment & 0x2000 != 0;
        self.dont_fragment = fragment & 0x4000 != 0;
        self.id = u32::from(get16(header, 4));
        self.fragment_header = 0;
        let payload = &ip[header_len..total_len.min(ip.len())];
        self.read_transport::<PART>(payload, total_len - header_len, header[9], protocol::ICMP)
    }

    #[inline]
    fn read_v6<const PART: u8>(&mut self, ip: &[u8]) -> Result<(), ParseError> {
        let Some(header) = ip.first_chunk::<{ ipv6::HEADER_LEN }>() else {
            return Err(ParseError::Truncated);
        };
        let payload_len = get16(header, 4);
        let total_len = ipv6::HEADER_LEN + usize::from(payload_len);
        if PART != QUOTED && ip.len() < total_len {
            return Err(ParseError::Truncated);
        }
        let (src, dst) = (Address::from_octets(array(header, 8)), Address::from_octets(array(header, 24)));
        let is_jumbogram = payload_len == 0 && header[ipv6::at::NEXT_HEADER] == ipv6::HOP_BY_HOP;
        if src.is_v4() || dst.is_v4() || is_jumbogram {
            return Err(ParseError::Malformed);
        }
        let bytes = &ip[..total_len.min(ip.len())];
        self.src = src;
        self.dst = dst;
        self.protocol = header[ipv6::at::NEXT_HEADER];
        self.ttl = header[ipv6::at::HOP_LIMIT];
        self.tos = header[0] << 4 | header[1] >> 4;
        self.header_len = 40;
        self.total_len = 40 + u32::from(payload_len);
        self.fragment_offset = 0;
        self.more_fragments = false;
        self.dont_fragment = true;
        self.id = 0;
        self.fragment_header = 0;
        if is_extension(self.protocol) {
            self.walk_extensions(bytes)?;
        }
        let header_len = usize::from(self.header_len);
        let (payload, claimed) = (&bytes[header_len..], total_len - header_len);
        self.read_transport::<PART>(payload, claimed, self.protocol, protocol::ICMPV6)
    }

    /// Walks from the fixed header of IPv6 to the upper protocol, or to the data of a later fragment (RFC 8200, 4).
    #[inline(never)]
    fn walk_extensions(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        for position in 0..=MAX_EXTENSION_HEADERS {
            let kind = self.protocol;
            match kind {
                // Only directly behind the fixed header (RFC 8200, 4.1).
                ipv6::HOP_BY_HOP if position > 0 => return Err(ParseError::Malformed),
                ipv6::FRAGMENT if self.fragment_header != 0 => return Err(ParseError::Malformed),
                kind if !is_extension(kind) => return Ok(()),
                _ => {}
            }
            let Some(header) = bytes.get(usize::from(self.header_len)..).and_then(<[u8]>::first_chunk::<8>)
            else {
                return Err(ParseError::Truncated);
            };
            let length = match kind {
                ipv6::FRAGMENT => 8,
                // Without even a sequence number it is none (RFC 4302, 2).
                ipv6::AUTHENTICATION if header[1] == 0 => return Err(ParseError::Malformed),
                ipv6::AUTHENTICATION => (u16::from(header[1]) + 2) * 4,
                _ => (u16::from(header[1]) + 1) * 8,
            };
            if bytes.len() < usize::from(self.header_len + length) {
                return Err(ParseError::Truncated);
            }
            if kind == ipv6::FRAGMENT {
                let field = get16(header, 2);
                self.fragment_header = self.header_len;
                self.fragment_offset = field & 0xfff8;
                self.more_fragments = field & 1 == 1;
                self.id = get32(header, 4);
            }
            self.protocol = header[0];
            self.header_len += length;
            if self.fragment_offset != 0 {
                return Ok(());
            }
        }
        Err(ParseError::Malformed)
    }

    /// Reads ports and flags, and checks what the engine and the edits rely on. `payload` is what is there of the
    /// `claimed` bytes: all of them, unless the packet is quoted.
    #[inline]
    fn read_transport<const PART: u8>(
        &mut self,
        payload: &[u8],
        claimed: usize,
        protocol: u8,
        icmp: u8,
    ) -> Result<(), ParseError> {
        if PART == WHOLE
            && protocol == protocol::TCP
            && self.fragment_offset == 0
            && !self.more_fragments
            && let Some(header) = payload.first_chunk::<TCP_HEADER_LEN>()
        {
            self.src_port = get16(header, 0);
            self.dst_port = get16(header, 2);
            self.tcp_flags = header[13];
            let offset = usize::from(header[12] >> 4) * 4;
            return if (TCP_HEADER_LEN..=payload.len()).contains(&offset) {
                Ok(())
            } else {
                Err(ParseError::Malformed)
            };
        }
        if usize::from(self.fragment_offset) + claimed > 0xffff {
            return Err(ParseError::Malformed);
        }
        let transport = if self.fragment_offset == 0 {
            parse_transport::<PART>(payload, claimed, protocol, icmp, self.more_fragments)?
        } else {
            Transport::default()
        };
        self.src_port = transport.src_port;
        self.dst_port = transport.dst_port;
        self.tcp_flags = transport.tcp_flags;
        Ok(())
    }

    /// Whether this is IPv4.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        self.src.is_v4()
    }

    /// Whether more stands in front of the transport header than the fixed header: IPv4 options or IPv6 extension
    /// headers.
    #[inline]
    pub const fn has_options(&self) -> bool {
        self.header_len as usize > if self.is_v4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN }
    }

    /// Whether this is one of several fragments. (An IPv6 *atomic* fragment, RFC 6946, is whole.)
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.fragment_offset != 0 || self.more_fragments
    }

    /// Whether this is the first of several fragments.
    #[inline]
    pub const fn is_first_fragment(&self) -> bool {
        self.fragment_offset == 0 && self.more_fragments
    }

    /// Bytes behind the IP header, by its length field.
    #[inline]
    pub const fn transport_len(&self) -> usize {
        self.total_len as usize - self.header_len as usize
    }

    /// Whether a whole transport header with ports is here: TCP, UDP or SCTP, and neither a later fragment
    /// nor a first one too small for it. A port of 0 is possible on the wire and does not tell.
    #[inline]
    pub const fn has_ports(&self) -> bool {
        let least = match self.protocol {
            protocol::TCP => TCP_HEADER_LEN,
            udp::PROTOCOL => udp::HEADER_LEN,
            sctp::PROTOCOL => sctp::HEADER_LEN,
            _ => return false,
        };
        self.fragment_offset == 0 && self.transport_len() >= least
    }

    /// The transport header and payload within the bytes that were parsed (for a quoted packet: what is
    /// there of them).
    #[inline]
    pub fn transport<'a>(&self, ip: &'a [u8]) -> &'a [u8] {
        let end = (self.total_len as usize).min(ip.len());
        &ip[usize::from(self.header_len)..end]
    }

    /// The sum of the transport header and payload, pseudo-header included where the protocol has one (TCP, UDP,
    /// ICMPv6). Its [`finish`](Sum::finish) is 0 if the checksum is right.
    ///
    /// For UDP the bytes are those its length field names. `ip` must be what was parsed, as a whole.
    pub fn transport_sum(&self, ip: &[u8]) -> Sum {
        let mut payload = self.transport(ip);
        if self.protocol == udp::PROTOCOL && payload.len() >= udp::HEADER_LEN {
            let length = usize::from(get16(payload, 4));
            payload = payload.get(..length).unwrap_or(payload);
        }
        let sum = Sum::new().add_bytes(payload);
        let pseudo = match self.protocol {
            protocol::TCP | udp::PROTOCOL => true,
            protocol::ICMPV6 => !self.is_v4(),
            _ => false,
        };
        if pseudo {
            let length = u32::try_from(payload.len()).expect("an IP payload is at most 65535 bytes");
            sum.add(pseudo_header(self.src, self.dst, self.protocol, length))
        } else {
            sum
        }
    }
}

/// What [`Packet::read_transport`] reads of all but whole TCP packets.
#[inline(never)]
fn parse_transport<const PART: u8>(
    payload: &[u8],
    claimed: usize,
    protocol: u8,
    icmp: u8,
    more_fragments: bool,
) -> Result<Transport, ParseError> {
    let is_icmp = protocol == icmp;
    let least = match protocol {
        protocol::TCP => TCP_HEADER_LEN,
        udp::PROTOCOL => udp::HEADER_LEN,
        sctp::PROTOCOL => sctp::HEADER_LEN,
        _ if is_icmp => ICMP_HEADER_LEN,
        _ => return Ok(Transport::default()),
    };
    if claimed < least && PART != PORTS {
        // A tiny first fragment is legal (RFC 791), if never honest (RFC 1858): whoever reassembles will
        // see the header.
        return if more_fragments { Ok(Transport::default()) } else { Err(ParseError::Truncated) };
    }
    let needed = match PART {
        WHOLE => least,
        _ if is_icmp => ICMP_HEADER_LEN,
        _ => 4,
    };
    if payload.len() < needed {
        return Err(ParseError::Truncated);
    }
    if is_icmp {
        return Ok(Transport::default());
    }
    let mut transport = Transport { src_port: get16(payload, 0), dst_port: get16(payload, 2), tcp_flags: 0 };
    if protocol == protocol::TCP && payload.len() >= 14 {
        transport.tcp_flags = payload[13];
    }
    if PART != WHOLE {
        return Ok(transport);
    }
    let sane = match protocol {
        protocol::TCP => {
            let offset = usize::from(payload[12] >> 4) * 4;
            offset >= TCP_HEADER_LEN && (more_fragments || offset <= payload.len())
        }
        udp::PROTOCOL => {
            let length = usize::from(get16(payload, 4));
            length >= udp::HEADER_LEN && (more_fragments || length <= payload.len())
        }
        _ => true,
    };
    if sane { Ok(transport) } else { Err(ParseError::Malformed) }
}

#[cfg(test)]
mod tests;
