//! VRRP advertisements: version 3 (RFC 9568, RFC 5798) for IPv4 and IPv6, and version 2 (RFC 3768) for IPv4.
//!
//! ```text
//! 0       1       2       3       4       5       6       8
//! +-------+-------+-------+-------+-------+-------+-------+----------------------+
//! | ver|1 | VRID  | prio. | count | auth  | secs  | sum   | addresses | password | version 2
//! | ver|1 | VRID  | prio. | count | 0000 centisecs| sum   | addresses |            version 3
//! +-------+-------+-------+-------+-------+-------+-------+----------------------+
//! ```
//! Addresses are 4 bytes each, or 16 over IPv6. The 8 bytes of a password are always there in version 2. A message
//! ends with them: what follows, as the trailer of an HMAC, is not known here and the message is refused.
//!
//! Over IPv4 version 3 has two checksums in the field, see [`ChecksumForm`]: both are taken.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use uvs_wire::checksum::{Sum, pseudo_header};
use uvs_wire::{Address, Packet};

/// Protocol number, and next header, of VRRP (RFC 9568, 5.1.1.4 and 5.1.2.4).
pub const PROTOCOL: u8 = 112;
/// TTL and hop limit of every advertisement (RFC 9568, 5.1.1.3 and 5.1.2.3): none that was forwarded is taken.
pub const TTL: u8 = 255;
/// The group of all VRRP routers over IPv4 (RFC 9568, 5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The group of all VRRP routers over IPv6 (RFC 9568, 5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// Priority of the router whose own addresses these are (RFC 9568, 5.2.4).
pub const OWNER: u8 = 255;
/// Priority of one that leaves (RFC 9568, 5.2.4).
pub const LEAVING: u8 = 0;

const HEADER_LEN: usize = 8;
const PASSWORD_LEN: usize = 8;
const ADVERTISEMENT: u8 = 1;
const CHECKSUM_AT: usize = 6;
/// The most addresses that the count can say.
pub const ADDRESSES_MAX: usize = 255;

/// IPv4 or IPv6: a virtual router is of one of them (RFC 9568, 5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The group that advertisements are sent to.
    pub const fn group(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(GROUP_V4),
            Self::V6 => IpAddr::V6(GROUP_V6),
        }
    }

    const fn address_len(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 3768: IPv4 alone, intervals in whole seconds. What keepalived speaks over IPv4 unless told otherwise.
    V2,
    /// RFC 9568: both families, intervals in hundredths of a second.
    V3,
}

impl Version {
    const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// How often the Active router advertises: 1 to 25500 hundredths of a second. Which of them a version can say is told
/// by [`Interval::fits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(u16);

impl Interval {
    /// The default of both versions: 1 s.
    pub const DEFAULT: Self = Self(100);

    /// From hundredths of a second, 1 to 25500.
    pub const fn from_centis(centis: u16) -> Option<Self> {
        match centis {
            1..=25_500 => Some(Self(centis)),
            _ => None,
        }
    }

    /// In hundredths of a second.
    pub const fn centis(self) -> u16 {
        self.0
    }

    /// As a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }

    /// Whether messages of this version can say it: version 3 has 12 bits of hundredths of a second (40.95 s), version
    /// 2 whole seconds to 255.
    pub const fn fits(self, version: Version) -> bool {
        match version {
            Version::V2 => self.0.is_multiple_of(100),
            Version::V3 => self.0 <= 0xfff,
        }
    }
}

/// What the checksum of version 3 over IPv4 is of. RFC 5798 was read both ways; RFC 9568, 5.2.8, settles it. Over IPv6
/// the pseudo-header is always in it, in version 2 never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumForm {
    /// The message alone: what RFC 9568 says, and what routers of Cisco and Juniper do.
    Rfc9568,
    /// Pseudo-header and message: what keepalived sends, and before 2.2.8 the only form that it takes.
    Rfc5798,
    /// As before, with the group in the pseudo-header of a message that was sent to one peer: old versions of
    /// keepalived. Taken, never sent.
    Rfc5798Group,
}

impl ChecksumForm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rfc9568, Self::Rfc5798, Self::Rfc5798Group];
}

/// The password of version 2: clear text of 8 bytes, padded with zeros (RFC 2338, 10.2). It keeps mistakes apart, not
/// attackers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password([u8; PASSWORD_LEN]);

