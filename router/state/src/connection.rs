//! A connection in bytes.
//!
//! ```text
//!   u32 flags, u8 protocol, u8 state, u8 origin, u8 packets from the client
//!   end client, end asked for, end where packets go          end: u8 4 or 6, the octets, u16 port
//!   [end its server]   [service]                             where they are not what stands above already
//!   u8 method, [what the tunnel is]
//!   u32 timeout in ms, u64 what is left of it in ns, [u64 waited for so long in ns]
//!   [u64 the group it hangs on]   [u64 the group it leads]
//!   [u16 length, what the FTP helper remembers]
//! ```
//! What is in brackets is there where a flag says so.

use std::net::SocketAddr;
use std::time::Duration;

use uvs_director::record::{ConnectionId, ConnectionRecord, FtpRecord, Group, Passive, Replaced};
use uvs_director::spec::{Forwarding, Protocol, ServiceKey, Tunnel, TunnelChecksum};
use uvs_director::view::Origin;

use crate::field::{Fields, Writer};
use crate::service;

/// Bits of the flags. A bit that was given out is never used for anything else.
mod flag {
    pub(super) const TEMPLATE: u32 = 1 << 0;
    pub(super) const ANNOUNCED: u32 = 1 << 1;
    pub(super) const ACTIVE: u32 = 1 << 2;
    pub(super) const ANSWERED: u32 = 1 << 3;
    pub(super) const OUTDONE: u32 = 1 << 4;
    pub(super) const REMOVED: u32 = 1 << 5;
    pub(super) const CACHED: u32 = 1 << 6;
    /// The server has another address or port than the one that packets go to.
    pub(super) const SERVER: u32 = 1 << 7;
    /// The service is not named by protocol and address asked for.
    pub(super) const SERVICE: u32 = 1 << 8;
    pub(super) const WAITED: u32 = 1 << 9;
    pub(super) const HANGS_ON: u32 = 1 << 10;
    pub(super) const HANGS_ON_ASSURED: u32 = 1 << 11;
    pub(super) const HANGS_ON_ONE_PACKET: u32 = 1 << 12;
    pub(super) const LEADS: u32 = 1 << 13;
    pub(super) const LEADS_ASSURED: u32 = 1 << 14;
    pub(super) const LEADS_ONE_PACKET: u32 = 1 << 15;
    pub(super) const FTP: u32 = 1 << 16;
}

/// What marks a group by: that there is one, that it is assured, that it is of a one-packet service.
type GroupFlags = [u32; 3];
const HANGS_ON: GroupFlags = [flag::HANGS_ON, flag::HANGS_ON_ASSURED, flag::HANGS_ON_ONE_PACKET];
const LEADS: GroupFlags = [flag::LEADS, flag::LEADS_ASSURED, flag::LEADS_ONE_PACKET];

fn group_flags(group: Option<&Group>, flags: GroupFlags) -> u32 {
    let Some(group) = group else { return 0 };
    let [there, assured, one_packet] = flags;
    there | if group.is_assured { assured } else { 0 } | if group.is_one_packet { one_packet } else { 0 }
}

/// A group that flags speak of: `Some(None)`, there is none; `None`: its number is missing.
fn read_group(fields: &mut Fields<'_>, flags: u32, of: GroupFlags) -> Option<Option<Group>> {
    let [there, assured, one_packet] = of;
    if flags & there == 0 {
        return Some(None);
    }
    let (is_assured, is_one_packet) = (flags & assured != 0, flags & one_packet != 0);
    Some(Some(Group { number: fields.u64()?, is_assured, is_one_packet }))
}

/// The service of most connections.
fn usual_service(id: &ConnectionId) -> Option<ServiceKey> {
    let protocol = Protocol::from_number(id.protocol)?;
    Some(ServiceKey::new(protocol, SocketAddr::new(id.asked_for.0.to_ip(), id.asked_for.1)))
}

