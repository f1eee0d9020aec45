//! The IPVS sync protocol, version 1: what a kernel's `ip_vs_sync` sends and takes (UDP, 224.0.0.81, port 8848).
//!
//! ```text
//! message  0       1       2               4       5       6               8
//!          +-------+-------+---------------+-------+-------+---------------+---------
//!          |   0   |syncid |  whole length | count |   1   |       0       | records, each padded to 4
//!          +-------+-------+---------------+-------+-------+---------------+---------
//! record   0      1      2      4      8      10          16      20      24             36 (IPv6: 72)
//!          +------+------+------+------+------+-----------+-------+-------+--------------+---------
//!          | type |proto.|length|flags | state|c, v, dport|fwmark |timeout| c, v, daddr  | options
//!          +------+------+------+------+------+-----------+-------+-------+--------------+---------
//! option   | type | length | data |    1 sequence numbers, 2 data of a persistence engine, 3 its name
//! ```
//! All is big-endian. The padding is in the length of the message, not in that of a record, and the last record has
//! none. Version 0, which kernels before 2.6.38 sent, is neither read nor sent.
//!
//! The kernel takes records one after the other: those before a broken one are taken, the rest of the message is not.
//! So does [`Message::records`]. Nobody signs these messages: who can send to the group can plant connections.

use core::net::IpAddr;

use crate::wire::Family;

/// The kernel's default port.
pub const PORT: u16 = 8848;
/// The kernel's default group.
pub const GROUP_V4: core::net::Ipv4Addr = core::net::Ipv4Addr::new(224, 0, 0, 81);

const HEADER_LEN: usize = 8;
const VERSION: u8 = 1;
/// A datagram of UDP over IPv4.
const LEN_MAX: usize = 65_535 - 28;
const RECORD_V6_LEN: usize = 72;
/// Of the type of a record: it is IPv6.
const INET6: u8 = 1;
/// Of a record's length: the rest is its version.
const LENGTH_MASK: u16 = 0xfff;
const OPTION_SEQUENCES: u8 = 1;
const OPTION_ENGINE_DATA: u8 = 2;
const OPTION_ENGINE_NAME: u8 = 3;
/// Of the type of an option: who does not know it may pass over it.
const OPTION_PASS: u8 = 0x40;
const SEQUENCES_LEN: usize = 24;
/// Most bytes of data of a persistence engine.
pub const ENGINE_DATA_MAX: usize = 255;
/// Most bytes of the name of one.
pub const ENGINE_NAME_MAX: usize = 16;
/// The longest record, with all of its options.
const RECORD_MAX: usize = RECORD_V6_LEN + 2 + SEQUENCES_LEN + 2 + ENGINE_DATA_MAX + 2 + ENGINE_NAME_MAX;

/// Bits of [`Record::flags`].
pub mod flags {
    /// Forwarding method: 0 NAT, 1 local, 2 tunnel, 3 direct routing, 4 bypass.
    pub const FORWARDING: u32 = 0x7;
    /// It came by this protocol.
    pub const SYNC: u32 = 0x20;
    /// Local to a kernel; never sent.
    pub const HASHED: u32 = 0x40;
    /// Replies do not pass here.
    pub const NO_OUTPUT: u32 = 0x80;
    /// It counts as inactive.
    pub const INACTIVE: u32 = 0x100;
    /// Sequence numbers of replies are shifted.
    pub const OUT_SEQ: u32 = 0x200;
    /// Sequence numbers of requests are shifted.
    pub const IN_SEQ: u32 = 0x400;
    /// The port of the client is not known yet.
    pub const NO_CLIENT_PORT: u32 = 0x800;
    /// It is a persistence template.
    pub const TEMPLATE: u32 = 0x1000;
    /// It is for one packet.
    pub const ONE_PACKET: u32 = 0x2000;
    /// What a backup keeps of a message's flags.
    pub const TAKEN: u32 = 0x1f87;
    /// What a backup changes of a connection that it has already.
    pub const CHANGED: u32 = INACTIVE | OUT_SEQ | IN_SEQ;
}