impl Password {
    /// From text. keepalived cuts off what is longer than 8 bytes, and so does this.
    pub fn new(text: &[u8]) -> Self {
        let mut bytes = [0; PASSWORD_LEN];
        let len = text.len().min(PASSWORD_LEN);
        bytes[..len].copy_from_slice(&text[..len]);
        Self(bytes)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// An advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Version of the message.
    pub version: Version,
    /// Virtual router, 1 to 255.
    pub vrid: u8,
    /// Priority of the sender: 255 is the owner of the addresses, 0 one that leaves.
    pub priority: u8,
    /// How often the sender advertises.
    pub interval: Interval,
    /// Version 2: the password of authentication type 1, if that is in use.
    pub password: Option<Password>,
    /// The virtual addresses, 1 to 255 of one family.
    pub addresses: Vec<IpAddr>,
}

/// A message as it came, without its IP header.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub src: IpAddr,
    /// Where it was sent to.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What follows the IP header and its extensions, without Ethernet's padding.
    pub payload: &'a [u8],
}

/// Why a message was not taken. Each is a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// It is no whole IP packet of protocol 112, or a fragment of one.
    #[error("no VRRP packet")]
    NotVrrp,
    /// Shorter or longer than version and count of addresses say.
    #[error("a length that its version and count of addresses do not give")]
    Length,
    /// It was forwarded, or somebody wants it to look as if it was not.
    #[error("a TTL below what is asked for, which is 255 unless said otherwise")]
    Ttl,
    /// Neither 2 nor 3, or 2 over IPv6.
    #[error("a version that is not spoken")]
    Version,
    /// Another version than the virtual router's.
    #[error("another version than that of this virtual router")]
    OtherVersion,
    /// No advertisement.
    #[error("a type that is no advertisement")]
    Type,
    /// Version 2: no authentication type that is known.
    #[error("an authentication type that is neither none nor a password")]
    AuthType,
    /// Version 2: the password is not the one that is set, or one of both has none.
    #[error("another password")]
    Password,
    /// The checksum is wrong in each of its forms.
    #[error("a wrong checksum")]
    Checksum,
    /// VRID 0.
    #[error("VRID 0")]
    Vrid,
    /// No virtual router of this VRID on this interface.
    #[error("a VRID that is not known on this interface")]
    UnknownVrid,
    /// No address (RFC 9568, 5.2.5).
    #[error("no address")]
    Count,
    /// Interval 0.
    #[error("an interval of 0")]
    Interval,
    /// From an address that no router has, from ourselves, or, with unicast peers, from none of them.
    #[error("a source that is no peer")]
    Source,
    /// Sent neither to the group nor, with unicast peers, to us.
    #[error("a destination that is not ours")]
    Destination,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::NotVrrp,
        Self::Length,
        Self::Ttl,
        Self::Version,
        Self::OtherVersion,
        Self::Type,
        Self::AuthType,
        Self::Password,
        Self::Checksum,
        Self::Vrid,
        Self::UnknownVrid,
        Self::Count,
        Self::Interval,
        Self::Source,
        Self::Destination,
    ];

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotVrrp => "not_vrrp",
            Self::Length => "length",
            Self::Ttl => "ttl",
            Self::Version => "version",
            Self::OtherVersion => "other_version",
            Self::Type => "type",
            Self::AuthType => "auth_type",
            Self::Password => "password",
            Self::Checksum => "checksum",
            Self::Vrid => "vrid",
            Self::UnknownVrid => "unknown_vrid",
            Self::Count => "count",
            Self::Interval => "interval",
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

impl<'a> Datagram<'a> {
    /// Takes the IP header off a packet.
    ///
    /// # Errors
    /// [`Refusal::NotVrrp`].
    pub fn of_packet(ip: &'a [u8]) -> Result<Self, Refusal> {
        let packet = Packet::parse(ip).map_err(|_| Refusal::NotVrrp)?;
        if packet.protocol != PROTOCOL || packet.is_fragment() {
            return Err(Refusal::NotVrrp);
        }
        Ok(Self {
            src: packet.src.to_ip(),
            dst: packet.dst.to_ip(),
            ttl: packet.ttl,
            payload: packet.transport(ip),
        })
    }

    /// The VRID that it claims to be of, before anything is checked.
    pub fn vrid(&self) -> Option<u8> {
        self.payload.get(1).copied()
    }