pub(crate) fn write_id(to: &mut Writer<'_>, id: &ConnectionId) {
    to.u32(id_flags(id));
    to.u8(id.protocol);
    to.end(id.client);
    to.end(id.asked_for);
}

pub(crate) fn read_id(fields: &mut Fields<'_>) -> Option<ConnectionId> {
    let flags = fields.u32()?;
    Some(ConnectionId {
        protocol: fields.u8()?,
        client: fields.end()?,
        asked_for: fields.end()?,
        template: flags & flag::TEMPLATE != 0,
        announced: flags & flag::ANNOUNCED != 0,
    })
}

fn id_flags(id: &ConnectionId) -> u32 {
    let mark = |is: bool, flag: u32| if is { flag } else { 0 };
    mark(id.template, flag::TEMPLATE) | mark(id.announced, flag::ANNOUNCED)
}

pub(crate) fn write(to: &mut Writer<'_>, record: &ConnectionRecord) {
    let ConnectionRecord { id, .. } = record;
    let has_usual_service = usual_service(id) == Some(record.service);
    let place = SocketAddr::new(record.destination.0.to_ip(), record.destination.1);
    let mark = |is: bool, flag: u32| if is { flag } else { 0 };
    to.u32(
        id_flags(id)
            | mark(record.is_active, flag::ACTIVE)
            | mark(record.is_answered, flag::ANSWERED)
            | mark(record.is_outdone, flag::OUTDONE)
            | mark(record.is_removed, flag::REMOVED)
            | mark(record.is_cached, flag::CACHED)
            | mark(record.server != place, flag::SERVER)
            | mark(!has_usual_service, flag::SERVICE)
            | mark(record.waited.is_some(), flag::WAITED)
            | mark(record.ftp.is_some(), flag::FTP)
            | group_flags(record.hangs_on.as_ref(), HANGS_ON)
            | group_flags(record.leads.as_ref(), LEADS),
    );
    to.u8(id.protocol);
    to.u8(record.state);
    to.u8(record.origin as u8);
    to.u8(record.packets_in);
    to.end(id.client);
    to.end(id.asked_for);
    to.end(record.destination);
    if record.server != place {
        to.socket_addr(record.server);
    }
    if !has_usual_service {
        service::write(to, &record.service);
    }
    write_forwarding(to, record.forwarding);
    to.u32(u32::try_from(record.timeout.as_millis()).unwrap_or(u32::MAX));
    to.duration(record.remaining);
    if let Some(waited) = record.waited {
        to.duration(waited);
    }
    for group in [&record.hangs_on, &record.leads].into_iter().flatten() {
        to.u64(group.number);
    }
    if let Some(ftp) = &record.ftp {
        write_ftp(to, ftp);
    }
}

pub(crate) fn read(fields: &mut Fields<'_>) -> Option<ConnectionRecord> {
    let flags = fields.u32()?;
    let is = |flag: u32| flags & flag != 0;
    let (protocol, state, origin, packets_in) = (fields.u8()?, fields.u8()?, fields.u8()?, fields.u8()?);
    let (client, asked_for, destination) = (fields.end()?, fields.end()?, fields.end()?);
    let id = ConnectionId {
        protocol,
        client,
        asked_for,
        template: is(flag::TEMPLATE),
        announced: is(flag::ANNOUNCED),
    };
    let server = if is(flag::SERVER) {
        fields.socket_addr()?
    } else {
        SocketAddr::new(destination.0.to_ip(), destination.1)
    };
    let service = if is(flag::SERVICE) { service::read(fields)? } else { usual_service(&id)? };
    let forwarding = read_forwarding(fields)?;
    let timeout = Duration::from_millis(fields.u32()?.into());
    let remaining = fields.duration()?;
    let waited = if is(flag::WAITED) { Some(fields.duration()?) } else { None };
    let hangs_on = read_group(fields, flags, HANGS_ON)?;
    let leads = read_group(fields, flags, LEADS)?;
    let ftp = if is(flag::FTP) { Some(read_ftp(fields)?) } else { None };
    Some(ConnectionRecord {
        id,
        service,
        server,
        is_removed: is(flag::REMOVED),
        destination,
        forwarding,
        state,
        is_active: is(flag::ACTIVE),
        is_answered: is(flag::ANSWERED),
        is_outdone: is(flag::OUTDONE),
        // Of one that a later version knows: most are scheduled.
        origin: Origin::ALL.get(usize::from(origin)).copied().unwrap_or(Origin::Scheduled),
        packets_in,
        timeout,
        remaining,
        waited,
        hangs_on,
        leads,
        ftp,
        is_cached: is(flag::CACHED),
    })
}