/// By how much sequence numbers of one direction are shifted, as by FTP in NAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// From this number on.
    pub from: u32,
    /// The shift for numbers after `from`.
    pub delta: u32,
    /// The shift for those before it.
    pub previous_delta: u32,
}

/// One connection, or one persistence template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// 6 TCP, 17 UDP, 132 SCTP; 0 in templates of firewall marks.
    pub protocol: u8,
    /// See [`flags`].
    pub flags: u32,
    /// In the order of the kernel's enums. TCP: 1 ESTABLISHED to 10 SYNACK, 0 none. UDP: 0. SCTP: 0 to 13.
    /// Templates: 0, or 1 once a connection is assured.
    pub state: u16,
    /// Port of the client; 0 in templates.
    pub client_port: u16,
    /// Port of the virtual service.
    pub virtual_port: u16,
    /// Port of the destination.
    pub destination_port: u16,
    /// Firewall mark of the service, or 0.
    pub fwmark: u32,
    /// The whole timeout of its state in seconds, not what is left of it. 0: that of the receiver.
    pub timeout: u32,
    /// Address of the client. The three of them are of one family.
    pub client: IpAddr,
    /// Virtual address. In templates of firewall marks it is the mark.
    pub virtual_addr: IpAddr,
    /// Address of the destination.
    pub destination: IpAddr,
    /// Shifts of requests and of replies.
    pub sequences: Option<[Sequence; 2]>,
    /// What the persistence engine remembers, 1 to 255 bytes.
    pub engine_data: Option<Vec<u8>>,
    /// The name of that engine, 1 to 16 bytes.
    pub engine_name: Option<Vec<u8>>,
}

/// Why a message, or the rest of it, was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SyncError {
    /// Not even a header.
    #[error("shorter than a header")]
    Truncated,
    /// The length in it is not its length: it was cut off on the way.
    #[error("a length in the header that is not the message's")]
    Length,
    /// Version 0, or one that is not known.
    #[error("no message of version 1")]
    Version,
    /// A record that goes beyond the message, or is shorter than its kind.
    #[error("a record of a length that cannot be")]
    RecordLength,
    /// A record of another version.
    #[error("a record of another version")]
    RecordVersion,
    /// A record that is neither IPv4 nor IPv6.
    #[error("a record of an unknown type")]
    RecordType,
    /// An option that goes beyond its record, is empty, is too long, or comes twice.
    #[error("an option that cannot be")]
    Option,
    /// An option that is not known and must be. This record is passed over, those after it are not.
    #[error("an option that is not known")]
    UnknownOption,
    /// A protocol that is not balanced. This record is passed over.
    #[error("a protocol that is not balanced")]
    Protocol,
    /// A state that its protocol has not. This record is passed over.
    #[error("a state that its protocol has not")]
    State,
}

impl SyncError {
    /// Whether only one record is passed over.
    pub const fn passes_over(self) -> bool {
        matches!(self, Self::UnknownOption | Self::Protocol | Self::State)
    }
}

/// A message whose header is right.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    sync_id: u8,
    count: u8,
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`SyncError::Truncated`], [`SyncError::Length`] and [`SyncError::Version`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SyncError> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(SyncError::Truncated)?;
        let [reserved, sync_id, high, low, count, version, spare @ ..] = *header;
        if reserved != 0 || version != VERSION || spare != [0, 0] {
            return Err(SyncError::Version);
        }
        if usize::from(u16::from_be_bytes([high, low])) != bytes.len() {
            return Err(SyncError::Length);
        }
        Ok(Self { sync_id, count, bytes })
    }

    /// `--syncid` of the sender.
    pub fn sync_id(&self) -> u8 {
        self.sync_id
    }

    /// Whether a backup with this `--syncid` takes it: 0 takes all.
    pub fn is_for(&self, sync_id: u8) -> bool {
        sync_id == 0 || sync_id == self.sync_id
    }

    /// Reads the records. After an error that does not [pass over](SyncError::passes_over) one record there is nothing
    /// more.
    pub fn records(&self) -> Records<'a> {
        Records { bytes: self.bytes, at: HEADER_LEN, left: self.count }
    }
}