    /// Reads the message and checks what can be checked without knowing the virtual router, in the order of RFC 9568,
    /// 7.1. `ttl_min` is 255 but for unicast peers behind routers. Reserved bits are not looked at, as the RFC asks.
    ///
    /// # Errors
    /// The first reason not to take it.
    pub fn parse(&self, ttl_min: u8) -> Result<(Advertisement, ChecksumForm), Refusal> {
        let family = Family::of(self.src);
        if family != Family::of(self.dst) {
            return Err(Refusal::NotVrrp);
        }
        let header: &[u8; HEADER_LEN] = self.payload.first_chunk().ok_or(Refusal::Length)?;
        let [version_type, vrid, priority, count, auth, seconds, _, _] = *header;
        if self.ttl < ttl_min {
            return Err(Refusal::Ttl);
        }
        let version = match (version_type >> 4, family) {
            (2, Family::V4) => Version::V2,
            (3, _) => Version::V3,
            _ => return Err(Refusal::Version),
        };
        if version_type & 0xf != ADVERTISEMENT {
            return Err(Refusal::Type);
        }
        if self.payload.len() != length(version, family, usize::from(count)) {
            return Err(Refusal::Length);
        }
        let form = self.checksum_form(version).ok_or(Refusal::Checksum)?;
        if vrid == 0 {
            return Err(Refusal::Vrid);
        }
        if count == 0 {
            return Err(Refusal::Count);
        }
        let body = &self.payload[HEADER_LEN..];
        let (centis, password) = match version {
            Version::V3 => (u16::from_be_bytes([auth & 0xf, seconds]), None),
            Version::V2 => {
                let password = match auth {
                    0 => None,
                    1 => body.last_chunk().copied().map(Password),
                    _ => return Err(Refusal::AuthType),
                };
                (u16::from(seconds) * 100, password)
            }
        };
        let interval = Interval::from_centis(centis).ok_or(Refusal::Interval)?;
        let addresses = match family {
            Family::V4 => body.as_chunks().0.iter().map(|octets: &[u8; 4]| IpAddr::from(*octets)).collect(),
            Family::V6 => body.as_chunks().0.iter().map(|octets: &[u8; 16]| IpAddr::from(*octets)).collect(),
        };
        let mut addresses: Vec<IpAddr> = addresses;
        addresses.truncate(usize::from(count));
        Ok((Advertisement { version, vrid, priority, interval, password, addresses }, form))
    }

    /// The form in which the checksum is right.
    fn checksum_form(&self, version: Version) -> Option<ChecksumForm> {
        let message = Sum::new().add_bytes(self.payload);
        let with = |dst| pseudo(self.src, dst, self.payload.len()).add(message).finish() == 0;
        let is_v4 = self.src.is_ipv4();
        if is_v4 && message.finish() == 0 {
            return Some(ChecksumForm::Rfc9568);
        }
        if version == Version::V2 {
            return None;
        }
        if with(self.dst) {
            return Some(ChecksumForm::Rfc5798);
        }
        (is_v4 && with(IpAddr::V4(GROUP_V4))).then_some(ChecksumForm::Rfc5798Group)
    }
}

fn pseudo(src: IpAddr, dst: IpAddr, len: usize) -> Sum {
    let address = |ip| match ip {
        IpAddr::V4(ip) => Address::v4(ip),
        IpAddr::V6(ip) => Address::v6(ip),
    };
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    pseudo_header(address(src), address(dst), PROTOCOL, len)
}

const fn length(version: Version, family: Family, count: usize) -> usize {
    let trailer = match version {
        Version::V2 => PASSWORD_LEN,
        Version::V3 => 0,
    };
    HEADER_LEN + count * family.address_len() + trailer
}

impl Advertisement {
    /// Writes the message, without an IP header. `src` and `dst` are those of the packet; `form` matters for version 3
    /// over IPv4 alone, and [`ChecksumForm::Rfc5798Group`] is sent as [`ChecksumForm::Rfc5798`].
    ///
    /// Addresses of another family than `src`, and those after the 255th, are left out. An interval that the version
    /// cannot say is rounded up, or down to the longest that it can.
    pub fn emit(&self, src: IpAddr, dst: IpAddr, form: ChecksumForm) -> Vec<u8> {
        let family = Family::of(src);
        let fitting = || self.addresses.iter().filter(|ip| Family::of(**ip) == family).take(ADDRESSES_MAX);
        let count = fitting().count();
        let mut bytes = Vec::with_capacity(length(self.version, family, count));
        let [high, low] = match self.version {
            Version::V2 => {
                let seconds = u8::try_from(self.interval.centis().div_ceil(100)).unwrap_or(u8::MAX);
                [u8::from(self.password.is_some()), seconds]
            }
            Version::V3 => self.interval.centis().min(0xfff).to_be_bytes(),
        };
        let count = u8::try_from(count).unwrap_or(u8::MAX);
        let version_type = self.version.number() << 4 | ADVERTISEMENT;
        bytes.extend([version_type, self.vrid, self.priority, count, high, low, 0, 0]);
        for address in fitting() {
            match address {
                IpAddr::V4(ip) => bytes.extend(ip.octets()),
                IpAddr::V6(ip) => bytes.extend(ip.octets()),
            }
        }
        if self.version == Version::V2 {
            bytes.extend(self.password.unwrap_or(Password([0; PASSWORD_LEN])).0);
        }
        let mut sum = Sum::new().add_bytes(&bytes);
        let in_v4 = self.version == Version::V3 && form != ChecksumForm::Rfc9568;
        if family == Family::V6 || in_v4 {
            sum = sum.add(pseudo(src, dst, bytes.len()));
        }
        bytes[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.finish().to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests;