/// 0 NAT, 1 direct routing, 2 IPIP, 3 GUE with port and checksum, 4 GRE with checksum.
fn write_forwarding(to: &mut Writer<'_>, forwarding: Forwarding) {
    match forwarding {
        Forwarding::Nat => to.u8(0),
        Forwarding::Direct => to.u8(1),
        Forwarding::Tunnel(Tunnel::Ipip) => to.u8(2),
        Forwarding::Tunnel(Tunnel::Gue { port, checksum }) => {
            to.u8(3);
            to.u16(port);
            to.u8(match checksum {
                TunnelChecksum::None => 0,
                TunnelChecksum::Full => 1,
                TunnelChecksum::Remote => 2,
            });
        }
        Forwarding::Tunnel(Tunnel::Gre { checksum }) => {
            to.u8(4);
            to.u8(checksum.into());
        }
    }
}

fn read_forwarding(fields: &mut Fields<'_>) -> Option<Forwarding> {
    Some(match fields.u8()? {
        0 => Forwarding::Nat,
        1 => Forwarding::Direct,
        2 => Forwarding::Tunnel(Tunnel::Ipip),
        3 => {
            let port = fields.u16()?;
            let checksum = match fields.u8()? {
                0 => TunnelChecksum::None,
                1 => TunnelChecksum::Full,
                2 => TunnelChecksum::Remote,
                _ => return None,
            };
            Forwarding::Tunnel(Tunnel::Gue { port, checksum })
        }
        4 => Forwarding::Tunnel(Tunnel::Gre { checksum: fields.u8()? != 0 }),
        _ => return None,
    })
}

fn write_ftp(to: &mut Writer<'_>, ftp: &FtpRecord) {
    let mut bytes = Vec::new();
    let inner = &mut Writer::new(&mut bytes);
    inner.u8(match ftp.passive {
        None => 0,
        Some(Passive::Pasv) => 1,
        Some(Passive::Epsv) => 2,
    });
    inner.u32(ftp.shift);
    inner.u8(ftp.replaced.is_some().into());
    if let Some(Replaced { seq, old_len, new }) = &ftp.replaced {
        inner.u32(*seq);
        inner.u32(*old_len);
        inner.u16(u16::try_from(new.len()).unwrap_or(u16::MAX));
        inner.bytes(new);
    }
    to.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    to.bytes(&bytes);
}

fn read_ftp(fields: &mut Fields<'_>) -> Option<FtpRecord> {
    let len = fields.u16()?;
    let mut inner = Fields::new(fields.take(len.into())?);
    let passive = match inner.u8()? {
        0 => None,
        1 => Some(Passive::Pasv),
        2 => Some(Passive::Epsv),
        _ => return None,
    };
    let shift = inner.u32()?;
    let replaced = if inner.u8()? == 0 {
        None
    } else {
        let (seq, old_len, len) = (inner.u32()?, inner.u32()?, inner.u16()?);
        Some(Replaced { seq, old_len, new: inner.take(len.into())?.into() })
    };
    Some(FtpRecord { passive, shift, replaced })
}