/// The records of a message.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u8,
}

impl Iterator for Records<'_> {
    type Item = Result<Record, SyncError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let result = self.take().and_then(read);
        if result.as_ref().is_err_and(|error| !error.passes_over()) {
            self.left = 0;
        }
        Some(result)
    }
}

impl<'a> Records<'a> {
    /// The bytes of the next record.
    fn take(&mut self) -> Result<&'a [u8], SyncError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let head: &[u8; 4] = rest.first_chunk().ok_or(SyncError::RecordLength)?;
        let version_length = u16::from_be_bytes([head[2], head[3]]);
        let length = usize::from(version_length & LENGTH_MASK);
        let record = rest.get(..length).ok_or(SyncError::RecordLength)?;
        if version_length & !LENGTH_MASK != 0 {
            return Err(SyncError::RecordVersion);
        }
        self.at += length.next_multiple_of(4);
        Ok(record)
    }
}

/// Reads fields one after the other, of bytes whose length was checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SyncError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(SyncError::RecordLength)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> Result<u16, SyncError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, SyncError> {
        self.take().map(u32::from_be_bytes)
    }

    fn address(&mut self, family: Family) -> Result<IpAddr, SyncError> {
        match family {
            Family::V4 => self.take::<4>().map(IpAddr::from),
            Family::V6 => self.take::<16>().map(IpAddr::from),
        }
    }
}

fn read(bytes: &[u8]) -> Result<Record, SyncError> {
    let mut fields = Fields(bytes);
    let [kind, protocol, _, _] = fields.take()?;
    let family = match kind {
        0 => Family::V4,
        kind if kind & INET6 != 0 => Family::V6,
        _ => return Err(SyncError::RecordType),
    };
    let (flags, state) = (fields.u32()?, fields.u16()?);
    let (client_port, virtual_port, destination_port) = (fields.u16()?, fields.u16()?, fields.u16()?);
    let (fwmark, timeout) = (fields.u32()?, fields.u32()?);
    let mut address = || fields.address(family);
    let (client, virtual_addr, destination) = (address()?, address()?, address()?);
    let (sequences, engine_data, engine_name) = (None, None, None);
    let mut record = Record {
        protocol,
        flags,
        state,
        client_port,
        virtual_port,
        destination_port,
        fwmark,
        timeout,
        client,
        virtual_addr,
        destination,
        sequences,
        engine_data,
        engine_name,
    };
    record.read_options(fields.0)?;
    record.check()?;
    Ok(record)
}

impl Record {
    fn read_options(&mut self, mut bytes: &[u8]) -> Result<(), SyncError> {
        while let Some((kind, rest)) = bytes.split_first() {
            let (length, rest) = rest.split_first().ok_or(SyncError::Option)?;
            let (data, rest) = rest.split_at_checked(usize::from(*length)).ok_or(SyncError::Option)?;
            bytes = rest;
            let once = |there: bool, most: usize| match data.len() {
                1.. if !there && data.len() <= most => Ok(data.to_vec()),
                _ => Err(SyncError::Option),
            };
            match kind & !OPTION_PASS {
                _ if data.is_empty() => return Err(SyncError::Option),
                OPTION_SEQUENCES => {
                    if self.sequences.is_some() || data.len() != SEQUENCES_LEN {
                        return Err(SyncError::Option);
                    }
                    let mut fields = Fields(data);
                    let mut sequence = || -> Result<Sequence, SyncError> {
                        let (from, delta) = (fields.u32()?, fields.u32()?);
                        Ok(Sequence { from, delta, previous_delta: fields.u32()? })
                    };
                    self.sequences = Some([sequence()?, sequence()?]);
                }
                OPTION_ENGINE_DATA => {
                    self.engine_data = Some(once(self.engine_data.is_some(), ENGINE_DATA_MAX)?);
                }
                OPTION_ENGINE_NAME => {
                    self.engine_name = Some(once(self.engine_name.is_some(), ENGINE_NAME_MAX)?);
                }
                _ if kind & OPTION_PASS == 0 => return Err(SyncError::UnknownOption),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether it is a persistence template.
    pub const fn is_template(&self) -> bool {
        self.flags & flags::TEMPLATE != 0
    }

    /// Protocol and state, as the kernel checks them: of templates the state alone.
    fn check(&self) -> Result<(), SyncError> {
        let states = match self.protocol {
            _ if self.is_template() => 2,
            6 => 11,
            17 => 1,
            132 => 14,
            _ => return Err(SyncError::Protocol),
        };
        if self.state < states { Ok(()) } else { Err(SyncError::State) }
    }

    /// Appends it. Options that cannot be are left out; addresses of another family than the client's are written as
    /// unspecified ones.
    fn write(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        let family = Family::of(self.client);
        bytes.extend([u8::from(family == Family::V6), self.protocol, 0, 0]);
        bytes.extend((self.flags & !flags::HASHED).to_be_bytes());
        for field in [self.state, self.client_port, self.virtual_port, self.destination_port] {
            bytes.extend(field.to_be_bytes());
        }
        for field in [self.fwmark, self.timeout] {
            bytes.extend(field.to_be_bytes());
        }
        for address in [self.client, self.virtual_addr, self.destination] {
            match (family, address) {
                (Family::V4, IpAddr::V4(ip)) => bytes.extend(ip.octets()),
                (Family::V6, IpAddr::V6(ip)) => bytes.extend(ip.octets()),
                (Family::V4, IpAddr::V6(_)) => bytes.extend([0; 4]),
                (Family::V6, IpAddr::V4(_)) => bytes.extend([0; 16]),
            }
        }
        let mut option = |kind: u8, data: &[u8], most: usize| {
            if let Ok(length @ 1..) = u8::try_from(data.len())
                && data.len() <= most
            {
                bytes.extend([kind, length]);
                bytes.extend(data);
            }
        };
        if let Some(sequences) = self.sequences {
            let mut data = Vec::with_capacity(SEQUENCES_LEN);
            for Sequence { from, delta, previous_delta } in sequences {
                [from, delta, previous_delta].iter().for_each(|field| data.extend(field.to_be_bytes()));
            }
            option(OPTION_SEQUENCES, &data, SEQUENCES_LEN);
        }
        option(OPTION_ENGINE_DATA, self.engine_data.as_deref().unwrap_or_default(), ENGINE_DATA_MAX);
        option(OPTION_ENGINE_NAME, self.engine_name.as_deref().unwrap_or_default(), ENGINE_NAME_MAX);
        let length = u16::try_from(bytes.len() - start).unwrap_or(LENGTH_MASK);
        bytes[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Gathers records in messages.
#[derive(Clone, Debug)]
pub struct Encoder {
    sync_id: u8,
    len_max: usize,
    /// Header and records, or nothing.
    bytes: Vec<u8>,
    count: u8,
    record: Vec<u8>,
}

impl Encoder {
    /// `len_max` is the longest message (`--sync-maxlen`; the kernel's default is 1472 over IPv4 and 1452 over IPv6).
    /// It is raised to what the longest record needs, and no more than a datagram holds.
    pub fn new(sync_id: u8, len_max: usize) -> Self {
        let len_max = len_max.clamp(HEADER_LEN + RECORD_MAX, LEN_MAX);
        Self { sync_id, len_max, bytes: Vec::new(), count: 0, record: Vec::new() }
    }

    /// Adds a record. What comes back is the message before it, if it does not fit into that.
    pub fn push(&mut self, record: &Record) -> Option<Vec<u8>> {
        self.record.clear();
        record.write(&mut self.record);
        let at = self.bytes.len().next_multiple_of(4);
        let is_full = self.count == u8::MAX || at + self.record.len() > self.len_max;
        let full = if is_full { self.finish() } else { None };
        if self.bytes.is_empty() {
            self.bytes.extend([0, self.sync_id, 0, 0, 0, VERSION, 0, 0]);
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend(&self.record);
        self.count += 1;
        full
    }

    /// The message that was begun, if any.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        if self.count == 0 {
            return None;
        }
        let mut bytes = core::mem::take(&mut self.bytes);
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes[4] = core::mem::take(&mut self.count);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests;
